//! The conformance corpus, when it is there.

use mailproof_testkit::corpus;
use mailproof_testkit::corpus::exceptions::{EXCEPTIONS, is_excepted};

/// Exceptions allowed over all sets.
const EXCEPTIONS_MAX: usize = 40;

#[test]
fn corpus_cases_end_as_expected() {
    let Some(dir) = corpus::directory() else {
        println!("corpus absent: set MAILPROOF_CORPUS; 0 cases ran");
        return;
    };
    let (mut ran, mut failures) = (0, Vec::new());
    for entry in std::fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        let set = path.file_name().unwrap().to_string_lossy().into_owned();
        // The hostile set is run in release builds, where its bounds on time mean something.
        let Some(run) = corpus::runner(&set).filter(|_| set != "hostile" && path.is_dir()) else { continue };
        let cases = run(&path).unwrap_or_else(|error| panic!("{set}: {error}"));
        assert!(!cases.is_empty(), "{set}: no cases");
        ran += cases.len();
        let failing = cases.iter().filter(|case| case.failure.is_some() && !is_excepted(&set, &case.id));
        failures
            .extend(failing.map(|case| format!("{set}/{}: {}", case.id, case.failure.as_deref().unwrap_or_default())));
    }
    println!("{ran} cases of the corpus ran");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn exceptions_are_few_and_explained() {
    assert!(EXCEPTIONS.len() <= EXCEPTIONS_MAX, "{} exceptions", EXCEPTIONS.len());
    for exception in EXCEPTIONS {
        assert!(!exception.reason.is_empty() && !exception.section.is_empty(), "{}/{}", exception.set, exception.id);
    }
}
