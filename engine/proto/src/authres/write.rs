//! Writing one field value, by appending to a string.
//!
//! Cost: one pass over each value to see that it needs no quotes, one copy, no heap beyond the growth of the string.

use std::fmt::{Display, Write as _};

use super::grammar::{is_address, is_keyword_octet, is_token};
use super::{AuthenticationResults, Resinfo, Version};
use crate::limits::{AUTHRES_KEYWORD_BYTES_MAX, AUTHRES_VALUE_BYTES_MAX};

/// Where a value is broken into lines.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Layout {
    /// Each result on its own line, and no line longer than need be: `;\r\n\tspf=pass`.
    #[default]
    Folded,
    /// As [`Folded`](Self::Folded) with LF alone, as milters hand fields over.
    FoldedLf,
    /// All on one line: `; spf=pass`.
    OneLine,
}

/// Builds the value of one Authentication-Results field.
///
/// What does not fit the grammar as it is gets quoted or escaped; control characters are dropped, but a tab becomes a
/// space, so no input can begin a new line, a new field or a new result. Call [`finish`](Self::finish) at the end.
///
/// ```
/// use mailproof_proto::authres::{Layout, Writer};
///
/// let mut value = String::new();
/// let mut writer = Writer::new(&mut value, "mx.example.net", Layout::OneLine);
/// writer.result("spf", "pass").property("smtp", "mailfrom", "example.org");
/// writer.result("dkim", "fail").reason("body hash mismatch").property("header", "b", "a/b=");
/// writer.finish();
/// assert_eq!(
///     value,
///     "mx.example.net; spf=pass smtp.mailfrom=example.org; dkim=fail reason=\"body hash mismatch\" header.b=\"a/b=\""
/// );
/// ```
#[derive(Debug)]
#[must_use = "a value without `finish` may lack its results"]
pub struct Writer<'o> {
    out: &'o mut String,
    layout: Layout,
    /// Where the current line begins in `out`.
    line_start: usize,
    /// Columns in front of `line_start`.
    indent: usize,
    last: Last,
}

/// What was written last.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Last {
    AuthservId,
    Result,
    Property,
}

impl<'o> Writer<'o> {
    /// Begins a value with the authserv-id.
    pub fn new(out: &'o mut String, authserv_id: &str, layout: Layout) -> Self {
        let line_start = out.len();
        let indent = "Authentication-Results: ".len();
        let mut writer = Self { out, layout, line_start, indent, last: Last::AuthservId };
        writer.push_value(authserv_id, is_token(authserv_id.as_bytes()));
        writer
    }

    /// Writes a whole value, as [`parse`](super::parse) reads it.
    pub fn write(out: &'o mut String, value: &AuthenticationResults<'_>, layout: Layout) {
        let mut writer = Self::new(out, &value.authserv_id, layout);
        if let Version::Number(number) = value.version {
            writer.push_part(" ", |writer| writer.push_number(number.into()));
        }
        for resinfo in &value.results {
            writer.resinfo(resinfo);
        }
        if let (true, Some(comment)) = (value.results.is_empty(), &value.comment) {
            writer.push_none();
            writer.comment(comment);
        }
        writer.finish();
    }

    /// Begins the next result.
    pub fn result(&mut self, method: &str, result: &str) -> &mut Self {
        self.begin_result(method, None, result)
    }

    /// Says why the result is what it is. Only in front of the properties: behind them the grammar has no room for a
    /// reason, and it becomes a comment.
    pub fn reason(&mut self, reason: &str) -> &mut Self {
        if self.last == Last::Result {
            self.push_part(" reason=", |writer| {
                writer.push_value(reason, is_token(reason.as_bytes()));
            });
            return self;
        }
        self.comment(reason)
    }

    /// Adds a comment on what was written last.
    pub fn comment(&mut self, comment: &str) -> &mut Self {
        self.push_part(" ", |writer| {
            writer.out.push('(');
            writer.push_escaped(comment, |character| matches!(character, '(' | ')' | '\\'));
            writer.out.push(')');
        });
        self
    }

    /// Adds `ptype.name=value`, or `name=value` for an empty ptype; leaves it out when the value is longer than
    /// [`AUTHRES_VALUE_BYTES_MAX`] or one of the words longer than [`AUTHRES_KEYWORD_BYTES_MAX`].
    pub fn property(&mut self, ptype: &str, name: &str, value: &str) -> &mut Self {
        self.push_property(ptype, name, |writer| writer.push_value(value, is_plain(value)));
        self
    }

    /// Adds `ptype.name=value` for a value that knows how to write itself.
    pub fn property_display(&mut self, ptype: &str, name: &str, value: &dyn Display) -> &mut Self {
        self.push_property(ptype, name, |writer| {
            let start = writer.out.len();
            // Writing to a string fails only when the value itself refuses; what it wrote then stands.
            let _ = write!(writer.out, "{value}");
            let text = writer.out.get(start..).unwrap_or_default();
            let fits = text.len() <= AUTHRES_VALUE_BYTES_MAX;
            if is_plain(text) {
                return fits;
            }
            if !text.contains(|character: char| character.is_control() || matches!(character, '"' | '\\')) {
                writer.out.insert(start, '"');
                writer.out.push('"');
                return fits;
            }
            let text = writer.out.split_off(start);
            writer.push_value(&text, false)
        });
        self
    }

    /// Adds `ptype.name=number`.
    pub fn property_number(&mut self, ptype: &str, name: &str, number: u64) -> &mut Self {
        self.push_property(ptype, name, |writer| {
            writer.push_number(number);
            true
        });
        self
    }

    /// Adds a whole result; leaves it out when its method or its result is longer than [`AUTHRES_KEYWORD_BYTES_MAX`],
    /// because half a word is another word.
    pub fn resinfo(&mut self, resinfo: &Resinfo<'_>) -> &mut Self {
        if resinfo.method.len().max(resinfo.result.len()) > AUTHRES_KEYWORD_BYTES_MAX {
            return self;
        }
        self.begin_result(&resinfo.method, resinfo.method_version, &resinfo.result);
        if let Some(comment) = &resinfo.comment {
            self.comment(comment);
        }
        if let Some(reason) = &resinfo.reason {
            self.reason(reason);
        }
        for property in &resinfo.properties {
            self.property(&property.ptype, &property.name, &property.value);
            if let Some(comment) = &property.comment {
                self.comment(comment);
            }
        }
        self
    }

    /// Ends the value: with `none` when there was no result (RFC 8601 section 2.2).
    pub fn finish(mut self) {
        if self.last == Last::AuthservId {
            self.push_none();
        }
    }

    fn begin_result(&mut self, method: &str, version: Option<u32>, result: &str) -> &mut Self {
        self.begin_segment();
        self.push_keyword(method);
        if let Some(version) = version {
            self.out.push('/');
            self.push_number(version.into());
        }
        self.out.push('=');
        self.push_keyword(result);
        self
    }

    fn push_none(&mut self) {
        self.begin_segment();
        self.out.push_str("none");
    }

    fn begin_segment(&mut self) {
        self.out.push(';');
        match self.layout.fold() {
            Some(fold) => {
                self.line_start = self.out.len() + fold.len();
                self.indent = TAB_COLUMNS;
                self.out.push_str(fold);
            }
            None => self.out.push(' '),
        }
        self.last = Last::Result;
    }

    /// Writes a property, or nothing when `value` answers that it did not write the whole value.
    fn push_property(&mut self, ptype: &str, name: &str, value: impl FnOnce(&mut Self) -> bool) {
        if ptype.len().max(name.len()) > AUTHRES_KEYWORD_BYTES_MAX {
            return;
        }
        let start = self.out.len();
        self.push_part(" ", |writer| {
            if !ptype.is_empty() {
                writer.push_keyword(ptype);
                writer.out.push('.');
            }
            writer.push_keyword(name);
            writer.out.push('=');
            if value(writer) {
                writer.last = Last::Property;
            } else {
                writer.out.truncate(start);
            }
        });
    }

    /// Writes one part after `lead`, which begins with a space; folds at that space when the line becomes too long.
    fn push_part(&mut self, lead: &str, part: impl FnOnce(&mut Self)) {
        let start = self.out.len();
        self.out.push_str(lead);
        part(self);
        let Some(fold) = self.layout.fold() else { return };
        let columns = self.indent + self.out.len().saturating_sub(self.line_start);
        if columns > LINE_COLUMNS && self.out.len() > start {
            self.out.replace_range(start..=start, fold);
            self.line_start = start + fold.len();
            self.indent = TAB_COLUMNS;
        }
    }

    /// Writes a token or a quoted string; false when it was cut off.
    fn push_value(&mut self, text: &str, plain: bool) -> bool {
        if plain && text.len() <= AUTHRES_VALUE_BYTES_MAX {
            self.out.push_str(text);
            return true;
        }
        self.out.push('"');
        let whole = self.push_escaped(text, |character| matches!(character, '"' | '\\'));
        self.out.push('"');
        whole
    }

    /// Writes text inside quotes or parentheses; false when it was cut off in front of what would pass the limit.
    fn push_escaped(&mut self, text: &str, escape: impl Fn(char) -> bool) -> bool {
        let end = self.out.len() + AUTHRES_VALUE_BYTES_MAX;
        for character in text.chars() {
            let character = if character == '\t' { ' ' } else { character };
            if character.is_control() {
                continue;
            }
            if self.out.len() + character.len_utf8() + usize::from(escape(character)) > end {
                return false;
            }
            if escape(character) {
                self.out.push('\\');
            }
            self.out.push(character);
        }
        true
    }

    /// Writes a method, result, ptype or property; these come from this program, so what is no Keyword is dropped.
    fn push_keyword(&mut self, word: &str) {
        if !word.is_empty() && word.len() <= AUTHRES_KEYWORD_BYTES_MAX && word.bytes().all(is_keyword_octet) {
            self.out.push_str(word);
            return;
        }
        let start = self.out.len();
        let kept = word.chars().filter(|it| u8::try_from(*it).is_ok_and(is_keyword_octet));
        self.out.extend(kept.take(AUTHRES_KEYWORD_BYTES_MAX));
        if self.out.len() == start {
            self.out.push('x');
        }
    }

    fn push_number(&mut self, number: u64) {
        self.out.push_str(itoa::Buffer::new().format(number));
    }
}

impl Layout {
    const fn fold(self) -> Option<&'static str> {
        match self {
            Self::Folded => Some("\r\n\t"),
            Self::FoldedLf => Some("\n\t"),
            Self::OneLine => None,
        }
    }
}

/// True for values that stand without quotes: tokens, and addresses made of nothing but tokens around the `@`, since
/// not every reader takes the other characters of a local part.
fn is_plain(value: &str) -> bool {
    let octets = value.as_bytes();
    is_token(octets) || (octets.contains(&b'@') && is_address(octets) && !value.contains(['/', '=', '?']))
}

/// RFC 5322 section 2.1.1: what a line should not pass.
const LINE_COLUMNS: usize = 78;
/// What a tab at the beginning of a line counts for.
const TAB_COLUMNS: usize = 8;
