//! Which faults a query meets: rules matched, and drawn from the seed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mailproof_proto::dns::{Name, Question};
use mailproof_testkit::random::Random;

use crate::plan::{Counts, Fault, Names, Plan, Rule, Stage, Transport};

/// A plan at work: it remembers how often each rule matched.
#[derive(Debug)]
pub(crate) struct Draw {
    plan: Plan,
    matches: Box<[AtomicU64]>,
}

/// What is known of a query when faults are drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drawn<'a> {
    /// `None` for types that mail authentication never asks for.
    pub(crate) question: Option<&'a Question>,
    pub(crate) transport: Transport,
    pub(crate) has_edns: bool,
    /// How often the question came, this time included.
    pub(crate) nth: u64,
}

/// The faults of one reply, at most one of each stage.
#[derive(Clone, Debug)]
pub(crate) struct Decision {
    pub(crate) delay: Option<Duration>,
    pub(crate) answer: Option<Fault>,
    pub(crate) octets: Option<Fault>,
    pub(crate) delivery: Option<Fault>,
    pub(crate) then_right: bool,
    /// For what the faults themselves draw.
    pub(crate) random: Random,
}

impl Draw {
    pub(crate) fn new(plan: Plan) -> Self {
        let matches = plan.rules.iter().map(|_| AtomicU64::new(0)).collect();
        Self { plan, matches }
    }

    /// The same plan, from the start.
    pub(crate) fn anew(&self) -> Self {
        Self::new(self.plan.clone())
    }

    pub(crate) fn is_plain(&self) -> bool {
        self.plan.rules.is_empty()
    }

    /// The faults of a reply; `None` when there are none.
    pub(crate) fn decide(&self, query: &Drawn<'_>) -> Option<Decision> {
        let mut decision: Option<Decision> = None;
        let key = key(query);
        for (index, rule) in self.plan.rules.iter().enumerate() {
            let suits = |fault: &Fault| {
                fault.suits(query.transport, rule.transport)
                    && *fault != Fault::TcpRefuse
                    && (query.has_edns || !matches!(fault, Fault::FormErrEdns | Fault::BadVers | Fault::EdnsIgnored))
            };
            let suitable = || rule.faults.iter().copied().filter(suits);
            let count = suitable().count();
            if count == 0 || !rule.matches(query) || !self.is_turn(index, rule, query.nth) {
                continue;
            }
            let mut random = self.random(index, key, query.nth);
            if !is_drawn(&mut random, rule.probability.unwrap_or(self.plan.probability)) {
                continue;
            }
            let Some(fault) = suitable().nth(random.below(count)) else { continue };
            let decision = decision.get_or_insert_with(|| Decision::none(self.random(usize::MAX, key, query.nth)));
            decision.take(fault, rule.then_right, &mut random);
        }
        decision
    }

    /// Whether connection number `nth` is closed as soon as it is there.
    pub(crate) fn refuses(&self, nth: u64) -> bool {
        self.plan.rules.iter().enumerate().any(|(index, rule)| {
            let suitable = || rule.faults.iter().filter(|fault| fault.suits(Transport::Tcp, rule.transport));
            if !suitable().any(|fault| *fault == Fault::TcpRefuse) || !rule.nth.contains(&nth) {
                return false;
            }
            let mut random = self.random(index, 0, nth);
            is_drawn(&mut random, rule.probability.unwrap_or(self.plan.probability))
                && suitable().nth(random.below(suitable().count())) == Some(&Fault::TcpRefuse)
        })
    }

    fn is_turn(&self, index: usize, rule: &Rule, nth: u64) -> bool {
        match rule.counts {
            Counts::Question => rule.nth.contains(&nth),
            Counts::Rule => {
                let counter = self.matches.get(index);
                counter.is_some_and(|it| rule.nth.contains(&(it.fetch_add(1, Ordering::Relaxed) + 1)))
            }
        }
    }

    fn random(&self, index: usize, key: u64, nth: u64) -> Random {
        let of_rule = Random::of_case(self.plan.seed, index as u64).number();
        Random::of_case(of_rule ^ key, nth)
    }
}

impl Rule {
    fn matches(&self, query: &Drawn<'_>) -> bool {
        let name_fits = |name: &Name| match &self.names {
            Names::All => true,
            Names::Exactly(own) => name == own,
            Names::AtOrBelow(own) => name.is_at_or_below(own),
        };
        let question_fits = match query.question {
            Some(question) => self.kind.is_none_or(|kind| kind == question.kind) && name_fits(&question.name),
            None => self.kind.is_none() && self.names == Names::All,
        };
        question_fits && self.transport.is_none_or(|transport| transport == query.transport)
    }
}

impl Decision {
    fn none(random: Random) -> Self {
        Self { delay: None, answer: None, octets: None, delivery: None, then_right: false, random }
    }

    /// Adds a fault, unless there is one of its stage.
    fn take(&mut self, fault: Fault, then_right: bool, random: &mut Random) {
        let slot = match fault.stage() {
            Stage::Time => {
                if let Fault::Delay { milliseconds } = fault {
                    self.delay.get_or_insert_with(|| milliseconds.draw(random));
                }
                return;
            }
            Stage::Answer => &mut self.answer,
            Stage::Octets => &mut self.octets,
            Stage::Delivery => &mut self.delivery,
        };
        if slot.is_none() {
            *slot = Some(fault);
            self.then_right |= then_right;
        }
    }
}

/// The same for the same question and transport, whatever the machine (FNV-1a, 64 bits).
fn key(query: &Drawn<'_>) -> u64 {
    let wire = query.question.map_or(&[][..], |question| question.name.wire());
    let kind = query.question.map_or(0, |question| question.kind.code());
    let rest = [kind as u8, u8::from(query.transport == Transport::Tcp)];
    wire.iter()
        .chain(&rest)
        .fold(0xcbf2_9ce4_8422_2325, |hash, &octet| (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3))
}

/// True with this probability: certain at 1, impossible at 0.
fn is_drawn(random: &mut Random, probability: f64) -> bool {
    // The 53 bits that a float of this size holds exactly.
    let draw = (random.number() >> 11) as f64 / (1_u64 << 53) as f64;
    draw < probability
}
