//! Policy discovery, alignment and the result (RFC 9989 sections 4.4, 4.10.1 and 5.3).
//!
//! On the ordinary path (a record at the Author Domain, identifiers that are identical to it or share its Organizational
//! Domain) this costs a few look-ups in the transcript and no heap.

use super::record::{AlignmentMode, Psd, Record};
use super::walk::{self, Found, Level, Walk};
use super::{
    Alignment, Discovery, Disposition, DmarcOptions, DmarcOutcome, DmarcProblem, DmarcResult, Identifiers, PolicyTag,
    suffix,
};
use crate::dkim::DkimResult;
use crate::dns::{Answers, Failure, Name, Outcome, Question, RecordType};
use crate::limits::DMARC_AUTHOR_DOMAINS_MAX;
use crate::message::address::Author;
use crate::spf::SpfResult;

/// Asks the questions of the walk early, while the body is still arriving.
///
/// Without [`DmarcOptions::ask_ahead`] only the next question of the walk is asked, so that the questions of the whole
/// evaluation are those of RFC 9989 section 4.10 and no others; call again when its answer is there, or leave the rest
/// to [`evaluate`].
pub fn ask_walk(author: &Author, options: &DmarcOptions, answers: &mut Answers<'_>) {
    let domains = match author {
        Author::One(domain) => std::slice::from_ref(domain),
        Author::Several(domains) if options.strictest_of_several && domains.len() <= DMARC_AUTHOR_DOMAINS_MAX => {
            domains
        }
        Author::Several(_) | Author::Unusable(_) => &[],
    };
    for domain in domains {
        if options.ask_ahead {
            ask_ahead(domain, options, answers);
        }
        let _ = discover(domain, options, answers);
    }
}

/// Judges one message; `None` while answers are missing.
pub fn evaluate(
    identifiers: &Identifiers<'_>,
    options: &DmarcOptions,
    answers: &mut Answers<'_>,
) -> Option<DmarcOutcome> {
    let undecided = |problem| Some(DmarcOutcome::undecided(None, options, DmarcResult::PermError, problem));
    match identifiers.author {
        Author::One(domain) => Judge::new(domain, identifiers, options).run(answers),
        Author::Several(_) if !options.strictest_of_several => undecided(DmarcProblem::SeveralAuthors),
        Author::Several(domains) if domains.len() > DMARC_AUTHOR_DOMAINS_MAX => undecided(DmarcProblem::TooManyAuthors),
        Author::Several(domains) => strictest(domains, identifiers, options, answers),
        Author::Unusable(problem) => undecided(DmarcProblem::Author(*problem)),
    }
}

/// The Organizational Domain (RFC 9989 section 4.10.2, or RFC 7489 section 3.2); `None` while answers are missing.
///
/// In the inner result, a [`Failure`] is that of the question that could not be answered.
pub fn organizational_domain(
    domain: &Name,
    options: &DmarcOptions,
    answers: &mut Answers<'_>,
) -> Option<Result<Name, Failure>> {
    match options.discovery {
        Discovery::PublicSuffixList => Some(Ok(suffix::organizational_domain(domain))),
        Discovery::TreeWalk => Some(Walk::run(domain, answers)?.map(|walk| walk.organizational_domain())),
    }
}

/// RFC 9989 section 11.5: every domain is judged; the strictest failing one counts, and a pass needs all to pass.
fn strictest(
    domains: &[Name],
    identifiers: &Identifiers<'_>,
    options: &DmarcOptions,
    answers: &mut Answers<'_>,
) -> Option<DmarcOutcome> {
    let mut worst: Option<DmarcOutcome> = None;
    let mut is_complete = true;
    for domain in domains {
        let Some(outcome) = Judge::new(domain, identifiers, options).run(answers) else {
            is_complete = false;
            continue;
        };
        if worst.as_ref().is_none_or(|worst| severity(&outcome) > severity(worst)) {
            worst = Some(outcome);
        }
    }
    worst.filter(|_| is_complete)
}

fn severity(outcome: &DmarcOutcome) -> (u8, Disposition) {
    let rank = match outcome.result {
        DmarcResult::Pass => 0,
        DmarcResult::None => 1,
        DmarcResult::PermError => 2,
        DmarcResult::TempError => 3,
        DmarcResult::Fail => 4,
    };
    (rank, outcome.disposition)
}

fn ask_ahead(domain: &Name, options: &DmarcOptions, answers: &mut Answers<'_>) {
    match options.discovery {
        Discovery::TreeWalk => walk::ask_ahead(domain, answers),
        Discovery::PublicSuffixList => {
            for name in [*domain, suffix::organizational_domain(domain)] {
                if let Some(question) = walk::question(&name) {
                    let _ = answers.ask(&question);
                }
            }
        }
    }
}

/// The record to apply with the Organizational Domain if that became known on the way, or why there is none.
type Discovered = Result<(Found, Option<Name>), (DmarcResult, DmarcProblem)>;

/// RFC 9989 section 4.10.1, or RFC 7489 section 6.6.3.
fn discover(domain: &Name, options: &DmarcOptions, answers: &mut Answers<'_>) -> Option<Discovered> {
    const FAILED: (DmarcResult, DmarcProblem) = (DmarcResult::TempError, DmarcProblem::RecordLookupFailed);
    const SEVERAL: (DmarcResult, DmarcProblem) = (DmarcResult::None, DmarcProblem::SeveralRecords);
    const NOTHING: (DmarcResult, DmarcProblem) = (DmarcResult::None, DmarcProblem::NoRecord);
    let met_several = match walk::look(domain, answers)? {
        Err(_) => return Some(Err(FAILED)),
        Ok(Level::One(answer)) => return Some(Ok((Found { name: *domain, answer }, None))),
        Ok(Level::Several) => true,
        Ok(Level::None) => false,
    };
    if options.discovery == Discovery::TreeWalk {
        let Ok(walk) = Walk::run(domain, answers)? else { return Some(Err(FAILED)) };
        let nothing = if walk.met_several { SEVERAL } else { NOTHING };
        let found = walk.policy_record().cloned().ok_or(nothing);
        return Some(found.map(|found| (found, Some(walk.organizational_domain()))));
    }
    let organizational = suffix::organizational_domain(domain);
    if met_several || organizational == *domain {
        return Some(Err(if met_several { SEVERAL } else { NOTHING }));
    }
    Some(match walk::look(&organizational, answers)? {
        Err(_) => Err(FAILED),
        Ok(Level::One(answer)) => Ok((Found { name: organizational, answer }, None)),
        Ok(Level::Several) => Err(SEVERAL),
        Ok(Level::None) => Err(NOTHING),
    })
}

/// The judgement of one Author Domain.
struct Judge<'a> {
    author: &'a Name,
    identifiers: &'a Identifiers<'a>,
    options: &'a DmarcOptions,
    /// The Organizational Domain of the author, once it was needed.
    organizational: Option<Result<Name, Failure>>,
}

/// How one identifier stands to the author.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Relation {
    Apart,
    Aligned(Alignment),
    /// A question of a walk failed, so it may be either.
    Unknown,
}

impl<'a> Judge<'a> {
    fn new(author: &'a Name, identifiers: &'a Identifiers<'a>, options: &'a DmarcOptions) -> Self {
        Self { author, identifiers, options, organizational: None }
    }

    fn run(mut self, answers: &mut Answers<'_>) -> Option<DmarcOutcome> {
        self.ask_ahead(answers);
        let undecided =
            |result, problem| Some(DmarcOutcome::undecided(Some(*self.author), self.options, result, problem));
        let (found, organizational) = match discover(self.author, self.options, answers)? {
            Ok(found) => found,
            Err((result, problem)) => return undecided(result, problem),
        };
        self.organizational = organizational.map(Ok);
        let Some(record) = found.record().filter(|record| record.policy().is_some()) else {
            return undecided(DmarcResult::None, DmarcProblem::UnusableRecord);
        };
        if self.options.discovery == Discovery::PublicSuffixList {
            self.organizational = Some(Ok(suffix::organizational_domain(self.author)));
        } else if found.name == *self.author && record.psd == Psd::No {
            self.organizational = Some(Ok(*self.author));
        }
        let policy = self.policy(&found, record, answers);
        let aligned = self.align(record, answers);
        let (policy, aligned) = (policy?, aligned?);
        let result = match &aligned {
            Aligned { spf: Some(_), .. } | Aligned { dkim: Some(_), .. } => DmarcResult::Pass,
            Aligned { is_unsure: true, .. } => DmarcResult::TempError,
            _ if policy.is_err() => DmarcResult::TempError,
            _ => DmarcResult::Fail,
        };
        let problem = match result {
            DmarcResult::TempError if aligned.is_unsure => Some(DmarcProblem::AlignmentLookupFailed),
            DmarcResult::TempError => Some(DmarcProblem::ExistenceLookupFailed),
            _ => None,
        };
        if aligned.is_identical() && found.name == *self.author && self.organizational.is_none() {
            self.organizational = Some(Ok(*self.author));
        }
        let policy = policy.ok();
        Some(DmarcOutcome {
            result,
            from_domain: Some(*self.author),
            organizational_domain: self.organizational.and_then(Result::ok),
            policy_domain: Some(found.name),
            policy: policy.map(|(policy, _)| policy),
            applies: policy.map(|(_, tag)| tag),
            discovery: self.options.discovery,
            testing: self.honours_testing(record),
            spf_aligned: aligned.spf,
            dkim_aligned: aligned.dkim,
            disposition: match (result, policy) {
                (DmarcResult::Fail, Some((policy, _))) => policy,
                _ => Disposition::None,
            },
            problem,
        })
    }

    /// The walks that may be needed, all at once.
    fn ask_ahead(&self, answers: &mut Answers<'_>) {
        if !self.options.ask_ahead {
            return;
        }
        ask_ahead(self.author, self.options, answers);
        if self.options.discovery == Discovery::PublicSuffixList {
            return;
        }
        let spf = self.identifiers.spf.filter(|(_, result)| matters_spf(*result)).map(|(domain, _)| domain);
        let dkim = self.identifiers.dkim.iter().filter(|(_, result)| matters_dkim(*result)).map(|(domain, _)| domain);
        for domain in spf.into_iter().chain(dkim) {
            if domain != self.author && may_share_organization(domain, self.author) {
                walk::ask_ahead(domain, answers);
            }
        }
    }

    /// The policy for a failing message after sp, np and t, with the tag it comes from. An error when it depends on a
    /// question that failed.
    fn policy(
        &self,
        found: &Found,
        record: &Record,
        answers: &mut Answers<'_>,
    ) -> Option<Result<(Disposition, PolicyTag), Failure>> {
        let policy = if found.name == *self.author {
            record.policy()
        } else if self.options.discovery == Discovery::PublicSuffixList || !record.asks_for_existence() {
            record.policy_below(true)
        } else {
            match self.author_exists(answers)? {
                Ok(exists) => record.policy_below(exists),
                Err(failure) => return Some(Err(failure)),
            }
        };
        let (policy, tag) = policy.unwrap_or((Disposition::None, PolicyTag::P));
        let lowered = match policy {
            Disposition::Reject => Disposition::Quarantine,
            Disposition::Quarantine | Disposition::None => Disposition::None,
        };
        Some(Ok((if self.honours_testing(record) { lowered } else { policy }, tag)))
    }

    /// RFC 9989 section 3.2.13: only NXDOMAIN is absence. Anything at or below `_dmarc` of a name proves that it exists
    /// (RFC 8020), and that answer is at hand already.
    fn author_exists(&self, answers: &mut Answers<'_>) -> Option<Result<bool, Failure>> {
        if let Some(question) = walk::question(self.author)
            && matches!(answers.ask(&question)?.outcome(), Outcome::Records(_) | Outcome::NoData)
        {
            return Some(Ok(true));
        }
        let answer = answers.ask(&Question::new(*self.author, RecordType::A))?;
        Some(match answer.outcome() {
            // An alias exists, wherever it points; what then does not exist is its target (RFC 2308 section 2.1).
            Outcome::NxDomain => Ok(answer.denied_name().is_some()),
            Outcome::Records(_) | Outcome::NoData => Ok(true),
            Outcome::Failed(failure) => Err(*failure),
        })
    }

    /// RFC 7489 does not know `t`.
    fn honours_testing(&self, record: &Record) -> bool {
        record.testing && self.options.discovery == Discovery::TreeWalk
    }

    /// RFC 9989 section 5.3.4: what passed and aligns. A signature or SPF check that ended in a temporary error leaves
    /// the message undecided if it could have aligned.
    fn align(&mut self, record: &Record, answers: &mut Answers<'_>) -> Option<Aligned> {
        let mut aligned = Aligned::default();
        if let Some((domain, result)) = self.identifiers.spf
            && matters_spf(result)
        {
            let relation = self.relation(domain, record.spf_mode, answers)?;
            aligned.note(relation, result == SpfResult::Pass, self.options, |it| &mut it.spf);
        }
        for (domain, result) in self.identifiers.dkim.iter().filter(|(_, result)| matters_dkim(*result)) {
            let relation = self.relation(domain, record.dkim_mode, answers)?;
            aligned.note(relation, *result == DkimResult::Pass, self.options, |it| &mut it.dkim);
        }
        Some(aligned)
    }

    /// Walks only as far as the answer depends on it: an Organizational Domain stands at or above each domain it is the
    /// one of.
    fn relation(&mut self, domain: &Name, mode: AlignmentMode, answers: &mut Answers<'_>) -> Option<Relation> {
        if domain == self.author {
            return Some(Relation::Aligned(Alignment::Strict));
        }
        if mode == AlignmentMode::Strict || !may_share_organization(domain, self.author) {
            return Some(Relation::Apart);
        }
        let own = match self.organizational {
            Some(known) => known,
            None => organizational_domain(self.author, self.options, answers)?,
        };
        self.organizational = Some(own);
        let Ok(own) = own else { return Some(Relation::Unknown) };
        if !domain.is_at_or_below(&own) {
            return Some(Relation::Apart);
        }
        Some(match organizational_domain(domain, self.options, answers)? {
            Err(_) => Relation::Unknown,
            Ok(theirs) if theirs == own => Relation::Aligned(Alignment::Relaxed),
            Ok(_) => Relation::Apart,
        })
    }
}

/// What aligns so far.
#[derive(Default)]
struct Aligned {
    spf: Option<Alignment>,
    dkim: Option<Alignment>,
    /// Something that may align could not be decided.
    is_unsure: bool,
}

impl Aligned {
    fn note(
        &mut self,
        relation: Relation,
        passed: bool,
        options: &DmarcOptions,
        of: impl Fn(&mut Self) -> &mut Option<Alignment>,
    ) {
        match relation {
            Relation::Apart => {}
            Relation::Aligned(alignment) if passed => {
                let best = of(self);
                if *best != Some(Alignment::Strict) {
                    *best = Some(alignment);
                }
            }
            Relation::Unknown if passed => self.is_unsure = true,
            Relation::Aligned(_) | Relation::Unknown => self.is_unsure |= !options.mechanism_errors_fail,
        }
    }

    fn is_identical(&self) -> bool {
        self.spf == Some(Alignment::Strict) || self.dkim == Some(Alignment::Strict)
    }
}

const fn matters_spf(result: SpfResult) -> bool {
    matches!(result, SpfResult::Pass | SpfResult::TempError)
}

const fn matters_dkim(result: DkimResult) -> bool {
    matches!(result, DkimResult::Pass | DkimResult::TempError)
}

/// False when the names share no label at their end, and so no Organizational Domain.
fn may_share_organization(one: &Name, other: &Name) -> bool {
    one.labels().last() == other.labels().last()
}
