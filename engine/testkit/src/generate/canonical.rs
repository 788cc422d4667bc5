//! The canonical forms of RFC 6376 section 3.4, written as plainly as the text says: what generated signatures are
//! made with, so that they owe nothing to the routines under test.

/// A header field, as a generated signature sees it: with its CRLF, folding included.
#[must_use]
pub fn field(raw: &[u8], relaxed: bool) -> Vec<u8> {
    if !relaxed {
        return raw.to_vec();
    }
    let colon = raw.iter().position(|&octet| octet == b':').unwrap_or(raw.len());
    let (name, value) = raw.split_at(colon);
    let mut out: Vec<u8> = name.to_ascii_lowercase();
    while out.last().is_some_and(|&octet| is_wsp(octet)) {
        out.pop();
    }
    out.push(b':');
    let mut unfolded = Vec::new();
    let mut rest = value.get(1..).unwrap_or_default();
    while let Some((&octet, after)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(b"\r\n") {
            rest = after;
        } else {
            unfolded.push(octet);
            rest = after;
        }
    }
    let mut value = squeezed(&unfolded);
    if value.first() == Some(&b' ') {
        value.remove(0);
    }
    if value.last() == Some(&b' ') {
        value.pop();
    }
    out.extend(value);
    out.extend(b"\r\n");
    out
}

/// A body.
#[must_use]
pub fn body(octets: &[u8], relaxed: bool) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = lines(octets)
        .into_iter()
        .map(|line| {
            if !relaxed {
                return line.to_vec();
            }
            let mut line = squeezed(line);
            if line.last() == Some(&b' ') {
                line.pop();
            }
            line
        })
        .collect();
    while lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    let mut out = Vec::new();
    for line in &lines {
        out.extend(line);
        out.extend(b"\r\n");
    }
    if out.is_empty() && !relaxed {
        out.extend(b"\r\n");
    }
    out
}

/// Lines end at CRLF only; what follows the last CRLF is a line too.
fn lines(octets: &[u8]) -> Vec<&[u8]> {
    let mut lines = Vec::new();
    let mut start = 0;
    let mut at = 0;
    while at + 1 < octets.len() {
        if &octets[at..at + 2] == b"\r\n" {
            lines.push(&octets[start..at]);
            at += 2;
            start = at;
        } else {
            at += 1;
        }
    }
    lines.push(&octets[start..]);
    lines
}

fn squeezed(octets: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(octets.len());
    for &octet in octets {
        if !is_wsp(octet) {
            out.push(octet);
        } else if out.last() != Some(&b' ') {
            out.push(b' ');
        }
    }
    out
}

fn is_wsp(octet: u8) -> bool {
    matches!(octet, b' ' | b'\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_the_standard_comes_out() {
        // RFC 6376 section 3.4.5.
        assert_eq!(field(b"A: X\r\n", true), b"a:X\r\n");
        assert_eq!(field(b"B : Y\t\r\n\tZ  \r\n", true), b"b:Y Z\r\n");
        assert_eq!(body(b" C \r\nD \t E\r\n\r\n\r\n", true), b" C\r\nD E\r\n");
        assert_eq!(body(b" C \r\nD \t E\r\n\r\n\r\n", false), b" C \r\nD \t E\r\n");
        assert_eq!(body(b"", true), b"");
        assert_eq!(body(b"", false), b"\r\n");
        assert_eq!(body(b"a", true), b"a\r\n");
        assert_eq!(body(b"\r\n \r\n", true), b"");
    }
}
