//! Signature fields of generated messages: DKIM-Signature, ARC-Message-Signature and ARC-Seal in many shapes.

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::canonical;
use super::keys::TestKey;
use crate::random::Random;

/// A signature field before it is computed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Name of the field as written.
    pub name: &'static str,
    /// Tags before `h=`, in order, without `bh` and `b`.
    pub tags: Vec<(String, String)>,
    /// Header canonicalisation is relaxed.
    pub header_relaxed: bool,
    /// Body canonicalisation is relaxed.
    pub body_relaxed: bool,
    /// Field names of `h=` as written.
    pub names: Vec<String>,
    /// Octets of the canonical body to sign, when not all.
    pub length: Option<usize>,
    /// How the field is laid out.
    pub layout: Layout,
}

/// White space of a signature field: all of it is without meaning to a tag list.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Between a `;` and the next tag.
    pub between: &'static str,
    /// Around the `=` of a tag.
    pub around_equals: &'static str,
    /// Around the `:` of `h=`.
    pub around_colon: &'static str,
    /// Octets of base64 a line; 0 for one line.
    pub base64_line: usize,
    /// Text after the last tag.
    pub end: &'static str,
    /// `b=` stands before the other tags.
    pub b_first: bool,
}

impl Layout {
    /// One of many.
    pub fn random(random: &mut Random) -> Self {
        Self {
            between: random.pick(&[" ", " ", "\r\n\t", "\r\n ", "", "\r\n  "]),
            around_equals: random.pick(&["", "", "", "", "", " "]),
            around_colon: random.pick(&["", "", "", " ", "\r\n\t"]),
            base64_line: [0, 60, 72, 7][random.weighted(&[30, 40, 25, 5])],
            end: random.pick(&["", "", "", ";", "; "]),
            b_first: random.chance(8),
        }
    }

    fn base64(&self, octets: &[u8]) -> String {
        let text = STANDARD.encode(octets);
        if self.base64_line == 0 {
            return text;
        }
        let lines: Vec<&str> = text
            .as_bytes()
            .chunks(self.base64_line)
            .map(|line| std::str::from_utf8(line).unwrap_or_default())
            .collect();
        lines.join("\r\n\t")
    }
}

/// A message as fields and body: a field is its octets with folding and the final CRLF.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Parts {
    /// The header fields from top to bottom.
    pub fields: Vec<Vec<u8>>,
    /// What follows the empty line.
    pub body: Vec<u8>,
}

impl Parts {
    /// The message as it is sent.
    #[must_use]
    pub fn octets(&self) -> Vec<u8> {
        let mut octets = self.fields.concat();
        octets.extend(b"\r\n");
        octets.extend(&self.body);
        octets
    }
}

/// The name of a field: what stands before its colon, without white space.
#[must_use]
pub fn field_name(field: &[u8]) -> &[u8] {
    let colon = field.iter().position(|&octet| octet == b':').unwrap_or(field.len());
    field[..colon].trim_ascii_end()
}

impl Plan {
    /// The field that signs the message with a key.
    #[must_use]
    pub fn sign(&self, parts: &Parts, key: &TestKey) -> Vec<u8> {
        let mut body = canonical::body(&parts.body, self.body_relaxed);
        body.truncate(self.length.unwrap_or(usize::MAX));
        let body_hash = self.layout.base64(digest::digest(&digest::SHA256, &body).as_ref());
        let mut tags = self.tags.clone();
        let colon = format!("{0}:{0}", self.layout.around_colon);
        tags.push(("h".to_owned(), self.names.join(&colon)));
        tags.push(("bh".to_owned(), body_hash));
        let mut signed = Vec::new();
        for field in selected(&parts.fields, &self.names) {
            signed.extend(canonical::field(field, self.header_relaxed));
        }
        self.finish(tags, signed, key)
    }

    /// The seal over the sets below and its own (RFC 8617 section 5.1.1); `sets` in the order they are signed.
    #[must_use]
    pub fn seal(&self, sets: &[Vec<u8>], key: &TestKey) -> Vec<u8> {
        let signed = sets.iter().flat_map(|field| canonical::field(field, true)).collect();
        self.finish(self.tags.clone(), signed, key)
    }

    fn finish(&self, tags: Vec<(String, String)>, mut signed: Vec<u8>, key: &TestKey) -> Vec<u8> {
        let (before, after) = self.text(&tags);
        // The value goes with all white space around it (RFC 6376 section 3.5).
        let without_value = format!("{}{after}\r\n", before.trim_ascii_end());
        let mut unsigned = canonical::field(without_value.as_bytes(), self.header_relaxed);
        unsigned.truncate(unsigned.len() - 2);
        signed.extend(unsigned);
        let signature = self.layout.base64(&key.sign(&signed));
        format!("{before}{signature}{after}\r\n").into_bytes()
    }

    /// The field before and after the value of `b=`.
    fn text(&self, tags: &[(String, String)]) -> (String, String) {
        let layout = &self.layout;
        let equals = format!("{0}={0}", layout.around_equals);
        let list: Vec<String> = tags.iter().map(|(tag, value)| format!("{tag}{equals}{value}")).collect();
        let separator = format!(";{}", layout.between);
        let list = list.join(&separator);
        if layout.b_first {
            (format!("{}: b{equals}", self.name), format!("{separator}{list}{}", layout.end))
        } else {
            (format!("{}: {list}{separator}b{equals}", self.name), layout.end.trim_end().to_owned())
        }
    }
}

/// The fields that `h=` names: each name takes the next instance from the bottom up (RFC 6376 section 5.4.2).
fn selected<'a>(fields: &'a [Vec<u8>], names: &[String]) -> Vec<&'a [u8]> {
    let mut taken = vec![false; fields.len()];
    let mut selected = Vec::new();
    for name in names {
        let next = (0..fields.len())
            .rev()
            .find(|&at| !taken[at] && field_name(&fields[at]).eq_ignore_ascii_case(name.as_bytes()));
        if let Some(at) = next {
            taken[at] = true;
            selected.push(&*fields[at]);
        }
    }
    selected
}
