//! What is measured: one list for every harness, so that times, instructions and allocations are of the same work.

mod parts;
mod verdicts;

/// One thing to measure.
pub struct Case {
    /// The table it belongs to.
    pub table: &'static str,
    /// Its name in that table: letters, digits, spaces, hyphens.
    pub name: String,
    /// It is among the few that every run of the tests counts the instructions of.
    pub is_short: bool,
    prepare: Box<dyn Fn() -> Work>,
}

/// A prepared case: each call does the work once and gives some figure that depends on it.
pub type Work = Box<dyn FnMut() -> usize>;

impl Case {
    fn new(table: &'static str, name: impl Into<String>, prepare: impl Fn() -> Work + 'static) -> Self {
        Self { table, name: name.into(), is_short: false, prepare: Box::new(prepare) }
    }

    fn short(self) -> Self {
        Self { is_short: true, ..self }
    }

    /// Builds what the work needs, and does it twice: answers are checked, memory and caches are as later rounds find
    /// them.
    #[must_use]
    pub fn prepare(&self) -> Work {
        let mut work = (self.prepare)();
        for _ in 0..2 {
            assert!(work() > 0, "{} {}", self.table, self.name);
        }
        work
    }

    /// Table and name, as the harnesses write it.
    #[must_use]
    pub fn id(&self) -> String {
        format!("{}/{}", self.table, self.name)
    }
}

/// Every case. The list does not depend on the processor.
#[must_use]
pub fn all() -> Vec<Case> {
    let mut cases = parts::cases();
    cases.extend(verdicts::cases());
    cases
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_plain_and_stand_for_one_case_each() {
        let mut seen = HashSet::new();
        for case in all() {
            let plain = |name: &str| name.chars().all(|letter| letter.is_ascii_alphanumeric() || " -".contains(letter));
            assert!(plain(case.table) && plain(&case.name), "{}", case.id());
            assert!(seen.insert(case.id()), "{}", case.id());
        }
        assert!(all().iter().any(|case| case.is_short));
    }

    #[test]
    fn short_cases_give_their_answers() {
        for case in all().iter().filter(|case| case.is_short) {
            assert!(case.prepare()() > 0, "{}", case.id());
        }
    }
}
