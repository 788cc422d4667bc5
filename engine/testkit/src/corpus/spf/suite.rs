//! Sets in the form of the public RFC 7208 suite: one YAML file per scenario, a zone and its tests.

use std::fs;
use std::path::Path;

use mailproof::zone::Zone;
use mailproof_proto::spf::{Check, Identity, ReceivedSpf, SpfOutcome};
use serde_json::Value;

use super::{RECEIVER, check, compare, compare_explanation, evaluate, known_keys, read_ip};
use crate::corpus::{CaseOutcome, read_yaml, text};

/// Runs every scenario of a set. The id of a case is its scenario (the file name without number) and its name.
pub(super) fn run(dir: &Path) -> Result<Vec<CaseOutcome>, String> {
    let scenarios = dir.join("scenarios");
    let entries = fs::read_dir(&scenarios).map_err(|error| format!("{}: {error}", scenarios.display()))?;
    let mut files: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yml" || extension == "yaml"));
    files.sort();
    let mut outcomes = Vec::new();
    for file in files {
        let scenario = read_yaml(&file)?;
        let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        let name = stem.trim_start_matches(|it: char| it.is_ascii_digit() || it == '-');
        run_scenario(name, &scenario, &mut outcomes).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(outcomes)
}

fn run_scenario(name: &str, scenario: &Value, outcomes: &mut Vec<CaseOutcome>) -> Result<(), String> {
    known_keys(scenario, &["description", "comment", "tests", "zonedata"])?;
    let zone = match scenario.get("zonedata") {
        Some(zone) => Zone::from_value(zone).map_err(|error| error.to_string())?,
        None => Zone::new(),
    };
    let tests = scenario.get("tests").and_then(Value::as_object).ok_or("no tests")?;
    for (id, test) in tests {
        outcomes.push(CaseOutcome::new(format!("{name}/{id}"), run_test(&zone, test).err()));
    }
    Ok(())
}

fn run_test(zone: &Zone, test: &Value) -> Result<(), String> {
    // `strict` is the mode of the program the suite was written for.
    let known = ["description", "comment", "spec", "helo", "host", "mailfrom", "result", "explanation", "strict"];
    known_keys(test, &[known.as_slice(), &["receiver", "header"]].concat())?;
    let receiver = test.get("receiver").and_then(Value::as_str).unwrap_or(RECEIVER);
    let check = check(read_ip(text(test, "host"))?, text(test, "helo"), text(test, "mailfrom"), receiver);
    let outcome = evaluate(zone, &check)?;
    compare(&outcome, test.get("result").ok_or("no result")?)?;
    if let Some(explanation) = test.get("explanation") {
        compare_explanation(&outcome, explanation.as_str().ok_or("an explanation that is no text")?)?;
    }
    if let Some(header) = test.get("header") {
        compare_header(&check, &outcome, header.as_str().ok_or("a header that is no text")?)?;
    }
    Ok(())
}

/// Section 9.1 leaves the text open: the pairs are compared, and that there is a problem, not its wording.
fn compare_header(check: &Check<'_>, outcome: &SpfOutcome, expected: &str) -> Result<(), String> {
    let expected = ReceivedSpf::parse(expected).map_err(|error| error.to_string())?;
    let written = ReceivedSpf::new(Identity::MailFrom, check, outcome).to_string();
    let found = ReceivedSpf::parse(&written).map_err(|error| format!("{written:?}: {error}"))?;
    if found.result != expected.result {
        return Err(format!("header says {}, expected {}", found.result, expected.result));
    }
    for (key, value) in &expected.pairs {
        let equal = found.value(key).is_some_and(|found| key == "problem" || found == value);
        if !equal {
            return Err(format!("header has {key}={:?}, expected {value:?}", found.value(key)));
        }
    }
    Ok(())
}
