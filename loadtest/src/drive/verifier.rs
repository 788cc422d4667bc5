//! What verifies in this process, the engine or the library: one thread keeps the plan, others verify.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use mailproof::{Engine, Envelope};
use mailproof_library::{Delivery, Library};

use super::findings::{Expected, Findings, Judgement};
use super::settings::LATE_AFTER;
use super::slot::Job;
use super::{Context, DriveError, HAND_OVER};
use crate::corpus::Letter;
use crate::measure::{Tally, record};
use crate::plan::Load;
use crate::target::Claims;

/// How often a plan that waits for the end of messages looks whether its own end has come.
const GLANCE: Duration = Duration::from_millis(20);

/// Verifies a message on the thread that calls.
pub trait Verifier: Sync {
    /// What reports call it.
    fn name(&self) -> &str;

    /// The value of the Authentication-Results field for a message.
    ///
    /// # Errors
    /// Why there is none.
    fn verify(&self, letter: &Letter) -> Result<String, String>;
}

impl Verifier for Engine {
    fn name(&self) -> &str {
        "engine"
    }

    fn verify(&self, letter: &Letter) -> Result<String, String> {
        let envelope = Envelope::new(letter.client, letter.helo.clone(), letter.mail_from.clone());
        Ok(self.verify(&letter.octets, envelope).authentication_results)
    }
}

impl Verifier for Library {
    fn name(&self) -> &str {
        self.name()
    }

    fn verify(&self, letter: &Letter) -> Result<String, String> {
        let delivery = Delivery { client: letter.client, helo: &letter.helo, mail_from: &letter.mail_from };
        self.verify(&letter.octets, delivery).map_err(|error| error.to_string())
    }
}

pub(crate) fn drive(
    verifier: &dyn Verifier,
    letters: &[Letter],
    expected: &[Expected],
    context: &Context<'_>,
) -> Result<(), DriveError> {
    let (send, receive) = sync_channel::<Job>(context.settings.in_flight_max.max(1));
    let receive = Mutex::new(receive);
    let (under_way, keeper) = (AtomicU64::new(0), thread::current());
    thread::scope(|scope| {
        for worker in 0..context.settings.workers {
            let (receive, under_way) = (&receive, UnderWay { count: &under_way, keeper: &keeper });
            scope.spawn(move || verify(worker, verifier, letters, expected, receive, under_way, context));
        }
        keep_plan(&send, &under_way, context);
        // The threads end when they have done what is left.
        drop(send);
    });
    Ok(())
}

/// Hands messages out at their moments.
fn keep_plan(send: &SyncSender<Job>, under_way: &AtomicU64, context: &Context<'_>) {
    let mut tally = Tally::default();
    let mut handed_over = Instant::now();
    let mut moments = context.load.moments();
    let mut number = 0;
    loop {
        let job = match context.load {
            Load::Open(_) => match moments.next() {
                Some(moment) => Job { number, planned: context.began + moment },
                None => break,
            },
            Load::Closed { in_flight, time } => {
                let is_over = || Instant::now() >= context.began + *time || context.is_stopping.load(Ordering::Relaxed);
                while under_way.load(Ordering::Acquire) >= u64::from(*in_flight) && !is_over() {
                    thread::park_timeout(GLANCE);
                }
                let now = Instant::now();
                if now >= context.began + *time {
                    break;
                }
                Job { number, planned: now }
            }
        };
        wait_until(job.planned);
        if context.is_stopping.load(Ordering::Relaxed) {
            break;
        }
        let lag = job.planned.elapsed();
        record(&mut tally.lag, lag);
        tally.offered += 1;
        tally.late += u64::from(lag > LATE_AFTER);
        under_way.fetch_add(1, Ordering::Relaxed);
        match send.try_send(job) {
            Ok(()) => tally.started += 1,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                under_way.fetch_sub(1, Ordering::Relaxed);
                tally.dropped += 1;
            }
        }
        number += 1;
        if handed_over.elapsed() > HAND_OVER {
            context.board.leave(context.settings.workers, &mut tally, 0);
            handed_over = Instant::now();
        }
    }
    context.board.leave(context.settings.workers, &mut tally, 0);
}

/// The messages that are being verified, and the thread that keeps the plan and may wait for the end of one.
#[derive(Clone, Copy)]
struct UnderWay<'a> {
    count: &'a AtomicU64,
    keeper: &'a Thread,
}

impl UnderWay<'_> {
    fn end_one(self) {
        self.count.fetch_sub(1, Ordering::Release);
        self.keeper.unpark();
    }
}

fn wait_until(moment: Instant) {
    loop {
        let left = moment.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::sleep(left);
    }
}

fn verify(
    worker: usize,
    verifier: &dyn Verifier,
    letters: &[Letter],
    expected: &[Expected],
    receive: &Mutex<Receiver<Job>>,
    under_way: UnderWay<'_>,
    context: &Context<'_>,
) {
    let _pinned = context.settings.generator_cpu.pin();
    let mut tally = Tally::default();
    let mut handed_over = Instant::now();
    loop {
        let job = receive.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { break };
        let at = (job.number % letters.len() as u64) as usize;
        let letter = &letters[at];
        // Through the header field, as everybody else's.
        let mut findings = Findings::default();
        let results = verifier.verify(letter);
        under_way.end_one();
        match results {
            Ok(results) => findings.learn_field(b"Authentication-Results", results.as_bytes()),
            Err(why) => {
                tally.trouble(why);
                continue;
            }
        }
        let judgement: Judgement = findings.judge(&expected[at], Claims::ALL);
        tally.answer(judgement, &findings, || {
            format!("{}: found {}; expected {}", letter.id, findings.to_line(), expected[at])
        });
        tally.bytes += letter.octets.len() as u64;
        record(&mut tally.whole, job.planned.elapsed());
        if handed_over.elapsed() > HAND_OVER {
            context.board.leave(
                worker,
                &mut tally,
                under_way.count.load(Ordering::Relaxed) / context.settings.workers as u64,
            );
            handed_over = Instant::now();
        }
    }
    context.board.leave(worker, &mut tally, 0);
}
