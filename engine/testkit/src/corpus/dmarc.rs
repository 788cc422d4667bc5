//! The sets on DMARC. Every evaluation is run in every order of answers, with and without asking ahead, and has to end
//! the same way each time.

mod authheaders;
mod evaluation;
mod mail_dmarc;
mod mailauth;
mod mox;
mod opendmarc;
mod psl;

use std::path::Path;

use mailproof::zone::Zone;
use mailproof_proto::dkim::DkimResult;
use mailproof_proto::dmarc::{DmarcOptions, DmarcOutcome, Identifiers, evaluate, organizational_domain};
use mailproof_proto::dns::{Name, RecordType, Transcript};
use mailproof_proto::message::HeaderIndex;
use mailproof_proto::message::address::{Author, author};
use mailproof_proto::spf::SpfResult;
use serde_json::{Map, Value};

use super::{CaseOutcome, SetRunner, read_cases, read_yaml, text};
use crate::drive::{ORDERS, Order, drive};

/// The runner for a set of this kind.
#[must_use]
pub fn runner(set: &str) -> Option<SetRunner> {
    Some(match set {
        "dmarc-rfc9989" | "dmarc-probes" => evaluation::run,
        "dmarc-mail-dmarc" => mail_dmarc::run,
        "dmarc-mailauth" => mailauth::run,
        "dmarc-mox" => mox::run,
        "dmarc-opendmarc" => opendmarc::run,
        "dmarc-authheaders" => authheaders::run,
        "psl" => psl::run,
        _ => return None,
    })
}

/// Runs every case of a set; an error of `run` is a failure of its case.
fn each(dir: &Path, run: impl Fn(&Value) -> Result<(), String>) -> Result<Vec<CaseOutcome>, String> {
    Ok(read_cases(dir)?.iter().map(|case| CaseOutcome::new(text(case, "id"), run(case).err())).collect())
}

/// The zone in `dns.yml` of a set.
fn set_zone(dir: &Path) -> Result<Zone, String> {
    Zone::from_value(&read_yaml(&dir.join("dns.yml"))?).map_err(|error| error.to_string())
}

/// Refuses keys that this runner does not look at.
pub(super) fn check_keys(object: &Value, known: &[&str]) -> Result<(), String> {
    let unknown = object.as_object().into_iter().flat_map(Map::keys).find(|key| !known.contains(&key.as_str()));
    unknown.map_or(Ok(()), |key| Err(format!("the runner does not know the key {key}")))
}

pub(super) fn expect_equal<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what} is {found:?} instead of {expected:?}")) }
}

pub(super) fn domain(text: &str) -> Result<Name, String> {
    Name::parse_domain(text).map_err(|error| format!("{text}: {error}"))
}

fn spf_result(word: &str) -> Result<SpfResult, String> {
    use SpfResult::{Fail, Neutral, None, Pass, PermError, SoftFail, TempError};
    let all = [None, Neutral, Pass, Fail, SoftFail, TempError, PermError];
    all.into_iter().find(|it| it.word() == word).ok_or_else(|| format!("{word} is no SPF result"))
}

fn dkim_result(word: &str) -> Result<DkimResult, String> {
    use DkimResult::{Fail, Neutral, None, Pass, PermError, Policy, TempError};
    let all = [None, Pass, Fail, Policy, Neutral, TempError, PermError];
    all.into_iter().find(|it| it.word() == word).ok_or_else(|| format!("{word} is no DKIM result"))
}

/// What SPF and DKIM found.
#[derive(Clone, Debug, Default)]
pub(super) struct Authenticated {
    pub(super) spf: Option<(Name, SpfResult)>,
    pub(super) dkim: Vec<(Name, DkimResult)>,
}

impl Authenticated {
    /// Reads `spf: {domain, result}` and `dkim: [{domain, result}]`.
    pub(super) fn read(case: &Value) -> Result<Self, String> {
        let mut it = Self::default();
        if let Some(spf) = case.get("spf").filter(|spf| !spf.is_null()) {
            check_keys(spf, &["domain", "result"])?;
            it.spf = Some((domain(text(spf, "domain"))?, spf_result(text(spf, "result"))?));
        }
        let signatures = match case.get("dkim") {
            Some(Value::Array(list)) => list.as_slice(),
            Some(single @ Value::Object(_)) => std::slice::from_ref(single),
            _ => &[],
        };
        for signature in signatures {
            check_keys(signature, &["domain", "result"])?;
            it.dkim.push((domain(text(signature, "domain"))?, dkim_result(text(signature, "result"))?));
        }
        Ok(it)
    }
}

/// The author of a message with these header octets.
fn author_of(header: &[u8]) -> Author {
    let mut index = HeaderIndex::new();
    author(index.scan(header))
}

/// The author of a message with one From field; `value` may have the name of the field in front.
fn author_of_value(value: &str) -> Author {
    let value = if value.to_ascii_lowercase().starts_with("from:") { &value[5..] } else { value };
    let value = value.replace("\r\n", "\n").replace('\n', "\r\n");
    author_of(format!("From: {value}\r\n").as_bytes())
}

/// Judges in every way that must not make a difference; gives the outcome with the questions of the plainest one.
fn judge(
    zone: &Zone,
    author: &Author,
    authenticated: &Authenticated,
    options: &DmarcOptions,
) -> Result<(DmarcOutcome, Transcript), String> {
    let spf = authenticated.spf.as_ref().map(|(domain, result)| (domain, *result));
    let identifiers = Identifiers { author, spf, dkim: &authenticated.dkim };
    let plain = drive(zone, Order::OldestFirst, |answers| evaluate(&identifiers, options, answers));
    for ask_ahead in [false, true] {
        let options = DmarcOptions { ask_ahead, ..options.clone() };
        for order in ORDERS {
            let (outcome, _) = drive(zone, order, |answers| evaluate(&identifiers, &options, answers));
            if outcome != plain.0 {
                return Err(format!("{order:?}, ask_ahead {ask_ahead}: {outcome:?} instead of {:?}", plain.0));
            }
        }
    }
    Ok(plain)
}

/// The Organizational Domain, with the names asked at `_dmarc`.
fn organization(zone: &Zone, of: &Name, options: &DmarcOptions) -> Result<(Name, Vec<String>), String> {
    let (found, transcript) = drive(zone, Order::OldestFirst, |answers| organizational_domain(of, options, answers));
    let found = found.map_err(|failure| format!("Organizational Domain of {of}: {failure}"))?;
    Ok((found, dmarc_questions(&transcript)))
}

/// The `_dmarc` names asked for TXT, in order.
fn dmarc_questions(transcript: &Transcript) -> Vec<String> {
    let questions = transcript.iter().map(|(question, _)| question).filter(|question| question.kind == RecordType::Txt);
    questions.map(|question| question.name.to_string()).filter(|name| name.starts_with("_dmarc.")).collect()
}

/// The part of an outcome that a policy word of a case is about.
fn policy_word(outcome: &DmarcOutcome) -> Option<&'static str> {
    outcome.policy.map(mailproof_proto::dmarc::Disposition::word)
}
