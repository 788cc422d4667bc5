//! One name of a zone: what its file says of it, and the answers made from that.

use std::collections::HashSet;
use std::hash::Hash;
use std::net::{Ipv4Addr, Ipv6Addr};

use mailproof_proto::dns::{Answer, Failure, Mx, Name, Outcome, RecordSet, RecordType, Txt};
use mailproof_proto::limits::TXT_ANSWER_BYTES_MAX;

use super::{NO_DATA, TTL_SECONDS_DEFAULT};

/// A name with an answer ready for every type.
#[derive(Clone, Debug)]
pub(super) struct Node {
    answers: Vec<(RecordType, Answer)>,
    alias: Option<Box<Alias>>,
    /// For the types that are not in `answers`, where there is no alias.
    otherwise: Answer,
    standing: Standing,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    Listed,
    /// Listed only to say that it does not exist.
    Denied,
    /// Not listed itself; there are names below it.
    EmptyNonTerminal,
}

/// A CNAME record.
#[derive(Clone, Debug)]
pub(super) struct Alias {
    pub(super) target: Name,
    pub(super) ttl_seconds: u32,
}

/// What a name has for one type.
pub(super) enum Found<'a> {
    Answer(&'a Answer),
    Alias(&'a Alias),
}

/// What a file says of one name, collected.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) a: Collected<Ipv4Addr>,
    pub(super) aaaa: Collected<Ipv6Addr>,
    pub(super) mx: Collected<Mx>,
    pub(super) ptr: Collected<Name>,
    pub(super) txt: Collected<Txt>,
    /// Records of the type SPF (99). They stand for TXT records where the file says nothing of TXT, a convention of
    /// the SPF test suite.
    pub(super) spf_type: Vec<Txt>,
    /// The file says that there is no TXT record, so records of the type SPF stand for none.
    pub(super) denies_txt: bool,
    pub(super) alias: Option<Alias>,
    /// What every type gets of which the file says nothing.
    pub(super) otherwise: Option<Word>,
}

/// What a file says of one type at one name.
#[derive(Debug)]
pub(super) struct Collected<T> {
    pub(super) records: Vec<T>,
    pub(super) ttl_seconds: Option<u32>,
    /// Stands in place of the records.
    pub(super) word: Option<Word>,
}

/// Answers that stand in a zone file as a word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Word {
    Timeout,
    ServFail,
    NxDomain,
    NoData,
}

impl Node {
    pub(super) fn empty_non_terminal() -> Self {
        let standing = Standing::EmptyNonTerminal;
        Self { answers: Vec::new(), alias: None, otherwise: NO_DATA.clone(), standing }
    }

    pub(super) fn find(&self, kind: RecordType) -> Found<'_> {
        match (self.answers.iter().find(|(it, _)| *it == kind), &self.alias) {
            (Some((_, answer)), _) => Found::Answer(answer),
            (None, Some(alias)) => Found::Alias(alias),
            (None, None) => Found::Answer(&self.otherwise),
        }
    }

    pub(super) fn exists(&self) -> bool {
        self.standing != Standing::Denied
    }

    pub(super) fn is_listed(&self) -> bool {
        self.standing != Standing::EmptyNonTerminal
    }
}

impl Draft {
    pub(super) fn finish(mut self) -> Node {
        if self.txt.is_empty() && !self.denies_txt {
            self.txt.records = std::mem::take(&mut self.spf_type);
        }
        let standing = if self.is_denial() { Standing::Denied } else { Standing::Listed };
        self.mx.records.sort_by_key(|mx| mx.preference);
        let text_bytes: usize = self.txt.records.iter().map(|txt| txt.0.len()).sum();
        let txt = if text_bytes > TXT_ANSWER_BYTES_MAX {
            Some(Answer::failed(Failure::OverLimit))
        } else {
            // Not made a set: a file that lists a record twice means two.
            self.txt.answer(RecordSet::Txt)
        };
        let answers = [
            (RecordType::A, self.a.set().answer(RecordSet::A)),
            (RecordType::Aaaa, self.aaaa.set().answer(RecordSet::Aaaa)),
            (RecordType::Mx, self.mx.set().answer(RecordSet::Mx)),
            (RecordType::Ptr, self.ptr.set().answer(RecordSet::Ptr)),
            (RecordType::Txt, txt),
        ];
        Node {
            answers: answers.into_iter().filter_map(|(kind, answer)| Some((kind, answer?))).collect(),
            alias: self.alias.map(Box::new),
            otherwise: self.otherwise.map_or_else(|| NO_DATA.clone(), Word::answer),
            standing,
        }
    }

    /// The word for one type, or for every type.
    pub(super) fn set_word(&mut self, kind: RecordType, word: Word) {
        let slot = match kind {
            RecordType::A => &mut self.a.word,
            RecordType::Aaaa => &mut self.aaaa.word,
            RecordType::Mx => &mut self.mx.word,
            RecordType::Ptr => &mut self.ptr.word,
            RecordType::Txt => &mut self.txt.word,
            _ => return,
        };
        *slot = Some(word);
    }

    pub(super) fn set_ttl(&mut self, kind: RecordType, ttl_seconds: u32) {
        match kind {
            RecordType::A => self.a.lower_ttl(ttl_seconds),
            RecordType::Aaaa => self.aaaa.lower_ttl(ttl_seconds),
            RecordType::Mx => self.mx.lower_ttl(ttl_seconds),
            RecordType::Ptr => self.ptr.lower_ttl(ttl_seconds),
            RecordType::Txt => self.txt.lower_ttl(ttl_seconds),
            _ => {}
        }
    }

    /// True while no record has been seen.
    pub(super) fn has_no_records(&self) -> bool {
        self.a.records.is_empty()
            && self.aaaa.records.is_empty()
            && self.mx.records.is_empty()
            && self.ptr.records.is_empty()
            && self.txt.records.is_empty()
            && self.spf_type.is_empty()
            && self.alias.is_none()
    }

    fn is_denial(&self) -> bool {
        let words = [self.a.word, self.aaaa.word, self.mx.word, self.ptr.word, self.txt.word];
        self.otherwise == Some(Word::NxDomain)
            && self.has_no_records()
            && words.into_iter().flatten().all(|word| word == Word::NxDomain)
    }
}

impl<T> Collected<T> {
    pub(super) fn push(&mut self, record: T, ttl_seconds: u32) {
        self.records.push(record);
        self.lower_ttl(ttl_seconds);
    }

    /// Differing times to live: the lowest counts (RFC 2181 section 5.2).
    pub(super) fn lower_ttl(&mut self, ttl_seconds: u32) {
        self.ttl_seconds = Some(self.ttl_seconds.unwrap_or(u32::MAX).min(ttl_seconds));
    }

    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.word.is_none()
    }

    fn answer(self, of_kind: impl FnOnce(Box<[T]>) -> RecordSet) -> Option<Answer> {
        if let Some(word) = self.word {
            return Some(word.answer());
        }
        let ttl_seconds = self.ttl_seconds.unwrap_or(TTL_SECONDS_DEFAULT);
        let records = of_kind((!self.records.is_empty()).then(|| self.records.into())?);
        Some(Answer::new(Outcome::Records(records), Some(ttl_seconds)))
    }
}

impl<T: Clone + Eq + Hash> Collected<T> {
    /// Without duplicates (RFC 2181 section 5), in the order listed.
    fn set(mut self) -> Self {
        let mut seen = HashSet::new();
        self.records.retain(|record| seen.insert(record.clone()));
        self
    }
}

impl<T> Default for Collected<T> {
    fn default() -> Self {
        Self { records: Vec::new(), ttl_seconds: None, word: None }
    }
}

impl Word {
    pub(super) fn read(word: &str) -> Option<Self> {
        Some(match word.to_ascii_uppercase().as_str() {
            "TIMEOUT" => Self::Timeout,
            "SERVFAIL" => Self::ServFail,
            "NXDOMAIN" => Self::NxDomain,
            "NODATA" => Self::NoData,
            _ => return None,
        })
    }

    fn answer(self) -> Answer {
        match self {
            Self::Timeout => Answer::failed(Failure::TimedOut),
            Self::ServFail => Answer::failed(Failure::ServFail),
            Self::NxDomain => Answer::new(Outcome::NxDomain, None),
            Self::NoData => NO_DATA.clone(),
        }
    }
}
