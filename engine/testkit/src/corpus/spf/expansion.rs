//! `spf-mox` and `spf-libspf2`: macro strings, records, and evaluations listed one by one.

use std::path::Path;

use mailproof::zone::Zone;
use mailproof_proto::spf::macros::Usage;
use mailproof_proto::spf::{Record, is_spf};
use serde_json::{Map, Value, json};

use super::grammar::is_record;
use super::{Mail, RECEIVER, check, compare, compare_explanation, evaluate, expand, known_keys, read_ip, reverse_name};
use crate::corpus::{CaseOutcome, read_cases, read_yaml, text};

pub(super) fn run_mox(dir: &Path) -> Result<Vec<CaseOutcome>, String> {
    let zones = read_yaml(&dir.join("dns.yml"))?;
    let cases = read_cases(dir)?;
    Ok(cases.iter().map(|case| CaseOutcome::new(text(case, "id"), run_mox_case(&zones, case).err())).collect())
}

fn run_mox_case(zones: &Value, case: &Value) -> Result<(), String> {
    match text(case, "kind") {
        "expand" => {
            known_keys(case, &["id", "kind", "context", "macro", "ip", "expect", "comment"])?;
            let usage = match text(case, "context") {
                "dns" => Usage::DomainSpec,
                "exp" => Usage::Explanation,
                other => return Err(format!("unknown context {other}")),
            };
            let mail = Mail {
                ip: case.get("ip").and_then(Value::as_str),
                helo: "mx.mox.example",
                sender: "strong-bad@email.example.com",
                receiver: "self.example",
            };
            let zone = zone(zones, "expand", None)?;
            compare_expansion(expand(text(case, "macro"), usage, &mail, &zone)?, case)
        }
        "verify" => {
            let known = ["id", "kind", "zone", "record", "mailfrom", "helo", "ip", "result", "explanation", "comment"];
            known_keys(case, &known)?;
            let zone = zone(zones, text(case, "zone"), case.get("record").and_then(Value::as_str))?;
            let check = check(read_ip(text(case, "ip"))?, text(case, "helo"), text(case, "mailfrom"), RECEIVER);
            let outcome = evaluate(&zone, &check)?;
            compare(&outcome, case.get("result").ok_or("no result")?)?;
            match case.get("explanation").and_then(Value::as_str) {
                Some(explanation) => compare_explanation(&outcome, explanation),
                None => Ok(()),
            }
        }
        other => Err(format!("unknown kind {other}")),
    }
}

fn compare_expansion(found: Option<String>, case: &Value) -> Result<(), String> {
    // The origin keeps the final dot of a name.
    let plain = |text: &str| text.strip_suffix('.').unwrap_or(text).to_owned();
    let expected = match case.get("expect") {
        Some(Value::Null) => None,
        Some(Value::String(expected)) => Some(plain(expected)),
        other => return Err(format!("unknown expectation {other:?}")),
    };
    let found = found.as_deref().map(plain);
    if found == expected { Ok(()) } else { Err(format!("{found:?}, expected {expected:?}")) }
}

/// A zone of the set: PTR data are keyed by the address, and `record` takes the place of the TXT of example.com.
fn zone(zones: &Value, name: &str, record: Option<&str>) -> Result<Zone, String> {
    let listed = zones.get(name).and_then(Value::as_object).ok_or_else(|| format!("no zone {name:?}"))?;
    let mut names = Map::new();
    for (name, records) in listed {
        let name = name.parse().map_or_else(|_| name.clone(), reverse_name);
        names.insert(name, records.clone());
    }
    if let Some(record) = record {
        let records = names.entry("example.com").or_insert_with(|| json!([]));
        let records = records.as_array_mut().ok_or("records that are no list")?;
        records.retain(|record| record.get("TXT").is_none());
        records.push(json!({ "TXT": record }));
    }
    Zone::from_value(&Value::Object(names)).map_err(|error| error.to_string())
}

pub(super) fn run_libspf2(dir: &Path) -> Result<Vec<CaseOutcome>, String> {
    let cases = read_cases(dir)?;
    Ok(cases.iter().map(|case| CaseOutcome::new(text(case, "id"), run_libspf2_case(case).err())).collect())
}

fn run_libspf2_case(case: &Value) -> Result<(), String> {
    match text(case, "kind") {
        "parser" | "adoption" => {
            known_keys(case, &["id", "kind", "record", "upstream", "comment"])?;
            let record = case.get("record").and_then(Value::as_str).ok_or("no record")?;
            judge_record(record.as_bytes())?;
            if text(case, "upstream").contains("Could not find a valid SPF record") && is_spf(record.as_bytes()) {
                return Err("taken for an SPF record".to_owned());
            }
            let zone = json!({ "example.com": [{ "TXT": record }] });
            let zone = Zone::from_value(&zone).map_err(|error| error.to_string())?;
            let outcome = evaluate(&zone, &check(read_ip("192.0.2.3")?, "", "user@example.com", RECEIVER))?;
            let word = outcome.problem.as_ref().map(|problem| problem.word());
            let is_as_parsed = match (is_spf(record.as_bytes()), is_record(record.as_bytes())) {
                (false, _) => word == Some("no-record"),
                (true, false) => word == Some("syntax-error"),
                (true, true) => !matches!(word, Some("no-record" | "syntax-error")),
            };
            if is_as_parsed { Ok(()) } else { Err(format!("evaluates to {} ({word:?})", outcome.result)) }
        }
        "expansion" => {
            known_keys(case, &["id", "kind", "macro", "ip", "sender", "helo", "expect", "comment"])?;
            let ip = case.get("ip").and_then(Value::as_str);
            let mail = Mail { ip, helo: text(case, "helo"), sender: text(case, "sender"), receiver: RECEIVER };
            // The name that RFC 7208 section 7.4 gives the client of its examples.
            let reverse = reverse_name(mail.ip.map_or_else(|| read_ip("192.0.2.3"), read_ip)?);
            let zone = json!({ reverse: [{ "PTR": "mx.example.org" }], "mx.example.org": [{ "A": "192.0.2.3" }] });
            let zone = Zone::from_value(&zone).map_err(|error| error.to_string())?;
            compare_expansion(expand(text(case, "macro"), Usage::Explanation, &mail, &zone)?, case)
        }
        other => Err(format!("unknown kind {other}")),
    }
}

/// The origin's own judgement is only a hint: it is older than RFC 7208. The grammar of section 12 decides.
pub(super) fn judge_record(record: &[u8]) -> Result<(), String> {
    if !is_spf(record) {
        return Ok(());
    }
    match (Record::parse(record), is_record(record)) {
        (Ok(_), true) | (Err(_), false) => Ok(()),
        (Ok(_), false) => Err("accepted, against the grammar of section 12".to_owned()),
        (Err(error), true) => Err(format!("refused ({error}), against the grammar of section 12")),
    }
}
