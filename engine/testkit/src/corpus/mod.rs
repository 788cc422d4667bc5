//! Runs the sets of a corpus directory that follow the common form.

pub mod arc;
pub mod authres;
pub mod cache;
pub mod dkim;
pub mod dmarc;
pub mod end_to_end;
pub mod exceptions;
pub mod messages;
pub mod spf;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// How one case ended: its id, and what is wrong with the outcome if something is.
#[derive(Clone, Debug)]
pub struct CaseOutcome {
    /// The id of the case within its set.
    pub id: String,
    /// `None` when the case passed.
    pub failure: Option<String>,
}

impl CaseOutcome {
    /// A case whose outcome is right when `failure` is `None`.
    #[must_use]
    pub fn new(id: impl Into<String>, failure: Option<String>) -> Self {
        Self { id: id.into(), failure }
    }
}

/// A function that runs every case of the set in a directory. An error means that the set could not be read.
pub type SetRunner = fn(&Path) -> Result<Vec<CaseOutcome>, String>;

/// The runner for a set, by its name; `None` for sets of kinds that no part of the project reads yet.
#[must_use]
pub fn runner(set: &str) -> Option<SetRunner> {
    spf::runner(set)
        .or_else(|| dkim::runner(set))
        .or_else(|| arc::runner(set))
        .or_else(|| dmarc::runner(set))
        .or_else(|| authres::runner(set))
        .or_else(|| cache::runner(set))
        .or_else(|| end_to_end::runner(set))
        .or_else(|| messages::runner(set))
}

/// Where the corpus is: `$MAILPROOF_CORPUS`, else `../shared/corpus` beside the checkout, when it is there.
#[must_use]
pub fn directory() -> Option<PathBuf> {
    let configured = std::env::var_os("MAILPROOF_CORPUS").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus");
    configured.or(Some(beside)).filter(|path| path.is_dir())
}

/// Reads a YAML file as a value.
///
/// # Errors
/// The file and what is wrong with it.
pub fn read_yaml(path: &Path) -> Result<Value, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_saphyr::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))
}

/// The `cases` list of a set.
///
/// # Errors
/// The file and what is wrong with it.
pub fn read_cases(dir: &Path) -> Result<Vec<Value>, String> {
    let path = dir.join("cases.yml");
    match read_yaml(&path)?.get_mut("cases").map(Value::take) {
        Some(Value::Array(cases)) => Ok(cases),
        _ => Err(format!("{}: no list of cases", path.display())),
    }
}

/// A text of a case, empty when absent.
#[must_use]
pub fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case.get(key).and_then(Value::as_str).unwrap_or_default()
}
