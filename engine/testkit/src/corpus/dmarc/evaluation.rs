//! `dmarc-rfc9989` and `dmarc-probes`: one evaluation a case, over a zone of its own.

use std::path::Path;

use mailproof::zone::Zone;
use mailproof_proto::dmarc::record::ReportUri;
use mailproof_proto::dmarc::report_destination::{Consent, Destination, ReportKind, consent, report_destination};
use mailproof_proto::dmarc::{DmarcOptions, DmarcOutcome, PolicyTag};
use mailproof_proto::dns::{Name, Transcript};
use mailproof_proto::message::address::Author;
use serde_json::{Value, json};

use super::{
    Authenticated, author_of, check_keys, dmarc_questions, domain, each, expect_equal, judge, organization, policy_word,
};
use crate::corpus::{CaseOutcome, text};
use crate::drive::{ORDERS, drive};

pub(super) fn run(dir: &Path) -> Result<Vec<CaseOutcome>, String> {
    each(dir, run_case)
}

const CASE_KEYS: [&str; 20] = [
    "id",
    "section",
    "basis",
    "rule",
    "note",
    "kind",
    "from",
    "from_field",
    "no_from",
    "spf",
    "dkim",
    "zone",
    "expect",
    "accept",
    "accept_policy",
    "option_strictest",
    "policy_domain",
    "uri",
    "why",
    "description",
];
const EXPECT_KEYS: [&str; 17] = [
    "result",
    "accept",
    "policy",
    "accept_policy",
    "policy_domain",
    "from_org",
    "spf_org",
    "dkim_org",
    "spf_aligned",
    "dkim_aligned",
    "queries",
    "option_strictest",
    "testing",
    "applies",
    "disposition",
    "problem",
    "send",
];

/// These sets judge the identifiers of section 4.4 alone: a mechanism that ended in an error is one that did not pass.
fn options() -> DmarcOptions {
    DmarcOptions { mechanism_errors_fail: true, ..DmarcOptions::default() }
}

fn run_case(case: &Value) -> Result<(), String> {
    check_keys(case, &CASE_KEYS)?;
    let zone = zone(&case["zone"])?;
    let expect = &case["expect"];
    if text(case, "kind") == "external-destination" {
        return run_external(case, &zone);
    }
    if !text(case, "kind").is_empty() {
        return Err(format!("the runner does not know the kind {}", text(case, "kind")));
    }
    check_keys(expect, &EXPECT_KEYS)?;
    let author = read_author(case)?;
    let authenticated = Authenticated::read(case)?;
    let (outcome, transcript) = judge(&zone, &author, &authenticated, &options())?;
    check_questions(expect, &zone, &author, &transcript)?;
    check_organizations(expect, &zone, &author, &authenticated, &outcome)?;
    let strictest = expect.get("option_strictest").or(case.get("option_strictest"));
    if let Some(strictest) = strictest {
        let options = DmarcOptions { strictest_of_several: true, ..options() };
        let (outcome, _) = judge(&zone, &author, &authenticated, &options)?;
        check_strictest(strictest, &outcome).map_err(|error| format!("strictest of several: {error}"))?;
    }
    let result = outcome.result.word();
    if result != text(expect, "result") {
        let accepted = words(expect.get("accept").or(case.get("accept")));
        return if accepted.contains(&result) {
            Ok(())
        } else {
            Err(format!("result is {result} ({:?}) instead of {}", outcome.problem, text(expect, "result")))
        };
    }
    if let Some(from) = case.get("from").and_then(Value::as_str) {
        expect_equal("Author Domain", outcome.from_domain, Some(domain(from)?))?;
    }
    check_policy(expect, case.get("accept_policy"), &outcome)?;
    for (key, aligned) in [("spf_aligned", outcome.spf_aligned), ("dkim_aligned", outcome.dkim_aligned)] {
        if let Some(expected) = expect.get(key).and_then(Value::as_bool) {
            expect_equal(key, aligned.is_some(), expected)?;
        }
    }
    Ok(())
}

fn check_policy(expect: &Value, accept: Option<&Value>, outcome: &DmarcOutcome) -> Result<(), String> {
    if let Some(expected) = expect.get("policy").and_then(Value::as_str) {
        let accepted = words(expect.get("accept_policy").or(accept));
        let found = policy_word(outcome);
        if !found.is_some_and(|found| found == expected || accepted.contains(&found)) {
            return Err(format!("policy is {found:?} instead of {expected}"));
        }
    }
    if let Some(expected) = expect.get("policy_domain").and_then(Value::as_str) {
        expect_equal("policy domain", outcome.policy_domain, Some(domain(expected)?))?;
    }
    if let Some(expected) = expect.get("testing").and_then(Value::as_bool) {
        expect_equal("testing", outcome.testing, expected)?;
    }
    if let Some(expected) = expect.get("disposition").and_then(Value::as_str) {
        expect_equal("disposition", outcome.disposition.word(), expected)?;
    }
    if let Some(expected) = expect.get("problem") {
        expect_equal("problem", outcome.problem.map(|problem| problem.word()), expected.as_str())?;
    }
    if let Some(expected) = expect.get("applies").and_then(Value::as_str) {
        let tag = match outcome.applies {
            Some(PolicyTag::P) => "p",
            Some(PolicyTag::Sp) => "sp",
            Some(PolicyTag::Np) => "np",
            None => "none",
        };
        expect_equal("tag", tag, expected)?;
    }
    Ok(())
}

/// `queries` are those of the walk for the Author Domain alone; the evaluation may stop earlier, never ask others.
fn check_questions(expect: &Value, zone: &Zone, author: &Author, transcript: &Transcript) -> Result<(), String> {
    let Some(expected) = expect.get("queries") else { return Ok(()) };
    let expected: Vec<String> = words(Some(expected)).into_iter().map(str::to_owned).collect();
    let asked = dmarc_questions(transcript);
    let Author::One(author) = author else {
        return expect_equal("queries", asked, expected);
    };
    let (_, walked) = organization(zone, author, &options())?;
    expect_equal("queries of the walk", &walked, &expected)?;
    let of_author: Vec<String> = asked.into_iter().filter(|name| expected.contains(name)).collect();
    if expected.starts_with(&of_author) { Ok(()) } else { Err(format!("queries {of_author:?} in another order")) }
}

fn check_organizations(
    expect: &Value,
    zone: &Zone,
    author: &Author,
    authenticated: &Authenticated,
    outcome: &DmarcOutcome,
) -> Result<(), String> {
    let from = if let Author::One(name) = author { Some(*name) } else { None };
    let spf = authenticated.spf.map(|(name, _)| name);
    let dkim = authenticated.dkim.first().map(|(name, _)| *name);
    for (key, of) in [("from_org", from), ("spf_org", spf), ("dkim_org", dkim)] {
        let Some(expected) = expect.get(key).and_then(Value::as_str) else { continue };
        let of = of.ok_or_else(|| format!("{key} without such a domain"))?;
        let expected = domain(expected)?;
        expect_equal(key, organization(zone, &of, &options())?.0, expected)?;
        if key == "from_org" && outcome.organizational_domain.is_some() {
            expect_equal("Organizational Domain of the outcome", outcome.organizational_domain, Some(expected))?;
        }
    }
    Ok(())
}

/// A map of expectations, or result and policy words in a text.
fn check_strictest(expected: &Value, outcome: &DmarcOutcome) -> Result<(), String> {
    if let Some(words) = expected.as_str() {
        for word in words.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
            if word != outcome.result.word() && Some(word) != policy_word(outcome) {
                return Err(format!("{} with {:?} instead of {words}", outcome.result.word(), outcome.policy));
            }
        }
        return Ok(());
    }
    check_keys(expected, &EXPECT_KEYS)?;
    if let Some(result) = expected.get("result").and_then(Value::as_str)
        && result != outcome.result.word()
        && !words(expected.get("accept")).contains(&outcome.result.word())
    {
        return Err(format!("result is {} instead of {result}", outcome.result.word()));
    }
    check_policy(expected, None, outcome)
}

fn run_external(case: &Value, zone: &Zone) -> Result<(), String> {
    let expect = &case["expect"];
    check_keys(expect, &["send", "override", "status"])?;
    let policy_domain = domain(text(case, "policy_domain"))?;
    let uri = ReportUri::parse(text(case, "uri")).ok_or("the URI can not be read")?;
    let host = uri.host().ok_or("the URI has no host")?;
    for order in ORDERS {
        let (given, _) = drive(zone, order, |answers| consent(&policy_domain, &host, answers));
        for (kind, key) in [(ReportKind::Aggregate, "rua"), (ReportKind::Failure, "ruf")] {
            let (to, _) = drive(zone, order, |answers| {
                report_destination(&uri, kind, &policy_domain, &DmarcOptions::default(), answers)
            });
            let replacement = expect.pointer(&format!("/override/{key}")).and_then(Value::as_str);
            let sends = matches!(to, Destination::AsListed | Destination::Replaced(_));
            expect_equal("send", Some(sends), expect.get("send").and_then(Value::as_bool))?;
            if let Some(replacement) = replacement {
                expect_equal("destination", &to, &Destination::Replaced(vec![replacement.into()]))?;
                let Consent::Given { rua, ruf } = &given else { return Err(format!("{given:?}")) };
                let told = if key == "rua" { rua } else { ruf };
                expect_equal(key, told.as_deref(), Some(replacement))?;
            }
        }
    }
    Ok(())
}

fn read_author(case: &Value) -> Result<Author, String> {
    if case.get("no_from").and_then(Value::as_bool) == Some(true) {
        return Ok(author_of(b"Subject: x\r\n"));
    }
    if let Some(value) = case.get("from_field") {
        let fields = match value {
            Value::Array(values) => values.iter().filter_map(Value::as_str).collect(),
            single => vec![single.as_str().unwrap_or_default()],
        };
        let header: String = fields.iter().map(|value| format!("From: {value}\r\n")).collect();
        return Ok(author_of(header.as_bytes()));
    }
    let domains: Result<Vec<Name>, String> = words(case.get("from")).into_iter().map(domain).collect();
    match domains?.as_slice() {
        [one] => Ok(Author::One(*one)),
        [] => Err("a case without From".to_owned()),
        several => Ok(Author::Several(several.to_vec())),
    }
}

/// A text, or a list of texts.
fn words(value: Option<&Value>) -> Vec<&str> {
    match value {
        Some(Value::Array(list)) => list.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(text)) => vec![text],
        _ => Vec::new(),
    }
}

/// name -> TXT string, list of TXT strings (an inner list: the character-strings of one record), `{TYPE: data}`, or the
/// word of an answer.
fn zone(value: &Value) -> Result<Zone, String> {
    let mut zone = serde_json::Map::new();
    for (name, data) in value.as_object().into_iter().flatten() {
        let records = match data {
            Value::String(word) if ["SERVFAIL", "TIMEOUT", "NXDOMAIN", "NODATA"].contains(&word.as_str()) => {
                data.clone()
            }
            Value::String(_) => json!([{ "TXT": data }]),
            Value::Array(list) => list
                .iter()
                .map(|record| if record.is_object() { record.clone() } else { json!({ "TXT": record }) })
                .collect(),
            other => json!([other]),
        };
        zone.insert(name.clone(), records);
    }
    Zone::from_value(&Value::Object(zone)).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_expectations_fail_their_case() {
        let case =
            |key: &str| json!({"id": "x", "from": "a.example", "zone": {}, "expect": {"result": "none", key: 1}});
        assert!(run_case(&case("result_of_tea_leaves")).is_err());
        assert_eq!(
            run_case(&json!({"id": "x", "from": "a.example", "zone": {}, "expect": {"result": "none"}})),
            Ok(())
        );
    }
}
