//! Whole messages that a worker verifies, in slices.

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;

use mailproof_proto::dns::{Answer, Question};
use mailproof_proto::time::Timestamp;
use mailproof_proto::verification::{Envelope, Progress};

use super::calls::{Completion, CompletionQueue};
use super::wheel::Wheel;
use crate::engine::Engine;
use crate::session::Session;

/// A message to be verified.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) message: Vec<u8>,
    pub(crate) envelope: Envelope,
    pub(crate) token: u64,
    pub(crate) queue: Arc<CompletionQueue>,
    pub(crate) engine: Engine,
}

impl Job {
    /// Nobody can verify it: the verdict is that of a message whose questions all failed.
    pub(crate) fn refuse(self) {
        let verdict = self.engine.verify(&self.message, self.envelope.clone());
        self.queue.push(Completion { token: self.token, verdict });
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
    /// Those that wait for a slot.
    waiting: VecDeque<Job>,
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
            open_count: 0,
        }
    }

    pub(crate) fn start(&mut self, job: Job) {
        if self.open_count >= JOBS_MAX {
            self.waiting.push_back(job);
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
        slot.session.restart(mem::take(&mut job.envelope));
        slot.position = 0;
        slot.job = Some(job);
        self.make_ready(number);
    }

    /// Does one piece of work.
    pub(crate) fn run_slice(&mut self) -> Slice {
        let Some(number) = self.ready.pop_front() else { return Slice::Idle };
        let slot = &mut self.slots[number as usize];
        slot.is_ready = false;
        let Some(job) = &mut slot.job else { return Slice::Worked };
        let rest = &job.message[slot.position..];
        if !rest.is_empty() {
            let is_first = slot.position == 0;
            let slice = &rest[..rest.len().min(SLICE_BYTES)];
            slot.session.push(slice);
            slot.position += slice.len();
            // A message of one slice asks when it has ended, and does not look twice.
            let questions = if is_first && slot.position < job.message.len() { questions(slot) } else { Vec::new() };
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
        slot.session.learn(question, answer);
        // Otherwise it goes on anyway.
        if slot.position == job.message.len() {
            self.make_ready(id.slot);
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
            slot.session.push(&job.message[slot.position..]);
            // Sessions of these threads do not wait: what is open has failed.
            slot.session.finish();
            if let Some(verdict) = slot.session.take_verdict() {
                job.queue.push(Completion { token: job.token, verdict });
            }
        }
        self.waiting.drain(..).for_each(Job::refuse);
    }

    pub(crate) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
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
        let slot = &mut self.slots[number as usize];
        slot.generation = slot.generation.wrapping_add(1);
        self.wheel.remove(number);
        if let (Some(job), Some(verdict)) = (slot.job.take(), slot.session.take_verdict()) {
            job.queue.push(Completion { token: job.token, verdict });
        }
        self.free.push(number);
        self.open_count -= 1;
        if let Some(job) = self.waiting.pop_front() {
            self.start(job);
        }
    }
}

/// What can be asked for before the message has ended.
fn questions(slot: &mut Slot) -> Vec<Question> {
    slot.session.poll();
    drain(&mut slot.session)
}

fn drain(session: &mut Session) -> Vec<Question> {
    std::iter::from_fn(|| session.next_question()).collect()
}
