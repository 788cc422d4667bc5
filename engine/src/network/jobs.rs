//! Whole messages that a worker verifies, in slices.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use hashbrown::HashMap;
use mailproof_proto::dns::{Answer, Question};
use mailproof_proto::time::Timestamp;
use mailproof_proto::verdict::Verdict;
use mailproof_proto::verification::{Envelope, Progress};

use super::calls::{CompletionQueue, Place};
use super::ring::{Defect, guarded};
use super::wheel::Wheel;
use crate::engine::Engine;
use crate::session::Session;

/// A message to be verified.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) message: Vec<u8>,
    pub(crate) envelope: Envelope,
    pub(crate) place: Place,
    pub(crate) engine: Engine,
}

impl Job {
    fn ticket(&self) -> Ticket {
        ticket(self.place.queue(), self.place.token())
    }

    /// Nobody can verify it: the verdict is that of a message whose questions all failed.
    pub(crate) fn refuse(self) {
        let verdict = guarded(|| self.engine.verify(&self.message, self.envelope.clone()));
        self.place.conclude(verdict);
    }
}

/// The messages of one worker.
#[derive(Debug)]
pub(crate) struct Jobs {
    engine: Engine,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Those that can go on.
    ready: VecDeque<u32>,
    /// Those that wait for a slot; `None` where one was cancelled.
    waiting: VecDeque<Option<Job>>,
    /// How many have left the front of those that wait.
    waited_count: u64,
    /// Where each is, for whoever cancels it.
    places: HashMap<Ticket, Whereabouts>,
    /// When those that wait for answers have to go on without.
    wheel: Wheel,
    open_count: usize,
}

#[derive(Debug)]
struct Slot {
    session: Session,
    job: Option<Job>,
    generation: u32,
    position: usize,
    is_ready: bool,
}

/// A message as its caller knows it: the queue that its verdict goes to, by its address, and the token.
type Ticket = (usize, u64);

/// Where a message is.
#[derive(Clone, Copy, Debug)]
enum Whereabouts {
    Slot(u32),
    /// Counted from the first that ever waited.
    Waiting(u64),
}

/// Octets hashed between two looks at the sockets: about 40 µs.
const SLICE_BYTES: usize = 64 * 1024;
/// Messages under way on one worker; further ones wait.
const JOBS_MAX: usize = 4096;

/// What came of a slice.
pub(crate) enum Slice {
    /// There was nothing to do.
    Idle,
    /// Something was done.
    Worked,
    /// These questions have to be answered for this job to go on.
    Asks(JobId, Vec<Question>),
}

/// A job, as those who answer its questions know it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JobId {
    slot: u32,
    generation: u32,
}

impl Jobs {
    pub(crate) fn new(engine: Engine) -> Self {
        let wheel = Wheel::new(engine.now());
        Self {
            engine,
            wheel,
            slots: Vec::new(),
            free: Vec::new(),
            ready: VecDeque::new(),
            waiting: VecDeque::new(),
            waited_count: 0,
            places: HashMap::new(),
            open_count: 0,
        }
    }

    pub(crate) fn start(&mut self, job: Job) {
        if self.open_count >= JOBS_MAX {
            self.places.insert(job.ticket(), Whereabouts::Waiting(self.waited_count + self.waiting.len() as u64));
            self.waiting.push_back(Some(job));
            return;
        }
        self.open_count += 1;
        let number = self.free.pop().unwrap_or_else(|| {
            let session = self.engine.session(Envelope::default());
            self.slots.push(Slot { session, job: None, generation: 0, position: 0, is_ready: false });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[number as usize];
        let mut job = job;
        self.places.insert(job.ticket(), Whereabouts::Slot(number));
        slot.session.restart(mem::take(&mut job.envelope));
        slot.position = 0;
        slot.job = Some(job);
        self.make_ready(number);
    }

    /// Does one piece of work. A defect that is met costs the message that it is met in.
    pub(crate) fn run_slice(&mut self) -> Slice {
        let Some(number) = self.ready.pop_front() else { return Slice::Idle };
        guarded(|| self.run(number)).unwrap_or_else(|defect| {
            self.break_off(number, defect);
            Slice::Worked
        })
    }

    fn run(&mut self, number: u32) -> Slice {
        let slot = &mut self.slots[number as usize];
        slot.is_ready = false;
        let Some(job) = &mut slot.job else { return Slice::Worked };
        #[cfg(test)]
        assert_ne!(job.place.token(), tests::DEFECT, "planted");
        let rest = &job.message[slot.position..];
        if !rest.is_empty() {
            let is_first = slot.position == 0;
            let slice = &rest[..rest.len().min(SLICE_BYTES)];
            slot.session.push(slice);
            slot.position += slice.len();
            let is_last = slot.position == job.message.len();
            if is_last {
                // The session keeps what it needs of it; while answers are waited for that is the header.
                (job.message, slot.position) = (Vec::new(), 0);
            }
            // A message of one slice asks when it has ended, and does not look twice.
            let questions = if is_first && !is_last { questions(slot) } else { Vec::new() };
            self.make_ready(number);
            return self.asks(number, questions);
        }
        slot.session.end();
        match slot.session.poll() {
            Progress::Done => {
                self.finish(number);
                Slice::Worked
            }
            Progress::NeedsMessage => Slice::Worked,
            Progress::NeedsAnswers { deadline } => {
                self.wheel.set(number, deadline);
                let questions = drain(&mut slot.session);
                self.asks(number, questions)
            }
        }
    }

    /// The answer to a question of a job.
    pub(crate) fn answer(&mut self, id: JobId, question: &Question, answer: Answer) {
        let Some(slot) = self.slots.get_mut(id.slot as usize) else { return };
        let Some(job) = slot.job.as_ref().filter(|_| slot.generation == id.generation) else { return };
        if let Err(defect) = guarded(|| slot.session.learn(question, answer)) {
            return self.break_off(id.slot, defect);
        }
        // Otherwise it goes on anyway.
        if slot.position == job.message.len() {
            self.make_ready(id.slot);
        }
    }

    /// Forgets the message that was submitted last under this token, if its verdict is not reached yet.
    pub(crate) fn cancel(&mut self, queue: &Arc<CompletionQueue>, token: u64) {
        match self.places.remove(&ticket(queue, token)) {
            Some(Whereabouts::Slot(number)) => {
                if let Some(job) = self.slots[number as usize].job.take() {
                    job.place.forget();
                }
                self.vacate(number);
            }
            Some(Whereabouts::Waiting(at)) => {
                let job = self.waiting.get_mut((at - self.waited_count) as usize);
                if let Some(job) = job.and_then(Option::take) {
                    job.place.forget();
                }
            }
            None => {}
        }
    }

    /// Lets jobs go on whose time is over.
    pub(crate) fn expire(&mut self, now: Timestamp) {
        while let Some(number) = self.wheel.next_expired(now) {
            self.make_ready(number);
        }
    }

    pub(crate) fn next_moment(&self) -> Option<Timestamp> {
        self.wheel.next_moment()
    }

    fn make_ready(&mut self, number: u32) {
        let slot = &mut self.slots[number as usize];
        if !mem::replace(&mut slot.is_ready, true) {
            self.ready.push_back(number);
        }
    }

    /// Ends all that are not done, with what is known of each.
    pub(crate) fn give_up(&mut self) {
        for slot in &mut self.slots {
            let Some(job) = slot.job.take() else { continue };
            let verdict = guarded(|| {
                slot.session.push(&job.message[slot.position..]);
                // Sessions of these threads do not wait: what is open has failed, and so does what is asked next.
                slot.session.fail_open();
                slot.session.finish();
                slot.session.take_verdict()
            });
            job.place.conclude(verdict.and_then(|it| it.ok_or(Defect)));
        }
        self.waiting.drain(..).flatten().for_each(Job::refuse);
        self.places.clear();
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Messages under way.
    #[cfg(feature = "simulation")]
    pub(crate) fn open_count(&self) -> usize {
        self.open_count
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.open_count == 0
    }

    fn asks(&self, number: u32, questions: Vec<Question>) -> Slice {
        if questions.is_empty() {
            return Slice::Worked;
        }
        Slice::Asks(JobId { slot: number, generation: self.slots[number as usize].generation }, questions)
    }

    fn finish(&mut self, number: u32) {
        let verdict = self.slots[number as usize].session.take_verdict().ok_or(Defect);
        self.conclude(number, verdict);
    }

    /// Gives up a message that a defect was met in, and the session with it.
    fn break_off(&mut self, number: u32, defect: Defect) {
        self.slots[number as usize].session = self.engine.session(Envelope::default());
        self.conclude(number, Err(defect));
    }

    fn conclude(&mut self, number: u32, verdict: Result<Verdict, Defect>) {
        let slot = &mut self.slots[number as usize];
        if let Some(job) = slot.job.take() {
            // Another message may have been submitted under the same token since.
            let ticket = job.ticket();
            if matches!(self.places.get(&ticket), Some(Whereabouts::Slot(own)) if *own == number) {
                self.places.remove(&ticket);
            }
            job.place.conclude(verdict);
        }
        self.vacate(number);
    }

    /// The slot is free for the next message; answers to this one come too late.
    fn vacate(&mut self, number: u32) {
        let slot = &mut self.slots[number as usize];
        slot.generation = slot.generation.wrapping_add(1);
        self.wheel.remove(number);
        self.free.push(number);
        self.open_count -= 1;
        while let Some(waited) = self.waiting.pop_front() {
            self.waited_count += 1;
            if let Some(job) = waited {
                return self.start(job);
            }
        }
    }
}

fn ticket(queue: &Arc<CompletionQueue>, token: u64) -> Ticket {
    (Arc::as_ptr(queue).addr(), token)
}

/// What can be asked for before the message has ended.
fn questions(slot: &mut Slot) -> Vec<Question> {
    slot.session.poll();
    drain(&mut slot.session)
}

fn drain(session: &mut Session) -> Vec<Question> {
    std::iter::from_fn(|| session.next_question()).collect()
}

#[cfg(test)]
mod tests {
    use mailproof_proto::dns::Failure;

    use super::*;

    /// The token of a message in which a defect is met.
    pub(super) const DEFECT: u64 = u64::MAX;

    /// Its jobs ask what nobody answers.
    fn jobs() -> Jobs {
        Jobs::new(Engine::builder().offline().build().unwrap())
    }

    fn job(jobs: &Jobs, queue: &Arc<CompletionQueue>, token: u64) -> Job {
        let engine = jobs.engine.clone();
        let envelope = Envelope::new([192, 0, 2, 7].into(), "mx.example.org", "ann@example.org");
        Job { message: b"From: ann@example.org\r\n\r\n".to_vec(), envelope, place: Place::new(queue, token), engine }
    }

    fn run(jobs: &mut Jobs) -> Vec<(JobId, Vec<Question>)> {
        let mut asked = Vec::new();
        loop {
            match jobs.run_slice() {
                Slice::Idle => return asked,
                Slice::Worked => {}
                Slice::Asks(id, questions) => asked.push((id, questions)),
            }
        }
    }

    #[test]
    fn what_is_cancelled_holds_nothing_and_late_answers_meet_nobody() {
        let queue = Arc::new(CompletionQueue::default());
        let mut jobs = jobs();
        jobs.start(job(&jobs, &queue, 1));
        let asked = run(&mut jobs);
        assert!(!asked.is_empty() && !jobs.is_empty());
        jobs.cancel(&Arc::new(CompletionQueue::default()), 1);
        assert!(!jobs.is_empty(), "the queue of somebody else");
        jobs.cancel(&queue, 1);
        assert!(jobs.is_empty() && Arc::strong_count(&queue) == 1);
        // The slot is in use again when the answers come.
        jobs.start(job(&jobs, &queue, 1));
        for (id, questions) in &asked {
            questions.iter().for_each(|question| jobs.answer(*id, question, Answer::failed(Failure::TimedOut)));
        }
        let questions = |asked: &[(JobId, Vec<Question>)]| asked.iter().map(|(_, it)| it.len()).sum::<usize>();
        assert_eq!(questions(&run(&mut jobs)), questions(&asked));
        jobs.give_up();
        assert!(Arc::strong_count(&queue) == 1);
    }

    #[test]
    fn a_defect_costs_the_message_that_it_is_met_in() {
        let queue = Arc::new(CompletionQueue::default());
        let mut jobs = jobs();
        for token in [1, DEFECT, 2] {
            jobs.start(job(&jobs, &queue, token));
        }
        run(&mut jobs);
        let defect = queue.take();
        assert_eq!(defect.iter().map(|it| it.token).collect::<Vec<_>>(), [DEFECT]);
        assert_eq!(defect[0].verdict.as_ref().err(), Some(&Defect));
        // Its place serves the next one.
        jobs.start(job(&jobs, &queue, 3));
        assert_eq!(jobs.slots.len(), 3);
        run(&mut jobs);
        jobs.give_up();
        let rest = queue.take();
        assert!(rest.iter().all(|it| it.verdict.is_ok()));
        assert_eq!(rest.iter().map(|it| it.token).collect::<Vec<_>>(), [1, 3, 2]);
    }

    #[test]
    fn those_that_wait_for_a_slot_can_be_cancelled_and_the_others_keep_their_order() {
        let queue = Arc::new(CompletionQueue::default());
        let mut jobs = jobs();
        let count = JOBS_MAX as u64;
        (0..count + 4).for_each(|token| jobs.start(job(&jobs, &queue, token)));
        assert_eq!(jobs.waiting.len(), 4);
        jobs.cancel(&queue, count + 1);
        assert_eq!(Arc::strong_count(&queue) as u64, 1 + count + 3);
        // Each that is cancelled makes room for the next that was not.
        (0..2).for_each(|token| jobs.cancel(&queue, token));
        assert_eq!(jobs.waiting.iter().flatten().map(|job| job.place.token()).collect::<Vec<_>>(), [count + 3]);
        (0..count + 4).for_each(|token| jobs.cancel(&queue, token));
        assert!(jobs.is_empty() && jobs.places.is_empty() && Arc::strong_count(&queue) == 1);
    }
}
