//! One run: whose turn it is, what time it is, and what has to hold after every step.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use mailproof::cache::CacheOptions;
use mailproof::network::{Completions, NetworkOptions};
use mailproof::simulation::{Network, Setup, Simulation};
use mailproof::zone::Zone;
use mailproof::{Envelope, Options};
use mailproof_fault_dns::Replies;
use mailproof_milter::Service;
use mailproof_milter::config::Config;
use mailproof_milter::metrics::Metrics;
use mailproof_milter::signing::Signer;
use mailproof_proto::dns::Name;
use mailproof_proto::limits::{DNS_TIME_MAX, MESSAGE_TIME_MAX};

use super::check::{
    Found, Invariant, Notes, SharedNotes, Truth, Violation, bounded, compare_reply, judge, left_over, lock, violation,
};
use super::client::{Client, Next, State, queue_id};
use super::host::{Log, Report, Reports, Watching};
use super::plan::{LETTERS, Plan, SHORTEST, Trouble};
use super::world::{Heard, Wires, World, server_address};
use crate::corpus::{Letter, Maker, Options as StreamOptions, SENT_SECONDS, Sizes};

/// What all runs share: letters with their zones, made once.
pub struct Stage {
    letters: Vec<Letter>,
    shortest: usize,
    zones: [Arc<Zone>; 2],
    config: Config,
    options: Options,
}

/// What a run came to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ran {
    /// Of everything that happened.
    pub hash: u64,
    /// Turns of workers.
    pub turns: u64,
    /// Messages that were judged.
    pub judged: u64,
    /// What did not hold.
    pub violation: Option<Violation>,
    /// What happened, if that was asked for.
    pub trace: Vec<String>,
}

impl Stage {
    /// Makes the letters.
    #[must_use]
    pub fn new() -> Self {
        let small =
            StreamOptions { domain_count: 12, sizes: Sizes::Tiny, ..StreamOptions::new(LETTERS as u64, STREAM_SEED) };
        let maker = Maker::new(&small);
        let letters = maker.letters(0, LETTERS as u64);
        let yaml = maker.records().to_yaml();
        let zone = |yaml: &str| Arc::new(Zone::from_yaml(yaml).expect("the zone of a stream can be read"));
        let config = Config::parse(CONFIG, Path::new("sim.toml")).expect("the configuration of the simulator is right");
        let shortest = (0..letters.len()).min_by_key(|at| letters[*at].octets.len()).unwrap_or(0);
        let options = config.options(HOST_NAME);
        Self { letters, shortest, zones: [zone(&yaml), zone(&withdrawn(&yaml))], config, options }
    }

    fn letter(&self, number: usize) -> &Letter {
        let at = if number == SHORTEST { self.shortest } else { number % self.letters.len() };
        &self.letters[at]
    }
}

impl Default for Stage {
    fn default() -> Self {
        Self::new()
    }
}

/// The zone once everybody has withdrawn what he published.
fn withdrawn(yaml: &str) -> String {
    let line = |line: &str| {
        let text = if line.contains("\"v=spf1") { "- TXT: \"v=spf1 -all\"" } else { "- TXT: \"v=DKIM1; k=rsa; p=\"" };
        if line.contains("\"v=spf1") || line.contains("\"v=DKIM1") { format!("{text}\n") } else { format!("{line}\n") }
    };
    yaml.lines().map(line).collect()
}

/// Plays a plan to its end, or to the first thing that does not hold.
#[must_use]
pub fn play(stage: &Stage, plan: &Plan, traces: bool) -> Ran {
    let mut run = Run::new(stage, plan, traces);
    let result = run.play();
    let world = run.world.borrow();
    Ran {
        hash: world.hash ^ lock(&run.notes).hash,
        turns: run.turns,
        judged: run.judged,
        violation: result.err(),
        trace: world.trace.clone().unwrap_or_default(),
    }
}

struct Run<'a> {
    stage: &'a Stage,
    plan: &'a Plan,
    world: Rc<RefCell<World>>,
    notes: SharedNotes,
    reports: Arc<Reports>,
    metrics: Arc<Metrics>,
    simulation: Simulation,
    completions: Completions,
    clients: Vec<Seat>,
    jobs: Vec<JobState>,
    /// Reports by queue id, until the reply is known.
    decided: BTreeMap<String, mailproof_proto::verdict::Action>,
    turns: u64,
    /// Turns since time went on.
    turns_now: u64,
    judged: u64,
    /// Until then a mail server that was not let in had to wait for others.
    full_until: u64,
}

/// A mail server with its timer.
struct Seat {
    client: Client,
    /// It goes on, or gives up, at this moment.
    timer: Option<u64>,
    /// It waits for something since then.
    waits_since: Option<u64>,
    /// When the message under way began.
    sent_bytes: usize,
    began: Vec<u64>,
    concluded: usize,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum JobState {
    Planned,
    Submitted(u64),
    Cancelled,
    Done,
}

impl<'a> Run<'a> {
    fn new(stage: &'a Stage, plan: &'a Plan, traces: bool) -> Self {
        let base_ms = (SENT_SECONDS + 3600) * 1000;
        let replies = stage.zones.each_ref().map(|zone| Rc::new(Replies::new((**zone).clone(), plan.ttl_seconds)));
        let world = Rc::new(RefCell::new(World::new(plan, replies, base_ms, traces)));
        let change = plan.revoked_ms.map(|from| (from, from + forgotten_ms(plan)));
        let notes: SharedNotes = Arc::new(Mutex::new(Notes::new(stage.zones.clone(), change)));
        let (reports, metrics) = (Arc::new(Reports::default()), Arc::new(Metrics::default()));
        let signer = Signer::load(&stage.config.signing).expect("no key is configured");
        let log = Arc::new(Log(Arc::clone(&notes)));
        let service = Service::new(&stage.config, HOST_NAME, signer, Arc::clone(&metrics), log);
        let service = service.with_observer(Arc::clone(&reports) as Arc<_>);
        let networks = (0..plan.workers).map(|worker| {
            let wires = Wires { world: Rc::clone(&world), worker };
            Box::new(wires) as Box<dyn Network>
        });
        let clock = world.borrow().clock();
        let setup = setup(stage, plan, clock);
        let simulation = Simulation::new(setup, networks.collect()).expect("descriptors for a run");
        let hosted = Watching {
            service: Arc::new(service),
            notes: Arc::clone(&notes),
            connections_max: plan.limits.connections,
            base_ms,
            serial: AtomicU64::new(0),
        };
        simulation.listen(Simulation::descriptor().expect("a descriptor for a listener"), Arc::new(hosted));
        let completions = simulation.engine().completions().expect("a descriptor for completions");
        let clients = plan.connections.iter().map(|connection| {
            let letters = connection.messages.iter().map(|message| stage.letter(message.letter).clone()).collect();
            Seat {
                client: Client::new(connection.clone(), letters),
                timer: Some(connection.start_ms),
                waits_since: None,
                sent_bytes: 0,
                began: Vec::new(),
                concluded: 0,
            }
        });
        let clients: Vec<Seat> = clients.collect();
        for (wire, connection) in plan.connections.iter().enumerate() {
            world.borrow_mut().connect(wire, connection.start_ms);
        }
        Self {
            jobs: vec![JobState::Planned; plan.jobs.len()],
            stage,
            plan,
            world,
            notes,
            reports,
            metrics,
            simulation,
            completions,
            clients,
            decided: BTreeMap::new(),
            turns: 0,
            turns_now: 0,
            judged: 0,
            full_until: 0,
        }
    }

    fn play(&mut self) -> Result<(), Violation> {
        let mut quiet_from = None;
        loop {
            self.step()?;
            let is_over = self.clients.iter().all(|seat| seat.client.state() == State::Over)
                && self.jobs.iter().all(|job| matches!(job, JobState::Done | JobState::Cancelled));
            if is_over {
                let now_ms = self.now_ms();
                // What mail servers have sent is still to come.
                let from: u64 = *quiet_from.get_or_insert_with(|| now_ms.max(self.world.borrow().last_arrival()));
                if now_ms >= from + QUIET_MS {
                    break;
                }
                if self.next_moment().is_none_or(|next| next > from + QUIET_MS) {
                    self.world.borrow_mut().advance(from + QUIET_MS);
                }
            } else if self.next_moment().is_none() && self.world.borrow().heard.is_empty() {
                return violation(Invariant::EndsInTime, "nothing is going to happen any more, and not all is done");
            }
        }
        self.end()
    }

    /// A turn of a worker, or time goes on.
    fn step(&mut self) -> Result<(), Violation> {
        self.serve_clients()?;
        let now_ms = self.now_ms();
        let ready: Vec<usize> =
            (0..self.plan.workers).filter(|worker| self.moment_of(*worker) <= Some(now_ms)).collect();
        let ready: Vec<usize> = ready.into_iter().filter(|worker| self.moment_of(*worker).is_some()).collect();
        if ready.is_empty() {
            if let Some(next) = self.next_moment() {
                self.turns_now = 0;
                self.world.borrow_mut().advance(next);
                self.check_clients()?;
                let now_ms = self.now_ms();
                lock(&self.notes).check(now_ms, ANSWER_TIME)?;
            }
            return Ok(());
        }
        let worker = ready[self.world.borrow_mut().below(ready.len())];
        self.turns += 1;
        self.turns_now += 1;
        if self.turns_now > TURNS_AT_ONCE_MAX {
            return violation(Invariant::EndsInTime, format!("worker {worker} has its turn again and again"));
        }
        self.simulation.turn(worker);
        if self.world.borrow_mut().strikes(Trouble::Purge) {
            self.purge();
        }
        self.check(worker)
    }

    fn purge(&mut self) {
        let number = self.world.borrow_mut().below(self.stage.letters.len());
        let domain = self.stage.letters[number].mail_from.rsplit('@').next().unwrap_or_default().to_owned();
        if let Ok(name) = Name::parse_domain(&domain) {
            self.simulation.engine().purge(&name);
        }
    }

    /// After every turn.
    fn check(&mut self, worker: usize) -> Result<(), Violation> {
        let now_ms = self.now_ms();
        lock(&self.notes).check(now_ms, ANSWER_TIME)?;
        if let Some(census) = self.simulation.census(worker) {
            let (limits, servers) = (&self.plan.limits, self.plan.servers);
            bounded(&census, limits, servers, PORTS)
                .or_else(|detail| violation(Invariant::Bounded, format!("worker {worker}: {detail}")))?;
        }
        let bytes = self.simulation.engine().cache_statistics().bytes;
        if bytes > self.plan.limits.cache_bytes {
            let limit = self.plan.limits.cache_bytes;
            return violation(Invariant::Bounded, format!("the cache holds {bytes} octets, at most {limit}"));
        }
        for report in self.reports.take() {
            self.take_report(report)?;
        }
        self.take_completions()
    }

    fn take_report(&mut self, report: Report) -> Result<(), Violation> {
        let (queue_id_, now_ms) = (report.queue_id.clone(), self.now_ms());
        if self.decided.insert(report.queue_id.clone(), report.action).is_some() {
            return violation(Invariant::OneReply, format!("{queue_id_} was decided twice"));
        }
        let place = self.clients.iter().find_map(|seat| {
            let plan = seat.client.plan();
            let at = plan.messages.iter().position(|it| queue_id(plan.number, it.number) == queue_id_)?;
            Some((seat.client.letter(at)?, seat.began.get(at).copied()?))
        });
        let Some((letter, began)) = place else {
            return violation(Invariant::OneReply, format!("{queue_id_} was decided, which nobody has sent"));
        };
        let Some(found) = report.found else {
            return violation(Invariant::NoFalseResult, format!("{queue_id_} was not judged"));
        };
        let truth = self.truth(began, now_ms);
        judge(&letter.expectation, &found, truth)
            .or_else(|detail| violation(Invariant::NoFalseResult, format!("{queue_id_}: {detail}")))?;
        self.judged += 1;
        self.world.borrow_mut().note(20, now_ms, || format!("{queue_id_} is judged: {found:?}"));
        Ok(())
    }

    fn take_completions(&mut self) -> Result<(), Violation> {
        for completion in self.completions.drain() {
            let (at, now_ms) = (completion.token as usize, self.now_ms());
            match self.jobs.get(at).copied() {
                Some(JobState::Submitted(began)) => {
                    let letter = self.stage.letter(self.plan.jobs[at].letter);
                    let verdict = completion
                        .verdict
                        .or_else(|defect| violation(Invariant::OneReply, format!("whole message {at}: {defect}")))?;
                    let found = Found::from(&verdict);
                    judge(&letter.expectation, &found, self.truth(began, now_ms)).or_else(|detail| {
                        violation(Invariant::NoFalseResult, format!("whole message {at}: {detail}"))
                    })?;
                    self.jobs[at] = JobState::Done;
                    self.judged += 1;
                    self.world.borrow_mut().note(21, now_ms, || format!("whole message {at} is judged: {found:?}"));
                }
                // It may have been judged when it was cancelled.
                Some(JobState::Cancelled) => {}
                state => {
                    let detail = format!("a verdict for whole message {at}, which is {state:?}");
                    return violation(Invariant::OneReply, detail);
                }
            }
        }
        Ok(())
    }

    /// What the domains said between two moments.
    fn truth(&self, began_ms: u64, ended_ms: u64) -> Truth {
        match self.plan.revoked_ms {
            Some(from) if began_ms > from + forgotten_ms(self.plan) => Truth::Withdrawn,
            Some(from) if ended_ms >= from => Truth::Changing,
            _ if self.plan.is_exact() => Truth::Exact,
            _ => Truth::AsSent,
        }
    }

    /// Hands the mail servers what they hear, and sends what they say.
    fn serve_clients(&mut self) -> Result<(), Violation> {
        let heard = std::mem::take(&mut self.world.borrow_mut().heard);
        for (wire, heard) in heard {
            let seat = &mut self.clients[wire];
            match heard {
                Heard::Octets(octets) => seat.client.received(&octets)?,
                Heard::Ended => seat.client.ended()?,
            }
            self.check_replies(wire)?;
            self.go_on(wire);
        }
        let now_ms = self.now_ms();
        for wire in 0..self.clients.len() {
            if self.clients[wire].timer.is_some_and(|timer| timer <= now_ms) {
                self.clients[wire].timer = None;
                let state = self.clients[wire].client.state();
                if matches!(state, State::Reply(_)) {
                    let octets = self.clients[wire].client.give_up();
                    self.send(wire, &octets, 0);
                }
                self.go_on(wire);
            }
        }
        self.submit_jobs();
        Ok(())
    }

    fn check_replies(&mut self, wire: usize) -> Result<(), Violation> {
        let seat = &mut self.clients[wire];
        let concluded = &seat.client.concluded[seat.concluded..];
        let plan = seat.client.plan();
        for (at, told) in concluded {
            let id = queue_id(plan.number, plan.messages[*at].number);
            let Some(decided) = self.decided.get(&id) else {
                return violation(Invariant::OneReply, format!("{id} was told {told:?} and never decided"));
            };
            compare_reply(*decided, *told)
                .or_else(|detail| violation(Invariant::NoFalseResult, format!("{id}: {detail}")))?;
        }
        seat.concluded = seat.client.concluded.len();
        Ok(())
    }

    fn go_on(&mut self, wire: usize) {
        loop {
            let now_ms = self.now_ms();
            let seat = &mut self.clients[wire];
            match seat.client.go_on() {
                Next::Send { octets, pause_ms } => {
                    seat.begin(now_ms + pause_ms);
                    self.send(wire, &octets, pause_ms);
                    self.clients[wire].waits_since = Some(self.world.borrow().arrival(wire));
                }
                Next::Wait { give_up_ms } => {
                    if seat.timer.is_none() {
                        seat.timer = give_up_ms.map(|time| now_ms + time);
                    }
                    return;
                }
                Next::Done => {
                    (seat.timer, seat.waits_since) = (None, None);
                    return;
                }
            }
        }
    }

    fn send(&mut self, wire: usize, octets: &[u8], pause_ms: u64) {
        let seat = &mut self.clients[wire];
        let plan = seat.client.plan();
        let (piece_bytes, cut) = (plan.piece_bytes, plan.cut);
        let before = seat.sent_bytes;
        seat.sent_bytes += octets.len();
        let mut world = self.world.borrow_mut();
        if let Some(cut) = cut.filter(|cut| *cut < seat.sent_bytes) {
            world.send(
                wire,
                Some(&octets[..cut.saturating_sub(before).min(octets.len())]),
                pause_ms,
                piece_bytes,
                false,
            );
            let is_reset = world.below(2) == 0;
            world.send(wire, None, 0, piece_bytes, is_reset);
            seat.client.vanish();
        } else {
            world.send(wire, Some(octets), pause_ms, piece_bytes, false);
        }
    }

    fn submit_jobs(&mut self) {
        let now_ms = self.now_ms();
        for (at, job) in self.plan.jobs.iter().enumerate() {
            let state = &mut self.jobs[at];
            if *state == JobState::Planned && job.at_ms <= now_ms {
                let letter = self.stage.letter(job.letter);
                let envelope = Envelope::new(letter.client, &letter.helo, &letter.mail_from);
                self.completions.submit(letter.octets.clone(), envelope, at as u64);
                *state = JobState::Submitted(now_ms);
            }
            let is_cancelled = job.cancelled_ms.is_some_and(|moment| moment <= now_ms);
            if is_cancelled && matches!(state, JobState::Submitted(_)) {
                self.completions.cancel(at as u64);
                *state = JobState::Cancelled;
            }
        }
    }

    /// Nobody waits for longer than a message may take.
    fn check_clients(&mut self) -> Result<(), Violation> {
        let now_ms = self.now_ms();
        let limit = (MESSAGE_TIME_MAX + SPARE_TIME).as_millis() as u64;
        let is_let_in = |(wire, seat): (usize, &Seat)| match seat.client.state() {
            State::Offered => false,
            // It has gone, but what it said last, and its end, are still under way.
            State::Over => self.world.borrow().arrival(wire) > now_ms,
            _ => seat.waits_since.is_some(),
        };
        // Others that are let in, as many as may be, are each held to the limit themselves.
        let open = usize::try_from(self.metrics.connections_open()).unwrap_or(0);
        if open >= self.plan.limits.connections && self.clients.iter().enumerate().any(is_let_in) {
            self.full_until = now_ms;
        }
        for seat in &self.clients {
            let queued_until = if seat.client.state() == State::Offered { self.full_until } else { 0 };
            let is_late = seat.waits_since.is_some_and(|since| since.max(queued_until) + limit < now_ms);
            if is_late && !matches!(seat.client.state(), State::Over | State::Sends) {
                let (number, state) = (seat.client.plan().number, seat.client.state());
                return violation(
                    Invariant::EndsInTime,
                    format!(
                        "mail server {number} is in state {state:?} since {:?} ms, it is {now_ms}",
                        seat.waits_since
                    ),
                );
            }
        }
        for (at, job) in self.jobs.iter().enumerate() {
            if let JobState::Submitted(since) = job
                && since + limit < now_ms
            {
                return violation(Invariant::EndsInTime, format!("whole message {at} has no verdict since {since} ms"));
            }
        }
        Ok(())
    }

    /// All is done: nothing may be left, and the workers end when they are told to.
    fn end(&mut self) -> Result<(), Violation> {
        for worker in 0..self.plan.workers {
            let census = self.simulation.census(worker).unwrap_or_default();
            left_over(&census)
                .or_else(|detail| violation(Invariant::NothingLeft, format!("worker {worker}: {detail}")))?;
        }
        let open = self.metrics.connections_open();
        if open > 0 {
            return violation(Invariant::NothingLeft, format!("{open} connections are counted as open"));
        }
        if let Some(wire) = (0..self.clients.len()).find(|wire| self.world.borrow().is_held(*wire)) {
            return violation(Invariant::NothingLeft, format!("the connection of mail server {wire} is held"));
        }
        let stopped_ms = self.now_ms();
        let until = self.instant_in(MESSAGE_TIME_MAX);
        self.simulation.stop(until);
        while self.next_moment().is_some() {
            self.step()?;
            if self.now_ms() > stopped_ms + (MESSAGE_TIME_MAX + SPARE_TIME).as_millis() as u64 {
                return violation(Invariant::EndsInTime, "a worker does not end");
            }
        }
        match (0..self.plan.workers).find(|worker| self.simulation.census(*worker).is_some()) {
            Some(worker) => violation(Invariant::EndsInTime, format!("worker {worker} waits without end")),
            None => Ok(()),
        }
    }

    fn instant_in(&self, time: Duration) -> Instant {
        let wires = Wires { world: Rc::clone(&self.world), worker: 0 };
        wires.now() + time
    }

    fn now_ms(&self) -> u64 {
        self.world.borrow().now_ms()
    }

    /// When a worker's wait ends.
    fn moment_of(&self, worker: usize) -> Option<u64> {
        let moment = self.simulation.next_moment(worker)?;
        Some(self.world.borrow().milliseconds(moment))
    }

    /// When anything happens next.
    fn next_moment(&self) -> Option<u64> {
        let workers = (0..self.plan.workers).filter_map(|worker| self.moment_of(worker));
        let timers = self.clients.iter().filter_map(|seat| seat.timer);
        let jobs = self.plan.jobs.iter().zip(&self.jobs).filter_map(|(job, state)| match state {
            JobState::Planned => Some(job.at_ms),
            JobState::Submitted(_) => job.cancelled_ms,
            _ => None,
        });
        let event = self.world.borrow().next_event();
        workers.chain(timers).chain(jobs).chain(event).min()
    }
}

impl Seat {
    /// Messages that have begun are known by when.
    fn begin(&mut self, at_ms: u64) {
        while self.began.len() <= self.client.message() {
            self.began.push(at_ms);
        }
    }
}

fn setup(stage: &Stage, plan: &Plan, clock: Arc<AtomicU64>) -> Setup {
    let servers = (0..plan.servers).map(server_address).collect();
    let network = NetworkOptions {
        ports: PORTS,
        in_flight_max: plan.limits.in_flight,
        waiting_max: plan.limits.waiting,
        link_outstanding_max: plan.limits.link_outstanding,
        ..NetworkOptions::new(servers)
    };
    let cache = CacheOptions {
        bytes_max: plan.limits.cache_bytes,
        stale_max: Duration::from_secs(plan.stale_seconds),
        ..CacheOptions::default()
    };
    Setup { options: stage.options.clone(), network, cache, clock, sockets_max: SOCKETS_MAX, seed: plan.seed }
}

/// How long after a change the state before may still be known.
fn forgotten_ms(plan: &Plan) -> u64 {
    let kept = u64::from(plan.ttl_seconds) + plan.stale_seconds + STALE_TTL_SECONDS;
    kept * 1000 + (DNS_TIME_MAX + MESSAGE_TIME_MAX + SPARE_TIME).as_millis() as u64
}

const HOST_NAME: &str = "mx.receiver.example";
const CONFIG: &str = "[policy]\nmode = \"enforce\"\nrules.spf-fail = \"reject\"\nrules.dmarc-temperror = \"defer\"";
/// The stream that letters are from.
const STREAM_SEED: u64 = 11;
const PORTS: usize = 4;
const SOCKETS_MAX: usize = 512;
/// An answer comes in the time of a lookup; the timers of workers are a little late.
const ANSWER_TIME: Duration = Duration::from_millis(DNS_TIME_MAX.as_millis() as u64 + 500);
const SPARE_TIME: Duration = Duration::from_secs(15);
/// Everything that is still under way when all is done ends in this time.
const QUIET_MS: u64 = 20_000;
/// RFC 8767 section 4.
const STALE_TTL_SECONDS: u64 = 30;
/// Turns between two moments; more is a loop.
const TURNS_AT_ONCE_MAX: u64 = 20_000;
