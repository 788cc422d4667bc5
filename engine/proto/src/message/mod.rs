//! The header block of a message: one scan into fields that borrow the octets.
//!
//! Only CRLF ends a line. Bare CR, bare LF, NUL and lines that are no field are counted and left as they are: nothing
//! is repaired, because signatures cover the octets that came.

pub mod address;

use mailproof_kernels::count_line_ends;
use memchr::memchr;

use crate::limits::{HEADER_FIELD_BYTES_MAX, HEADER_FIELDS_MAX};

/// Where the fields of a header block are; holds no octets, so its memory is reused from message to message.
#[derive(Clone, Debug, Default)]
pub struct HeaderIndex {
    fields: Vec<FieldPosition>,
    defects: Defects,
}

#[derive(Clone, Copy, Debug)]
struct FieldPosition {
    start: u32,
    name_end: u32,
    value_start: u32,
    end: u32,
    kind: FieldKind,
}

/// What is wrong with the octets of a message; counted, never repaired.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Defects {
    /// CR not followed by LF.
    pub bare_cr: u32,
    /// LF not preceded by CR.
    pub bare_lf: u32,
    /// NUL octets.
    pub nul: u32,
    /// Lines of the header block that are neither a field nor the continuation of one.
    pub garbage_lines: u32,
    /// Instances beyond the first of fields that RFC 5322 section 3.6 allows once.
    pub repeated_singletons: u32,
    /// Fields longer than [`HEADER_FIELD_BYTES_MAX`]; they are there, but nothing reads or hashes them.
    pub oversize_fields: u32,
    /// The block has more octets or fields than [`crate::limits`] allows, and what is beyond was not looked at.
    pub header_over_limit: bool,
}

/// The fields that verification looks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum FieldKind {
    /// `ARC-Authentication-Results`
    ArcAuthenticationResults,
    /// `ARC-Message-Signature`
    ArcMessageSignature,
    /// `ARC-Seal`
    ArcSeal,
    /// `Authentication-Results`
    AuthenticationResults,
    /// `Bcc`
    Bcc,
    /// `Cc`
    Cc,
    /// `Content-Transfer-Encoding`
    ContentTransferEncoding,
    /// `Content-Type`
    ContentType,
    /// `Date`
    Date,
    /// `DKIM-Signature`
    DkimSignature,
    /// `From`
    From,
    /// `In-Reply-To`
    InReplyTo,
    /// Any field whose name begins with `List-`.
    List,
    /// `Message-ID`
    MessageId,
    /// `MIME-Version`
    MimeVersion,
    /// `Received`
    Received,
    /// `Received-SPF`
    ReceivedSpf,
    /// `References`
    References,
    /// `Reply-To`
    ReplyTo,
    /// `Return-Path`
    ReturnPath,
    /// `Sender`
    Sender,
    /// `Subject`
    Subject,
    /// `To`
    To,
    /// Everything else.
    Other,
}

/// A header block and where its fields are.
#[derive(Clone, Copy, Debug)]
pub struct Headers<'a> {
    octets: &'a [u8],
    index: &'a HeaderIndex,
}

/// One header field, as it came.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// The name without white space before the colon.
    pub name: &'a [u8],
    /// Everything after the colon, folding included, without the final CRLF.
    pub value: &'a [u8],
    /// Name, colon and value as they came, without the final CRLF.
    pub raw: &'a [u8],
    /// Which field it is.
    pub kind: FieldKind,
    /// Position from the top among the fields, counted from 0.
    pub position: usize,
}

impl HeaderIndex {
    /// An empty index.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            fields: Vec::new(),
            defects: Defects {
                bare_cr: 0,
                bare_lf: 0,
                nul: 0,
                garbage_lines: 0,
                repeated_singletons: 0,
                oversize_fields: 0,
                header_over_limit: false,
            },
        }
    }

    /// Scans a header block: the octets up to, but not including, the empty line. Replaces what was indexed before.
    pub fn scan<'a>(&'a mut self, octets: &'a [u8]) -> Headers<'a> {
        self.fields.clear();
        let counts = count_line_ends(octets);
        self.defects = Defects {
            bare_cr: counts.cr.saturating_sub(counts.crlf),
            bare_lf: counts.lf.saturating_sub(counts.crlf),
            nul: counts.nul,
            ..Defects::default()
        };
        let mut seen_once = 0_u32;
        let mut line_start = 0;
        while line_start < octets.len() {
            let end = field_end(octets, line_start);
            self.add(octets, line_start, end, &mut seen_once);
            line_start = end + 2;
        }
        Headers { octets, index: self }
    }

    /// The view of an earlier scan; `octets` must be those that were scanned.
    #[must_use]
    pub fn view<'a>(&'a self, octets: &'a [u8]) -> Headers<'a> {
        Headers { octets, index: self }
    }

    /// What is wrong with the header block.
    #[must_use]
    pub fn defects(&self) -> Defects {
        self.defects
    }

    /// Marks the block as cut off before it was scanned.
    pub fn mark_over_limit(&mut self) {
        self.defects.header_over_limit = true;
    }

    fn add(&mut self, octets: &[u8], start: usize, end: usize, seen_once: &mut u32) {
        let raw = octets.get(start..end).unwrap_or_default();
        let colon = memchr(b':', raw).filter(|&colon| is_field_name(trim_end(raw.get(..colon).unwrap_or_default())));
        let Some(colon) = colon else {
            self.defects.garbage_lines += 1;
            return;
        };
        let name = trim_end(raw.get(..colon).unwrap_or_default());
        let kind = FieldKind::of(name);
        let full = self.fields.len() >= HEADER_FIELDS_MAX;
        self.defects.header_over_limit |= full;
        // A forged result must be found wherever it hides, so that it can be removed (RFC 8601 section 5).
        if u32::try_from(end).is_err() || (full && kind != FieldKind::AuthenticationResults) {
            self.defects.header_over_limit = true;
            return;
        }
        self.defects.oversize_fields += u32::from(raw.len() > HEADER_FIELD_BYTES_MAX);
        if let Some(bit) = kind.singleton_bit() {
            self.defects.repeated_singletons += u32::from(*seen_once & bit != 0);
            *seen_once |= bit;
        }
        self.fields.push(FieldPosition {
            start: start as u32,
            name_end: (start + name.len()) as u32,
            value_start: (start + colon + 1) as u32,
            end: end as u32,
            kind,
        });
    }
}

impl<'a> Headers<'a> {
    /// The fields from top to bottom.
    pub fn fields(self) -> impl DoubleEndedIterator<Item = Field<'a>> + ExactSizeIterator + Clone {
        self.index.fields.iter().enumerate().map(move |(position, at)| self.materialise(position, *at))
    }

    /// The fields of one kind from top to bottom.
    pub fn of_kind(self, kind: FieldKind) -> impl DoubleEndedIterator<Item = Field<'a>> + Clone {
        let of_kind = self.index.fields.iter().enumerate().filter(move |(_, at)| at.kind == kind);
        of_kind.map(move |(position, at)| self.materialise(position, *at))
    }

    /// The field at a position counted from the top.
    #[must_use]
    pub fn field(self, position: usize) -> Option<Field<'a>> {
        self.index.fields.get(position).map(|at| self.materialise(position, *at))
    }

    /// Fields found.
    #[must_use]
    pub fn len(self) -> usize {
        self.index.fields.len()
    }

    /// True when there is no field at all.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.index.fields.is_empty()
    }

    /// What is wrong with the header block.
    #[must_use]
    pub fn defects(self) -> Defects {
        self.index.defects
    }

    fn materialise(self, position: usize, at: FieldPosition) -> Field<'a> {
        let slice = |from: u32, to: u32| self.octets.get(from as usize..to as usize).unwrap_or_default();
        Field {
            name: slice(at.start, at.name_end),
            value: slice(at.value_start, at.end),
            raw: slice(at.start, at.end),
            kind: at.kind,
            position,
        }
    }
}

impl Field<'_> {
    /// True when the field is longer than [`HEADER_FIELD_BYTES_MAX`]: it is neither read nor hashed.
    #[must_use]
    pub fn is_oversize(&self) -> bool {
        self.raw.len() > HEADER_FIELD_BYTES_MAX
    }
}

impl FieldKind {
    /// Kinds there are.
    pub(crate) const COUNT: usize = Self::Other as usize + 1;

    /// Which field a name stands for; case does not matter (RFC 5322 section 1.2.2).
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
        match name.len() {
            2 if is("to") => Self::To,
            2 if is("cc") => Self::Cc,
            3 if is("bcc") => Self::Bcc,
            4 if is("from") => Self::From,
            4 if is("date") => Self::Date,
            6 if is("sender") => Self::Sender,
            7 if is("subject") => Self::Subject,
            8 if is("received") => Self::Received,
            8 if is("reply-to") => Self::ReplyTo,
            8 if is("arc-seal") => Self::ArcSeal,
            10 if is("message-id") => Self::MessageId,
            10 if is("references") => Self::References,
            11 if is("in-reply-to") => Self::InReplyTo,
            11 if is("return-path") => Self::ReturnPath,
            12 if is("mime-version") => Self::MimeVersion,
            12 if is("content-type") => Self::ContentType,
            12 if is("received-spf") => Self::ReceivedSpf,
            14 if is("dkim-signature") => Self::DkimSignature,
            21 if is("arc-message-signature") => Self::ArcMessageSignature,
            22 if is("authentication-results") => Self::AuthenticationResults,
            25 if is("content-transfer-encoding") => Self::ContentTransferEncoding,
            26 if is("arc-authentication-results") => Self::ArcAuthenticationResults,
            _ if name.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"list-")) => Self::List,
            _ => Self::Other,
        }
    }

    /// A bit for each field that may stand only once (RFC 5322 section 3.6, RFC 2045 section 3).
    const fn singleton_bit(self) -> Option<u32> {
        Some(match self {
            Self::Date => 1,
            Self::From => 1 << 1,
            Self::Sender => 1 << 2,
            Self::ReplyTo => 1 << 3,
            Self::To => 1 << 4,
            Self::Cc => 1 << 5,
            Self::Bcc => 1 << 6,
            Self::MessageId => 1 << 7,
            Self::InReplyTo => 1 << 8,
            Self::References => 1 << 9,
            Self::Subject => 1 << 10,
            Self::MimeVersion => 1 << 11,
            Self::ContentType => 1 << 12,
            Self::ContentTransferEncoding => 1 << 13,
            _ => return None,
        })
    }

    /// True for the fields that may stand only once in a message.
    #[must_use]
    pub const fn is_singleton(self) -> bool {
        self.singleton_bit().is_some()
    }
}

/// Where the field that starts at `start` ends: at the CRLF that no white space follows.
fn field_end(octets: &[u8], start: usize) -> usize {
    let mut from = start;
    while let Some(found) = octets.get(from..).and_then(|rest| memchr(b'\n', rest)) {
        let lf = from + found;
        from = lf + 1;
        let is_line_end = lf > start && octets.get(lf - 1) == Some(&b'\r');
        if is_line_end && !matches!(octets.get(from), Some(b' ' | b'\t')) {
            return lf - 1;
        }
    }
    octets.len()
}

fn is_field_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(u8::is_ascii_graphic)
}

fn trim_end(octets: &[u8]) -> &[u8] {
    let end = octets.iter().rposition(|octet| !matches!(octet, b' ' | b'\t')).map_or(0, |last| last + 1);
    octets.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(octets: &[u8]) -> (Vec<String>, Defects) {
        let mut index = HeaderIndex::new();
        let headers = index.scan(octets);
        let names = headers.fields().map(|field| String::from_utf8_lossy(field.name).into_owned()).collect();
        (names, headers.defects())
    }

    #[test]
    fn folding_belongs_to_its_field() {
        let mut index = HeaderIndex::new();
        let headers = index.scan(b"Subject: a\r\n b\r\nFrom : x@y.example\r\n");
        let subject = headers.field(0).unwrap();
        assert_eq!(subject.value, b" a\r\n b");
        let from = headers.of_kind(FieldKind::From).next().unwrap();
        assert_eq!((from.name, from.value, from.raw), (&b"From"[..], &b" x@y.example"[..], &b"From : x@y.example"[..]));
        assert_eq!(headers.defects(), Defects::default());
    }

    #[test]
    fn odd_octets_are_counted_and_left() {
        let (found, defects) =
            names(b"no colon here\r\nA: 1\nFrom: x\rB: 2\r\nA\0: 3\r\n: empty\r\nFrom: a\r\nFrom: b");
        assert_eq!(found, ["A", "From", "From"]);
        let wanted = Defects {
            bare_cr: 1,
            bare_lf: 1,
            nul: 1,
            garbage_lines: 3,
            repeated_singletons: 1,
            oversize_fields: 0,
            header_over_limit: false,
        };
        assert_eq!(defects, wanted);
    }

    #[test]
    fn field_limits_hold_on_both_sides() {
        let many = "A: 1\r\n".repeat(HEADER_FIELDS_MAX);
        assert!(!names(many.as_bytes()).1.header_over_limit);
        let (found, defects) = names(format!("{many}A: 1\r\n").as_bytes());
        assert_eq!((found.len(), defects.header_over_limit), (HEADER_FIELDS_MAX, true));
        let wide = format!("A: {}", "x".repeat(HEADER_FIELD_BYTES_MAX - 3));
        assert_eq!(names(wide.as_bytes()).1.oversize_fields, 0);
        assert_eq!(names(format!("{wide}x").as_bytes()).1.oversize_fields, 1);
    }
}
