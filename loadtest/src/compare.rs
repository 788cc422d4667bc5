//! The same stream, resolver and plan for this project's milter and for those that do its work today.
//!
//! Every filter is kept to one processor, and the generator and the resolver to the others. Each is given as much as it
//! takes, then the highest rate that it keeps up with is looked for, then all get the same rate. Postfix, which is many
//! processes, has every processor.

mod filters;
mod knee;
mod postfix;
mod table;
mod world;

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use mailproof::Engine;
use mailproof::resolver::{BlockingResolver, ResolverError};

use crate::arguments::CompareArguments;
use crate::command::{Outcome, Trouble, interrupts, observer, write_file};
use crate::corpus::{Corpus, Letter, Maker};
use crate::drive::{self, Cpu, Settings, Subject, Verifier};
use crate::measure::{Machine, Pinned, Tree, Usage};
use crate::null::NullMilter;
use crate::plan::Load;
use crate::report::{Basis, Run};
use crate::sink::{Arrivals, DELIVERY_TIME_MAX, Sink};
use crate::target::{Claims, Connections, Leg, Target};

use self::filters::{POLICYD_PROCESSES_MAX, Stack};
use self::knee::{Found, Times};
use self::postfix::Postfix;
use self::world::{Places, World};

/// A filter, or several behind each other.
struct FilterRow {
    name: &'static str,
    claims: Claims,
    found: Found,
}

/// Postfix with a filter.
struct PostfixRow {
    name: &'static str,
    /// What is looked for in the mail that arrives.
    claims: Claims,
    /// Accepted and delivered, a second.
    rate: f64,
    /// Of Postfix and its filters, for one message.
    cpu_us: f64,
    /// Of the filters alone.
    filter_cpu_us: f64,
    rss_bytes: u64,
    common: Run,
    arrivals: Arrivals,
    accepted: u64,
    refused: u64,
}

/// The folder of the rivals' packages. In a checkout of the project they are fetched when they are missing.
fn fetched(folder: &Path) -> Result<PathBuf, Trouble> {
    if folder == Path::new(RIVALS) && !folder.exists() && Path::new(FETCH).exists() {
        eprintln!("{} is not there: {FETCH} unpacks Debian's packages", folder.display());
        if !Command::new(FETCH).stdout(io::stderr()).status()?.success() {
            return Err(Trouble::Usage(format!("{FETCH} has failed; it needs apt and the lists of a Debian mirror")));
        }
    }
    folder.canonicalize().map_err(|_| {
        Trouble::Usage(format!("{} is not there: {FETCH} of the project's sources makes it", folder.display()))
    })
}

/// Where rivals are looked for.
pub(crate) const RIVALS: &str = "target/rivals";
/// Puts them there.
const FETCH: &str = "scripts/rivals.sh";

/// What was found, with what could not be.
struct Findings {
    machine: Machine,
    generator: Run,
    filters: Vec<FilterRow>,
    postfix: Vec<PostfixRow>,
    left_out: Vec<(String, String)>,
    messages: usize,
    mean_bytes: u64,
    domains: u32,
    elapsed: Duration,
}

type Start = Box<dyn Fn(&World) -> io::Result<Stack>>;

/// Messages of the stream at least: Zipf's law has to reach most domains.
const MESSAGES_MIN: u64 = 2000;
/// Sessions of mail servers at a time.
const IN_FLIGHT_MAX: usize = 100;
/// Sessions that give Postfix as much as it takes.
const POSTFIX_SESSIONS: u32 = 20;
/// A filter that answers nothing any more does not hold the others up.
const DRAIN_TIME: Duration = Duration::from_secs(8);

/// Compares, prints the table, and writes what is asked for.
///
/// # Errors
/// [`Trouble`] when not even the resolver can be started.
pub fn run(arguments: &CompareArguments) -> Result<Outcome, Trouble> {
    let (began, machine) = (Instant::now(), Machine::here());
    let (filter_rows, postfix_rows) = (filter_rows(&arguments.mailproof), postfix_rows(&arguments.mailproof));
    let names: Vec<&str> =
        filter_rows.iter().map(|(name, _)| *name).chain(postfix_rows.iter().map(|(name, ..)| *name)).collect();
    if let Some(only) = arguments.only.iter().find(|only| !names.iter().any(|name| name.contains(only.as_str()))) {
        return Err(Trouble::Usage(format!("--only: `{only}` is in the name of no row: {}", names.join("; "))));
    }
    let places = places()?;
    let mut options = arguments.stream.options();
    options.count = options.count.max(MESSAGES_MIN);
    let corpus = Maker::new(&options).corpus();
    let rivals = fetched(&arguments.rivals)?;
    let mut world = World::start(&corpus.records, &rivals, places.clone())?.ok_or_else(|| {
        Trouble::Usage("unbound and knot have to be installed: apt-get install unbound knot".to_owned())
    })?;
    warm(&corpus.letters)?;
    let mut settings = Settings {
        in_flight_max: IN_FLIGHT_MAX,
        message_time: Duration::from_secs(30),
        drain_time: DRAIN_TIME,
        generator_cpu: Cpu(Some(places.beside.clone())),
        processes_beside: world.resolver_process().into_iter().collect(),
        interrupt: Some(interrupts()?),
        ..Settings::default()
    };
    let times = if arguments.quick { Times::QUICK } else { Times::FULL };
    // So that looking at the target does not cost it its processor.
    let pinned = Pinned::to(&places.beside)?;
    let mut findings = Findings {
        machine,
        generator: generator_alone(&world, &corpus, &settings, times)?,
        filters: Vec::new(),
        postfix: Vec::new(),
        left_out: vec![("authentication_milter".to_owned(), "Debian has no package of it".to_owned())],
        messages: corpus.letters.len(),
        mean_bytes: corpus.letters.iter().map(|letter| letter.octets.len() as u64).sum::<u64>()
            / corpus.letters.len() as u64,
        domains: options.domain_count,
        elapsed: Duration::ZERO,
    };
    let is_wanted =
        |name: &str| arguments.only.is_empty() || arguments.only.iter().any(|only| name.contains(only.as_str()));
    for (name, start) in filter_rows {
        if is_wanted(name) && !interrupted(&settings) {
            eprintln!("{name} ...");
            match filter_row(name, &start, &world, &corpus, &settings, times, arguments) {
                Ok(row) => findings.filters.push(row),
                Err(why) => findings.left_out.push((name.to_owned(), why)),
            }
        }
    }
    drop(pinned);
    settings.generator_cpu = Cpu::default();
    world.places.target.extend(&places.beside);
    for (name, start, asks_policyd) in postfix_rows {
        if is_wanted(name) && !interrupted(&settings) {
            eprintln!("{name} ...");
            match postfix_row(name, start.as_ref(), asks_policyd, &world, &corpus, &settings, times) {
                Ok(row) => findings.postfix.push(row),
                Err(why) => findings.left_out.push((name.to_owned(), why)),
            }
        }
    }
    findings.elapsed = began.elapsed();
    print!("{}", table::text(&findings));
    write_file(arguments.output.json.as_deref(), || table::json(&findings).to_string())?;
    write_file(arguments.output.html.as_deref(), || table::html(&findings))?;
    write_file(arguments.svg.as_deref(), || table::svg(&findings))?;
    Ok(outcome(&findings, interrupted(&settings)))
}

fn interrupted(settings: &Settings) -> bool {
    settings.interrupt.as_ref().is_some_and(|it| it.load(std::sync::atomic::Ordering::Relaxed))
}

/// Ours has to be there and right everywhere; what others get wrong is their row's.
fn outcome(findings: &Findings, is_interrupted: bool) -> Outcome {
    let is_ours = |name: &str| name.contains("mailproof");
    let filters = || findings.filters.iter().filter(|row| is_ours(row.name)).map(|row| &row.found);
    let postfix = || findings.postfix.iter().filter(|row| is_ours(row.name));
    let of_filters = || filters().flat_map(|found| [Some(&found.saturated), found.knee.as_ref(), Some(&found.common)]);
    let is_bad = of_filters().flatten().any(|run| run.bad_count() > 0)
        || postfix().any(|row| {
            let Arrivals { wrong, temporary, unknown, .. } = row.arrivals;
            row.common.bad_count() + wrong + temporary + unknown + row.refused > 0
        })
        || findings.left_out.iter().any(|(name, _)| is_ours(name));
    let mut common = filters().map(|found| &found.common).chain(postfix().map(|row| &row.common));
    let is_invalid = common.any(|run| run.invalid(drive::LATE_SHARE_MAX).is_some());
    match () {
        // What was under way then has failed for no reason of its own.
        () if is_interrupted => Outcome::Invalid,
        () if is_bad => Outcome::Bad,
        () if is_invalid => Outcome::Invalid,
        () => Outcome::Good,
    }
}

/// The target has a processor, everything else the others.
fn places() -> Result<Places, Trouble> {
    let count = thread::available_parallelism()?.get();
    if count < 2 {
        return Err(Trouble::Usage("two processors are needed: one for the target, one for the generator".to_owned()));
    }
    Ok(Places { target: vec![0], beside: (1..count).collect() })
}

/// Asks the resolver for everything that the stream needs: the first row would wait for what the others find there.
fn warm(letters: &[Letter]) -> Result<(), Trouble> {
    let words = |error: ResolverError| Trouble::Usage(error.to_string());
    let resolver = BlockingResolver::new(&[World::resolver_address()]).map_err(words)?;
    let engine = Engine::builder().resolver(resolver).build().map_err(words)?;
    for letter in letters {
        Verifier::verify(&engine, letter).map_err(Trouble::Usage)?;
    }
    Ok(())
}

/// What the generator can do, against a filter that does nothing and is no libmilter.
fn generator_alone(world: &World, corpus: &Corpus, settings: &Settings, times: Times) -> Result<Run, Trouble> {
    let address = world.socket("generator");
    let null = NullMilter::start(&address, 1, Some(&world.places.target))?;
    let target = target("the generator alone", vec![Leg::Milter(null.address().clone())], Claims::NONE);
    let load = Load::Closed { in_flight: 8, time: times.saturation };
    Ok(drive::run(&Subject::Target(&target), &corpus.letters, &load, settings, &mut drive::Unseen)?)
}

fn filter_rows(mailproof: &Path) -> Vec<(&'static str, Start)> {
    let ours = mailproof.to_owned();
    vec![
        ("null libmilter milter", Box::new(filters::null) as Start),
        ("opendkim", Box::new(filters::opendkim)),
        ("opendkim + opendmarc", Box::new(|world: &World| filters::opendmarc(world, true))),
        ("policyd-spf + opendkim + opendmarc", Box::new(filters::policyd_stack)),
        ("rspamd", Box::new(filters::rspamd)),
        ("mailproof", Box::new(move |world: &World| filters::mailproof(world, &ours, "auto"))),
    ]
}

/// Name, filters, and whether Postfix asks policyd-spf.
fn postfix_rows(mailproof: &Path) -> Vec<(&'static str, Option<Start>, bool)> {
    let ours = mailproof.to_owned();
    vec![
        ("Postfix alone", None, false),
        ("Postfix, null libmilter milter", Some(Box::new(filters::null) as Start), false),
        (
            "Postfix, policyd-spf + opendkim + opendmarc",
            Some(Box::new(|world: &World| filters::opendmarc(world, false))),
            true,
        ),
        ("Postfix, rspamd", Some(Box::new(filters::rspamd)), false),
        ("Postfix, mailproof", Some(Box::new(move |world: &World| filters::mailproof(world, &ours, "auto"))), false),
    ]
}

fn target(name: &str, legs: Vec<Leg>, claims: Claims) -> Target {
    Target { name: name.to_owned(), legs, claims, connections: Connections::Each }
}

fn filter_row(
    name: &'static str,
    start: &Start,
    world: &World,
    corpus: &Corpus,
    settings: &Settings,
    times: Times,
    arguments: &CompareArguments,
) -> Result<FilterRow, String> {
    let mut stack = start(world).map_err(|error| error.to_string())?;
    let mut settings = settings.clone();
    settings.processes = stack.programs.iter().map(world::Program::id).collect();
    if stack.legs.iter().any(|leg| matches!(leg, Leg::Policy(_))) {
        settings.in_flight_max = POLICYD_PROCESSES_MAX;
    }
    let target = target(name, stack.legs.clone(), stack.claims);
    let is_alive = || stack.programs.iter_mut().try_for_each(world::Program::check_alive);
    let basis = Basis { claims: target.claims, late_share_max: settings.late_share_max };
    let mut observer = observer(&arguments.output, basis);
    let found = knee::find(&target, &corpus.letters, &settings, times, &mut *observer, is_alive)?;
    Ok(FilterRow { name, claims: stack.claims, found })
}

fn postfix_row(
    name: &'static str,
    start: Option<&Start>,
    asks_policyd: bool,
    world: &World,
    corpus: &Corpus,
    settings: &Settings,
    times: Times,
) -> Result<PostfixRow, String> {
    let words = |error: io::Error| error.to_string();
    let mut stack = start.map(|start| start(world)).transpose().map_err(words)?;
    let mut claims = stack.as_ref().map_or(Claims::NONE, |stack| stack.claims);
    claims.spf &= claims.arc || asks_policyd;
    let sink = Sink::start(&corpus.letters, claims).map_err(words)?;
    let slug: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
    let postfix = Postfix::start(world, stack.as_ref(), asks_policyd, sink.address(), &slug).map_err(words)?;
    let filters: Vec<u32> = stack.iter().flat_map(|stack| &stack.programs).map(world::Program::id).collect();
    let mut settings = settings.clone();
    settings.processes = [vec![postfix.program.id()], filters.clone()].concat();
    let address = crate::target::Address::tcp(postfix.address).map_err(|error| error.to_string())?;
    let target = target(name, vec![Leg::Smtp(address)], Claims::NONE);
    let mut run = |load: &Load| {
        let run = drive::run(&Subject::Target(&target), &corpus.letters, load, &settings, &mut drive::Unseen);
        stack.iter_mut().flat_map(|stack| &mut stack.programs).try_for_each(world::Program::check_alive)?;
        run.map_err(|error| error.to_string())
    };
    let closed = |time| Load::Closed { in_flight: POSTFIX_SESSIONS, time };
    let mut accepted = run(&closed(times.warm_up))?.total.right;
    deliver(&sink, accepted)?;
    let (tree, filter_tree) = (Tree::new(settings.processes.clone()), Tree::new(filters));
    let (before, filter_before, began) = (tree.usage(), filter_tree.usage(), Instant::now());
    let saturated = run(&closed(times.saturation + times.step))?;
    accepted += saturated.total.right;
    deliver(&sink, accepted)?;
    let elapsed = began.elapsed();
    let (after, filter_after) = (tree.usage(), filter_tree.usage());
    let count = saturated.total.right.max(1) as f64;
    let each = |before: Usage, after: Usage| after.cpu.saturating_sub(before.cpu).as_secs_f64() * 1e6 / count;
    let common = run(&Load::steady(knee::COMMON_RATE / 2.0, times.common))?;
    accepted += common.total.right;
    deliver(&sink, accepted)?;
    let refused = saturated.total.wrong + saturated.total.failed + common.total.wrong + common.total.failed;
    Ok(PostfixRow {
        name,
        claims,
        rate: count / elapsed.as_secs_f64(),
        cpu_us: each(before, after),
        filter_cpu_us: each(filter_before, filter_after),
        rss_bytes: saturated.target_rss_peak,
        common,
        arrivals: sink.arrivals(),
        accepted,
        refused,
    })
}

/// Waits until everything that was accepted has arrived.
fn deliver(sink: &Sink, accepted: u64) -> Result<(), String> {
    let arrived = sink.wait_for(accepted, DELIVERY_TIME_MAX).arrived;
    if arrived < accepted {
        Err(format!("of {accepted} messages that were accepted {arrived} arrived"))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Tally;
    use crate::report::tests::run;

    fn good() -> Run {
        run(Tally { offered: 9, started: 9, right: 9, ..Tally::default() })
    }

    fn findings(name: &'static str) -> Findings {
        let found = Found { saturated: good(), knee: Some(good()), common: good() };
        let arrivals = Arrivals { arrived: 9, ..Arrivals::default() };
        Findings {
            machine: Machine::default(),
            generator: good(),
            filters: vec![FilterRow { name, claims: Claims::ALL, found }],
            postfix: vec![PostfixRow {
                name,
                claims: Claims::ALL,
                rate: 1.0,
                cpu_us: 1.0,
                filter_cpu_us: 1.0,
                rss_bytes: 1,
                common: good(),
                arrivals,
                accepted: 9,
                refused: 0,
            }],
            left_out: vec![("authentication_milter".to_owned(), "no package".to_owned())],
            messages: 9,
            mean_bytes: 1,
            domains: 7,
            elapsed: Duration::ZERO,
        }
    }

    type Change = fn(&mut Findings);

    #[test]
    fn ours_has_to_be_there_and_right_and_others_may_be_as_they_are() {
        let cases: [(&str, Change, Outcome); 11] = [
            ("as it should be", |_| {}, Outcome::Good),
            ("saturated", |it| it.filters[0].found.saturated.total.failed = 1, Outcome::Bad),
            ("knee", |it| it.filters[0].found.knee.as_mut().unwrap().total.wrong = 1, Outcome::Bad),
            ("common", |it| it.filters[0].found.common.total.dropped = 1, Outcome::Bad),
            ("late", |it| it.filters[0].found.common.total.late = 9, Outcome::Invalid),
            ("late and wrong", |it| (it.postfix[0].common.total.late, it.postfix[0].refused) = (9, 1), Outcome::Bad),
            ("Postfix late", |it| it.postfix[0].common.total.late = 9, Outcome::Invalid),
            ("refused", |it| it.postfix[0].refused = 1, Outcome::Bad),
            ("unknown", |it| it.postfix[0].arrivals.unknown = 1, Outcome::Bad),
            ("wrong", |it| it.postfix[0].arrivals.wrong = 1, Outcome::Bad),
            ("dropped", |it| it.postfix[0].common.total.dropped = 1, Outcome::Bad),
        ];
        for (what, change, expected) in cases {
            let mut ours = findings("Postfix, mailproof");
            change(&mut ours);
            assert_eq!(outcome(&ours, false), expected, "{what}");
            assert_eq!(outcome(&ours, true), Outcome::Invalid, "{what}, interrupted");
            let mut theirs = findings("rspamd");
            change(&mut theirs);
            assert_eq!(outcome(&theirs, false), Outcome::Good, "{what}, of others");
        }
        let mut without = findings("rspamd");
        without.left_out.push(("mailproof".to_owned(), "no such file".to_owned()));
        assert_eq!(outcome(&without, false), Outcome::Bad);
    }

    #[test]
    fn a_table_says_how_many_domains_and_what_nobody_checked() {
        let mut findings = findings("null libmilter milter");
        assert!(table::text(&findings).contains("over 7 domains"));
        assert!(!table::text(&findings).contains("unchecked"));
        findings.filters[0].claims = Claims::NONE;
        findings.filters[0].found.common = run(Tally { offered: 9, started: 9, failed: 9, ..Tally::default() });
        let text = table::text(&findings);
        let row: Vec<&str> = text.lines().find(|line| line.starts_with("null")).unwrap().split_whitespace().collect();
        assert_eq!(row[6..11], ["-", "-", "-", "0.0", "unchecked"], "{text}");
    }
}
