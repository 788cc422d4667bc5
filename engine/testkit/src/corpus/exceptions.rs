//! Cases where this project differs from the corpus on purpose; each with its reason and section.

/// One case we answer otherwise than its set expects.
#[derive(Clone, Copy, Debug)]
pub struct Exception {
    /// The set.
    pub set: &'static str,
    /// The id of the case.
    pub id: &'static str,
    /// Why, in one sentence.
    pub reason: &'static str,
    /// The section that decides.
    pub section: &'static str,
}

/// Every exception, by set and id.
pub const EXCEPTIONS: &[Exception] = &[
    Exception {
        set: "arc-validation",
        id: "ams_fields_c_na",
        reason: "c= is absent, which means simple/simple; the signature was made over the relaxed form",
        section: "RFC 6376 section 3.5",
    },
    Exception {
        set: "arc-validation",
        id: "ams_fields_h_mis_hdr",
        reason: "h= holds an empty field name, which its grammar does not allow",
        section: "RFC 6376 section 3.5",
    },
    Exception {
        set: "auth-milter",
        id: "milter-11-google_apps_bad_space",
        reason: "the address of MAIL FROM holds a space: no mailbox, and no domain to check",
        section: "RFC 7208 section 4.3",
    },
    Exception {
        set: "auth-rspamd",
        id: "dkim-dkim-unparseable-signatures-count-towards-limit",
        reason: "expects a limit of five signatures; ours is ten, and those of the author are judged first",
        section: "RFC 6376 section 6.1",
    },
    Exception {
        set: "auth-rspamd",
        id: "dmarc-dmarc-pct-zero-reject",
        reason: "pct is historic and ignored",
        section: "RFC 9989 section 9.3",
    },
    Exception {
        set: "auth-rspamd",
        id: "dmarc-dmarc-pct-zero-sp-quarantine",
        reason: "pct is historic and ignored",
        section: "RFC 9989 section 9.3",
    },
    Exception {
        set: "auth-rspamd",
        id: "dmarc-dmarc-subdomain-pass-dkim-relaxed-alignment",
        reason: "expects the organisation of the Public Suffix List; in the tree walk no record joins the two domains",
        section: "RFC 9989 section 4.10.2",
    },
    Exception {
        set: "auth-rspamd",
        id: "spf-spf-fail-unresolveable-include",
        reason: "an include of a domain without record is a permerror",
        section: "RFC 7208 section 5.2",
    },
    Exception {
        set: "dkim-exim",
        id: "4540-02",
        reason: "an Ed25519 key is published as its 32 octets, not wrapped in SubjectPublicKeyInfo",
        section: "RFC 8463 section 4.2",
    },
    Exception {
        set: "dkim-exim",
        id: "4540-04",
        reason: "expects the run's own minimum key size; an Ed25519 key always has its one size",
        section: "RFC 8463 section 4.2",
    },
    Exception {
        set: "dkim-go-msgauth",
        id: "too-many-signatures",
        reason: "expects a limit of two signatures; three good ones are judged and pass here",
        section: "RFC 6376 section 6.1",
    },
    Exception {
        set: "dmarc-authheaders",
        id: "authenticate_dmarc_bad",
        reason: "a stray word behind p=none does not discard the record, so the message fails with policy none",
        section: "RFC 9989 section 4.7",
    },
    Exception {
        set: "dmarc-mail-dmarc",
        id: "eval-sub-psd-dmarctest-net",
        reason: "a record without p and without rua means no DMARC, as the note of the case says",
        section: "RFC 9989 section 4.10.1",
    },
    Exception {
        set: "dmarc-opendmarc",
        id: "orgdomain-04",
        reason: "the input is mangled by its escapes, and no public suffix stands under ar for what was meant",
        section: "RFC 7489 section 3.2",
    },
    Exception {
        set: "dmarc-opendmarc",
        id: "parse-05",
        reason: "p=n is no abbreviation of p=none but an invalid value",
        section: "RFC 9989 section 4.8",
    },
    Exception {
        set: "spf-blitiri",
        id: "mx-resolution-limits/mx-resolution-10-terms",
        reason: "the MAIL FROM domain is a single label, for which check_host gives none",
        section: "RFC 7208 section 4.3",
    },
    Exception {
        set: "spf-blitiri",
        id: "mx-resolution-limits/mx-resolution-11-terms",
        reason: "the MAIL FROM domain is a single label, for which check_host gives none",
        section: "RFC 7208 section 4.3",
    },
    Exception {
        set: "spf-blitiri",
        id: "nxdomain-tests/include-not-found",
        reason: "the MAIL FROM domain is a single label, for which check_host gives none",
        section: "RFC 7208 section 4.3",
    },
    Exception {
        set: "spf-blitiri",
        id: "nxdomain-tests/one-mx-not-found",
        reason: "the MAIL FROM domain is a single label, for which check_host gives none",
        section: "RFC 7208 section 4.3",
    },
    Exception {
        set: "spf-mail-auth",
        id: "all-01",
        reason: "an unknown mechanism after all is still a syntax error of the record; a later syntax error is not hidden",
        section: "RFC 7208 section 4.6",
    },
    Exception {
        set: "spf-mox",
        id: "expand-34",
        reason: "the letter c stands for the address of the SMTP client, not of the receiving host",
        section: "RFC 7208 section 7.2",
    },
    Exception {
        set: "spf-mox",
        id: "scenario-17",
        reason: "a target without use is left open: the mechanism does not match, the origin answers permerror",
        section: "RFC 7208 section 4.8",
    },
    Exception {
        set: "spf-pyspf",
        id: "corner-cases/default-modifier",
        reason: "the lax mode of the origin honours default=, an unknown modifier",
        section: "RFC 7208 section 6",
    },
    Exception {
        set: "spf-pyspf",
        id: "corner-cases/default-modifier-harsh",
        reason: "the harsh mode of the origin has a result of its own, ambiguous",
        section: "RFC 7208 section 2.6",
    },
];

/// True when a case is on the list.
#[must_use]
pub fn is_excepted(set: &str, id: &str) -> bool {
    EXCEPTIONS.iter().any(|exception| exception.set == set && exception.id == id)
}
