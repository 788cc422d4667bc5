//! The Received-SPF field (RFC 7208 section 9.1 with erratum 5436): read leniently, written strictly.

use std::fmt;

use super::{Check, Identity, SpfOutcome, SpfResult};
use crate::limits::HEADER_FIELD_BYTES_MAX;

/// The body of a Received-SPF field.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ReceivedSpf {
    /// The result.
    pub result: SpfResult,
    /// The comment behind the result, parentheses and quoting taken off.
    pub comment: Option<String>,
    /// Keys in lower case with their values, quoting taken off.
    pub pairs: Vec<(String, String)>,
}

/// Why a text is no Received-SPF body.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceivedSpfError {
    /// The first word is none of the seven.
    #[error("no SPF result word")]
    NoResult,
    /// Longer than a header field that is read.
    #[error("a field that is too long")]
    TooLong,
}

impl ReceivedSpf {
    /// Pairs that are kept; the RFC defines seven keys.
    pub const PAIRS_MAX: usize = 32;
    /// Octets of a value that are written.
    pub const VALUE_BYTES_MAX: usize = 400;

    /// What to say of an outcome.
    #[must_use]
    pub fn new(identity: Identity, check: &Check<'_>, outcome: &SpfOutcome) -> Self {
        let sender = match (identity, check.mail_from) {
            (Identity::MailFrom, address) if !address.is_empty() => address,
            _ => check.helo,
        };
        let ip = check.ip.to_canonical();
        let comment = match outcome.result {
            SpfResult::Pass => format!("domain of {sender} designates {ip} as permitted sender"),
            SpfResult::Fail => format!("domain of {sender} does not designate {ip} as permitted sender"),
            SpfResult::SoftFail => format!("domain of {sender} does not favour {ip} as a sender"),
            SpfResult::Neutral => format!("domain of {sender} says nothing about {ip}"),
            SpfResult::None => format!("domain of {sender} has no SPF policy"),
            SpfResult::TempError => format!("DNS error while checking the domain of {sender}"),
            SpfResult::PermError => format!("unusable SPF policy of the domain of {sender}"),
        };
        let comment = if check.receiver.is_empty() { comment } else { format!("{}: {comment}", check.receiver) };
        let mut pairs: Vec<(String, String)> = Vec::with_capacity(7);
        let mut pair = |key: &str, value: String| pairs.push((key.to_owned(), value));
        pair("client-ip", ip.to_string());
        pair("envelope-from", check.mail_from.to_owned());
        pair("helo", check.helo.to_owned());
        if !check.receiver.is_empty() {
            pair("receiver", check.receiver.to_owned());
        }
        pair("identity", identity.word().to_owned());
        match (&outcome.mechanism, outcome.result) {
            (Some(term), _) => pair("mechanism", term.as_str().to_owned()),
            // Section 9.1: what stands for "no mechanism matched".
            (None, SpfResult::Neutral) => pair("mechanism", "default".to_owned()),
            (None, _) => {}
        }
        if let Some(problem) = &outcome.problem {
            pair("problem", problem.word().to_owned());
        }
        Self { result: outcome.result, comment: Some(comment), pairs }
    }

    /// Reads the body of a field. Anything between pairs that makes no sense is skipped; a comment may stand anywhere;
    /// a value that is not quoted reaches to the next space, semicolon or comment, whatever octets it holds.
    ///
    /// # Errors
    /// [`ReceivedSpfError`] when there is no result to read.
    pub fn parse(text: &str) -> Result<Self, ReceivedSpfError> {
        if text.len() > HEADER_FIELD_BYTES_MAX {
            return Err(ReceivedSpfError::TooLong);
        }
        let mut cursor = Cursor { rest: text };
        let mut comment = None;
        cursor.skip_blank(&mut comment);
        comment = None;
        let word = cursor.take_while(|it| it.is_ascii_alphabetic());
        let result = SpfResult::from_word(word).ok_or(ReceivedSpfError::NoResult)?;
        if !cursor.rest.is_empty() && !cursor.rest.starts_with(|it: char| it == '(' || it == ';' || is_blank(it)) {
            return Err(ReceivedSpfError::NoResult);
        }
        cursor.skip_blank(&mut comment);
        let mut pairs = Vec::new();
        let mut ignored = Some(String::new());
        while !cursor.rest.is_empty() && pairs.len() < Self::PAIRS_MAX {
            cursor.skip_blank(&mut ignored);
            let key = cursor.take_while(|it| it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.'));
            cursor.skip_blank(&mut ignored);
            if cursor.take("=") {
                cursor.skip_blank(&mut ignored);
                let value = cursor.value();
                if !key.is_empty() {
                    pairs.push((key.to_ascii_lowercase(), value));
                }
            } else if key.is_empty() {
                cursor.skip_one();
            }
        }
        Ok(Self { result, comment, pairs })
    }

    /// The value of a key, the first when it occurs several times.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&str> {
        self.pairs.iter().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value.as_str())
    }
}

/// The body as it is sent, folded between pairs; every value is quoted unless it is a dot-atom, and no control
/// character is ever written.
impl fmt::Display for ReceivedSpf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.result.word())?;
        if let Some(comment) = &self.comment {
            f.write_str(" (")?;
            write_escaped(f, comment, &['(', ')', '\\'])?;
            f.write_str(")")?;
        }
        for (index, (key, value)) in self.pairs.iter().enumerate() {
            let key_is_plain = |it: char| it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.');
            if key.is_empty() || !key.chars().all(key_is_plain) {
                continue;
            }
            f.write_str(if index == 0 { "\r\n\t" } else { ";\r\n\t" })?;
            write!(f, "{key}=")?;
            if is_dot_atom(value) && value.len() <= Self::VALUE_BYTES_MAX {
                f.write_str(value)?;
            } else {
                f.write_str("\"")?;
                write_escaped(f, value, &['"', '\\'])?;
                f.write_str("\"")?;
            }
        }
        Ok(())
    }
}

/// Writes what fits of a text, a backslash before each of `special`, control characters left out.
fn write_escaped(f: &mut fmt::Formatter<'_>, text: &str, special: &[char]) -> fmt::Result {
    let mut room = ReceivedSpf::VALUE_BYTES_MAX;
    for character in text.chars().filter(|it| !it.is_control()) {
        room = match room.checked_sub(character.len_utf8()) {
            Some(room) => room,
            None => break,
        };
        if special.contains(&character) {
            f.write_str("\\")?;
        }
        write!(f, "{character}")?;
    }
    Ok(())
}

/// RFC 5322 section 3.2.3.
fn is_dot_atom(text: &str) -> bool {
    let is_atext = |octet: u8| octet.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&octet);
    text.split('.').all(|atom| !atom.is_empty() && atom.bytes().all(is_atext))
}

fn is_blank(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\r' | '\n')
}

/// Reads forward only.
struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, text: &str) -> bool {
        let after = self.rest.strip_prefix(text);
        self.rest = after.unwrap_or(self.rest);
        after.is_some()
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|it| !wanted(it)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at_checked(end).unwrap_or((self.rest, ""));
        self.rest = rest;
        taken
    }

    fn skip_one(&mut self) {
        let mut characters = self.rest.chars();
        characters.next();
        self.rest = characters.as_str();
    }

    /// Skips space and comments; keeps the first comment when `comment` holds none.
    fn skip_blank(&mut self, comment: &mut Option<String>) {
        loop {
            self.take_while(is_blank);
            if !self.take("(") {
                return;
            }
            let text = self.comment_text();
            if comment.is_none() {
                *comment = Some(text);
            }
        }
    }

    /// The text of a comment up to its closing parenthesis or the end of the field.
    fn comment_text(&mut self) -> String {
        let mut text = String::new();
        let mut open = 1_usize;
        let mut characters = self.rest.chars();
        while let Some(character) = characters.next() {
            match character {
                '(' => open += 1,
                ')' => open -= 1,
                '\\' => {
                    text.extend(characters.next());
                    continue;
                }
                _ => {}
            }
            if open == 0 {
                break;
            }
            text.push(character);
        }
        self.rest = characters.as_str();
        text
    }

    fn value(&mut self) -> String {
        if !self.take("\"") {
            return self.take_while(|it| !is_blank(it) && !matches!(it, ';' | '(')).to_owned();
        }
        let mut value = String::new();
        let mut characters = self.rest.chars();
        while let Some(character) = characters.next() {
            match character {
                '"' => break,
                '\\' => value.extend(characters.next()),
                // Folding inside a quoted string (RFC 5322 section 3.2.4).
                '\r' | '\n' => {}
                _ => value.push(character),
            }
        }
        self.rest = characters.as_str();
        value
    }
}
