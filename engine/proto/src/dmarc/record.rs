//! The DMARC record (RFC 9989 sections 4.7 and 4.8): read once, kept as a few small values.
//!
//! A record whose policy can not be read is not thrown away: with a place to send reports it asks for monitoring,
//! without one it asks for nothing (RFC 9989 section 4.10.1). Everything else that is wrong takes its default.
//! Duplicate tags: the first valid one counts.

mod lint;
mod uri;

pub use self::lint::{Finding, FindingKind, Severity, lint};
pub use self::uri::{ReportUri, uris};

use super::{Disposition, PolicyTag};
use crate::dns::Txt;

/// What stands at a `_dmarc` name, read as DMARC.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Published {
    /// No text that begins with `v=DMARC1`.
    None,
    /// Exactly one.
    One(Record),
    /// More than one: all of them are discarded (RFC 9989 section 4.10).
    Several,
}

impl Published {
    /// Selects and parses the record (RFC 9989 section 4.7).
    #[must_use]
    pub fn read(texts: &[Txt]) -> Self {
        let mut records = texts.iter().filter(|txt| is_dmarc(&txt.0));
        match (records.next(), records.next()) {
            (Some(only), None) => Record::read(&only.0).map_or(Self::None, Self::One),
            (Some(_), Some(_)) => Self::Several,
            (None, _) => Self::None,
        }
    }

    /// The record, when there is exactly one.
    #[must_use]
    pub const fn record(&self) -> Option<&Record> {
        match self {
            Self::One(record) => Some(record),
            Self::None | Self::Several => None,
        }
    }
}

/// One DMARC record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Record {
    /// What it asks for.
    pub request: Request,
    /// `adkim`
    pub dkim_mode: AlignmentMode,
    /// `aspf`
    pub spf_mode: AlignmentMode,
    /// `psd`
    pub psd: Psd,
    /// `t=y`
    pub testing: bool,
    /// `fo`
    pub failure_options: FailureOptions,
    /// `rua` as written, when at least one of its URIs is valid; see [`uris`].
    pub rua: Option<Box<str>>,
    /// `ruf` likewise.
    pub ruf: Option<Box<str>>,
}

/// What a record asks for, after the rule of RFC 9989 section 4.10.1 on policies that can not be read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Request {
    /// The three policies as published.
    Policies {
        /// `p`
        p: Disposition,
        /// `sp`
        sp: Option<Disposition>,
        /// `np`
        np: Option<Disposition>,
    },
    /// `p` is missing or invalid, or `sp` or `np` is invalid, but reports can be sent: act as `p=none`.
    Monitor,
    /// The same without a place to send reports: no DMARC.
    Unusable,
}

/// Strictness of alignment (RFC 9989 section 4.4).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum AlignmentMode {
    /// `r`
    #[default]
    Relaxed,
    /// `s`
    Strict,
}

/// Whether the domain is a Public Suffix Domain (RFC 9989 section 4.7).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Psd {
    /// `y`
    Yes,
    /// `n`: it is an Organizational Domain.
    No,
    /// `u`
    #[default]
    Unspecified,
}

/// When failure reports are asked for (RFC 9989 section 4.7, `fo`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FailureOptions {
    /// `0`: every mechanism failed to give an aligned pass.
    pub all: bool,
    /// `1`: any mechanism failed to give an aligned pass.
    pub any: bool,
    /// `d`: a signature failed.
    pub dkim: bool,
    /// `s`: SPF failed.
    pub spf: bool,
}

impl Default for FailureOptions {
    fn default() -> Self {
        Self { all: true, any: false, dkim: false, spf: false }
    }
}

impl Record {
    /// Reads one text; `None` when it does not begin with `v=DMARC1`.
    #[must_use]
    pub fn read(text: &[u8]) -> Option<Self> {
        if !is_dmarc(text) {
            return None;
        }
        let (mut p, mut sp, mut np) = (Value::Absent, Value::Absent, Value::Absent);
        let (mut adkim, mut aspf, mut psd) = (Value::Absent, Value::Absent, Value::Absent);
        let (mut testing, mut fo) = (Value::Absent, Value::Absent);
        let (mut rua, mut ruf) = (Value::Absent, Value::Absent);
        for tag in tags(text).skip(1) {
            let Some(value) = tag.value else { continue };
            match tag.kind() {
                TagKind::P => p.offer(|| disposition(value)),
                TagKind::Sp => sp.offer(|| disposition(value)),
                TagKind::Np => np.offer(|| disposition(value)),
                TagKind::Adkim => adkim.offer(|| mode(value)),
                TagKind::Aspf => aspf.offer(|| mode(value)),
                TagKind::Psd => psd.offer(|| self::psd(value)),
                TagKind::T => testing.offer(|| yes_or_no(value)),
                TagKind::Fo => fo.offer(|| failure_options(value)),
                TagKind::Rua => rua.offer(|| reachable(value)),
                TagKind::Ruf => ruf.offer(|| reachable(value)),
                TagKind::V | TagKind::Historic | TagKind::Unknown => {}
            }
        }
        let rua = rua.valid();
        let request = match (p, sp, np) {
            (Value::Valid(p), Value::Absent | Value::Valid(_), Value::Absent | Value::Valid(_)) => {
                Request::Policies { p, sp: sp.valid(), np: np.valid() }
            }
            _ if rua.is_some() => Request::Monitor,
            _ => Request::Unusable,
        };
        Some(Self {
            request,
            dkim_mode: adkim.valid().unwrap_or_default(),
            spf_mode: aspf.valid().unwrap_or_default(),
            psd: psd.valid().unwrap_or_default(),
            testing: testing.valid().unwrap_or_default(),
            failure_options: fo.valid().unwrap_or_default(),
            rua,
            ruf: ruf.valid(),
        })
    }

    /// The policy for mail of the domain the record stands at, and the tag it comes from; `None` when the record can not
    /// be used.
    #[must_use]
    pub const fn policy(&self) -> Option<(Disposition, PolicyTag)> {
        match self.request {
            Request::Policies { p, .. } => Some((p, PolicyTag::P)),
            Request::Monitor => Some((Disposition::None, PolicyTag::P)),
            Request::Unusable => None,
        }
    }

    /// The policy for mail of a domain below, by whether that domain exists (RFC 9989 section 4.10.1).
    #[must_use]
    pub const fn policy_below(&self, exists: bool) -> Option<(Disposition, PolicyTag)> {
        match self.request {
            Request::Policies { np: Some(np), .. } if !exists => Some((np, PolicyTag::Np)),
            Request::Policies { sp: Some(sp), .. } => Some((sp, PolicyTag::Sp)),
            _ => self.policy(),
        }
    }

    /// True when [`Record::policy_below`] differs by whether the domain exists.
    #[must_use]
    pub const fn asks_for_existence(&self) -> bool {
        matches!(self.request, Request::Policies { np: Some(_), .. })
    }
}

/// One `name=value` of a record.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Tag<'a> {
    /// The name as written.
    pub name: &'a [u8],
    /// The value without white space around it; `None` when there is no `=`.
    pub value: Option<&'a [u8]>,
}

/// The tags of a record in order; empty ones between two semicolons are left out.
pub fn tags(text: &[u8]) -> impl Iterator<Item = Tag<'_>> {
    let segments = text.split(|&octet| octet == b';').map(trim).filter(|segment| !segment.is_empty());
    segments.map(|segment| match memchr::memchr(b'=', segment) {
        Some(at) => Tag {
            name: trim(segment.get(..at).unwrap_or_default()),
            value: Some(trim(segment.get(at + 1..).unwrap_or_default())),
        },
        None => Tag { name: segment, value: None },
    })
}

/// The tags that mean something, names compared without case.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum TagKind {
    V,
    P,
    Sp,
    Np,
    Adkim,
    Aspf,
    Psd,
    T,
    Fo,
    Rua,
    Ruf,
    /// `pct`, `rf` and `ri` of RFC 7489 (RFC 9989 section 9.3).
    Historic,
    Unknown,
}

impl Tag<'_> {
    fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    fn kind(&self) -> TagKind {
        const KINDS: [(&str, TagKind); 14] = [
            ("p", TagKind::P),
            ("v", TagKind::V),
            ("t", TagKind::T),
            ("sp", TagKind::Sp),
            ("np", TagKind::Np),
            ("fo", TagKind::Fo),
            ("rf", TagKind::Historic),
            ("ri", TagKind::Historic),
            ("rua", TagKind::Rua),
            ("ruf", TagKind::Ruf),
            ("psd", TagKind::Psd),
            ("pct", TagKind::Historic),
            ("aspf", TagKind::Aspf),
            ("adkim", TagKind::Adkim),
        ];
        KINDS.iter().find(|(name, _)| self.is(name)).map_or(TagKind::Unknown, |(_, kind)| *kind)
    }
}

/// What was seen of one tag so far.
#[derive(Clone, Copy)]
enum Value<T> {
    Absent,
    Invalid,
    Valid(T),
}

impl<T> Value<T> {
    fn offer(&mut self, read: impl FnOnce() -> Option<T>) {
        if !matches!(self, Self::Valid(_)) {
            *self = read().map_or(Self::Invalid, Self::Valid);
        }
    }

    fn valid(self) -> Option<T> {
        match self {
            Self::Valid(value) => Some(value),
            Self::Absent | Self::Invalid => None,
        }
    }
}

/// RFC 9989 section 4.8 `dmarc-version`: first, and its value in exactly this case.
fn is_dmarc(text: &[u8]) -> bool {
    let starts = text.first().is_some_and(|octet| octet.eq_ignore_ascii_case(&b'v'));
    starts && tags(text).next().is_some_and(|tag| tag.is("v") && tag.value == Some(b"DMARC1"))
}

fn disposition(value: &[u8]) -> Option<Disposition> {
    [Disposition::None, Disposition::Quarantine, Disposition::Reject]
        .into_iter()
        .find(|it| value.eq_ignore_ascii_case(it.word().as_bytes()))
}

fn mode(value: &[u8]) -> Option<AlignmentMode> {
    match value {
        b"r" | b"R" => Some(AlignmentMode::Relaxed),
        b"s" | b"S" => Some(AlignmentMode::Strict),
        _ => None,
    }
}

fn psd(value: &[u8]) -> Option<Psd> {
    match value {
        b"y" | b"Y" => Some(Psd::Yes),
        b"n" | b"N" => Some(Psd::No),
        b"u" | b"U" => Some(Psd::Unspecified),
        _ => None,
    }
}

fn yes_or_no(value: &[u8]) -> Option<bool> {
    match value {
        b"y" | b"Y" => Some(true),
        b"n" | b"N" => Some(false),
        _ => None,
    }
}

fn failure_options(value: &[u8]) -> Option<FailureOptions> {
    let mut options = FailureOptions { all: false, any: false, dkim: false, spf: false };
    for option in value.split(|&octet| octet == b':').map(trim) {
        match option {
            b"0" => options.all = true,
            b"1" => options.any = true,
            b"d" | b"D" => options.dkim = true,
            b"s" | b"S" => options.spf = true,
            _ => return None,
        }
    }
    Some(options)
}

/// The list as written when at least one of its URIs is valid.
fn reachable(value: &[u8]) -> Option<Box<str>> {
    let value = std::str::from_utf8(value).ok()?;
    uris(value).any(|uri| ReportUri::parse(uri).is_some()).then(|| value.into())
}

fn trim(octets: &[u8]) -> &[u8] {
    let blank = |octet: &u8| matches!(octet, b' ' | b'\t');
    let start = octets.iter().position(|octet| !blank(octet)).unwrap_or(octets.len());
    let end = octets.iter().rposition(|octet| !blank(octet)).map_or(start, |last| last + 1);
    octets.get(start..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Record> {
        Record::read(text.as_bytes())
    }

    fn policies(p: Disposition, sp: Option<Disposition>, np: Option<Disposition>) -> Request {
        Request::Policies { p, sp, np }
    }

    #[test]
    fn version_comes_first_and_exactly() {
        for text in ["v=DMARC1", "v=DMARC1;", "V=DMARC1; p=none", "v\t= DMARC1 ; p=none"] {
            assert!(read(text).is_some(), "{text}");
        }
        for text in [
            "",
            "v",
            "v=",
            "v=dmarc1; p=none",
            "v=DMARC1 p=none",
            "v=DMARC12; p=none",
            "v=DMARC; p=none",
            "p=none; v=DMARC1",
            ";v=DMARC1; p=none",
            " v=DMARC1; p=none",
            "vv=DMARC1; p=none",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_policy_that_can_not_be_read_needs_a_place_for_reports() {
        let (none, reject) = (Disposition::None, Disposition::Reject);
        for (text, request) in [
            ("v=DMARC1; p=reject", policies(reject, None, None)),
            ("v=DMARC1; P = Reject ; SP=none;np=reject;", policies(reject, Some(none), Some(reject))),
            ("v=DMARC1; p=none; p=reject", policies(none, None, None)),
            ("v=DMARC1; p=bogus; p=reject", policies(reject, None, None)),
            ("v=DMARC1; sp=; sp=none; p=reject", policies(reject, Some(none), None)),
            ("v=DMARC1; p=reject; sp=bogus", Request::Unusable),
            ("v=DMARC1; p=reject; np=; rua=mailto:a@b.example", Request::Monitor),
            ("v=DMARC1; rua=mailto:a@b.example", Request::Monitor),
            ("v=DMARC1; rua=a@b.example", Request::Unusable),
            ("v=DMARC1; rua=x, mailto:a@b.example!10m", Request::Monitor),
            ("v=DMARC1; p", Request::Unusable),
        ] {
            assert_eq!(read(text).unwrap().request, request, "{text}");
        }
    }

    #[test]
    fn bad_values_take_their_defaults() {
        let bad = read("v=DMARC1; p=none; adkim=x; aspf=; psd=maybe; t=yes; fo=2; pct=0; rf=x; ruf=x; bogus").unwrap();
        assert_eq!(bad, read("v=DMARC1; p=none").unwrap());
        let good = read("v=DMARC1; p=none; adkim=S; aspf=s; psd=N; t=Y; fo=1:d:s").unwrap();
        assert_eq!((good.dkim_mode, good.spf_mode), (AlignmentMode::Strict, AlignmentMode::Strict));
        assert_eq!((good.psd, good.testing), (Psd::No, true));
        assert_eq!(good.failure_options, FailureOptions { all: false, any: true, dkim: true, spf: true });
    }

    #[test]
    fn several_records_are_all_discarded() {
        let read = |texts: &[&str]| {
            let texts: Vec<Txt> = texts.iter().map(|text| Txt(text.as_bytes().into())).collect();
            Published::read(&texts)
        };
        assert_eq!(read(&["v=DMARC1; p=none", "v=DMARC1; p=none"]), Published::Several);
        assert!(read(&["v=spf1 -all", "v=DMARC1; p=none", "v=dmarc1; p=none"]).record().is_some());
        assert_eq!(read(&["v=spf1 -all"]), Published::None);
    }
}
