use std::sync::Arc;
use std::sync::OnceLock;

use mailproof::proto::dns::{Answer, Failure, Name, Question, RecordType};
use mailproof::simulation::Census;
use mailproof::zone::Zone;
use mailproof_proto::verdict::Action;

use super::check::{Found, Invariant, Notes, Told, Truth, bounded, compare_reply, judge, left_over};
use super::plan::Limits;
use super::{Cuts, Plan, Stage, Trouble, run};
use crate::corpus::{Expectation, Fate};

fn stage() -> &'static Stage {
    static STAGE: OnceLock<Stage> = OnceLock::new();
    STAGE.get_or_init(Stage::new)
}

#[test]
fn the_same_seed_is_the_same_run_and_another_is_another() {
    let hashes: Vec<u64> = (0..12)
        .map(|seed| {
            let ran = run(stage(), seed, &Cuts::default(), false);
            assert_eq!(ran.violation, None, "seed {seed}");
            assert_eq!(ran, run(stage(), seed, &Cuts::default(), false), "seed {seed}");
            ran.hash
        })
        .collect();
    let mut distinct = hashes.clone();
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), hashes.len());
}

/// Runs in which a check was wrong once.
#[test]
fn who_waits_for_a_place_is_not_late() {
    // The one place belongs to a mail server whose end is still under way.
    let ran = run(stage(), 95_482, &Cuts::default(), false);
    assert_eq!(ran.violation, None);
}

#[test]
fn what_is_left_out_leaves_the_rest_as_it_is() {
    let whole = Plan::draw(5, &Cuts::default());
    let cuts = Cuts { off: Trouble::ALL.into_iter().collect(), connections: [0].into(), ..Cuts::default() };
    let smaller = Plan::draw(5, &cuts);
    assert!(Trouble::ALL.into_iter().all(|trouble| smaller.rate(trouble) == 0));
    assert_eq!(smaller.connections.len() + 1, whole.connections.len());
    assert_eq!((smaller.limits, smaller.workers), (whole.limits, whole.workers));
    for trouble in Trouble::ALL {
        assert_eq!(trouble.word().parse(), Ok(trouble));
    }
}

fn expected() -> Expectation {
    Expectation {
        fate: Fate::Direct,
        spf: "pass".to_owned(),
        dkim: vec![("a.example".to_owned(), "fail".to_owned())],
        arc: "none".to_owned(),
        dmarc: "fail".to_owned(),
    }
}

fn found(spf: &str, dkim: &str, arc: &str, dmarc: &str) -> Found {
    Found {
        spf: spf.to_owned(),
        dkim: vec![("a.example".to_owned(), dkim.to_owned())],
        arc: arc.to_owned(),
        dmarc: dmarc.to_owned(),
    }
}

#[test]
fn a_fault_may_hide_a_result_and_never_make_one() {
    let judge = |found: &Found, truth| judge(&expected(), found, truth);
    let right = found("pass", "fail", "none", "fail");
    assert_eq!(judge(&right, Truth::Exact), Ok(()));
    assert_eq!(judge(&found("temperror", "temperror", "none", "temperror"), Truth::AsSent), Ok(()));
    assert!(judge(&found("temperror", "fail", "none", "fail"), Truth::Exact).is_err());
    for wrong in [
        found("none", "fail", "none", "fail"),
        found("pass", "pass", "none", "fail"),
        found("pass", "permerror", "none", "fail"),
        found("pass", "fail", "pass", "fail"),
        found("pass", "fail", "none", "pass"),
        Found { dkim: Vec::new(), ..right.clone() },
    ] {
        assert!(judge(&wrong, Truth::AsSent).is_err(), "{wrong:?}");
    }
    assert_eq!(judge(&found("fail", "permerror", "none", "fail"), Truth::Changing), Ok(()));
    assert!(judge(&found("pass", "pass", "none", "fail"), Truth::Changing).is_err());
    assert!(judge(&right, Truth::Withdrawn).is_err(), "SPF passes although nobody says so any more");
    assert_eq!(judge(&found("fail", "permerror", "none", "fail"), Truth::Withdrawn), Ok(()));
}

#[test]
fn what_is_told_is_what_was_decided() {
    assert_eq!(compare_reply(Action::Quarantine, Told::Held), Ok(()));
    assert!(compare_reply(Action::Reject, Told::GoOn).is_err());
}

const LIMITS: Limits = Limits { in_flight: 2, waiting: 3, link_outstanding: 1, connections: 2, cache_bytes: 0 };

#[test]
fn every_limit_counts_on_both_sides() {
    let full = Census {
        sockets: 9,
        ports: 4,
        links: 1,
        conversations: 2,
        closing: 1,
        in_flight: 2,
        waiting: 3,
        link_outstanding: 1,
        ..Census::default()
    };
    assert_eq!(bounded(&full, &LIMITS, 1, 4), Ok(()));
    for more in [
        Census { sockets: 10, ..full },
        Census { ports: 7, ..full },
        Census { conversations: 3, ..full },
        Census { in_flight: 3, ..full },
        Census { waiting: 4, ..full },
        Census { link_outstanding: 2, ..full },
        Census { question_places: 100, ..full },
        Census { unsent_bytes: 1 << 20, ..full },
    ] {
        assert!(bounded(&more, &LIMITS, 1, 4).is_err(), "{more:?}");
    }
}

#[test]
fn what_is_left_is_seen() {
    assert_eq!(left_over(&Census { ports: 4, links: 1, sockets: 6, ..Census::default() }), Ok(()));
    for left in [
        Census { conversations: 1, ..Census::default() },
        Census { questions: 1, ..Census::default() },
        Census { jobs: 1, ..Census::default() },
        Census { sockets: 2, ..Census::default() },
    ] {
        assert!(left_over(&left).is_err(), "{left:?}");
    }
}

#[test]
fn answers_have_to_be_asked_for_true_and_in_time() {
    let zone = |text: &str| Arc::new(Zone::from_yaml(text).unwrap());
    let zones = [zone("a.example: [{TXT: one}]"), zone("a.example: [{TXT: two}]")];
    let notes = || Notes::new(zones.clone(), Some((1_000, 5_000)));
    let question = Question::new(Name::parse("a.example").unwrap(), RecordType::Txt);
    let [one, two] = zones.each_ref().map(|zone| zone.lookup(&question));
    let limit = std::time::Duration::from_secs(2);
    let after = |answer: &Answer, now_ms| {
        let mut notes = notes();
        notes.asked(7, question.clone(), now_ms - 500);
        notes.answered(7, &question, answer, now_ms);
        notes.check(now_ms, limit).map_err(|violation| violation.invariant)
    };
    assert_eq!(after(&one, 900), Ok(()));
    assert_eq!(after(&two, 900), Err(Invariant::TrueAnswers), "from the future");
    assert_eq!((after(&one, 3_000), after(&two, 3_000)), (Ok(()), Ok(())));
    assert_eq!(after(&one, 5_000), Err(Invariant::TrueAnswers), "past its limit");
    assert_eq!(after(&Answer::failed(Failure::TimedOut), 5_000), Ok(()));

    let mut late = notes();
    late.asked(7, question.clone(), 100);
    assert_eq!(late.check(2_100, limit), Ok(()));
    assert_eq!(late.check(2_101, limit).unwrap_err().invariant, Invariant::EndsInTime);
    late.closed(7);
    assert_eq!(late.check(9_000, limit), Ok(()));
    late.answered(7, &question, &one, 200);
    assert_eq!(late.check(200, limit).unwrap_err().invariant, Invariant::NothingAfterClose);
}
