//! An oracle in Python: a process that is sent cases and asks for DNS answers while it judges them.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use mailproof::zone::Zone;
use mailproof_proto::dns::{Name, Outcome, Question, RecordSet, RecordType};
use serde_json::{Value, json};

/// A running oracle.
pub struct Python {
    process: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

/// What an oracle said of a case.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Judgement {
    /// The word, or several with a blank between.
    pub result: String,
    /// Its reasons.
    pub why: String,
}

/// The Python with the packages of `scripts/oracles.txt`: `$MAILPROOF_PYTHON`, else `.venv` at the workspace's root.
#[must_use]
pub fn interpreter() -> Option<PathBuf> {
    let configured = std::env::var_os("MAILPROOF_PYTHON").map(PathBuf::from);
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/bin/python");
    configured.or(Some(beside)).filter(|path| path.exists())
}

impl Python {
    /// Starts an oracle by the name of its file in `oracles/`.
    ///
    /// # Errors
    /// When it does not come up, for want of its package say.
    pub fn start(interpreter: &Path, script: &str) -> Result<Self, String> {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("oracles").join(script);
        let mut command = Command::new(interpreter);
        command.arg("-B").arg(&script).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().map_err(|error| format!("{}: {error}", interpreter.display()))?;
        let (Some(input), Some(output)) = (process.stdin.take(), process.stdout.take()) else {
            return Err("no pipes".to_owned());
        };
        let mut oracle = Self { process, input, output: BufReader::new(output) };
        match oracle.receive()?.get("ready") {
            Some(_) => Ok(oracle),
            None => Err(format!("{} does not say that it is ready", script.display())),
        }
    }

    /// Judges one case, answering its questions from the zone.
    ///
    /// # Errors
    /// When the process ends.
    pub fn judge(&mut self, case: &Value, zone: &Zone) -> Result<Judgement, String> {
        self.send(case)?;
        loop {
            let said = self.receive()?;
            if let Some(question) = said.get("ask") {
                let answer = answer(question, zone);
                self.send(&answer)?;
            } else {
                let text = |key: &str| said.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
                return Ok(Judgement { result: text("result"), why: text("why") });
            }
        }
    }

    fn send(&mut self, value: &Value) -> Result<(), String> {
        let mut line = value.to_string();
        line.push('\n');
        self.input.write_all(line.as_bytes()).and_then(|()| self.input.flush()).map_err(|error| error.to_string())
    }

    fn receive(&mut self) -> Result<Value, String> {
        let mut line = String::new();
        let count = self.output.read_line(&mut line).map_err(|error| error.to_string())?;
        if count == 0 {
            return Err("the oracle ended".to_owned());
        }
        serde_json::from_str(&line).map_err(|error| format!("{line}: {error}"))
    }
}

impl Drop for Python {
    fn drop(&mut self) {
        // It ends by itself when its input does; this is for one that hangs.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Octets of texts are sent as the characters of the same number.
fn answer(question: &Value, zone: &Zone) -> Value {
    let text = |at: usize| question.get(at).and_then(Value::as_str).unwrap_or_default();
    let kind = match text(1) {
        "A" => RecordType::A,
        "AAAA" => RecordType::Aaaa,
        "MX" => RecordType::Mx,
        "PTR" => RecordType::Ptr,
        _ => RecordType::Txt,
    };
    let Ok(name) = Name::parse(text(0)) else {
        return json!({ "records": [] });
    };
    match zone.lookup(&Question::new(name, kind)).outcome() {
        Outcome::Failed(failure) => json!({ "failed": failure.to_string() }),
        Outcome::NoData | Outcome::NxDomain => json!({ "records": [] }),
        Outcome::Records(records) => json!({ "records": records_value(records) }),
    }
}

fn records_value(records: &RecordSet) -> Vec<Value> {
    match records {
        RecordSet::A(list) => list.iter().map(|it| json!(it.to_string())).collect(),
        RecordSet::Aaaa(list) => list.iter().map(|it| json!(it.to_string())).collect(),
        RecordSet::Ptr(list) => list.iter().map(|it| json!(it.to_string())).collect(),
        RecordSet::Mx(list) => list
            .iter()
            .map(|it| json!([it.preference, it.exchange.map_or_else(|| ".".to_owned(), |name| name.to_string())]))
            .collect(),
        RecordSet::Txt(list) => {
            list.iter().map(|it| json!(it.0.iter().map(|&octet| char::from(octet)).collect::<String>())).collect()
        }
        _ => Vec::new(),
    }
}
