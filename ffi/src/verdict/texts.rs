//! The texts of a verdict for C, one behind the other.

use std::ffi::c_char;
use std::fmt::{Display, Write};
use std::ptr;

use mailproof::Verdict;
use mailproof::proto::dkim::SignatureOutcome;
use mailproof::proto::dmarc::DmarcOutcome;
use mailproof::proto::message::address::Author;
use mailproof::proto::spf::SpfOutcome;

/// Every text of a verdict.
#[derive(Debug)]
pub(super) struct Texts {
    pub(super) room: Room,
    pub(super) ip: Place,
    pub(super) spf: OutcomeTexts,
    pub(super) helo: OutcomeTexts,
    pub(super) dkim: Vec<SignatureTexts>,
    pub(super) arc_word: Place,
    pub(super) arc_problem: (Place, Place),
    /// Domain and selector.
    pub(super) sealers: Vec<(Place, Place)>,
    pub(super) dmarc: DmarcTexts,
    pub(super) authors: Vec<Place>,
    pub(super) author_problem: (Place, Place),
}

/// Texts one behind the other, each with a NUL behind it. It begins with an octet that stands for "no text".
#[derive(Debug)]
pub(super) struct Room(String);

/// Where a text begins; the default is no text.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place(u32);

#[derive(Debug)]
pub(super) struct OutcomeTexts {
    pub(super) word: Place,
    pub(super) domain: Place,
    pub(super) problem: (Place, Place),
    pub(super) explanation: Place,
    pub(super) mechanism: Place,
}

#[derive(Debug)]
pub(super) struct SignatureTexts {
    pub(super) word: Place,
    pub(super) problem: (Place, Place),
    pub(super) domain: Place,
    pub(super) selector: Place,
    pub(super) identity: Place,
    pub(super) algorithm: Place,
    pub(super) b: Place,
}

#[derive(Debug)]
pub(super) struct DmarcTexts {
    pub(super) word: Place,
    pub(super) from_domain: Place,
    pub(super) organizational_domain: Place,
    pub(super) policy_domain: Place,
    pub(super) problem: (Place, Place),
}

/// Room for the texts of an ordinary verdict.
const TEXTS_BYTES: usize = 1024;

impl Texts {
    pub(super) fn of(verdict: &Verdict) -> Self {
        let mut writer = Writer { octets: String::with_capacity(TEXTS_BYTES) };
        writer.octets.push('\0');
        let arc = &verdict.arc;
        let (authors, author_problem) = writer.author(&verdict.author);
        Self {
            ip: writer.maybe(verdict.ip),
            spf: writer.outcome(&verdict.spf),
            helo: writer.outcome(&verdict.helo),
            dkim: verdict.dkim.iter().map(|it| writer.signature(it)).collect(),
            arc_word: writer.add(arc.result.word()),
            arc_problem: writer.problem(arc.problem.as_ref().map(|it| it.word()), arc.problem.as_ref()),
            sealers: arc.sealers.iter().map(|(domain, selector)| (writer.add(domain), writer.add(selector))).collect(),
            dmarc: writer.dmarc(&verdict.dmarc),
            authors,
            author_problem,
            room: Room(writer.octets),
        }
    }
}

impl OutcomeTexts {
    /// The texts of one result of SPF, and where they stand.
    pub(super) fn of(found: &SpfOutcome) -> (Room, Self) {
        let mut writer = Writer { octets: String::from("\0") };
        let of = writer.outcome(found);
        (Room(writer.octets), of)
    }
}

impl Room {
    /// The text of a place; NULL for none.
    pub(super) fn at(&self, place: Place) -> *const c_char {
        match self.0.as_bytes().get(place.0 as usize..) {
            Some(text) if place.0 > 0 => text.as_ptr().cast(),
            _ => ptr::null(),
        }
    }
}

struct Writer {
    octets: String,
}

impl Writer {
    fn add(&mut self, text: impl Display) -> Place {
        let start = self.octets.len();
        // Writing to a String can not fail.
        let _ = write!(self.octets, "{text}");
        if self.octets.as_bytes()[start..].contains(&0) {
            let tail = self.octets.split_off(start);
            self.octets.push_str(&tail.replace('\0', "\u{fffd}"));
        }
        self.octets.push('\0');
        // The header of a message bounds what there is to say, far below this.
        Place(u32::try_from(start).unwrap_or_default())
    }

    fn maybe(&mut self, text: Option<impl Display>) -> Place {
        text.map_or_else(Place::default, |text| self.add(text))
    }

    /// The word of a problem and its sentence.
    fn problem(&mut self, word: Option<&str>, sentence: Option<impl Display>) -> (Place, Place) {
        (self.maybe(word), self.maybe(sentence))
    }

    fn outcome(&mut self, found: &SpfOutcome) -> OutcomeTexts {
        OutcomeTexts {
            word: self.add(found.result.word()),
            domain: self.maybe(found.domain.as_ref()),
            problem: self.problem(found.problem.as_ref().map(|it| it.word()), found.problem.as_ref()),
            explanation: self.maybe(found.explanation.as_ref()),
            mechanism: self.maybe(found.mechanism.as_ref()),
        }
    }

    fn signature(&mut self, found: &SignatureOutcome) -> SignatureTexts {
        SignatureTexts {
            word: self.add(found.result.word()),
            problem: self.problem(found.problem.as_ref().map(|it| it.word()), found.problem.as_ref()),
            domain: self.maybe(found.domain.as_ref()),
            selector: self.maybe(found.selector.as_ref()),
            identity: self.maybe(found.identity.as_ref()),
            algorithm: self.maybe(found.algorithm.as_ref()),
            b: self.maybe(found.b.as_ref()),
        }
    }

    fn dmarc(&mut self, found: &DmarcOutcome) -> DmarcTexts {
        DmarcTexts {
            word: self.add(found.result.word()),
            from_domain: self.maybe(found.from_domain.as_ref()),
            organizational_domain: self.maybe(found.organizational_domain.as_ref()),
            policy_domain: self.maybe(found.policy_domain.as_ref()),
            problem: self.problem(found.problem.as_ref().map(|it| it.word()), found.problem.as_ref()),
        }
    }

    fn author(&mut self, author: &Author) -> (Vec<Place>, (Place, Place)) {
        match author {
            Author::One(domain) => (vec![self.add(domain)], Default::default()),
            Author::Several(domains) => (domains.iter().map(|it| self.add(it)).collect(), Default::default()),
            Author::Unusable(problem) => (Vec::new(), self.problem(Some(problem.word()), Some(problem))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    #[test]
    fn texts_are_apart_and_hold_no_nul() {
        let mut writer = Writer { octets: "\0".to_owned() };
        let places = [writer.add("one"), writer.add("a\0b"), writer.add(""), writer.maybe(None::<&str>)];
        let verdict =
            mailproof::Engine::builder().offline().build().unwrap().verify(b"", mailproof::Envelope::default());
        let texts = Texts { room: Room(writer.octets), ..Texts::of(&verdict) };
        // SAFETY: each text ends with NUL and belongs to `texts`.
        let read =
            places.map(|it| (!texts.room.at(it).is_null()).then(|| unsafe { CStr::from_ptr(texts.room.at(it)) }));
        assert_eq!(read, [Some(c"one"), Some(c"a\u{fffd}b"), Some(c""), None]);
    }
}
