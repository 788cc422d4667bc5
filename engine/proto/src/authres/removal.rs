//! A header block without the fields that claim to be ours, for programs that hold a message whole.
//!
//! Cost: beside [`forged`], one look at each octet and a copy of the block.

use std::ops::Range;

use super::{AuthservId, forged};
use crate::message::HeaderIndex;

/// The header block without what [`forged`] finds in it (RFC 8601 section 5), the rest as it is. A field of that name that
/// begins behind a bare CR or LF goes as well, since the next host may see a field there.
#[must_use]
pub fn without_forged(header: &[u8], authserv_ids: &[AuthservId]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(header.len());
    let mut from = 0;
    for gone in forged_ranges(header, authserv_ids) {
        kept.extend_from_slice(header.get(from..gone.start).unwrap_or_default());
        from = from.max(gone.end);
    }
    kept.extend_from_slice(header.get(from..).unwrap_or_default());
    kept
}

/// Where in a header block the fields are that have to go, with their line ends, from top to bottom.
fn forged_ranges(header: &[u8], ours: &[AuthservId]) -> Vec<Range<usize>> {
    let mut index = HeaderIndex::new();
    let headers = index.scan(header);
    let forged = forged(headers, ours);
    let fields = forged.filter_map(|it| headers.field(it.position)).map(|field| {
        // A field is a part of the block.
        let start = field.raw.as_ptr().addr() - header.as_ptr().addr();
        start..header.len().min(start + field.raw.len() + b"\r\n".len())
    });
    let mut ranges: Vec<_> = fields.chain(hidden_ranges(header)).collect();
    ranges.sort_by_key(|range| range.start);
    ranges
}

/// Where in a header block fields of results hide behind a CR or LF that ends no line by RFC 5322 section 2.1, and does for
/// careless readers: from there to the next line end of any kind that is no folding.
fn hidden_ranges(header: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let at = |position: usize| header.get(position).copied();
    let is_bare = move |position: &usize| match at(*position) {
        Some(b'\r') => at(position + 1) != Some(b'\n'),
        Some(b'\n') => position.checked_sub(1).and_then(at) != Some(b'\r'),
        _ => false,
    };
    let bare = (0..header.len()).filter(is_bare);
    bare.filter(|position| begins_results(header.get(position + 1..).unwrap_or_default()))
        .map(|position| position..lenient_end(header, position + 1))
}

fn begins_results(octets: &[u8]) -> bool {
    const NAME: &[u8] = b"Authentication-Results";
    let Some((name, rest)) = octets.split_at_checked(NAME.len()) else { return false };
    let colon = rest.iter().find(|octet| !matches!(octet, b' ' | b'\t'));
    name.eq_ignore_ascii_case(NAME) && colon == Some(&b':')
}

/// Where the field that begins at `start` ends for a reader that takes CR, LF and CRLF alike.
fn lenient_end(header: &[u8], start: usize) -> usize {
    let mut from = start;
    while let Some(rest) = header.get(from..)
        && let Some(found) = rest.iter().position(|octet| matches!(octet, b'\r' | b'\n'))
    {
        let line_end = from + found;
        from = line_end + if rest.get(found..).unwrap_or_default().starts_with(b"\r\n") { 2 } else { 1 };
        if !matches!(header.get(from), Some(b' ' | b'\t')) {
            return line_end;
        }
    }
    header.len()
}
