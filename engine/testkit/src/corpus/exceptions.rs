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
pub const EXCEPTIONS: &[Exception] = &[];

/// True when a case is on the list.
#[must_use]
pub fn is_excepted(set: &str, id: &str) -> bool {
    EXCEPTIONS.iter().any(|exception| exception.set == set && exception.id == id)
}
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
];
