//! The YAML form of zone files.

use std::net::{Ipv4Addr, Ipv6Addr};

use mailproof_proto::dns::{Mx, Name, NameError, RecordType, Txt};
use serde_json::{Map, Value};

use super::node::{Alias, Draft, Word};
use super::{TTL_SECONDS_DEFAULT, ZoneError};

/// Reads a map of names to records, or one that stands under `zonedata`.
pub(super) fn read(value: &Value) -> Result<Vec<(Name, Draft)>, ZoneError> {
    let map = value.get("zonedata").unwrap_or(value);
    if map.is_null() {
        return Ok(Vec::new());
    }
    let map = map.as_object().ok_or_else(|| form("zone", "not a map of names"))?;
    let mut drafts = Vec::with_capacity(map.len());
    for (text, records) in map {
        let draft = Draft::read(text, records)?;
        // A name that breaks the limits of DNS can not be asked for either.
        if let Ok(name) = Name::parse(text) {
            drafts.push((name, draft));
        }
    }
    Ok(drafts)
}

impl Draft {
    fn read(name: &str, records: &Value) -> Result<Self, ZoneError> {
        let mut draft = Self::default();
        match records {
            Value::Null => draft.otherwise = Some(Word::NxDomain),
            Value::Array(list) => {
                for record in list {
                    draft.read_record(name, record)?;
                }
            }
            single => draft.read_record(name, single)?,
        }
        Ok(draft)
    }

    fn read_record(&mut self, name: &str, record: &Value) -> Result<(), ZoneError> {
        match record {
            Value::String(word) => {
                self.otherwise = Some(Word::read(word).ok_or_else(|| form(name, &format!("unknown word {word}")))?);
                Ok(())
            }
            Value::Object(fields) => self.read_fields(name, fields),
            _ => Err(form(name, "a record is neither a word nor a map")),
        }
    }

    fn read_fields(&mut self, name: &str, fields: &Map<String, Value>) -> Result<(), ZoneError> {
        let ttl_seconds = match fields.get("ttl") {
            None => None,
            Some(ttl) => {
                let seconds = ttl.as_u64().and_then(|ttl| u32::try_from(ttl).ok());
                Some(seconds.ok_or_else(|| form(name, &format!("ttl: not a number of seconds: {ttl}")))?)
            }
        };
        for (key, data) in fields.iter().filter(|(key, _)| *key != "ttl") {
            if let Some(word) = Word::read(key) {
                self.otherwise = Some(word);
                continue;
            }
            let word = data.as_str().and_then(Word::read);
            let kind = RecordType::from_word(key);
            let read = match (kind, word) {
                (Some(kind), Some(word)) => {
                    self.set_word(kind, word);
                    Some(())
                }
                (Some(kind), None) => self.read_data(kind, data),
                (None, None) if key.eq_ignore_ascii_case("CNAME") => {
                    self.read_alias(data, ttl_seconds.unwrap_or(TTL_SECONDS_DEFAULT))
                }
                (None, None) if key.eq_ignore_ascii_case("SPF") => texts(data).map(|it| self.spf_type.extend(it)),
                // Other types are never asked for; the name exists.
                (None, _) => Some(()),
            };
            read.ok_or_else(|| form(name, &format!("{key}: unreadable: {data}")))?;
            if let (Some(kind), Some(ttl_seconds)) = (kind, ttl_seconds) {
                self.set_ttl(kind, ttl_seconds);
            }
        }
        Ok(())
    }

    /// `None` for data that can not be read. A host name that no DNS message could carry is left out.
    fn read_data(&mut self, kind: RecordType, data: &Value) -> Option<()> {
        match kind {
            RecordType::Txt if data.as_str() == Some("NONE") => self.denies_txt = true,
            RecordType::Txt => self.txt.records.extend(texts(data)?),
            RecordType::A => {
                for item in items(data) {
                    self.a.records.push(item.as_str()?.parse::<Ipv4Addr>().ok()?);
                }
            }
            RecordType::Aaaa => {
                for item in items(data) {
                    self.aaaa.records.push(item.as_str()?.parse::<Ipv6Addr>().ok()?);
                }
            }
            RecordType::Ptr => {
                for item in items(data) {
                    self.ptr.records.extend(Name::parse(item.as_str()?));
                }
            }
            RecordType::Mx if items(data).first().is_some_and(Value::is_number) => self.read_exchange(data)?,
            RecordType::Mx => {
                for item in items(data) {
                    self.read_exchange(item)?;
                }
            }
            _ => return None,
        }
        Some(())
    }

    fn read_exchange(&mut self, data: &Value) -> Option<()> {
        let (preference, host) = match data {
            Value::Array(pair) => (pair.first()?.as_u64()?, pair.get(1)?.as_str()?),
            Value::String(text) => match text.trim().split_once(' ') {
                Some((preference, host)) => (preference.parse().ok()?, host.trim()),
                None => (0, text.trim()),
            },
            _ => return None,
        };
        let preference = u16::try_from(preference).ok()?;
        match Name::parse(host) {
            Ok(name) => self.mx.records.push(Mx { preference, exchange: Some(name) }),
            Err(NameError::Empty) => self.mx.records.push(Mx { preference, exchange: None }),
            Err(_) => {}
        }
        Some(())
    }

    /// An alias for the root, or for a name that no DNS message could carry, leads nowhere: no data.
    fn read_alias(&mut self, data: &Value, ttl_seconds: u32) -> Option<()> {
        self.alias = Name::parse(data.as_str()?).ok().map(|target| Alias { target, ttl_seconds });
        Some(())
    }
}

fn items(data: &Value) -> &[Value] {
    match data {
        Value::Array(list) => list,
        single => std::slice::from_ref(single),
    }
}

/// One record from a string or from a list of character-strings; several from a list of such lists.
fn texts(data: &Value) -> Option<Vec<Txt>> {
    match data {
        Value::Array(list) if list.first().is_some_and(Value::is_array) => list.iter().map(text).collect(),
        single => Some(vec![text(single)?]),
    }
}

fn text(data: &Value) -> Option<Txt> {
    let text = match data {
        Value::String(text) => text.clone(),
        Value::Array(strings) => strings.iter().map(Value::as_str).collect::<Option<String>>()?,
        Value::Null => String::new(),
        Value::Number(number) => number.to_string(),
        Value::Bool(_) | Value::Object(_) => return None,
    };
    Some(Txt(text.into_bytes().into()))
}

fn form(name: &str, what: &str) -> ZoneError {
    ZoneError::Form { name: name.to_owned(), what: what.to_owned() }
}
