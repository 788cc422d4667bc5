//! One case through our engine and through an oracle.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mailproof::cross_check::{Opinion, Received, SecondOpinion, SignatureOpinion};
use mailproof::zone::Zone;
use mailproof_proto::dkim::{DkimOptions, SignatureOutcome};
use mailproof_proto::spf::{self, Check, SpfOptions, SpfOutcome};
use mailproof_proto::time::Timestamp;
use mailproof_proto::verdict::Verdict;
use mailproof_proto::verification::{Envelope, Options};
use serde_json::json;

use super::python::Python;
use crate::drive::{Order, drive};
use crate::generate::sign::field_name;
use crate::generate::{MessageCase, NOW_SECONDS, SpfCase};
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
}

/// A case of either kind.
#[derive(Clone, Debug)]
pub enum Case {
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
pub struct Oracles {
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
    /// Smaller cases.
    pub fn smaller(&self) -> Vec<Self> {
        match self {
            Self::Spf(case) => case.smaller().into_iter().map(Self::Spf).collect(),
            Self::Message(case) => case.smaller().into_iter().map(Self::Message).collect(),
        }
    }

    /// The case as text, in the form of a scenario.
    pub fn text(&self) -> String {
        let (records, ip, helo, mail_from, message) = match self {
            Self::Spf(case) => (&case.records, case.ip, &case.helo, &case.mail_from, None),
            Self::Message(case) => (&case.records, case.ip, &case.helo, &case.mail_from, Some(case.parts.octets())),
        };
        let mut out =
            format!("envelope: {{ip: {ip}, helo: {}, mail_from: {}}}\nzone:\n", json!(helo), json!(mail_from));
        for (name, list) in &records.0 {
            out.push_str(&format!("  {}: {}\n", json!(name), json!(list)));
        }
        if let Some(message) = message {
            out.push_str(&format!("message_octets: \"{}\"\n", message.escape_ascii()));
        }
        out
    }
}

/// Our SPF outcome.
pub(super) fn our_spf(case: &SpfCase, options: &SpfOptions) -> SpfOutcome {
    let check = Check {
        ip: case.ip,
        helo: &case.helo,
        mail_from: &case.mail_from,
        receiver: RECEIVER,
        now_seconds: NOW_SECONDS,
    };
    let zone = case.records.to_zone();
    drive(&zone, Order::AtHand, |answers| spf::check_mail_from(&check, options, answers)).0
}

/// Our verdict.
pub(super) fn our_verdict(case: &MessageCase, zone: &Zone, dkim: DkimOptions) -> Result<Verdict, String> {
    let case = verify::Case {
        options: Options { authserv_id: RECEIVER.to_owned(), dkim, ..Options::default() },
        envelope: Envelope::new(case.ip, &*case.helo, &*case.mail_from),
        message: case.parts.octets(),
        now: Timestamp::from_seconds(NOW_SECONDS),
    };
    Ok(case.verify(zone, Order::AtHand, usize::MAX)?.0)
}

/// Every comparison that the oracle allows for the case.
pub(super) fn compare(oracle: Oracle, case: &Case, oracles: &mut Oracles) -> Result<Vec<Comparison>, String> {
    match (oracle, case) {
        (Oracle::MailAuth, Case::Spf(case)) => {
            let zone = case.records.to_zone();
            let received = Received {
                message: b"From: a@author.example\r\n\r\n",
                ip: Some(case.ip),
                helo: &case.helo,
                mail_from: &case.mail_from,
                receiver: RECEIVER,
            };
            let ours = spf_view(&our_spf(case, &SpfOptions::default()));
            let theirs = match oracles.mail_auth.verify(&received, |question| Some(zone.lookup(question))) {
                Ok(opinion) => View::new(opinion.spf.map_or("none", |it| it.word()), ""),
                Err(error) => View::new("crash", error.to_string()),
            };
            Ok(vec![Comparison::new(Subject::Spf, ours, theirs)])
        }
        (Oracle::MailAuth, Case::Message(case)) => compare_message(case, oracles),
        (Oracle::Pyspf, Case::Spf(case)) => {
            let ours = spf_view(&our_spf(case, &SpfOptions::default()));
            let python = oracles.python.as_mut().ok_or("no Python oracle")?;
            let request = json!({
                "ip": case.ip.to_string(), "helo": case.helo, "mail_from": case.mail_from, "receiver": RECEIVER,
            });
            let theirs = python.judge(&request, &case.records.to_zone())?;
            Ok(vec![Comparison::new(Subject::Spf, ours, View::new(theirs.result, theirs.why))])
        }
        (Oracle::Dkimpy, Case::Message(case)) => compare_signatures(case, oracles),
        _ => Ok(Vec::new()),
    }
}

fn compare_message(case: &MessageCase, oracles: &Oracles) -> Result<Vec<Comparison>, String> {
    let zone = case.records.to_zone();
    let verdict = our_verdict(case, &zone, DkimOptions::default())?;
    let message = case.parts.octets();
    let received = Received {
        message: &message,
        ip: Some(case.ip),
        helo: &case.helo,
        mail_from: &case.mail_from,
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
    comparisons.extend(pair_signatures(&verdict.dkim, &opinion));
    let ours = View::new(verdict.arc.result.word(), verdict.arc.problem.map_or("", |it| it.word()));
    comparisons.push(Comparison::new(Subject::Arc, ours, View::new(opinion.arc.word(), "")));
    // DMARC builds on SPF and DKIM: it is compared where these are the same.
    if comparisons.iter().all(|it| it.subject == Subject::Arc || it.agrees()) {
        let dmarc = &verdict.dmarc;
        let ours = View::new(dmarc.result.word(), dmarc.problem.map_or("", |it| it.word()));
        comparisons.push(Comparison::new(Subject::Dmarc, ours, View::new(opinion.dmarc.word(), "")));
    }
    Ok(comparisons)
}

/// mail-auth lists the signatures it can read from top to bottom, behind those it can not read, of which it drops some.
fn pair_signatures(ours: &[SignatureOutcome], opinion: &Opinion) -> Vec<Comparison> {
    let mut readable: Vec<&SignatureOpinion> = opinion.dkim.iter().filter(|it| it.domain.is_some()).collect();
    let mut unreadable: Vec<&SignatureOpinion> = opinion.dkim.iter().filter(|it| it.domain.is_none()).collect();
    let mut comparisons = Vec::new();
    for (index, outcome) in ours.iter().enumerate() {
        let same = |it: &&SignatureOpinion| {
            let domain = outcome.domain.map(|name| name.to_string()).unwrap_or_default();
            it.domain.as_deref().is_some_and(|theirs| theirs.eq_ignore_ascii_case(&domain))
                && it.selector.as_deref() == outcome.selector.as_deref()
        };
        let theirs = match readable.iter().position(same) {
            Some(at) => signature_opinion(readable.remove(at)),
            None if unreadable.is_empty() => View::new(NOT_PASS, "not listed"),
            None => signature_opinion(unreadable.remove(0)),
        };
        comparisons.push(Comparison { subject: Subject::Dkim, index, ours: signature_view(outcome), theirs });
    }
    for left in readable {
        let theirs = signature_opinion(left);
        comparisons.push(Comparison {
            subject: Subject::Dkim,
            index: comparisons.len(),
            ours: View::new(NOT_PASS, "not listed"),
            theirs,
        });
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

fn compare_signatures(case: &MessageCase, oracles: &mut Oracles) -> Result<Vec<Comparison>, String> {
    let zone = case.records.to_zone();
    let verdict = our_verdict(case, &zone, DkimOptions::default())?;
    let fields = &case.parts.fields;
    let signatures = fields.iter().filter(|it| field_name(it).eq_ignore_ascii_case(b"DKIM-Signature")).count();
    if signatures == 0 {
        return Ok(Vec::new());
    }
    let request = json!({ "message": STANDARD.encode(case.parts.octets()), "signatures": signatures });
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
        })
    }
}

impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.result, self.why)
    }
}
