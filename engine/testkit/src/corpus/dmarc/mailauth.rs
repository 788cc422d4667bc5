//! `dmarc-mailauth`: assertions on mailauth's result object, as far as they carry over.

use std::path::Path;

use mailproof::zone::Zone;
use mailproof_proto::dkim::DkimResult;
use mailproof_proto::dmarc::record::{AlignmentMode, Published, Record, tags};
use mailproof_proto::dmarc::{DmarcOptions, DmarcOutcome, DmarcResult, registrable_domain};
use mailproof_proto::dns::{Name, Question, RecordType};
use mailproof_proto::message::address::Author;
use mailproof_proto::spf::SpfResult;
use serde_json::{Map, Value, json};

use super::{Authenticated, author_of, check_keys, domain, each, judge, organization, policy_word};
use crate::corpus::{CaseOutcome, text};

pub(super) fn run(dir: &Path) -> Result<Vec<CaseOutcome>, String> {
    each(dir, |case| {
        check_keys(case, &["id", "kind", "description", "input", "zone", "expect", "note"])?;
        let zone = zone(&case["zone"])?;
        let (object, fails) = match text(case, "kind") {
            "verify" => verify(&case["input"], &zone)?,
            "record" => record(&case["input"], &zone)?,
            kind => return Err(format!("the runner does not know the kind {kind}")),
        };
        for assertion in case.get("expect").and_then(Value::as_array).into_iter().flatten() {
            check_keys(assertion, &["path", "op", "value"])?;
            check(assertion, &object, fails)?;
        }
        Ok(())
    })
}

/// Parts of the result that are mailauth's own: texts, and what it passes through.
const OWN_PATHS: [&str; 5] =
    ["error", "info", "status.comment", "alignment.dkim.underSized", "alignment.spf.underSized"];
/// Paths that a result has where they are not undefined.
const KNOWN_PATHS: [&str; 22] = [
    "",
    "status",
    "status.result",
    "status.header.from",
    "status.header.d",
    "status.policy.p",
    "status.policy.sp",
    "policy",
    "domain",
    "alignment",
    "alignment.dkim",
    "alignment.spf",
    "alignment.dkim.result",
    "alignment.spf.result",
    "alignment.dkim.strict",
    "alignment.spf.strict",
    "isOrgRecord",
    "rr",
    "p",
    "sp",
    "pct",
    "tagonly",
];

fn check(assertion: &Value, object: &Value, fails: bool) -> Result<(), String> {
    let (path, op) = (text(assertion, "path"), text(assertion, "op"));
    if OWN_PATHS.contains(&path) {
        return Ok(());
    }
    let is_tag = !path.contains('.') && path.bytes().all(|octet| octet.is_ascii_lowercase());
    if !KNOWN_PATHS.contains(&path) && !is_tag {
        return Err(format!("the runner does not know the path {path}"));
    }
    if ["throw", "throws", "reject", "rejects"].contains(&op) {
        return if fails { Ok(()) } else { Err("no DNS error".to_owned()) };
    }
    let pointer = if path.is_empty() { String::new() } else { format!("/{}", path.replace('.', "/")) };
    let found = object.pointer(&pointer).unwrap_or(&Value::Null);
    let (negated, op) = op.strip_prefix("not ").map_or((false, op), |op| (true, op));
    let expected = assertion.get("value").unwrap_or(&Value::Null);
    let truthy = !matches!(found, Value::Null | Value::Bool(false));
    let holds = match op {
        // The tree walk may find another Organizational Domain than the Public Suffix List; then it is right.
        "equal" if path == "domain" || path == "status.header.d" => {
            found == expected || object.get("registrable") == Some(expected)
        }
        "equal" | "eql" => found == expected,
        "ok" => truthy,
        "true" => *found == Value::Bool(true),
        "false" => !truthy,
        "undefined" | "null" => found.is_null(),
        "exist" | "exists" => !found.is_null(),
        "include" => found.as_str().zip(expected.as_str()).is_some_and(|(found, part)| found.contains(part)),
        "property" => expected.as_str().is_some_and(|key| found.get(key).is_some()),
        "type" | "a" | "an" => match expected.as_str() {
            Some("object") => found.is_object(),
            Some("string") => found.is_string(),
            Some("number") => found.is_number(),
            Some("boolean") => found.is_boolean(),
            _ => return Err(format!("the runner does not know the type {expected}")),
        },
        _ => return Err(format!("the runner does not know the assertion {op}")),
    };
    if holds == negated { Err(format!("{path:?} is {found}, not {op} {expected}")) } else { Ok(()) }
}

fn verify(input: &Value, zone: &Zone) -> Result<(Value, bool), String> {
    check_keys(input, &["headerFrom", "dkimDomains", "spfDomains", "arcResult"])?;
    let author = match input.get("headerFrom") {
        // mailauth collects the addresses of every From field here.
        Some(Value::Array(fields)) => {
            let fields = fields.iter().filter_map(Value::as_str).map(|value| format!("From: {value}\r\n"));
            author_of(fields.collect::<String>().as_bytes())
        }
        Some(Value::String(from)) if from.contains('@') => author_of(format!("From: {from}\r\n").as_bytes()),
        Some(Value::String(from)) if !from.is_empty() => Author::One(domain(from)?),
        _ => author_of(b""),
    };
    let dkim = domains(input.get("dkimDomains"))?;
    let spf = domains(input.get("spfDomains"))?;
    let dkim: Vec<_> = dkim.into_iter().map(|name| (name, DkimResult::Pass)).collect();
    let mut outcome: Option<DmarcOutcome> = None;
    for spf in spf.iter().map(|name| Some((*name, SpfResult::Pass))).chain(spf.is_empty().then_some(None)) {
        let authenticated = Authenticated { spf, dkim: dkim.clone() };
        let (found, _) = judge(zone, &author, &authenticated, &DmarcOptions::default())?;
        if outcome.as_ref().is_none_or(|before| before.spf_aligned.is_none() && found.spf_aligned.is_some()) {
            outcome = Some(found);
        }
    }
    let outcome = outcome.ok_or("not judged")?;
    let fails = outcome.result == DmarcResult::TempError;
    let Some(from) = outcome.from_domain else { return Ok((Value::Bool(false), fails)) };
    let mut object = Map::new();
    let organizational = organization(zone, &from, &DmarcOptions::default()).map(|(name, _)| name.to_string()).ok();
    object.insert(
        "status".into(),
        json!({"result": outcome.result.word(), "header": {"from": from.to_string(), "d": organizational}}),
    );
    object.insert("domain".into(), json!(organizational));
    object.insert("registrable".into(), json!(registrable_domain(&from).map(|name| name.to_string())));
    if let Some((record, text)) = outcome.policy_domain.and_then(|at| published(zone, &at)) {
        object.insert("policy".into(), json!(policy_word(&outcome)));
        add_tags(&mut object, &text);
        let same = |aligned: bool, names: &[Name]| names.first().filter(|_| aligned).map(|name| name.to_string());
        let dkim: Vec<Name> = dkim.iter().map(|(name, _)| *name).collect();
        object.insert(
            "alignment".into(),
            json!({
                "dkim": {
                    "result": same(outcome.dkim_aligned.is_some(), &dkim),
                    "strict": record.dkim_mode == AlignmentMode::Strict,
                },
                "spf": {
                    "result": same(outcome.spf_aligned.is_some(), &spf),
                    "strict": record.spf_mode == AlignmentMode::Strict,
                },
            }),
        );
    }
    Ok((Value::Object(object), fails))
}

/// The record for a domain: its own, else that of its Organizational Domain.
fn record(input: &Value, zone: &Zone) -> Result<(Value, bool), String> {
    check_keys(input, &["domain"])?;
    let of = domain(text(input, "domain"))?;
    let (outcome, _) = judge(zone, &Author::One(of), &Authenticated::default(), &DmarcOptions::default())?;
    let fails = outcome.result == DmarcResult::TempError;
    let Some((at, (_, text))) = outcome.policy_domain.and_then(|at| Some((at, published(zone, &at)?))) else {
        return Ok((Value::Bool(false), fails));
    };
    let mut object = Map::new();
    add_tags(&mut object, &text);
    object.insert("isOrgRecord".into(), json!(at != of));
    Ok((Value::Object(object), fails))
}

/// The tags as written, numbers as numbers; `sp` is `p` where it is missing.
fn add_tags(object: &mut Map<String, Value>, record: &[u8]) {
    object.insert("rr".into(), json!(String::from_utf8_lossy(record)));
    for tag in tags(record) {
        let Some(value) = tag.value else { continue };
        let value = String::from_utf8_lossy(value).into_owned();
        let name = String::from_utf8_lossy(tag.name).to_ascii_lowercase();
        let number = value.parse::<u64>().ok().filter(|_| ["pct", "ri"].contains(&name.as_str()));
        object.entry(name).or_insert(number.map_or(Value::String(value), Value::from));
    }
    if let Some(p) = object.get("p").cloned() {
        object.entry("sp").or_insert(p);
    }
}

fn published(zone: &Zone, at: &Name) -> Option<(Record, Vec<u8>)> {
    let answer = zone.lookup(&Question::new(at.prepend("_dmarc").ok()?, RecordType::Txt));
    let text = answer.texts().iter().find(|txt| Record::read(&txt.0).is_some())?.0.to_vec();
    match answer.dmarc() {
        Published::One(record) => Some((record.clone(), text)),
        Published::None | Published::Several => None,
    }
}

/// Domains as texts, or as objects with a `domain`.
fn domains(list: Option<&Value>) -> Result<Vec<Name>, String> {
    let list = list.and_then(Value::as_array).into_iter().flatten();
    list.map(|entry| domain(entry.as_str().unwrap_or_else(|| text(entry, "domain")))).collect()
}

/// name -> type -> records; TXT records are lists of character-strings, `ERROR x` a query that fails.
fn zone(value: &Value) -> Result<Zone, String> {
    let mut zone = Map::new();
    for (name, types) in value.as_object().into_iter().flatten() {
        let mut records = Vec::new();
        for (kind, data) in types.as_object().into_iter().flatten() {
            match data {
                Value::String(error) => {
                    let word = match error.strip_prefix("ERROR ").unwrap_or(error) {
                        "ENODATA" => "NODATA",
                        "ENOTFOUND" | "NXDOMAIN" => "NXDOMAIN",
                        "ETIMEOUT" => "TIMEOUT",
                        _ => "SERVFAIL",
                    };
                    records.push(json!({ kind.as_str(): word }));
                }
                Value::Array(list) if kind == "TXT" => records.extend(list.iter().map(|txt| json!({ "TXT": txt }))),
                // Only that the name exists matters of other types.
                other => records.push(json!({ "OTHER": other })),
            }
        }
        zone.insert(name.clone(), Value::Array(records));
    }
    Zone::from_value(&Value::Object(zone)).map_err(|error| error.to_string())
}
