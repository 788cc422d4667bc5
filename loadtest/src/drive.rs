//! Load on a target: messages start when the plan says, every answer is checked, and every latency counts from the plan.
//!
//! One or more threads, each with an epoll set; a message takes a slot, and the slot goes through the target's legs with it,
//! on connections that never wait. When no slot is free the message waits for one, and that time counts.
//!
//! Cost of a message on one connection, beside the kernel's part in moving it: one look at the clock for each happening,
//! three entries in histograms, no copy of the content. Measured costs are in the README.

mod dialogue;
mod findings;
pub(crate) mod milter;
mod policy;
mod settings;
mod slot;
mod smtp;
mod socket;
mod stall;
mod verifier;
mod worker;

pub use self::findings::{Action, Expected, Findings, Judgement, ResultWord};
pub use self::milter::Agreement;
pub use self::settings::{Cpu, DriveError, IN_FLIGHT_MAX, LATE_AFTER, LATE_SHARE_MAX, Settings, Subject};
pub use self::stall::{STALLED_MAX, Stalled};
pub use self::verifier::Verifier;

pub(crate) use self::socket::{Socket, Transfer, Watch};

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use self::milter::Frames;
use self::slot::{LaidOut, Script};
use self::worker::Worker;
use crate::corpus::Letter;
use crate::measure::{Board, Machine, Pinned, Point, Tree, Usage};
use crate::plan::Load;
use crate::report::Run;
use crate::target::{Leg, Target};

/// Sees a run while it goes.
pub trait Observer {
    /// A tick is over. False ends the run early.
    fn tick(&mut self, progress: &Progress<'_>) -> bool;
}

/// How far a run is.
#[derive(Debug)]
pub struct Progress<'a> {
    /// What is driven.
    pub name: &'a str,
    /// What is offered.
    pub load: &'a Load,
    /// Since the start.
    pub elapsed: Duration,
    /// Every tick so far.
    pub points: &'a [Point],
    /// Everything up to now.
    pub total: &'a crate::measure::Tally,
}

/// Sees nothing, and lets the run go on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unseen;

impl Observer for Unseen {
    fn tick(&mut self, _: &Progress<'_>) -> bool {
        true
    }
}

/// Drives a subject with these messages.
///
/// # Errors
/// When a target can not be reached at all, or the machine gives no sockets or threads.
pub fn run(
    subject: &Subject<'_>,
    letters: &[Letter],
    load: &Load,
    settings: &Settings,
    observer: &mut dyn Observer,
) -> Result<Run, DriveError> {
    if letters.is_empty() {
        return Err(DriveError::NoMessages);
    }
    // Whether it may be had, before there are figures of a run without it.
    drop(settings.generator_cpu.pin()?);
    match subject {
        Subject::Target(target) => {
            let script = prepare(target, letters, settings)?;
            let drive = |context: &Context<'_>| {
                thread::scope(|scope| {
                    let workers: Vec<_> = (0..settings.workers)
                        .map(|number| {
                            let script = &script;
                            scope.spawn(move || {
                                let _pinned = context.settings.generator_cpu.pin()?;
                                Worker::new(number, script, context)?.run()
                            })
                        })
                        .collect();
                    workers.into_iter().try_for_each(|worker| worker.join().map_err(|_| DriveError::Panicked)?)
                })
            };
            supervise(&target.name, load, settings, observer, &drive)
        }
        Subject::Verifier(verifier) => {
            let expected: Vec<Expected> = letters.iter().map(Expected::new).collect();
            let drive = |context: &Context<'_>| verifier::drive(*verifier, letters, &expected, context);
            supervise(verifier.name(), load, settings, observer, &drive)
        }
    }
}

/// What the threads of a run share.
pub(crate) struct Context<'a> {
    pub(crate) board: &'a Board,
    pub(crate) load: &'a Load,
    pub(crate) settings: &'a Settings,
    /// The moment zero of the plan.
    pub(crate) began: Instant,
    /// The run ends early.
    pub(crate) is_stopping: &'a AtomicBool,
}

/// Runs what drives, and looks at it at every tick.
fn supervise(
    name: &str,
    load: &Load,
    settings: &Settings,
    observer: &mut dyn Observer,
    drive: &(dyn Fn(&Context<'_>) -> Result<(), DriveError> + Sync),
) -> Result<Run, DriveError> {
    let (board, is_stopping, is_over) = (Board::default(), AtomicBool::new(false), AtomicBool::new(false));
    let target_tree = Tree::new(settings.processes.clone());
    let beside_tree = Tree::new(settings.processes_beside.clone());
    let tick = settings.tick(load);
    let before = (target_tree.usage(), beside_tree.usage(), Usage::own());
    let began = Instant::now() + LEAD;
    let context = Context { board: &board, load, settings, began, is_stopping: &is_stopping };
    let mut points = Vec::new();
    let result = thread::scope(|scope| {
        let driver = scope.spawn(|| {
            let result = drive(&context);
            is_over.store(true, Ordering::Release);
            result
        });
        let (mut last, mut usage) = (began, (before.0, before.2));
        while !is_over.load(Ordering::Acquire) {
            thread::park_timeout((last + tick).saturating_duration_since(Instant::now()).min(WAKE));
            board.gather();
            let now = Instant::now();
            let is_last = is_over.load(Ordering::Acquire);
            if (now < last + tick && !is_last) || now <= last {
                continue;
            }
            let fresh = (target_tree.usage(), Usage::own());
            points.push(board.tick(now - began, now - last, (usage.0, fresh.0), (usage.1, fresh.1)));
            (last, usage) = (now, fresh);
            let progress = Progress { name, load, elapsed: now - began, points: &points, total: &board.total() };
            if !observer.tick(&progress) || settings.interrupted() {
                is_stopping.store(true, Ordering::Release);
            }
        }
        driver.join().map_err(|_| DriveError::Panicked)?
    });
    result?;
    let after = (target_tree.usage(), beside_tree.usage(), Usage::own());
    let elapsed = began.elapsed();
    Ok(Run {
        name: name.to_owned(),
        load: load.clone(),
        machine: Machine::here(),
        elapsed,
        total: board.total(),
        target_cpu: after.0.cpu.saturating_sub(before.0.cpu),
        beside_cpu: after.1.cpu.saturating_sub(before.1.cpu),
        generator_cpu: after.2.cpu.saturating_sub(before.2.cpu),
        target_rss_peak: points.iter().map(|point| point.target_rss_bytes).max().unwrap_or(0),
        has_processes: !target_tree.is_empty(),
        was_interrupted: is_stopping.load(Ordering::Acquire),
        points,
    })
}

/// How often a thread hands over what it has counted.
const HAND_OVER: Duration = Duration::from_millis(50);
/// Time for the threads to be there before the first message is due.
const LEAD: Duration = Duration::from_millis(20);
/// How soon the end of a run is noticed.
const WAKE: Duration = Duration::from_millis(25);

/// Lays every message out for every leg.
fn prepare(target: &Target, letters: &[Letter], settings: &Settings) -> Result<Script, DriveError> {
    let mut framed: HashMap<Agreement, Arc<Vec<Frames>>> = HashMap::new();
    let mut laid_out = Vec::new();
    for leg in &target.legs {
        laid_out.push(match leg {
            Leg::Milter(address) => {
                let agreed = Agreement::probe(address)
                    .map_err(|error| DriveError::Unreachable { address: address.clone(), error })?;
                let frames = framed
                    .entry(agreed)
                    .or_insert_with(|| Arc::new(letters.iter().map(|letter| Frames::new(letter, agreed)).collect()));
                LaidOut::Milter { agreed, frames: Arc::clone(frames) }
            }
            Leg::Policy(_) => LaidOut::Policy(letters.iter().map(policy::request).collect()),
            Leg::Smtp(_) => LaidOut::Smtp(letters.iter().map(smtp::Lines::new).collect()),
        });
    }
    Ok(Script {
        target: target.clone(),
        laid_out,
        expected: letters.iter().map(Expected::new).collect(),
        ids: letters.iter().map(|letter| letter.id.clone()).collect(),
        bytes: letters.iter().map(|letter| letter.octets.len() as u64).collect(),
        expects_accept: settings.expects_accept,
    })
}

impl Cpu {
    /// Keeps the calling thread there while the result lives.
    fn pin(&self) -> io::Result<Option<Pinned>> {
        self.0.as_deref().map(Pinned::to).transpose()
    }
}
