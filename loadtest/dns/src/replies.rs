//! Replies without a server, for those who simulate the network themselves.

use mailproof::zone::Zone;
use mailproof_proto::dns::Question;
use mailproof_proto::dns::wire::Query;
use mailproof_testkit::random::Random;

use crate::answer::{Answering, damage, fitted, impostor, wrong};
use crate::message::Asked;
use crate::plan::{Fault, Stage, Transport};

/// What a server says that knows a zone, and what faults make of it.
#[derive(Debug)]
pub struct Replies {
    answering: Answering,
    ttl_seconds: u32,
}

impl Replies {
    /// Every record lives for `ttl_seconds`, and so does the absence of one.
    #[must_use]
    pub fn new(zone: Zone, ttl_seconds: u32) -> Self {
        Self { answering: Answering::new(zone, Some(ttl_seconds)), ttl_seconds }
    }

    /// What a query asks; `None` for what is none.
    #[must_use]
    pub fn question(query: &[u8]) -> Option<Question> {
        Query::read(query).map(|query| query.question)
    }

    /// The reply with a fault of the stages `Answer` or `Octets`; others change nothing here. `None` for what is no query.
    #[must_use]
    pub fn reply(&self, query: &[u8], by: Transport, fault: Option<Fault>, random: &mut Random) -> Option<Vec<u8>> {
        let asked = Asked::read(query).ok()?;
        let mut right = self.answering.right(&asked)?;
        right.limit_times(self.ttl_seconds);
        let Some(fault) = fault else { return Some(fitted(&right, &asked, by)) };
        let mut octets = match fault.stage() {
            Stage::Answer => wrong(fault, &right, &asked, by, random),
            _ => fitted(&right, &asked, by),
        };
        if fault.stage() == Stage::Octets {
            damage(fault, &mut octets, random);
        }
        Some(octets)
    }

    /// A reply with the ID of a query that answers another question: that everybody may send, and that every address is the
    /// forger's. `None` for what is no query.
    #[must_use]
    pub fn to_another_question(&self, query: &[u8]) -> Option<Vec<u8>> {
        let asked = Asked::read(query).ok()?;
        let mut reply = self.answering.right(&asked)?;
        impostor(&mut reply, &asked, self.ttl_seconds);
        Some(reply.write())
    }
}
