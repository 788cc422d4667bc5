//! Whether the instruction counts of a run are those of the record.

use std::fmt;

use super::{Change, INSTRUCTIONS, Record};
use crate::cases;

/// What a run shows beside the record.
#[derive(Clone, Debug, PartialEq)]
pub enum Judgement<'a> {
    /// Nothing was compared, and why.
    Skipped(String),
    /// The counts of both.
    Compared {
        /// Counts of this run.
        count: usize,
        /// Those that moved.
        moved: Vec<Change<'a>>,
        /// Names of those that the record has and that should have been counted.
        missing: Vec<&'a str>,
    },
}

/// The cases that a run was to count.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Counted {
    /// Every one.
    All,
    /// None: it was a run for other figures.
    Nothing,
    /// Those that are [`short`](cases::Case::is_short).
    Short,
}

impl<'a> Judgement<'a> {
    /// Compares a run with the record of this machine, if there is one.
    #[must_use]
    pub fn of(now: &'a Record, former: Option<&'a Record>, counted: Counted) -> Self {
        let cases = match counted {
            Counted::Nothing => return Self::Skipped("no instructions were counted".to_owned()),
            Counted::All => None,
            Counted::Short => Some(cases::all()),
        };
        let Some(former) = former else {
            return Self::Skipped("this machine has no record to compare with".to_owned());
        };
        let (tools, former_tools) = (now.counting_tools(), former.counting_tools());
        if tools != former_tools {
            let (tools, former_tools) = (tools.join(", "), former_tools.join(", "));
            return Self::Skipped(format!("instructions were counted with {tools}, in the record with {former_tools}"));
        }
        let is_expected =
            |name: &str| cases.as_ref().is_none_or(|cases| cases.iter().any(|case| case.is_short && case.id() == name));
        Self::Compared {
            count: now.rows.iter().filter(|row| row.table == INSTRUCTIONS).count(),
            moved: now.moved(former),
            missing: now.missing(former, is_expected),
        }
    }

    /// False when a count moved or is missing.
    #[must_use]
    pub fn holds(&self) -> bool {
        match self {
            Self::Skipped(_) => true,
            Self::Compared { moved, missing, .. } => moved.is_empty() && missing.is_empty(),
        }
    }
}

impl fmt::Display for Judgement<'_> {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (count, moved, missing) = match self {
            // scripts/test.sh counts lines that begin so.
            Self::Skipped(reason) => return write!(to, "SKIPPED: {reason}"),
            Self::Compared { count, moved, missing } => (count, moved, missing),
        };
        for change in moved {
            let (case, former, value) = (&change.row.case, change.former, change.row.value);
            let percent = change.share() * 100.0;
            writeln!(to, "  {case:<44} {former:>12} -> {value:>12}  {percent:+.2} % since {}", change.commit)?;
        }
        for case in missing {
            writeln!(to, "  {case:<44} is in the record and was not counted")?;
        }
        write!(to, "{count} instruction counts, {} moved by more than 0.5 %, {} missing", moved.len(), missing.len())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Row, TOOLS};
    use super::*;

    fn record(commit: &str, rustc: &str, counts: &[(&str, f64)]) -> Record {
        let row = |table: &str, case: &str, value| Row {
            table: table.to_owned(),
            case: case.to_owned(),
            unit: "n".to_owned(),
            value,
            commit: commit.to_owned(),
        };
        let counts = counts.iter().map(|(case, value)| row(INSTRUCTIONS, case, *value));
        Record { rows: [row(TOOLS, rustc, 0.0)].into_iter().chain(counts).collect() }
    }

    fn a_case(is_short: bool) -> String {
        cases::all().iter().find(|case| case.is_short == is_short).unwrap().id()
    }

    #[test]
    fn a_case_that_was_not_counted_fails_and_is_named() {
        let (short, long) = (a_case(true), a_case(false));
        let former = record("abc", "rustc 1", &[(&short, 1.0), (&long, 2.0)]);
        let partial = record("def", "rustc 1", &[(&short, 1.0)]);
        let judgement = Judgement::of(&partial, Some(&former), Counted::All);
        assert_eq!(judgement, Judgement::Compared { count: 1, moved: Vec::new(), missing: vec![&long] });
        assert!(!judgement.holds());
        assert!(judgement.to_string().contains(&format!("{long:<44} is in the record and was not counted\n")));
        // A run of the short cases was not to count it.
        assert!(Judgement::of(&partial, Some(&former), Counted::Short).holds());
        let partial = record("def", "rustc 1", &[(&long, 2.0)]);
        let judgement = Judgement::of(&partial, Some(&former), Counted::Short);
        assert_eq!(judgement, Judgement::Compared { count: 1, moved: Vec::new(), missing: vec![&short] });
        let nothing = record("def", "rustc 1", &[]);
        assert!(!Judgement::of(&nothing, Some(&former), Counted::All).holds());
    }

    #[test]
    fn a_count_that_moved_fails_and_says_since_when() {
        let former = record("abc", "rustc 1", &[("a", 1000.0)]);
        let now = record("def", "rustc 1", &[("a", 1010.0)]);
        let judgement = Judgement::of(&now, Some(&former), Counted::All);
        assert!(!judgement.holds());
        assert!(judgement.to_string().contains("+1.00 % since abc\n"), "{judgement}");
    }

    #[test]
    fn what_can_not_be_compared_is_skipped_with_the_reason() {
        let now = record("def", "rustc 2", &[("a", 9.0)]);
        let former = record("abc", "rustc 1", &[("a", 1.0)]);
        for (judgement, says) in [
            (Judgement::of(&now, None, Counted::All), "SKIPPED: this machine has no record to compare with"),
            (
                Judgement::of(&now, Some(&former), Counted::Short),
                "SKIPPED: instructions were counted with rustc 2, in the record with rustc 1",
            ),
            (Judgement::of(&now, Some(&now), Counted::Nothing), "SKIPPED: no instructions were counted"),
        ] {
            assert!(judgement.holds());
            assert_eq!(judgement.to_string(), says);
        }
    }

    #[test]
    fn tools_of_other_figures_do_not_count() {
        let mut now = record("def", "rustc 2", &[("a", 9.0)]);
        let mut times = record("abc", "rustc 1", &[("a", 1.0)]);
        times.rows[1].table = "time".to_owned();
        now.keep_others(&times);
        let read = Record::from_csv(&now.to_csv()).unwrap();
        assert_eq!(read, now);
        assert_eq!(read.counting_tools(), ["rustc 2"]);
        assert!(read.rows.contains(&times.rows[0]), "what the times were measured with: {read:?}");
        assert!(Judgement::of(&record("ghi", "rustc 2", &[("a", 9.0)]), Some(&read), Counted::All).holds());
    }
}
