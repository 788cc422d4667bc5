//! One line an event: `key=value` pairs or a JSON object, never anything of a message's content.
//!
//! Values come from clients, so every one is escaped: a line has no octet that begins another line, and a value no
//! octet that begins another pair.

use std::fmt::{self, Display, Write as _};

use serde::Deserialize;

/// The form of a line.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// `event=message queue-id=4Z1 action=accept`
    #[default]
    KeyValue,
    /// `{"event":"message","queue-id":"4Z1","action":"accept"}`
    Json,
}

/// Where lines go: standard error, the journal, a file. Must not block; a sink that can not keep up drops and counts.
pub trait Sink: Send + Sync {
    /// Takes one line without its end.
    fn write_line(&self, line: &str);
}

/// Builds one line.
///
/// ```
/// use mailproof_milter::log::{Format, Line};
///
/// let mut line = Line::new(Format::KeyValue, "message");
/// line.pair("queue-id", "4Z1").pair("reasons", "dmarc-fail policy-none").number("ms", 12);
/// assert_eq!(line.finish(), r#"event=message queue-id=4Z1 reasons="dmarc-fail policy-none" ms=12"#);
/// ```
#[derive(Debug)]
pub struct Line {
    format: Format,
    text: String,
}

impl Line {
    /// Begins a line with the name of its event.
    #[must_use]
    pub fn new(format: Format, event: &str) -> Self {
        let mut line = Self { format, text: String::with_capacity(LINE_BYTES) };
        line.pair("event", event);
        line
    }

    /// Adds a pair; keys are words of this program.
    pub fn pair(&mut self, key: &str, value: &str) -> &mut Self {
        self.key(key);
        match self.format {
            Format::KeyValue if is_plain(value) => self.text.push_str(value),
            Format::KeyValue | Format::Json => push_quoted(&mut self.text, value),
        }
        self
    }

    /// Adds a pair whose value displays itself.
    pub fn display(&mut self, key: &str, value: &dyn Display) -> &mut Self {
        self.pair(key, &value.to_string())
    }

    /// Adds a pair if there is a value.
    pub fn optional(&mut self, key: &str, value: Option<&dyn Display>) -> &mut Self {
        match value {
            Some(value) => self.display(key, value),
            None => self,
        }
    }

    /// Adds a number.
    pub fn number(&mut self, key: &str, value: u64) -> &mut Self {
        self.key(key);
        push(&mut self.text, format_args!("{value}"));
        self
    }

    /// The line, without a line end.
    #[must_use]
    pub fn finish(&mut self) -> String {
        if self.format == Format::Json {
            self.text.push('}');
        }
        std::mem::take(&mut self.text)
    }

    fn key(&mut self, key: &str) {
        let first = self.text.is_empty();
        match self.format {
            Format::KeyValue => push(&mut self.text, format_args!("{}{key}=", if first { "" } else { " " })),
            Format::Json => push(&mut self.text, format_args!("{}\"{key}\":", if first { '{' } else { ',' })),
        }
    }
}

/// True for a value that stands without quotes.
fn is_plain(value: &str) -> bool {
    let plain = |octet: u8| octet.is_ascii_graphic() && !matches!(octet, b'"' | b'\\' | b'=');
    !value.is_empty() && value.len() <= VALUE_BYTES_MAX && value.bytes().all(plain)
}

/// Writes a string of JSON, which `key=value` lines use too. What is not ASCII is escaped: a terminal or a log reader
/// may take some of it for commands or line ends.
fn push_quoted(out: &mut String, value: &str) {
    let end = value.char_indices().map(|(at, _)| at).take_while(|at| *at <= VALUE_BYTES_MAX).last().unwrap_or(0);
    let kept = if value.len() <= VALUE_BYTES_MAX { value } else { value.get(..end).unwrap_or_default() };
    out.push('"');
    for character in kept.chars() {
        match character {
            '"' | '\\' => push(out, format_args!("\\{character}")),
            ' ' => out.push(' '),
            _ if character.is_ascii_graphic() => out.push(character),
            _ => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    push(out, format_args!("\\u{unit:04x}"));
                }
            }
        }
    }
    out.push('"');
}

/// Writing to a string does not fail.
fn push(out: &mut String, arguments: fmt::Arguments<'_>) {
    let _ = out.write_fmt(arguments);
}

/// Room for an ordinary line.
const LINE_BYTES: usize = 384;
/// Octets of a value that are written.
const VALUE_BYTES_MAX: usize = 1024;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(format: Format, value: &str) -> String {
        Line::new(format, "message").pair("helo", value).number("ms", 3).finish()
    }

    #[test]
    fn values_can_not_begin_a_pair_or_a_line() {
        let hostile = "a b\r\nevent=x \"\\\u{1b}[2J\u{2028}";
        let written = r#"event=message helo="a b\u000d\u000aevent=x \"\\\u001b[2J\u2028" ms=3"#;
        assert_eq!(line(Format::KeyValue, hostile), written);
        assert_eq!(line(Format::KeyValue, ""), r#"event=message helo="" ms=3"#);
        assert_eq!(line(Format::KeyValue, "mx.example"), "event=message helo=mx.example ms=3");
    }

    #[test]
    fn values_have_a_limit_on_both_sides() {
        let of = |length| line(Format::KeyValue, &"x".repeat(length)).len();
        assert_eq!(of(VALUE_BYTES_MAX + 1), of(VALUE_BYTES_MAX) + 2, "cut to the limit, with quotes");
        assert_eq!(of(VALUE_BYTES_MAX + 1), of(3 * VALUE_BYTES_MAX));
    }

    proptest! {
        #[test]
        fn json_reads_back(value in any::<String>()) {
            let written = line(Format::Json, &value);
            prop_assert!(written.is_ascii());
            let read: serde_json::Value = serde_json::from_str(&written).unwrap();
            let expected = serde_json::json!({"event": "message", "helo": value, "ms": 3});
            prop_assert_eq!(read, expected);
        }
    }
}
