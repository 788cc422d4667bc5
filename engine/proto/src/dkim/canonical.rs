//! Header canonicalisation (RFC 6376 section 3.4) and the selection of signed fields (section 5.4.2).
//!
//! Cost for a message: one pass over the field names to sort them, then for every signature a binary search for each
//! name in `h=` and one pass over the octets of the fields it covers. Nothing is names times fields.

use std::cmp::Ordering;
use std::fmt;
use std::ops::Range;

use aws_lc_rs::digest::{Context, Digest, SHA256, digest};

use crate::message::{Field, Headers};

/// One of the two forms of RFC 6376 section 3.4.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum Canonicalization {
    /// The octets as they came.
    #[default]
    Simple,
    /// Case of field names and amount of white space do not count.
    Relaxed,
}

impl Canonicalization {
    /// The word of `c=`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Simple => "simple",
            Self::Relaxed => "relaxed",
        }
    }

    pub(crate) fn read(word: &str) -> Option<Self> {
        match word {
            "simple" => Some(Self::Simple),
            "relaxed" => Some(Self::Relaxed),
            _ => None,
        }
    }
}

/// A header field in canonical form, without its final CRLF: what `explain` shows.
#[must_use]
pub fn canonical_field(form: Canonicalization, field: &Field<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.raw.len());
    write_field(&mut out, form, field, field.value.len()..field.value.len());
    out
}

/// Writes a header field in canonical form, without its final CRLF. `emptied` is cut out of its value.
pub(crate) fn write_field(out: &mut Vec<u8>, form: Canonicalization, field: &Field<'_>, emptied: Range<usize>) {
    let before = field.value.get(..emptied.start).unwrap_or(field.value);
    let after = field.value.get(emptied.end..).unwrap_or_default();
    match form {
        Canonicalization::Simple => {
            let name = field.raw.len() - field.value.len();
            out.extend_from_slice(field.raw.get(..name).unwrap_or_default());
            out.extend_from_slice(before);
            out.extend_from_slice(after);
        }
        Canonicalization::Relaxed => {
            let start = out.len();
            out.extend_from_slice(field.name);
            out.get_mut(start..).unwrap_or_default().make_ascii_lowercase();
            out.push(b':');
            let mut value = RelaxedValue { start: out.len(), white: false };
            value.write(out, before);
            value.write(out, after);
        }
    }
}

/// A field value on its way into relaxed form: white space is held back until something follows it.
struct RelaxedValue {
    start: usize,
    white: bool,
}

impl RelaxedValue {
    fn write(&mut self, out: &mut Vec<u8>, mut rest: &[u8]) {
        while let Some(&first) = rest.first() {
            let skip = match first {
                b' ' | b'\t' => {
                    self.white = true;
                    1
                }
                b'\r' if rest.get(1) == Some(&b'\n') => 2,
                _ => {
                    if self.white && out.len() > self.start {
                        out.push(b' ');
                    }
                    self.white = false;
                    let word = rest.iter().skip(1).position(|octet| matches!(octet, b' ' | b'\t' | b'\r'));
                    let count = word.map_or(rest.len(), |word| word + 1);
                    out.extend_from_slice(rest.get(..count).unwrap_or_default());
                    count
                }
            };
            rest = rest.get(skip..).unwrap_or_default();
        }
    }
}

/// Hashes canonical header fields; short headers in one call, long ones without holding them.
#[derive(Default)]
pub(crate) struct HeaderHash {
    held: Vec<u8>,
    context: Option<Context>,
}

impl HeaderHash {
    /// Octets held before they are hashed, and room kept from one message to the next.
    pub(crate) const HELD_BYTES_MAX: usize = 16 * 1024;

    pub(crate) fn restart(&mut self) {
        self.held.clear();
        self.held.shrink_to(Self::HELD_BYTES_MAX);
        self.context = None;
    }

    /// Adds a whole field with its CRLF.
    pub(crate) fn add(&mut self, form: Canonicalization, field: &Field<'_>) {
        write_field(&mut self.held, form, field, field.value.len()..field.value.len());
        self.held.extend_from_slice(b"\r\n");
        if self.held.len() > Self::HELD_BYTES_MAX {
            self.flush();
        }
    }

    /// The hash with a last field added: without the value of its `b=`, and without CRLF (RFC 6376 section 3.7).
    /// What was added before stays, for the next seal of a chain.
    pub(crate) fn finish_with(&mut self, form: Canonicalization, field: &Field<'_>, b: Range<usize>) -> Digest {
        let before = self.held.len();
        write_field(&mut self.held, form, field, b);
        let digest = match &self.context {
            None => digest(&SHA256, &self.held),
            Some(context) => {
                let mut context = context.clone();
                context.update(&self.held);
                context.finish()
            }
        };
        self.held.truncate(before);
        digest
    }

    fn flush(&mut self) {
        self.context.get_or_insert_with(|| Context::new(&SHA256)).update(&self.held);
        self.held.clear();
    }
}

impl fmt::Debug for HeaderHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HeaderHash").field("held_bytes", &self.held.len()).finish_non_exhaustive()
    }
}

/// The fields of a header by name, for selection from the bottom up.
#[derive(Debug, Default)]
pub(crate) struct FieldsByName {
    /// Sorted by name, then from top to bottom.
    entries: Vec<Entry>,
    /// Counts selections, so that no marks need be wiped between two.
    selection: u32,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// Of the name; where names differ and keys do not, the names decide.
    key: u64,
    position: u32,
    /// At the last entry of a name: the selection that `taken` belongs to.
    selection: u32,
    taken: u32,
}

impl FieldsByName {
    /// Sorts the fields of a header.
    pub(crate) fn index(&mut self, headers: Headers<'_>) {
        self.entries.clear();
        self.selection = 0;
        self.entries.extend(headers.fields().map(|field| Entry {
            key: name_key(field.name),
            position: field.position as u32,
            selection: 0,
            taken: 0,
        }));
        self.entries.sort_unstable_by(|a, b| {
            a.key.cmp(&b.key).then_with(|| compare(headers, a, b)).then(a.position.cmp(&b.position))
        });
    }

    /// Begins the selection for another signature.
    pub(crate) fn restart(&mut self) {
        self.selection += 1;
    }

    /// The lowest instance of `name` not selected yet, `own` left out; `None` when there is no more.
    pub(crate) fn next<'a>(&mut self, headers: Headers<'a>, name: &[u8], own: usize) -> Option<Field<'a>> {
        let key = name_key(name);
        let name_of = |entry: &Entry| headers.field(entry.position as usize).map_or(&b""[..], |field| field.name);
        let end = self.entries.partition_point(|entry| {
            let order = entry.key.cmp(&key).then_with(|| compare_names(name_of(entry), name));
            order != Ordering::Greater
        });
        let last = self.entries.get_mut(end.checked_sub(1)?)?;
        if last.selection != self.selection {
            last.selection = self.selection;
            last.taken = 0;
        }
        let mut taken = last.taken as usize;
        let found = loop {
            taken += 1;
            let Some(entry) = end.checked_sub(taken).and_then(|at| self.entries.get(at)) else {
                break None;
            };
            if entry.key != key || !name_of(entry).eq_ignore_ascii_case(name) {
                break None;
            }
            if entry.position as usize != own {
                break headers.field(entry.position as usize);
            }
        };
        if found.is_some()
            && let Some(last) = self.entries.get_mut(end - 1)
        {
            last.taken = taken as u32;
        }
        found
    }
}

/// A number that is the same for names that differ only in case, cheap to make and to compare.
fn name_key(name: &[u8]) -> u64 {
    let lower = 0x2020_2020_2020_2020;
    let eight = |octets: Option<&[u8]>| {
        let mut word = [b' '; 8];
        for (to, from) in word.iter_mut().zip(octets.unwrap_or_default()) {
            *to = *from;
        }
        u64::from_le_bytes(word) | lower
    };
    let first = eight(name.get(..8).or(Some(name)));
    let last = eight(name.get(name.len().saturating_sub(8)..));
    first.rotate_left(29) ^ last.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ name.len() as u64
}

fn compare(headers: Headers<'_>, a: &Entry, b: &Entry) -> Ordering {
    let name = |entry: &Entry| headers.field(entry.position as usize).map_or(&b""[..], |field| field.name);
    compare_names(name(a), name(b))
}

fn compare_names(a: &[u8], b: &[u8]) -> Ordering {
    a.iter().map(u8::to_ascii_lowercase).cmp(b.iter().map(u8::to_ascii_lowercase))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::message::HeaderIndex;

    fn canonical(form: Canonicalization, field: &[u8]) -> String {
        let mut index = HeaderIndex::new();
        let headers = index.scan(field);
        let mut out = Vec::new();
        write_field(&mut out, form, &headers.field(0).unwrap(), usize::MAX..usize::MAX);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn relaxed_form_of_the_standard() {
        let of = |field: &[u8]| canonical(Canonicalization::Relaxed, field);
        assert_eq!(of(b"A: X\r\n"), "a:X");
        assert_eq!(of(b"B : Y\t\r\n\tZ  \r\n"), "b:Y Z");
        assert_eq!(of(b"Empty: \t\r\n \r\n"), "empty:");
        assert_eq!(of(b"Odd:\x0c a\rb \r\r\n c\r\n"), "odd:\x0c a\rb \r c");
        assert_eq!(canonical(Canonicalization::Simple, b"B : Y\t\r\n\tZ  \r\n"), "B : Y\t\r\n\tZ  ");
    }

    #[test]
    fn the_value_of_b_is_cut_out_before_white_space_is_reduced() {
        let mut index = HeaderIndex::new();
        let field = index.scan(b"S: a; b= xy\r\n z ; c=1\r\n").field(0).unwrap();
        let slot = 6..14;
        assert_eq!(&field.value[slot.clone()], b" xy\r\n z ");
        let mut out = Vec::new();
        write_field(&mut out, Canonicalization::Relaxed, &field, slot.clone());
        assert_eq!(out, b"s:a; b=; c=1");
        out.clear();
        write_field(&mut out, Canonicalization::Simple, &field, slot);
        assert_eq!(out, b"S: a; b=; c=1");
    }

    #[test]
    fn long_headers_hash_as_short_ones_do() {
        let mut index = HeaderIndex::new();
        let octets = format!("A: {}\r\nB: {}\r\n", "x".repeat(20_000), "y".repeat(9_000));
        let headers = index.scan(octets.as_bytes());
        let mut hash = HeaderHash::default();
        headers.fields().for_each(|field| hash.add(Canonicalization::Simple, &field));
        let last = headers.field(1).unwrap();
        let wanted = digest(&SHA256, format!("{octets}{}", last.raw.escape_ascii()).as_bytes());
        for _ in 0..2 {
            let found = hash.finish_with(Canonicalization::Simple, &last, usize::MAX..usize::MAX);
            assert_eq!(found.as_ref(), wanted.as_ref());
        }
    }

    proptest! {
        #[test]
        fn selection_takes_each_instance_from_the_bottom(
            fields in proptest::collection::vec("[aAbB]{1,2}|longer-name-[ab]-of-header|LONGER-name-[ab]-of-header", 0..20),
            names in proptest::collection::vec("[aAbBc]{1,2}|longer-name-[abc]-of-header", 0..20),
            own in 0_usize..20,
        ) {
            let block: String = fields.iter().enumerate().map(|(at, name)| format!("{name}: {at}\r\n")).collect();
            let mut index = HeaderIndex::new();
            let headers = index.scan(block.as_bytes());
            let mut by_name = FieldsByName::default();
            by_name.index(headers);
            for _ in 0..2 {
                by_name.restart();
                let mut left: Vec<usize> = (0..fields.len()).filter(|&at| at != own).collect();
                for name in &names {
                    let at = left.iter().rposition(|&at| fields[at].eq_ignore_ascii_case(name));
                    let wanted = at.map(|at| left.remove(at));
                    let found = by_name.next(headers, name.as_bytes(), own).map(|field| field.position);
                    prop_assert_eq!(found, wanted);
                }
            }
        }
    }
}
