//! Offline DNS from zone files, for tests, replays and demos.
//!
//! The YAML form maps a name to a list of records, `{TYPE: data}`. TXT data is one string or a list of
//! character-strings. `TIMEOUT`, `SERVFAIL`, `NXDOMAIN` and `NODATA` as an entry, or as the data of one type, are that
//! answer. A name that is not listed, and has no listed name below it, does not exist. Files of the SPF test suite,
//! which keep such a map under `zonedata`, are read too, and so are RFC 1035 master files, by their ending `.zone`.
//!
//! Answers are built when the zone is read and then shared: a look-up hashes the name once and clones a pointer, and
//! what an evaluation derives from an answer is derived once per zone. Names that do not exist cost one hash per label
//! more, in search of a wildcard.

mod master;
mod node;
mod yaml;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::{fs, io};

use mailproof_proto::dns::{Answer, AnswerSource, Failure, Name, Outcome, Question, RecordType};
use mailproof_proto::limits::CNAME_CHAIN_MAX;
use serde_json::Value;

use self::node::{Alias, Found, Node};

/// Names with their records, answering every question at once.
#[derive(Clone, Debug, Default)]
pub struct Zone {
    /// Keyed by wire form; holds the names above every name that exists too.
    nodes: HashMap<Box<[u8]>, Node>,
    listed_count: usize,
}

/// A zone that counts what it is asked, for tests of how often something is looked up.
#[derive(Clone, Debug)]
pub struct CountedZone<'a> {
    zone: &'a Zone,
    counts: HashMap<Question, usize>,
}

/// Why a zone file can not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ZoneError {
    /// The text is no YAML; the words of the YAML reader, with line and column.
    #[error("not YAML: {0}")]
    Yaml(String),
    /// The YAML is no map of names to records.
    #[error("{name}: {what}")]
    Form {
        /// Where.
        name: String,
        /// What was found.
        what: String,
    },
    /// A line of a master file can not be read.
    #[error("line {line}: {what}")]
    Line {
        /// Where, counted from 1.
        line: usize,
        /// What was found.
        what: String,
    },
    /// More than [`ZONE_NAMES_MAX`] names.
    #[error("more than {ZONE_NAMES_MAX} names")]
    TooManyNames,
    /// More than [`ZONE_FILE_BYTES_MAX`] octets.
    #[error("more than {ZONE_FILE_BYTES_MAX} octets")]
    TooLong,
    /// The file can not be read at all.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Something is wrong with a file.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: Box<Self>,
    },
}

/// Octets of one zone file.
pub const ZONE_FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Names of one zone, all of its files together.
pub const ZONE_NAMES_MAX: usize = 4_000_000;

/// Seconds an answer of a zone file lives where the file gives no time.
const TTL_SECONDS_DEFAULT: u32 = 300;

static NO_SUCH_NAME: LazyLock<Answer> = LazyLock::new(|| Answer::new(Outcome::NxDomain, None));
static NO_DATA: LazyLock<Answer> = LazyLock::new(|| Answer::new(Outcome::NoData, None));

impl Zone {
    /// A zone in which no name exists.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads a file: an RFC 1035 master file when its name ends in `.zone`, the YAML form otherwise.
    ///
    /// # Errors
    /// [`ZoneError::File`] with the file and the line or name at fault.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, ZoneError> {
        let mut zone = Self::new();
        zone.add_file(path)?;
        Ok(zone)
    }

    /// Reads the YAML form.
    ///
    /// # Errors
    /// [`ZoneError`] with the name at fault.
    pub fn from_yaml(text: &str) -> Result<Self, ZoneError> {
        let mut zone = Self::new();
        zone.add_yaml(text)?;
        Ok(zone)
    }

    /// Reads the YAML form from a value already parsed.
    ///
    /// # Errors
    /// [`ZoneError`] with the name at fault.
    pub fn from_value(value: &Value) -> Result<Self, ZoneError> {
        let mut zone = Self::new();
        zone.add(value)?;
        Ok(zone)
    }

    /// Reads an RFC 1035 master file.
    ///
    /// Relative names stand below the root until an `$ORIGIN` says otherwise. Records that mail authentication never
    /// asks for only say that their name exists, and so does a record without data. A comment line
    /// `;ERROR,name,type,TIMEOUT`, or with another of the words, gives that answer.
    ///
    /// # Errors
    /// [`ZoneError`] with the line at fault.
    pub fn from_master(text: &[u8]) -> Result<Self, ZoneError> {
        let mut zone = Self::new();
        zone.add_master(text)?;
        Ok(zone)
    }

    /// Adds the names of a file, replacing those already there.
    ///
    /// # Errors
    /// As [`Zone::load`].
    pub fn add_file(&mut self, path: impl AsRef<Path>) -> Result<(), ZoneError> {
        let path = path.as_ref();
        self.read_file(path).map_err(|error| ZoneError::File { path: path.to_owned(), error: Box::new(error) })
    }

    /// Adds names of the YAML form, replacing those already there.
    ///
    /// # Errors
    /// [`ZoneError`] with the name at fault.
    pub fn add(&mut self, value: &Value) -> Result<(), ZoneError> {
        for (name, draft) in yaml::read(value)? {
            self.list(&name, draft.finish())?;
        }
        Ok(())
    }

    /// The answer to a question.
    #[must_use]
    pub fn lookup(&self, question: &Question) -> Answer {
        match self.find(&question.name, question.kind) {
            None => NO_SUCH_NAME.clone(),
            Some(Found::Answer(answer)) => answer.clone(),
            Some(Found::Alias(alias)) => self.follow(&question.name, alias, question.kind),
        }
    }

    /// The target of the CNAME record that stands in the way of records of this type, with its time to live.
    #[must_use]
    pub fn alias(&self, name: &Name, kind: RecordType) -> Option<(&Name, u32)> {
        match self.find(name, kind)? {
            Found::Alias(alias) => Some((&alias.target, alias.ttl_seconds)),
            Found::Answer(_) => None,
        }
    }

    /// Names listed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.listed_count
    }

    /// True when no name is listed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.listed_count == 0
    }

    fn read_file(&mut self, path: &Path) -> Result<(), ZoneError> {
        if fs::metadata(path)?.len() > ZONE_FILE_BYTES_MAX {
            return Err(ZoneError::TooLong);
        }
        let octets = fs::read(path)?;
        if path.extension().is_some_and(|ending| ending == "zone") {
            return self.add_master(&octets);
        }
        let text = String::from_utf8(octets).map_err(|_| ZoneError::Yaml("not UTF-8".to_owned()))?;
        self.add_yaml(&text)
    }

    /// Adds the names of a text of the YAML form, replacing those already there.
    ///
    /// # Errors
    /// As [`Zone::from_yaml`].
    pub fn add_yaml(&mut self, text: &str) -> Result<(), ZoneError> {
        let value: Value = serde_saphyr::from_str(text).map_err(|error| ZoneError::Yaml(error.to_string()))?;
        self.add(&value)
    }

    /// Adds the names of an RFC 1035 master file, replacing those already there.
    ///
    /// # Errors
    /// As [`Zone::from_master`].
    pub fn add_master(&mut self, text: &[u8]) -> Result<(), ZoneError> {
        for (name, draft) in master::read(text)? {
            self.list(&name, draft.finish())?;
        }
        Ok(())
    }

    /// Lists a name; every name above one that exists does exist (RFC 8020 section 2).
    fn list(&mut self, name: &Name, node: Node) -> Result<(), ZoneError> {
        let exists = node.exists();
        if !self.nodes.insert(Box::from(name.wire()), node).is_some_and(|old| old.is_listed()) {
            self.listed_count += 1;
        }
        if self.listed_count > ZONE_NAMES_MAX {
            return Err(ZoneError::TooManyNames);
        }
        let mut above = name.parent().filter(|_| exists);
        while let Some(name) = above {
            // What is above a name that is there already is there too.
            if self.nodes.get(name.wire()).is_some_and(Node::exists) {
                break;
            }
            self.nodes.entry(Box::from(name.wire())).or_insert_with(Node::empty_non_terminal);
            above = name.parent();
        }
        Ok(())
    }

    fn find(&self, name: &Name, kind: RecordType) -> Option<Found<'_>> {
        let node = self.nodes.get(name.wire()).or_else(|| self.wildcard(name.wire()))?;
        Some(node.find(kind))
    }

    /// The wildcard that covers a name which is not there: the one right below its closest encloser (RFC 4592).
    fn wildcard(&self, mut wire: &[u8]) -> Option<&Node> {
        loop {
            let (&len, rest) = wire.split_first()?;
            wire = rest.get(usize::from(len)..)?;
            let is_root = wire == [0];
            if !is_root && !self.nodes.get(wire).is_some_and(Node::exists) {
                continue;
            }
            let mut key = Vec::with_capacity(wire.len() + 2);
            key.extend_from_slice(b"\x01*");
            key.extend_from_slice(wire);
            return self.nodes.get(key.as_slice());
        }
    }

    /// The end of a CNAME chain. A loop has no data, a chain that is too long is a failure.
    fn follow(&self, name: &Name, first: &Alias, kind: RecordType) -> Answer {
        let mut ttl_seconds = first.ttl_seconds;
        let mut seen = vec![*name];
        let mut alias = first;
        for _ in 0..CNAME_CHAIN_MAX {
            if seen.contains(&alias.target) {
                return NO_DATA.clone();
            }
            seen.push(alias.target);
            match self.find(&alias.target, kind) {
                None => return Answer::denied_alias(alias.target, None, None),
                Some(Found::Answer(answer)) if *answer.outcome() == Outcome::NxDomain => {
                    return Answer::denied_alias(alias.target, None, None);
                }
                Some(Found::Answer(answer)) => return answer.capped(ttl_seconds),
                Some(Found::Alias(next)) => alias = next,
            }
            ttl_seconds = ttl_seconds.min(alias.ttl_seconds);
        }
        Answer::failed(Failure::OverLimit)
    }
}

impl<'a> CountedZone<'a> {
    /// A zone that has not been asked yet.
    #[must_use]
    pub fn new(zone: &'a Zone) -> Self {
        Self { zone, counts: HashMap::new() }
    }

    /// How often this question was asked.
    #[must_use]
    pub fn count(&self, question: &Question) -> usize {
        self.counts.get(question).copied().unwrap_or(0)
    }

    /// Questions asked, repetitions included.
    #[must_use]
    pub fn total(&self) -> usize {
        self.counts.values().sum()
    }

    /// Every question asked, with how often.
    pub fn iter(&self) -> impl Iterator<Item = (&Question, usize)> {
        self.counts.iter().map(|(question, &count)| (question, count))
    }
}

impl AnswerSource for Zone {
    fn answer(&mut self, question: &Question) -> Option<Answer> {
        Some(self.lookup(question))
    }
}

impl AnswerSource for &Zone {
    fn answer(&mut self, question: &Question) -> Option<Answer> {
        Some(self.lookup(question))
    }
}

impl AnswerSource for CountedZone<'_> {
    fn answer(&mut self, question: &Question) -> Option<Answer> {
        *self.counts.entry(question.clone()).or_default() += 1;
        Some(self.zone.lookup(question))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_limit_holds_on_both_sides() {
        // As if the names before had been listed: so many take more memory than a test should.
        let mut zone = Zone { listed_count: ZONE_NAMES_MAX - 1, ..Zone::default() };
        let mut add = |text| zone.add_yaml(text).map_err(|error| error.to_string());
        assert_eq!(add("a.example: [{TXT: text}]"), Ok(()));
        assert_eq!(add("a.example: [{TXT: other}]"), Ok(()));
        assert_eq!(add("b.example: [{TXT: text}]"), Err(ZoneError::TooManyNames.to_string()));
        let mut zone = Zone { listed_count: ZONE_NAMES_MAX, ..Zone::default() };
        assert!(matches!(zone.add_master(b"a.example. TXT x\n"), Err(ZoneError::TooManyNames)));
    }
    #[test]
    fn file_limit_holds_on_both_sides() {
        let path = std::env::temp_dir().join(format!("mailproof-zone-limit-{}.yml", std::process::id()));
        // A hole takes no room on the disk, and an octet that begins no UTF-8 ends the reading right away.
        fs::write(&path, [0xff]).unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        let problem = |octets| {
            file.set_len(octets).unwrap();
            match Zone::load(&path) {
                Err(ZoneError::File { error, .. }) => error.to_string(),
                other => panic!("{other:?}"),
            }
        };
        let problems = [ZONE_FILE_BYTES_MAX, ZONE_FILE_BYTES_MAX + 1].map(problem);
        fs::remove_file(&path).unwrap();
        assert_eq!(problems, ["not YAML: not UTF-8".to_owned(), ZoneError::TooLong.to_string()]);
    }
}
