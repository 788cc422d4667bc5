//! From the octets of a query to what goes back: the same for datagrams and streams.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::answer::{Answering, damage, fitted, unreadable, with_other_data, wrong};
use crate::cache::Cache;
use crate::draw::{Decision, Draw, Drawn};
use crate::message::{Asked, Message};
use crate::plan::{Fault, Transport};
use crate::statistics::{Counters, Questions, locked};

/// What the threads of a server share with its owner.
#[derive(Debug)]
pub(crate) struct Shared {
    running: Mutex<Arc<Running>>,
    /// Goes up whenever `running` is replaced.
    generation: AtomicU64,
    pub(crate) is_paused: AtomicBool,
    pub(crate) is_stopping: AtomicBool,
    pub(crate) counters: Counters,
    pub(crate) questions: Questions,
}

/// The zone and the plan at work.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) answering: Arc<Answering>,
    pub(crate) draw: Draw,
}

/// Where one thread turns queries into replies.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) shared: Arc<Shared>,
    running: Arc<Running>,
    generation: u64,
    cache: Cache,
}

/// What goes back to a query that met faults.
#[derive(Debug)]
pub(crate) struct Faulty {
    pub(crate) delay: Option<Duration>,
    /// Messages in their order. Only the first is subject to `delivery`.
    pub(crate) replies: Vec<Vec<u8>>,
    pub(crate) delivery: Option<Fault>,
    /// What a slow reply takes.
    pub(crate) period: Duration,
    /// Where a reply that is not finished ends, as an octet of it.
    pub(crate) end_at: usize,
}

impl Shared {
    pub(crate) fn new(running: Running) -> Self {
        Self {
            running: Mutex::new(Arc::new(running)),
            generation: AtomicU64::new(1),
            is_paused: AtomicBool::new(false),
            is_stopping: AtomicBool::new(false),
            counters: Counters::default(),
            questions: Questions::default(),
        }
    }

    pub(crate) fn replace(&self, change: impl FnOnce(&Running) -> Running) {
        let mut running = locked(&self.running);
        *running = Arc::new(change(&running));
        self.generation.fetch_add(1, Ordering::Release);
    }
}

impl Desk {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        let running = Arc::clone(&locked(&shared.running));
        Self { shared, running, generation: 0, cache: Cache::default() }
    }

    /// Takes up a plan or zone that was set in the meantime. Called before each batch.
    pub(crate) fn refresh(&mut self) {
        let generation = self.shared.generation.load(Ordering::Acquire);
        if generation == self.generation {
            return;
        }
        self.generation = generation;
        let running = Arc::clone(&locked(&self.shared.running));
        if !Arc::ptr_eq(&running.answering, &self.running.answering) {
            self.cache.clear();
        }
        self.running = running;
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.shared.is_paused.load(Ordering::Acquire)
    }

    /// Whether connection number `nth` is closed as soon as it is there.
    pub(crate) fn refuses(&self, nth: u64) -> bool {
        let refuses = self.running.draw.refuses(nth);
        if refuses {
            self.shared.counters.add_fault(Fault::TcpRefuse.word());
        }
        refuses
    }

    /// Appends the reply to `out`, or nothing where there is none; gives what to do instead when there are faults.
    pub(crate) fn handle(&mut self, query: &[u8], by: Transport, out: &mut Vec<u8>) -> Option<Faulty> {
        let Running { answering, draw } = &*self.running;
        let counters = &self.shared.counters;
        let asked = match Asked::read(query) {
            Ok(asked) => asked,
            Err(why) => {
                counters.ignored.fetch_add(1, Ordering::Relaxed);
                out.extend(unreadable(query, why).unwrap_or_default());
                return None;
            }
        };
        let entry = self.cache.entry(&asked, answering, &self.shared.questions)?;
        let nth = entry.count();
        if entry.is_silent() {
            counters.silent.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        if !draw.is_plain() {
            let has_edns = asked.edns_payload_bytes.is_some();
            let drawn = Drawn { question: entry.question.as_ref(), transport: by, has_edns, nth };
            if let Some(decision) = draw.decide(&drawn) {
                let right = answering.right(&asked)?;
                return Some(apply(decision, &right, &asked, by, counters));
            }
        }
        entry.write(&asked, answering, by, out);
        None
    }
}

/// Makes what was decided of the right reply.
fn apply(mut decision: Decision, right: &Message, asked: &Asked<'_>, by: Transport, counters: &Counters) -> Faulty {
    let random = &mut decision.random;
    let mut reply = match decision.answer {
        Some(fault) => wrong(fault, right, asked, by, random),
        None => fitted(right, asked, by),
    };
    if let Some(fault) = decision.octets {
        damage(fault, &mut reply, random);
    }
    let end_at = random.below(reply.len().max(1));
    let mut replies = vec![reply];
    match decision.delivery {
        Some(Fault::Loss | Fault::TcpSilence) => replies.clear(),
        Some(Fault::Duplicate) => replies.extend_from_within(..),
        Some(Fault::DuplicateDifferent) => replies.push(fitted(&with_other_data(right, asked), asked, by)),
        _ => {}
    }
    if decision.then_right {
        replies.push(fitted(right, asked, by));
    }
    if decision.delay.is_some() {
        counters.add_fault("delay");
    }
    for fault in [decision.answer, decision.octets, decision.delivery].into_iter().flatten() {
        counters.add_fault(fault.word());
    }
    let period = match decision.delivery {
        Some(Fault::TcpSlow { milliseconds }) => milliseconds.draw(random),
        _ => Duration::ZERO,
    };
    Faulty { delay: decision.delay, replies, delivery: decision.delivery, period, end_at }
}

#[cfg(test)]
mod tests {
    use mailproof::zone::Zone;
    use proptest::prelude::*;

    use super::*;
    use crate::message::{AskedFor, CLASS_IN, Record};
    use crate::plan::{Plan, Rule};

    fn zone() -> Zone {
        let many: String = (0..30).map(|index| format!("- TXT: number {index} {}\n", "x".repeat(90))).collect();
        Zone::from_yaml(&format!(
            "a.b:\n- TXT: it\n- A: 192.0.2.1\n- MX: [1, b.a]\nb.a:\n- CNAME: a.b\nmany.b:\n{many}ab: SERVFAIL\nba: TIMEOUT\n"
        ))
        .unwrap()
    }

    fn desk(plan: Plan) -> Desk {
        let answering = Arc::new(Answering::new(zone(), Some(60)));
        Desk::new(Arc::new(Shared::new(Running { answering, draw: Draw::new(plan) })))
    }

    fn any_transport() -> impl Strategy<Value = Transport> {
        prop_oneof![Just(Transport::Udp), Just(Transport::Tcp)]
    }

    /// Queries for names of a few letters of either case, so that most of them are asked for several times.
    fn any_query() -> impl Strategy<Value = Vec<u8>> {
        let name = prop::sample::select(vec!["a.b", "A.b", "a.B", "b.a", "many.b", "MANY.b", "ab", "ba", "x.a.b", "c"]);
        let code = prop::sample::select(vec![1_u16, 2, 15, 16, 28, 255]);
        let class = prop::sample::select(vec![1_u16, 1, 1, 1, 3]);
        let edns = prop::option::of(prop::sample::select(vec![0_u16, 512, 1232, 4096]));
        (any::<u16>(), prop::sample::select(vec![0_u8, 1, 1, 1, 0x11]), name, code, class, edns).prop_map(
            |(id, flags, name, code, class, edns)| {
                let mut out = id.to_be_bytes().to_vec();
                out.extend([flags, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())]);
                for label in name.split('.') {
                    out.push(label.len() as u8);
                    out.extend(label.as_bytes());
                }
                out.push(0);
                out.extend(code.to_be_bytes());
                out.extend(class.to_be_bytes());
                if let Some(bytes) = edns {
                    out.extend([0, 0, 41]);
                    out.extend(bytes.to_be_bytes());
                    out.extend([0; 6]);
                }
                out
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// The cache's replies are those that are made anew.
        #[test]
        fn cached_replies_are_those_made_anew(queries in prop::collection::vec((any_query(), any_transport()), 1..30)) {
            let mut desk = desk(Plan::new(0));
            let plain = Answering::new(zone(), Some(60));
            for (query, by) in queries {
                let mut reply = Vec::new();
                prop_assert!(desk.handle(&query, by, &mut reply).is_none());
                let asked = Asked::read(&query).unwrap();
                let expected = plain.right(&asked).map(|right| fitted(&right, &asked, by)).unwrap_or_default();
                prop_assert_eq!(reply, expected);
            }
        }

        /// Whatever comes and whatever goes wrong: no panic, and nothing that a datagram or a length could not hold.
        #[test]
        fn every_fault_of_every_query_is_bounded(
            query in any_query(),
            damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            cut in prop::option::of(any::<prop::sample::Index>()),
            by in any_transport(),
            seed in any::<u64>(),
        ) {
            let mut query = query;
            for (at, octet) in damage {
                let at = at.index(query.len());
                query[at] = octet;
            }
            if let Some(cut) = cut {
                query.truncate(cut.index(query.len()));
            }
            for fault in Fault::all() {
                let mut desk = desk(Plan::new(seed).with(Rule::new(fault).then_right()));
                let mut reply = Vec::new();
                let faulty = desk.handle(&query, by, &mut reply);
                let faulty = faulty.map(|it| it.replies).unwrap_or_default();
                prop_assert!(faulty.iter().chain([&reply]).all(|it| it.len() <= 65_507), "{:?}", fault);
            }
        }

        #[test]
        fn a_message_that_is_written_is_read(
            id in any::<u16>(),
            flags in any::<u16>(),
            records in prop::collection::vec((any::<u16>(), any::<u32>(), prop::collection::vec(any::<u8>(), 0..40)), 0..9),
        ) {
            let mut sections = [const { Vec::new() }; 3];
            for (index, (code, ttl_seconds, data)) in records.into_iter().enumerate() {
                let owner = [&[1, b'a' + index as u8][..], &[0]].concat();
                sections[index % 3].push(Record { owner, code, class: CLASS_IN, ttl_seconds, data });
            }
            let [answer, authority, additional] = sections;
            // No owner is the name of the question, which would be compressed.
            let question = Some(AskedFor { name: b"\x01z\0".to_vec(), code: 16, class: CLASS_IN });
            let message = Message { id, flags, question, answer, authority, additional };
            prop_assert_eq!(Message::read(&message.write()), Some(message));
        }
    }
}
