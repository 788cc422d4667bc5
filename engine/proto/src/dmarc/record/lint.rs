//! What a domain owner should mend in a record.

use crate::limits::DMARC_FINDINGS_MAX;

use super::{
    Record, ReportUri, Request, Tag, TagKind, disposition, failure_options, is_dmarc, mode, psd, tags, uris, yes_or_no,
};

/// One remark on a record.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Finding {
    /// What is the matter.
    pub kind: FindingKind,
    /// The tag or URI it is about, as written; empty when it is about the whole record.
    pub subject: Box<str>,
}

impl Finding {
    fn new(kind: FindingKind, subject: &[u8]) -> Self {
        Self { kind, subject: String::from_utf8_lossy(subject).into() }
    }
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Severity {
    /// Receivers agree on what the record means, but it may not be what was meant.
    Warning,
    /// Against the grammar: receivers ignore a part, or the whole record.
    Error,
}

/// The kinds of remarks.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum FindingKind {
    /// RFC 9989 section 4.7.
    #[error("the text does not begin with v=DMARC1")]
    NotDmarc,
    /// RFC 9989 section 4.10.1: `p` can not be read, and no report can be sent.
    #[error("the record is ignored: neither a policy nor a place for reports can be read")]
    Unusable,
    /// RFC 9989 section 4.7 recommends it.
    #[error("no p tag: the record acts as p=none")]
    PolicyMissing,
    /// RFC 9989 section 4.8.
    #[error("a value that is not allowed; the default counts")]
    BadValue,
    /// RFC 9989 section 4.8.
    #[error("the tag stands more than once; the first valid one counts")]
    DuplicateTag,
    /// RFC 9989 section 4.8.
    #[error("text that is no tag=value")]
    NotATag,
    /// Ignored by everyone.
    #[error("a tag that DMARC does not know")]
    UnknownTag,
    /// RFC 9989 section 9.3: `pct`, `rf`, `ri`.
    #[error("a tag of RFC 7489 that means nothing any more")]
    HistoricTag,
    /// RFC 9989 section 9.3.
    #[error("pct below 100 is ignored: the policy applies to all mail")]
    PctIgnored,
    /// RFC 9989 section 9.3 and appendix A.6.
    #[error("pct=0 is ignored: use t=y for a trial")]
    PctZero,
    /// RFC 9989 section 4.8: a `,` or `!` in a URI is written %2C, %21.
    #[error("a report address that can not be used")]
    BadUri,
    /// RFC 9989 section 4.8.
    #[error("a size limit behind a report address means nothing any more")]
    SizeLimit,
    /// RFC 9989 section 4.7.
    #[error("no rua tag: no aggregate reports")]
    ReportsMissing,
    /// RFC 9989 section 4.7.
    #[error("fo without ruf means nothing")]
    FailureOptionsUnused,
}

impl FindingKind {
    /// The stable word for tools.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::NotDmarc => "not-dmarc",
            Self::Unusable => "unusable",
            Self::PolicyMissing => "policy-missing",
            Self::BadValue => "bad-value",
            Self::DuplicateTag => "duplicate-tag",
            Self::NotATag => "not-a-tag",
            Self::UnknownTag => "unknown-tag",
            Self::HistoricTag => "historic-tag",
            Self::PctIgnored => "pct-ignored",
            Self::PctZero => "pct-zero",
            Self::BadUri => "bad-uri",
            Self::SizeLimit => "size-limit",
            Self::ReportsMissing => "reports-missing",
            Self::FailureOptionsUnused => "failure-options-unused",
        }
    }

    /// How much it matters.
    #[must_use]
    pub const fn severity(self) -> Severity {
        match self {
            Self::NotDmarc | Self::Unusable | Self::BadValue | Self::DuplicateTag | Self::NotATag | Self::BadUri => {
                Severity::Error
            }
            Self::PolicyMissing
            | Self::UnknownTag
            | Self::HistoricTag
            | Self::PctIgnored
            | Self::PctZero
            | Self::SizeLimit
            | Self::ReportsMissing
            | Self::FailureOptionsUnused => Severity::Warning,
        }
    }
}

/// Everything to say about a text that stands at a `_dmarc` name, in the order of its tags; on a tag no more once
/// there are [`DMARC_FINDINGS_MAX`] remarks.
#[must_use]
pub fn lint(text: &[u8]) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !is_dmarc(text) {
        return vec![Finding::new(FindingKind::NotDmarc, b"")];
    }
    let mut seen: Vec<&str> = Vec::new();
    for tag in tags(text).skip(1) {
        if findings.len() >= DMARC_FINDINGS_MAX {
            break;
        }
        let mut add = |kind, subject: &[u8]| findings.push(Finding::new(kind, subject));
        let Some(value) = tag.value else {
            add(FindingKind::NotATag, tag.name);
            continue;
        };
        let known = NAMES.iter().find(|name| tag.is(name));
        match known {
            Some(name) if seen.contains(name) => add(FindingKind::DuplicateTag, tag.name),
            Some(name) => seen.push(name),
            None if tag.name.is_empty() || !tag.name.iter().all(u8::is_ascii_alphabetic) => {
                add(FindingKind::NotATag, tag.name);
            }
            None => add(FindingKind::UnknownTag, tag.name),
        }
        lint_value(&tag, value, &mut add);
    }
    let mut add = |kind, subject: &[u8]| findings.push(Finding::new(kind, subject));
    if Record::read(text).is_some_and(|record| record.request == Request::Unusable) {
        add(FindingKind::Unusable, b"");
    }
    for (name, kind) in [("p", FindingKind::PolicyMissing), ("rua", FindingKind::ReportsMissing)] {
        if !seen.contains(&name) {
            add(kind, b"");
        }
    }
    if seen.contains(&"fo") && !seen.contains(&"ruf") {
        add(FindingKind::FailureOptionsUnused, b"fo");
    }
    findings
}

const NAMES: [&str; 14] = ["v", "p", "sp", "np", "adkim", "aspf", "psd", "t", "fo", "rua", "ruf", "pct", "rf", "ri"];

fn lint_value(tag: &Tag<'_>, value: &[u8], add: &mut impl FnMut(FindingKind, &[u8])) {
    let is_good = match tag.kind() {
        TagKind::P | TagKind::Sp | TagKind::Np => disposition(value).is_some(),
        TagKind::Adkim | TagKind::Aspf => mode(value).is_some(),
        TagKind::Psd => psd(value).is_some(),
        TagKind::T => yes_or_no(value).is_some(),
        TagKind::Fo => failure_options(value).is_some_and(|options| !(options.all && options.any)),
        TagKind::Rua | TagKind::Ruf => {
            let list = std::str::from_utf8(value).unwrap_or_default();
            for entry in uris(list) {
                match ReportUri::parse(entry) {
                    None => add(FindingKind::BadUri, entry.as_bytes()),
                    Some(uri) if uri.had_size_limit => add(FindingKind::SizeLimit, entry.as_bytes()),
                    Some(_) => {}
                }
            }
            uris(list).next().is_some()
        }
        TagKind::Historic => {
            let percent = std::str::from_utf8(value).ok().and_then(|text| text.parse::<u8>().ok());
            add(
                match percent.filter(|_| tag.is("pct")) {
                    Some(0) => FindingKind::PctZero,
                    Some(percent) if percent < 100 => FindingKind::PctIgnored,
                    _ => FindingKind::HistoricTag,
                },
                tag.name,
            );
            true
        }
        TagKind::V | TagKind::Unknown => true,
    };
    if !is_good {
        add(FindingKind::BadValue, tag.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<&'static str> {
        lint(text.as_bytes()).iter().map(|finding| finding.kind.word()).collect()
    }

    #[test]
    fn remarks_on_tags_hold_on_both_sides_of_their_limit() {
        let found = |count: usize| words(&format!("v=DMARC1; p=none; rua=mailto:a@b.example{}", ";x=y".repeat(count)));
        assert_eq!(found(DMARC_FINDINGS_MAX).len(), DMARC_FINDINGS_MAX);
        assert_eq!(found(DMARC_FINDINGS_MAX + 1).len(), DMARC_FINDINGS_MAX);
    }

    #[test]
    fn records_and_what_is_said_of_them() {
        let good = "v=DMARC1; p=reject; rua=mailto:a@b.example";
        assert_eq!(words(good), Vec::<&str>::new());
        for (more, found) in [
            ("; p=none", vec!["duplicate-tag"]),
            ("; adkim=x", vec!["bad-value"]),
            ("; pct=100", vec!["historic-tag"]),
            ("; pct=50; rf=afrf", vec!["pct-ignored", "historic-tag"]),
            ("; pct=0", vec!["pct-zero"]),
            ("; ruf=mailto:c@d.example!10m,e", vec!["size-limit", "bad-uri"]),
            ("; fo=0:1", vec!["bad-value", "failure-options-unused"]),
            ("; x=y; reject", vec!["unknown-tag", "not-a-tag"]),
        ] {
            assert_eq!(words(&format!("{good}{more}")), found, "{more}");
        }
        assert_eq!(words("v=DMARC1"), ["unusable", "policy-missing", "reports-missing"]);
        assert_eq!(words("v=spf1 -all"), ["not-dmarc"]);
    }
}
