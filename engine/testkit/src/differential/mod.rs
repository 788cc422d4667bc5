//! The comparison with other implementations on random cases: the crate mail-auth, pyspf and dkimpy.
//!
//! Every disagreement must fall into one of the named [`classes`], each of which says who is right by which section;
//! one that falls into none is shrunk and shown, and makes the run fail.

pub mod classes;
mod compare;
mod features;
pub mod grammar;
pub mod python;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Instant;

use mailproof::cross_check::SecondOpinion;

use self::classes::{CLASSES, Class};
use self::compare::{Case, Comparison, Input, Oracles, compare};
pub use self::compare::{Oracle, Subject, View};
use self::python::Python;
use crate::generate::{self, message, spf};
use crate::random::Random;

/// How much to compare.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Cases compared with mail-auth: half of them SPF evaluations, half messages.
    pub count: u64,
    /// Cases compared with pyspf, and as many with dkimpy.
    pub python_count: u64,
    /// Where the random numbers start.
    pub seed: u64,
    /// Only the case of this number.
    pub only: Option<u64>,
}

/// What came out.
#[derive(Debug, Default)]
pub struct Report {
    tallies: Vec<Tally>,
    notes: Vec<String>,
    /// Disagreements that no class explains by their kind: how many, and the smallest case found for the first.
    pub unexplained: BTreeMap<String, (u64, String)>,
    /// Number of disagreements that no class explains, shown or not.
    pub unexplained_count: u64,
}

#[derive(Debug)]
struct Tally {
    oracle: Oracle,
    cases: u64,
    agreements: BTreeMap<Subject, u64>,
    disagreements: BTreeMap<&'static str, u64>,
    seconds: f64,
}

/// Kinds of unexplained disagreements of which one is shrunk and shown; the rest is only counted.
const SHOWN_MAX: usize = 400;
/// Attempts at making one case smaller.
const SHRINK_ATTEMPTS_MAX: usize = 1500;

/// Compares.
///
/// # Errors
/// When mail-auth can not be set up or a Python oracle dies.
pub fn run(options: &Options) -> Result<Report, String> {
    let mut report = Report::default();
    let mut oracles = Oracles { mail_auth: SecondOpinion::new().map_err(|error| error.to_string())?, python: None };
    let spf_case = |index: u64| Case::new(Input::Spf(spf::generate(&mut Random::of_case(options.seed, index))));
    let messages = Messages { seed: options.seed };
    let half = options.count.div_ceil(2);
    report.add(Oracle::MailAuth, half, options, &mut oracles, spf_case)?;
    report.add(Oracle::MailAuth, options.count - half, options, &mut oracles, messages.cases())?;
    let Some(interpreter) = python::interpreter() else {
        report.notes.push("pyspf, dkimpy: not compared: no .venv and no MAILPROOF_PYTHON".to_owned());
        return Ok(report);
    };
    for oracle in [Oracle::Pyspf, Oracle::Dkimpy] {
        let is_spf = oracle == Oracle::Pyspf;
        match Python::start(&interpreter, if is_spf { "spf_oracle.py" } else { "dkim_oracle.py" }) {
            Ok(python) => oracles.python = Some(python),
            Err(error) => {
                report.notes.push(format!("{oracle}: not compared: {error}"));
                continue;
            }
        }
        if is_spf {
            report.add(oracle, options.python_count, options, &mut oracles, spf_case)?;
        } else {
            report.add(oracle, options.python_count, options, &mut oracles, messages.cases())?;
        }
    }
    Ok(report)
}

/// Messages, several variants of each signed one.
struct Messages {
    seed: u64,
}

impl Messages {
    fn cases(&self) -> impl FnMut(u64) -> Case {
        let seed = self.seed;
        let mut last: Option<(u64, generate::MessageCase)> = None;
        move |index| {
            let base = index / message::VARIANTS;
            if last.as_ref().is_none_or(|(at, _)| *at != base) {
                last = Some((base, message::generate(&mut Random::of_case(!seed, base))));
            }
            let (_, signed) = last.as_ref().expect("was just set");
            let received = signed.on_the_way(&mut Random::of_case(seed ^ 0xa5a5, index));
            Case::new(Input::Message(received))
        }
    }
}

impl Report {
    fn add(
        &mut self,
        oracle: Oracle,
        count: u64,
        options: &Options,
        oracles: &mut Oracles,
        mut case_at: impl FnMut(u64) -> Case,
    ) -> Result<(), String> {
        let started = Instant::now();
        let mut tally =
            Tally { oracle, cases: 0, agreements: BTreeMap::new(), disagreements: BTreeMap::new(), seconds: 0.0 };
        let indices = options.only.map_or(0..count, |only| only..only + 1);
        for index in indices {
            let case = case_at(index);
            tally.cases += 1;
            for comparison in compare(oracle, &case, oracles)? {
                if comparison.agrees() {
                    *tally.agreements.entry(comparison.subject).or_default() += 1;
                    continue;
                }
                let class = class_of(oracle, &case, &comparison, oracles);
                *tally.disagreements.entry(class.map_or(UNEXPLAINED, |class| class.name)).or_default() += 1;
                if class.is_none() {
                    self.note_unexplained(oracle, index, &case, &comparison, oracles);
                }
            }
        }
        tally.seconds = started.elapsed().as_secs_f64();
        self.tallies.push(tally);
        Ok(())
    }

    fn note_unexplained(
        &mut self,
        oracle: Oracle,
        index: u64,
        case: &Case,
        comparison: &Comparison,
        oracles: &mut Oracles,
    ) {
        self.unexplained_count += 1;
        let kind = format!("{oracle} {}: {}", comparison.subject, comparison.kind());
        let shown = self.unexplained.len();
        let (count, text) = self.unexplained.entry(kind).or_default();
        *count += 1;
        if *count == 1 && shown < SHOWN_MAX {
            *text = reproduction(oracle, index, case, comparison, oracles);
        }
    }

    /// How often each oracle agreed about each subject, and disagreed in each class.
    #[must_use]
    pub fn counts(&self) -> Vec<(String, u64)> {
        let mut counts = Vec::new();
        for tally in &self.tallies {
            let agreements = tally.agreements.iter().map(|(subject, count)| (subject.to_string(), *count));
            let disagreements = tally.disagreements.iter().map(|(class, count)| ((*class).to_owned(), *count));
            counts.extend(
                agreements.chain(disagreements).map(|(what, count)| (format!("{} {what}", tally.oracle), count)),
            );
        }
        counts
    }

    /// Everything as text; the last line holds the sums.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (kind, (count, reproduction)) in &self.unexplained {
            let _ = writeln!(out, "-- {count} times {kind}\n{reproduction}");
        }
        let (mut compared, mut explained) = (0, 0);
        for tally in &self.tallies {
            let agreements: u64 = tally.agreements.values().sum();
            let disagreements: u64 = tally.disagreements.values().sum();
            compared += agreements + disagreements;
            explained += disagreements - tally.disagreements.get(UNEXPLAINED).copied().unwrap_or_default();
            let subjects: Vec<String> =
                tally.agreements.iter().map(|(subject, count)| format!("{subject} {count}")).collect();
            let rate = tally.cases as f64 / tally.seconds.max(1e-9);
            let _ = writeln!(
                out,
                "{}: {} cases in {:.1} s ({rate:.0}/s), {agreements} agreements ({}), {disagreements} disagreements",
                tally.oracle,
                tally.cases,
                tally.seconds,
                subjects.join(", "),
            );
            for (class, count) in &tally.disagreements {
                let known = CLASSES.iter().find(|it| it.name == *class);
                let right = known.map_or_else(String::new, |it| format!("{}, {}", it.right, it.section));
                let _ = writeln!(out, "  {count:>7} {class} ({right})");
            }
        }
        for note in &self.notes {
            let _ = writeln!(out, "{note}");
        }
        let _ = write!(
            out,
            "differential: {compared} compared, {explained} explained, {} unexplained",
            self.unexplained_count
        );
        out
    }
}

/// Classes that may meet in one disagreement, beyond the first.
const OTHERS_MAX: usize = 3;
const UNEXPLAINED: &str = "UNEXPLAINED";

/// The class of a disagreement: the first that explains it alone, else the first of the fewest that do together.
fn class_of(oracle: Oracle, case: &Case, comparison: &Comparison, oracles: &mut Oracles) -> Option<&'static Class> {
    (0..=OTHERS_MAX).find_map(|others| explain(oracle, case, comparison, oracles, others))
}

/// A class that says what to take out of the case must be right about it: without that, both sides agree, or what is
/// left is explained by exactly `others` more classes.
fn explain(
    oracle: Oracle,
    case: &Case,
    comparison: &Comparison,
    oracles: &mut Oracles,
    others: usize,
) -> Option<&'static Class> {
    CLASSES.iter().find(|class| {
        if class.oracle != oracle || class.subject != comparison.subject || !(class.holds)(case, comparison) {
            return false;
        }
        let Some(without) = class.without else { return others == 0 };
        let rest = without(case);
        if rest == *case {
            return false;
        }
        let rest_comparisons = compare(oracle, &rest, oracles).unwrap_or_default();
        let same = |it: &&Comparison| it.subject == comparison.subject && it.index == comparison.index;
        match rest_comparisons.iter().find(same) {
            Some(left) if left.agrees() => others == 0,
            Some(left) => others > 0 && explain(oracle, &rest, left, oracles, others - 1).is_some(),
            // Policies are compared only where the results are the same.
            None => others == 0 && comparison.subject == Subject::Policy,
        }
    })
}

/// The smallest case found that still disagrees without a class.
fn reproduction(oracle: Oracle, index: u64, case: &Case, comparison: &Comparison, oracles: &mut Oracles) -> String {
    let mut best = (case.clone(), comparison.clone());
    let mut attempts = 0;
    'smaller: while attempts < SHRINK_ATTEMPTS_MAX {
        for smaller in best.0.smaller() {
            attempts += 1;
            let comparisons = compare(oracle, &smaller, oracles).unwrap_or_default();
            let still = comparisons.into_iter().find(|it| {
                it.subject == best.1.subject
                    && it.ours.result == best.1.ours.result
                    && it.theirs.result == best.1.theirs.result
                    && class_of(oracle, &smaller, it, oracles).is_none()
            });
            if let Some(still) = still {
                best = (smaller, still);
                continue 'smaller;
            }
        }
        break;
    }
    let (case, comparison) = best;
    format!("case {index}\nours:   {}\ntheirs: {}\n{}", comparison.ours, comparison.theirs, case.text())
}
