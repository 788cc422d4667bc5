//! `check_host` (RFC 7208 section 4) over parsed records.
//!
//! Includes are a stack of frames, never recursion: its depth is bounded by the limit on terms that query. Counters
//! belong to the whole evaluation. Everything is decided in the order the RFC gives, whatever answer arrives first:
//! where several questions go out together, their answers are still looked at one after the other.

use std::borrow::Cow;
use std::net::IpAddr;

use super::macros::{MacroString, Scratch, Usage, Variables};
use super::record::{Mechanism, Prefixes, Published, Record, Target, Term, equal6};
use super::{Check, MatchedTerm, SpfOptions, SpfOutcome, SpfProblem, SpfResult};
use crate::dns::{Answer, Answers, Name, Outcome, Question, RecordSet, RecordType};
use crate::limits::{SPF_LOOKUP_TERMS_MAX, SPF_MX_NAMES_MAX, SPF_PTR_NAMES_MAX};

/// Whose authorisation is asked for.
pub(super) struct Sender<'a> {
    pub(super) local_part: &'a str,
    /// The domain for `%{o}`.
    pub(super) domain: Cow<'a, str>,
    /// The HELO argument for `%{h}`.
    pub(super) helo: Cow<'a, str>,
    /// The domain to check.
    pub(super) name: Name,
}

/// Runs the evaluation; `None` while an answer is missing.
pub(super) fn check_host(
    sender: &Sender<'_>,
    check: &Check<'_>,
    options: &SpfOptions,
    answers: &mut Answers<'_>,
) -> Option<SpfOutcome> {
    let mut evaluation = Evaluation::new(sender, check, options, answers);
    let conclusion = match evaluation.run() {
        Ok(conclusion) => conclusion,
        Err(Halt::Ended(result, problem)) => {
            Conclusion { result, problem: Some(problem), mechanism: None, explanation: None }
        }
        Err(Halt::Waiting) => return None,
    };
    Some(SpfOutcome {
        result: conclusion.result,
        domain: Some(sender.name),
        problem: conclusion.problem,
        explanation: conclusion.explanation,
        mechanism: conclusion.mechanism,
        lookup_count: evaluation.lookup_count,
        void_lookup_count: evaluation.void_lookup_count,
    })
}

/// The name that `%{p}` stands for in a record of `domain` (section 7.3): a validated name of the address, `domain`
/// itself if it is one, else one below it, else any. The outer `None` while answers are missing.
pub fn validated_name(ip: IpAddr, domain: &Name, answers: &mut Answers<'_>) -> Option<Option<Name>> {
    let check = Check { ip, helo: "", mail_from: "", receiver: "", now_seconds: 0 };
    let options = SpfOptions { count_nested_voids: false, ..SpfOptions::default() };
    let sender = Sender { local_part: "", domain: Cow::Borrowed(""), helo: Cow::Borrowed(""), name: *domain };
    Evaluation::new(&sender, &check, &options, answers).validated_name(domain).ok()
}

struct Evaluation<'e, 'a> {
    /// IPv4-mapped addresses unwrapped (section 5).
    ip: IpAddr,
    sender: &'e Sender<'e>,
    check: &'e Check<'e>,
    options: &'e SpfOptions,
    answers: &'e mut Answers<'a>,
    lookup_count: u8,
    void_lookup_count: u8,
}

/// Why an evaluation stops where it is.
enum Halt {
    Waiting,
    Ended(SpfResult, SpfProblem),
}

struct Conclusion {
    result: SpfResult,
    problem: Option<SpfProblem>,
    mechanism: Option<MatchedTerm>,
    explanation: Option<String>,
}

/// A record under evaluation.
struct Frame {
    answer: Answer,
    domain: Name,
    /// The term that is next.
    next: usize,
}

impl Frame {
    fn record(&self) -> Option<&Record> {
        self.answer.spf().record()
    }

    /// The term before `next`.
    fn term(&self) -> Option<&Term> {
        self.record()?.terms.get(self.next.checked_sub(1)?)
    }
}

#[expect(clippy::large_enum_variant, reason = "looked at once where it is made; a box would cost a heap allocation")]
/// Where walking through a record's terms led.
enum Step {
    /// The term before `next` matched.
    Matched,
    /// The term before `next` includes this domain.
    Include(Name),
    /// No term is left.
    End,
}

#[expect(clippy::large_enum_variant, reason = "looked at once where it is made; a box would cost a heap allocation")]
/// What a target turned out to be.
enum Resolved {
    Name(Name),
    /// No name that DNS can hold (section 4.8).
    Unusable,
    /// A term that can not match (RFC 8616 section 4).
    Unmatchable,
}

impl<'e, 'a> Evaluation<'e, 'a> {
    fn new(
        sender: &'e Sender<'e>,
        check: &'e Check<'e>,
        options: &'e SpfOptions,
        answers: &'e mut Answers<'a>,
    ) -> Self {
        let ip = check.ip.to_canonical();
        Self { ip, sender, check, options, answers, lookup_count: 0, void_lookup_count: 0 }
    }

    fn run(&mut self) -> Result<Conclusion, Halt> {
        let mut frame = match self.load(self.sender.name)? {
            Ok(frame) => frame,
            Err(problem) => return Err(Halt::Ended(SpfResult::None, problem)),
        };
        // Every include costs one of the ten terms, so the stack never holds more.
        let mut outer: [Option<Frame>; SPF_LOOKUP_TERMS_MAX as usize] = [const { None }; SPF_LOOKUP_TERMS_MAX as usize];
        let mut depth = 0;
        loop {
            let matched = match self.walk(&mut frame)? {
                Step::Include(domain) => {
                    let inner = self.load(domain)?.map_err(|_| include_none(Some(domain)))?;
                    let slot = outer.get_mut(depth).ok_or_else(too_many_lookups)?;
                    *slot = Some(std::mem::replace(&mut frame, inner));
                    depth += 1;
                    continue;
                }
                Step::Matched => true,
                Step::End => match self.redirect(&frame)? {
                    Some(target) => {
                        frame = target;
                        continue;
                    }
                    None => false,
                },
            };
            let result = frame.term().filter(|_| matched).map_or(SpfResult::Neutral, |term| term.qualifier);
            if depth == 0 {
                return self.conclude(result, matched, &frame);
            }
            // Section 5.2: back in the record that included this one, whose term matches after a pass only.
            let mut passed = result == SpfResult::Pass;
            while let Some(outer) = depth.checked_sub(1).and_then(|above| outer.get_mut(above)).and_then(Option::take) {
                depth -= 1;
                frame = outer;
                if !passed {
                    break;
                }
                let result = frame.term().map_or(SpfResult::Neutral, |term| term.qualifier);
                if depth == 0 {
                    return self.conclude(result, true, &frame);
                }
                passed = result == SpfResult::Pass;
            }
        }
    }

    /// Looks the record of a domain up (sections 4.3 to 4.5); the inner error is a result of none.
    fn load(&mut self, domain: Name) -> Result<Result<Frame, SpfProblem>, Halt> {
        if domain.label_count() < 2 {
            return Ok(Err(SpfProblem::NotADomain));
        }
        let answer = self.ask(domain, RecordType::Txt)?;
        if self.lookup_count > 0 && is_void(&answer) {
            // The look-up of an include or redirect; no limit is needed where the evaluation ends.
            self.void_lookup_count = self.void_lookup_count.saturating_add(1);
        }
        let problem = match answer.outcome() {
            Outcome::NxDomain => SpfProblem::NoSuchDomain,
            Outcome::NoData => SpfProblem::NoRecord,
            Outcome::Records(_) | Outcome::Failed(_) => match answer.spf() {
                Published::Record(_) => return Ok(Ok(Frame { answer, domain, next: 0 })),
                Published::Absent => SpfProblem::NoRecord,
                Published::Several => return Err(permerror(SpfProblem::MultipleRecords(Box::new(domain)))),
                Published::Invalid(error) => {
                    return Err(permerror(SpfProblem::SyntaxError { name: Box::new(domain), error: error.clone() }));
                }
            },
        };
        Ok(Err(problem))
    }

    fn walk(&mut self, frame: &mut Frame) -> Result<Step, Halt> {
        let Frame { answer, domain, next } = frame;
        let Some(record) = answer.spf().record() else { return Ok(Step::End) };
        for term in record.terms.get(*next..).unwrap_or_default() {
            *next += 1;
            let matched = match &term.mechanism {
                Mechanism::All => true,
                Mechanism::Ip4 { network, mask } => {
                    matches!(self.ip, IpAddr::V4(ip) if ip.to_bits() & mask == *network)
                }
                Mechanism::Ip6 { network, prefix } => {
                    matches!(self.ip, IpAddr::V6(ip) if equal6(ip.to_bits(), u128::from_be_bytes(*network), *prefix))
                }
                Mechanism::Include(target) => {
                    self.charge_lookup()?;
                    match self.resolve(record, *target, domain)? {
                        Resolved::Name(name) => return Ok(Step::Include(name)),
                        Resolved::Unusable => return Err(include_none(None)),
                        Resolved::Unmatchable => false,
                    }
                }
                Mechanism::A(target, prefixes) => match self.charged_target(record, *target, domain)? {
                    Some(name) => self.matches_address_of(name, *prefixes, true)?,
                    None => false,
                },
                Mechanism::Mx(target, prefixes) => match self.charged_target(record, *target, domain)? {
                    Some(name) => self.matches_exchange_of(name, *prefixes)?,
                    None => false,
                },
                Mechanism::Ptr(target) => match self.charged_target(record, *target, domain)? {
                    Some(name) => self.has_validated_name_below(&name)?,
                    None => false,
                },
                Mechanism::Exists(target) => match self.charged_target(record, *target, domain)? {
                    Some(name) => self.exists(name)?,
                    None => false,
                },
            };
            if matched {
                return Ok(Step::Matched);
            }
        }
        Ok(Step::End)
    }

    /// Section 6.1: the record evaluated in place of one in which nothing matched.
    fn redirect(&mut self, frame: &Frame) -> Result<Option<Frame>, Halt> {
        let Some((record, target)) = frame.record().and_then(|record| Some((record, record.redirect?))) else {
            return Ok(None);
        };
        self.charge_lookup()?;
        match self.resolve(record, target, &frame.domain)? {
            Resolved::Name(name) => match self.load(name)? {
                Ok(frame) => Ok(Some(frame)),
                Err(_) => Err(permerror(SpfProblem::RedirectNone(Some(Box::new(name))))),
            },
            Resolved::Unusable | Resolved::Unmatchable => Err(permerror(SpfProblem::RedirectNone(None))),
        }
    }

    fn conclude(&mut self, result: SpfResult, matched: bool, frame: &Frame) -> Result<Conclusion, Halt> {
        let term = frame.term().filter(|_| matched);
        let mechanism = term.map(|term| MatchedTerm { answer: frame.answer.clone(), span: term.span });
        let explanation =
            if result == SpfResult::Fail && self.options.fetch_explanation { self.explanation(frame)? } else { None };
        Ok(Conclusion { result, problem: None, mechanism, explanation })
    }

    /// Section 6.2: whatever goes wrong here, there is just no explanation.
    fn explanation(&mut self, frame: &Frame) -> Result<Option<String>, Halt> {
        let Some((record, target)) = frame.record().and_then(|record| Some((record, record.exp?))) else {
            return Ok(None);
        };
        let Resolved::Name(name) = self.resolve(record, target, &frame.domain)? else { return Ok(None) };
        let answer = match self.ask(name, RecordType::Txt) {
            Ok(answer) => answer,
            Err(Halt::Waiting) => return Err(Halt::Waiting),
            Err(Halt::Ended(..)) => return Ok(None),
        };
        let [text] = answer.texts() else { return Ok(None) };
        let Ok(text) = MacroString::parse(&text.0, Usage::Explanation) else { return Ok(None) };
        let validated = if text.uses_validated_name() { self.validated_name(&frame.domain)? } else { None };
        Ok(text.expand_explanation(&self.variables(&frame.domain, validated.as_ref())))
    }

    /// The target of a mechanism that costs a lookup; `None` when it can not match.
    fn charged_target(&mut self, record: &Record, target: Target, domain: &Name) -> Result<Option<Name>, Halt> {
        self.charge_lookup()?;
        match self.resolve(record, target, domain)? {
            Resolved::Name(name) => Ok(Some(name)),
            Resolved::Unusable if self.options.unusable_target_is_permerror => {
                Err(permerror(SpfProblem::UnusableTarget))
            }
            Resolved::Unusable | Resolved::Unmatchable => Ok(None),
        }
    }

    fn resolve(&mut self, record: &Record, target: Target, domain: &Name) -> Result<Resolved, Halt> {
        let span = match target {
            Target::Own => return Ok(Resolved::Name(*domain)),
            Target::Name(index) => return Ok(record.name_of(index).map_or(Resolved::Unusable, Resolved::Name)),
            Target::Unusable => return Ok(Resolved::Unusable),
            Target::Macro(span) => span,
        };
        let text = MacroString::parsed_before(record.text_of(span));
        if !self.options.utf8_local_part && !self.sender.local_part.is_ascii() && text.uses_local_part() {
            return Ok(Resolved::Unmatchable);
        }
        let validated = if text.uses_validated_name() { self.validated_name(domain)? } else { None };
        let expanded = text.expand_domain(&self.variables(domain, validated.as_ref()));
        Ok(expanded.to_name().map_or(Resolved::Unusable, Resolved::Name))
    }

    fn variables<'v>(&'v self, domain: &'v Name, validated_name: Option<&'v Name>) -> Variables<'v> {
        Variables {
            ip: self.ip,
            local_part: self.sender.local_part,
            sender_domain: &self.sender.domain,
            domain,
            validated_name,
            helo: &self.sender.helo,
            receiver: if self.check.receiver.is_empty() { "unknown" } else { self.check.receiver },
            now_seconds: self.check.now_seconds,
        }
    }

    /// Section 5.3: some address of the name lies in the client's network.
    fn matches_address_of(&mut self, name: Name, prefixes: Prefixes, counts: bool) -> Result<bool, Halt> {
        let answer = self.ask(name, self.address_type())?;
        if counts {
            self.charge_void(&answer)?;
        }
        Ok(has_address(&answer, self.ip, prefixes))
    }

    /// Section 5.4.
    fn matches_exchange_of(&mut self, name: Name, prefixes: Prefixes) -> Result<bool, Halt> {
        let answer = self.ask(name, RecordType::Mx)?;
        self.charge_void(&answer)?;
        let Outcome::Records(RecordSet::Mx(exchanges)) = answer.outcome() else { return Ok(false) };
        // The null MX of RFC 7505 names no host.
        let hosts = || exchanges.iter().filter_map(|mx| mx.exchange).take(SPF_MX_NAMES_MAX);
        for (index, host) in hosts().enumerate() {
            match self.matches_address_of(host, prefixes, self.options.count_nested_voids) {
                Ok(false) => {}
                Err(Halt::Waiting) => return self.ask_ahead(hosts().skip(index + 1)),
                other => return other,
            }
        }
        if exchanges.len() > SPF_MX_NAMES_MAX {
            return Err(permerror(SpfProblem::TooManyExchanges(Box::new(name))));
        }
        Ok(false)
    }

    /// Section 5.7: an A query, whatever the client's address.
    fn exists(&mut self, name: Name) -> Result<bool, Halt> {
        let answer = self.ask(name, RecordType::A)?;
        self.charge_void(&answer)?;
        Ok(matches!(answer.outcome(), Outcome::Records(_)))
    }

    /// Section 5.5: a validated name equals the target or stands below it. Only such names are looked up.
    fn has_validated_name_below(&mut self, target: &Name) -> Result<bool, Halt> {
        let answer = self.names_of_client()?;
        let names = || client_names(answer.as_ref()).filter(|name| name.is_at_or_below(target));
        for (index, name) in names().enumerate() {
            match self.is_validated(name) {
                Ok(false) => {}
                Err(Halt::Waiting) => return self.ask_ahead(names().skip(index + 1).copied()),
                other => return other,
            }
        }
        Ok(false)
    }

    /// Section 7.3, `%{p}`.
    fn validated_name(&mut self, domain: &Name) -> Result<Option<Name>, Halt> {
        let answer = self.names_of_client()?;
        let rank = |name: &Name| {
            if name == domain {
                0
            } else if name.is_at_or_below(domain) {
                1
            } else {
                2
            }
        };
        let names = || (0..3).flat_map(|wanted| client_names(answer.as_ref()).filter(move |name| rank(name) == wanted));
        for (index, name) in names().enumerate() {
            match self.is_validated(name) {
                Ok(true) => return Ok(Some(*name)),
                Ok(false) => {}
                Err(Halt::Waiting) => {
                    self.ask_ahead(names().skip(index + 1).copied())?;
                }
                Err(halt) => return Err(halt),
            }
        }
        Ok(None)
    }

    /// The PTR answer for the client; `None` after a DNS error, which means no names (section 5.5).
    fn names_of_client(&mut self) -> Result<Option<Answer>, Halt> {
        let Some(reverse) = reverse_name(self.ip) else { return Ok(None) };
        match self.ask(reverse, RecordType::Ptr) {
            Ok(answer) => {
                if self.options.count_nested_voids {
                    self.charge_void(&answer)?;
                }
                Ok(Some(answer))
            }
            Err(Halt::Ended(..)) => Ok(None),
            Err(Halt::Waiting) => Err(Halt::Waiting),
        }
    }

    /// True when the name leads back to the client; a DNS error only skips the name (section 5.5).
    fn is_validated(&mut self, name: &Name) -> Result<bool, Halt> {
        let answer = match self.ask(*name, self.address_type()) {
            Ok(answer) => answer,
            Err(Halt::Ended(..)) => return Ok(false),
            Err(Halt::Waiting) => return Err(Halt::Waiting),
        };
        if self.options.count_nested_voids {
            self.charge_void(&answer)?;
        }
        Ok(has_address(&answer, self.ip, Prefixes::WHOLE))
    }

    fn address_type(&self) -> RecordType {
        if self.ip.is_ipv4() { RecordType::A } else { RecordType::Aaaa }
    }

    fn ask(&mut self, name: Name, kind: RecordType) -> Result<Answer, Halt> {
        let question = Question::new(name, kind);
        let answer = self.answers.ask(&question).ok_or(Halt::Waiting)?;
        match answer.outcome() {
            Outcome::Failed(failure) => {
                let problem = SpfProblem::Dns { question: Box::new(question), failure: *failure };
                Err(Halt::Ended(SpfResult::TempError, problem))
            }
            _ => Ok(answer),
        }
    }

    /// Sends the address questions of the hosts that follow, before waiting for an earlier one.
    fn ask_ahead(&mut self, hosts: impl Iterator<Item = Name>) -> Result<bool, Halt> {
        let kind = self.address_type();
        for host in hosts {
            let _ = self.answers.ask(&Question::new(host, kind));
        }
        Err(Halt::Waiting)
    }

    fn charge_lookup(&mut self) -> Result<(), Halt> {
        if self.lookup_count >= SPF_LOOKUP_TERMS_MAX {
            return Err(too_many_lookups());
        }
        self.lookup_count += 1;
        Ok(())
    }

    fn charge_void(&mut self, answer: &Answer) -> Result<(), Halt> {
        if is_void(answer) {
            let limit = self.options.void_lookups_max;
            if self.void_lookup_count >= limit {
                return Err(permerror(SpfProblem::TooManyVoidLookups { limit }));
            }
            self.void_lookup_count += 1;
        }
        Ok(())
    }
}

/// Section 4.6.4: an answer without records, or no such name.
fn is_void(answer: &Answer) -> bool {
    matches!(answer.outcome(), Outcome::NoData | Outcome::NxDomain)
}

fn permerror(problem: SpfProblem) -> Halt {
    Halt::Ended(SpfResult::PermError, problem)
}

fn too_many_lookups() -> Halt {
    permerror(SpfProblem::TooManyLookups)
}

fn include_none(name: Option<Name>) -> Halt {
    permerror(SpfProblem::IncludeNone(name.map(Box::new)))
}

fn has_address(answer: &Answer, ip: IpAddr, prefixes: Prefixes) -> bool {
    match (answer.outcome(), ip) {
        (Outcome::Records(RecordSet::A(list)), IpAddr::V4(ip)) => list.iter().any(|&it| prefixes.match4(it, ip)),
        (Outcome::Records(RecordSet::Aaaa(list)), IpAddr::V6(ip)) => list.iter().any(|&it| prefixes.match6(it, ip)),
        _ => false,
    }
}

/// The first names of the client; the rest is ignored (section 4.6.4). A label that holds a dot or an octet that is
/// not visible could pass for other labels once expanded, so such names are left out.
fn client_names(answer: Option<&Answer>) -> impl Iterator<Item = &Name> {
    let names = match answer.map(Answer::outcome) {
        Some(Outcome::Records(RecordSet::Ptr(names))) => names.as_ref(),
        _ => &[],
    };
    let plain = |label: &[u8]| label.iter().all(|&octet| octet.is_ascii_graphic() && octet != b'.');
    names.iter().take(SPF_PTR_NAMES_MAX).filter(move |name| name.labels().all(plain))
}

/// The name under which the PTR records of an address stand (RFC 1035 section 3.5, RFC 3596 section 2.5).
fn reverse_name(ip: IpAddr) -> Option<Name> {
    let mut scratch = Scratch::new();
    let text = match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            scratch.show(format_args!("{d}.{c}.{b}.{a}.in-addr.arpa"))
        }
        IpAddr::V6(ip) => scratch.reverse_nibbles(ip),
    };
    Name::parse(text).ok()
}
