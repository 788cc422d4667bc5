//! What a target says about a message, read from what it adds to the header, and whether that is right.
//!
//! This reader of Authentication-Results owes nothing to the one that writes them.

use std::fmt;

use crate::corpus::{Expectation, Letter};
use crate::target::Claims;

/// A result of RFC 8601.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ResultWord {
    /// Nothing to judge.
    None,
    /// It holds.
    Pass,
    /// It does not.
    Fail,
    /// SPF's softer form of that.
    SoftFail,
    /// No statement.
    Neutral,
    /// It holds and is not wanted.
    Policy,
    /// It could not be found out for now.
    TempError,
    /// It can not be found out.
    PermError,
    /// A word that is none of these.
    Other,
}

/// What a target does with a message.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum Action {
    /// Takes it.
    #[default]
    Accept,
    /// Holds it.
    Quarantine,
    /// Refuses it for now.
    Defer,
    /// Refuses it.
    Reject,
}

/// What a target says of one message.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Findings {
    /// What it does.
    pub action: Action,
    /// SPF; the first of several is that of MAIL FROM.
    pub spf: Option<ResultWord>,
    /// DMARC.
    pub dmarc: Option<ResultWord>,
    /// ARC.
    pub arc: Option<ResultWord>,
    /// Signing domains whose signatures hold, with repetitions.
    pub dkim_passing: Vec<String>,
    /// Some signature could not be judged for now.
    pub dkim_is_temporary: bool,
    /// A chain fails because a key could not be asked for: it has no other word for that (RFC 8617 section 5.2.1).
    pub arc_is_temporary: bool,
    /// There was a word about DKIM.
    pub has_dkim: bool,
}

/// Whether that is right.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Judgement {
    /// Every claimed result is what it has to be.
    Right,
    /// Results are missing for want of an answer, and the target says so (temperror); nothing was gained by it.
    Temporary,
    /// Something else.
    Wrong,
}

impl ResultWord {
    fn read(word: &str) -> Self {
        const WORDS: [(&str, ResultWord); 10] = [
            ("pass", ResultWord::Pass),
            ("fail", ResultWord::Fail),
            ("none", ResultWord::None),
            ("softfail", ResultWord::SoftFail),
            ("neutral", ResultWord::Neutral),
            ("policy", ResultWord::Policy),
            ("temperror", ResultWord::TempError),
            ("permerror", ResultWord::PermError),
            // The name of RFC 4408, which some still write.
            ("error", ResultWord::TempError),
            // What rspamd calls a broken chain.
            ("reject", ResultWord::Fail),
        ];
        WORDS.iter().find(|(it, _)| it.eq_ignore_ascii_case(word)).map_or(Self::Other, |(_, word)| *word)
    }

    /// The word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::SoftFail => "softfail",
            Self::Neutral => "neutral",
            Self::Policy => "policy",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
            Self::Other => "other",
        }
    }
}

impl Action {
    /// The word of the verdict format.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Quarantine => "quarantine",
            Self::Defer => "defer",
            Self::Reject => "reject",
        }
    }
}

impl Findings {
    /// Takes in a header field that the target adds; fields that say nothing of results are passed over.
    pub fn learn_field(&mut self, name: &[u8], value: &[u8]) {
        if name.eq_ignore_ascii_case(b"Authentication-Results") {
            self.learn_results(&String::from_utf8_lossy(value));
        } else if name.eq_ignore_ascii_case(b"Received-SPF") && self.spf.is_none() {
            let text = String::from_utf8_lossy(value);
            let word = text.trim_start().split(|letter: char| !letter.is_ascii_alphabetic()).next().unwrap_or_default();
            self.spf = Some(ResultWord::read(word));
        }
    }

    /// The value of one Authentication-Results field (RFC 8601 section 2.2).
    fn learn_results(&mut self, value: &str) {
        let plain = without_comments(value);
        for statement in plain.split(';').skip(1) {
            let mut words = statement.split_ascii_whitespace();
            let Some((method, result)) = words.next().and_then(|word| word.split_once('=')) else { continue };
            let method = method.split('/').next().unwrap_or(method);
            let result = ResultWord::read(result);
            match method.to_ascii_lowercase().as_str() {
                "spf" => {
                    let is_helo = statement.contains("smtp.helo=") && !statement.contains("smtp.mailfrom=");
                    // A result of HELO counts where there is no other.
                    if self.spf.is_none() || !is_helo {
                        self.spf = Some(result);
                    }
                }
                "dmarc" => self.dmarc = Some(result),
                "arc" => {
                    self.arc = Some(result);
                    self.arc_is_temporary =
                        words.any(|word| ["reason=key-timeout", "reason=key-lookup-failed"].contains(&word));
                }
                "dkim" => self.learn_signature(result, words),
                _ => {}
            }
        }
    }

    fn learn_signature<'a>(&mut self, result: ResultWord, properties: impl Iterator<Item = &'a str>) {
        self.has_dkim = true;
        self.dkim_is_temporary |= result == ResultWord::TempError;
        if result == ResultWord::Pass {
            // Some name the domain, some only the identity.
            let (mut domain, mut identity) = (None, None);
            for property in properties {
                match property.split_once('=') {
                    Some(("header.d", value)) => domain = Some(value),
                    Some(("header.i", value)) => identity = value.rsplit('@').next(),
                    _ => {}
                }
            }
            let domain = domain.or(identity).unwrap_or("?").trim_matches('"');
            self.dkim_passing.push(domain.to_ascii_lowercase());
        }
    }

    /// Compares with what must be found.
    #[must_use]
    pub fn judge(&self, expected: &Expected, claims: Claims) -> Judgement {
        use ResultWord::{Fail, None as Nothing, Pass, TempError};
        let plain = [
            (claims.spf, self.spf, expected.spf),
            (claims.dmarc, self.dmarc, expected.dmarc),
            // No word about ARC says that there is no chain.
            (claims.arc, self.arc.or(Some(Nothing)), expected.arc),
        ];
        let differs = |(is_claimed, found, expected): &(bool, Option<ResultWord>, ResultWord)| {
            *is_claimed && *found != Some(*expected)
        };
        let dkim = self.judge_signatures(expected);
        let dkim = if claims.dkim { dkim } else { Judgement::Right };
        if !plain.iter().any(differs) {
            return dkim;
        }
        let is_unanswered =
            self.dkim_is_temporary || self.arc_is_temporary || [self.spf, self.dmarc].contains(&Some(TempError));
        // A chain has no word for a key that could not be asked for (RFC 8617 section 6): it fails.
        let is_broken_chain = is_unanswered && claims.arc && self.arc == Some(Fail) && expected.arc == Pass;
        let arc_apart = if is_broken_chain { &plain[..2] } else { &plain[..] };
        let is_temporary = dkim != Judgement::Wrong
            && arc_apart.iter().filter(|it| differs(it)).all(|(_, found, _)| *found == Some(TempError));
        if is_temporary { Judgement::Temporary } else { Judgement::Wrong }
    }

    /// The same domains have to pass; how a failure is called differs from program to program.
    fn judge_signatures(&self, expected: &Expected) -> Judgement {
        let is_expected = |domain: &String| expected.dkim_passing.contains(domain);
        if !self.dkim_passing.iter().all(is_expected) {
            return Judgement::Wrong;
        }
        if self.dkim_is_temporary {
            return Judgement::Temporary;
        }
        let has_all = expected.dkim_passing.iter().all(|domain| self.dkim_passing.contains(domain));
        if has_all { Judgement::Right } else { Judgement::Wrong }
    }

    /// One line for people.
    #[must_use]
    pub fn to_line(&self) -> String {
        let word = |word: Option<ResultWord>| word.map_or("-", ResultWord::word);
        format!(
            "{} spf={} dkim=[{}]{} dmarc={} arc={}",
            self.action.word(),
            word(self.spf),
            self.dkim_passing.join(" "),
            if self.dkim_is_temporary { "+temperror" } else { "" },
            word(self.dmarc),
            word(self.arc),
        )
    }
}

/// [`Expectation`] in the form that is compared.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Expected {
    spf: ResultWord,
    dmarc: ResultWord,
    arc: ResultWord,
    dkim_passing: Vec<String>,
}

impl Expected {
    /// Of one message.
    #[must_use]
    pub fn new(letter: &Letter) -> Self {
        let Expectation { spf, arc, dmarc, .. } = &letter.expectation;
        let mut dkim_passing: Vec<String> = letter.expectation.passing_domains().map(str::to_owned).collect();
        dkim_passing.dedup();
        Self { spf: ResultWord::read(spf), dmarc: ResultWord::read(dmarc), arc: ResultWord::read(arc), dkim_passing }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (spf, dmarc, arc) = (self.spf.word(), self.dmarc.word(), self.arc.word());
        write!(out, "spf={spf} dkim=[{}] dmarc={dmarc} arc={arc}", self.dkim_passing.join(" "))
    }
}

/// The text without comments, which nest, and with `;` in quoted strings made harmless.
fn without_comments(value: &str) -> String {
    let (mut plain, mut depth, mut is_quoted) = (String::with_capacity(value.len()), 0_u32, false);
    let mut letters = value.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' if depth > 0 || is_quoted => {
                letters.next();
            }
            '"' if depth == 0 => is_quoted = !is_quoted,
            '(' if !is_quoted => depth += 1,
            ')' if !is_quoted && depth > 0 => {
                depth -= 1;
                plain.push(' ');
            }
            ';' if is_quoted => plain.push(','),
            _ if depth == 0 => plain.push(letter),
            _ => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::Fate;

    fn expected(spf: &str, dkim: &[&str], dmarc: &str, arc: &str) -> Expected {
        let expectation = Expectation {
            fate: Fate::Direct,
            spf: spf.to_owned(),
            dkim: dkim.iter().map(|domain| ((*domain).to_owned(), "pass".to_owned())).collect(),
            arc: arc.to_owned(),
            dmarc: dmarc.to_owned(),
        };
        let letter = Letter {
            id: String::new(),
            octets: Vec::new(),
            client: std::net::Ipv4Addr::LOCALHOST.into(),
            helo: String::new(),
            mail_from: String::new(),
            expectation,
        };
        Expected::new(&letter)
    }

    fn found(value: &str) -> Findings {
        let mut findings = Findings::default();
        findings.learn_field(b"authentication-results", value.as_bytes());
        findings
    }

    #[test]
    fn the_fields_of_every_program_are_read() {
        let ours = found(
            " mx.example; spf=pass (a; b) smtp.mailfrom=a.example;\n\tspf=none smtp.helo=b.example;\n\tdkim=pass (2048-bit key) \
             header.d=a.example header.i=@a.example; dkim=fail header.d=b.example; dmarc=pass (p=reject) header.from=a.example; arc=none",
        );
        assert_eq!(ours.judge(&expected("pass", &["a.example"], "pass", "none"), Claims::ALL), Judgement::Right);
        let opendkim = found(
            "mx.example;\n\tdkim=pass (2048-bit key; unprotected) header.d=A.example header.i=@a.example header.b=x; dkim-atps=neutral",
        );
        let dkim = Claims { dkim: true, ..Claims::NONE };
        assert_eq!(
            opendkim.judge(&expected("pass", &["a.example", "a.example"], "pass", "none"), dkim),
            Judgement::Right
        );
        let mut policyd = Findings::default();
        policyd.learn_field(b"Received-SPF", b"Softfail (mailfrom) identity=mailfrom");
        assert_eq!(policyd.spf, Some(ResultWord::SoftFail));
        let quoted = found("mx; dkim=pass reason=\"a; dmarc=pass\" header.d=\"a.example\"");
        assert_eq!((quoted.dmarc, quoted.dkim_passing), (None, vec!["a.example".to_owned()]));
    }

    #[test]
    fn a_gain_is_wrong_and_a_missing_answer_is_temporary() {
        let wants = expected("fail", &[], "fail", "none");
        let judge = |value: &str| found(value).judge(&wants, Claims::ALL);
        assert_eq!(judge("mx; spf=fail; dkim=none; dmarc=fail; arc=none"), Judgement::Right);
        assert_eq!(judge("mx; spf=temperror; dkim=none; dmarc=temperror"), Judgement::Temporary);
        assert_eq!(judge("mx; spf=temperror; dkim=none; dmarc=pass"), Judgement::Wrong);
        assert_eq!(judge("mx; spf=fail; dkim=pass header.d=x.example; dmarc=fail"), Judgement::Wrong);
        assert_eq!(judge("mx; spf=fail"), Judgement::Wrong, "nothing about dmarc");
        let wants = expected("pass", &["a.example"], "pass", "none");
        assert_eq!(found("mx; spf=pass; dkim=temperror; dmarc=pass").judge(&wants, Claims::ALL), Judgement::Temporary);
        let chain = expected("pass", &["a.example"], "pass", "pass");
        let judge = |value: &str| found(value).judge(&chain, Claims::ALL);
        assert_eq!(judge("mx; spf=pass; dkim=temperror; dmarc=pass; arc=fail"), Judgement::Temporary);
        assert_eq!(judge("mx; spf=pass; dkim=pass header.d=a.example; dmarc=pass; arc=fail"), Judgement::Wrong);
        let of_key = "mx; spf=pass; dkim=pass header.d=a.example; arc=fail reason=key-timeout; dmarc=pass";
        assert_eq!(judge(of_key), Judgement::Temporary);
        assert_eq!(judge(&of_key.replace("header.d=a", "header.d=b")), Judgement::Wrong);
        assert_eq!(judge("mx; spf=temperror; dkim=none; dmarc=fail; arc=fail"), Judgement::Wrong);
        assert_eq!(found("mx; spf=pass; dkim=fail; dmarc=pass").judge(&wants, Claims::ALL), Judgement::Wrong);
        assert_eq!(found("mx; spf=pass; dkim=temperror; dmarc=fail").judge(&wants, Claims::ALL), Judgement::Wrong);
    }
}
