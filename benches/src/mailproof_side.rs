//! Mailproof with a warm cache.

use mailproof::proto::dkim::DkimResult;
use mailproof::proto::dmarc::DmarcResult;
use mailproof::proto::dns::{Answer, Outcome};
use mailproof::proto::spf::SpfResult;
use mailproof::zone::Zone;
use mailproof::{Engine, Envelope, Session};

use crate::messages::{CLIENT, HELO, Kind, MAIL_FROM, RECEIVER, message, texts};

/// An engine without a network, and its session.
pub struct Mailproof {
    session: Session,
}

impl Mailproof {
    /// Fills the cache with the answers that one message needs.
    #[must_use]
    pub fn new() -> Self {
        let engine = Engine::builder().authserv_id(RECEIVER).offline().build().expect("an engine without resolvers");
        for (question, answer) in Self::with_zone().transcript_of_one_message().transcript().iter() {
            let outcome = answer.map_or(Outcome::NxDomain, |answer| answer.outcome().clone());
            engine.remember(question, &Answer::new(outcome, Some(TTL_SECONDS)));
        }
        Self { session: engine.session(Envelope::default()) }
    }

    /// The Authentication-Results field of one message.
    ///
    /// # Panics
    /// When SPF, the signature or DMARC does not pass.
    #[must_use]
    pub fn verdict(&mut self, message: &[u8]) -> &str {
        self.session.take_whole(message, Envelope::new(CLIENT, HELO, MAIL_FROM));
        let verdict = self.session.finish();
        assert_eq!(verdict.spf.result, SpfResult::Pass);
        assert_eq!(verdict.dkim[0].result, DkimResult::Pass);
        assert_eq!(verdict.dmarc.result, DmarcResult::Pass);
        &verdict.authentication_results
    }

    fn with_zone() -> Self {
        let records: String = texts().iter().map(|(name, text)| format!("{name}: [{{TXT: '{text}'}}]\n")).collect();
        let zone = Zone::from_yaml(&records).expect("a zone");
        let engine = Engine::builder().zone(zone).build().expect("an engine over a zone");
        Self { session: engine.session(Envelope::default()) }
    }

    fn transcript_of_one_message(mut self) -> Session {
        let _ = self.verdict(&message(Kind::Text, 1));
        self.session
    }
}

impl Default for Mailproof {
    fn default() -> Self {
        Self::new()
    }
}

/// Longer than any benchmark.
const TTL_SECONDS: u32 = 3600;
