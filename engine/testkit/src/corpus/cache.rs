//! The set `cache-isolation`: sequences of evaluations that share one cache, none of which may change another.
//!
//! Below the cache stands what stands there in earnest: the lookup machine, asking by wire format, here of a server
//! without sockets. Every case is run in the order given; unless its order is fixed also in every other order of its
//! steps, twice in a row, and with all its steps under way at once.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Duration;

use mailproof::cache::Cache;
use mailproof::zone::Zone;
use mailproof_proto::dkim::{BodyHashes, DkimOptions, Verifier};
use mailproof_proto::dmarc::{self, DmarcOptions, Identifiers};
use mailproof_proto::dns::lookup::{Lookup, LookupOptions, ServerTraits, Step as LookupStep};
use mailproof_proto::dns::{Answer, Answers, Name, Outcome, Question, RecordSet, RecordType, Transcript};
use mailproof_proto::message::HeaderIndex;
use mailproof_proto::message::address::Author;
use mailproof_proto::spf::{self, Check, SpfOptions};
use mailproof_proto::time::Timestamp;
use serde_json::{Map, Value};

use super::dkim::Message;
use super::dmarc::{Authenticated, check_keys, domain, expect_equal};
use super::{CaseOutcome, SetRunner, read_cases, text};
use crate::responder::{Responder, Transport};

/// The runner for a set of this kind.
#[must_use]
pub fn runner(set: &str) -> Option<SetRunner> {
    (set == "cache-isolation").then_some(run as SetRunner)
}

const START: Timestamp = Timestamp::from_seconds(1_795_392_000);

/// Orders of steps that are tried; a case of six steps has as many.
const ORDERS_MAX: usize = 720;

fn run(dir: &Path) -> Result<Vec<CaseOutcome>, String> {
    let cases = read_cases(dir)?;
    Ok(cases.iter().map(|case| CaseOutcome::new(text(case, "id"), run_case(dir, case).err())).collect())
}

fn run_case(dir: &Path, case: &Value) -> Result<(), String> {
    check_keys(case, &["id", "why", "zone", "extra", "steps", "fixed_order"])?;
    let server = read_server(case)?;
    let steps: Vec<Step> = case["steps"]
        .as_array()
        .ok_or("no list of steps")?
        .iter()
        .map(|step| Step::read(dir, step))
        .collect::<Result<_, _>>()?;
    let in_order: Vec<&Step> = steps.iter().collect();
    for pick in [Pick::Oldest, Pick::Newest] {
        let mut world = World::new(&server);
        world.run_each(&in_order, pick).map_err(|failure| format!("in order, {pick:?} first: {failure}"))?;
    }
    if case["fixed_order"].as_bool() == Some(true) {
        return Ok(());
    }
    for order in orders(&steps) {
        let numbers: Vec<usize> = order.iter().map(|(number, _)| *number).collect();
        let steps: Vec<&Step> = order.iter().map(|(_, step)| *step).collect();
        let run = World::new(&server).run_each(&steps, Pick::Oldest);
        run.map_err(|failure| format!("in the order {numbers:?}: {failure}"))?;
    }
    let mut world = World::new(&server);
    for round in ["first", "second"] {
        world.run_each(&in_order, Pick::Oldest).map_err(|failure| format!("{round} time in a row: {failure}"))?;
    }
    for pick in [Pick::Oldest, Pick::Newest, Pick::Any(1), Pick::Any(2), Pick::Any(3)] {
        let run = World::new(&server).run_at_once(&in_order, pick);
        run.map_err(|failure| format!("all at once, {pick:?} first: {failure}"))?;
    }
    Ok(())
}

fn read_server(case: &Value) -> Result<Responder, String> {
    let mut server = Responder::new(Zone::from_value(&case["zone"]).map_err(|error| error.to_string())?);
    for (name, records) in case["extra"].as_object().into_iter().flatten() {
        for record in records.as_array().ok_or("extra: not a list")? {
            let added = read_extra(record)?;
            server.extra.entry(domain(name)?).or_default().extend(added);
        }
    }
    Ok(server)
}

/// `{name: N, TYPE: data}`
fn read_extra(record: &Value) -> Result<Vec<(Name, RecordSet)>, String> {
    let owner = text(record, "name");
    let mut data = record.as_object().cloned().unwrap_or_default();
    data.remove("name");
    let zone = Map::from_iter([(owner.to_owned(), Value::Object(data))]);
    let zone = Zone::from_value(&zone.into()).map_err(|error| error.to_string())?;
    let name = domain(owner)?;
    let answers = RecordType::ALL.into_iter().map(|kind| zone.lookup(&Question::new(name, kind)));
    let sets: Vec<(Name, RecordSet)> = answers
        .filter_map(|answer| match answer.outcome() {
            Outcome::Records(records) => Some((name, records.clone())),
            _ => None,
        })
        .collect();
    if sets.is_empty() { Err(format!("extra: no record at {owner}")) } else { Ok(sets) }
}

/// Every order of the steps, or as many as are tried, drawn without luck.
fn orders(steps: &[Step]) -> Vec<Vec<(usize, &Step)>> {
    let mut orders = vec![steps.iter().enumerate().collect::<Vec<_>>()];
    let count = (1..=steps.len()).try_fold(1_usize, usize::checked_mul).unwrap_or(usize::MAX);
    if count > ORDERS_MAX {
        let mut random = 1;
        while orders.len() < ORDERS_MAX {
            let mut order = orders[0].clone();
            for at in (1..order.len()).rev() {
                order.swap(at, next_random(&mut random) % (at + 1));
            }
            orders.push(order);
        }
        return orders;
    }
    // Every place for the last step in every order of the ones before it.
    for last in 1..steps.len() {
        orders = orders
            .into_iter()
            .flat_map(|order| {
                (0..=last).map(move |place| {
                    let mut order = order.clone();
                    let step = order.remove(last);
                    order.insert(place, step);
                    order
                })
            })
            .collect();
    }
    orders
}

fn next_random(state: &mut usize) -> usize {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

/// Which of the open questions is answered next.
#[derive(Clone, Copy, Debug)]
enum Pick {
    Oldest,
    Newest,
    Any(usize),
}

/// One step of a case.
enum Step {
    Evaluate { evaluation: Evaluation, expect: Value },
    Advance(Duration),
    NewRecords(Value),
}

enum Evaluation {
    Spf { ip: std::net::IpAddr, helo: String, mail_from: String },
    Dmarc { author: Box<Author>, authenticated: Box<Authenticated> },
    Dkim { message: Message },
}

/// What an evaluation found, as far as cases say something of it.
#[derive(Default)]
struct Found {
    result: &'static str,
    explanation: Option<String>,
    policy: Option<&'static str>,
    policy_domain: Option<Name>,
}

impl Step {
    fn read(dir: &Path, step: &Value) -> Result<Self, String> {
        check_keys(step, &["spf", "dmarc", "dkim", "expect", "advance_s", "zone"])?;
        if step.as_object().is_none_or(|step| step.keys().filter(|key| *key != "expect").count() != 1) {
            return Err(format!("not one step: {step}"));
        }
        if let Some(seconds) = step.get("advance_s") {
            return Ok(Self::Advance(Duration::from_secs(seconds.as_u64().ok_or("advance_s is no number")?)));
        }
        if let Some(zone) = step.get("zone") {
            return Ok(Self::NewRecords(zone.clone()));
        }
        let evaluation = if let Some(spf) = step.get("spf") {
            check_keys(spf, &["ip", "helo", "mail_from"])?;
            let ip = text(spf, "ip").parse().map_err(|error| format!("ip: {error}"))?;
            Evaluation::Spf { ip, helo: text(spf, "helo").to_owned(), mail_from: text(spf, "mail_from").to_owned() }
        } else if let Some(dmarc) = step.get("dmarc") {
            check_keys(dmarc, &["from", "spf", "dkim"])?;
            let author = Box::new(Author::One(domain(text(dmarc, "from"))?));
            Evaluation::Dmarc { author, authenticated: Box::new(Authenticated::read(dmarc)?) }
        } else {
            check_keys(&step["dkim"], &["file"])?;
            Evaluation::Dkim { message: Message::read(&dir.join(text(&step["dkim"], "file")))? }
        };
        let expect = step["expect"].clone();
        check_keys(&expect, &["result", "explanation", "policy", "policy_domain"])?;
        Ok(Self::Evaluate { evaluation, expect })
    }
}

impl Evaluation {
    /// `None` while answers are missing.
    fn evaluate(&self, now: Timestamp, answers: &mut Answers<'_>) -> Option<Found> {
        match self {
            Self::Spf { ip, helo, mail_from } => {
                let receiver = "mx.example.net";
                let check = Check { ip: *ip, helo, mail_from, receiver, now_seconds: now.seconds() };
                let outcome = spf::check_mail_from(&check, &SpfOptions::default(), answers)?;
                Some(Found { result: outcome.result.word(), explanation: outcome.explanation, ..Found::default() })
            }
            Self::Dmarc { author, authenticated } => {
                let spf = authenticated.spf.as_ref().map(|(domain, result)| (domain, *result));
                let identifiers = Identifiers { author, spf, dkim: &authenticated.dkim };
                let outcome = dmarc::evaluate(&identifiers, &DmarcOptions::default(), answers)?;
                Some(Found {
                    result: outcome.result.word(),
                    policy: outcome.policy.map(dmarc::Disposition::word),
                    policy_domain: outcome.policy_domain,
                    ..Found::default()
                })
            }
            Self::Dkim { message } => {
                let (mut index, mut bodies) = (HeaderIndex::new(), BodyHashes::new());
                let headers = index.scan(&message.header);
                let options = DkimOptions::default();
                let mut verifier = Verifier::begin(headers, None, &options, &mut bodies);
                bodies.update(&message.body);
                bodies.finish();
                let outcomes = verifier.outcomes(headers, &bodies, &options, now, answers)?;
                let result = outcomes.first().map_or("none", |outcome| outcome.result.word());
                Some(Found { result, ..Found::default() })
            }
        }
    }
}

impl Found {
    fn check(&self, expect: &Value) -> Result<(), String> {
        expect_equal("result", self.result, text(expect, "result"))?;
        if let Some(expected) = expect.get("explanation") {
            expect_equal("explanation", self.explanation.as_deref(), expected.as_str())?;
        }
        if let Some(expected) = expect.get("policy") {
            expect_equal("policy", self.policy, expected.as_str())?;
        }
        if let Some(expected) = expect.get("policy_domain") {
            let expected = expected.as_str().map(domain).transpose()?;
            expect_equal("policy domain", self.policy_domain, expected)?;
        }
        Ok(())
    }
}

/// One verifier: a cache, the server behind it, and a clock.
struct World {
    server: Responder,
    cache: Cache,
    now: Timestamp,
    lookup_count: u64,
    random: usize,
}

impl World {
    fn new(server: &Responder) -> Self {
        Self { server: server.clone(), cache: Cache::default(), now: START, lookup_count: 0, random: 0 }
    }

    /// One step after the other.
    fn run_each(&mut self, steps: &[&Step], pick: Pick) -> Result<(), String> {
        for (number, step) in steps.iter().enumerate() {
            let run = match step {
                Step::Evaluate { .. } => self.run_at_once(std::slice::from_ref(step), pick),
                Step::Advance(time) => {
                    self.now = self.now + *time;
                    Ok(())
                }
                Step::NewRecords(zone) => self.server.zone.add(zone).map_err(|error| error.to_string()),
            };
            run.map_err(|failure| format!("{}. step: {failure}", number + 1))?;
        }
        Ok(())
    }

    /// All evaluations under way at once; questions that are equal go out once.
    fn run_at_once(&mut self, steps: &[&Step], pick: Pick) -> Result<(), String> {
        let mut running: Vec<(&Evaluation, &Value, Transcript, Option<Found>)> = Vec::new();
        for step in steps {
            let Step::Evaluate { evaluation, expect } = step else {
                return Err("a step that changes the world in a case without fixed order".to_owned());
            };
            running.push((evaluation, expect, Transcript::new(), None));
        }
        let mut open: VecDeque<Question> = VecDeque::new();
        loop {
            for (evaluation, _, transcript, found) in running.iter_mut().filter(|(.., found)| found.is_none()) {
                let mut source = self.cache.at(self.now);
                *found = evaluation.evaluate(self.now, &mut Answers::new(transcript, &mut source));
                while let Some(question) = transcript.next_question() {
                    if !open.contains(&question) {
                        open.push_back(question);
                    }
                }
            }
            if running.iter().all(|(.., found)| found.is_some()) {
                break;
            }
            let question = match pick {
                Pick::Oldest => open.pop_front(),
                Pick::Newest => open.pop_back(),
                Pick::Any(seed) => {
                    self.random = self.random.wrapping_add(seed);
                    let at = next_random(&mut self.random) % open.len().max(1);
                    open.remove(at)
                }
            };
            let question = question.ok_or("an evaluation waits and has asked nothing")?;
            let answer = self.fetch(&question);
            for (_, _, transcript, _) in &mut running {
                transcript.learn(&question, answer.clone());
            }
        }
        for (number, (_, expect, _, found)) in running.iter().enumerate() {
            let found = found.as_ref().ok_or("not ended")?;
            found.check(expect).map_err(|failure| format!("{}. evaluation: {failure}", number + 1))?;
        }
        Ok(())
    }

    /// Looks a question up and keeps the answer. The time that this takes is not part of the case.
    fn fetch(&mut self, question: &Question) -> Answer {
        self.lookup_count += 1;
        let servers = [ServerTraits::default()];
        let mut now = self.now;
        let mut lookup = Lookup::new(question.clone(), &servers, LookupOptions::default(), self.lookup_count, now);
        let answer = loop {
            let (server, transport, reply) = match lookup.poll(now) {
                LookupStep::SendUdp { server, query } => {
                    (server, Transport::Udp, self.server.reply(query, Transport::Udp))
                }
                LookupStep::SendTcp { server, query } => {
                    (server, Transport::Tcp, self.server.reply(query, Transport::Tcp))
                }
                LookupStep::WaitUntil(until) => {
                    now = until;
                    continue;
                }
                LookupStep::Done(answer) => break answer,
            };
            match (reply, transport) {
                (Some(reply), Transport::Udp) => lookup.udp_received(server, &reply),
                (Some(reply), Transport::Tcp) => lookup.tcp_received(server, &reply),
                (None, _) => {}
            }
        };
        self.cache.insert(question, &answer, self.now);
        answer
    }
}
