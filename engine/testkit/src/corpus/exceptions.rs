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
        id: "parse-05",
        reason: "p=n is no abbreviation of p=none but an invalid value",
        section: "RFC 9989 section 4.8",
    },
    Exception {
        set: "dmarc-opendmarc",
        id: "orgdomain-04",
        reason: "the input is mangled by its escapes, and no public suffix stands under ar for what was meant",
        section: "RFC 7489 section 3.2",
    },
];
