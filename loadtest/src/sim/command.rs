//! The command `sim`.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use super::check::lock;
use super::shrink::unlike;
use super::{Cuts, Invariant, Plan, Ran, Stage, Violation, run as run_seed, shrink};
use crate::arguments::SimArguments;
use crate::command::{Outcome, Trouble};

/// Runs seeds, and tells of the first that goes wrong.
///
/// # Errors
/// [`Trouble::Usage`] for what can not be left out.
pub(crate) fn run(arguments: &SimArguments) -> Result<Outcome, Trouble> {
    let cuts = cuts(arguments)?;
    let stage = Stage::new();
    if let Some(seed) = arguments.seed {
        return Ok(one(&stage, seed, &cuts, arguments.shrink));
    }
    let from = arguments.from.unwrap_or_else(fresh_seed);
    let to = from.saturating_add(arguments.seeds);
    println!("seeds from {from}, {} of them", arguments.seeds);
    let (next, least) = (AtomicU64::new(from), AtomicU64::new(u64::MAX));
    let (turns, judged) = (AtomicU64::new(0), AtomicU64::new(0));
    let found: Mutex<Option<(u64, Violation)>> = Mutex::new(None);
    let started = Instant::now();
    let work = || loop {
        let seed = next.fetch_add(1, Ordering::Relaxed);
        if seed >= to || seed > least.load(Ordering::Relaxed) {
            return;
        }
        let ran = twice(&stage, seed, &cuts);
        turns.fetch_add(ran.turns, Ordering::Relaxed);
        judged.fetch_add(ran.judged, Ordering::Relaxed);
        if let Some(violation) = ran.violation {
            // The lowest seed is told, so that every run tells the same.
            least.fetch_min(seed, Ordering::Relaxed);
            let mut found = lock(&found);
            if found.as_ref().is_none_or(|(of, _)| seed < *of) {
                *found = Some((seed, violation));
            }
        }
        let done = seed + 1 - from;
        if done.is_multiple_of(PROGRESS_SEEDS) {
            println!("{done} seeds, {} s", started.elapsed().as_secs());
        }
    };
    std::thread::scope(|scope| {
        let count = std::thread::available_parallelism().map_or(1, usize::from);
        (0..count).for_each(|_| drop(scope.spawn(work)));
    });
    let found = lock(&found).take();
    let Some((seed, violation)) = found else {
        println!(
            "{} seeds held: {} messages judged, {} turns, {:.1} s",
            arguments.seeds,
            judged.into_inner(),
            turns.into_inner(),
            started.elapsed().as_secs_f64()
        );
        return Ok(Outcome::Good);
    };
    println!("seed {seed} failed, the {}. one: {violation}", seed - from + 1);
    tell_smaller(&stage, seed, &cuts, violation.invariant);
    Ok(Outcome::Bad)
}

/// One seed; every so many are run twice, and have to be the same.
fn twice(stage: &Stage, seed: u64, cuts: &Cuts) -> Ran {
    let ran = run_seed(stage, seed, cuts, false);
    if ran.violation.is_some() || !seed.is_multiple_of(TWICE_EVERY) {
        return ran;
    }
    Ran { violation: unlike(&ran, &run_seed(stage, seed, cuts, false)), ..ran }
}

/// One seed with everything that happens.
fn one(stage: &Stage, seed: u64, cuts: &Cuts, shrinks: bool) -> Outcome {
    println!("seed {seed}");
    print!("{}", Plan::draw(seed, cuts));
    let ran = run_seed(stage, seed, cuts, true);
    ran.trace.iter().for_each(|line| println!("{line}"));
    println!("hash {:016x}, {} turns, {} messages judged", ran.hash, ran.turns, ran.judged);
    let violation = ran.violation.clone().or_else(|| unlike(&ran, &run_seed(stage, seed, cuts, true)));
    let Some(violation) = violation else {
        println!("everything held, and a second run was the same");
        return Outcome::Good;
    };
    println!("seed {seed} failed: {violation}");
    if shrinks {
        tell_smaller(stage, seed, cuts, violation.invariant);
    }
    Outcome::Bad
}

/// Shrinks, and says how the smaller run is played again.
fn tell_smaller(stage: &Stage, seed: u64, cuts: &Cuts, invariant: Invariant) {
    let smaller = shrink(stage, seed, cuts, invariant);
    println!("what is left when all is gone that it does not need:");
    print!("{}", Plan::draw(seed, &smaller));
    println!("to play it again: mailproof-loadtest sim --seed {seed}{smaller}");
}

/// What the arguments leave out.
fn cuts(arguments: &SimArguments) -> Result<Cuts, Trouble> {
    let mut cuts = Cuts { jobs: arguments.no_jobs, short: arguments.short, ..Cuts::default() };
    cuts.off =
        arguments.off.iter().map(|word| word.parse()).collect::<Result<BTreeSet<_>, _>>().map_err(Trouble::Usage)?;
    cuts.plain =
        arguments.plain.iter().map(|word| word.parse()).collect::<Result<BTreeSet<_>, _>>().map_err(Trouble::Usage)?;
    for word in &arguments.without {
        let bad = || Trouble::Usage(format!("{word:?} is neither CONNECTION nor CONNECTION.MESSAGE"));
        match word.split_once('.') {
            Some((connection, message)) => {
                let place = connection.parse().ok().zip(message.parse().ok()).ok_or_else(bad)?;
                cuts.messages.insert(place);
            }
            None => {
                cuts.connections.insert(word.parse().map_err(|_| bad())?);
            }
        }
    }
    Ok(cuts)
}

/// Another one every time.
fn fresh_seed() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as u64 * 1000
}

const PROGRESS_SEEDS: u64 = 10_000;
const TWICE_EVERY: u64 = 50;
