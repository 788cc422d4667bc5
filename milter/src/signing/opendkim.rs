//! OpenDKIM's `KeyTable` and `SigningTable`, in its text forms `file:` and `refile:`.
//!
//! A key table has a line for each key, `NAME DOMAIN:SELECTOR:FILE`; the domain `%` stands for that of the author. A
//! signing table has a line for each pattern, `PATTERN NAME`. What is behind `#` at the beginning of a line is a comment.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mailproof_proto::dns::Name;
use serde::Deserialize;

use super::{SenderPattern, is_selector};

/// A table as OpenDKIM's configuration names it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub struct TableSource {
    /// The file.
    pub path: PathBuf,
    /// Patterns have wildcards (`refile:`).
    pub wildcards: bool,
}

/// A table that can not be used.
#[derive(Debug, thiserror::Error)]
#[error("{}:{line}: {fault}", file.display())]
pub struct TableError {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1; 0 for the whole file.
    pub line: usize,
    /// What is wrong.
    pub fault: TableFault,
}

/// What is wrong with a table.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableFault {
    /// It can not be read.
    #[error("{0}")]
    Io(io::Error),
    /// Not two words.
    #[error("expected a name and a value")]
    NotAPair,
    /// A key that is not `DOMAIN:SELECTOR:FILE`.
    #[error("expected DOMAIN:SELECTOR:FILE")]
    NotAKey,
    /// No domain name.
    #[error("`{0}` is no domain name")]
    Domain(String),
    /// No selector.
    #[error("`{0}` is no selector")]
    Selector(String),
    /// The key itself, or a file named by a pattern: which files those are can not be known before mail comes.
    #[error("the key has to be in a file of its own, given by its path")]
    KeyNotAFile,
    /// A name twice.
    #[error("`{0}` stands here twice")]
    Repeated(String),
    /// A name that is not in the key table.
    #[error("`{0}` is not in the key table")]
    UnknownKey(String),
    /// No pattern for addresses.
    #[error("{0}")]
    Pattern(String),
}

pub(super) struct KeyLine {
    /// `None` for the domain of the author.
    pub(super) domain: Option<Name>,
    pub(super) selector: String,
    pub(super) file: PathBuf,
}

pub(super) struct SenderLine {
    pub(super) pattern: SenderPattern,
    /// Position among the keys.
    pub(super) key: usize,
}

/// Reads both tables.
pub(super) fn read(keys: &TableSource, senders: &TableSource) -> Result<(Vec<KeyLine>, Vec<SenderLine>), TableError> {
    let (mut lines, mut names) = (Vec::new(), HashMap::new());
    each_line(&keys.path, |name, value| {
        if names.insert(name.to_owned(), lines.len()).is_some() {
            return Err(TableFault::Repeated(name.to_owned()));
        }
        lines.push(key_line(value)?);
        Ok(())
    })?;
    let mut patterns = Vec::new();
    each_line(&senders.path, |pattern, name| {
        let key = *names.get(name).ok_or_else(|| TableFault::UnknownKey(name.to_owned()))?;
        let pattern = if senders.wildcards { SenderPattern::new(pattern) } else { SenderPattern::exact(pattern) };
        patterns.push(SenderLine { pattern: pattern.map_err(TableFault::Pattern)?, key });
        Ok(())
    })?;
    Ok((lines, patterns))
}

fn key_line(value: &str) -> Result<KeyLine, TableFault> {
    let mut parts = value.splitn(3, ':');
    let (Some(domain), Some(selector), Some(file)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(TableFault::NotAKey);
    };
    let domain = match domain {
        "%" => None,
        _ => Some(Name::parse_domain(domain).map_err(|_| TableFault::Domain(domain.to_owned()))?),
    };
    if !is_selector(selector) {
        return Err(TableFault::Selector(selector.to_owned()));
    }
    if !file.starts_with(['/', '.']) || file.contains('%') {
        return Err(TableFault::KeyNotAFile);
    }
    Ok(KeyLine { domain, selector: selector.to_owned(), file: PathBuf::from(file) })
}

/// Calls `take` for the two words of every line that has any.
fn each_line(path: &Path, mut take: impl FnMut(&str, &str) -> Result<(), TableFault>) -> Result<(), TableError> {
    let error = |line, fault| TableError { file: path.to_owned(), line, fault };
    let text = fs::read_to_string(path).map_err(|fault| error(0, TableFault::Io(fault)))?;
    for (at, line) in text.lines().enumerate() {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let mut words = line.split_whitespace();
        let (Some(name), Some(value), None) = (words.next(), words.next(), words.next()) else {
            return Err(error(at + 1, TableFault::NotAPair));
        };
        take(name, value).map_err(|fault| error(at + 1, fault))?;
    }
    Ok(())
}

impl TryFrom<String> for TableSource {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (wildcards, path) = match text.split_once(':') {
            Some(("refile", path)) => (true, path),
            Some(("file", path)) => (false, path),
            None => (false, text.as_str()),
            Some((form, _)) => {
                return Err(format!("`{form}:` can not be read; write the table to a file and name that"));
            }
        };
        Ok(Self { path: PathBuf::from(path), wildcards })
    }
}
