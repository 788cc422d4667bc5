//! `--cross-check`: the same message through the crate mail-auth, and where the two disagree.

use mailproof::Engine;
use mailproof::cross_check::{Opinion, Received, SecondOpinion};
use mailproof_proto::dkim::DkimResult;
use mailproof_proto::verdict::Verdict;
use mailproof_proto::verification::Envelope;

use crate::failure::Failure;
use crate::words::listed;

/// Asks mail-auth, with the DNS of our engine.
#[derive(Clone)]
pub(crate) struct CrossCheck {
    engine: Engine,
    second: SecondOpinion,
}

impl CrossCheck {
    /// Sets mail-auth up.
    ///
    /// # Errors
    /// When it can not be.
    pub(crate) fn new(engine: &Engine) -> Result<Self, Failure> {
        let second = SecondOpinion::new().map_err(|error| Failure::Usage(format!("--cross-check: {error}")))?;
        Ok(Self { engine: engine.clone(), second })
    }

    /// Every point on which mail-auth sees the message otherwise.
    pub(crate) fn differences(&self, message: &[u8], envelope: &Envelope, verdict: &Verdict) -> Vec<String> {
        let received = Received {
            message,
            ip: envelope.ip,
            helo: &envelope.helo,
            mail_from: &envelope.mail_from,
            receiver: &self.engine.options().authserv_id,
        };
        match self.second.verify(&received, |question| Some(self.engine.ask(question))) {
            Ok(opinion) => differences(verdict, &opinion),
            Err(error) => vec![error.to_string()],
        }
    }
}

fn differences(verdict: &Verdict, opinion: &Opinion) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, ours: &str, theirs: &str| {
        if ours != theirs {
            found.push(format!("{what} {ours}, mail-auth says {theirs}"));
        }
    };
    if let Some(spf) = opinion.spf {
        compare("SPF", verdict.spf.result.word(), spf.word());
    }
    let ours = verdict.dkim.iter().filter(|it| it.result == DkimResult::Pass);
    let ours = signers(ours.filter_map(|it| Some(it.domain?.to_string())));
    let theirs = opinion.dkim.iter().filter(|it| it.result == DkimResult::Pass);
    let theirs = signers(theirs.filter_map(|it| it.domain.as_deref().map(str::to_ascii_lowercase)));
    compare("DKIM", &ours, &theirs);
    compare("ARC", verdict.arc.result.word(), opinion.arc.word());
    compare("DMARC", verdict.dmarc.result.word(), opinion.dmarc.word());
    found
}

/// The domains whose signatures pass, as one text.
fn signers(domains: impl Iterator<Item = String>) -> String {
    let mut domains: Vec<String> = domains.collect();
    domains.sort();
    domains.dedup();
    if domains.is_empty() { "passes for nobody".to_owned() } else { format!("passes for {}", listed(&domains)) }
}
