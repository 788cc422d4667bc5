//! The answers a session used last, in front of the cache.
//!
//! A cache that many threads share pays for it on every hit: hashing against floods, an epoch, the order of use (0.1 to
//! 0.15 µs). The questions of one mail stream repeat, and a verdict asks about nine of them; here a repeated one costs a
//! comparison. A slot holds one answer; two questions that meet in a slot take turns, which costs time and nothing else.

use std::time::Duration;

use mailproof_proto::dns::{Answer, Question};
use mailproof_proto::time::Timestamp;

/// A small table of answers, for one session.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    slots: Vec<Option<Slot>>,
    /// The state of the cache that the answers were read in.
    generation: u64,
}

#[derive(Debug)]
struct Slot {
    question: Question,
    answer: Answer,
    expires: Timestamp,
}

/// Slots; with 300 octets each they stay well within what a message in flight may hold.
const SLOTS: usize = 64;
/// The longest that an answer is used without a look into the cache, so that what was removed there is soon gone here.
const TIME_MAX: Duration = Duration::from_secs(1);

impl Recent {
    /// The answer to a question, if it was kept a moment ago and the cache has not been changed by hand since.
    pub(crate) fn get(&self, question: &Question, generation: u64, now: Timestamp) -> Option<Answer> {
        let slot = self.slots.get(slot_of(question))?.as_ref()?;
        let is_current = self.generation == generation && now < slot.expires && slot.question == *question;
        is_current.then(|| slot.answer.clone())
    }

    /// Keeps an answer that the cache keeps until `expires`.
    pub(crate) fn put(
        &mut self,
        question: &Question,
        answer: &Answer,
        expires: Timestamp,
        generation: u64,
        now: Timestamp,
    ) {
        if self.generation != generation || self.slots.is_empty() {
            self.slots.clear();
            self.slots.resize_with(SLOTS, || None);
            self.generation = generation;
        }
        let expires = expires.min(now + TIME_MAX);
        if let Some(slot) = self.slots.get_mut(slot_of(question)) {
            *slot = Some(Slot { question: question.clone(), answer: answer.clone(), expires });
        }
    }
}

/// Where a question belongs. Nobody gains by making questions meet: they only miss.
fn slot_of(question: &Question) -> usize {
    let mut hash = u64::from(question.kind.code());
    for part in question.name.wire().chunks(8) {
        let mut word = [0; 8];
        word[..part.len()].copy_from_slice(part);
        hash = (hash.rotate_left(5) ^ u64::from_le_bytes(word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    (hash >> 58) as usize
}

#[cfg(test)]
mod tests {
    use mailproof_proto::dns::{Failure, Name, RecordType};

    use super::*;

    #[test]
    fn an_answer_is_used_for_a_moment_and_not_across_a_change() {
        let now = Timestamp::from_seconds(1000);
        let question = Question::new(Name::parse("a.example").unwrap(), RecordType::Txt);
        let other = Question::new(Name::parse("a.example").unwrap(), RecordType::A);
        let answer = Answer::failed(Failure::TimedOut);
        let mut recent = Recent::default();
        assert!(recent.get(&question, 0, now).is_none());
        recent.put(&question, &answer, now + Duration::from_secs(60), 0, now);
        assert!(recent.get(&question, 0, now).is_some());
        assert!(recent.get(&other, 0, now).is_none());
        assert!(recent.get(&question, 0, now + TIME_MAX).is_none());
        assert!(recent.get(&question, 1, now).is_none());
        recent.put(&question, &answer, now + Duration::from_millis(1), 1, now);
        assert!(recent.get(&question, 1, now).is_some());
        assert!(recent.get(&question, 1, now + Duration::from_millis(1)).is_none());
    }
}
