//! `received-spf`: bodies of Received-SPF fields.

use std::path::Path;

use mailproof_proto::spf::ReceivedSpf;
use serde_json::Value;

use super::known_keys;
use crate::corpus::{CaseOutcome, read_cases, text};

pub(super) fn run(dir: &Path) -> Result<Vec<CaseOutcome>, String> {
    let cases = read_cases(dir)?;
    Ok(cases.iter().map(|case| CaseOutcome::new(text(case, "id"), run_case(case).err())).collect())
}

fn run_case(case: &Value) -> Result<(), String> {
    known_keys(case, &["id", "value", "result", "pairs", "comment"])?;
    let field = ReceivedSpf::parse(text(case, "value")).map_err(|error| error.to_string())?;
    if field.result.word() != text(case, "result") {
        return Err(format!("result {}", field.result));
    }
    for (key, value) in case.get("pairs").and_then(Value::as_object).into_iter().flatten() {
        if field.value(key) != value.as_str() {
            return Err(format!("{key}={:?}, expected {value}", field.value(key)));
        }
    }
    // What is written again says the same.
    let again = ReceivedSpf::parse(&field.to_string()).map_err(|error| error.to_string())?;
    if again == field { Ok(()) } else { Err(format!("written as {again:?}, read as {field:?}")) }
}
