//! Verifies whole messages over a zone, in every order of answers and cut in several ways.

use std::sync::Arc;

use mailproof::zone::Zone;
use mailproof_proto::dns::{NoSource, Question, Transcript};
use mailproof_proto::time::Timestamp;
use mailproof_proto::verdict::Verdict;
use mailproof_proto::verification::{Envelope, Options, Progress, Verification};

use crate::drive::{ORDERS, Order};

/// A message with everything its verdict depends on.
#[derive(Clone, Debug)]
pub struct Case {
    /// The receiver's choices.
    pub options: Options,
    /// What SMTP said.
    pub envelope: Envelope,
    /// The message, with CRLF line ends.
    pub message: Vec<u8>,
    /// The moment it is judged.
    pub now: Timestamp,
}

/// Octets a chunk where a message is cut; one that cuts everything, one that cuts at odd places, one that does not cut.
const CHUNK_BYTES: [usize; 3] = [usize::MAX, 1, 997];
/// Above this size a message is not cut into single octets.
const SINGLE_OCTETS_BYTES_MAX: usize = 64 * 1024;

impl Case {
    /// The verdict, with the questions asked. An error names the ways of running that disagree.
    ///
    /// # Errors
    /// When the order of answers or the cut of the message changed the verdict, or it was not reached.
    pub fn verify_every_way(&self, zone: &Zone) -> Result<(Verdict, Transcript), String> {
        let first = self.verify(zone, Order::AtHand, usize::MAX)?;
        for order in ORDERS {
            for chunk in CHUNK_BYTES {
                if chunk == 1 && self.message.len() > SINGLE_OCTETS_BYTES_MAX {
                    continue;
                }
                let other = self.verify(zone, order, chunk)?;
                if other.0 != first.0 {
                    let (one, two) = (first.0.to_json("x"), other.0.to_json("x"));
                    return Err(format!("{order:?} in chunks of {chunk} changes the verdict:\n{one}\n{two}"));
                }
            }
        }
        Ok(first)
    }

    /// The verdict in one order of answers, the message cut into chunks.
    ///
    /// # Errors
    /// When the verification stops without a verdict: a defect.
    pub fn verify(&self, zone: &Zone, order: Order, chunk: usize) -> Result<(Verdict, Transcript), String> {
        let mut verification = Verification::new(Arc::new(self.options.clone()), self.envelope.clone(), self.now);
        let mut open = Vec::new();
        for piece in self.message.chunks(chunk) {
            verification.push(piece);
            if order != Order::AtHand {
                self.step(&mut verification, zone, order, &mut open)?;
            }
        }
        verification.end();
        while self.step(&mut verification, zone, order, &mut open)? != Progress::Done {}
        let transcript = verification.transcript().clone();
        let verdict = verification.into_verdict().ok_or("done without a verdict")?;
        Ok((verdict, transcript))
    }

    fn step(
        &self,
        verification: &mut Verification,
        mut zone: &Zone,
        order: Order,
        open: &mut Vec<Question>,
    ) -> Result<Progress, String> {
        let progress = if order == Order::AtHand {
            verification.poll(self.now, &mut zone)
        } else {
            verification.poll(self.now, &mut NoSource)
        };
        while let Some(question) = verification.next_question() {
            open.push(question);
        }
        if !matches!(progress, Progress::NeedsAnswers { .. }) {
            return Ok(progress);
        }
        let next = if order == Order::NewestFirst { open.pop() } else { (!open.is_empty()).then(|| open.remove(0)) };
        let question = next.ok_or("waits for answers without a question")?;
        verification.learn(&question, zone.lookup(&question));
        Ok(progress)
    }
}

/// Turns bare LF into CRLF: for messages that were kept with the line ends of Unix.
#[must_use]
pub fn with_crlf(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len() + octets.len() / 32);
    let mut previous = 0;
    for &octet in octets {
        if octet == b'\n' && previous != b'\r' {
            out.push(b'\r');
        }
        out.push(octet);
        previous = octet;
    }
    out
}
