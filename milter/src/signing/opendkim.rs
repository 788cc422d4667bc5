//! OpenDKIM's `KeyTable` and `SigningTable`, in all their forms that are text: `file:`, `refile:`, a path alone, `csl:` and a
//! list alone (opendkim(8), "data sets"; opendkim.conf(5)).
//!
//! A key table has a line for each key, `NAME DOMAIN:SELECTOR:KEY`. The domain `%` stands for that of the author. The key is
//! the path of a file, in which `%` is the domain of the author too, or the key itself. A signing table has a line for each
//! pattern, `PATTERN NAME` or `PATTERN NAME:IDENTITY`, where the name `%` is the domain of the author.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use mailproof_proto::dns::Name;
use serde::Deserialize;

use super::{KEY_TABLE, SIGNING_TABLE, SenderPattern, is_selector};

/// A table as OpenDKIM's configuration names it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
#[non_exhaustive]
pub enum TableSource {
    /// `file:PATH` or a path alone: what a line is for stands there as it is.
    Flat(PathBuf),
    /// `refile:PATH`: lines have wildcards.
    Wildcards(PathBuf),
    /// `csl:` or nothing in front: pairs `KEY=VALUE` with commas between them.
    List(String),
}

/// A table that can not be used.
#[derive(Debug, thiserror::Error)]
#[error("{}:{line}: {fault}", file.display())]
pub struct TableError {
    /// The key that names the table.
    pub table: &'static str,
    /// The file; `csl` for a list.
    pub file: PathBuf,
    /// The line, or the place in a list, counted from 1; 0 for the whole.
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
    /// A key that is not `DOMAIN:SELECTOR:KEY`.
    #[error("expected DOMAIN:SELECTOR:FILE")]
    NotAKey,
    /// No domain name.
    #[error("`{0}` is no domain name")]
    Domain(String),
    /// No selector.
    #[error("`{0}` is no selector")]
    Selector(String),
    /// The key itself, in the configuration.
    #[error("a key has no place in the configuration; put it into a file and name that")]
    KeyInConfiguration,
    /// Files for domains, of which there are too many.
    #[error("more than {KEYS_OF_A_LINE_MAX} files")]
    TooManyKeys,
    /// A name twice.
    #[error("`{0}` stands here twice")]
    Repeated(String),
    /// A name that is not in the key table.
    #[error("`{0}` is not in the key table")]
    UnknownKey(String),
    /// No pattern for addresses.
    #[error("{0}")]
    Pattern(String),
    /// No identity (RFC 6376 section 3.5, `i=`).
    #[error("`{0}` is no identity of a signer")]
    Identity(String),
}

/// Both tables.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) keys: Vec<KeyLine>,
    /// Positions among the keys: several where the files of one line are for as many domains.
    pub(super) names: HashMap<String, Vec<usize>>,
    /// In the order in which they are looked at.
    pub(super) senders: Vec<SenderLine>,
}

#[derive(Debug)]
pub(super) struct KeyLine {
    /// The only author domain it is for, where the name of its file says so.
    pub(super) author: Option<Name>,
    /// `None` for the domain of the author.
    pub(super) domain: Option<Name>,
    pub(super) selector: String,
    pub(super) source: KeySource,
}

#[derive(Debug)]
pub(super) enum KeySource {
    File(PathBuf),
    /// The key itself, and the table it stands in.
    Text(String, PathBuf),
}

#[derive(Debug)]
pub(super) struct SenderLine {
    pub(super) pattern: SenderPattern,
    pub(super) key: KeyName,
    /// `i=`, in which `%` is the domain of the author.
    pub(super) identity: Option<String>,
}

#[derive(Debug)]
pub(super) enum KeyName {
    Named(String),
    /// `%`: the key that has the author domain for its name.
    OfAuthor,
}

/// Reads both tables.
pub(super) fn read(keys: &TableSource, senders: &TableSource) -> Result<Tables, TableError> {
    let mut tables = Tables::default();
    keys.each_pair(KEY_TABLE, |name, value| {
        let lines = key_lines(value, keys)?;
        let first = tables.keys.len();
        if tables.names.insert(name.to_owned(), (first..first + lines.len()).collect()).is_some() {
            return Err(TableFault::Repeated(name.to_owned()));
        }
        tables.keys.extend(lines);
        Ok(())
    })?;
    let mut ranked = Vec::new();
    senders.each_pair(SIGNING_TABLE, |text, value| {
        let (name, identity) = value.split_once(':').map_or((value, None), |(name, it)| (name, Some(it)));
        let key = match name {
            "%" => KeyName::OfAuthor,
            _ if tables.names.contains_key(name) => KeyName::Named(name.to_owned()),
            _ => return Err(TableFault::UnknownKey(name.to_owned())),
        };
        let has_wildcards = matches!(senders, TableSource::Wildcards(_));
        let pattern = if has_wildcards { SenderPattern::glob(text) } else { SenderPattern::exact(text) };
        let pattern = pattern.map_err(TableFault::Pattern)?;
        let identity = identity.filter(|it| !it.is_empty()).map(read_identity).transpose()?;
        // A flat table is looked up by the address and what it is part of, one after the other, whatever the order of lines.
        let rank = if has_wildcards { (0, Reverse(0)) } else { lookup_rank(text) };
        ranked.push((rank, SenderLine { pattern, key, identity }));
        Ok(())
    })?;
    ranked.sort_by_key(|(rank, _)| *rank);
    tables.senders = ranked.into_iter().map(|(_, line)| line).collect();
    Ok(tables)
}

/// The place of a line in the search of a flat table: `user@host`, `host`, `user@.domain` from the longest domain to the
/// shortest, `.domain` likewise, `user@*`, `*`.
fn lookup_rank(text: &str) -> (u8, Reverse<usize>) {
    let (user, host) = text.rsplit_once('@').map_or((None, text), |(user, host)| (Some(user), host));
    let labels = Reverse(host.split('.').count());
    match (user.is_some(), host) {
        (true, "*") => (4, Reverse(0)),
        (false, "*") => (5, Reverse(0)),
        (true, host) if host.starts_with('.') => (2, labels),
        (false, host) if host.starts_with('.') => (3, labels),
        (true, _) => (0, Reverse(0)),
        (false, _) => (1, Reverse(0)),
    }
}

fn key_lines(value: &str, table: &TableSource) -> Result<Vec<KeyLine>, TableFault> {
    let mut parts = value.splitn(3, ':');
    let (Some(domain), Some(selector), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(TableFault::NotAKey);
    };
    let domain = match domain {
        "%" => None,
        _ => Some(Name::parse_domain(domain).map_err(|_| TableFault::Domain(domain.to_owned()))?),
    };
    if !is_selector(selector) {
        return Err(TableFault::Selector(selector.to_owned()));
    }
    let line = |author, source| KeyLine { author, domain, selector: selector.to_owned(), source };
    let is_path = key.starts_with('/') || key.starts_with("./") || key.starts_with("../");
    if !is_path {
        let text = key.to_owned();
        return match table {
            TableSource::Flat(file) | TableSource::Wildcards(file) => {
                Ok(vec![line(None, KeySource::Text(text, file.clone()))])
            }
            TableSource::List(_) => Err(TableFault::KeyInConfiguration),
        };
    }
    if !key.contains('%') {
        return Ok(vec![line(None, KeySource::File(PathBuf::from(key)))]);
    }
    let files = files_of_domains(key)?;
    Ok(files.into_iter().map(|(author, file)| line(Some(author), KeySource::File(file))).collect())
}

/// The files that a path with `%` stands for, with their domains: those that are there when the tables are read.
fn files_of_domains(template: &str) -> Result<Vec<(Name, PathBuf)>, TableFault> {
    let (before, after) = template.split_once('%').unwrap_or((template, ""));
    let (folder, prefix) = before.rsplit_once('/').unwrap_or((".", before));
    // The first part of the path that has a `%`; those behind it have the same domain.
    let part = format!("{prefix}%{}", after.split('/').next().unwrap_or_default());
    let places = part.matches('%').count();
    let mut files = Vec::new();
    for entry in fs::read_dir(format!("{folder}/")).map_err(TableFault::Io)? {
        let entry = entry.map_err(TableFault::Io)?.file_name();
        let Some(entry) = entry.to_str() else { continue };
        let length = (entry.len() + places).saturating_sub(part.len()) / places;
        let Some(domain) = entry.get(prefix.len()..prefix.len() + length) else { continue };
        let Ok(name) = Name::parse_domain(domain) else { continue };
        let file = PathBuf::from(template.replace('%', domain));
        if part.replace('%', domain) == entry && file.is_file() {
            files.push((name, file));
        }
        if files.len() > KEYS_OF_A_LINE_MAX {
            return Err(TableFault::TooManyKeys);
        }
    }
    files.sort_by(|one, other| one.1.cmp(&other.1));
    Ok(files)
}

/// An identity, with an `@` if it has none.
fn read_identity(text: &str) -> Result<String, TableFault> {
    let plain = |octet: u8| octet.is_ascii_graphic() && !matches!(octet, b';' | b'=' | b'|');
    match text.bytes().all(plain) {
        true if text.contains('@') => Ok(text.to_owned()),
        true => Ok(format!("@{text}")),
        false => Err(TableFault::Identity(text.to_owned())),
    }
}

impl TableSource {
    /// Calls `take` for what stands on either side of each pair.
    fn each_pair(
        &self,
        table: &'static str,
        mut take: impl FnMut(&str, &str) -> Result<(), TableFault>,
    ) -> Result<(), TableError> {
        let (file, text, is_list) = match self {
            Self::Flat(path) | Self::Wildcards(path) => (path.as_path(), fs::read_to_string(path), false),
            Self::List(text) => (Path::new("csl"), Ok(text.clone()), true),
        };
        let error = |line, fault| TableError { table, file: file.to_owned(), line, fault };
        let text = text.map_err(|fault| error(0, TableFault::Io(fault)))?;
        let lines = text.split(if is_list { ',' } else { '\n' }).enumerate();
        for (at, line) in lines {
            // What is behind `#` is a comment; a list has none.
            let line = if is_list { line } else { line.split('#').next().unwrap_or_default() };
            let line = line.trim();
            if line.is_empty() {
                continue;
            }
            let pair = if is_list { line.split_once('=') } else { line.split_once(char::is_whitespace) };
            let pair = pair.map(|(name, value)| (name.trim(), value.trim()));
            let Some((name, value)) =
                pair.filter(|(_, value)| !value.is_empty() && !value.contains(char::is_whitespace))
            else {
                return Err(error(at + 1, TableFault::NotAPair));
            };
            take(name, value).map_err(|fault| error(at + 1, fault))?;
        }
        Ok(())
    }
}

impl TryFrom<String> for TableSource {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        const DATABASES: [&str; 10] =
            ["db", "dsn", "ldap", "ldaps", "ldapi", "lua", "memcache", "erlang", "mdb", "socket"];
        match text.split_once(':') {
            Some(("refile", path)) => Ok(Self::Wildcards(PathBuf::from(path))),
            Some(("file", path)) => Ok(Self::Flat(PathBuf::from(path))),
            Some(("csl", list)) => Ok(Self::List(list.to_owned())),
            Some((form, _)) if DATABASES.contains(&form) => {
                Err(format!("`{form}:` is a database; write the table to a file and name that"))
            }
            _ if text.ends_with(".db") => {
                Err(format!("`{text}` is a database; write the table to a file and name that"))
            }
            _ if text.starts_with('/') => Ok(Self::Flat(PathBuf::from(text))),
            _ => Ok(Self::List(text)),
        }
    }
}

/// Files for which one line of a key table may stand.
const KEYS_OF_A_LINE_MAX: usize = 10_000;
