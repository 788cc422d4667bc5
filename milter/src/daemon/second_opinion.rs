//! A share of live mail, judged again by the crate mail-auth: two programs that agree are worth more than one that is sure.
//! It runs on a thread of its own, on copies, and what it finds changes nothing but figures and the log.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use mailproof::Engine;
use mailproof::cross_check::{Opinion, Received, SecondOpinion};
use mailproof_proto::dkim::DkimResult;
use mailproof_proto::verdict::Verdict;

use crate::log::{Format, Line, Sink};
use crate::metrics::{CrossCheckResult, Metrics};
use crate::service::{Auditor, Sample};

/// Chooses messages and hands them to its thread.
pub(crate) struct CrossCheck {
    /// Of a million messages.
    share: u32,
    counted: AtomicU64,
    samples: SyncSender<Sample>,
    metrics: Arc<Metrics>,
}

/// What the thread has.
struct Examiner {
    second: SecondOpinion,
    engine: Engine,
    metrics: Arc<Metrics>,
    sink: Arc<dyn Sink>,
    format: Format,
}

impl CrossCheck {
    /// Examines this share of all messages, in millionths; the engine has the threads that ask the DNS.
    ///
    /// # Errors
    /// When mail-auth can not be set up or no thread be started.
    pub(crate) fn start(
        share: u32,
        engine: Engine,
        metrics: &Arc<Metrics>,
        sink: Arc<dyn Sink>,
        format: Format,
    ) -> io::Result<Self> {
        let second = SecondOpinion::new().map_err(io::Error::other)?;
        let (samples, taken) = sync_channel(SAMPLES_WAITING_MAX);
        let examiner = Examiner { second, engine, metrics: Arc::clone(metrics), sink, format };
        thread::Builder::new().name("mailproof-check".to_owned()).spawn(move || examiner.run(&taken))?;
        Ok(Self { share, counted: AtomicU64::new(0), samples, metrics: Arc::clone(metrics) })
    }
}

impl Auditor for CrossCheck {
    fn wants_next(&self) -> bool {
        // Every so-manieth message: the share is kept exactly, whatever the rate.
        let share = u64::from(self.share);
        let before = self.counted.fetch_add(share, Ordering::Relaxed);
        before / WHOLE != (before + share) / WHOLE
    }

    fn examine(&self, sample: Sample) {
        if self.samples.try_send(sample).is_err() {
            self.metrics.cross_checked(CrossCheckResult::Dropped);
        }
    }
}

impl Examiner {
    fn run(&self, samples: &Receiver<Sample>) {
        for sample in samples {
            self.examine(&sample);
        }
    }

    fn examine(&self, sample: &Sample) {
        let envelope = &sample.envelope;
        let received = Received {
            message: &sample.message,
            ip: envelope.ip,
            helo: &envelope.helo,
            mail_from: &envelope.mail_from,
            receiver: &self.engine.options().authserv_id,
        };
        let opinion = self.second.verify(&received, |question| Some(self.engine.ask(question)));
        let (result, differences) = match opinion {
            Ok(opinion) => {
                let differences = differences(&sample.verdict, &opinion);
                let agrees = differences.is_empty();
                (if agrees { CrossCheckResult::Agrees } else { CrossCheckResult::Disagrees }, differences)
            }
            Err(error) => (CrossCheckResult::NoOpinion, vec![("detail", error.to_string(), String::new())]),
        };
        self.metrics.cross_checked(result);
        if result == CrossCheckResult::Agrees {
            return;
        }
        let mut line = Line::new(self.format, "cross-check");
        line.pair("queue-id", sample.queue_id.as_deref().unwrap_or("-")).pair("result", result.word());
        for (what, ours, theirs) in differences {
            line.pair(what, if theirs.is_empty() { ours } else { format!("{ours}, mail-auth: {theirs}") }.as_str());
        }
        self.sink.write_line(&line.finish());
    }
}

/// What the two see otherwise, each with both words.
fn differences(verdict: &Verdict, opinion: &Opinion) -> Vec<(&'static str, String, String)> {
    let signers = |domains: Vec<String>| {
        let mut domains = domains;
        domains.sort();
        domains.dedup();
        if domains.is_empty() { "none".to_owned() } else { domains.join(",") }
    };
    let ours = verdict.dkim.iter().filter(|it| it.result == DkimResult::Pass);
    let ours = signers(ours.filter_map(|it| Some(it.domain?.to_string())).collect());
    let theirs = opinion.dkim.iter().filter(|it| it.result == DkimResult::Pass);
    let theirs = signers(theirs.filter_map(|it| Some(it.domain.as_deref()?.to_ascii_lowercase())).collect());
    let spf = opinion.spf.unwrap_or(verdict.spf.result).word();
    let pairs = [
        ("spf", verdict.spf.result.word().to_owned(), spf.to_owned()),
        ("dkim", ours, theirs),
        ("arc", verdict.arc.result.word().to_owned(), opinion.arc.word().to_owned()),
        ("dmarc", verdict.dmarc.result.word().to_owned(), opinion.dmarc.word().to_owned()),
    ];
    pairs.into_iter().filter(|(_, ours, theirs)| ours != theirs).collect()
}

/// Shares are counted in millionths.
const WHOLE: u64 = 1_000_000;
/// Messages that wait to be examined; of those that come beyond, nothing is examined.
const SAMPLES_WAITING_MAX: usize = 16;
