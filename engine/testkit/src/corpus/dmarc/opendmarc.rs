//! `dmarc-opendmarc`: tables of the library's and the milter's tests.

use std::fs;
use std::path::Path;

use mailproof::zone::Zone;
use mailproof_proto::dmarc::record::{FindingKind, Record, Request, Severity, lint};
use mailproof_proto::dmarc::{Discovery, Disposition, DmarcOptions, registrable_domain};
use mailproof_proto::dns::Name;
use mailproof_proto::message::address::{Author, addresses};
use mailproof_proto::spf::SpfResult;
use serde_json::{Value, json};

use super::{Authenticated, author_of, author_of_value, check_keys, domain, each, expect_equal, judge};
use crate::corpus::{CaseOutcome, text};

pub(super) fn run(dir: &Path) -> Result<Vec<CaseOutcome>, String> {
    each(dir, |case| match text(case, "kind") {
        "parse" => parse(case),
        "alignment" => alignment(case),
        "from-domain" => from_domain(case),
        "orgdomain-psl" => organizational_domain(case),
        "milter" => milter(case, dir),
        kind => Err(format!("the runner does not know the kind {kind}")),
    })
}

/// OpenDMARC finds fault by RFC 7489, with pct, rf and ri; what it refuses must at least be remarked on.
fn parse(case: &Value) -> Result<(), String> {
    check_keys(case, &["id", "kind", "record", "upstream", "note"])?;
    let record = text(case, "record").as_bytes();
    let is_usable = Record::read(record).is_some_and(|record| record.request != Request::Unusable);
    let findings = lint(record);
    let remarks = |kind: FindingKind| {
        kind.severity() == Severity::Error
            || matches!(kind, FindingKind::HistoricTag | FindingKind::PctIgnored | FindingKind::PctZero)
    };
    match text(case, "upstream") {
        "DMARC_PARSE_OKAY" if is_usable => Ok(()),
        "DMARC_PARSE_OKAY" => Err(format!("not usable: {findings:?}")),
        error if error.starts_with("DMARC_PARSE_ERROR") => {
            let found = !is_usable || findings.iter().any(|finding| remarks(finding.kind));
            if found { Ok(()) } else { Err("no fault found".to_owned()) }
        }
        other => Err(format!("the runner does not know {other}")),
    }
}

/// The library takes texts and drops dots at their ends; here a domain is read before anything looks at it.
fn alignment(case: &Value) -> Result<(), String> {
    check_keys(case, &["id", "kind", "domain", "other", "mode", "aligned", "note"])?;
    let name = |key: &str| Name::parse_domain(text(case, key).trim_matches('.')).ok();
    let strict = match text(case, "mode") {
        "strict" => true,
        "relaxed" => false,
        mode => return Err(format!("the runner does not know the mode {mode}")),
    };
    let aligned = match (name("domain"), name("other")) {
        (Some(from), Some(other)) => {
            let record = if strict { "v=DMARC1; p=none; aspf=s" } else { "v=DMARC1; p=none" };
            let zone = json!({ format!("_dmarc.{from}"): [{ "TXT": record }] });
            let zone = Zone::from_value(&zone).map_err(|error| error.to_string())?;
            let options = DmarcOptions { discovery: Discovery::PublicSuffixList, ..DmarcOptions::default() };
            let authenticated = Authenticated { spf: Some((other, SpfResult::Pass)), dkim: Vec::new() };
            judge(&zone, &Author::One(from), &authenticated, &options)?.0.spf_aligned.is_some()
        }
        _ => false,
    };
    expect_equal("aligned", Some(aligned), case.get("aligned").and_then(Value::as_bool))
}

/// Refusing is always right; another domain never is.
fn from_domain(case: &Value) -> Result<(), String> {
    check_keys(case, &["id", "kind", "from_value", "domain", "note"])?;
    match (author_of_value(text(case, "from_value")), case.get("domain").and_then(Value::as_str)) {
        (Author::One(found), Some(expected)) => expect_equal("author", found, domain(expected)?),
        (Author::One(found), None) => Err(format!("author is {found}")),
        _ => Ok(()),
    }
}

fn organizational_domain(case: &Value) -> Result<(), String> {
    check_keys(case, &["id", "kind", "domain", "org", "note"])?;
    let found = Name::parse(text(case, "domain")).ok().and_then(|name| registrable_domain(&name));
    let expected = case.get("org").and_then(Value::as_str).map(|org| Name::parse(org).map_err(|it| it.to_string()));
    expect_equal("registrable domain", found, expected.transpose()?)
}

/// The transactions were run with the DNS of their day and a filter that trusts Received-SPF. Here every domain of the
/// messages asks for rejection.
fn milter(case: &Value, dir: &Path) -> Result<(), String> {
    let known = [
        "id",
        "file",
        "kind",
        "description",
        "client",
        "helo",
        "mail_from",
        "config",
        "final_reply",
        "authres_contains",
        "note",
    ];
    check_keys(case, &known)?;
    let path = dir.join(text(case, "file"));
    let message = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let message = message.replace("\r\n", "\n").replace('\n', "\r\n");
    let header = message.split("\r\n\r\n").next().unwrap_or_default();
    let author = author_of(header.as_bytes());
    let mut zone = Zone::new();
    if let Author::One(domain) = author {
        let record = json!({ format!("_dmarc.{domain}"): [{ "TXT": "v=DMARC1; p=reject" }] });
        zone.add(&record).map_err(|error| error.to_string())?;
    }
    let authenticated = Authenticated { spf: received_spf(header), dkim: Vec::new() };
    let (outcome, _) = judge(&zone, &author, &authenticated, &DmarcOptions::default())?;
    for expected in case.get("authres_contains").and_then(Value::as_array).into_iter().flatten() {
        let found = format!("dmarc={}", outcome.result.word());
        expect_equal("Authentication-Results", Some(found.as_str()), expected.as_str())?;
    }
    let config = case.get("config").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let rejects =
        config.map(|line| line.split_whitespace().collect::<Vec<_>>()).any(|it| it == ["RejectFailures", "Yes"]);
    match text(case, "final_reply") {
        "SMFIR_REPLYCODE" | "SMFIR_REJECT" => {
            expect_equal("rejected", (rejects, outcome.disposition), (true, Disposition::Reject))
        }
        "SMFIR_ACCEPT" | "SMFIR_CONTINUE" if rejects => {
            if outcome.disposition == Disposition::Reject {
                Err("rejected".to_owned())
            } else {
                Ok(())
            }
        }
        "SMFIR_ACCEPT" | "SMFIR_CONTINUE" => Ok(()),
        reply => Err(format!("the runner does not know the reply {reply}")),
    }
}

/// `pass identity=mailfrom; envelope-from="a@b"`: a pass counts only with both keys.
fn received_spf(header: &str) -> Option<(Name, SpfResult)> {
    let value = header.split("\r\n").find_map(|line| line.strip_prefix("Received-SPF:"))?;
    let rest = value.trim().strip_prefix("pass")?;
    let key = |name: &str| {
        let pairs = rest.split([';', ' ']).filter_map(|pair| pair.trim().split_once('='));
        pairs.filter(|(key, _)| *key == name).map(|(_, value)| value.trim_matches('"')).next()
    };
    let sender = key("envelope-from").filter(|_| key("identity") == Some("mailfrom"))?;
    let address = addresses(sender.as_bytes()).next()?.ok()?;
    Some((address.domain_name().ok()?, SpfResult::Pass))
}
