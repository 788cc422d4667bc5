//! Counts and latencies of messages.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::drive::{Findings, Judgement};

/// Everything counted about some messages. `offered` is `started` and `dropped`; `started` is `right`, `temporary`,
/// `wrong`, `failed` and those that are still under way.
#[derive(Clone, Debug)]
pub struct Tally {
    /// Messages whose planned moment has come.
    pub offered: u64,
    /// Messages that a connection was opened for, or taken.
    pub started: u64,
    /// Messages that the generator itself started too late.
    pub late: u64,
    /// Messages that were still waiting for their turn when the run was over.
    pub dropped: u64,
    /// Answered as they have to be.
    pub right: u64,
    /// Answered with temporary errors.
    pub temporary: u64,
    /// Answered in another way.
    pub wrong: u64,
    /// Not answered: no connection, a broken one, no answer in time.
    pub failed: u64,
    /// Octets of the messages that were answered.
    pub bytes: u64,
    /// From the planned moment to the last answer, in microseconds.
    pub whole: Histogram<u64>,
    /// From the first octet of the content to the last answer: what a mail server's client waits for after its final dot.
    pub content: Histogram<u64>,
    /// From the end of the message to the last answer.
    pub end: Histogram<u64>,
    /// From the planned moment to when the generator looked at it.
    pub lag: Histogram<u64>,
    /// How often each result came.
    pub results: BTreeMap<(&'static str, &'static str), u64>,
    /// How often each thing went wrong.
    pub troubles: BTreeMap<String, u64>,
    /// Some of the messages that were answered otherwise.
    pub examples: Vec<String>,
}

/// No latency is counted as more than this.
pub const LATENCY_MAX: Duration = Duration::from_secs(600);
/// Kinds of troubles that are told apart.
const TROUBLES_MAX: usize = 40;
/// Messages that are shown.
const EXAMPLES_MAX: usize = 12;

impl Default for Tally {
    fn default() -> Self {
        Self {
            offered: 0,
            started: 0,
            late: 0,
            dropped: 0,
            right: 0,
            temporary: 0,
            wrong: 0,
            failed: 0,
            bytes: 0,
            whole: histogram(),
            content: histogram(),
            end: histogram(),
            lag: histogram(),
            results: BTreeMap::new(),
            troubles: BTreeMap::new(),
            examples: Vec::new(),
        }
    }
}

/// Of microseconds up to [`LATENCY_MAX`], with three digits.
pub(super) fn histogram() -> Histogram<u64> {
    // These bounds are in order and the digits allowed.
    Histogram::new_with_bounds(1, LATENCY_MAX.as_micros() as u64, 3).expect("bounds that are allowed")
}

impl Tally {
    /// Messages that were answered, in whatever way.
    #[must_use]
    pub const fn answered(&self) -> u64 {
        self.right + self.temporary + self.wrong
    }

    /// An answer came.
    pub(crate) fn answer(&mut self, judgement: Judgement, findings: &Findings, example: impl FnOnce() -> String) {
        match judgement {
            Judgement::Right => self.right += 1,
            Judgement::Temporary => self.temporary += 1,
            Judgement::Wrong => {
                self.wrong += 1;
                if self.examples.len() < EXAMPLES_MAX {
                    self.examples.push(example());
                }
            }
        }
        self.count_result("action", findings.action.word());
        for (method, word) in [("spf", findings.spf), ("dmarc", findings.dmarc), ("arc", findings.arc)] {
            if let Some(word) = word {
                self.count_result(method, word.word());
            }
        }
        if findings.has_dkim {
            let word = match (findings.dkim_passing.is_empty(), findings.dkim_is_temporary) {
                (false, _) => "pass",
                (true, true) => "temperror",
                (true, false) => "not pass",
            };
            self.count_result("dkim", word);
        }
    }

    fn count_result(&mut self, method: &'static str, word: &'static str) {
        *self.results.entry((method, word)).or_default() += 1;
    }

    pub(crate) fn trouble(&mut self, line: String) {
        self.failed += 1;
        let is_known = self.troubles.contains_key(&line);
        let line = if is_known || self.troubles.len() < TROUBLES_MAX { line } else { "others".to_owned() };
        *self.troubles.entry(line).or_default() += 1;
    }

    /// Takes in what another one has, and empties that.
    pub(crate) fn absorb(&mut self, other: &mut Self) {
        let Self {
            offered,
            started,
            late,
            dropped,
            right,
            temporary,
            wrong,
            failed,
            bytes,
            whole,
            content,
            end,
            lag,
            ..
        } = other;
        let counts = [
            (&mut self.offered, offered),
            (&mut self.started, started),
            (&mut self.late, late),
            (&mut self.dropped, dropped),
            (&mut self.right, right),
            (&mut self.temporary, temporary),
            (&mut self.wrong, wrong),
            (&mut self.failed, failed),
            (&mut self.bytes, bytes),
        ];
        for (sum, count) in counts {
            *sum += std::mem::take(count);
        }
        let histograms =
            [(&mut self.whole, whole), (&mut self.content, content), (&mut self.end, end), (&mut self.lag, lag)];
        for (sum, histogram) in histograms {
            if !histogram.is_empty() {
                // All have the same bounds.
                sum.add(&*histogram).expect("histograms of the same bounds");
                histogram.reset();
            }
        }
        for (result, count) in std::mem::take(&mut other.results) {
            *self.results.entry(result).or_default() += count;
        }
        for (trouble, count) in std::mem::take(&mut other.troubles) {
            *self.troubles.entry(trouble).or_default() += count;
        }
        let room = EXAMPLES_MAX.saturating_sub(self.examples.len());
        self.examples.extend(other.examples.drain(..).take(room));
    }
}

/// Records a time.
pub(crate) fn record(histogram: &mut Histogram<u64>, time: Duration) {
    histogram.saturating_record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1));
}
