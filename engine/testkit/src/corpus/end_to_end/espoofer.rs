//! The set `security-espoofer`: attack messages that must not get an aligned pass for the victim's domain.

use std::path::Path;

use mailproof_proto::dmarc::DmarcResult;
use mailproof_proto::dns::Name;
use mailproof_proto::message::address::Author;
use mailproof_proto::verdict::Verdict;
use serde_json::Value;

use super::{envelope, message_case, read_message, read_zone};
use crate::corpus::{CaseOutcome, read_cases, text};
use crate::verify::with_crlf;

pub(super) fn run(dir: &Path) -> Result<Vec<CaseOutcome>, String> {
    let zone = read_zone(&dir.join("dns.yml"))?;
    let cases = read_cases(dir)?;
    Ok(cases
        .iter()
        .map(|case| {
            let judged = || {
                let message = with_crlf(&read_message(dir, text(case, "file"))?);
                let (verdict, transcript) = message_case(envelope(case, "client")?, message).verify_every_way(&zone)?;
                let questions: Vec<String> = transcript.iter().map(|(question, _)| question.to_string()).collect();
                check(case, &verdict, &questions)
            };
            CaseOutcome::new(text(case, "id"), judged().err())
        })
        .collect())
}

/// Two attackers' domains: an aligned pass for anything else would be the victim's.
fn check(case: &Value, verdict: &Verdict, questions: &[String]) -> Result<(), String> {
    let fault = |what: &str| Err(format!("{what}: {}", verdict.to_json("x")));
    let passes = verdict.dmarc.result == DmarcResult::Pass;
    let safe = text(case, "safe");
    // The one message of the set whose identities all belong to one domain: a receiver can only let it pass.
    if safe.starts_with("dmarc passes") {
        return if passes { Ok(()) } else { fault("dmarc does not pass") };
    }
    // Several addresses of one domain have one author domain: DMARC may speak for that, and names no address.
    if let Some(address) = safe.strip_prefix("do not treat as authored by ") {
        let address = address.split(' ').next().unwrap_or_default();
        return if verdict.to_json("x").contains(address) { fault("one address is credited") } else { Ok(()) };
    }
    if passes {
        return fault("dmarc passes");
    }
    let attacker = Name::parse("attack.com").map_err(|error| error.to_string())?;
    if text(case, "attacks") == "from"
        && let Author::One(domain) = &verdict.author
        && domain.is_at_or_below(&attacker)
    {
        return fault("the author is the attacker alone");
    }
    if safe.contains("dkim permerror") && verdict.dkim.iter().any(|it| it.result.word() == "pass") {
        return fault("dkim passes");
    }
    if case.pointer("/dkim/s").and_then(Value::as_str).is_some_and(|selector| selector.contains('\0')) {
        let cut_short = questions.iter().any(|question| question.contains("_domainkey.attack.com"));
        if cut_short {
            return fault("a key was asked for at a name cut at NUL");
        }
    }
    // What another reader would take from the field we write: never the victim beside a pass.
    let results = &verdict.authentication_results;
    let parsed = mailproof_proto::authres::parse(results.as_bytes()).map_err(|error| format!("{results}: {error}"))?;
    for method in &parsed.results {
        let names_victim = method.properties.iter().any(|property| property.value.contains("legitimate.com"));
        if method.result.eq_ignore_ascii_case("pass") && names_victim && method.method == "spf" {
            return fault("the results name the victim beside a pass");
        }
    }
    Ok(())
}
