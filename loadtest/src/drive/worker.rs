//! One thread of the generator.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::dialogue::{Step, Trouble};
use super::findings::{Action, Judgement};
use super::slot::{Job, LaidOut, Script, Slot};
use super::socket::{Socket, Watch};
use super::{Context, DriveError, HAND_OVER, milter, smtp};
use crate::measure::Tally;
use crate::plan::Load;
use crate::target::{Connections, Leg};

/// Drives its share of the plan: every message whose number is its own, modulo the number of threads.
pub(crate) struct Worker<'a> {
    number: usize,
    script: &'a Script,
    context: &'a Context<'a>,
    watch: Watch,
    slots: Vec<Slot>,
    free: Vec<usize>,
    slots_max: usize,
    /// Messages that are due and have no slot.
    backlog: VecDeque<Job>,
    /// Slots whose listener had no room, with when to try again.
    again: VecDeque<(Instant, usize, u32)>,
    /// When each use of a slot has failed; in order, as all have the same time from their planned moments.
    deadlines: VecDeque<(Instant, usize, u32)>,
    tally: Tally,
    buffer: Vec<u8>,
}

/// What starts messages.
enum Source {
    /// The plan.
    Open { moments: Box<dyn Iterator<Item = (u64, Duration)>>, next: Option<Job> },
    /// The end of others.
    Closed { until: Instant, in_flight: usize, next: u64 },
}

/// Between two tries at a listener without room.
const AGAIN_AFTER: Duration = Duration::from_millis(1);
/// Octets that are read at a time; replies are short.
const BUFFER_BYTES: usize = 64 * 1024;
/// Messages that a thread starts before it looks around again.
const STARTS_MAX: usize = 1024;

impl<'a> Worker<'a> {
    pub(crate) fn new(number: usize, script: &'a Script, context: &'a Context<'a>) -> Result<Self, DriveError> {
        let settings = context.settings;
        Ok(Self {
            number,
            script,
            context,
            watch: Watch::new()?,
            slots: Vec::new(),
            free: Vec::new(),
            slots_max: settings.in_flight_max.div_ceil(settings.workers).max(1),
            backlog: VecDeque::new(),
            again: VecDeque::new(),
            deadlines: VecDeque::new(),
            tally: Tally::default(),
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    pub(crate) fn run(mut self) -> Result<(), DriveError> {
        let mut source = self.source();
        let give_up = self.context.began + self.context.load.time() + self.context.settings.drain_time;
        let mut hand_over = Instant::now() + HAND_OVER;
        loop {
            let now = Instant::now();
            self.start_due(&mut source);
            self.try_again(now);
            self.fail_overdue(now);
            self.start_waiting();
            if now >= hand_over {
                let under_way = self.under_way();
                self.context.board.leave(self.number, &mut self.tally, under_way);
                hand_over = now + HAND_OVER;
            }
            let is_stopped = self.context.is_stopping.load(Ordering::Relaxed);
            let is_over = (self.under_way() == 0 && source.is_over(now)) || is_stopped || now > give_up;
            if is_over {
                break;
            }
            let wake =
                [source.next_at(self.busy()), self.again.front().map(|it| it.0), self.deadlines.front().map(|it| it.0)];
            let wake = wake.into_iter().flatten().fold(hand_over, Instant::min);
            // Not from the time at the top: what has been done since would be slept again.
            let wait = wake.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                self.watch.look()?
            } else {
                self.watch.wait(wait)?
            }
            for at in 0..self.watch.happening_count() {
                if let Some(happening) = self.watch.happening(at) {
                    self.attend(happening.token, happening.is_readable, happening.is_writable);
                }
            }
        }
        self.close_accounts();
        Ok(())
    }

    fn source(&self) -> Source {
        let (number, workers) = (self.number, self.context.settings.workers);
        match self.context.load {
            Load::Open(_) => {
                let moments = (0..).zip(self.context.load.moments()).skip(number).step_by(workers);
                let mut source = Source::Open { moments: Box::new(moments), next: None };
                source.advance(self.context.began);
                source
            }
            Load::Closed { in_flight, time } => Source::Closed {
                until: self.context.began + *time,
                in_flight: share(*in_flight as usize, number, workers),
                next: number as u64,
            },
        }
    }

    fn busy(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    fn under_way(&self) -> u64 {
        (self.busy() + self.backlog.len()) as u64
    }

    /// Starts every message whose moment has come.
    fn start_due(&mut self, source: &mut Source) {
        // Where nobody listens, each message fails at once and makes room for the next: they must not keep this thread
        // from looking around.
        for _ in 0..STARTS_MAX {
            // Of each message: those before it in a burst have taken their time.
            let now = Instant::now();
            let job = match source {
                Source::Open { next, .. } => match *next {
                    Some(job) if job.planned <= now => {
                        source.advance(self.context.began);
                        job
                    }
                    _ => break,
                },
                Source::Closed { until, in_flight, next } => {
                    if now >= *until || now < self.context.began || self.busy() >= *in_flight {
                        break;
                    }
                    let job = Job { number: *next, planned: now };
                    *next += self.context.settings.workers as u64;
                    job
                }
            };
            self.tally.offered += 1;
            // What this thread is behind by; that a message waits for a slot is the target's doing.
            let lag = now.saturating_duration_since(job.planned);
            crate::measure::record(&mut self.tally.lag, lag);
            self.tally.late += u64::from(lag > super::settings::LATE_AFTER);
            self.backlog.push_back(job);
            self.start_waiting();
        }
    }

    /// Gives waiting messages to free slots.
    fn start_waiting(&mut self) {
        while let Some(job) = self.backlog.front() {
            let deadline = job.planned + self.context.settings.message_time;
            if deadline <= Instant::now() {
                self.backlog.pop_front();
                self.tally.started += 1;
                self.tally.trouble("had no turn before its time was over".to_owned());
                continue;
            }
            let slot = match self.free.pop() {
                Some(slot) => slot,
                None if self.slots.len() < self.slots_max => {
                    let Some(job) = self.backlog.front() else { return };
                    self.slots.push(Slot::new(*job, self.script.laid_out.len()));
                    self.slots.len() - 1
                }
                None => return,
            };
            let Some(job) = self.backlog.pop_front() else { return };
            self.slots[slot].take(job, self.script.expected.len());
            self.tally.started += 1;
            let use_number = self.slots[slot].use_number;
            self.deadlines.push_back((deadline, slot, use_number));
            self.enter_leg(slot);
        }
    }

    /// Begins the present leg of a slot's message, on a connection that was kept or on a new one.
    fn enter_leg(&mut self, at: usize) {
        let slot = &mut self.slots[at];
        if slot.connection().socket.is_some() {
            slot.connection().is_reused = true;
            slot.begin(self.script, false);
            if let Err(trouble) = slot.send(self.script) {
                self.fail(at, &trouble);
            }
            return;
        }
        let address = match &self.script.target.legs[slot.leg] {
            Leg::Milter(address) | Leg::Policy(address) | Leg::Smtp(address) => address,
        };
        match Socket::connect(address) {
            Ok(Some(socket)) => {
                let token = token(at, slot.leg);
                if let Err(error) = self.watch.add(&socket, token) {
                    return self.fail(at, &Trouble::Connect(error.kind().to_string()));
                }
                slot.connection().socket = Some(socket);
                slot.begin(self.script, true);
                // Where it is connected at once (a unix socket), the first octets go now; otherwise this goes nowhere.
                if let Err(trouble) = slot.send(self.script) {
                    self.fail(at, &trouble);
                }
            }
            Ok(None) => self.again.push_back((Instant::now() + AGAIN_AFTER, at, slot.use_number)),
            Err(error) => self.fail(at, &Trouble::Connect(error.kind().to_string())),
        }
    }

    fn try_again(&mut self, now: Instant) {
        while let Some((when, at, use_number)) = self.again.front().copied() {
            if when > now {
                break;
            }
            self.again.pop_front();
            if self.slots[at].is_busy && self.slots[at].use_number == use_number {
                self.enter_leg(at);
            }
        }
    }

    fn fail_overdue(&mut self, now: Instant) {
        while let Some((when, at, use_number)) = self.deadlines.front().copied() {
            let is_done = !self.slots[at].is_busy || self.slots[at].use_number != use_number;
            if !is_done && when > now {
                break;
            }
            self.deadlines.pop_front();
            if !is_done {
                self.fail(at, &Trouble::Silent);
            }
        }
    }

    /// Something happened to a socket.
    fn attend(&mut self, token: u64, is_readable: bool, is_writable: bool) {
        let (at, leg) = ((token >> 8) as usize, (token & 0xff) as usize);
        let Some(slot) = self.slots.get_mut(at) else { return };
        if !slot.is_busy || slot.leg != leg {
            // A kept connection on which nothing is under way: whoever closes it has to be connected to anew.
            if let Some(connection) = slot.connections.get_mut(leg)
                && is_readable
                && connection.is_closed()
            {
                connection.socket = None;
            }
            return;
        }
        if is_writable && let Err(trouble) = slot.send(self.script) {
            return self.fail(at, &trouble);
        }
        if is_readable {
            match slot.receive(self.script, &mut self.buffer) {
                Ok(Step::Waits) => {}
                Ok(Step::Done) => self.leave_leg(at),
                Err(trouble) => self.fail(at, &trouble),
            }
        }
    }

    fn leave_leg(&mut self, at: usize) {
        let script = self.script;
        let slot = &mut self.slots[at];
        let leg = slot.leg;
        let is_kept =
            script.target.connections == Connections::Kept || matches!(script.laid_out[leg], LaidOut::Policy(_));
        if !is_kept && let Some(socket) = slot.connection().socket.take() {
            let farewell = match script.laid_out[leg] {
                LaidOut::Milter { .. } => &milter::QUIT[..],
                _ => smtp::QUIT,
            };
            // Whether it still arrives does not matter to the message.
            let _ = socket.send(farewell);
        }
        let is_refused = matches!(slot.findings.action, Action::Reject | Action::Defer);
        if leg + 1 < script.laid_out.len() && !is_refused {
            slot.leg += 1;
            self.enter_leg(at);
        } else {
            self.answer(at);
        }
    }

    /// The last answer of a message has come.
    fn answer(&mut self, at: usize) {
        let now = Instant::now();
        let (slot, script) = (&mut self.slots[at], self.script);
        let expected = &script.expected[slot.letter];
        let mut judgement = slot.findings.judge(expected, script.target.claims);
        if script.expects_accept && slot.findings.action != Action::Accept {
            judgement = Judgement::Wrong;
        }
        let (id, findings) = (&script.ids[slot.letter], &slot.findings);
        self.tally.answer(judgement, findings, || format!("{id}: found {}; expected {expected}", findings.to_line()));
        self.tally.bytes += script.bytes[slot.letter];
        crate::measure::record(&mut self.tally.whole, now - slot.job.planned);
        if let Some(content_at) = slot.content_at {
            crate::measure::record(&mut self.tally.content, now - content_at);
        }
        if let Some(end_at) = slot.end_at {
            crate::measure::record(&mut self.tally.end, now - end_at);
        }
        self.release(at);
    }

    fn fail(&mut self, at: usize, trouble: &Trouble) {
        let connection = self.slots[at].connection();
        if connection.is_reused && matches!(trouble, Trouble::Closed | Trouble::Broken(_)) {
            // It was closed while nothing was under way, as servers may; mail servers try once more.
            (connection.socket, connection.is_reused) = (None, false);
            return self.enter_leg(at);
        }
        self.tally.trouble(trouble.to_line());
        for connection in &mut self.slots[at].connections {
            connection.socket = None;
        }
        self.release(at);
    }

    fn release(&mut self, at: usize) {
        self.slots[at].is_busy = false;
        self.free.push(at);
    }

    /// What has come to no end when the run is over.
    fn close_accounts(&mut self) {
        for at in 0..self.slots.len() {
            if self.slots[at].is_busy {
                self.slots[at].is_busy = false;
                self.tally.trouble("still under way at the end of the run".to_owned());
            }
        }
        self.tally.dropped += self.backlog.len() as u64;
        self.context.board.leave(self.number, &mut self.tally, 0);
    }
}

impl Source {
    /// Takes the next message of an open plan.
    fn advance(&mut self, began: Instant) {
        if let Self::Open { moments, next } = self {
            *next = moments.next().map(|(number, moment)| Job { number, planned: began + moment });
        }
    }

    fn next_at(&self, busy: usize) -> Option<Instant> {
        match self {
            Self::Open { next, .. } => next.map(|job| job.planned),
            Self::Closed { until, in_flight, .. } => Some(*until).filter(|_| busy >= *in_flight),
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        match self {
            Self::Open { next, .. } => next.is_none(),
            Self::Closed { until, .. } => now >= *until,
        }
    }
}

/// What one of several threads has of a number.
const fn share(of: usize, number: usize, workers: usize) -> usize {
    of / workers + if number < of % workers { 1 } else { 0 }
}

const fn token(slot: usize, leg: usize) -> u64 {
    (slot as u64) << 8 | leg as u64
}

#[cfg(test)]
mod tests {
    use super::share;

    #[test]
    fn the_shares_of_threads_are_the_whole() {
        for (of, workers) in [(1, 4), (4, 4), (7, 3), (1000, 1), (0, 2)] {
            assert_eq!((0..workers).map(|number| share(of, number, workers)).sum::<usize>(), of);
        }
        assert_eq!(share(1, 1, 4), 0);
    }
}
