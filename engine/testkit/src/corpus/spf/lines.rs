//! The line form of `spf-mail-auth`: records and tests read in order, each `expect` one check of the state so far.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use mailproof::zone::Zone;
use mailproof_proto::dns::Answers;
use mailproof_proto::spf::{Check, SpfOptions, SpfOutcome, SpfResult, check_helo, check_mail_from};
use serde_json::{Value, json};

use super::{RECEIVER, check, compare, compare_explanation, in_every_order, known_keys, read_ip, reverse_name};
use crate::corpus::{CaseOutcome, read_cases, text};

pub(super) fn run(dir: &Path) -> Result<Vec<CaseOutcome>, String> {
    let cases = read_cases(dir)?;
    Ok(cases.iter().map(|case| CaseOutcome::new(text(case, "id"), run_case(dir, case).err())).collect())
}

fn run_case(dir: &Path, case: &Value) -> Result<(), String> {
    known_keys(case, &["id", "file", "checks"])?;
    let file = dir.join(text(case, "file"));
    let script = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let mut state = State::default();
    let (mut failures, mut checks) = (Vec::new(), 0_u64);
    for (index, line) in script.lines().enumerate() {
        let at = |error: String| format!("line {}: {error}", index + 1);
        match state.read_line(line).map_err(at)? {
            None => {}
            Some(Ok(())) => checks += 1,
            Some(Err(failure)) => {
                checks += 1;
                failures.push(at(failure));
            }
        }
    }
    if case.get("checks").and_then(Value::as_u64).is_some_and(|expected| expected != checks) {
        failures.push(format!("{checks} checks read"));
    }
    if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
}

#[derive(Default)]
struct State {
    /// Name and type to data.
    records: BTreeMap<(String, &'static str), Vec<Value>>,
    domain: String,
    sender: String,
    ip: Option<IpAddr>,
    /// What the last check gave, for a line that tells its explanation.
    outcome: Option<SpfOutcome>,
}

impl State {
    /// Reads one line; the outcome of a check when it is one.
    fn read_line(&mut self, line: &str) -> Result<Option<Result<(), String>>, String> {
        let line = line.trim();
        let line = line.strip_prefix("- ").unwrap_or(line);
        if line.is_empty() || line.starts_with('#') {
            return Ok(None);
        }
        let (key, value) = line.split_once(':').ok_or("no key")?;
        let value = value.trim();
        match key.trim() {
            "name" | "records" | "tests" => {}
            "domain" => value.clone_into(&mut self.domain),
            "sender" => value.clone_into(&mut self.sender),
            "ip" => self.ip = Some(read_ip(value)?),
            "expect" => return self.expect(value).map(Some),
            // After a check, a text that does not start with a name is its explanation.
            "exp" if !value.split(' ').next().is_some_and(|name| name.contains('.')) => {
                let outcome = self.outcome.as_ref().ok_or("an explanation before any check")?;
                compare_explanation(outcome, value)?;
            }
            kind => self.read_record(kind, value)?,
        }
        Ok(None)
    }

    fn read_record(&mut self, kind: &str, value: &str) -> Result<(), String> {
        let (name, data) = value.split_once(' ').unwrap_or((value, ""));
        let list = || data.split(',').map(str::trim).filter(|item| !item.is_empty());
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        match kind {
            "spf" | "txt" | "exp" => {
                self.records.insert((name, "TXT"), vec![json!(data)]);
            }
            "a" | "aaaa" => {
                let (v4, v6) = list()
                    .map(|it| json!(it))
                    .partition::<Vec<_>, _>(|it| it.as_str().is_some_and(|it| !it.contains(':')));
                for (kind, data) in [("A", v4), ("AAAA", v6)] {
                    if !data.is_empty() {
                        self.records.insert((name.clone(), kind), data);
                    }
                }
            }
            "ptr" => {
                self.records.insert((reverse_name(read_ip(&name)?), "PTR"), list().map(|it| json!(it)).collect());
            }
            "mx" => {
                let mut exchanges = Vec::new();
                for (index, host) in list().enumerate() {
                    let host = match host.parse::<IpAddr>() {
                        Ok(ip) => self.host_with(ip),
                        Err(_) => host.to_owned(),
                    };
                    exchanges.push(json!([index, host]));
                }
                self.records.insert((name, "MX"), exchanges);
            }
            other => return Err(format!("unknown key {other}")),
        }
        Ok(())
    }

    /// A host that has this address and no other.
    fn host_with(&mut self, ip: IpAddr) -> String {
        let name = format!("host.{}", reverse_name(ip));
        let kind = if ip.is_ipv4() { "A" } else { "AAAA" };
        self.records.insert((name.clone(), kind), vec![json!(ip.to_string())]);
        name
    }

    fn expect(&mut self, expected: &str) -> Result<Result<(), String>, String> {
        let (word, explanation) = expected.split_once(' ').unwrap_or((expected, ""));
        let ip = self.ip.ok_or("no address yet")?;
        let zone = self.zone()?;
        let check = check(ip, &self.domain, &self.sender, RECEIVER);
        let outcome = match in_every_order(&zone, |answers| both(&check, answers)) {
            Ok(outcome) => outcome,
            Err(error) => return Ok(Err(error)),
        };
        let mut judged = compare(&outcome, &json!(word));
        if judged.is_ok() && !explanation.trim().is_empty() {
            judged = compare_explanation(&outcome, explanation.trim());
        }
        self.outcome = Some(outcome);
        Ok(judged)
    }

    fn zone(&self) -> Result<Zone, String> {
        let mut names = serde_json::Map::new();
        let texts = self.records.values().flatten().filter_map(Value::as_str);
        let words = texts.flat_map(|text| text.split(|it: char| !it.is_ascii_alphanumeric() && !"._-".contains(it)));
        let domains = [self.domain.as_str(), self.sender.rsplit('@').next().unwrap_or_default()];
        // A convention of the origin: such names answer with an error.
        for word in words.chain(domains).filter(|word| word.starts_with("_dns_error")) {
            names.insert(word.to_owned(), json!(["SERVFAIL"]));
        }
        for ((name, kind), data) in &self.records {
            let list = names.entry(name.clone()).or_insert_with(|| json!([]));
            for item in data {
                list.as_array_mut().ok_or("records at an error name")?.push(json!({ *kind: item }));
            }
        }
        Zone::from_value(&Value::Object(names)).map_err(|error| error.to_string())
    }
}

/// HELO first, as the origin does: its fail is the answer, anything else leaves it to MAIL FROM. The origin sets no
/// limit on void lookups, which section 4.6.4 makes a setting.
fn both(check: &Check<'_>, answers: &mut Answers<'_>) -> Option<SpfOutcome> {
    let options = SpfOptions { void_lookups_max: u8::MAX, ..SpfOptions::default() };
    let helo = check_helo(check, &options, answers)?;
    if helo.result == SpfResult::Fail {
        return Some(helo);
    }
    check_mail_from(check, &options, answers)
}
