//! `psl`: the registrable domain, as the embedded Public Suffix List has it.

use std::path::Path;

use mailproof_proto::dmarc::registrable_domain;
use mailproof_proto::dns::Name;
use serde_json::Value;

use super::{check_keys, domain, each, expect_equal};
use crate::corpus::{CaseOutcome, text};

pub(super) fn run(dir: &Path) -> Result<Vec<CaseOutcome>, String> {
    each(dir, |case| {
        check_keys(case, &["id", "input", "registrable", "note"])?;
        let found = Name::parse_domain(text(case, "input")).ok().and_then(|name| registrable_domain(&name));
        let expected = case.get("registrable").and_then(Value::as_str).map(domain).transpose()?;
        expect_equal("registrable domain", found, expected)
    })
}
