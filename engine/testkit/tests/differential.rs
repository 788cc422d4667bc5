//! The comparison with other implementations on a few random cases; the long runs are `mailproof-testkit differential`.
#![cfg(feature = "oracles")]

use std::path::Path;

use mailproof_testkit::differential::{self, Options, classes::CLASSES};

#[test]
fn no_disagreement_is_left_unexplained() {
    let options = Options { count: 400, python_count: 100, seed: 20_261_123, only: None };
    let report = differential::run(&options).unwrap();
    let text = report.text();
    println!("seed {}\n{text}", options.seed);
    assert_eq!(report.unexplained_count, 0, "{text}");
    assert!(text.lines().last().is_some_and(|line| line.starts_with("differential: ")));
}

#[test]
fn a_seed_repeats_its_cases() {
    let options = Options { count: 60, python_count: 0, seed: 5, only: None };
    let counts = |options: &Options| differential::run(options).unwrap().counts();
    assert_eq!(counts(&options), counts(&options));
    assert_ne!(counts(&options), counts(&Options { seed: 6, ..options }));
}

#[test]
fn every_class_is_documented_once() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("DISAGREEMENTS.md");
    let text = std::fs::read_to_string(path).unwrap();
    for class in CLASSES {
        let rows = text.lines().filter(|line| line.starts_with(&format!("| `{}` |", class.name))).count();
        assert_eq!(rows, 1, "{}", class.name);
        assert_eq!(CLASSES.iter().filter(|it| it.name == class.name).count(), 1, "{}", class.name);
    }
}
