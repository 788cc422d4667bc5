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

/// Every exception.
pub const EXCEPTIONS: &[Exception] = &[
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
        id: "nxdomain-tests/one-mx-not-found",
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
