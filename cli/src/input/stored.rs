//! What storing does to a message, and how much of that is undone.

use mailproof_proto::limits::HEADER_BLOCK_BYTES_MAX;
use mailproof_proto::message::{FieldKind, HeaderIndex};

/// Gives a message the line ends it had when it was sent.
///
/// Mail stored on Unix has LF line ends. When not one line of the header block ends in CRLF, every LF of the message
/// that has no CR in front gets one. When at least one does, nothing is changed, since the signatures of a message cover
/// its octets as they are.
#[must_use]
pub fn crlf(octets: Vec<u8>) -> Vec<u8> {
    let lines = octets.split_inclusive(|octet| *octet == b'\n');
    let mut header = lines.take_while(|line| *line != b"\n");
    if header.any(|line| line.ends_with(b"\r\n")) || !octets.contains(&b'\n') {
        return octets;
    }
    let bare = octets.iter().filter(|octet| **octet == b'\n').count();
    let mut converted = Vec::with_capacity(octets.len() + bare);
    for line in octets.split_inclusive(|octet| *octet == b'\n') {
        match line {
            [start @ .., b'\n'] if !start.ends_with(b"\r") => {
                converted.extend_from_slice(start);
                converted.extend_from_slice(b"\r\n");
            }
            _ => converted.extend_from_slice(line),
        }
    }
    converted
}

/// MAIL FROM as the delivering host noted it in the topmost `Return-Path` (RFC 5321 section 4.4), without angle brackets
/// and source route; empty for the null reverse-path.
///
/// A fallback for stored mail whose envelope is lost: nothing proves who wrote the field, so it is for the caller to
/// decide whether the store can be trusted.
#[must_use]
pub fn return_path(message: &[u8]) -> Option<String> {
    let block = message.get(..message.len().min(HEADER_BLOCK_BYTES_MAX)).unwrap_or_default();
    let end = block.windows(4).position(|end| end == b"\r\n\r\n").map_or(block.len(), |at| at + 2);
    let mut index = HeaderIndex::new();
    let headers = index.scan(block.get(..end).unwrap_or_default());
    let field = headers.of_kind(FieldKind::ReturnPath).next()?;
    let value = std::str::from_utf8(field.value).ok()?.trim();
    let path = match (value.find('<'), value.rfind('>')) {
        (Some(open), Some(close)) => value.get(open + 1..close)?.trim(),
        (None, None) if !value.is_empty() => value,
        _ => return None,
    };
    let mailbox = match path.strip_prefix('@') {
        Some(route) => route.split_once(':')?.1,
        None => path,
    };
    (!mailbox.contains(char::is_control)).then(|| mailbox.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_headers_without_any_crlf_are_converted() {
        let converted = |octets: &[u8]| String::from_utf8(crlf(octets.to_vec())).unwrap();
        assert_eq!(converted(b"A: b\nC: d\n\nx\r\ny\n"), "A: b\r\nC: d\r\n\r\nx\r\ny\r\n");
        assert_eq!(converted(b"A: b\nC: d\r\n\nx\n"), "A: b\nC: d\r\n\nx\n");
        assert_eq!(converted(b"A: b\n\r\nx\n"), "A: b\n\r\nx\n");
        assert_eq!(converted(b"A: b"), "A: b");
        assert_eq!(converted(b"\nx\n"), "\r\nx\r\n");
        assert_eq!(converted(b""), "");
    }

    #[test]
    fn the_topmost_return_path_is_the_envelope() {
        let of = |header: &str| return_path(format!("{header}\r\n\r\nReturn-Path: <body@example.org>\r\n").as_bytes());
        assert_eq!(
            of("Return-Path: <a@example.org>\r\nReturn-Path: <b@example.org>").as_deref(),
            Some("a@example.org")
        );
        assert_eq!(of("X: y\r\nreturn-path:\r\n <>").as_deref(), Some(""));
        assert_eq!(of("Return-Path: a@example.org").as_deref(), Some("a@example.org"));
        assert_eq!(of("Return-Path: <@a.example,@b.example:c@d.example>").as_deref(), Some("c@d.example"));
        assert_eq!(of("Return-Path: <a").as_deref(), None);
        assert_eq!(of("Return-Path: >a<").as_deref(), None);
        assert_eq!(of("Subject: x").as_deref(), None);
    }
}
