//! A run as numbers: what it found, for people, for programs, and as a page.

mod bars;
mod chart;
mod html;
mod json;

pub use self::bars::{Bars, picture};
pub use self::html::{page, table_page};
pub use self::json::to_json;

use std::fmt::{self, Write as _};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::measure::{Machine, Point, Tally};
use crate::plan::Load;
use crate::target::Claims;

/// One run.
#[derive(Clone, Debug)]
pub struct Run {
    /// What was driven.
    pub name: String,
    /// What was offered.
    pub load: Load,
    /// Where.
    pub machine: Machine,
    /// From the first planned moment to the last answer.
    pub elapsed: Duration,
    /// Everything counted.
    pub total: Tally,
    /// Tick by tick.
    pub points: Vec<Point>,
    /// CPU of the target's processes.
    pub target_cpu: Duration,
    /// CPU of processes beside it.
    pub beside_cpu: Duration,
    /// CPU of this process.
    pub generator_cpu: Duration,
    /// Greatest memory of the target seen at a tick.
    pub target_rss_peak: u64,
    /// Processes of the target were named.
    pub has_processes: bool,
    /// It ended early.
    pub was_interrupted: bool,
}

/// What a run is judged by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Basis {
    /// The results that were checked; without any, an answer is only an answer.
    pub claims: Claims,
    /// A share of late messages above which the run says nothing.
    pub late_share_max: f64,
}

/// Why a run says nothing about its target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Invalid {
    /// The generator did not keep to its plan.
    FellBehind {
        /// Messages started late.
        late: u64,
        /// Of so many.
        offered: u64,
    },
    /// Somebody ended it.
    Interrupted,
    /// Nothing was offered.
    Empty,
}

impl Run {
    /// `None` for a run that counts.
    #[must_use]
    pub fn invalid(&self, late_share_max: f64) -> Option<Invalid> {
        let Tally { late, offered, .. } = self.total;
        match () {
            () if self.was_interrupted => Some(Invalid::Interrupted),
            () if offered == 0 => Some(Invalid::Empty),
            // What is late is the generator's fault where it alone decides when messages start.
            () if matches!(self.load, Load::Open(_)) && late as f64 > offered as f64 * late_share_max => {
                Some(Invalid::FellBehind { late, offered })
            }
            () => None,
        }
    }

    /// Messages that were not answered as they have to be.
    #[must_use]
    pub const fn bad_count(&self) -> u64 {
        self.total.wrong + self.total.failed + self.total.dropped
    }

    /// Answered messages a second, over the time in which they were offered or still answered.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.total.answered() as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// CPU of the target for one answered message, in microseconds; `None` when no process was named.
    #[must_use]
    pub fn target_cpu_us(&self) -> Option<f64> {
        let answered = self.total.answered();
        (self.has_processes && answered > 0).then(|| self.target_cpu.as_secs_f64() * 1e6 / answered as f64)
    }

    /// The summary for a terminal.
    #[must_use]
    pub fn to_text(&self, basis: Basis) -> String {
        let total = &self.total;
        let mut text = String::new();
        // Writing to a String can not fail.
        let _ = writeln!(text, "{}: {}", self.name, self.load);
        let _ = writeln!(
            text,
            "offered {}, started {}, late {}, dropped {}; {} {}, temporary errors {}, wrong {}, failed {}",
            total.offered,
            total.started,
            total.late,
            total.dropped,
            basis.right_word(),
            total.right,
            total.temporary,
            total.wrong,
            total.failed,
        );
        let megabytes = total.bytes as f64 / 1e6 / self.elapsed.as_secs_f64().max(1e-9);
        let _ = writeln!(
            text,
            "{:.0} messages a second, {megabytes:.1} MB/s, over {:.2} s",
            self.rate(),
            self.elapsed.as_secs_f64()
        );
        for (name, histogram) in self.latencies() {
            if !histogram.is_empty() {
                let _ = writeln!(text, "{name:<34} {}", Percentiles(histogram));
            }
        }
        if let Some(cpu) = self.target_cpu_us() {
            let _ = writeln!(
                text,
                "target: {cpu:.0} µs of CPU a message, {:.1} MiB at most",
                self.target_rss_peak as f64 / 1048576.0
            );
        }
        let generator = self.generator_cpu.as_secs_f64() * 1e6 / (total.answered().max(1)) as f64;
        let _ = writeln!(text, "generator: {generator:.0} µs of CPU a message");
        for (trouble, count) in &total.troubles {
            let _ = writeln!(text, "  {count} failed: {trouble}");
        }
        for example in &total.examples {
            let _ = writeln!(text, "  wrong: {example}");
        }
        if let Some(invalid) = self.invalid(basis.late_share_max) {
            let _ = writeln!(text, "INVALID: {invalid}");
        }
        text
    }

    /// Every latency that is measured, with its name.
    #[must_use]
    pub fn latencies(&self) -> [(&'static str, &Histogram<u64>); 4] {
        let total = &self.total;
        [
            ("planned moment to last answer", &total.whole),
            ("begin of content to last answer", &total.content),
            ("end of message to last answer", &total.end),
            ("planned moment to start", &total.lag),
        ]
    }
}

impl Basis {
    /// Whether verdicts were checked at all.
    #[must_use]
    pub fn checks(self) -> bool {
        self.claims != Claims::NONE
    }

    /// What messages are that were answered, neither wrongly nor with temporary errors.
    pub(crate) fn right_word(self) -> &'static str {
        if self.checks() { "right" } else { "unchecked" }
    }
}

/// The usual ones, in milliseconds.
struct Percentiles<'a>(&'a Histogram<u64>);

/// The percentiles that are shown.
pub const PERCENTILES: [(&str, f64); 7] =
    [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999), ("max", 1.0)];

impl fmt::Display for Percentiles<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        PERCENTILES.iter().try_for_each(|(name, part)| write!(out, "{name} {:.2} ", milliseconds(self.0, *part)))?;
        write!(out, "ms")
    }
}

/// `None` of nothing.
pub(crate) fn percentile(histogram: &Histogram<u64>, part: f64) -> Option<f64> {
    (!histogram.is_empty()).then(|| milliseconds(histogram, part))
}

pub(crate) fn milliseconds(histogram: &Histogram<u64>, part: f64) -> f64 {
    histogram.value_at_quantile(part) as f64 / 1e3
}

impl fmt::Display for Invalid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FellBehind { late, offered } => {
                write!(
                    out,
                    "the generator fell behind: {late} of {offered} messages were started late; this says nothing of the target"
                )
            }
            Self::Interrupted => write!(out, "it was ended early"),
            Self::Empty => write!(out, "no message was offered"),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A run that has counted this.
    pub(crate) fn run(total: Tally) -> Run {
        Run {
            name: "target".to_owned(),
            load: Load::steady(10.0, Duration::from_secs(1)),
            machine: Machine::default(),
            elapsed: Duration::from_secs(1),
            total,
            points: Vec::new(),
            target_cpu: Duration::ZERO,
            beside_cpu: Duration::ZERO,
            generator_cpu: Duration::ZERO,
            target_rss_peak: 0,
            has_processes: false,
            was_interrupted: false,
        }
    }

    const CHECKED: Basis = Basis { claims: Claims::ALL, late_share_max: 0.01 };
    const UNCHECKED: Basis = Basis { claims: Claims::NONE, late_share_max: 0.01 };

    #[test]
    fn a_run_is_good_when_every_message_was_answered_as_it_has_to_be() {
        let good = Tally { offered: 50, started: 50, right: 50, ..Tally::default() };
        let verdict = |tally: &Tally, basis| {
            let page = page("x", &[(run(tally.clone()), basis)]);
            (page.contains("class=\"good\""), page.contains("class=\"bad\""))
        };
        assert_eq!(verdict(&good, CHECKED), (true, false));
        for bad in [
            Tally { right: 49, wrong: 1, ..good.clone() },
            Tally { right: 0, failed: 50, ..good.clone() },
            Tally { started: 40, right: 40, dropped: 10, ..good.clone() },
            Tally { late: 50, ..good.clone() },
        ] {
            assert_eq!(verdict(&bad, CHECKED), (false, true), "{bad:?}");
            assert_eq!(verdict(&bad, UNCHECKED), (false, true), "{bad:?}");
        }
    }

    #[test]
    fn nothing_has_no_percentiles() {
        let failed = run(Tally { offered: 50, started: 50, failed: 50, ..Tally::default() });
        let json = to_json(&failed, CHECKED);
        assert!(json["latencies"]["planned-moment-to-last-answer"]["percentiles"]["p99"].is_null(), "{json}");
        assert!(page("x", &[(failed, CHECKED)]).contains("<dt>p99</dt><dd>-</dd>"));
    }

    #[test]
    fn answers_that_nobody_checked_are_not_called_right() {
        let run = run(Tally { offered: 7, started: 7, right: 7, ..Tally::default() });
        assert!(run.to_text(CHECKED).contains("right 7") && !run.to_text(CHECKED).contains("unchecked"));
        assert!(run.to_text(UNCHECKED).contains("unchecked 7") && !run.to_text(UNCHECKED).contains("right"));
        let counts = |basis| to_json(&run, basis)["counts"].clone();
        assert_eq!((&counts(CHECKED)["right"], &counts(CHECKED)["unchecked"]), (&7.into(), &0.into()));
        assert_eq!((&counts(UNCHECKED)["right"], &counts(UNCHECKED)["unchecked"]), (&0.into(), &7.into()));
        let page = page("x", &[(run.clone(), UNCHECKED)]);
        assert!(page.contains("<dt>unchecked</dt><dd>7</dd>") && !page.contains("<dt>right</dt>"));
    }

    #[test]
    fn every_chart_has_a_table_of_few_rows() {
        let point = |at: u16| Point { at: at.into(), answered: 1.0, p50_ms: 1.25, ..Point::default() };
        let mut run = run(Tally { offered: 1, started: 1, right: 1, ..Tally::default() });
        run.has_processes = true;
        run.points = (1..=301).map(point).collect();
        run.points[300].answered = 0.0;
        let page = page("x", &[(run, CHECKED)]);
        let (charts, tables) = (page.matches("role=\"img\"").count(), page.matches("<details><summary>").count());
        // The table of percentiles is in the open.
        assert_eq!((charts, tables), (6, 5));
        for table in page.split("<details><summary>").skip(1) {
            let rows = table.split("</details>").next().unwrap_or_default().matches("<tr>").count();
            assert!((50..=61).contains(&rows), "{rows}");
        }
        assert!(page.contains("<tr><th scope=\"row\">301.0</th><td>-</td>"), "nothing was answered in the last tick");
    }
}
