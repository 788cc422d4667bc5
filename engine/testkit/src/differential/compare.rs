//! One case through our engine and through an oracle.

use std::fmt;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mailproof::cross_check::{Opinion, Received, SecondOpinion, SignatureOpinion};
use mailproof::zone::Zone;
use mailproof_proto::dkim::{DkimOptions, DkimResult, SignatureOutcome};
use mailproof_proto::dmarc::{Disposition, DmarcResult};
use mailproof_proto::spf::{self, Check, SpfOptions, SpfOutcome};
use mailproof_proto::time::Timestamp;
use mailproof_proto::verdict::Verdict;
use mailproof_proto::verification::{Envelope, Options};
use serde_json::json;

use super::features;
use super::python::Python;
use crate::drive::{Order, drive};
use crate::generate::sign::field_name;
use crate::generate::{MessageCase, NOW_SECONDS, Records, SpfCase};
use crate::verify;

/// Who else was asked.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Oracle {
    /// The crate mail-auth 0.13.3.
    MailAuth,
    /// pyspf 2.0.14.
    Pyspf,
    /// dkimpy 1.1.8.
    Dkimpy,
}

/// What was compared.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Subject {
    /// The SPF result.
    Spf,
    /// Whether one signature passes.
    Dkim,
    /// The ARC result.
    Arc,
    /// The DMARC result.
    Dmarc,
    /// The policy that applies, where DMARC passes or fails.
    Policy,
}

/// A case, and the choices with which our side judges it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Case {
    /// What is judged.
    pub input: Input,
    /// Our SPF choices.
    pub spf: SpfOptions,
    /// Our DKIM choices.
    pub dkim: DkimOptions,
}

/// What is judged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Input {
    /// An SPF evaluation.
    Spf(SpfCase),
    /// A message.
    Message(MessageCase),
}

/// One outcome, with the reason given for it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct View {
    /// The word compared.
    pub result: String,
    /// The reason in the words of whoever came to it.
    pub why: String,
}

/// Two outcomes of one subject.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// What.
    pub subject: Subject,
    /// Which signature from the top, for DKIM.
    pub index: usize,
    /// Ours.
    pub ours: View,
    /// The oracle's.
    pub theirs: View,
}

/// The oracles at hand.
pub(super) struct Oracles {
    /// mail-auth.
    pub mail_auth: SecondOpinion,
    /// The Python oracle that is asked at present.
    pub python: Option<Python>,
}

const RECEIVER: &str = "mx.example.net";

impl Comparison {
    /// True when both came to the same result.
    pub fn agrees(&self) -> bool {
        self.ours.result == self.theirs.result
    }

    /// The results with their first words of reason: what a triage groups by.
    pub fn kind(&self) -> String {
        let word = |view: &View| {
            let reason = view.why.split([':', '(', '\'']).next().unwrap_or_default().trim();
            format!("{} [{reason}]", view.result)
        };
        format!("{} / {}", word(&self.ours), word(&self.theirs))
    }

    fn new(subject: Subject, ours: View, theirs: View) -> Self {
        Self { subject, index: 0, ours, theirs }
    }
}

impl View {
    fn new(result: impl Into<String>, why: impl Into<String>) -> Self {
        Self { result: result.into(), why: why.into() }
    }
}

impl Case {
    /// A case with the choices that are ours by default.
    pub fn new(input: Input) -> Self {
        Self { input, spf: SpfOptions::default(), dkim: DkimOptions::default() }
    }

    /// The DNS.
    pub fn records(&self) -> &Records {
        match &self.input {
            Input::Spf(case) => &case.records,
            Input::Message(case) => &case.records,
        }
    }

    /// The same with another DNS.
    pub fn with_records(&self, records: Records) -> Self {
        let mut case = self.clone();
        match &mut case.input {
            Input::Spf(case) => case.records = records,
            Input::Message(case) => case.records = records,
        }
        case
    }

    /// Smaller cases.
    pub fn smaller(&self) -> Vec<Self> {
        let inputs: Vec<Input> = match &self.input {
            Input::Spf(case) => case.smaller().into_iter().map(Input::Spf).collect(),
            Input::Message(case) => case.smaller().into_iter().map(Input::Message).collect(),
        };
        inputs.into_iter().map(|input| Self { input, ..self.clone() }).collect()
    }

    /// The case as text, in the form of a scenario.
    pub fn text(&self) -> String {
        let (ip, helo, mail_from, message) = match &self.input {
            Input::Spf(case) => (case.ip, &case.helo, &case.mail_from, None),
            Input::Message(case) => (case.ip, &case.helo, &case.mail_from, Some(case.parts.octets())),
        };
        let (helo, mail_from) = (json!(helo), json!(mail_from));
        let mut out = format!("envelope: {{ip: \"{ip}\", helo: {helo}, mail_from: {mail_from}}}\nzone:\n");
        for (name, list) in &self.records().0 {
            let _ = writeln!(out, "  {}: {}", json!(name), json!(list));
        }
        if let Some(message) = message {
            let _ = writeln!(out, "message_octets: \"{}\"", message.escape_ascii());
        }
        out
    }
}

fn our_spf(input: &SpfCase, zone: &Zone, options: &SpfOptions) -> SpfOutcome {
    let check = Check {
        ip: input.ip,
        helo: &input.helo,
        mail_from: &input.mail_from,
        receiver: RECEIVER,
        now_seconds: NOW_SECONDS,
    };
    drive(zone, Order::AtHand, |answers| spf::check_mail_from(&check, options, answers)).0
}

fn our_verdict(input: &MessageCase, zone: &Zone, case: &Case) -> Result<Verdict, String> {
    let options = Options {
        authserv_id: RECEIVER.to_owned(),
        spf: case.spf.clone(),
        dkim: case.dkim.clone(),
        ..Options::default()
    };
    let whole = verify::Case {
        options,
        envelope: Envelope::new(input.ip, &*input.helo, &*input.mail_from),
        message: input.parts.octets(),
        now: Timestamp::from_seconds(NOW_SECONDS),
    };
    Ok(whole.verify(zone, Order::AtHand, usize::MAX)?.0)
}

/// Every comparison that the oracle allows for the case.
pub(super) fn compare(oracle: Oracle, case: &Case, oracles: &mut Oracles) -> Result<Vec<Comparison>, String> {
    match (oracle, &case.input) {
        (Oracle::MailAuth, Input::Spf(input)) => {
            let zone = input.records.to_zone();
            let received = Received {
                message: b"From: a@author.example\r\n\r\n",
                ip: Some(input.ip),
                helo: &input.helo,
                mail_from: &input.mail_from,
                receiver: RECEIVER,
            };
            let theirs = match oracles.mail_auth.verify(&received, |question| Some(zone.lookup(question))) {
                Ok(opinion) => View::new(opinion.spf.map_or("none", |it| it.word()), ""),
                Err(error) => View::new("crash", error.to_string()),
            };
            Ok(vec![Comparison::new(Subject::Spf, spf_view(&our_spf(input, &zone, &case.spf)), theirs)])
        }
        (Oracle::MailAuth, Input::Message(input)) => compare_message(input, case, oracles),
        (Oracle::Pyspf, Input::Spf(input)) => {
            let zone = input.records.to_zone();
            let python = oracles.python.as_mut().ok_or("no Python oracle")?;
            let request = json!({
                "ip": input.ip.to_string(), "helo": input.helo, "mail_from": input.mail_from, "receiver": RECEIVER,
            });
            let theirs = python.judge(&request, &zone)?;
            let theirs = View::new(theirs.result, theirs.why);
            Ok(vec![Comparison::new(Subject::Spf, spf_view(&our_spf(input, &zone, &case.spf)), theirs)])
        }
        (Oracle::Dkimpy, Input::Message(input)) => compare_signatures(input, case, oracles),
        _ => Ok(Vec::new()),
    }
}

fn compare_message(input: &MessageCase, case: &Case, oracles: &Oracles) -> Result<Vec<Comparison>, String> {
    let zone = input.records.to_zone();
    let verdict = our_verdict(input, &zone, case)?;
    let message = input.parts.octets();
    let received = Received {
        message: &message,
        ip: Some(input.ip),
        helo: &input.helo,
        mail_from: &input.mail_from,
        receiver: RECEIVER,
    };
    let opinion = match oracles.mail_auth.verify(&received, |question| Some(zone.lookup(question))) {
        Ok(opinion) => opinion,
        Err(error) => {
            let theirs = View::new("crash", error.to_string());
            return Ok(vec![Comparison::new(Subject::Dkim, View::new("a verdict", ""), theirs)]);
        }
    };
    let spf = opinion.spf.map_or("none", |it| it.word());
    let mut comparisons = vec![Comparison::new(Subject::Spf, spf_view(&verdict.spf), View::new(spf, ""))];
    comparisons.extend(pair_signatures(case, &verdict.dkim, &opinion));
    let ours = View::new(verdict.arc.result.word(), verdict.arc.problem.map_or("", |it| it.word()));
    comparisons.push(Comparison::new(Subject::Arc, ours, View::new(opinion.arc.word(), "")));
    // DMARC builds on SPF and DKIM: it is compared where these are the same.
    if comparisons.iter().all(|it| it.subject == Subject::Arc || it.agrees()) {
        let dmarc = &verdict.dmarc;
        let ours = View::new(dmarc.result.word(), dmarc.problem.map_or("", |it| it.word()));
        comparisons.push(Comparison::new(Subject::Dmarc, ours, View::new(opinion.dmarc.word(), "")));
        if dmarc.result == opinion.dmarc && matches!(dmarc.result, DmarcResult::Pass | DmarcResult::Fail) {
            let word = |policy: Option<Disposition>| policy.map_or("none found", Disposition::word);
            let (ours, theirs) = (word(dmarc.policy), word(opinion.policy));
            comparisons.push(Comparison::new(Subject::Policy, View::new(ours, ""), View::new(theirs, "")));
        }
    }
    Ok(comparisons)
}

/// mail-auth lists the signatures it can read from top to bottom, behind those it can not read, of which it drops some.
fn pair_signatures(case: &Case, ours: &[SignatureOutcome], opinion: &Opinion) -> Vec<Comparison> {
    let mut readable: Vec<&SignatureOpinion> = opinion.dkim.iter().filter(|it| it.domain.is_some()).collect();
    let mut unreadable: Vec<&SignatureOpinion> = opinion.dkim.iter().filter(|it| it.domain.is_none()).collect();
    let mut pairs: Vec<Option<View>> = Vec::new();
    for field in &features::signatures(case) {
        let is_same = |theirs: Option<&str>, tag: &str| {
            theirs.is_some_and(|theirs| field.value(tag).is_some_and(|value| value.eq_ignore_ascii_case(theirs)))
        };
        let same = |it: &&SignatureOpinion| is_same(it.domain.as_deref(), "d") && is_same(it.selector.as_deref(), "s");
        pairs.push(readable.iter().position(same).map(|at| signature_opinion(readable.remove(at))));
    }
    // What is left could be read by one side only; of these, those with `l=` say so.
    for ((field, outcome), pair) in features::signatures(case).iter().zip(ours).zip(&mut pairs) {
        let refused =
            unreadable.iter().position(|it| it.reason.as_ref().is_some_and(|why| why.starts_with("Insecure")));
        let is_read = outcome.result != DkimResult::Neutral && field.value("l").is_some_and(|length| length != "0");
        if let (None, true, Some(at)) = (&pair, is_read, refused) {
            *pair = Some(signature_opinion(unreadable.remove(at)));
        }
    }
    for pair in pairs.iter_mut().filter(|pair| pair.is_none()) {
        *pair = (!unreadable.is_empty()).then(|| signature_opinion(unreadable.remove(0)));
    }
    let missing = || View::new(NOT_PASS, "not listed");
    let mut comparisons: Vec<Comparison> = Vec::new();
    for (index, (outcome, pair)) in ours.iter().zip(pairs).enumerate() {
        let theirs = pair.unwrap_or_else(missing);
        comparisons.push(Comparison { subject: Subject::Dkim, index, ours: signature_view(outcome), theirs });
    }
    for left in readable {
        let theirs = signature_opinion(left);
        comparisons.push(Comparison { subject: Subject::Dkim, index: comparisons.len(), ours: missing(), theirs });
    }
    comparisons
}

/// Only whether a signature passes counts, and whether it might later: the words for the rest are every author's own.
const NOT_PASS: &str = "not pass";

fn coarse(word: &str) -> &str {
    if matches!(word, "pass" | "temperror" | "crash") { word } else { NOT_PASS }
}

fn signature_opinion(theirs: &SignatureOpinion) -> View {
    View::new(coarse(theirs.result.word()), theirs.reason.clone().unwrap_or_default())
}

fn signature_view(ours: &SignatureOutcome) -> View {
    View::new(coarse(ours.result.word()), ours.problem.map_or("", |it| it.word()))
}

fn spf_view(ours: &SpfOutcome) -> View {
    let why = ours.problem.as_ref().map_or_else(String::new, |it| format!("{}: {it}", it.word()));
    View::new(ours.result.word(), why)
}

fn compare_signatures(input: &MessageCase, case: &Case, oracles: &mut Oracles) -> Result<Vec<Comparison>, String> {
    let zone = input.records.to_zone();
    let verdict = our_verdict(input, &zone, case)?;
    let fields = &input.parts.fields;
    let signatures = fields.iter().filter(|it| field_name(it).eq_ignore_ascii_case(b"DKIM-Signature")).count();
    if signatures == 0 {
        return Ok(Vec::new());
    }
    let request = json!({ "message": STANDARD.encode(input.parts.octets()), "signatures": signatures });
    let python = oracles.python.as_mut().ok_or("no Python oracle")?;
    let theirs = python.judge(&request, &zone)?;
    let words = theirs.result.split(' ');
    let reasons = theirs.why.split('\n').chain(std::iter::repeat(""));
    let pairs = verdict.dkim.iter().zip(words.zip(reasons));
    Ok(pairs
        .enumerate()
        .map(|(index, (outcome, (word, why)))| Comparison {
            subject: Subject::Dkim,
            index,
            ours: signature_view(outcome),
            theirs: View::new(coarse(word), why),
        })
        .collect())
}

impl fmt::Display for Oracle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::MailAuth => "mail-auth",
            Self::Pyspf => "pyspf",
            Self::Dkimpy => "dkimpy",
        })
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Spf => "spf",
            Self::Dkim => "dkim",
            Self::Arc => "arc",
            Self::Dmarc => "dmarc",
            Self::Policy => "policy",
        })
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.result, self.why)
    }
}
