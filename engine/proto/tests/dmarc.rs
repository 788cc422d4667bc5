//! DMARC from outside: RFC 9989 and RFC 7489 mode against a plain reading of the RFC, with every order of answers.

use std::collections::BTreeMap;

use mailproof_proto::dkim::DkimResult;
use mailproof_proto::dmarc::record::{Record, Request, lint, tags};
use mailproof_proto::dmarc::report_destination::{Destination, ReportKind, report_destination};
use mailproof_proto::dmarc::{
    Alignment, Discovery, Disposition, DmarcOptions, DmarcOutcome, DmarcProblem, DmarcResult, Identifiers, PolicyTag,
    ask_walk, evaluate, organizational_domain,
};
use mailproof_proto::dns::{
    Answer, AnswerSource, Answers, Failure, Name, NoSource, Outcome, Question, RecordSet, RecordType, Transcript, Txt,
};
use mailproof_proto::limits::{DMARC_AUTHOR_DOMAINS_MAX, DMARC_WALK_QUERIES_MAX};
use mailproof_proto::message::address::{Author, AuthorProblem};
use mailproof_proto::spf::SpfResult;
use proptest::prelude::*;

/// Texts by name; a name holding `FAIL` does not answer, one that is not there and has nothing below it does not exist.
#[derive(Clone, Debug, Default)]
struct Zone(BTreeMap<String, Vec<String>>);

impl Zone {
    fn of(entries: &[(&str, &str)]) -> Self {
        let mut zone = Self::default();
        for (name, text) in entries {
            zone.0.entry((*name).to_owned()).or_default().push((*text).to_owned());
        }
        zone
    }

    fn exists(&self, name: &str) -> bool {
        self.0.keys().any(|it| it == name || it.ends_with(&format!(".{name}")))
    }

    fn lookup(&self, question: &Question) -> Answer {
        let name = question.name.to_string();
        let texts = self.0.get(&name).map(Vec::as_slice).unwrap_or_default();
        if texts.iter().any(|text| text == "FAIL") {
            return Answer::failed(Failure::TimedOut);
        }
        let texts: Box<[Txt]> = texts.iter().map(|text| Txt(text.as_bytes().into())).collect();
        Answer::new(
            match (question.kind, texts.is_empty()) {
                (RecordType::Txt, false) => Outcome::Records(RecordSet::Txt(texts)),
                _ if self.exists(&name) => Outcome::NoData,
                _ => Outcome::NxDomain,
            },
            None,
        )
    }
}

impl AnswerSource for &Zone {
    fn answer(&mut self, question: &Question) -> Option<Answer> {
        Some(self.lookup(question))
    }
}

fn at_hand<T>(zone: &Zone, mut run: impl FnMut(&mut Answers<'_>) -> Option<T>) -> (T, Transcript) {
    let (mut transcript, mut source) = (Transcript::new(), zone);
    let outcome = run(&mut Answers::new(&mut transcript, &mut source)).expect("every answer was at hand");
    (outcome, transcript)
}

/// Answers one open question at a time, chosen by `choices`.
fn one_by_one<T>(
    zone: &Zone,
    choices: &[usize],
    mut run: impl FnMut(&mut Answers<'_>) -> Option<T>,
) -> (T, Transcript) {
    let mut transcript = Transcript::new();
    let mut open: Vec<Question> = Vec::new();
    for step in 0.. {
        if let Some(outcome) = run(&mut Answers::new(&mut transcript, &mut NoSource)) {
            return (outcome, transcript);
        }
        open.extend(std::iter::from_fn(|| transcript.next_question()));
        let choice = choices.get(step % choices.len().max(1)).copied().unwrap_or_default();
        let question = open.swap_remove(choice % open.len());
        transcript.learn(&question, zone.lookup(&question));
    }
    unreachable!("the walk is finite")
}

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn questions(transcript: &Transcript) -> Vec<String> {
    transcript.iter().map(|(question, _)| question.to_string()).collect()
}

/// Judges `from` with an SPF pass for `spf`.
fn judge(zone: &Zone, from: &str, spf: &str, options: &DmarcOptions) -> (DmarcOutcome, Vec<String>) {
    let (author, spf) = (Author::One(name(from)), name(spf));
    let identifiers = Identifiers { author: &author, spf: Some((&spf, SpfResult::Pass)), dkim: &[] };
    let (outcome, transcript) = one_by_one(zone, &[0], |answers| evaluate(&identifiers, options, answers));
    (outcome, questions(&transcript))
}

const REJECT: &str = "v=DMARC1; p=reject";

#[test]
fn identical_identifiers_need_one_question() {
    let zone = Zone::of(&[("_dmarc.example.com", REJECT)]);
    let (outcome, asked) = judge(&zone, "example.com", "example.com", &DmarcOptions::default());
    let expected = DmarcOutcome {
        result: DmarcResult::Pass,
        from_domain: Some(name("example.com")),
        organizational_domain: Some(name("example.com")),
        policy_domain: Some(name("example.com")),
        policy: Some(Disposition::Reject),
        applies: Some(PolicyTag::P),
        discovery: Discovery::TreeWalk,
        testing: false,
        spf_aligned: Some(Alignment::Strict),
        dkim_aligned: None,
        disposition: Disposition::None,
        problem: None,
    };
    assert_eq!((outcome, asked), (expected, vec!["_dmarc.example.com TXT".to_owned()]));
}

#[test]
fn walks_stop_where_the_answer_no_longer_depends_on_them() {
    let zone = Zone::of(&[("_dmarc.example.com", REJECT), ("_dmarc.mail.example.com", "v=DMARC1; p=none; psd=n")]);
    let options = DmarcOptions::default();
    for (from, spf, asked) in [
        // Another top-level domain can not share an Organizational Domain.
        ("example.com", "example.net", vec!["_dmarc.example.com"]),
        // Nothing below the author's Organizational Domain.
        ("example.com", "other.com", vec!["_dmarc.example.com", "_dmarc.com"]),
        // psd=n at the author settles it.
        ("mail.example.com", "example.com", vec!["_dmarc.mail.example.com"]),
        ("example.com", "a.mail.example.com", {
            vec!["_dmarc.example.com", "_dmarc.com", "_dmarc.a.mail.example.com", "_dmarc.mail.example.com"]
        }),
    ] {
        let (outcome, found) = judge(&zone, from, spf, &options);
        assert_eq!(outcome.result, DmarcResult::Fail);
        assert_eq!(found, asked.iter().map(|name| format!("{name} TXT")).collect::<Vec<_>>(), "{from} {spf}");
    }
}

#[test]
fn asking_ahead_asks_every_level_before_waiting() {
    let author = Author::One(name("a.b.c.d.e.f.g.h.i.j.example.com"));
    let mut transcript = Transcript::new();
    let ahead = DmarcOptions { ask_ahead: true, ..DmarcOptions::default() };
    ask_walk(&author, &ahead, &mut Answers::new(&mut transcript, &mut NoSource));
    assert_eq!(transcript.question_count(), DMARC_WALK_QUERIES_MAX);
    transcript.clear();
    ask_walk(&author, &DmarcOptions::default(), &mut Answers::new(&mut transcript, &mut NoSource));
    assert_eq!(questions(&transcript), ["_dmarc.a.b.c.d.e.f.g.h.i.j.example.com TXT"]);
}

#[test]
fn existence_is_asked_only_where_np_depends_on_it() {
    let np = "v=DMARC1; p=none; sp=quarantine; np=reject";
    let options = DmarcOptions::default();
    for (more, policy, asks) in [
        (("x.example", ""), Disposition::Reject, true),
        (("a.example.com", "hello"), Disposition::Quarantine, true),
        // What stands at or below _dmarc of the author proves that it exists.
        (("_dmarc.a.example.com", "hello"), Disposition::Quarantine, false),
        (("x._dmarc.a.example.com", "hello"), Disposition::Quarantine, false),
    ] {
        let zone = Zone::of(&[("_dmarc.example.com", np), more]);
        let (outcome, asked) = judge(&zone, "a.example.com", "evil.test", &options);
        assert_eq!((outcome.disposition, asked.contains(&"a.example.com A".to_owned())), (policy, asks), "{more:?}");
    }
    let zone = Zone::of(&[("_dmarc.example.com", np), ("a.example.com", "FAIL")]);
    let (failed, _) = judge(&zone, "a.example.com", "evil.test", &options);
    assert_eq!((failed.result, failed.problem), (DmarcResult::TempError, Some(DmarcProblem::ExistenceLookupFailed)));
    let (passed, _) = judge(&zone, "a.example.com", "a.example.com", &options);
    assert_eq!((passed.result, passed.policy), (DmarcResult::Pass, None));
}

#[test]
fn an_error_counts_only_where_a_pass_depends_on_it() {
    let zone = Zone::of(&[("_dmarc.example.com", REJECT), ("_dmarc.com", "FAIL")]);
    let from = Author::One(name("example.com"));
    let result = |spf: (&str, SpfResult), dkim: &[(&str, DkimResult)], options: &DmarcOptions| {
        let dkim: Vec<_> = dkim.iter().map(|(domain, result)| (name(domain), *result)).collect();
        let domain = name(spf.0);
        let identifiers = Identifiers { author: &from, spf: Some((&domain, spf.1)), dkim: &dkim };
        let outcome = at_hand(&zone, |answers| evaluate(&identifiers, options, answers)).0;
        (outcome.result, outcome.disposition)
    };
    let (temp, fail) = ((DmarcResult::TempError, Disposition::None), (DmarcResult::Fail, Disposition::Reject));
    let pass = (DmarcResult::Pass, Disposition::None);
    let options = DmarcOptions::default();
    assert_eq!(result(("example.com", SpfResult::TempError), &[], &options), temp);
    assert_eq!(result(("example.net", SpfResult::TempError), &[], &options), fail);
    assert_eq!(result(("example.com", SpfResult::PermError), &[], &options), fail);
    // The walk fails, so neither can be told apart from an aligned one.
    assert_eq!(result(("a.example.com", SpfResult::Pass), &[], &options), temp);
    assert_eq!(result(("example.net", SpfResult::Pass), &[("other.com", DkimResult::TempError)], &options), temp);
    assert_eq!(result(("example.com", SpfResult::TempError), &[("example.com", DkimResult::Pass)], &options), pass);
    let decided = DmarcOptions { mechanism_errors_fail: true, ..options };
    assert_eq!(result(("example.com", SpfResult::TempError), &[], &decided), fail);
    assert_eq!(result(("a.example.com", SpfResult::Pass), &[], &decided), temp);
}

#[test]
fn rfc_7489_mode_goes_by_the_public_suffix_list() {
    let options = DmarcOptions { discovery: Discovery::PublicSuffixList, ..DmarcOptions::default() };
    let zone = Zone::of(&[
        ("_dmarc.example.co.uk", "v=DMARC1; p=reject; sp=quarantine; np=none; t=y; psd=n"),
        ("_dmarc.two.example.co.uk", REJECT),
        ("_dmarc.two.example.co.uk", REJECT),
    ]);
    let (outcome, asked) = judge(&zone, "a.b.example.co.uk", "c.example.co.uk", &options);
    assert_eq!(asked, ["_dmarc.a.b.example.co.uk TXT", "_dmarc.example.co.uk TXT"]);
    assert_eq!((outcome.result, outcome.spf_aligned), (DmarcResult::Pass, Some(Alignment::Relaxed)));
    assert_eq!((outcome.policy, outcome.applies), (Some(Disposition::Quarantine), Some(PolicyTag::Sp)));
    assert_eq!((outcome.discovery.word(), outcome.testing), ("psl", false));
    assert_eq!(outcome.organizational_domain, Some(name("example.co.uk")));
    let (several, _) = judge(&zone, "two.example.co.uk", "example.co.uk", &options);
    assert_eq!((several.result, several.problem), (DmarcResult::None, Some(DmarcProblem::SeveralRecords)));
}

#[test]
fn several_authors_stop_or_are_judged_by_the_strictest() {
    let zone = Zone::of(&[("_dmarc.a.example", "v=DMARC1; p=quarantine"), ("_dmarc.b.example", REJECT)]);
    let (spf, strictest) = (name("a.example"), DmarcOptions { strictest_of_several: true, ..DmarcOptions::default() });
    let judge = |domains: &[&str], options: &DmarcOptions| {
        let author = Author::Several(domains.iter().map(|it| name(it)).collect());
        let identifiers = Identifiers { author: &author, spf: Some((&spf, SpfResult::Pass)), dkim: &[] };
        let outcome = at_hand(&zone, |answers| evaluate(&identifiers, options, answers)).0;
        (outcome.result, outcome.from_domain, outcome.disposition, outcome.problem)
    };
    let none = Disposition::None;
    assert_eq!(
        judge(&["a.example", "b.example"], &DmarcOptions::default()),
        (DmarcResult::PermError, None, none, Some(DmarcProblem::SeveralAuthors))
    );
    assert_eq!(
        judge(&["a.example", "b.example"], &strictest),
        (DmarcResult::Fail, Some(name("b.example")), Disposition::Reject, None)
    );
    // One that nobody answers for takes the pass away.
    assert_eq!(
        judge(&["a.example", "c.example"], &strictest),
        (DmarcResult::None, Some(name("c.example")), none, Some(DmarcProblem::NoRecord))
    );
    let many = ["b.example", "c.example", "d.example", "e.example", "f.example"];
    assert_eq!(judge(&many[..DMARC_AUTHOR_DOMAINS_MAX], &strictest).0, DmarcResult::Fail);
    assert_eq!(
        judge(&many[..=DMARC_AUTHOR_DOMAINS_MAX], &strictest),
        (DmarcResult::PermError, None, none, Some(DmarcProblem::TooManyAuthors))
    );
}

#[test]
fn no_author_no_question() {
    let author = Author::Unusable(AuthorProblem::Nul);
    let identifiers = Identifiers { author: &author, spf: None, dkim: &[] };
    let (outcome, transcript) =
        at_hand(&Zone::default(), |answers| evaluate(&identifiers, &DmarcOptions::default(), answers));
    assert_eq!((outcome.result, outcome.problem.map(DmarcProblem::word)), (DmarcResult::PermError, Some("from-nul")));
    assert_eq!(transcript.question_count(), 0);
}

#[test]
fn names_too_long_for_a_record_are_passed_over() {
    let long = format!("{0}.{0}.{0}.{1}.com", "a".repeat(63), "b".repeat(57));
    let zone = Zone::of(&[("_dmarc.com", REJECT)]);
    let (outcome, asked) = judge(&zone, &long, "example.net", &DmarcOptions::default());
    assert_eq!((outcome.policy_domain, asked.len()), (Some(name("com")), 4));
}

#[test]
fn reports_leave_the_organization_only_with_consent() {
    let zone = Zone::of(&[
        ("_dmarc.example.com", REJECT),
        ("example.com._report._dmarc.yes.example", "v=DMARC1"),
        ("example.com._report._dmarc.moved.example", "v=DMARC1; rua=mailto:x@moved.example,mailto:y@moved.example"),
        ("example.com._report._dmarc.away.example", "v=DMARC1; rua=mailto:x@elsewhere.example"),
        ("example.com._report._dmarc.broken.example", "v=DMARC1; nonsense"),
        ("example.com._report._dmarc.slow.example", "FAIL"),
    ]);
    let to = |uri: &str, kind: ReportKind| {
        let uri = mailproof_proto::dmarc::record::ReportUri::parse(uri).unwrap();
        let options = DmarcOptions::default();
        at_hand(&zone, |answers| report_destination(&uri, kind, &name("example.com"), &options, answers)).0
    };
    let moved = Destination::Replaced(vec!["mailto:x@moved.example".into(), "mailto:y@moved.example".into()]);
    for (uri, destination) in [
        ("mailto:a@example.com", Destination::AsListed),
        ("mailto:a@reports.example.com", Destination::AsListed),
        ("mailto:a@yes.example", Destination::AsListed),
        ("mailto:a@moved.example", moved),
        ("mailto:a@away.example", Destination::Refused),
        ("mailto:a@broken.example", Destination::Refused),
        ("mailto:a@absent.example", Destination::Refused),
        ("mailto:a@slow.example", Destination::Unknown(Failure::TimedOut)),
    ] {
        assert_eq!(to(uri, ReportKind::Aggregate), destination, "{uri}");
    }
    assert_eq!(to("mailto:a@moved.example", ReportKind::Failure), Destination::AsListed);
}

/// RFC 9989 sections 4.10, 4.10.1 and 4.10.2 word by word, over texts.
mod plain {
    use super::{BTreeMap, Disposition, Record, Zone};

    /// The record at a name by section 4.10 steps 2 and 6; an error when the question fails.
    fn record(zone: &Zone, name: &str) -> Result<Option<Record>, ()> {
        let texts = zone.0.get(&format!("_dmarc.{name}")).cloned().unwrap_or_default();
        if texts.iter().any(|text| text == "FAIL") {
            return Err(());
        }
        let mut records: Vec<Record> = texts.iter().filter_map(|text| Record::read(text.as_bytes())).collect();
        Ok(if records.len() == 1 { records.pop() } else { None })
    }

    fn tag(record: &Record) -> char {
        match record.psd {
            mailproof_proto::dmarc::record::Psd::Yes => 'y',
            mailproof_proto::dmarc::record::Psd::No => 'n',
            mailproof_proto::dmarc::record::Psd::Unspecified => 'u',
        }
    }

    type Set = Vec<(Vec<String>, Record)>;

    fn labels(name: &str) -> Vec<String> {
        name.split('.').map(str::to_owned).collect()
    }

    pub(super) fn walk(zone: &Zone, start: &str) -> Result<Set, ()> {
        let mut found = Vec::new();
        let mut target = labels(start);
        let mut is_first = true;
        while !target.is_empty() {
            if let Some(record) = record(zone, &target.join("."))? {
                let ends = tag(&record) != 'u';
                found.push((target.clone(), record));
                if ends {
                    break;
                }
            }
            let remove = if is_first && target.len() >= 8 { target.len() - 7 } else { 1 };
            target.drain(..remove);
            is_first = false;
        }
        Ok(found)
    }

    pub(super) fn organization(start: &str, found: &Set) -> String {
        let start = labels(start);
        for (at, record) in found {
            if tag(record) == 'n' {
                return at.join(".");
            }
            if tag(record) == 'y' && *at != start {
                return start[start.len() - at.len() - 1..].join(".");
            }
        }
        let fewest = found.iter().min_by_key(|(at, _)| at.len());
        fewest.map_or(start, |(at, _)| at.clone()).join(".")
    }

    /// Policy domain and policy; `Ok(None)` without one, an error when a question fails.
    pub(super) fn policy(zone: &Zone, author: &str) -> Result<Option<(String, Disposition)>, ()> {
        let own = record(zone, author)?;
        let (at, record) = match own {
            Some(record) => (author.to_owned(), record),
            None => {
                let found = walk(zone, author)?;
                let by_name: BTreeMap<String, Record> =
                    found.iter().map(|(at, record)| (at.join("."), record.clone())).collect();
                let organization = organization(author, &found);
                let psd = by_name.iter().find(|(_, record)| tag(record) == 'y');
                match by_name.get_key_value(&organization).or(psd) {
                    Some((at, record)) => (at.clone(), record.clone()),
                    None => return Ok(None),
                }
            }
        };
        let policy = if at == author { record.policy() } else { record.policy_below(zone.exists(author)) };
        Ok(policy.map(|(policy, _)| {
            let lowered = match policy {
                Disposition::Reject => Disposition::Quarantine,
                _ => Disposition::None,
            };
            (at, if record.testing { lowered } else { policy })
        }))
    }
}

fn record_text() -> impl Strategy<Value = String> {
    const TEXTS: &[&str] = &[
        "v=DMARC1; p=reject",
        "v=DMARC1; p=quarantine; sp=none",
        "v=DMARC1; p=none; np=reject",
        "v=DMARC1; p=reject; psd=y",
        "v=DMARC1; p=none; sp=reject; np=quarantine; psd=y",
        "v=DMARC1; p=quarantine; psd=n",
        "v=DMARC1; p=reject; t=y",
        "v=DMARC1; p=bogus",
        "v=DMARC1; p=bogus; rua=mailto:a@b.example",
        "v=dmarc1; p=reject",
        "v=spf1 -all",
        "FAIL",
    ];
    proptest::sample::select(TEXTS).prop_map(str::to_owned)
}

/// Domains of few labels from few words, so that they meet.
fn domain_text() -> impl Strategy<Value = String> {
    let label = proptest::sample::select(&["a", "b"][..]);
    proptest::collection::vec(label, 1..11).prop_map(|labels| labels.join("."))
}

prop_compose! {
    fn zones()(
        entries in proptest::collection::vec((domain_text(), any::<bool>(), record_text()), 0..8),
        common in domain_text(),
        near in proptest::collection::vec((0..8_usize, record_text()), 0..5),
    ) -> (Zone, String) {
        let mut zone = Zone::default();
        for (domain, is_record, text) in entries {
            let name = if is_record { format!("_dmarc.{domain}") } else { domain };
            zone.0.entry(name).or_default().push(text);
        }
        for (skip, text) in near {
            let labels: Vec<&str> = common.split('.').collect();
            let domain = labels[skip % labels.len()..].join(".");
            zone.0.entry(format!("_dmarc.{domain}")).or_default().push(text);
        }
        (zone, common)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn walks_agree_with_the_plain_reading((zone, domain) in zones()) {
        let options = DmarcOptions::default();
        let (found, transcript) = at_hand(&zone, |answers| organizational_domain(&name(&domain), &options, answers));
        let expected = plain::walk(&zone, &domain).map(|found| name(&plain::organization(&domain, &found)));
        prop_assert_eq!(found.map_err(|_| ()), expected);
        prop_assert!(transcript.question_count() <= DMARC_WALK_QUERIES_MAX);
    }

    /// The policy, and with an SPF pass the alignment, follow the plain reading unless a question that failed is in the
    /// way; no order of answers, and no asking ahead, changes anything.
    #[test]
    fn outcomes_agree_with_the_plain_reading(
        (zone, author) in zones(),
        spf in domain_text(),
        below in proptest::option::of(domain_text()),
        choices in proptest::collection::vec(any::<usize>(), 1..8),
    ) {
        let spf = below.map_or(spf, |below| format!("{below}.{author}"));
        let (from, spf_name) = (Author::One(name(&author)), name(&spf));
        let identifiers = Identifiers { author: &from, spf: Some((&spf_name, SpfResult::Pass)), dkim: &[] };
        let options = DmarcOptions::default();
        let (outcome, transcript) = at_hand(&zone, |answers| evaluate(&identifiers, &options, answers));
        let of_txt = transcript.iter().filter(|(question, _)| question.kind == RecordType::Txt).count();
        prop_assert!(of_txt <= 2 * DMARC_WALK_QUERIES_MAX && transcript.question_count() <= of_txt + 1);
        for ask_ahead in [false, true] {
            let options = DmarcOptions { ask_ahead, ..options.clone() };
            let (again, _) = one_by_one(&zone, &choices, |answers| evaluate(&identifiers, &options, answers));
            prop_assert_eq!(&again, &outcome, "ask_ahead {}", ask_ahead);
        }
        let aligned = || {
            let own = plain::organization(&author, &plain::walk(&zone, &author)?);
            Ok::<bool, ()>(own == plain::organization(&spf, &plain::walk(&zone, &spf)?))
        };
        match plain::policy(&zone, &author) {
            Err(()) => prop_assert_eq!(outcome.result, DmarcResult::TempError),
            Ok(None) => prop_assert_eq!((outcome.result, outcome.disposition), (DmarcResult::None, Disposition::None)),
            Ok(Some((at, policy))) => {
                prop_assert_eq!(outcome.policy_domain, Some(name(&at)));
                let knows_existence = !zone.0.get(&author).is_some_and(|texts| texts.contains(&"FAIL".to_owned()));
                if knows_existence {
                    prop_assert_eq!(outcome.policy, Some(policy));
                }
                let result = match aligned() {
                    _ if author == spf => DmarcResult::Pass,
                    Ok(true) => DmarcResult::Pass,
                    Ok(false) => DmarcResult::Fail,
                    Err(()) => DmarcResult::TempError,
                };
                // Where the plain reading stumbles over a walk that decides nothing, a definite result is right too.
                let is_right = outcome.result == result
                    || (result == DmarcResult::TempError && outcome.result == DmarcResult::Fail)
                    || (outcome.result == DmarcResult::TempError && !knows_existence);
                prop_assert!(is_right, "{:?} instead of {:?}", outcome, result);
            }
        }
    }

    /// Any octets read as a record or not; and what is said about it fits what is made of it.
    #[test]
    fn records_of_any_octets(
        octets in proptest::collection::vec(any::<u8>(), 0..64),
        pieces in proptest::collection::vec(
            proptest::sample::select(&[
                "p", "sp", "np", "rua", "fo", "=", "=", ";", ";", " ", "none", "reject", "mailto:a@b.example", "!1m", ",",
                "0", ":", "pct", "\u{fc}",
            ][..]),
            0..24,
        ),
    ) {
        for text in [octets.clone(), [b"v=DMARC1;".as_slice(), &octets].concat(), format!("v=DMARC1;{}", pieces.concat()).into()] {
            let words: Vec<_> = lint(&text).iter().map(|finding| finding.kind.word()).collect();
            let record = Record::read(&text);
            prop_assert_eq!(words == ["not-dmarc"], record.is_none());
            let is_unusable = record.as_ref().is_some_and(|record| record.request == Request::Unusable);
            prop_assert_eq!(words.contains(&"unusable"), is_unusable);
            let again: Vec<u8> = tags(&text)
                .map(|tag| [tag.name, tag.value.map_or(&b""[..], |_| b"="), tag.value.unwrap_or_default()].concat())
                .collect::<Vec<_>>()
                .join(&b';');
            if record.is_some() {
                prop_assert_eq!(Record::read(&again), record);
            }
        }
    }
}
