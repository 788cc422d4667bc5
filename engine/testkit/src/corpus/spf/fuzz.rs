//! `spf-blitiri-fuzz`: record texts found by a fuzzer. They must parse as the grammar says and evaluate to something,
//! over DNS that knows nothing, knows everything, or only fails.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use mailproof::zone::Zone;
use mailproof_proto::dns::{
    Answer, AnswerSource, Answers, Name, Outcome, Question, RecordSet, RecordType, Transcript, Txt,
};
use mailproof_proto::spf::{SpfOptions, check_mail_from};
use serde_json::{Value, json};

use super::expansion::judge_record;
use super::{RECEIVER, check, evaluate, known_keys, read_ip};
use crate::corpus::{CaseOutcome, text};

pub(super) fn run(dir: &Path) -> Result<Vec<CaseOutcome>, String> {
    let path = dir.join("records.jsonl");
    let lines = fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut outcomes = Vec::new();
    for line in lines.lines().filter(|line| !line.trim().is_empty()) {
        let case: Value = serde_json::from_str(line).map_err(|error| format!("{}: {error}", path.display()))?;
        let judged = catch_unwind(AssertUnwindSafe(|| run_case(&case))).unwrap_or_else(|_| Err("panics".to_owned()));
        outcomes.push(CaseOutcome::new(text(&case, "id"), judged.err()));
    }
    Ok(outcomes)
}

fn run_case(case: &Value) -> Result<(), String> {
    known_keys(case, &["id", "text", "base64"])?;
    let record = match (case.get("text"), case.get("base64")) {
        (Some(Value::String(text)), None) => text.clone().into_bytes(),
        (None, Some(Value::String(coded))) => BASE64_STANDARD.decode(coded).map_err(|error| error.to_string())?,
        _ => return Err("neither text nor base64".to_owned()),
    };
    judge_record(&record)?;
    let everything = json!([
        { "TXT": "v=spf1 a mx ptr exists:%{p}.%{d} ?all" }, { "A": "192.0.2.9" }, { "AAAA": "2001:db8::9" },
        { "MX": [10, "mx.example"] }, { "PTR": "host.fuzz.example" },
    ]);
    let everywhere = |records: Value| json!({ "*": records, "*.example": records, "mx.example": records });
    for others in [json!({}), everywhere(everything), everywhere(json!(["TIMEOUT"]))] {
        let zone = Zone::from_value(&others).map_err(|error| error.to_string())?;
        for ip in ["192.0.2.1", "2001:db8::1"] {
            let check = check(read_ip(ip)?, "helo.example", "a.b+c@fuzz.example", RECEIVER);
            let mut source = OneRecord { record: &record, zone: &zone };
            let mut transcript = Transcript::new();
            let mut answers = Answers::new(&mut transcript, &mut source);
            check_mail_from(&check, &SpfOptions::default(), &mut answers).ok_or("no outcome")?;
            if let Ok(text) = std::str::from_utf8(&record) {
                let mut zone = zone.clone();
                zone.add(&json!({ "fuzz.example": [{ "TXT": text }] })).map_err(|error| error.to_string())?;
                evaluate(&zone, &check)?;
            }
        }
    }
    Ok(())
}

/// A zone with one TXT record put over it, whose octets need not be text.
struct OneRecord<'a> {
    record: &'a [u8],
    zone: &'a Zone,
}

impl AnswerSource for OneRecord<'_> {
    fn answer(&mut self, question: &Question) -> Option<Answer> {
        if question.kind == RecordType::Txt && Name::parse("fuzz.example").is_ok_and(|name| name == question.name) {
            let texts = RecordSet::Txt(Box::from([Txt(self.record.into())]));
            return Some(Answer::new(Outcome::Records(texts), Some(300)));
        }
        Some(self.zone.lookup(question))
    }
}
