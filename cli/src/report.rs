//! What `verify` tells people: a row for each message, why it ended so, and what it all comes to.

use std::fmt;
use std::time::Duration;

use mailproof_explain::{action_tone, aligned_signer, arc_tone, dkim_tone, dmarc_tone, spf_tone};
use mailproof_proto::arc::ArcResult;
use mailproof_proto::dkim::{DkimProblem, DkimResult, SignatureOutcome};
use mailproof_proto::dmarc::{DmarcProblem, DmarcResult};
use mailproof_proto::message::address::Author;
use mailproof_proto::spf::SpfResult;
use mailproof_proto::verdict::{Action, Verdict};

use crate::table::{Cell, Tone};
use crate::words::{counted, listed, shortened, visible};

/// Headings of the table; the last column moves below its row where the terminal is narrow.
pub(crate) const HEADINGS: [&str; 8] = ["Message", "From", "SPF", "DKIM", "ARC", "DMARC", "Action", "Why"];

/// The last column, and the one that says whether the message passed.
pub(crate) const WHY_COLUMN: usize = HEADINGS.len() - 1;
pub(crate) const DMARC_COLUMN: usize = 5;

/// Characters of a message's name that are shown.
const LABEL_WIDTH_MAX: usize = 34;
/// Characters of a domain that are shown.
const DOMAIN_WIDTH_MAX: usize = 32;

/// The row of one verdict.
pub(crate) fn row(label: &str, verdict: &Verdict) -> Vec<Cell> {
    vec![
        Cell::new(shortened(&visible(label), LABEL_WIDTH_MAX), Tone::Plain),
        from(&verdict.author),
        Cell::new(verdict.spf.result.word(), spf_tone(verdict.spf.result)),
        dkim(&verdict.dkim),
        Cell::new(verdict.arc.result.word(), arc_tone(verdict.arc.result)),
        dmarc(verdict),
        Cell::new(verdict.action.word(), action_tone(verdict.action)),
        Cell::new(why(verdict), Tone::Quiet),
    ]
}

/// The row of a message that could not be judged.
pub(crate) fn error_row(label: &str, error: &str) -> Vec<Cell> {
    let mut row = vec![Cell::default(); HEADINGS.len()];
    row[0] = Cell::new(shortened(&visible(label), LABEL_WIDTH_MAX), Tone::Plain);
    row[1] = Cell::new("not judged", Tone::Bad);
    row[WHY_COLUMN] = Cell::new(visible(error), Tone::Quiet);
    row
}

fn from(author: &Author) -> Cell {
    match author {
        Author::One(domain) => Cell::new(shortened(&domain.to_string(), DOMAIN_WIDTH_MAX), Tone::Plain),
        Author::Several(domains) => Cell::new(format!("{} domains", domains.len()), Tone::Doubtful),
        Author::Unusable(_) => Cell::new("unusable", Tone::Bad),
    }
}

/// The best result among the signatures: one good one is enough (RFC 6376 section 6.1).
fn dkim(signatures: &[SignatureOutcome]) -> Cell {
    let Some(best) = signatures.iter().min_by_key(|signature| dkim_rank(signature.result)) else {
        return Cell::new("none", Tone::Quiet);
    };
    Cell::new(best.result.word(), dkim_tone(best.result))
}

fn dkim_rank(result: DkimResult) -> u8 {
    match result {
        DkimResult::Pass => 0,
        DkimResult::TempError => 1,
        DkimResult::Policy => 2,
        DkimResult::Fail => 3,
        DkimResult::PermError => 4,
        DkimResult::Neutral => 5,
        DkimResult::None => 6,
    }
}

fn dmarc(verdict: &Verdict) -> Cell {
    let outcome = &verdict.dmarc;
    let tone = dmarc_tone(outcome.result);
    let text = match (outcome.policy, outcome.applies) {
        (Some(policy), Some(tag)) => format!("{} {}={}", outcome.result.word(), tag.word(), policy.word()),
        _ => outcome.result.word().to_owned(),
    };
    Cell::new(text, tone)
}

/// The reason in a few words.
pub(crate) fn why(verdict: &Verdict) -> String {
    let outcome = &verdict.dmarc;
    match (outcome.result, outcome.problem) {
        (DmarcResult::Pass, _) => passing(verdict),
        (DmarcResult::Fail, _) => failing(verdict),
        (_, Some(DmarcProblem::NoRecord)) => {
            let identified = passing_domains(verdict);
            if identified.is_empty() {
                "no DMARC policy".to_owned()
            } else {
                format!("no DMARC policy; vouched for by {}", listed(&identified))
            }
        }
        (_, Some(problem)) => problem.to_string(),
        (_, None) => String::new(),
    }
}

/// Who speaks for the author: signers first, they are the stronger word.
fn passing(verdict: &Verdict) -> String {
    let mut ways = Vec::new();
    if verdict.dmarc.dkim_aligned.is_some() {
        ways.push(aligned_signer(verdict).map_or_else(|| "signed".to_owned(), |signer| format!("signed by {signer}")));
    }
    if verdict.dmarc.spf_aligned.is_some() {
        ways.push("allowed client".to_owned());
    }
    listed(&ways)
}

/// Why neither mechanism speaks for the author.
fn failing(verdict: &Verdict) -> String {
    let spf = match (verdict.spf.result, &verdict.spf.domain, &verdict.spf.problem) {
        (SpfResult::Pass, Some(domain), _) => format!("SPF speaks for {domain}"),
        (SpfResult::Fail, ..) => "client not allowed".to_owned(),
        (SpfResult::SoftFail, ..) => "client doubted".to_owned(),
        (SpfResult::None, ..) => "no SPF".to_owned(),
        (result, _, Some(problem)) => format!("SPF {} ({})", result.word(), problem.word()),
        (result, ..) => format!("SPF {}", result.word()),
    };
    let signature = verdict.dkim.iter().min_by_key(|signature| dkim_rank(signature.result));
    let dkim = match signature {
        None => "not signed".to_owned(),
        Some(signature) => match (signature.result, &signature.domain, signature.problem) {
            (DkimResult::Pass, Some(domain), _) => format!("signed by {domain}"),
            (_, _, Some(problem)) => defect(problem),
            (result, ..) => format!("DKIM {}", result.word()),
        },
    };
    let sealed = match (verdict.arc.result, verdict.arc.sealers.last()) {
        (ArcResult::Pass, Some((sealer, _))) => format!("; ARC by {sealer}"),
        _ => String::new(),
    };
    let testing = if verdict.dmarc.testing { "; policy in testing" } else { "" };
    format!("{dkim}; {spf}{sealed}{testing}")
}

/// What is wrong with a signature, in a table.
fn defect(problem: DkimProblem) -> String {
    match problem {
        DkimProblem::BodyHashMismatch => "body changed after signing".to_owned(),
        DkimProblem::SignatureMismatch => "header changed after signing".to_owned(),
        DkimProblem::Expired => "signature expired".to_owned(),
        DkimProblem::KeyRevoked => "key revoked".to_owned(),
        DkimProblem::KeyNotFound => "no key at selector".to_owned(),
        DkimProblem::KeyTooShort => "key too short".to_owned(),
        DkimProblem::LengthUncovered => "text added behind the signed part".to_owned(),
        other => other.to_string(),
    }
}

fn passing_domains(verdict: &Verdict) -> Vec<String> {
    let mut domains: Vec<String> = Vec::new();
    let signers = verdict.dkim.iter().filter(|it| it.result == DkimResult::Pass).filter_map(|it| it.domain.as_ref());
    let sender = verdict.spf.domain.as_ref().filter(|_| verdict.spf.result == SpfResult::Pass);
    for domain in signers.chain(sender).map(ToString::to_string) {
        if !domains.contains(&domain) {
            domains.push(domain);
        }
    }
    domains
}

/// Counts over a run.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Counts {
    pub(crate) messages: u64,
    pub(crate) unreadable: u64,
    pub(crate) results: [u64; 5],
    pub(crate) actions: [u64; 4],
    pub(crate) compared: u64,
    pub(crate) disagreements: u64,
}

impl Counts {
    const RESULTS: [(DmarcResult, &str); 5] = [
        (DmarcResult::Pass, "pass"),
        (DmarcResult::Fail, "fail"),
        (DmarcResult::None, "without policy"),
        (DmarcResult::TempError, "temperror"),
        (DmarcResult::PermError, "permerror"),
    ];
    const ACTIONS: [(Action, &str); 4] = [
        (Action::Accept, "accepted"),
        (Action::Quarantine, "quarantined"),
        (Action::Reject, "rejected"),
        (Action::Defer, "deferred"),
    ];

    pub(crate) fn add(&mut self, verdict: &Verdict) {
        self.messages += 1;
        for (count, (result, _)) in self.results.iter_mut().zip(Self::RESULTS) {
            *count += u64::from(result == verdict.dmarc.result);
        }
        for (count, (action, _)) in self.actions.iter_mut().zip(Self::ACTIONS) {
            *count += u64::from(action == verdict.action);
        }
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.messages += other.messages;
        self.unreadable += other.unreadable;
        self.compared += other.compared;
        self.disagreements += other.disagreements;
        for (own, others) in self.results.iter_mut().zip(other.results) {
            *own += others;
        }
        for (own, others) in self.actions.iter_mut().zip(other.actions) {
            *own += others;
        }
    }

    /// The closing line.
    pub(crate) fn summary(&self, elapsed: Duration) -> impl fmt::Display {
        let some = |(count, word): (&u64, &str)| (*count > 0).then(|| format!("{count} {word}"));
        let results = self.results.iter().zip(Self::RESULTS.map(|(_, word)| word)).filter_map(some);
        let actions = self.actions.iter().zip(Self::ACTIONS.map(|(_, word)| word)).filter_map(some);
        let (results, actions): (Vec<String>, Vec<String>) = (results.collect(), actions.collect());
        let mut line = counted(self.messages, "message");
        if !results.is_empty() {
            line = format!("{line}: DMARC {}; {}", results.join(", "), actions.join(", "));
        }
        if self.unreadable > 0 {
            line = format!("{line}; {} not judged", self.unreadable);
        }
        if self.compared > 0 {
            line = format!("{line}; mail-auth disagrees on {} of {}", self.disagreements, self.compared);
        }
        format!("{line}; {:.2} s", elapsed.as_secs_f64())
    }
}
