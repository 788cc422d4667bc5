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
