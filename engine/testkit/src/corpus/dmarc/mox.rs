//! `dmarc-mox`: records, evaluations and report destinations.

use std::path::Path;

use mailproof::zone::Zone;
use mailproof_proto::dmarc::record::{FindingKind, Record, Request, Severity, lint};
use mailproof_proto::dmarc::report_destination::{Consent, consent};
use mailproof_proto::dmarc::{Disposition, DmarcOptions};
use mailproof_proto::message::address::Author;
use serde_json::Value;

use super::{Authenticated, check_keys, domain, each, expect_equal, judge, set_zone};
use crate::corpus::{CaseOutcome, text};
use crate::drive::{ORDERS, drive};

pub(super) fn run(dir: &Path) -> Result<Vec<CaseOutcome>, String> {
    let zone = set_zone(dir)?;
    each(dir, |case| match text(case, "kind") {
        "parse" => parse(case),
        "verify" => verify(case, &zone),
        "external" => external(case, &zone),
        kind => Err(format!("the runner does not know the kind {kind}")),
    })
}

/// mox refuses what it finds fault with, where RFC 9989 falls back to defaults: a record that is not valid there must be
/// no usable record here, or an error of the lint. One that is at fault by RFC 7489 alone must not be an error.
fn parse(case: &Value) -> Result<(), String> {
    check_keys(case, &["id", "kind", "record", "valid", "why", "rfc7489_only", "note"])?;
    let record = text(case, "record").as_bytes();
    let read = Record::read(record);
    let is_usable = read.as_ref().is_some_and(|record| record.request != Request::Unusable);
    let errors: Vec<FindingKind> =
        lint(record).iter().map(|finding| finding.kind).filter(|kind| kind.severity() == Severity::Error).collect();
    let valid = case.get("valid").and_then(Value::as_bool).ok_or("no expectation")?;
    if case.get("rfc7489_only").and_then(Value::as_bool) == Some(true) {
        return match errors.iter().find(|kind| **kind != FindingKind::Unusable) {
            None if read.is_some() => Ok(()),
            None => Err("not read as DMARC".to_owned()),
            Some(error) => Err(format!("{error}, which is so by RFC 7489 only")),
        };
    }
    match (valid, is_usable) {
        (true, true) => Ok(()),
        (true, false) => Err(format!("{read:?} is not usable")),
        (false, false) => Ok(()),
        (false, true) if errors.is_empty() => Err("no error found".to_owned()),
        (false, true) => Ok(()),
    }
}

fn verify(case: &Value, zone: &Zone) -> Result<(), String> {
    check_keys(case, &["id", "kind", "from", "spf", "dkim", "expect", "note"])?;
    let expect = &case["expect"];
    check_keys(expect, &["result", "reject", "spf_aligned", "dkim_aligned", "policy_domain"])?;
    let author = Author::One(domain(text(case, "from"))?);
    let (outcome, _) = judge(zone, &author, &Authenticated::read(case)?, &DmarcOptions::default())?;
    expect_equal("result", outcome.result.word(), text(expect, "result"))?;
    if let Some(reject) = expect.get("reject").and_then(Value::as_bool) {
        expect_equal("reject", outcome.disposition == Disposition::Reject, reject)?;
    }
    for (key, aligned) in [("spf_aligned", outcome.spf_aligned), ("dkim_aligned", outcome.dkim_aligned)] {
        if let Some(expected) = expect.get(key).and_then(Value::as_bool) {
            expect_equal(key, aligned.is_some(), expected)?;
        }
    }
    // Where there is no record mox names the domain it asked last.
    match (outcome.policy_domain, expect.get("policy_domain").and_then(Value::as_str)) {
        (Some(found), Some(expected)) => expect_equal("policy domain", found, domain(expected)?),
        _ => Ok(()),
    }
}

fn external(case: &Value, zone: &Zone) -> Result<(), String> {
    check_keys(case, &["id", "kind", "domain", "destination", "send", "status", "note"])?;
    let (policy_domain, host) = (domain(text(case, "domain"))?, domain(text(case, "destination"))?);
    for order in ORDERS {
        let (found, _) = drive(zone, order, |answers| consent(&policy_domain, &host, answers));
        let sends = matches!(found, Consent::Given { .. });
        expect_equal("send", Some(sends), case.get("send").and_then(Value::as_bool))?;
        expect_equal("temporary error", matches!(found, Consent::Unknown(_)), text(case, "status") == "temperror")?;
    }
    Ok(())
}
