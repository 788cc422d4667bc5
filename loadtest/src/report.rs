//! A run as numbers: what it found, for people, for programs, and as a page.

mod chart;
mod html;
mod json;

pub use self::html::{page, table_page};
pub use self::json::to_json;

use std::fmt::{self, Write as _};
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::measure::{Machine, Point, Tally};
use crate::plan::Load;

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
    pub fn to_text(&self, late_share_max: f64) -> String {
        let total = &self.total;
        let mut text = String::new();
        // Writing to a String can not fail.
        let _ = writeln!(text, "{}: {}", self.name, self.load);
        let _ = writeln!(
            text,
            "offered {}, started {}, late {}, dropped {}; right {}, temporary errors {}, wrong {}, failed {}",
            total.offered,
            total.started,
            total.late,
            total.dropped,
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
        if let Some(invalid) = self.invalid(late_share_max) {
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
