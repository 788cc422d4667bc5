//! Plans as YAML.

use std::path::{Path, PathBuf};
use std::{fs, io};

use mailproof_proto::dns::{Name, RecordType};
use serde::Deserialize;

use super::{Counts, Fault, Names, Plan, Rule, Span, Transport};

/// Why a plan can not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// The text is no YAML, or has a key or word that plans do not know; in the YAML reader's words, with the place.
    #[error("{0}")]
    Form(String),
    /// A rule makes no sense.
    #[error("rule {number}: {what}")]
    Rule {
        /// Which one, counted from 1.
        number: usize,
        /// Why.
        what: &'static str,
    },
    /// More than [`RULES_MAX`](super::RULES_MAX) rules.
    #[error("more than {} rules", super::RULES_MAX)]
    TooManyRules,
    /// The plan's own probability is not between 0 and 1.
    #[error("the probability is not between 0 and 1")]
    Probability,
    /// More than [`PLAN_FILE_BYTES_MAX`] octets.
    #[error("more than {PLAN_FILE_BYTES_MAX} octets")]
    TooLong,
    /// Something is wrong with a file.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: Box<Self>,
    },
    /// The file can not be read at all.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Octets of a plan's file.
pub const PLAN_FILE_BYTES_MAX: u64 = 1024 * 1024;

impl Plan {
    /// Reads a file.
    ///
    /// # Errors
    /// [`PlanError::File`] with what is wrong in it.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, PlanError> {
        let path = path.as_ref();
        let read = || {
            if fs::metadata(path)?.len() > PLAN_FILE_BYTES_MAX {
                return Err(PlanError::TooLong);
            }
            Self::from_yaml(&fs::read_to_string(path)?)
        };
        read().map_err(|error| PlanError::File { path: path.to_owned(), error: Box::new(error) })
    }

    /// Reads the YAML form: `seed`, `probability` and `rules`.
    ///
    /// # Errors
    /// [`PlanError`] with the line or the rule at fault.
    pub fn from_yaml(text: &str) -> Result<Self, PlanError> {
        let text: PlanText = serde_saphyr::from_str(text).map_err(|error| PlanError::Form(error.to_string()))?;
        if text.probability.is_some_and(|it| !(0.0..=1.0).contains(&it)) {
            return Err(PlanError::Probability);
        }
        let mut plan = Self::new(text.seed).with_probability(text.probability.unwrap_or(1.0));
        for (index, rule) in text.rules.into_iter().enumerate() {
            let number = index + 1;
            plan.add(rule.rule().map_err(|what| PlanError::Rule { number, what })?)?;
        }
        Ok(plan)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct PlanText {
    #[serde(default)]
    seed: u64,
    probability: Option<f64>,
    #[serde(default)]
    rules: Vec<RuleText>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RuleText {
    name: Option<String>,
    below: Option<String>,
    #[serde(rename = "type")]
    kind: Option<String>,
    transport: Option<Transport>,
    nth: Option<Span>,
    #[serde(default)]
    counts: Counts,
    probability: Option<f64>,
    #[serde(default)]
    then_right: bool,
    fault: Option<Fault>,
    #[serde(default)]
    faults: Vec<Fault>,
}

impl RuleText {
    fn rule(self) -> Result<Rule, &'static str> {
        let read = |text: &str| Name::parse(text).map_err(|_| "not a name");
        let names = match (self.name, self.below) {
            (None, None) => Names::All,
            (Some(name), None) => Names::Exactly(read(&name)?),
            (None, Some(name)) => Names::AtOrBelow(read(&name)?),
            (Some(_), Some(_)) => return Err("both name and below"),
        };
        let kind = match self.kind {
            None => None,
            Some(word) => Some(RecordType::from_word(&word).ok_or("type: none of A, AAAA, MX, PTR, TXT")?),
        };
        if self.fault.is_some() && !self.faults.is_empty() {
            return Err("both fault and faults");
        }
        Ok(Rule {
            names,
            kind,
            transport: self.transport,
            nth: self.nth.map_or(1..=u64::MAX, |span| span.low..=span.high),
            counts: self.counts,
            probability: self.probability,
            then_right: self.then_right,
            faults: self.fault.into_iter().chain(self.faults).collect(),
        })
    }
}

/// A number, or a list of the lowest and the highest.
impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Form {
            One(u64),
            Two([u64; 2]),
        }
        match Form::deserialize(deserializer)? {
            Form::One(number) => Ok(Self::from(number)),
            Form::Two([low, high]) if low <= high => Ok(Self::new(low, high)),
            Form::Two(_) => Err(serde::de::Error::custom("the end of the range is before its start")),
        }
    }
}
