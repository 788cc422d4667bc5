//! What has to hold, whatever goes wrong.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mailproof::simulation::Census;
use mailproof::zone::Zone;
use mailproof_proto::dns::{Answer, Outcome, Question};
use mailproof_proto::verdict::{Action, Verdict};

use super::plan::Limits;
use crate::corpus::Expectation;

/// Something that has to hold does not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// What has to hold.
    pub invariant: Invariant,
    /// What was seen instead.
    pub detail: String,
}

/// What has to hold.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Invariant {
    /// Every request gets one reply, and nothing is said unasked.
    OneReply,
    /// No fault turns a result into another than "not known for now", and none into a pass.
    NoFalseResult,
    /// Every answer is one that the servers gave for this question, within its time.
    TrueAnswers,
    /// What is held stays within its limits.
    Bounded,
    /// Everything ends by its deadline.
    EndsInTime,
    /// What has ended holds nothing.
    NothingLeft,
    /// Nothing happens on what was closed, and nobody gets what he did not ask for.
    NothingAfterClose,
    /// The same seed gives the same run.
    SameRun,
    /// No part of the program panics.
    NoPanic,
}

impl Invariant {
    /// A word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::OneReply => "one-reply",
            Self::NoFalseResult => "no-false-result",
            Self::TrueAnswers => "true-answers",
            Self::Bounded => "bounded",
            Self::EndsInTime => "ends-in-time",
            Self::NothingLeft => "nothing-left",
            Self::NothingAfterClose => "nothing-after-close",
            Self::SameRun => "same-run",
            Self::NoPanic => "no-panic",
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant.word(), self.detail)
    }
}

/// A violation.
pub(super) fn violation<T>(invariant: Invariant, detail: impl Into<String>) -> Result<T, Violation> {
    Err(Violation { invariant, detail: detail.into() })
}

/// What was found about a message.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Found {
    pub(super) spf: String,
    pub(super) dkim: Vec<(String, String)>,
    pub(super) arc: String,
    pub(super) dmarc: String,
}

impl From<&Verdict> for Found {
    fn from(verdict: &Verdict) -> Self {
        let dkim = verdict.dkim.iter().map(|it| {
            let domain = it.domain.as_ref().map_or_else(String::new, ToString::to_string);
            (domain, it.result.word().to_owned())
        });
        Self {
            spf: verdict.spf.result.word().to_owned(),
            dkim: dkim.collect(),
            arc: verdict.arc.result.word().to_owned(),
            dmarc: verdict.dmarc.result.word().to_owned(),
        }
    }
}

/// What the domains said while a message was judged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Truth {
    /// What they said when it was sent, and nothing went wrong.
    Exact,
    /// The same, as far as they could be heard.
    AsSent,
    /// That, or that it is withdrawn.
    Changing,
    /// That everything is withdrawn: whatever knew of the time before is over.
    Withdrawn,
}

/// Compares results with what must be found.
pub(super) fn judge(expected: &Expectation, found: &Found, truth: Truth) -> Result<(), String> {
    let results = |spf: &str, dkim: &[(String, String)], arc: &str, dmarc: &str| {
        let dkim: Vec<String> = dkim.iter().map(|(domain, word)| format!("{word}:{domain}")).collect();
        format!("spf={spf} dkim={} arc={arc} dmarc={dmarc}", dkim.join(","))
    };
    let wrong = |what: &str| {
        let (was, is) = (
            results(&found.spf, &found.dkim, &found.arc, &found.dmarc),
            results(&expected.spf, &expected.dkim, &expected.arc, &expected.dmarc),
        );
        Err(format!("{what} ({:?}, {truth:?}): found {was}, made for {is}", expected.fate))
    };
    let may_pass = |expected: &str| truth != Truth::Withdrawn && expected == "pass";
    let is_right = |found: &str, expected: &str| match truth {
        Truth::Exact => found == expected,
        Truth::AsSent => found == expected || found == "temperror",
        Truth::Changing | Truth::Withdrawn => found != "pass" || may_pass(expected),
    };
    if !is_right(&found.spf, &expected.spf) {
        return wrong("spf");
    }
    let signatures = found.dkim.iter().map(|(domain, _)| domain).eq(expected.dkim.iter().map(|(domain, _)| domain));
    if !signatures {
        return wrong("another number or order of signatures");
    }
    if !found.dkim.iter().zip(&expected.dkim).all(|((_, found), (_, expected))| is_right(found, expected)) {
        return wrong("dkim");
    }
    // A seal that can not be judged for now counts as one that does not hold: nothing else is possible (RFC 8617 5.2).
    let is_lost_seal = truth == Truth::AsSent && expected.arc == "pass" && found.arc == "fail";
    if !is_right(&found.arc, &expected.arc) && !is_lost_seal {
        return wrong("arc");
    }
    if !is_right(&found.dmarc, &expected.dmarc) {
        return wrong("dmarc");
    }
    Ok(())
}

/// What was decided about a message, and what its mail server was told.
pub(super) fn compare_reply(decided: Action, told: Told) -> Result<(), String> {
    let is_same = match decided {
        Action::Accept => told == Told::GoOn,
        Action::Quarantine => told == Told::Held,
        Action::Reject => told == Told::Refused,
        Action::Defer => told == Told::RefusedForNow,
    };
    if is_same { Ok(()) } else { Err(format!("decided {}, told {told:?}", decided.word())) }
}

/// The last word about a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Told {
    GoOn,
    Held,
    Refused,
    RefusedForNow,
}

/// What a worker holds, compared with the limits.
pub(super) fn bounded(census: &Census, limits: &Limits, servers: usize, ports: usize) -> Result<(), String> {
    let sockets = census.ports + census.links + census.conversations + census.closing + LISTENERS_MAX;
    for (what, is, limit) in [
        ("questions in flight", census.in_flight, limits.in_flight),
        ("questions that wait", census.waiting, limits.waiting),
        ("questions on one connection", census.link_outstanding, limits.link_outstanding),
        ("connections", census.conversations, limits.connections),
        ("sockets that nobody knows", census.sockets, sockets),
        ("ports", census.ports, servers * ports + limits.in_flight),
        ("places for questions", census.question_places, limits.in_flight + limits.waiting + PLACES_SPARE),
        ("octets that wait to be sent", census.unsent_bytes, UNSENT_BYTES_MAX),
    ] {
        if is > limit {
            return Err(format!("{is} {what}, at most {limit}"));
        }
    }
    Ok(())
}

/// What a worker holds once everybody has gone.
pub(super) fn left_over(census: &Census) -> Result<(), String> {
    for (what, is) in [
        ("connections", census.conversations),
        ("connections being closed", census.closing),
        ("questions", census.questions),
        ("questions in flight", census.in_flight),
        ("messages", census.jobs),
        ("sockets", census.sockets.saturating_sub(census.ports + census.links + LISTENERS_MAX)),
    ] {
        if is > 0 {
            return Err(format!("{is} {what} left"));
        }
    }
    Ok(())
}

/// What all conversations of a run saw.
#[derive(Debug)]
pub(super) struct Notes {
    zones: [Arc<Zone>; 2],
    /// When the first zone gives way to the second, and when nothing may be known of the first any more.
    change: Option<(u64, u64)>,
    /// Open questions: whose, what, and since when.
    open: Vec<(u64, Question, u64)>,
    violation: Option<Violation>,
    /// Of everything noted.
    pub(super) hash: u64,
}

/// Notes that conversations and the run share.
pub(super) type SharedNotes = Arc<Mutex<Notes>>;

pub(super) fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Notes {
    pub(super) fn new(zones: [Arc<Zone>; 2], change: Option<(u64, u64)>) -> Self {
        Self { zones, change, open: Vec::new(), violation: None, hash: 0 }
    }

    /// A conversation asks.
    pub(super) fn asked(&mut self, whose: u64, question: Question, now_ms: u64) {
        self.mix(whose ^ now_ms << 20);
        self.open.push((whose, question, now_ms));
    }

    /// A conversation gets an answer.
    pub(super) fn answered(&mut self, whose: u64, question: &Question, answer: &Answer, now_ms: u64) {
        self.mix(whose ^ now_ms << 24 ^ u64::from(matches!(answer.outcome(), Outcome::Failed(_))));
        match self.open.iter().position(|(of, asked, _)| *of == whose && asked == question) {
            Some(at) => {
                self.open.swap_remove(at);
            }
            None => self.note(
                Invariant::NothingAfterClose,
                format!("conversation {whose} got an answer to {question}, which it does not wait for"),
            ),
        }
        self.check_answer(question, answer, now_ms);
    }

    fn check_answer(&mut self, question: &Question, answer: &Answer, now_ms: u64) {
        if matches!(answer.outcome(), Outcome::Failed(_)) {
            return;
        }
        let [before, after] = self.zones.each_ref().map(|zone| zone.lookup(question));
        let (may_be_before, may_be_after) =
            self.change.map_or((true, false), |(from, until)| (now_ms < until, now_ms >= from));
        let is_true = may_be_before && answer.outcome() == before.outcome()
            || may_be_after && answer.outcome() == after.outcome();
        if !is_true {
            self.note(Invariant::TrueAnswers, format!("{question} at {now_ms} ms: {:?}", answer.outcome()));
        }
    }

    /// A conversation is over and waits for nothing.
    pub(super) fn closed(&mut self, whose: u64) {
        self.mix(whose);
        self.open.retain(|(of, ..)| *of != whose);
    }

    pub(super) fn note(&mut self, invariant: Invariant, detail: String) {
        self.violation.get_or_insert(Violation { invariant, detail });
    }

    /// The first violation, or a question that is open for too long.
    pub(super) fn check(&self, now_ms: u64, answer_time: Duration) -> Result<(), Violation> {
        if let Some(violation) = &self.violation {
            return Err(violation.clone());
        }
        let limit = answer_time.as_millis() as u64;
        match self.open.iter().find(|(_, _, since)| since + limit < now_ms) {
            Some((whose, question, since)) => violation(
                Invariant::EndsInTime,
                format!("conversation {whose} waits for {question} since {since} ms, it is {now_ms}"),
            ),
            None => Ok(()),
        }
    }

    fn mix(&mut self, number: u64) {
        self.hash = (self.hash.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

const LISTENERS_MAX: usize = 1;
/// Answers that are at hand take a place too.
const PLACES_SPARE: usize = 64;
/// What a conversation may have queued when it stops to listen, and its last reply.
const UNSENT_BYTES_MAX: usize = (256 + 64) * 1024;
