//! The named ways in which an oracle and this project come to different results, each with who is right and why.

use std::fmt;

use super::compare::{Case, Comparison, Input, Oracle, Subject};
use super::features::{self, signatures, tags};
use crate::generate::sign::field_name;

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
    // mail-auth, SPF. Each is proved by taking its cause out of the case.
    mail_auth_spf("mail-auth-spf-grammar", "RFC 7208 section 4.6", |_, it| why(it, "syntax-error"), with_legal_terms),
    mail_auth_spf("mail-auth-spf-version", "RFC 7208 section 4.5", |_, _| true, without_odd_versions),
    mail_auth_spf("mail-auth-spf-several-records", "RFC 7208 section 4.5", |_, _| true, with_first_records),
    mail_auth_spf(
        "mail-auth-spf-no-void-limit",
        "RFC 7208 section 4.6.4",
        |_, it| why(it, "too-many-void-lookups"),
        without_void_limit,
    ),
    mail_auth_spf("mail-auth-spf-ip6-matches-ipv4", "RFC 7208 sections 5 and 5.6", is_ipv4_client, without_ip6_terms),
    mail_auth_spf("mail-auth-spf-mapped-client", "RFC 7208 section 5", |_, _| true, with_plain_client),
    mail_auth_spf("mail-auth-spf-local-part", "RFC 7208 section 4.3", has_odd_local_part, with_plain_local_part),
    mail_auth_spf("mail-auth-spf-u-label", "RFC 8616 section 4", |_, _| true, with_a_labels),
    mail_auth_spf("mail-auth-spf-final-dot", "RFC 7208 sections 4.3 and 7.3", |_, _| true, without_final_dot),
    mail_auth_spf("mail-auth-spf-nested-include", "RFC 7208 section 5.2", |_, _| true, without_nested_includes),
    mail_auth_spf("mail-auth-spf-exists-asks-aaaa", "RFC 7208 section 5.7", |_, _| true, without_exists),
    mail_auth_spf("mail-auth-spf-odd-modifier", "RFC 7208 sections 6 and 12", |_, _| true, without_odd_modifiers),
    mail_auth_spf(
        "mail-auth-spf-odd-name-fails",
        "RFC 7208 sections 4.8 and 5",
        |_, it| it.theirs.result == "temperror",
        without_odd_targets,
    ),
    mail_auth_spf("mail-auth-spf-p-not-validated", "RFC 7208 sections 5.5 and 7.3", |_, _| true, without_pointers),
    Class {
        right: Right::Ours,
        ..judged(Oracle::MailAuth, Subject::Spf, "mail-auth-spf-no-domain", "RFC 7208 section 4.3", |case, it| {
            why(it, "not-a-domain") && has_no_domain(case)
        })
    },
    // mail-auth, DKIM.
    mail_auth_dkim("mail-auth-dkim-blank-end", "RFC 6376 section 3.4.4", |case, it| {
        ours_alone_passes(it)
            && theirs(it, "Calculated body hash")
            && features::ends_in_blank_space(case)
            && signature(case, it).is_some_and(|it| it.body_is_relaxed())
    }),
    mail_auth_dkim("mail-auth-dkim-bare-line-end", "RFC 6376 sections 3.4.3 and 3.4.4", |case, it| {
        (theirs(it, "Calculated body hash") || why(it, "body-hash-mismatch")) && features::has_bare_line_end(case)
    }),
    mail_auth_dkim("mail-auth-dkim-space-before-colon", "RFC 5322 section 4.5, RFC 6376 section 5.4.2", |case, it| {
        (ours_alone_passes(it) || why(it, "signature-mismatch")) && features::has_space_before_colon(case)
    }),
    mail_auth_dkim("mail-auth-dkim-signs-signature", "RFC 6376 section 5.4", names_signature_below_another),
    mail_auth_dkim("mail-auth-dkim-length-zero", "RFC 6376 section 3.5", |case, it| {
        why(it, "length-uncovered")
            && signature(case, it).and_then(|it| it.value("l")).is_some_and(|value| value == "0")
    }),
    both(mail_auth_dkim("mail-auth-dkim-length-refused", "RFC 6376 section 8.2", |_, it| theirs(it, "Insecure 'l='"))),
    both(mail_auth_dkim("mail-auth-dkim-several-keys", "RFC 6376 section 3.6.2.2", has_several_keys)),
    mail_auth_dkim("mail-auth-dkim-tag-list", "RFC 6376 section 3.2", has_bad_tag_list),
    mail_auth_dkim("mail-auth-dkim-missing-tag", "RFC 6376 section 3.5", |case, it| {
        why(it, "missing-tag")
            && signature(case, it).is_some_and(|it| it.value("a").is_none() || it.value("v").is_none())
    }),
    mail_auth_dkim("mail-auth-dkim-single-label", "RFC 6376 section 3.5", has_single_label),
    mail_auth_dkim("mail-auth-dkim-empty-name", "RFC 6376 section 3.5", has_empty_name),
    mail_auth_dkim("mail-auth-dkim-time-digits", "RFC 6376 section 3.5", has_bad_time),
    mail_auth_dkim("mail-auth-dkim-query-method", "RFC 6376 section 3.5", |case, it| {
        why(it, "unknown-query-method")
            && signature(case, it).and_then(|it| it.value("q")).is_some_and(|value| value != "dns/txt")
    }),
    mail_auth_dkim("mail-auth-dkim-from-not-signed", "RFC 6376 section 6.1.1", has_unsigned_from),
    both(mail_auth_dkim("mail-auth-dkim-asks-first", "RFC 6376 section 6.1", |_, it| {
        it.theirs.result == "temperror" && it.ours.result == "not pass" && is_about_signature(it)
    })),
    both(mail_auth_dkim("mail-auth-dkim-body-first", "RFC 6376 section 6.1", |_, it| {
        it.ours.result == "temperror" && (theirs(it, "Calculated body hash") || theirs(it, "Signature expired"))
    })),
    mail_auth_dkim("mail-auth-dkim-key-restrictions", "RFC 6376 sections 3.6.1 and 6.1.2", has_key_restrictions),
    mail_auth_dkim("mail-auth-dkim-key-grammar", "RFC 6376 section 3.6.1", has_bad_key_record),
    both(mail_auth_dkim("mail-auth-dkim-repeated-field", "RFC 6376 section 8.15", has_repeated_field)),
    both(mail_auth_dkim("mail-auth-no-header", "RFC 5322 section 2.1", |_, it| {
        it.theirs.result == "crash" && it.theirs.why.contains("finds no header field")
    })),
    // mail-auth, ARC: the same faults, as it judges message signatures with the same routines.
    mail_auth_arc("mail-auth-arc-blank-end", "RFC 6376 section 3.4.4", |case, it| {
        ours_alone_passes(it) && features::ends_in_blank_space(case)
    }),
    mail_auth_arc("mail-auth-arc-bare-line-end", "RFC 6376 section 3.4.4", |case, _| features::has_bare_line_end(case)),
    mail_auth_arc("mail-auth-arc-space-before-colon", "RFC 5322 section 4.5", |case, it| {
        ours_alone_passes(it) && features::has_space_before_colon(case)
    }),
    mail_auth_arc("mail-auth-arc-incomplete-set", "RFC 8617 section 5.2", |case, it| {
        (why(it, "incomplete-set") || why(it, "duplicate-field"))
            && it.theirs.result == "none"
            && !has_field(case, b"ARC-Message-Signature")
    }),
    // mail-auth, DMARC.
    mail_auth_dmarc(
        "mail-auth-dmarc-version-case",
        "RFC 9989 section 4.7",
        |_, _| true,
        Some(without_odd_dmarc_versions),
    ),
    mail_auth_dmarc(
        "mail-auth-dmarc-several-records",
        "RFC 9989 section 4.10",
        |_, _| true,
        Some(without_several_policies),
    ),
    mail_auth_dmarc("mail-auth-dmarc-bad-value", "RFC 9989 section 4.7", |_, _| true, Some(without_bad_values)),
    both(mail_auth_dmarc("mail-auth-dmarc-no-author", "RFC 9989 sections 5.3.1 and 11.5", has_no_author, None)),
    mail_auth_dmarc(
        "mail-auth-dmarc-repeated-from",
        "RFC 5322 section 3.6, RFC 9989 section 5.3.1",
        has_repeated_from,
        None,
    ),
    mail_auth_dmarc("mail-auth-dmarc-obsolete-from", "RFC 5322 section 4.4", has_obsolete_from, None),
    mail_auth_dmarc(
        "mail-auth-dmarc-walk-not-needed",
        "RFC 9989 sections 4.10.2 and 5.3.6",
        |_, it| it.theirs.result == "temperror",
        Some(without_failing_policies),
    ),
    mail_auth_dmarc(
        "mail-auth-dmarc-header-ends-early",
        "RFC 5322 section 2.1",
        |case, _| features::has_line_without_colon(case),
        None,
    ),
    // mail-auth, the policy that applies: the same causes as for the result.
    policy("mail-auth-policy-version-case", "RFC 9989 section 4.7", without_odd_dmarc_versions),
    policy("mail-auth-policy-several-records", "RFC 9989 section 4.10", without_several_policies),
    policy("mail-auth-policy-bad-value", "RFC 9989 sections 4.7 and 4.10.1", without_bad_values),
    policy("mail-auth-policy-np", "RFC 9989 sections 4.7 and 4.10.1", without_np),
    judged(
        Oracle::MailAuth,
        Subject::Policy,
        "mail-auth-policy-obsolete-from",
        "RFC 5322 section 4.4",
        has_obsolete_from,
    ),
    // pyspf.
    pyspf("pyspf-final-dot", Right::Ours, "RFC 7208 section 4.3", |_, _| true, Some(without_final_dot)),
    pyspf(
        "pyspf-single-label",
        Right::Ours,
        "RFC 7208 section 4.3",
        |case, it| why(it, "not-a-domain") && has_no_domain(case),
        None,
    ),
    pyspf("pyspf-local-part", Right::Ours, "RFC 7208 section 4.3", has_odd_local_part, Some(with_plain_local_part)),
    pyspf(
        "pyspf-percent-at-end",
        Right::Ours,
        "RFC 7208 section 12",
        |_, it| theirs(it, "SPF Permanent Error: invalid-macro-char"),
        Some(without_percents),
    ),
    pyspf(
        "pyspf-trivial-recursion",
        Right::Ours,
        "RFC 7208 section 4.6.4",
        |_, it| it.theirs.why.contains("trivial recursion"),
        None,
    ),
    pyspf(
        "pyspf-macro-grammar",
        Right::Ours,
        "RFC 7208 section 7.1",
        |_, it| why(it, "syntax-error"),
        Some(with_legal_terms),
    ),
    pyspf(
        "pyspf-counts-mx-records",
        Right::Both,
        "RFC 7208 section 4.6.4",
        |_, it| it.theirs.why.contains("MX records returned"),
        Some(with_ten_exchanges),
    ),
    pyspf(
        "pyspf-asks-every-exchange",
        Right::Both,
        "RFC 7208 sections 4.6.4 and 5.4",
        |_, it| it.theirs.why.contains("Void lookup limit") || it.theirs.result == "temperror",
        Some(without_mx_terms),
    ),
    pyspf(
        "pyspf-nested-voids",
        Right::Both,
        "RFC 7208 section 4.6.4",
        |_, it| it.theirs.why.contains("Void lookup limit"),
        Some(with_nested_voids),
    ),
    pyspf("pyspf-pointer-errors", Right::Ours, "RFC 7208 sections 5.5 and 7.3", |_, _| true, Some(without_pointers)),
    pyspf("pyspf-empty-parts", Right::Both, "RFC 7208 section 7.3", |_, _| true, Some(without_delimiters)),
    // dkimpy.
    dkimpy("dkimpy-space-before-colon", Right::Ours, "RFC 5322 section 4.5", |case, it| {
        theirs(it, "MessageFormatError: Unexpected") && features::has_space_before_colon(case)
    }),
    dkimpy("dkimpy-bare-line-end", Right::Ours, "RFC 6376 sections 3.4.3 and 3.4.4", |case, it| {
        (theirs(it, "ValidationError: body hash") || why(it, "body-hash-mismatch")) && features::has_bare_line_end(case)
    }),
    dkimpy("dkimpy-falls-over", Right::Ours, "RFC 6376 section 6.1", |_, it| {
        it.theirs.result == "crash" && it.ours.result == "not pass"
    }),
    dkimpy("dkimpy-asks-first", Right::Both, "RFC 6376 section 6.1", |_, it| {
        it.theirs.result == "temperror" && it.ours.result == "not pass" && is_about_signature(it)
    }),
    dkimpy("dkimpy-expired-first", Right::Both, "RFC 6376 section 6.1", |case, it| {
        it.ours.result == "temperror"
            && theirs(it, "ValidationError: x= value is past")
            && signature(case, it).and_then(|it| it.value("x")).is_some_and(|value| value == "1600000000")
    }),
    dkimpy("dkimpy-blank-end", Right::Ours, "RFC 6376 section 3.4.4", |case, it| {
        (theirs(it, "ValidationError: body hash") || why(it, "body-hash-mismatch"))
            && features::last_line_ends_in_blank(case)
            && signature(case, it).is_some_and(|it| it.body_is_relaxed())
    }),
    dkimpy("dkimpy-signs-signature", Right::Ours, "RFC 6376 section 5.4", names_signature_below_another),
    dkimpy("dkimpy-query-list", Right::Ours, "RFC 6376 section 3.5", |case, it| {
        theirs(it, "ValidationError: q= value")
            && signature(case, it)
                .and_then(|it| it.value("q"))
                .is_some_and(|value| value.split(':').any(|method| method == "dns/txt"))
    }),
    dkimpy("dkimpy-several-keys", Right::Both, "RFC 6376 section 3.6.2.2", has_several_keys),
    dkimpy("dkimpy-future-time", Right::Both, "RFC 6376 section 3.5", |_, it| {
        theirs(it, "ValidationError: t= value is in the future")
    }),
    dkimpy("dkimpy-base64-padding", Right::Ours, "RFC 6376 section 2.10", |_, it| {
        it.ours.result != "not pass"
            && (theirs(it, "ValidationError: b= value is not") || theirs(it, "ValidationError: bh= value is not"))
    }),
    dkimpy("dkimpy-blanks-at-end", Right::Ours, "RFC 6376 section 3.4.1", |case, it| {
        (why(it, "signature-mismatch") || (ours_alone_passes(it) && it.theirs.why.is_empty()))
            && signature(case, it)
                .is_some_and(|it| !it.header_is_relaxed() && it.field.trim_ascii_end().len() + 2 < it.field.len())
    }),
    dkimpy("dkimpy-tag-list", Right::Ours, "RFC 6376 section 3.2", has_bad_tag_list),
    dkimpy("dkimpy-single-label", Right::Ours, "RFC 6376 section 3.5", has_single_label),
    dkimpy("dkimpy-empty-name", Right::Ours, "RFC 6376 section 3.5", has_empty_name),
    dkimpy("dkimpy-time-digits", Right::Ours, "RFC 6376 section 3.5", has_bad_time),
    dkimpy("dkimpy-from-not-signed", Right::Ours, "RFC 6376 section 6.1.1", has_unsigned_from),
    dkimpy("dkimpy-length-beyond-body", Right::Ours, "RFC 6376 section 3.5", |case, it| {
        why(it, "length-beyond-body")
            && signature(case, it).and_then(|it| it.value("l")).is_some_and(|length| length == "99999999")
    }),
    dkimpy("dkimpy-length-uncovered", Right::Both, "RFC 6376 section 8.2", |case, it| {
        why(it, "length-uncovered") && signature(case, it).is_some_and(|it| it.value("l").is_some())
    }),
    dkimpy("dkimpy-repeated-field", Right::Both, "RFC 6376 section 8.15", has_repeated_field),
    dkimpy("dkimpy-key-restrictions", Right::Ours, "RFC 6376 sections 3.6.1 and 6.1.2", has_key_restrictions),
    dkimpy("dkimpy-key-service-list", Right::Ours, "RFC 6376 section 3.6.1", |case, it| {
        ours_alone_passes(it) && key_value(case, it, "s").is_some_and(|value| value.contains(':'))
    }),
    dkimpy("dkimpy-key-grammar", Right::Ours, "RFC 6376 section 3.6.1", has_bad_key_record),
];

const fn judged(
    oracle: Oracle,
    subject: Subject,
    name: &'static str,
    section: &'static str,
    holds: fn(&Case, &Comparison) -> bool,
) -> Class {
    Class { name, oracle, subject, right: Right::Ours, section, holds, without: None }
}

const fn both(class: Class) -> Class {
    Class { right: Right::Both, ..class }
}

const fn mail_auth_spf(
    name: &'static str,
    section: &'static str,
    holds: fn(&Case, &Comparison) -> bool,
    without: fn(&Case) -> Case,
) -> Class {
    Class { without: Some(without), ..judged(Oracle::MailAuth, Subject::Spf, name, section, holds) }
}

const fn mail_auth_dkim(name: &'static str, section: &'static str, holds: fn(&Case, &Comparison) -> bool) -> Class {
    judged(Oracle::MailAuth, Subject::Dkim, name, section, holds)
}

const fn mail_auth_arc(name: &'static str, section: &'static str, holds: fn(&Case, &Comparison) -> bool) -> Class {
    judged(Oracle::MailAuth, Subject::Arc, name, section, holds)
}

const fn mail_auth_dmarc(
    name: &'static str,
    section: &'static str,
    holds: fn(&Case, &Comparison) -> bool,
    without: Option<fn(&Case) -> Case>,
) -> Class {
    Class { without, ..judged(Oracle::MailAuth, Subject::Dmarc, name, section, holds) }
}

const fn policy(name: &'static str, section: &'static str, without: fn(&Case) -> Case) -> Class {
    Class { without: Some(without), ..judged(Oracle::MailAuth, Subject::Policy, name, section, |_, _| true) }
}

const fn pyspf(
    name: &'static str,
    right: Right,
    section: &'static str,
    holds: fn(&Case, &Comparison) -> bool,
    without: Option<fn(&Case) -> Case>,
) -> Class {
    Class { right, without, ..judged(Oracle::Pyspf, Subject::Spf, name, section, holds) }
}

const fn dkimpy(
    name: &'static str,
    right: Right,
    section: &'static str,
    holds: fn(&Case, &Comparison) -> bool,
) -> Class {
    Class { right, ..judged(Oracle::Dkimpy, Subject::Dkim, name, section, holds) }
}

fn why(comparison: &Comparison, problem: &str) -> bool {
    comparison.ours.why.split(':').next() == Some(problem)
}

fn theirs(comparison: &Comparison, reason: &str) -> bool {
    comparison.theirs.why.starts_with(reason)
}

fn ours_alone_passes(comparison: &Comparison) -> bool {
    comparison.ours.result == "pass" && comparison.theirs.result != "pass"
}

fn signature<'a>(case: &'a Case, comparison: &Comparison) -> Option<features::Signature<'a>> {
    signatures(case).into_iter().nth(comparison.index)
}

/// A tag of the key record of the signature.
fn key_value(case: &Case, comparison: &Comparison, tag: &str) -> Option<String> {
    let (_, value) = key_tags(case, comparison)?.into_iter().find(|(name, _)| name == tag)?;
    Some(value)
}

fn key_tags(case: &Case, comparison: &Comparison) -> Option<Vec<(String, String)>> {
    let name = signature(case, comparison)?.key_name();
    let texts = features::texts_at(case, &name);
    Some(tags(texts.first()?))
}

fn has_several_keys(case: &Case, comparison: &Comparison) -> bool {
    signature(case, comparison).is_some_and(|it| features::texts_at(case, &it.key_name()).len() > 1)
}

fn has_bad_tag_list(case: &Case, comparison: &Comparison) -> bool {
    (why(comparison, "syntax") || why(comparison, "duplicate-tag"))
        && signature(case, comparison).is_some_and(|it| it.has_bad_tag_list())
}

fn has_single_label(case: &Case, comparison: &Comparison) -> bool {
    why(comparison, "bad-domain")
        && signature(case, comparison).and_then(|it| it.value("d")).is_some_and(|domain| !domain.contains('.'))
}

fn has_empty_name(case: &Case, comparison: &Comparison) -> bool {
    why(comparison, "bad-header-names")
        && signature(case, comparison).is_some_and(|it| it.names().iter().any(String::is_empty))
}

fn has_bad_time(case: &Case, comparison: &Comparison) -> bool {
    let is_bad = |value: String| value.len() > 12 || !value.bytes().all(|octet| octet.is_ascii_digit());
    why(comparison, "bad-time")
        && signature(case, comparison).is_some_and(|it| ["t", "x"].iter().any(|tag| it.value(tag).is_some_and(is_bad)))
}

fn has_unsigned_from(case: &Case, comparison: &Comparison) -> bool {
    why(comparison, "from-not-signed")
        && signature(case, comparison).is_some_and(|it| !it.names().contains(&"from".to_owned()))
}

fn has_repeated_field(case: &Case, comparison: &Comparison) -> bool {
    const SINGLE: [&[u8]; 11] = [
        b"from",
        b"sender",
        b"reply-to",
        b"to",
        b"cc",
        b"subject",
        b"date",
        b"message-id",
        b"content-type",
        b"mime-version",
        b"content-transfer-encoding",
    ];
    let fields = features::message(case).map_or(&[][..], |message| &message.parts.fields);
    let count = |name: &[u8]| fields.iter().filter(|field| field_name(field).eq_ignore_ascii_case(name)).count();
    why(comparison, "header-repeated") && SINGLE.iter().any(|name| count(name) > 1)
}

/// `h=`, `s=` and `t=s` of a key are not looked at by everyone.
fn has_key_restrictions(case: &Case, comparison: &Comparison) -> bool {
    let has = |tag: &str| key_value(case, comparison, tag).is_some();
    (why(comparison, "key-hash-mismatch") && has("h"))
        || (why(comparison, "key-service-mismatch") && has("s"))
        || (why(comparison, "identity-not-strict") && has("t"))
}

/// `h=` counts other signatures from the bottom up, and this one stands below another.
fn names_signature_below_another(case: &Case, comparison: &Comparison) -> bool {
    ours_alone_passes(comparison)
        && comparison.index > 0
        && signature(case, comparison).is_some_and(|it| it.names().contains(&"dkim-signature".to_owned()))
}

/// Problems that show before a key is asked for.
fn is_about_signature(comparison: &Comparison) -> bool {
    const PROBLEMS: [&str; 15] = [
        "sha1",
        "syntax",
        "duplicate-tag",
        "missing-tag",
        "unknown-version",
        "unknown-algorithm",
        "unknown-canonicalization",
        "unknown-query-method",
        "bad-base64",
        "bad-domain",
        "bad-header-names",
        "bad-length",
        "bad-time",
        "from-not-signed",
        "identity-mismatch",
    ];
    PROBLEMS.iter().any(|problem| why(comparison, problem))
}

fn has_bad_key_record(case: &Case, comparison: &Comparison) -> bool {
    why(comparison, "key-syntax")
        && key_tags(case, comparison).is_some_and(|tags| {
            let version = tags.iter().position(|(name, _)| name == "v");
            features::has_bad_tags(&tags)
                || version.is_some_and(|at| at > 0 || tags[at].1 != "DKIM1")
                || !tags.iter().any(|(name, value)| name == "p" && value.chars().all(|c| is_base64(c) || c == ' '))
        })
}

fn is_ipv4_client(case: &Case, _: &Comparison) -> bool {
    matches!(&case.input, Input::Spf(case) if case.ip.to_canonical().is_ipv4())
}

/// Neither MAIL FROM nor, where that is null, HELO is a name of several labels.
fn has_no_domain(case: &Case) -> bool {
    let Input::Spf(case) = &case.input else { return false };
    let domain = case.mail_from.rsplit_once('@').map_or(&*case.helo, |(_, domain)| domain);
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    !domain.contains('.') || domain.starts_with('[') || domain.split('.').any(str::is_empty)
}

fn has_odd_local_part(case: &Case, _: &Comparison) -> bool {
    local_part(case).is_some_and(|it| it.is_empty() || it.contains('@') || !it.is_ascii())
}

fn has_field(case: &Case, name: &[u8]) -> bool {
    features::message(case)
        .is_some_and(|message| message.parts.fields.iter().any(|field| field_name(field).eq_ignore_ascii_case(name)))
}

fn is_base64(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=')
}

/// The From fields of the header, which ends at the first empty line.
fn authors(case: &Case) -> Vec<String> {
    let octets = features::message(case).map_or_else(Vec::new, |message| message.parts.octets());
    let end = memchr::memmem::find(&octets, b"\r\n\r\n").unwrap_or(octets.len());
    let header = String::from_utf8_lossy(&octets[..end]).replace("\r\n ", " ").replace("\r\n\t", "\t");
    let fields = header.split("\r\n").filter(|field| field_name(field.as_bytes()).eq_ignore_ascii_case(b"From"));
    fields.map(str::to_owned).collect()
}

/// No From, one without address, or addresses of several domains.
fn has_no_author(case: &Case, comparison: &Comparison) -> bool {
    let authors = authors(case).join(",").to_ascii_lowercase();
    let mut domains: Vec<&str> = authors
        .split('@')
        .skip(1)
        .map(|rest| {
            rest.trim_start()
                .split(|c: char| !(c.is_ascii_alphanumeric() || ".-".contains(c)))
                .next()
                .unwrap_or_default()
        })
        .collect();
    domains.sort_unstable();
    domains.dedup();
    comparison.ours.result == "permerror" && comparison.theirs.result == "none" && domains.len() != 1
}

fn has_repeated_from(case: &Case, comparison: &Comparison) -> bool {
    comparison.ours.result == "permerror" && authors(case).len() > 1
}

/// Blanks around the `@`, or a final dot.
fn has_obsolete_from(case: &Case, _: &Comparison) -> bool {
    authors(case).iter().any(|it| it.contains(" @") || it.trim_ascii_end().ends_with('.'))
}

fn with_legal_terms(case: &Case) -> Case {
    features::with_legal_terms(case)
}

fn change_policies(case: &Case, change: impl Fn(&str, &str) -> String) -> Case {
    let is_policy = |name: &str| name.to_ascii_lowercase().starts_with("_dmarc.");
    let records =
        case.records().with_texts(|name, text| if is_policy(name) { change(name, text) } else { text.to_owned() });
    case.with_records(records)
}

fn is_policy(text: &str) -> bool {
    let first = text.split(';').next().unwrap_or_default();
    first.split_once('=').is_some_and(|(tag, value)| {
        tag.trim_end_matches([' ', '\t']).eq_ignore_ascii_case("v") && value.trim_matches([' ', '\t']) == "DMARC1"
    })
}

/// Texts that are policies only for those who do not mind the case of `DMARC1` or what stands before `v`.
fn without_odd_dmarc_versions(case: &Case) -> Case {
    change_policies(case, |_, text| {
        let looks_like_one = text.trim_start().to_ascii_lowercase().starts_with('v');
        if looks_like_one && !is_policy(text) { "other".to_owned() } else { text.to_owned() }
    })
}

fn without_several_policies(case: &Case) -> Case {
    let records = case.records();
    change_policies(case, |name, text| {
        let at_name = records.texts().filter(|(it, text)| it.eq_ignore_ascii_case(name) && is_policy(text)).count();
        if at_name > 1 && is_policy(text) { "other".to_owned() } else { text.to_owned() }
    })
}

/// Values that are none of those that a tag may have, and what follows from a record without a policy.
fn without_bad_values(case: &Case) -> Case {
    change_policies(case, |_, text| {
        let kept = text.split(';').filter(|tag| {
            let Some((name, value)) = tag.split_once('=') else { return tag.trim().is_empty() };
            let (name, value) = (name.trim().to_ascii_lowercase(), value.trim().to_ascii_lowercase());
            match &*name {
                "adkim" | "aspf" => matches!(&*value, "r" | "s"),
                "p" | "sp" | "np" => matches!(&*value, "none" | "quarantine" | "reject"),
                "rua" | "ruf" => value.starts_with("mailto:"),
                "fo" => false,
                _ => true,
            }
        });
        let kept: Vec<&str> = kept.collect();
        let has_policy = kept.iter().any(|tag| tag.trim().to_ascii_lowercase().starts_with("p="));
        if has_policy || !is_policy(text) { kept.join(";") } else { "other".to_owned() }
    })
}

/// What the policy says of domains that do not exist: the caches of mail-auth can not be told that a name does not.
fn without_np(case: &Case) -> Case {
    change_policies(case, |_, text| {
        let kept: Vec<&str> =
            text.split(';').filter(|tag| !tag.trim().to_ascii_lowercase().starts_with("np")).collect();
        kept.join(";")
    })
}

fn without_failing_policies(case: &Case) -> Case {
    let mut records = case.records().clone();
    records.0.retain(|(name, list)| {
        let fails =
            list.iter().any(|it| it.as_str().is_some() || it["TXT"].as_str().is_some_and(|it| it == "SERVFAIL"));
        !(name.to_ascii_lowercase().starts_with("_dmarc.") && fails)
    });
    case.with_records(records)
}

fn without_ip6_terms(case: &Case) -> Case {
    features::with_terms(case, |_, term| {
        let is_ip6 = mechanism(term).starts_with("ip6");
        (!is_ip6).then(|| term.to_owned())
    })
}

/// Records that other records lead to, without includes of their own.
fn without_nested_includes(case: &Case) -> Case {
    let mut targets = Vec::new();
    features::with_terms(case, |_, term| {
        let term = mechanism(term);
        let target = term.strip_prefix("include:").or_else(|| term.strip_prefix("redirect="));
        targets.extend(target.map(|target| target.trim_end_matches('.').to_owned()));
        None
    });
    for (name, list) in &case.records().0 {
        if let Some(alias) = list.iter().find_map(|record| record["CNAME"].as_str())
            && targets.contains(&name.to_ascii_lowercase())
        {
            targets.push(alias.to_ascii_lowercase());
        }
    }
    features::with_terms(case, |name, term| {
        let is_nested = mechanism(term).starts_with("include") && targets.contains(&name.to_ascii_lowercase());
        (!is_nested).then(|| term.to_owned())
    })
}

/// No more than ten exchanges at each name.
fn with_ten_exchanges(case: &Case) -> Case {
    let mut records = case.records().clone();
    for (_, list) in &mut records.0 {
        let mut count = 0;
        list.retain(|record| {
            count += usize::from(!record["MX"].is_null());
            record["MX"].is_null() || count <= 10
        });
    }
    case.with_records(records)
}

fn without_exists(case: &Case) -> Case {
    features::with_terms(case, |_, term| (!mechanism(term).starts_with("exists")).then(|| term.to_owned()))
}

/// Unknown modifiers that hold a `/` or have the name of a mechanism.
fn without_odd_modifiers(case: &Case) -> Case {
    features::with_terms(case, |_, term| {
        let is_modifier = term.split_once('=').is_some_and(|(name, _)| !name.contains([':', '/', '%']));
        let is_known = mechanism(term).starts_with("redirect=") || mechanism(term).starts_with("exp=");
        (!is_modifier || is_known).then(|| term.to_owned())
    })
}

fn without_mx_terms(case: &Case) -> Case {
    features::with_terms(case, |_, term| (!mechanism(term).starts_with("mx")).then(|| term.to_owned()))
}

/// No macro that splits at anything but dots.
fn without_delimiters(case: &Case) -> Case {
    features::with_terms(case, |_, term| {
        let splits = |inside: &str| {
            inside.split('}').next().is_some_and(|inside| inside.contains(['-', '+', ',', '/', '_', '=']))
        };
        (!term.split("%{").skip(1).any(splits)).then(|| term.to_owned())
    })
}

fn without_percents(case: &Case) -> Case {
    features::with_terms(case, |_, term| (!term.contains("%%")).then(|| term.to_owned()))
}

fn with_nested_voids(case: &Case) -> Case {
    let mut case = case.clone();
    case.spf.count_nested_voids = true;
    case
}

fn without_final_dot(case: &Case) -> Case {
    let mut case = case.clone();
    if let Input::Spf(case) = &mut case.input {
        for name in [&mut case.helo, &mut case.mail_from] {
            name.truncate(name.trim_end_matches('.').len());
        }
    }
    case
}

/// The one name with U-labels that is generated, with its A-label.
fn with_a_labels(case: &Case) -> Case {
    let mut case = case.clone();
    if let Input::Spf(case) = &mut case.input {
        for name in [&mut case.helo, &mut case.mail_from] {
            *name = name.replace("b\u{fc}cher", "xn--bcher-kva");
        }
    }
    case
}

fn with_plain_client(case: &Case) -> Case {
    let mut case = case.clone();
    if let Input::Spf(case) = &mut case.input {
        case.ip = case.ip.to_canonical();
    }
    case
}

/// The term in lower case without its qualifier.
fn mechanism(term: &str) -> String {
    term.trim_start_matches(['+', '-', '?', '~']).to_ascii_lowercase()
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
    features::with_terms(case, |_, term| {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '/');
        let target = features::target(term);
        let labels_are_plain = target.trim_end_matches('.').split('.').all(|label| (1..64).contains(&label.len()));
        let is_plain = target.chars().all(plain) && (target.is_empty() || labels_are_plain);
        is_plain.then(|| term.to_owned())
    })
}

fn without_pointers(case: &Case) -> Case {
    features::with_terms(case, |_, term| {
        let is_pointer = mechanism(term).starts_with("ptr") || mechanism(term).contains("%{p");
        (!is_pointer).then(|| term.to_owned())
    })
}
