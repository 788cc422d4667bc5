//! The sets on ARC: validation of whole chains, and sealing.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use mailproof::zone::Zone;
use mailproof_proto::arc::{ArcOutcome, ArcResult, Validator, seal};
use mailproof_proto::dkim::{BodyHashes, Canonicalization, DkimOptions, DkimResult, SigningPlan};
use mailproof_proto::dns::Name;
use mailproof_proto::message::HeaderIndex;
use mailproof_proto::time::Timestamp;
use serde_json::{Value, json};

use super::dkim::{Message, NOW_DEFAULT, verify, with_crlf};
use super::messages::{signing_keys, tag};
use super::{CaseOutcome, SetRunner, read_yaml, text};
use crate::drive::{ORDERS, Order, drive};

/// The runner for a set of this kind.
#[must_use]
pub fn runner(set: &str) -> Option<SetRunner> {
    match set {
        "arc-signing" => Some(run_signing),
        "arc-validation" => Some(run_validation),
        _ => None,
    }
}

/// The outcome of a chain, the same in every order of answers and for every size of chunks.
pub(super) fn validate(message: &Message, zone: &Zone, now: u64) -> Result<ArcOutcome, String> {
    let mut index = HeaderIndex::new();
    let headers = index.scan(&message.header);
    let now = Timestamp::from_seconds(now);
    let mut first: Option<ArcOutcome> = None;
    for chunk_bytes in [usize::MAX, 1, 7] {
        for order in ORDERS {
            let mut bodies = BodyHashes::new();
            let mut validator = Validator::begin(headers, &DkimOptions::default(), &mut bodies);
            for chunk in message.body.chunks(chunk_bytes.min(message.body.len().max(1))) {
                bodies.update(chunk);
            }
            bodies.finish();
            let outcome = drive(zone, order, |answers| validator.outcome(headers, &bodies, now, answers)).0;
            match &first {
                None => first = Some(outcome),
                Some(first) if *first != outcome => {
                    return Err(format!("{order:?} with chunks of {chunk_bytes}: {outcome:?} instead of {first:?}"));
                }
                Some(_) => {}
            }
        }
    }
    first.ok_or_else(|| "no outcome".to_owned())
}

/// A message with a chain, among the sets on DKIM: `arc` cases pass as a chain and by a signature, `arc-structure`
/// cases have no keys, so that only their structure counts.
pub(super) fn run_message(dir: &Path, zone: &Zone, now: u64, case: &Value) -> Result<(), String> {
    let message = Message::read(&dir.join(text(case, "file")))?;
    let outcome = validate(&message, zone, now)?;
    let outcomes = verify(&message, zone, &DkimOptions::default(), now)?;
    match (text(case, "kind"), text(case, "verdict")) {
        ("arc-structure", "") => {
            let well_formed = outcome.sealers.len() == usize::from(outcome.instances);
            if well_formed { Ok(()) } else { Err(shown(&outcome)) }
        }
        ("arc", "pass") => {
            let signed = outcomes.iter().any(|it| it.result == DkimResult::Pass);
            if outcome.result == ArcResult::Pass && signed { Ok(()) } else { Err(shown(&outcome)) }
        }
        (kind, verdict) => Err(format!("unknown kind {kind} with verdict {verdict:?}")),
    }
}

/// Every test of every scenario file: its id, the test and the whole scenario.
fn scenarios(dir: &Path) -> Result<Vec<(String, Value, Value)>, String> {
    let list = fs::read_dir(dir.join("scenarios")).map_err(|error| error.to_string())?;
    let mut paths: Vec<_> = list.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.retain(|path| path.extension().is_some_and(|ending| ending == "yml" || ending == "yaml"));
    paths.sort();
    let mut tests = Vec::new();
    for path in paths {
        let scenario = read_yaml(&path)?;
        let map = scenario.get("tests").and_then(Value::as_object).ok_or(format!("{}: no tests", path.display()))?;
        tests.extend(map.iter().map(|(id, test)| (id.clone(), test.clone(), scenario.clone())));
    }
    Ok(tests)
}

fn keys(scenario: &Value) -> Result<Zone, String> {
    let mut names = serde_json::Map::new();
    for (name, record) in scenario.get("txt-records").and_then(Value::as_object).into_iter().flatten() {
        // Records are broken into lines in some files.
        let record: String = record.as_str().unwrap_or_default().lines().collect();
        names.insert(name.clone(), json!([{ "TXT": record }]));
    }
    Zone::from_value(&Value::Object(names)).map_err(|error| error.to_string())
}

fn run_validation(dir: &Path) -> Result<Vec<CaseOutcome>, String> {
    let tests = scenarios(dir)?;
    let one = |(id, test, scenario): &(String, Value, Value)| {
        CaseOutcome::new(id.clone(), run_validation_case(test, scenario).err())
    };
    Ok(tests.iter().map(one).collect())
}

fn run_validation_case(test: &Value, scenario: &Value) -> Result<(), String> {
    const KNOWN: [&str; 6] = ["spec", "description", "message", "cv", "note", "comment"];
    if let Some(unknown) =
        test.as_object().into_iter().flatten().map(|(key, _)| key).find(|key| !KNOWN.contains(&key.as_str()))
    {
        return Err(format!("unknown field {unknown}"));
    }
    let message = Message::split(&with_crlf(text(test, "message").as_bytes()));
    let outcome = validate(&message, &keys(scenario)?, NOW_DEFAULT)?;
    let holds = match test.get("cv").and_then(Value::as_str) {
        Some("Pass") => outcome.result == ArcResult::Pass,
        Some("Fail") => outcome.result == ArcResult::Fail,
        Some("None") => outcome.result == ArcResult::None,
        // Left open upstream: a chain that can not be validated must still not pass.
        Some("") | None => outcome.result != ArcResult::Pass,
        Some(other) => return Err(format!("unknown cv {other}")),
    };
    if holds { Ok(()) } else { Err(format!("{} expected: {}", test["cv"], shown(&outcome))) }
}

fn run_signing(dir: &Path) -> Result<Vec<CaseOutcome>, String> {
    let tests = scenarios(dir)?;
    let one = |(id, test, scenario): &(String, Value, Value)| {
        CaseOutcome::new(id.clone(), run_signing_case(test, scenario).err())
    };
    Ok(tests.iter().map(one).collect())
}

/// The set made here says the same as the expected one, tag by tag, and validates. `b=` differs: the suite's seals cover
/// its own folding of the message signature, and its key is shorter than what is signed with here.
fn run_signing_case(test: &Value, scenario: &Value) -> Result<(), String> {
    const KNOWN: [&str; 9] = ["spec", "description", "message", "t", "sig-headers", "srv-id", "AS", "AMS", "AAR"];
    if let Some(unknown) = test.as_object().into_iter().flatten().find(|(key, _)| !KNOWN.contains(&key.as_str())) {
        return Err(format!("unknown field {}", unknown.0));
    }
    let message = Message::split(&with_crlf(text(test, "message").as_bytes()));
    let expects_none = text(test, "AS").trim().is_empty();
    let zone = keys(scenario)?;
    seal_here(&message, test, scenario, &zone, expects_none)
}

fn seal_here(message: &Message, test: &Value, scenario: &Value, zone: &Zone, expects_none: bool) -> Result<(), String> {
    let domain = Name::parse_domain(text(scenario, "domain")).map_err(|error| error.to_string())?;
    let names = text(test, "sig-headers").to_ascii_lowercase();
    let mut names: Vec<&str> = names.split(':').collect();
    let named_twice = names.len() > names.iter().collect::<BTreeSet<_>>().len();
    names.dedup();
    for key in signing_keys() {
        let plan = SigningPlan {
            domain: &domain,
            // A selector of its own, so that the sets before keep their key.
            selector: "ours",
            identity: None,
            header_form: Canonicalization::Relaxed,
            body_form: Canonicalization::Relaxed,
            names: &names,
            oversigned: &[],
            signed_at: test.get("t").and_then(Value::as_u64),
            expires_at: None,
        };
        let mut index = HeaderIndex::new();
        let headers = index.scan(&message.header);
        let mut bodies = BodyHashes::new();
        plan.want_body(&mut bodies);
        let mut validator = Validator::begin(headers, &DkimOptions::default(), &mut bodies);
        bodies.update(&message.body);
        bodies.finish();
        let now = Timestamp::from_seconds(NOW_DEFAULT);
        let outcome = drive(zone, Order::AtHand, |answers| validator.outcome(headers, &bodies, now, answers)).0;
        let results = text(test, "AAR").split_once(';').map_or("", |(_, rest)| rest).replace('\n', "\r\n ");
        let sealed = seal(&plan, key, &results, &validator, &outcome, headers, &bodies);
        let sealed = match sealed.map_err(|error| error.to_string())? {
            None if expects_none => return Ok(()),
            None => return Err(format!("not sealed: {}", shown(&outcome))),
            Some(_) if expects_none => return Err("sealed, though the chain had failed before".to_owned()),
            Some(sealed) => sealed,
        };
        for (ours, theirs, tags) in [
            (&sealed.seal, "AS", &["i", "cv", "d", "t"][..]),
            (&sealed.message_signature, "AMS", &["i", "bh", "c", "d", "t", "h"]),
        ] {
            let ours = ours.split_once(':').map_or("", |(_, value)| value);
            for name in tags {
                let same = tag(ours, name) == tag(text(test, theirs), name);
                // How often a repeated field is named is the signer's choice.
                if !same
                    && !(*name == "h" && (named_twice || tag(ours, "h").is_some_and(|names| names.contains("to:to"))))
                {
                    return Err(format!("{name}= of {theirs}: {:?}", tag(ours, name)));
                }
            }
        }
        let mut both = zone.clone();
        let record = key.record().map_err(|error| error.to_string())?;
        both.add(&json!({ (format!("ours._domainkey.{domain}")): [{ "TXT": record }] }))
            .map_err(|error| error.to_string())?;
        let after = validate(&with_header(message, &sealed.to_header()), &both, NOW_DEFAULT)?;
        let wanted = if outcome.result == ArcResult::Fail { ArcResult::Fail } else { ArcResult::Pass };
        if after.result != wanted || after.instances != outcome.instances + 1 {
            return Err(format!("sealed here: {}", shown(&after)));
        }
    }
    Ok(())
}

fn with_header(message: &Message, fields: &str) -> Message {
    Message { header: [fields.as_bytes(), &message.header].concat(), body: message.body.clone() }
}

fn shown(outcome: &ArcOutcome) -> String {
    let problem = outcome.problem.map_or("-".to_owned(), |problem| format!("{}: {problem}", problem.word()));
    format!("{} of {} ({problem})", outcome.result.word(), outcome.instances)
}
