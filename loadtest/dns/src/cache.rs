//! Right replies by question, encoded once: a query that meets no fault costs a look-up and a copy.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mailproof_proto::dns::Question;

use crate::answer::{Answering, fitted};
use crate::message::{Asked, HEADER_BYTES};
use crate::plan::Transport;
use crate::statistics::Questions;

/// What one thread has answered.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    entries: HashMap<Box<[u8]>, Entry>,
}

/// The replies to one question in one form: with OPT record or without.
#[derive(Debug)]
pub(crate) struct Entry {
    counter: Arc<AtomicU64>,
    pub(crate) question: Option<Question>,
    /// `None` where the zone says `TIMEOUT`.
    whole: Option<Box<[u8]>>,
}

/// Entries kept; at this number all of them go, and those still asked for come back.
const ENTRIES_MAX: usize = 1 << 18;
/// Question of the longest name, first octet of the flags, presence of the OPT record.
const KEY_BYTES_MAX: usize = 255 + 4 + 2;

impl Cache {
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
    }

    /// The entry of a query, made when there is none; `None` only for names over the limits.
    pub(crate) fn entry(&mut self, asked: &Asked<'_>, answering: &Answering, questions: &Questions) -> Option<&Entry> {
        let mut room = [0; KEY_BYTES_MAX];
        let len = asked.question.len();
        let key = room.get_mut(..len + 2)?;
        let (question, rest) = key.split_at_mut_checked(len)?;
        question.copy_from_slice(asked.question);
        question.make_ascii_lowercase();
        let flags = asked.octets.get(2).copied().unwrap_or(0);
        rest.copy_from_slice(&[flags, u8::from(asked.edns_payload_bytes.is_some())]);
        let key: &[u8] = key;
        // Twice looked up where it is there, because the borrow checker refuses the early return.
        if !self.entries.contains_key(key) {
            if self.entries.len() >= ENTRIES_MAX {
                self.entries.clear();
            }
            self.entries.insert(key.into(), Entry::new(asked, answering, questions));
        }
        self.entries.get(key)
    }
}

impl Entry {
    fn new(asked: &Asked<'_>, answering: &Answering, questions: &Questions) -> Self {
        let question = asked.query().map(|query| query.question);
        let counter = questions.counter(question.as_ref());
        let whole = answering.right(asked).map(|reply| reply.write().into());
        Self { counter, question, whole }
    }

    /// How often the question came, this time included.
    pub(crate) fn count(&self) -> u64 {
        self.counter.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Whether there is a reply.
    pub(crate) fn is_silent(&self) -> bool {
        self.whole.is_none()
    }

    /// Appends the reply, with ID and question as they came.
    pub(crate) fn write(&self, asked: &Asked<'_>, answering: &Answering, by: Transport, out: &mut Vec<u8>) {
        let Some(whole) = &self.whole else { return };
        if by == Transport::Udp && whole.len() > asked.room_bytes() {
            out.extend(answering.right(asked).map(|reply| fitted(&reply, asked, by)).unwrap_or_default());
            return;
        }
        let start = out.len();
        out.extend_from_slice(whole);
        let Some(reply) = out.get_mut(start..) else { return };
        if let (Some(to), Some(id)) = (reply.first_chunk_mut::<2>(), asked.octets.first_chunk()) {
            *to = *id;
        }
        if let Some(to) = reply.get_mut(HEADER_BYTES..HEADER_BYTES + asked.question.len()) {
            to.copy_from_slice(asked.question);
        }
    }
}
