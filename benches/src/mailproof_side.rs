//! Mailproof with a warm cache, with none, and with several messages under way.

use std::net::IpAddr;

use mailproof::proto::dkim::DkimResult;
use mailproof::proto::dmarc::DmarcResult;
use mailproof::proto::dns::{Answer, Outcome, Question};
use mailproof::proto::spf::SpfResult;
use mailproof::proto::verdict::Verdict;
use mailproof::proto::verification::Progress;
use mailproof::zone::Zone;
use mailproof::{Engine, Envelope, Session};

use crate::messages::{CLIENT, HELO, Kind, MAIL_FROM, RECEIVER, signed, zone_text};

/// An engine without a network, and its session.
pub struct Mailproof {
    session: Session,
}

impl Mailproof {
    /// Fills the cache with the answers that one message needs.
    #[must_use]
    pub fn new() -> Self {
        Self { session: warm_engine().session(Envelope::default()) }
    }

    /// The Authentication-Results field of one message.
    ///
    /// # Panics
    /// When SPF, the signature or DMARC does not pass.
    #[must_use]
    pub fn verdict(&mut self, message: &[u8]) -> &str {
        let verdict = self.any_verdict(CLIENT, message);
        check(verdict);
        &verdict.authentication_results
    }

    /// The verdict on one message of some client, whatever it is.
    #[must_use]
    pub fn any_verdict(&mut self, client: IpAddr, message: &[u8]) -> &Verdict {
        self.session.take_whole(message, Envelope::new(client, HELO, MAIL_FROM));
        self.session.finish()
    }
}

impl Default for Mailproof {
    fn default() -> Self {
        Self::new()
    }
}

/// A session that is given every answer anew, as records that nobody has read yet: what a first message of its domains
/// costs beside the network. Keeping the answers is measured by the bench `cache`.
pub struct Cold {
    session: Session,
    outcomes: Vec<(Question, Outcome)>,
}

impl Cold {
    /// An empty cache, and the answers beside it.
    ///
    /// # Panics
    /// Never: an engine without resolvers can be built.
    #[must_use]
    pub fn new() -> Self {
        let engine = Engine::builder().authserv_id(RECEIVER).offline().build().expect("an engine without resolvers");
        Self { session: engine.session(Envelope::default()), outcomes: outcomes() }
    }

    /// As [`Mailproof::verdict`].
    ///
    /// # Panics
    /// When SPF, the signature or DMARC does not pass.
    #[must_use]
    pub fn verdict(&mut self, message: &[u8]) -> &str {
        self.session.take_whole(message, envelope());
        while let Progress::NeedsAnswers { .. } = self.session.poll() {
            while let Some(question) = self.session.next_question() {
                let known = self.outcomes.iter().find(|(asked, _)| *asked == question);
                let outcome = known.map_or(Outcome::NxDomain, |(_, outcome)| outcome.clone());
                self.session.learn(&question, Answer::new(outcome, Some(TTL_SECONDS)));
            }
        }
        let verdict = self.session.verdict().expect("what is done has a verdict");
        check(verdict);
        &verdict.authentication_results
    }
}

impl Default for Cold {
    fn default() -> Self {
        Self::new()
    }
}

/// Sessions that take turns, as a worker thread serves its connections: each pushes a chunk, then the next one does.
pub struct Together {
    sessions: Vec<Session>,
}

impl Together {
    /// So many sessions of one engine.
    #[must_use]
    pub fn new(count: usize) -> Self {
        let engine = warm_engine();
        Self { sessions: (0..count).map(|_| engine.session(Envelope::default())).collect() }
    }

    /// One message in every session; gives how many octets of Authentication-Results were written.
    ///
    /// # Panics
    /// When SPF, a signature or DMARC does not pass.
    #[must_use]
    pub fn verdicts(&mut self, message: &[u8]) -> usize {
        for session in &mut self.sessions {
            session.restart(envelope());
        }
        for chunk in message.chunks(CHUNK_BYTES) {
            for session in &mut self.sessions {
                session.push(chunk);
            }
        }
        let finish = |session: &mut Session| {
            let verdict = session.finish();
            check(verdict);
            verdict.authentication_results.len()
        };
        self.sessions.iter_mut().map(finish).sum()
    }
}

fn warm_engine() -> Engine {
    let engine = Engine::builder().authserv_id(RECEIVER).offline().build().expect("an engine without resolvers");
    for (question, outcome) in outcomes() {
        engine.remember(&question, &Answer::new(outcome, Some(TTL_SECONDS)));
    }
    engine
}

/// What a message with all signatures asks, with the answers.
fn outcomes() -> Vec<(Question, Outcome)> {
    let zone = Zone::from_yaml(&zone_text()).expect("a zone");
    let engine = Engine::builder().zone(zone).build().expect("an engine over a zone");
    let mut session = engine.session(envelope());
    session.take_whole(&signed(Kind::Text, 1, 2), envelope());
    check(session.finish());
    let outcome = |answer: Option<&Answer>| answer.map_or(Outcome::NxDomain, |answer| answer.outcome().clone());
    session.transcript().iter().map(|(question, answer)| (question.clone(), outcome(answer))).collect()
}

fn envelope() -> Envelope {
    Envelope::new(CLIENT, HELO, MAIL_FROM)
}

fn check(verdict: &Verdict) {
    assert_eq!(verdict.spf.result, SpfResult::Pass);
    assert!(verdict.dkim.iter().all(|signature| signature.result == DkimResult::Pass), "{:?}", verdict.dkim);
    assert!(!verdict.dkim.is_empty());
    assert_eq!(verdict.dmarc.result, DmarcResult::Pass);
}

/// Longer than any benchmark.
const TTL_SECONDS: u32 = 3600;
/// What a mail server hands over at a time.
const CHUNK_BYTES: usize = 64 << 10;
