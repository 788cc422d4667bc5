//! `dmarc-mail-dmarc`: tree walk, np, t, psd and a table of From values.

use std::path::Path;

use mailproof_proto::dmarc::DmarcOptions;
use mailproof_proto::message::address::Author;
use serde_json::Value;

use super::{Authenticated, author_of_value, check_keys, domain, each, expect_equal, judge, organization, set_zone};
use crate::corpus::{CaseOutcome, text};

pub(super) fn run(dir: &Path) -> Result<Vec<CaseOutcome>, String> {
    let zone = set_zone(dir)?;
    each(dir, |case| {
        check_keys(case, &["id", "kind", "domain", "org", "from", "spf", "dkim", "expect", "from_value", "note"])?;
        match text(case, "kind") {
            "org" => {
                let (found, _) = organization(&zone, &domain(text(case, "domain"))?, &DmarcOptions::default())?;
                expect_equal("Organizational Domain", found, domain(text(case, "org"))?)
            }
            "evaluate" => {
                let expect = &case["expect"];
                check_keys(expect, &["result", "policy", "policy_domain"])?;
                let author = Author::One(domain(text(case, "from"))?);
                let (outcome, _) = judge(&zone, &author, &Authenticated::read(case)?, &DmarcOptions::default())?;
                expect_equal("result", outcome.result.word(), text(expect, "result"))?;
                if let Some(expected) = expect.get("policy").and_then(Value::as_str) {
                    expect_equal("disposition", outcome.disposition.word(), expected)?;
                }
                if let Some(expected) = expect.get("policy_domain").and_then(Value::as_str) {
                    expect_equal("policy domain", outcome.policy_domain, Some(domain(expected)?))?;
                }
                Ok(())
            }
            "from-domain" => from_domain(case),
            kind => Err(format!("the runner does not know the kind {kind}")),
        }
    })
}

/// `domain` must come out; where it is null, no single one.
pub(super) fn from_domain(case: &Value) -> Result<(), String> {
    let author = author_of_value(text(case, "from_value"));
    match case.get("domain").and_then(Value::as_str) {
        Some(expected) => expect_equal("author", author, Author::One(domain(expected)?)),
        None if matches!(author, Author::One(_)) => Err(format!("author is {author:?}")),
        None => Ok(()),
    }
}
