//! Scenarios: a load on the milter with something going wrong beside it, and thresholds that say whether that went well.

mod daemon;
mod events;
mod settings;

pub use self::settings::{Scenario, ScenarioError};

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use mailproof_fault_dns::{Options, Plan, Server};

use self::daemon::Daemon;
use self::settings::{Act, Event, Expect, Limit};
use crate::arguments::ScenarioArguments;
use crate::command::{Outcome, Trouble, interrupts, observer, write_file};
use crate::corpus::{Corpus, Maker};
use crate::drive::{self, LATE_SHARE_MAX, Settings, Stalled, Subject};
use crate::plan::Load;
use crate::report::{Basis, Run, page, to_json};
use crate::target::{Claims, Leg, Target};

/// What came of one.
pub struct Played {
    /// The load under which things went wrong.
    pub run: Run,
    /// What it is judged by.
    pub basis: Basis,
    /// Every threshold that was missed.
    pub missed: Vec<String>,
}

impl Played {
    fn outcome(&self) -> Outcome {
        match self.run.invalid(self.basis.late_share_max) {
            // What it has missed may be the generator's doing.
            Some(_) => Outcome::Invalid,
            None if !self.missed.is_empty() => Outcome::Bad,
            None => Outcome::Good,
        }
    }
}

/// Plays scenarios and says what came of them.
///
/// # Errors
/// [`Trouble`] for the first that can not be played at all.
pub fn run(arguments: &ScenarioArguments) -> Result<Outcome, Trouble> {
    let files = if arguments.files.is_empty() { all_files()? } else { arguments.files.clone() };
    let interrupt = interrupts()?;
    let (mut outcome, mut runs) = (Outcome::Good, Vec::new());
    for file in &files {
        let scenario = Scenario::load(file).map_err(|error| Trouble::Scenario(error.to_string()))?;
        if scenario.is_long && !arguments.long {
            println!("{}: left out without --long", scenario.name);
            continue;
        }
        let settings = Settings { interrupt: Some(interrupt.clone()), ..Settings::default() };
        let played = play(&scenario, settings, arguments)?;
        let (basis, came_to) = (played.basis, played.outcome());
        let word = match came_to {
            Outcome::Good => "passed",
            Outcome::Bad => "FAILED",
            Outcome::Invalid => "INVALID",
        };
        println!("{}: {word}", scenario.name);
        if came_to != Outcome::Good || arguments.long {
            print!("{}", indented(&played.run.to_text(basis)));
        }
        for missed in &played.missed {
            println!("    missed: {missed}");
        }
        outcome = outcome.max(came_to);
        runs.push((played.run, basis));
        if interrupt.load(Ordering::Relaxed) {
            break;
        }
    }
    let json: Vec<_> = runs.iter().map(|(run, basis)| to_json(run, *basis)).collect();
    write_file(arguments.output.json.as_deref(), || serde_json::Value::from(json).to_string())?;
    write_file(arguments.output.html.as_deref(), || page("Scenarios", &runs))?;
    Ok(outcome)
}

/// Those of the repository.
fn all_files() -> Result<Vec<PathBuf>, Trouble> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let fault = |error| Trouble::File { path: folder.clone(), error };
    let entries = fs::read_dir(&folder).map_err(fault)?.collect::<Result<Vec<_>, _>>().map_err(fault)?;
    let mut files: Vec<PathBuf> = entries.into_iter().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|it| it == "toml"));
    files.sort();
    Ok(files)
}

/// How long what does not exist may be kept.
const NEGATIVE_TTL_SECONDS: u32 = 300;

/// Plays one.
fn play(scenario: &Scenario, settings: Settings, arguments: &ScenarioArguments) -> Result<Played, Trouble> {
    let corpus = Maker::new(&scenario.stream()).corpus();
    let zone = corpus.records.to_zone().map_err(|error| Trouble::Scenario(error.to_string()))?;
    // As resolvers do: what does not exist may be kept as well (RFC 2308).
    let mut options = Options::default();
    options.negative_ttl_seconds = Some(NEGATIVE_TTL_SECONDS);
    let dns = Server::start_with(zone, Plan::new(scenario.seed()), options)?;
    let mut daemon = Daemon::start(scenario, dns.addr(), arguments)?;
    let target = Target {
        name: scenario.name.clone(),
        legs: vec![Leg::Milter(daemon.address.clone())],
        claims: Claims::ALL,
        connections: scenario.connections,
    };
    let basis = Basis { claims: target.claims, late_share_max: scenario.expect(arguments.long).late_share };
    if scenario.is_warm {
        let run = warm(&target, &corpus, &settings)?;
        if run.was_interrupted {
            return Ok(Played { run, basis, missed: Vec::new() });
        }
    }
    if let Some(plan) = scenario.dns_plan() {
        dns.set_plan(Plan::load(plan).map_err(|error| Trouble::Scenario(error.to_string()))?);
    }
    let stalled = scenario.stalled(arguments.long);
    let _stalled = if stalled > 0 { Some(Stalled::open(&daemon.address, &corpus.letters, stalled)?) } else { None };
    let settings = Settings {
        processes: vec![daemon.id()],
        in_flight_max: scenario.in_flight_max,
        expects_accept: true,
        late_share_max: basis.late_share_max,
        ..settings
    };
    let load = scenario.offered(arguments.long);
    let is_over = AtomicBool::new(false);
    let (run, events) = thread::scope(|scope| {
        let events = scope.spawn(|| events::play(&scenario.events, &dns, &daemon, &is_over));
        let run = drive::run(
            &Subject::Target(&target),
            &corpus.letters,
            load,
            &settings,
            &mut *observer(&arguments.output, basis),
        );
        is_over.store(true, Ordering::Release);
        (run, events.join())
    });
    let run = run?;
    let mut missed = missed(&scenario.expect(arguments.long), &run);
    match events {
        Ok(Ok(never)) => missed.extend(never.iter().map(|event| format!("the run was over before {:?}", event.act))),
        Ok(Err(error)) => missed.push(format!("an event: {error}")),
        Err(_) => missed.push("an event panicked".to_owned()),
    }
    missed.extend(daemon.complaints());
    let happened = Happened {
        faults: dns.statistics().faults.values().sum(),
        unanswered: dns.statistics().paused,
        reloads: daemon.log_count("event=reload result=done"),
        refused_reloads: daemon.log_count("event=reload result=refused"),
    };
    missed.extend(happened.missing(scenario.dns_plan().is_some(), scenario.is_warm, &scenario.events));
    Ok(Played { run, basis, missed })
}

/// How often what a scenario is about took place: without it, nothing that holds says anything.
#[derive(Clone, Copy, Debug, Default)]
struct Happened {
    /// Of the DNS server's plan.
    faults: u64,
    /// Questions while it said nothing.
    unanswered: u64,
    reloads: u64,
    refused_reloads: u64,
}

impl Happened {
    fn missing(self, has_plan: bool, is_warm: bool, events: &[Event]) -> Vec<String> {
        let has = |is_it: fn(&Act) -> bool| events.iter().any(|event| is_it(&event.act));
        let checks = [
            ("a fault of the DNS server's plan", has_plan || has(|act| matches!(act, Act::DnsPlan(_))), self.faults),
            // With a warm cache, that nothing is asked is what has to come out.
            ("a question without an answer", !is_warm && has(|act| matches!(act, Act::DnsPause)), self.unanswered),
            ("a configuration read again", has(|act| matches!(act, Act::Reload)), self.reloads),
            ("a configuration refused", has(|act| matches!(act, Act::ReloadBad)), self.refused_reloads),
        ];
        let missing = checks.into_iter().filter(|(_, is_due, count)| *is_due && *count == 0);
        missing.map(|(what, ..)| format!("there was never {what}")).collect()
    }
}

/// Every message once, so that the cache knows all that it will be asked.
fn warm(target: &Target, corpus: &Corpus, settings: &Settings) -> Result<Run, Trouble> {
    let load = Load::Open(vec![crate::plan::Phase::Burst(corpus.letters.len() as u64)]);
    let settings = Settings { in_flight_max: WARM_IN_FLIGHT, ..settings.clone() };
    let run = drive::run(&Subject::Target(target), &corpus.letters, &load, &settings, &mut drive::Unseen)?;
    let total = &run.total;
    if total.right != total.offered && !run.was_interrupted {
        return Err(Trouble::Scenario(format!(
            "{}: warming up already went wrong:\n{}",
            target.name,
            run.to_text(Basis { claims: target.claims, late_share_max: LATE_SHARE_MAX })
        )));
    }
    Ok(run)
}

/// Messages under way while the cache is filled.
const WARM_IN_FLIGHT: usize = 16;

/// Every threshold that a run has missed.
fn missed(expect: &Expect, run: &Run) -> Vec<String> {
    let total = &run.total;
    let offered = total.offered.max(1) as f64;
    let milliseconds = |part| total.whole.value_at_quantile(part) as f64 / 1e3;
    let growth = growth(run);
    let checks: [(&str, Option<Limit>, f64); 11] = [
        ("wrong", expect.wrong, total.wrong as f64),
        ("failed", expect.failed, (total.failed + total.dropped) as f64),
        ("right-share", expect.right_share, total.right as f64 / offered),
        ("temporary-share", expect.temporary_share, total.temporary as f64 / offered),
        ("p50-ms", expect.p50_ms, milliseconds(0.5)),
        ("p99-ms", expect.p99_ms, milliseconds(0.99)),
        ("max-ms", expect.max_ms, milliseconds(1.0)),
        ("content-p99-ms", expect.content_p99_ms, total.content.value_at_quantile(0.99) as f64 / 1e3),
        ("cpu-us", expect.cpu_us, run.target_cpu_us().unwrap_or(0.0)),
        ("rss-mib", expect.rss_mib, run.target_rss_peak as f64 / 1_048_576.0),
        ("rss-growth-mib", expect.rss_growth_mib, growth),
    ];
    let missed = checks.into_iter().filter_map(|(name, limit, found)| {
        let limit = limit?;
        (!limit.allows(found)).then(|| format!("{name}: {found:.3}, wanted {limit}"))
    });
    let mut missed: Vec<String> = missed.collect();
    if total.offered == 0 {
        missed.push("nothing was offered".to_owned());
    }
    missed
}

/// How much greater memory is in the last quarter of a run than in the second one, in MiB.
fn growth(run: &Run) -> f64 {
    let quarter = run.points.len() / 4;
    let greatest =
        |points: &[crate::measure::Point]| points.iter().map(|point| point.target_rss_bytes).max().unwrap_or(0) as f64;
    let (second, last) = (run.points.get(quarter..quarter * 2), run.points.get(quarter * 3..));
    (greatest(last.unwrap_or_default()) - greatest(second.unwrap_or_default())) / 1_048_576.0
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

/// How soon something that has to happen at a moment notices the end of the run.
const LOOK: Duration = Duration::from_millis(20);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Tally;

    #[test]
    fn an_invalid_run_has_neither_passed_nor_failed() {
        let right = Tally { offered: 100, started: 100, right: 100, ..Tally::default() };
        let basis = Basis { claims: Claims::ALL, late_share_max: LATE_SHARE_MAX };
        let outcome = |late, was_interrupted, missed: &[String]| {
            let run = Run { was_interrupted, ..crate::report::tests::run(Tally { late, ..right.clone() }) };
            Played { run, basis, missed: missed.to_vec() }.outcome()
        };
        let missed = ["p99-ms".to_owned()];
        assert_eq!((outcome(1, false, &[]), outcome(1, false, &missed)), (Outcome::Good, Outcome::Bad));
        assert_eq!((outcome(2, false, &[]), outcome(2, false, &missed)), (Outcome::Invalid, Outcome::Invalid));
        assert_eq!((outcome(0, true, &[]), outcome(0, true, &missed)), (Outcome::Invalid, Outcome::Invalid));
    }

    #[test]
    fn what_a_scenario_is_about_has_to_happen() {
        let event = |act| Event { at: Duration::ZERO, every: None, act };
        let events = [event(Act::Reload), event(Act::ReloadBad), event(Act::DnsPause), event(Act::DnsResume)];
        assert_eq!(Happened::default().missing(true, false, &events).len(), 4);
        assert!(Happened::default().missing(false, false, &[]).is_empty());
        assert_eq!(Happened::default().missing(true, true, &events).len(), 3);
        let all = Happened { faults: 1, unanswered: 1, reloads: 1, refused_reloads: 1 };
        assert!(all.missing(true, false, &events).is_empty());
        let one = Happened { reloads: 0, ..all };
        assert_eq!(one.missing(true, false, &events), ["there was never a configuration read again"]);
    }
}
