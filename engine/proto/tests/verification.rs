//! One message from envelope to verdict, as a driver sees it: limits, deadlines, cuts.

use std::sync::Arc;
use std::time::Duration;

use mailproof_proto::dmarc::DmarcResult;
use mailproof_proto::dns::{Answer, NoSource, Outcome, RecordSet, Txt};
use mailproof_proto::limits::{HEADER_BLOCK_BYTES_MAX, MESSAGE_TIME_MAX, SPF_TIME_MAX};
use mailproof_proto::message::address::Author;
use mailproof_proto::spf::SpfResult;
use mailproof_proto::time::Timestamp;
use mailproof_proto::verdict::Verdict;
use mailproof_proto::verification::{Envelope, Options, Progress, Verification};
use proptest::prelude::*;

const START: Timestamp = Timestamp::from_seconds(1_795_392_000);
const MESSAGE: &[u8] = b"From: ann@example.org\r\nSubject: x\r\n\r\nText.\r\n";

fn verification() -> Verification {
    let options = Options { authserv_id: "mx.example.net".to_owned(), ..Options::default() };
    let client = "192.0.2.7".parse().unwrap();
    Verification::new(Arc::new(options), Envelope::new(client, "mx.example.org", "ann@example.org"), START)
}

/// Answers every question with NXDOMAIN, or with what `answer` gives.
fn finish(verification: &mut Verification, answer: impl Fn(&str) -> Option<&'static str>) -> Verdict {
    verification.end();
    while verification.poll(START, &mut NoSource) != Progress::Done {
        while let Some(question) = verification.next_question() {
            let outcome = answer(&question.to_string()).map_or(Outcome::NxDomain, |text| {
                Outcome::Records(RecordSet::Txt([Txt(text.as_bytes().into())].into()))
            });
            verification.learn(&question, Answer::new(outcome, Some(60)));
        }
    }
    verification.verdict().unwrap().clone()
}

#[test]
fn nothing_is_waited_for_past_its_deadline() {
    let mut it = verification();
    it.push(MESSAGE);
    it.end();
    let mut poll = |after: Duration| it.poll(START + after, &mut NoSource);
    assert_eq!(poll(Duration::ZERO), Progress::NeedsAnswers { deadline: START + SPF_TIME_MAX });
    let moment = Duration::from_millis(1);
    assert_eq!(poll(SPF_TIME_MAX - moment), Progress::NeedsAnswers { deadline: START + SPF_TIME_MAX });
    assert_eq!(poll(SPF_TIME_MAX), Progress::NeedsAnswers { deadline: START + MESSAGE_TIME_MAX });
    assert_eq!(poll(MESSAGE_TIME_MAX - moment), Progress::NeedsAnswers { deadline: START + MESSAGE_TIME_MAX });
    assert_eq!(poll(MESSAGE_TIME_MAX), Progress::Done);
    let verdict = it.verdict().unwrap();
    assert_eq!((verdict.spf.result, verdict.helo.result), (SpfResult::TempError, SpfResult::TempError));
    assert_eq!(verdict.spf.problem.as_ref().map(|problem| problem.word()), Some("out-of-time"));
    assert_eq!(verdict.dmarc.result, DmarcResult::TempError);
}

/// A slow DNS is no reason to refuse a message: SPF might have passed for the author's domain.
#[test]
fn spf_that_is_out_of_time_leaves_dmarc_undecided() {
    let mut it = verification();
    it.push(MESSAGE);
    it.end();
    let late = START + SPF_TIME_MAX;
    let _ = it.poll(START, &mut NoSource);
    while it.poll(late, &mut NoSource) != Progress::Done {
        while let Some(question) = it.next_question() {
            let policy = Txt(b"v=DMARC1; p=reject"[..].into());
            let is_policy = question.to_string().starts_with("_dmarc.");
            let outcome = if is_policy { Outcome::Records(RecordSet::Txt([policy].into())) } else { Outcome::NxDomain };
            it.learn(&question, Answer::new(outcome, Some(60)));
        }
    }
    let verdict = it.verdict().unwrap();
    assert_eq!((verdict.spf.result, verdict.dmarc.result), (SpfResult::TempError, DmarcResult::TempError));
    assert!(verdict.spf.domain.is_some());
}

/// A client on a thin line, or one that stalls, takes minutes for its header and its body: answers have their time all the
/// same.
#[test]
fn a_slow_client_takes_no_time_from_the_answers() {
    let none = || Answer::new(Outcome::NxDomain, Some(60));
    let hour = Duration::from_secs(3600);
    let mut it = verification();
    let answer_one = |it: &mut Verification, after: Duration| {
        let progress = it.poll(START + after, &mut NoSource);
        let question = it.next_question();
        question.into_iter().for_each(|question| it.learn(&question, none()));
        progress
    };
    for _ in 0..4 {
        answer_one(&mut it, Duration::ZERO);
    }
    it.push(b"From: ann@example.org\r\n");
    for selector in ["a", "b", "c"] {
        let rest = "h=from; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; b=AAAA";
        let field = format!("DKIM-Signature: v=1; a=rsa-sha256; d=example.org; s={selector}; {rest}\r\n");
        it.push(field.as_bytes());
    }
    it.push(b"\r\nText.\r\n");
    answer_one(&mut it, hour);
    it.end();
    // One answer at a time: those that are still to come are not given up for it.
    for step in 0.. {
        if answer_one(&mut it, hour * 2 + Duration::from_millis(step)) == Progress::Done {
            break;
        }
    }
    let verdict = it.verdict().unwrap();
    assert_eq!((verdict.spf.result, verdict.dmarc.result), (SpfResult::None, DmarcResult::None));
    assert!(!verdict.to_json("x").contains("temperror"), "{}", verdict.to_json("x"));
}

#[test]
fn questions_go_out_before_the_body_is_there() {
    let mut it = verification();
    assert_eq!(it.poll(START, &mut NoSource), Progress::NeedsMessage);
    assert_eq!(it.next_question().unwrap().to_string(), "example.org TXT");
    assert_eq!(it.next_question().unwrap().to_string(), "mx.example.org TXT");
    assert_eq!(it.next_question(), None);
    it.push(b"From: ann@example.org\r\n\r\n");
    assert_eq!(it.poll(START, &mut NoSource), Progress::NeedsMessage);
    assert_eq!(it.next_question().unwrap().to_string(), "_dmarc.example.org TXT");
}

#[test]
fn of_a_header_block_over_its_limit_nothing_is_believed() {
    let judged = |block_bytes: usize| {
        let start = "From: ann@example.org\r\nX: ";
        let filler = "y".repeat(block_bytes - start.len() - "\r\n".len());
        let mut it = verification();
        it.push(format!("{start}{filler}\r\n\r\nText.\r\n").as_bytes());
        let verdict = finish(&mut it, |question| match question {
            "example.org TXT" => Some("v=spf1 +all"),
            "_dmarc.example.org TXT" => Some("v=DMARC1; p=reject"),
            _ => None,
        });
        (verdict.defects.header_over_limit, verdict.dmarc.result)
    };
    // The CRLF of the empty line is counted while it is looked for.
    assert_eq!(judged(HEADER_BLOCK_BYTES_MAX - 2), (false, DmarcResult::Pass));
    assert_eq!(judged(HEADER_BLOCK_BYTES_MAX - 1), (true, DmarcResult::PermError));
}

#[test]
fn a_verification_starts_over_without_a_trace_of_the_last_message() {
    let answers = |question: &str| (question == "example.org TXT").then_some("v=spf1 +all");
    let mut it = verification();
    it.push(b"From: x@a.example, y@b.example\r\nbare\rcr\r\n\r\n\0");
    finish(&mut it, |_| None);
    let envelope = it.envelope().clone();
    it.restart(envelope, START);
    it.push(MESSAGE);
    let mut fresh = verification();
    fresh.push(MESSAGE);
    assert_eq!(finish(&mut it, answers), finish(&mut fresh, answers));
}

proptest! {
    #[test]
    fn the_cut_of_a_message_changes_nothing(
        message in "(From: a@example[.]org|[A-C]: x|\r|\n|\r\n|\r\n\r\n| y){0,12}",
        cuts in proptest::collection::vec(1_usize..7, 0..40),
    ) {
        let mut whole = verification();
        whole.push(message.as_bytes());
        let mut cut = verification();
        let mut rest = message.as_bytes();
        for count in cuts {
            let (piece, after) = rest.split_at(count.min(rest.len()));
            cut.push(piece);
            rest = after;
        }
        cut.push(rest);
        let (whole, cut) = (finish(&mut whole, |_| None), finish(&mut cut, |_| None));
        prop_assert_eq!(&whole, &cut);
        // A plain reading of where the header ends.
        let block = format!("\r\n{message}");
        let end = block.find("\r\n\r\n").unwrap_or(block.len());
        let names_author = block[..end].split("\r\n").any(|line| line.starts_with("From: a@example.org"));
        if matches!(whole.author, Author::One(_)) {
            prop_assert!(names_author);
        }
    }
}
