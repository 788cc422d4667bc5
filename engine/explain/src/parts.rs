//! Header block and body of a message in memory.

use memchr::memmem;

/// The header block with the CRLF of its last field, and the body. A message without an empty line is all header.
#[must_use]
pub fn split(message: &[u8]) -> (&[u8], &[u8]) {
    if let Some(body) = message.strip_prefix(b"\r\n") {
        return (&[], body);
    }
    match memmem::find(message, b"\r\n\r\n").and_then(|at| message.split_at_checked(at + 2)) {
        Some((header, rest)) => (header, rest.get(2..).unwrap_or_default()),
        None => (message, &[]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_empty_line_divides() {
        assert_eq!(split(b"A: b\r\n\r\nc\r\n\r\n"), (&b"A: b\r\n"[..], &b"c\r\n\r\n"[..]));
        assert_eq!(split(b"\r\nA: b\r\n\r\n"), (&b""[..], &b"A: b\r\n\r\n"[..]));
        assert_eq!(split(b"A: b\r\n"), (&b"A: b\r\n"[..], &b""[..]));
        assert_eq!(split(b""), (&b""[..], &b""[..]));
    }
}
