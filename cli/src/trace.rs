//! The envelope of a message that was delivered already, read from the fields its last host put on top.

use std::net::IpAddr;

use mailproof_explain::split;
use mailproof_proto::message::{FieldKind, HeaderIndex};

use crate::input::return_path;

/// What the trace fields (RFC 5321 section 4.4) say of the last hop.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Trace {
    /// The address in the topmost Received field.
    pub(crate) ip: Option<IpAddr>,
    /// The HELO name there.
    pub(crate) helo: Option<String>,
    /// The address of the topmost Return-Path field, empty for the null sender.
    pub(crate) mail_from: Option<String>,
}

/// Octets of a trace field that are looked at; hosts write a few hundred.
const FIELD_BYTES_MAX: usize = 4096;
/// Octets of a header block in which trace fields are searched; they stand on top.
const HEADER_BYTES_MAX: usize = 64 * 1024;

impl Trace {
    /// Reads the trace of a whole message with CRLF line ends. Only the topmost fields count: what stands below them
    /// came with the message.
    pub(crate) fn read(message: &[u8]) -> Self {
        let mut index = HeaderIndex::new();
        let headers = index.scan(header_block(message));
        let top = |kind| headers.of_kind(kind).next().map(|field| text(field.value));
        let trace = top(FieldKind::Received).map(|value| received(&value)).unwrap_or_default();
        Self { mail_from: return_path(message), ..trace }
    }
}

/// The octets before the empty line, as far as they are searched.
fn header_block(message: &[u8]) -> &[u8] {
    split(message.get(..HEADER_BYTES_MAX).unwrap_or(message)).0
}

fn text(value: &[u8]) -> String {
    let value = value.get(..FIELD_BYTES_MAX).unwrap_or(value);
    String::from_utf8_lossy(value).replace(['\r', '\n', '\t'], " ")
}

/// Reads `from HELO (name [IP]) ... by`. Known variations: `(name [IP] (may be forged))`, `([IP] helo=HELO)`,
/// `from [IP] (helo=HELO)`, `(HELO name) (IP)`, `[IPv6:...]`, and a bare address in parentheses.
fn received(value: &str) -> Trace {
    let mut words = Words { rest: value, depth: 0 };
    if !words.next().is_some_and(|word| word.depth == 0 && word.text.eq_ignore_ascii_case("from")) {
        return Trace::default();
    }
    let mut trace = Trace::default();
    // What stands in parentheses is the server's word, with brackets surer than without; in front of them stands the
    // client's, which counts only where there is nothing else.
    let (mut bare, mut claimed) = (None, None);
    let mut helo_is_next = false;
    for (position, word) in words.enumerate() {
        if word.depth == 0 && word.text.eq_ignore_ascii_case("by") && position > 0 {
            break;
        }
        let named = word.text.split_once('=').filter(|(key, _)| key.eq_ignore_ascii_case("helo")).map(|(_, name)| name);
        if position == 0 && word.depth == 0 {
            trace.helo = Some(word.text.to_owned());
        }
        if let Some(name) = named.or(helo_is_next.then_some(word.text)) {
            trace.helo = Some(name.to_owned());
        }
        helo_is_next =
            word.depth > 0 && (word.text.eq_ignore_ascii_case("helo") || word.text.eq_ignore_ascii_case("ehlo"));
        if word.depth > 0 {
            trace.ip = trace.ip.or_else(|| literal(word.text));
            bare = bare.or_else(|| word.text.parse().ok());
        } else {
            claimed = claimed.or_else(|| literal(word.text));
        }
    }
    trace.ip = trace.ip.or(bare).or(claimed);
    trace
}

/// An address literal (RFC 5321 section 4.1.3), with or without a port behind it.
fn literal(word: &str) -> Option<IpAddr> {
    let (inner, _) = word.strip_prefix('[')?.split_once(']')?;
    let plain = inner.get(..5).filter(|tag| tag.eq_ignore_ascii_case("IPv6:")).map_or(inner, |tag| &inner[tag.len()..]);
    plain.parse().ok()
}

/// Words between spaces and parentheses, with how deep in parentheses they stand.
struct Words<'a> {
    rest: &'a str,
    depth: usize,
}

struct Word<'a> {
    text: &'a str,
    depth: usize,
}

impl<'a> Iterator for Words<'a> {
    type Item = Word<'a>;

    fn next(&mut self) -> Option<Word<'a>> {
        loop {
            self.rest = self.rest.trim_start();
            match self.rest.chars().next()? {
                '(' => self.depth += 1,
                ')' => self.depth = self.depth.saturating_sub(1),
                // What follows is the date.
                ';' if self.depth == 0 => return None,
                _ => break,
            }
            self.rest = &self.rest[1..];
        }
        let ends = |it: char| it.is_whitespace() || matches!(it, '(' | ')') || (it == ';' && self.depth == 0);
        let (text, rest) = self.rest.split_at(self.rest.find(ends).unwrap_or(self.rest.len()));
        self.rest = rest;
        Some(Word { text, depth: self.depth })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(value: &str) -> (Option<String>, Option<String>) {
        let trace = received(value);
        (trace.ip.map(|ip| ip.to_string()), trace.helo)
    }

    fn both(ip: &str, helo: &str) -> (Option<String>, Option<String>) {
        (Some(ip.to_owned()), Some(helo.to_owned()))
    }

    #[test]
    fn forms_that_servers_write() {
        let cases = [
            ("from mx.a.example (mx.a.example [192.0.2.7])\r\n by b.example; Mon, 1 Jun", "192.0.2.7", "mx.a.example"),
            ("from a (unknown [IPv6:2001:db8::7]) by b", "2001:db8::7", "a"),
            ("from a.example (b.example [192.0.2.7] (may be forged)) by c", "192.0.2.7", "a.example"),
            ("from [192.0.2.7] (helo=a.example) by b with esmtp (Exim)", "192.0.2.7", "a.example"),
            ("from b.example ([192.0.2.7]:2525 helo=a.example) by c", "192.0.2.7", "a.example"),
            ("from unknown (HELO a.example) (192.0.2.7) by c with SMTP", "192.0.2.7", "a.example"),
            ("from a.example (192.0.2.7) by c (198.51.100.1) with Microsoft SMTP Server", "192.0.2.7", "a.example"),
            ("from [192.0.2.9] (host.example [192.0.2.7]) by c", "192.0.2.7", "[192.0.2.9]"),
        ];
        for (value, ip, helo) in cases {
            assert_eq!(of(&text(value.as_bytes())), both(ip, helo), "{value}");
        }
    }

    #[test]
    fn what_names_no_client_gives_none() {
        assert_eq!(of("by b.example (Postfix, from userid 0) id 4"), (None, None));
        assert_eq!(of(""), (None, None));
        assert_eq!(of("from a.example by b.example ([192.0.2.7])"), (None, Some("a.example".to_owned())));
        assert_eq!(of("from 192.0.2.7 by b"), (None, Some("192.0.2.7".to_owned())));
        assert_eq!(of("from a (x [999.1.1.1]) by b"), (None, Some("a".to_owned())));
    }

    #[test]
    fn only_the_topmost_fields_count() {
        let message = b"Return-Path: <a@b.example>\r\nReceived: from x (x [192.0.2.1])\r\n\tby y; date\r\n\
            Received: from z (z [192.0.2.2]) by x\r\nReturn-Path: <no@b.example>\r\n\r\nReceived: from q\r\n";
        let trace = Trace::read(message);
        assert_eq!(trace.mail_from.as_deref(), Some("a@b.example"));
        assert_eq!((trace.ip, trace.helo.as_deref()), (Some("192.0.2.1".parse().unwrap()), Some("x")));
        assert_eq!(Trace::read(b"\r\nReceived: from x ([192.0.2.1])"), Trace::default());
        assert_eq!(Trace::read(b"Return-Path: <>\r\n\r\n").mail_from.as_deref(), Some(""));
    }

    #[test]
    fn long_and_odd_fields_are_read_in_bounds() {
        let deep = format!("from a {} [192.0.2.7]", "(".repeat(100_000));
        assert_eq!(received(&text(deep.as_bytes())).ip, None);
        let _ = received("from \u{e9}(\u{e9}[\u{e9}]) helo=");
    }
}
