//! The DNS cache: what is kept under which question, and for how long.

use std::time::Duration;

use mailproof::cache::{BelowDenied, Cache, CacheOptions};
use mailproof_proto::dns::{Answer, AnswerSource, Failure, Name, Outcome, Question, RecordSet, RecordType, Txt};
use mailproof_proto::time::Timestamp;
use proptest::prelude::*;

const START: Timestamp = Timestamp::from_seconds(1_795_392_000);

fn q(name: &str, kind: RecordType) -> Question {
    Question::new(Name::parse(name).unwrap(), kind)
}

fn txt(name: &str) -> Question {
    q(name, RecordType::Txt)
}

fn records(ttl_seconds: u32) -> Answer {
    Answer::new(Outcome::Records(RecordSet::Txt([Txt(b"it"[..].into())].into())), Some(ttl_seconds))
}

fn after(seconds: u64) -> Timestamp {
    START + Duration::from_secs(seconds)
}

/// Seconds for which an answer put in at the start is given out; its last second is the largest one with a hit.
#[track_caller]
fn assert_kept_for(cache: &Cache, question: &Question, start: Timestamp, seconds: u64) {
    let last = start + Duration::from_millis(seconds * 1000 - 1);
    assert!(cache.get(question, last).is_some(), "gone too early");
    assert!(cache.get(question, start + Duration::from_secs(seconds)).is_none(), "kept too long");
}

#[test]
fn records_live_as_long_as_their_ttl_up_to_a_day() {
    let cache = Cache::default();
    for (ttl, kept) in [(60, 60), (86_400, 86_400), (86_401, 86_400), (i32::MAX as u32, 86_400)] {
        cache.insert(&txt("a.example"), &records(ttl), START);
        assert_kept_for(&cache, &txt("a.example"), START, kept);
    }
    cache.insert(&txt("zero.example"), &records(0), START);
    assert!(cache.get(&txt("zero.example"), START).is_none());
    let floored = Cache::new(CacheOptions { positive_min: Duration::from_secs(9), ..Default::default() });
    floored.insert(&txt("zero.example"), &records(0), START);
    assert_kept_for(&floored, &txt("zero.example"), START, 9);
}

#[test]
fn the_answer_is_shared_with_what_is_derived_from_it() {
    let cache = Cache::default();
    cache.insert(&txt("a.example"), &records(60), START);
    let (first, second) = (cache.get(&txt("a.example"), START), cache.at(START).answer(&txt("A.EXAMPLE.")));
    assert!(std::ptr::eq(first.unwrap().dmarc(), second.unwrap().dmarc()));
}

#[test]
fn absence_of_data_is_of_one_type_at_one_name() {
    let cache = Cache::default();
    cache.insert(&txt("a.example"), &Answer::new(Outcome::NoData, Some(20_000)), START);
    assert_kept_for(&cache, &txt("a.example"), START, 10_800);
    assert!(cache.get(&q("a.example", RecordType::A), START).is_none());
    assert!(cache.get(&txt("_dmarc.a.example"), START).is_none());
}

#[test]
fn absence_of_a_name_is_of_every_type() {
    let cache = Cache::default();
    cache.insert(&txt("gone.example"), &Answer::new(Outcome::NxDomain, Some(20_000)), START);
    for kind in RecordType::ALL {
        assert_kept_for(&cache, &q("gone.example", kind), START, 10_800);
    }
    // But records that are known stay known.
    cache.insert(&q("gone.example", RecordType::A), &records(60), START);
    let a = cache.get(&q("gone.example", RecordType::A), START).unwrap();
    assert!(matches!(a.outcome(), Outcome::Records(_)));
}

#[test]
fn absence_without_soa_is_not_kept() {
    let cache = Cache::default();
    for outcome in [Outcome::NoData, Outcome::NxDomain] {
        cache.insert(&txt("a.example"), &Answer::new(outcome, None), START);
        assert!(cache.get(&txt("a.example"), START).is_none());
    }
}

#[test]
fn absence_at_the_end_of_an_alias_stays_with_the_question() {
    let cache = Cache::default();
    let target = Name::parse("_dmarc.victim.example").unwrap();
    cache.insert(&txt("evil.example"), &Answer::denied_alias(target, Some(60), Some(true)), START);
    assert_eq!(cache.get(&txt("evil.example"), START).unwrap().outcome(), &Outcome::NxDomain);
    for other in [q("evil.example", RecordType::A), txt("_dmarc.victim.example"), txt("a.evil.example")] {
        assert!(cache.get(&other, START).is_none(), "{other}");
    }
}

#[test]
fn names_below_an_absent_one_are_denied_where_that_is_allowed() {
    let denial = |authentic| Answer::with_authenticity(Outcome::NxDomain, Some(60), authentic);
    for (below_denied, authentic, denies) in [
        (BelowDenied::Never, Some(true), false),
        (BelowDenied::WhenAuthentic, None, false),
        (BelowDenied::WhenAuthentic, Some(false), false),
        (BelowDenied::WhenAuthentic, Some(true), true),
        (BelowDenied::Always, None, true),
    ] {
        let cache = Cache::new(CacheOptions { below_denied, ..Default::default() });
        cache.insert(&txt("x.gone.example"), &denial(authentic), START);
        for (name, is_below) in [
            ("a.b.x.gone.example", true),
            ("_dmarc.x.gone.example", true),
            ("gone.example", false),
            ("xx.gone.example", false),
        ] {
            assert_eq!(cache.get(&txt(name), START).is_some(), denies && is_below, "{below_denied:?} {name}");
        }
        assert!(cache.get(&txt("a.x.gone.example"), after(60)).is_none());
    }
}

#[test]
fn failures_are_kept_from_five_seconds_to_five_minutes() {
    let cache = Cache::default();
    let mut now = START;
    for seconds in [5, 10, 20, 40, 80, 160, 300, 300] {
        cache.insert(&txt("a.example"), &Answer::failed(Failure::TimedOut), now);
        // Another lookup of the same moment adds nothing.
        cache.insert(&txt("a.example"), &Answer::failed(Failure::ServFail), now);
        assert_kept_for(&cache, &txt("a.example"), now, seconds);
        now = now + Duration::from_secs(seconds);
    }
    assert!(cache.get(&q("a.example", RecordType::A), START).is_none(), "a failure is of one type");
    cache.insert(&txt("a.example"), &records(60), now);
    cache.insert(&txt("a.example"), &Answer::failed(Failure::TimedOut), now);
    assert_kept_for(&cache, &txt("a.example"), now, 60);
    now = now + Duration::from_secs(60);
    cache.insert(&txt("a.example"), &Answer::failed(Failure::TimedOut), now);
    assert_kept_for(&cache, &txt("a.example"), now, 5);
    // So does it for an answer that is not kept, or not under this question.
    for answer in [records(0), Answer::new(Outcome::NxDomain, Some(1)), Answer::new(Outcome::NoData, None)] {
        now = now + Duration::from_secs(5);
        cache.insert(&txt("a.example"), &answer, now);
        now = now + Duration::from_secs(1);
        cache.insert(&txt("a.example"), &Answer::failed(Failure::TimedOut), now);
        assert_kept_for(&cache, &txt("a.example"), now, 5);
    }
    // Long after a failure the count starts again.
    now = now + Duration::from_secs(5 + 300);
    cache.insert(&txt("a.example"), &Answer::failed(Failure::TimedOut), now);
    assert_kept_for(&cache, &txt("a.example"), now, 5);
    for round in 0..2 {
        let now = after(1_000_000 + 5 * round);
        cache.insert(&txt("b.example"), &Answer::failed(Failure::Unreachable), now);
        assert_kept_for(&cache, &txt("b.example"), now, 5);
    }
}

#[test]
fn octets_are_bounded_and_counted() {
    let cache = Cache::new(CacheOptions { bytes_max: 100_000, ..Default::default() });
    for index in 0..2_000 {
        cache.insert(&txt(&format!("a{index}.example")), &records(60), START);
    }
    let statistics = cache.statistics();
    assert!(statistics.bytes <= 100_000 && statistics.bytes > 50_000, "{statistics:?}");
    assert_eq!(statistics.inserts, 2_000);
    assert_eq!(statistics.entries + statistics.evictions, 2_000);
    let huge = Outcome::Records(RecordSet::Txt([Txt(vec![b'x'; 60_000].into())].into()));
    cache.insert(&txt("huge.example"), &Answer::new(huge, Some(60)), START);
    assert!(cache.statistics().bytes <= 100_000);
}

#[test]
fn reads_are_counted() {
    let cache = Cache::default();
    cache.insert(&txt("a.example"), &records(60), START);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                assert!(cache.get(&txt("a.example"), START).is_some());
                assert!(cache.get(&txt("b.example"), START).is_none());
            });
        }
    });
    let statistics = cache.statistics();
    assert_eq!((statistics.hits, statistics.misses, statistics.entries), (3, 3, 1));
    cache.clear();
    assert!(cache.get(&txt("a.example"), START).is_none());
}

/// A plain twin of the cache: everything ever put in, searched from the newest.
#[derive(Default)]
struct Twin {
    below_denied: BelowDenied,
    kept: Vec<(Question, Answer, u64)>,
}

impl Twin {
    /// The time when an answer put in at `now` ends; failures are left to their own test.
    fn insert(&mut self, question: &Question, answer: &Answer, now: u64) {
        let most = if matches!(answer.outcome(), Outcome::Records(_)) { 86_400 } else { 10_800 };
        if let Some(ttl) = answer.ttl_seconds() {
            self.kept.push((question.clone(), answer.clone(), now + u64::from(ttl).min(most)));
        }
    }

    fn get(&self, asked: &Question, now: u64) -> Option<Outcome> {
        let denies = |answer: &Answer| *answer.outcome() == Outcome::NxDomain && answer.denied_name().is_none();
        let deep = |answer: &Answer| match self.below_denied {
            BelowDenied::Never => false,
            BelowDenied::WhenAuthentic => answer.authentic() == Some(true),
            BelowDenied::Always => true,
        };
        // The newest of a kind stands in the place of all others; whether it still lives decides then.
        let newest = |is_it: &dyn Fn(&Question, &Answer) -> bool| {
            let found = self.kept.iter().rev().find(|(question, answer, _)| is_it(question, answer));
            found.filter(|(.., end)| now < *end).map(|(_, answer, _)| answer)
        };
        let own = newest(&|question, answer| question == asked && !denies(answer));
        let at_name = || newest(&|question, answer| question.name == asked.name && denies(answer));
        let mut above = Vec::new();
        let mut name = asked.name.parent();
        while let Some(it) = name {
            above.push(it);
            name = it.parent();
        }
        let below = || {
            let at = |name: &Name| newest(&|question, answer| question.name == *name && denies(answer));
            above.iter().filter_map(at).find(|answer| deep(answer))
        };
        own.or_else(at_name).or_else(below).map(|answer| answer.outcome().clone())
    }
}

fn any_question() -> impl Strategy<Value = Question> {
    let kind = prop_oneof![Just(RecordType::A), Just(RecordType::Txt)];
    (prop::collection::vec("[ab]|abc", 1..4), kind).prop_map(|(labels, kind)| q(&labels.join("."), kind))
}

fn any_answer() -> impl Strategy<Value = Answer> {
    let ttl = prop_oneof![Just(None), (0..40_u32).prop_map(Some), Just(Some(20_000)), Just(Some(100_000))];
    let outcome = prop_oneof![
        Just(records(0).outcome().clone()),
        Just(Outcome::NoData),
        Just(Outcome::NxDomain),
        Just(Outcome::NxDomain)
    ];
    (outcome, ttl, any::<Option<bool>>(), prop::bool::weighted(0.2)).prop_map(|(outcome, ttl, authentic, is_alias)| {
        match outcome {
            Outcome::NxDomain if is_alias => Answer::denied_alias(Name::parse("a").unwrap(), ttl, authentic),
            outcome => Answer::with_authenticity(outcome, ttl, authentic),
        }
    })
}

proptest! {
    #[test]
    fn the_cache_answers_as_a_plain_list_does(
        below_denied in prop_oneof![Just(BelowDenied::Never), Just(BelowDenied::WhenAuthentic), Just(BelowDenied::Always)],
        course in prop::collection::vec((any_question(), prop::option::of(any_answer()), 0..30_u64), 1..60),
    ) {
        let cache = Cache::new(CacheOptions { below_denied, ..Default::default() });
        let mut twin = Twin { below_denied, kept: Vec::new() };
        let mut now = 0;
        for (question, answer, passes) in course {
            now += passes;
            match answer {
                // What lives no second takes no place; neither does it in the twin.
                Some(answer) if answer.ttl_seconds() != Some(0) => {
                    cache.insert(&question, &answer, after(now));
                    twin.insert(&question, &answer, now);
                }
                _ => {}
            }
            let found = cache.get(&question, after(now)).map(|answer| answer.outcome().clone());
            prop_assert_eq!(found, twin.get(&question, now), "{} at {}", question, now);
        }
    }
}

#[test]
fn what_serves_past_its_end_does_so_up_to_the_limit_however_often_it_is_asked_for() {
    let cache = Cache::new(CacheOptions { stale_max: Duration::from_secs(100), ..Default::default() });
    let question = txt("a.example");
    cache.insert(&question, &records(60), START);
    assert!(cache.get(&question, after(60)).is_none());
    for seconds in [60, 61, 90, 125] {
        assert!(cache.stale(&question, after(seconds)).is_some_and(|answer| answer.ttl_seconds() == Some(30)));
        assert!(cache.get(&question, after(seconds)).is_some(), "in force again after {seconds} seconds");
    }
    assert!(cache.get(&question, after(154)).is_some());
    assert!(cache.get(&question, after(155)).is_none(), "30 seconds from the last time");
    assert!(cache.stale(&question, after(159)).is_some());
    assert!(cache.get(&question, after(160)).is_none(), "never past the limit");
    assert!(cache.stale(&question, after(160)).is_none());
    let mut dump = Vec::new();
    cache.dump(after(159), &mut dump).unwrap();
    assert!(!String::from_utf8(dump).unwrap().contains("a.example"), "what is late is not carried on");
    cache.insert(&question, &records(60), after(200));
    assert!(cache.get(&question, after(259)).is_some());
    assert!(cache.stale(&question, after(359)).is_some(), "a new answer has a new end");
}
