//! The named ways in which an oracle and this project come to different results, each with who is right and why.

use std::fmt;

use super::compare::{Case, Comparison, Input, Oracle, Subject};
use super::features::{self, signatures, tags};

/// A kind of disagreement.
pub struct Class {
    /// Its name, as in `DISAGREEMENTS.md`.
    pub name: &'static str,
    /// With whom.
    pub oracle: Oracle,
    /// About what.
    pub subject: Subject,
    /// Whose result the standard asks for.
    pub right: Right,
    /// What says so.
    pub section: &'static str,
    /// True for a disagreement that may be of this kind.
    pub holds: fn(&Case, &Comparison) -> bool,
    /// The case without what the class is about; that both sides then agree is the proof.
    pub without: Option<fn(&Case) -> Case>,
}

/// Whose result the standard asks for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Right {
    /// Ours.
    Ours,
    /// The standard allows both.
    Both,
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ours => "ours is right",
            Self::Both => "both are allowed",
        })
    }
}

/// Every known kind; the first that holds counts.
pub const CLASSES: &[Class] = &[
    spf(
        "mail-auth-spf-grammar",
        Right::Ours,
        "RFC 7208 section 4.6",
        |_, it| it.ours.why.starts_with("syntax-error"),
        features::with_legal_terms,
    ),
    spf(
        "mail-auth-spf-version",
        Right::Ours,
        "RFC 7208 section 4.5",
        |_, it| it.ours.why.starts_with("no-record"),
        without_odd_versions,
    ),
    spf(
        "mail-auth-spf-several-records",
        Right::Ours,
        "RFC 7208 section 4.5",
        |_, it| it.ours.why.starts_with("multiple-records"),
        with_first_records,
    ),
    spf(
        "mail-auth-spf-no-void-limit",
        Right::Ours,
        "RFC 7208 section 4.6.4",
        |_, it| it.ours.why.starts_with("too-many-void-lookups"),
        without_void_limit,
    ),
    spf(
        "mail-auth-spf-local-part",
        Right::Ours,
        "RFC 7208 section 4.3",
        |case, _| local_part(case).is_some_and(|it| it.is_empty() || it.contains('@') || !it.is_ascii()),
        with_plain_local_part,
    ),
    spf(
        "mail-auth-spf-odd-name-fails",
        Right::Ours,
        "RFC 7208 sections 4.8 and 5",
        |_, it| it.theirs.result == "temperror",
        without_odd_targets,
    ),
    spf("mail-auth-spf-p-not-validated", Right::Ours, "RFC 7208 sections 5.5 and 7.3", |_, _| true, without_pointers),
];

const fn spf(
    name: &'static str,
    right: Right,
    section: &'static str,
    holds: fn(&Case, &Comparison) -> bool,
    without: fn(&Case) -> Case,
) -> Class {
    Class { name, oracle: Oracle::MailAuth, subject: Subject::Spf, right, section, holds, without: Some(without) }
}

fn without_odd_versions(case: &Case) -> Case {
    let records = case.records().with_texts(|_, text| {
        let is_odd = text.trim_start().to_ascii_lowercase().starts_with("v=spf1") && !features::is_spf(text);
        if is_odd { "other".to_owned() } else { text.to_owned() }
    });
    case.with_records(records)
}

fn with_first_records(case: &Case) -> Case {
    let mut seen: Vec<String> = Vec::new();
    let records = case.records().with_texts(|name, text| {
        if !features::is_spf(text) {
            return text.to_owned();
        }
        if seen.iter().any(|it| it.eq_ignore_ascii_case(name)) {
            return "other".to_owned();
        }
        seen.push(name.to_owned());
        text.to_owned()
    });
    case.with_records(records)
}

fn without_void_limit(case: &Case) -> Case {
    let mut case = case.clone();
    case.spf.void_lookups_max = u8::MAX;
    case
}

fn local_part(case: &Case) -> Option<&str> {
    match &case.input {
        Input::Spf(case) => case.mail_from.rsplit_once('@').map(|(local_part, _)| local_part),
        Input::Message(_) => None,
    }
}

fn with_plain_local_part(case: &Case) -> Case {
    let mut case = case.clone();
    if let Input::Spf(case) = &mut case.input
        && let Some((_, domain)) = case.mail_from.rsplit_once('@')
    {
        case.mail_from = format!("user@{domain}");
    }
    case
}

fn without_odd_targets(case: &Case) -> Case {
    features::with_terms(case, |term| {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '/');
        let target = features::target(term);
        let labels_are_plain = target.trim_end_matches('.').split('.').all(|label| (1..64).contains(&label.len()));
        let is_plain = target.chars().all(plain) && (target.is_empty() || labels_are_plain);
        is_plain.then(|| term.to_owned())
    })
}

fn without_pointers(case: &Case) -> Case {
    features::with_terms(case, |term| {
        let lower = term.to_ascii_lowercase();
        let is_pointer = lower.trim_start_matches(['+', '-', '?', '~']).starts_with("ptr") || lower.contains("%{p");
        (!is_pointer).then(|| term.to_owned())
    })
}
