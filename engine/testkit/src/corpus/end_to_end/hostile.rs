//! The set `hostile`: inputs made to cost too much, with a bound on time, questions and key operations.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use mailproof::zone::Zone;
use mailproof_proto::arc::ArcResult;
use mailproof_proto::authres::{self, AuthservId};
use mailproof_proto::dmarc::{self, DmarcOptions, Identifiers};
use mailproof_proto::dns::{Answers, Name, Question, Transcript};
use mailproof_proto::message::HeaderIndex;
use mailproof_proto::message::address::Author;
use mailproof_proto::spf::SpfResult;
use mailproof_proto::verification::Envelope;
use serde_json::Value;

use super::{message_case, read_zone};
use crate::corpus::{CaseOutcome, read_cases, read_yaml, text};
use crate::drive::{Order, drive};
use crate::verify::Case;

/// How far a run of the tests may exceed the bound on time, on a machine that is slow or shared.
const SLACK: f64 = 10.0;
/// Runs of which the fastest counts.
const RUNS: usize = 5;

/// One hostile input, ready to be judged.
pub struct Hostile {
    /// Its id.
    pub id: String,
    /// The goal for its time on a processor, in milliseconds.
    pub bound_ms: f64,
    case: Value,
    zone: Zone,
    input: Input,
}

enum Input {
    Message(Box<Case>),
    Spf(Box<Case>),
    Dmarc(Box<Authored>),
}

/// A DMARC evaluation without a message.
struct Authored {
    author: Author,
    spf_domain: Option<Name>,
    spf_result: SpfResult,
}

/// What came out of one run.
struct Outcome {
    words: Vec<(&'static str, String)>,
    questions: Vec<Question>,
    key_operations: usize,
    explanation_octets: usize,
}

pub(super) fn run(dir: &Path) -> Result<Vec<CaseOutcome>, String> {
    let mut outcomes = Vec::new();
    let mut slowest = (0.0, String::new());
    for hostile in generate(dir)? {
        let mut failure = hostile.check().err();
        let ratio = hostile.fastest().as_secs_f64() * 1000.0 / hostile.bound_ms;
        if ratio > slowest.0 {
            slowest = (ratio, hostile.id.clone());
        }
        // Code that was not optimised says nothing about time.
        if failure.is_none() && ratio > SLACK && !cfg!(debug_assertions) {
            failure = Some(format!("takes {ratio:.1} times its bound of {} ms", hostile.bound_ms));
        }
        outcomes.push(CaseOutcome::new(hostile.id, failure));
    }
    println!("  hostile: the slowest takes {:.2} times its bound: {}", slowest.0, slowest.1);
    Ok(outcomes)
}

/// Builds every input with the generator of the set.
///
/// # Errors
/// When the generator can not be run.
pub fn generate(dir: &Path) -> Result<Vec<Hostile>, String> {
    let scratch = std::env::temp_dir().join(format!("mailproof-hostile-{}", std::process::id()));
    let made = read_cases(dir)?.into_iter().map(|case| Hostile::build(dir, &scratch, case)).collect();
    std::fs::remove_dir_all(&scratch).ok();
    made
}

impl Hostile {
    fn build(dir: &Path, scratch: &Path, case: Value) -> Result<Self, String> {
        let id = text(&case, "id").to_owned();
        let target: PathBuf = scratch.join(&id);
        std::fs::create_dir_all(&target).map_err(|error| format!("{}: {error}", target.display()))?;
        let generator = dir.join("generate.py");
        let status = Command::new("python3").arg(&generator).arg(&id).arg(&target).status();
        if !status.map_err(|error| format!("python3: {error}"))?.success() {
            return Err(format!("{} {id} failed", generator.display()));
        }
        let zone_path = target.join("dns.yml");
        let zone = if zone_path.exists() { read_zone(&zone_path)? } else { Zone::new() };
        let input = if target.join("args.yml").exists() {
            Input::from_arguments(&read_yaml(&target.join("args.yml"))?)?
        } else {
            let message = std::fs::read(target.join("message.eml")).map_err(|error| format!("{id}: {error}"))?;
            let mut judged = message_case(Envelope::default(), message);
            judged.options.authserv_id = text(&case, "authserv_id").to_owned();
            Input::Message(Box::new(judged))
        };
        let bound_ms = case.pointer("/bound/cpu_ms").and_then(Value::as_f64).unwrap_or(1.0);
        Ok(Self { id, bound_ms, case, zone, input })
    }

    /// Time of the fastest of a few runs, every answer at hand.
    #[must_use]
    pub fn fastest(&self) -> Duration {
        let mut fastest = Duration::MAX;
        for _ in 0..RUNS {
            let start = Instant::now();
            let outcome = self.judge();
            fastest = fastest.min(start.elapsed());
            drop(outcome);
        }
        fastest
    }

    /// Compares the outcome and the bounds on questions and key operations.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), String> {
        let outcome = self.judge()?;
        for (key, wanted) in self.case["outcome"].as_object().into_iter().flatten() {
            self.check_word(key, wanted, &outcome)?;
        }
        for (bound, most) in self.case["bound"].as_object().into_iter().flatten() {
            let count = |wanted: &dyn Fn(&str) -> bool| {
                outcome.questions.iter().filter(|question| wanted(&question.to_string())).count()
            };
            let found = match bound.as_str() {
                "cpu_ms" | "memory" => continue,
                "dns_queries_max" => count(&|_| true),
                "key_queries_max" => count(&|question| question.contains("._domainkey.")),
                "dmarc_queries_max" => count(&|question| question.starts_with("_dmarc.")),
                "verifications_max" => outcome.key_operations,
                "explanation_octets_max" => outcome.explanation_octets,
                other => return Err(format!("unknown bound {other}")),
            };
            if found as u64 > most.as_u64().unwrap_or_default() {
                return Err(format!("{bound}: {found}, at most {most}"));
            }
        }
        Ok(())
    }

    fn check_word(&self, key: &str, wanted: &Value, outcome: &Outcome) -> Result<(), String> {
        let accept = match key {
            "accept" | "accept_dmarc" => return Ok(()),
            "removed" => return self.check_removed(),
            "dmarc" => "accept_dmarc",
            _ => "accept",
        };
        let (_, found) =
            outcome.words.iter().find(|(name, _)| *name == key).ok_or_else(|| format!("unknown outcome {key}"))?;
        let accepted = self.case["outcome"][accept].as_array().into_iter().flatten();
        let mut words = accepted.filter_map(Value::as_str).chain(wanted.as_str());
        if words.any(|word| word == found) { Ok(()) } else { Err(format!("{key} {found}, wanted {wanted}")) }
    }

    /// No field that another reader could take for ours is left.
    fn check_removed(&self) -> Result<(), String> {
        let Input::Message(case) = &self.input else { return Err("no message".to_owned()) };
        let end = memchr::memmem::find(&case.message, b"\r\n\r\n").map_or(case.message.len(), |at| at + 2);
        let mut index = HeaderIndex::new();
        let headers = index.scan(&case.message[..end]);
        let ours = text(&self.case, "authserv_id");
        let ids = [AuthservId::new(ours).map_err(|error| error.to_string())?];
        let removed: Vec<usize> = authres::forged(headers, &ids).map(|it| it.position).collect();
        let left = headers.fields().filter(|field| {
            let is_results = field.name.eq_ignore_ascii_case(b"Authentication-Results");
            let names_us = String::from_utf8_lossy(field.value).to_ascii_lowercase().contains(ours);
            is_results && names_us && !removed.contains(&field.position)
        });
        match left.count() {
            0 if !removed.is_empty() => Ok(()),
            0 => Err("nothing was removed".to_owned()),
            count => Err(format!("{count} fields are left")),
        }
    }

    fn judge(&self) -> Result<Outcome, String> {
        match &self.input {
            Input::Message(case) | Input::Spf(case) => {
                let (verdict, transcript) = case.verify(&self.zone, Order::AtHand, usize::MAX)?;
                let signed = verdict.dkim.first().map_or("none", |it| it.result.word());
                let best =
                    verdict.dkim.iter().map(|it| it.result.word()).find(|word| *word == "pass").unwrap_or(signed);
                let arc = if verdict.arc.result == ArcResult::None { "none" } else { verdict.arc.result.word() };
                Ok(Outcome {
                    words: vec![
                        ("dkim", best.to_owned()),
                        ("arc", arc.to_owned()),
                        ("spf", verdict.spf.result.word().to_owned()),
                        ("dmarc", verdict.dmarc.result.word().to_owned()),
                    ],
                    questions: self.own_questions(&transcript),
                    key_operations: verdict.dkim.iter().filter(|it| it.key_bits.is_some()).count(),
                    explanation_octets: verdict.spf.explanation.as_ref().map_or(0, |it| it.len()),
                })
            }
            Input::Dmarc(authored) => {
                let Authored { author, spf_domain, spf_result } = &**authored;
                let identifiers =
                    Identifiers { author, spf: spf_domain.as_ref().map(|domain| (domain, *spf_result)), dkim: &[] };
                let evaluate =
                    |answers: &mut Answers<'_>| dmarc::evaluate(&identifiers, &DmarcOptions::default(), answers);
                let (outcome, transcript) = drive(&self.zone, Order::AtHand, evaluate);
                Ok(Outcome {
                    words: vec![
                        ("dmarc", outcome.result.word().to_owned()),
                        ("policy", outcome.policy.map_or("none", |policy| policy.word()).to_owned()),
                    ],
                    questions: self.own_questions(&transcript),
                    key_operations: 0,
                    explanation_octets: 0,
                })
            }
        }
    }

    /// The questions of the part under test: an SPF case counts those of MAIL FROM, not of HELO and DMARC.
    fn own_questions(&self, transcript: &Transcript) -> Vec<Question> {
        let beside = |question: &Question| {
            let name = question.name.to_string();
            matches!(self.input, Input::Spf(_)) && (name.starts_with("_dmarc.") || name == "mail.s.example")
        };
        transcript.iter().map(|(question, _)| question.clone()).filter(|question| !beside(question)).collect()
    }
}

impl Input {
    fn from_arguments(arguments: &Value) -> Result<Self, String> {
        let name = |text: &str| Name::parse_domain(text).map_err(|error| format!("{text}: {error}"));
        match text(arguments, "kind") {
            "spf" => Ok(Self::Spf(Box::new(message_case(super::envelope(arguments, "ip")?, Vec::new())))),
            "dmarc" => Ok(Self::Dmarc(Box::new(Authored {
                author: Author::One(name(text(arguments, "from"))?),
                spf_domain: match text(&arguments["spf"], "domain") {
                    "" => None,
                    domain => Some(name(domain)?),
                },
                spf_result: if text(&arguments["spf"], "result") == "pass" { SpfResult::Pass } else { SpfResult::Fail },
            }))),
            other => Err(format!("unknown kind {other}")),
        }
    }
}
