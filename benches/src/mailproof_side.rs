//! Mailproof with a warm cache.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use mailproof_proto::dkim::DkimResult;
use mailproof_proto::dmarc::DmarcResult;
use mailproof_proto::dns::{Answer, AnswerSource, Name, Outcome, Question, RecordSet, RecordType, Txt};
use mailproof_proto::spf::SpfResult;
use mailproof_proto::time::Timestamp;
use mailproof_proto::verification::{Envelope, Options, Progress, Verification};

use crate::messages::{CLIENT, HELO, MAIL_FROM, RECEIVER, texts};

/// Mailproof's core and everything it needs to know of the DNS.
pub struct Mailproof {
    verification: Verification,
    cache: Warm,
    now: Timestamp,
}

/// A cache as cheap as can be: no lock, no expiry. What it does not have does not exist.
struct Warm {
    answers: HashMap<Question, Answer>,
    missing: Answer,
}

impl AnswerSource for Warm {
    fn answer(&mut self, question: &Question) -> Option<Answer> {
        Some(self.answers.get(question).unwrap_or(&self.missing).clone())
    }
}

impl Mailproof {
    /// Fills the cache.
    #[must_use]
    pub fn new() -> Self {
        let answers = texts().into_iter().map(|(name, text)| {
            let name = Name::parse(name).expect("a name");
            let records = RecordSet::Txt([Txt(text.into_bytes().into())].into());
            (Question::new(name, RecordType::Txt), Answer::new(Outcome::Records(records), Some(300)))
        });
        let cache = Warm { answers: answers.collect(), missing: Answer::new(Outcome::NxDomain, Some(300)) };
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
        let now = Timestamp::from_seconds(since_epoch.as_secs());
        let options = Options { authserv_id: RECEIVER.to_owned(), ..Options::default() };
        Self { verification: Verification::new(Arc::new(options), Envelope::default(), now), cache, now }
    }

    /// The Authentication-Results field of one message.
    ///
    /// # Panics
    /// When SPF, the signature or DMARC does not pass.
    #[must_use]
    pub fn verdict(&mut self, message: &[u8]) -> &str {
        self.verification.restart(Envelope::new(CLIENT, HELO, MAIL_FROM), self.now);
        self.verification.push(message);
        self.verification.end();
        assert_eq!(self.verification.poll(self.now, &mut self.cache), Progress::Done);
        let verdict = self.verification.verdict().expect("it is done");
        assert_eq!(verdict.spf.result, SpfResult::Pass);
        assert_eq!(verdict.dkim[0].result, DkimResult::Pass);
        assert_eq!(verdict.dmarc.result, DmarcResult::Pass);
        &verdict.authentication_results
    }
}

impl Default for Mailproof {
    fn default() -> Self {
        Self::new()
    }
}
