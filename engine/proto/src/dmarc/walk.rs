//! The DNS tree walk (RFC 9989 section 4.10) and the Organizational Domain it finds (section 4.10.2).

use super::record::{Psd, Published, Record};
use crate::dns::{Answer, Answers, Failure, Name, Outcome, Question, RecordType};
use crate::limits::DMARC_WALK_QUERIES_MAX;

/// A finished walk: what is needed of the records it met. Nothing here is on the heap.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    start: Name,
    /// The record met last, at the name with the fewest labels.
    last: Option<Found>,
    /// The record met before that.
    before_last: Option<Found>,
    /// A name held several records, which were discarded.
    pub(super) met_several: bool,
}

/// A name with exactly one record.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) name: Name,
    pub(super) answer: Answer,
}

impl Found {
    pub(super) fn record(&self) -> Option<&Record> {
        self.answer.dmarc().record()
    }

    fn psd(&self) -> Psd {
        self.record().map_or(Psd::Unspecified, |record| record.psd)
    }
}

/// What stands at `_dmarc` below one name.
pub(super) enum Level {
    /// One record, which the answer holds.
    One(Answer),
    Several,
    None,
}

impl Walk {
    /// Walks from `start` to the root or to a record with `psd=y` or `psd=n`. `None` while an answer is missing; a
    /// question that failed ends the walk, for what it hides could be the record that decides.
    pub(super) fn run(start: &Name, answers: &mut Answers<'_>) -> Option<Result<Self, Failure>> {
        let mut walk = Self { start: *start, last: None, before_last: None, met_several: false };
        for name in steps(start) {
            match look(&name, answers)? {
                Err(failure) => return Some(Err(failure)),
                Ok(Level::None) => {}
                Ok(Level::Several) => walk.met_several = true,
                Ok(Level::One(answer)) => {
                    let found = Found { name, answer };
                    let ends = found.psd() != Psd::Unspecified;
                    walk.before_last = walk.last.replace(found);
                    if ends {
                        break;
                    }
                }
            }
        }
        Some(Ok(walk))
    }

    /// RFC 9989 section 4.10.2, rules 1 to 3.
    pub(super) fn organizational_domain(&self) -> Name {
        match &self.last {
            None => self.start,
            Some(last) if last.psd() == Psd::Yes && last.name != self.start => {
                self.start.suffix(last.name.label_count() + 1)
            }
            Some(last) => last.name,
        }
    }

    /// The record that applies to the start of the walk (section 4.10.1), when the start itself has none: that of the
    /// Organizational Domain, else that of the Public Suffix Domain.
    pub(super) fn policy_record(&self) -> Option<&Found> {
        let organizational = self.organizational_domain();
        let found = || self.last.iter().chain(&self.before_last);
        found().find(|it| it.name == organizational).or_else(|| found().find(|it| it.psd() == Psd::Yes))
    }
}

/// The names of a walk: the start, then its parents, of at most 7 labels.
fn steps(start: &Name) -> impl Iterator<Item = Name> + use<> {
    let start = *start;
    let above = start.label_count().saturating_sub(1).min(DMARC_WALK_QUERIES_MAX - 1);
    std::iter::once(start).chain((1..=above).rev().map(move |labels| start.suffix(labels)))
}

/// Asks for the record below one name.
pub(super) fn look(name: &Name, answers: &mut Answers<'_>) -> Option<Result<Level, Failure>> {
    let Some(question) = question(name) else {
        // No record can stand at a name that DNS can not hold.
        return Some(Ok(Level::None));
    };
    let answer = answers.ask(&question)?;
    if let Outcome::Failed(failure) = answer.outcome() {
        return Some(Err(*failure));
    }
    Some(Ok(match answer.dmarc() {
        Published::None => Level::None,
        Published::Several => Level::Several,
        Published::One(_) => Level::One(answer),
    }))
}

/// Asks every question a walk could need, without waiting.
pub(super) fn ask_ahead(start: &Name, answers: &mut Answers<'_>) {
    for question in steps(start).filter_map(|name| question(&name)) {
        let _ = answers.ask(&question);
    }
}

/// The question for the record of a name; `None` when the name would be too long.
pub(super) fn question(name: &Name) -> Option<Question> {
    name.prepend("_dmarc").ok().map(|name| Question::new(name, RecordType::Txt))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn at_most_eight_names() {
        for (labels, expected) in [(1, 1), (2, 2), (7, 7), (8, 8), (9, 8), (13, 8), (120, 8)] {
            let start = Name::parse(format!("{}x", "a.".repeat(labels - 1))).unwrap();
            let names: Vec<Name> = steps(&start).collect();
            assert_eq!(names.len(), expected, "{labels} labels");
            assert_eq!(names[0], start);
            assert!(names.iter().skip(1).all(|name| name.label_count() < 8));
            assert_eq!(names.last().unwrap().label_count(), 1);
        }
    }
}
