//! Offline DNS from zone files, for tests, replays and demos.
//!
//! The YAML form maps a name to a list of records, `{TYPE: data}`. TXT data is one string or a list of
//! character-strings. `TIMEOUT`, `SERVFAIL`, `NXDOMAIN` and `NODATA` as an entry, or as the data of one type, are that
//! answer. A name that is not listed, and has no listed name below it, does not exist. Files of the SPF test suite,
//! which keep such a map under `zonedata`, are read too.

use std::collections::BTreeMap;
use std::net::IpAddr;

use mailproof_proto::dns::{
    Answer, AnswerSource, Failure, Mx, Name, NameError, Outcome, Question, RecordSet, RecordType, Txt,
};
use mailproof_proto::limits::CNAME_CHAIN_MAX;
use serde_json::Value;

/// Names with their records, answering every question at once.
#[derive(Clone, Debug, Default)]
pub struct Zone {
    /// Keyed by the labels from right to left, so that what stands below a name follows it.
    names: BTreeMap<Vec<Box<[u8]>>, Node>,
}

#[derive(Clone, Debug, Default)]
struct Node {
    records: Vec<(Kind, Entry)>,
    /// What every type without records gets.
    otherwise: Option<Word>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    Asked(RecordType),
    Cname,
}

#[derive(Clone, Debug)]
enum Entry {
    A(std::net::Ipv4Addr),
    Aaaa(std::net::Ipv6Addr),
    Mx(Mx),
    /// Target of a PTR or CNAME.
    Name(Name),
    Txt(Txt),
    Word(Word),
    Ttl(u32),
    /// `NONE`: no record of this type, and none of type 99 in its place.
    Nothing,
}

/// Answers that stand in a zone file as a word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Word {
    Timeout,
    ServFail,
    NxDomain,
    NoData,
}

/// Why a zone file can not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ZoneError {
    /// The text is no YAML.
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
}

/// Seconds an answer of a zone file lives where the file gives no `ttl`.
const TTL_SECONDS_DEFAULT: u32 = 300;

impl Zone {
    /// A zone in which no name exists.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the YAML form.
    ///
    /// # Errors
    /// [`ZoneError`] with the name at fault.
    pub fn from_yaml(text: &str) -> Result<Self, ZoneError> {
        let value: Value = serde_saphyr::from_str(text).map_err(|error| ZoneError::Yaml(error.to_string()))?;
        Self::from_value(&value)
    }

    /// Reads the same form from a value already parsed.
    ///
    /// # Errors
    /// [`ZoneError`] with the name at fault.
    pub fn from_value(value: &Value) -> Result<Self, ZoneError> {
        let mut zone = Self::new();
        zone.add(value)?;
        Ok(zone)
    }

    /// Adds names, replacing those already there.
    ///
    /// # Errors
    /// [`ZoneError`] with the name at fault.
    pub fn add(&mut self, value: &Value) -> Result<(), ZoneError> {
        let map = value.get("zonedata").unwrap_or(value);
        let Some(map) = map.as_object() else {
            return if map.is_null() { Ok(()) } else { Err(form("zone", "not a map of names")) };
        };
        for (text, records) in map {
            // A name that breaks the limits of DNS can not be asked for either.
            let Ok(name) = Name::parse(text) else { continue };
            let node = Node::read(text, records)?;
            self.names.insert(key(&name), node);
        }
        Ok(())
    }

    /// The answer to a question.
    #[must_use]
    pub fn lookup(&self, question: &Question) -> Answer {
        let mut name = question.name;
        for _ in 0..=CNAME_CHAIN_MAX {
            let Some(node) = self.node(&name) else {
                return Answer::new(self.missing(&name), None);
            };
            if let Some(answer) = node.answer(question.kind) {
                return answer;
            }
            match node.records.iter().find(|(kind, _)| *kind == Kind::Cname) {
                Some((_, Entry::Name(target))) => name = *target,
                _ => return Answer::new(node.otherwise.map_or(Outcome::NoData, Word::outcome), None),
            }
        }
        Answer::failed(Failure::OverLimit)
    }

    /// Names listed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// True when no name is listed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The node at a name, or the wildcard that covers it (RFC 4592).
    fn node(&self, name: &Name) -> Option<&Node> {
        let key = key(name);
        if let Some(node) = self.names.get(&key) {
            return Some(node);
        }
        let mut encloser = key;
        if self.exists(&encloser) {
            return None;
        }
        while encloser.pop().is_some() {
            encloser.push(Box::from(&b"*"[..]));
            if let Some(node) = self.names.get(&encloser) {
                return Some(node);
            }
            encloser.pop();
            if self.exists(&encloser) {
                return None;
            }
        }
        None
    }

    fn exists(&self, key: &[Box<[u8]>]) -> bool {
        self.names.range(key.to_vec()..).next().is_some_and(|(next, _)| next.starts_with(key))
    }

    fn missing(&self, name: &Name) -> Outcome {
        if self.exists(&key(name)) { Outcome::NoData } else { Outcome::NxDomain }
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

impl Node {
    fn read(name: &str, records: &Value) -> Result<Self, ZoneError> {
        let mut node = Self::default();
        match records {
            Value::Null => node.otherwise = Some(Word::NxDomain),
            Value::Array(list) => {
                for record in list {
                    node.read_record(name, record)?;
                }
            }
            single => node.read_record(name, single)?,
        }
        node.adopt_spf_type();
        Ok(node)
    }

    fn read_record(&mut self, name: &str, record: &Value) -> Result<(), ZoneError> {
        match record {
            Value::String(word) => {
                self.otherwise = Some(Word::read(word).ok_or_else(|| form(name, &format!("unknown word {word}")))?);
            }
            Value::Object(fields) => {
                let ttl = fields.get("ttl").and_then(Value::as_u64).and_then(|ttl| u32::try_from(ttl).ok());
                for (kind, data) in fields {
                    if let Some(word) = Word::read(kind) {
                        self.otherwise = Some(word);
                    } else if kind != "ttl" {
                        self.read_data(name, kind, data, ttl)?;
                    }
                }
            }
            _ => return Err(form(name, "a record is neither a word nor a map")),
        }
        Ok(())
    }

    fn read_data(&mut self, name: &str, kind: &str, data: &Value, ttl: Option<u32>) -> Result<(), ZoneError> {
        let bad = |what: &str| form(name, &format!("{kind}: {what}: {data}"));
        let asked = match kind.to_ascii_uppercase().as_str() {
            "A" => Kind::Asked(RecordType::A),
            "AAAA" => Kind::Asked(RecordType::Aaaa),
            "MX" => Kind::Asked(RecordType::Mx),
            "PTR" => Kind::Asked(RecordType::Ptr),
            "TXT" => Kind::Asked(RecordType::Txt),
            "CNAME" => Kind::Cname,
            "SPF" => return self.read_spf_type(data),
            // Other types are never asked for; the name exists.
            _ => return Ok(()),
        };
        if let Some(ttl) = ttl {
            self.records.push((asked, Entry::Ttl(ttl)));
        }
        if let Some(word) = data.as_str().and_then(Word::read) {
            self.records.push((asked, Entry::Word(word)));
            return Ok(());
        }
        if asked == Kind::Asked(RecordType::Txt) {
            if data.as_str() == Some("NONE") {
                self.records.push((asked, Entry::Nothing));
            } else {
                let text = texts(data).ok_or_else(|| bad("not a text"))?;
                self.records.push((asked, Entry::Txt(Txt(text.into()))));
            }
            return Ok(());
        }
        let list = match (asked, data) {
            (Kind::Asked(RecordType::Mx), Value::Array(pair))
                if pair.first().is_some_and(|first| !first.is_array()) =>
            {
                std::slice::from_ref(data)
            }
            (_, Value::Array(list)) => list.as_slice(),
            (_, single) => std::slice::from_ref(single),
        };
        for item in list {
            if let Some(entry) = read_entry(asked, item).ok_or_else(|| bad("unreadable"))? {
                self.records.push((asked, entry));
            }
        }
        Ok(())
    }

    /// Records of type 99 stand for TXT where a name has none (a convention of the SPF test suite).
    fn read_spf_type(&mut self, data: &Value) -> Result<(), ZoneError> {
        if let Some(text) = texts(data).filter(|_| data.as_str().and_then(Word::read).is_none()) {
            self.records.push((Kind::Asked(RecordType::Ptr), Entry::Txt(Txt(text.into()))));
        }
        Ok(())
    }

    fn adopt_spf_type(&mut self) {
        let txt = Kind::Asked(RecordType::Txt);
        let has_txt = self.records.iter().any(|(kind, _)| *kind == txt);
        for (kind, entry) in &mut self.records {
            if matches!(entry, Entry::Txt(_)) && !has_txt {
                *kind = txt;
            }
        }
        self.records.retain(|(kind, entry)| !matches!(entry, Entry::Txt(_)) || *kind == txt);
    }

    fn answer(&self, kind: RecordType) -> Option<Answer> {
        let of_kind = || self.records.iter().filter(|(it, _)| *it == Kind::Asked(kind)).map(|(_, entry)| entry);
        let ttl = of_kind().find_map(|entry| if let Entry::Ttl(ttl) = entry { Some(*ttl) } else { None });
        let word = of_kind().find_map(|entry| if let Entry::Word(word) = entry { Some(*word) } else { None });
        if let Some(word) = word {
            return Some(Answer::new(word.outcome(), None));
        }
        let records = match kind {
            RecordType::A => {
                set(of_kind(), |it| if let Entry::A(it) = it { Some(*it) } else { None }).map(RecordSet::A)
            }
            RecordType::Aaaa => {
                set(of_kind(), |it| if let Entry::Aaaa(it) = it { Some(*it) } else { None }).map(RecordSet::Aaaa)
            }
            RecordType::Mx => {
                set(of_kind(), |it| if let Entry::Mx(it) = it { Some(it.clone()) } else { None }).map(|mut list| {
                    list.sort_by_key(|mx| mx.preference);
                    RecordSet::Mx(list)
                })
            }
            RecordType::Ptr => {
                set(of_kind(), |it| if let Entry::Name(it) = it { Some(*it) } else { None }).map(RecordSet::Ptr)
            }
            RecordType::Txt => {
                let texts: Vec<Txt> =
                    of_kind().filter_map(|it| if let Entry::Txt(it) = it { Some(it.clone()) } else { None }).collect();
                (!texts.is_empty()).then(|| RecordSet::Txt(texts.into()))
            }
            _ => None,
        };
        records.map(|records| Answer::new(Outcome::Records(records), Some(ttl.unwrap_or(TTL_SECONDS_DEFAULT))))
    }
}

impl Word {
    fn read(word: &str) -> Option<Self> {
        Some(match word.to_ascii_uppercase().as_str() {
            "TIMEOUT" => Self::Timeout,
            "SERVFAIL" => Self::ServFail,
            "NXDOMAIN" => Self::NxDomain,
            "NODATA" => Self::NoData,
            _ => return None,
        })
    }

    fn outcome(self) -> Outcome {
        match self {
            Self::Timeout => Outcome::Failed(Failure::TimedOut),
            Self::ServFail => Outcome::Failed(Failure::ServFail),
            Self::NxDomain => Outcome::NxDomain,
            Self::NoData => Outcome::NoData,
        }
    }
}

/// `None` for data that can not be read, `Some(None)` for a name that no DNS message could carry.
fn read_entry(kind: Kind, data: &Value) -> Option<Option<Entry>> {
    Some(match kind {
        Kind::Asked(RecordType::A) => match data.as_str()?.parse().ok()? {
            IpAddr::V4(address) => Some(Entry::A(address)),
            IpAddr::V6(_) => return None,
        },
        Kind::Asked(RecordType::Aaaa) => match data.as_str()?.parse().ok()? {
            IpAddr::V6(address) => Some(Entry::Aaaa(address)),
            IpAddr::V4(_) => return None,
        },
        Kind::Asked(RecordType::Mx) => {
            let (preference, host) = match data {
                Value::Array(pair) => (pair.first()?.as_u64()?, pair.get(1)?.as_str()?),
                Value::String(text) => match text.split_once(' ') {
                    Some((preference, host)) => (preference.parse().ok()?, host.trim()),
                    None => (0, text.as_str()),
                },
                _ => return None,
            };
            let exchange = match Name::parse(host) {
                Ok(name) => Some(name),
                Err(NameError::Empty) => None,
                Err(_) => return Some(None),
            };
            Some(Entry::Mx(Mx { preference: u16::try_from(preference).ok()?, exchange }))
        }
        Kind::Asked(RecordType::Ptr) | Kind::Cname => Name::parse(data.as_str()?).ok().map(Entry::Name),
        Kind::Asked(_) => return None,
    })
}

fn texts(data: &Value) -> Option<Vec<u8>> {
    match data {
        Value::String(text) => Some(text.as_bytes().to_vec()),
        Value::Array(strings) => {
            let strings: Option<Vec<&str>> = strings.iter().map(Value::as_str).collect();
            Some(strings?.concat().into_bytes())
        }
        Value::Null => Some(Vec::new()),
        Value::Number(number) => Some(number.to_string().into_bytes()),
        Value::Bool(_) | Value::Object(_) => None,
    }
}

/// A set: duplicates count once (RFC 2181 section 5). TXT records are kept as they are listed.
fn set<'a, T: PartialEq>(
    entries: impl Iterator<Item = &'a Entry>,
    pick: impl Fn(&Entry) -> Option<T>,
) -> Option<Box<[T]>> {
    let mut list: Vec<T> = Vec::new();
    for item in entries.filter_map(pick) {
        if !list.contains(&item) {
            list.push(item);
        }
    }
    (!list.is_empty()).then(|| list.into())
}

fn key(name: &Name) -> Vec<Box<[u8]>> {
    let mut labels: Vec<Box<[u8]>> = name.labels().map(Box::from).collect();
    labels.reverse();
    labels
}

fn form(name: &str, what: &str) -> ZoneError {
    ZoneError::Form { name: name.to_owned(), what: what.to_owned() }
}
