//! The DNS of a generated case: names with their records, easy to take apart when a case is shrunk.

use mailproof::zone::Zone;
use serde_json::{Map, Value, json};

/// Names with their records, in the form of zone files and in order of creation.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Records(pub Vec<(String, Vec<Value>)>);

impl Records {
    /// Adds a record to a name.
    pub fn add(&mut self, name: &str, record: Value) {
        match self.0.iter_mut().find(|(it, _)| it.eq_ignore_ascii_case(name)) {
            Some((_, records)) => records.push(record),
            None => self.0.push((name.to_owned(), vec![record])),
        }
    }

    /// Adds a TXT record to a name.
    pub fn add_text(&mut self, name: &str, text: &str) {
        self.add(name, json!({ "TXT": text }));
    }

    /// True when the name has records of its own.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(it, _)| it.eq_ignore_ascii_case(name))
    }

    /// The form of zone files.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let entries = self.0.iter().map(|(name, records)| (name.clone(), Value::Array(records.clone())));
        Value::Object(entries.collect::<Map<String, Value>>())
    }

    /// The zone that answers from these records.
    ///
    /// # Panics
    /// When a generator made something that is no record.
    #[must_use]
    pub fn to_zone(&self) -> Zone {
        Zone::from_value(&self.to_value()).expect("generated records have the form of zone files")
    }

    /// Every text of the records, with its name.
    pub fn texts(&self) -> impl Iterator<Item = (&str, String)> {
        let records = self.0.iter().flat_map(|(name, records)| records.iter().map(move |record| (&**name, record)));
        records.filter_map(|(name, record)| Some((name, text_of(record)?)))
    }

    /// These records with each text changed.
    #[must_use]
    pub fn with_texts(&self, mut change: impl FnMut(&str, &str) -> String) -> Self {
        let mut changed = self.clone();
        for (name, records) in &mut changed.0 {
            for record in records {
                let Some(text) = text_of(record) else { continue };
                let new = change(name, &text);
                if new != text {
                    *record = json!({ "TXT": new });
                }
            }
        }
        changed
    }

    /// Smaller sets of records: one name less, one record less, one word of a text less.
    #[must_use]
    pub fn smaller(&self) -> Vec<Self> {
        let mut all = Vec::new();
        for at in 0..self.0.len() {
            let mut less = self.clone();
            less.0.remove(at);
            all.push(less);
        }
        for (at, (_, records)) in self.0.iter().enumerate() {
            for index in 0..records.len() {
                if records.len() > 1 {
                    let mut less = self.clone();
                    less.0[at].1.remove(index);
                    all.push(less);
                }
                let Some(text) = text_of(&records[index]) else { continue };
                let words: Vec<&str> = text.split(' ').collect();
                for word in 1..words.len() {
                    let mut fewer = words.clone();
                    fewer.remove(word);
                    let mut less = self.clone();
                    less.0[at].1[index] = json!({ "TXT": fewer.join(" ") });
                    all.push(less);
                }
            }
        }
        all
    }
}

/// The text of a TXT record, its strings joined.
fn text_of(record: &Value) -> Option<String> {
    match record.get("TXT")? {
        Value::String(text) if !matches!(text.as_str(), "TIMEOUT" | "SERVFAIL" | "NONE") => Some(text.clone()),
        Value::Array(strings) => Some(strings.iter().filter_map(Value::as_str).collect()),
        _ => None,
    }
}
