use proptest::prelude::*;

use super::*;

const QUIET: QueryOptions =
    QueryOptions { edns_payload_bytes: Some(1232), authentic_data: false, case_seed: None, pads: false };

fn n(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn txt_question(text: &str) -> Question {
    Question::new(n(text), RecordType::Txt)
}

fn texts(list: &[&str]) -> RecordSet {
    RecordSet::Txt(list.iter().map(|text| Txt(text.as_bytes().into())).collect())
}

fn query(question: &Question) -> Vec<u8> {
    write_query(7, question, &QUIET, &mut [0; QUERY_BYTES_MAX]).to_vec()
}

fn writer(question: &Question) -> ReplyWriter {
    ReplyWriter::new(&Query::read(&query(question)).unwrap())
}

fn read_txt(name: &str, fill: impl FnOnce(&mut ReplyWriter)) -> Reply {
    let question = txt_question(name);
    let mut reply = writer(&question);
    fill(&mut reply);
    read_reply(&reply.finish(), &question, None, false)
}

#[track_caller]
fn answer(reply: Reply) -> Answer {
    let Reply::Answer(answer) = reply else { panic!("{reply:?}") };
    answer
}

#[track_caller]
fn assert_answer(reply: Reply, outcome: &Outcome, ttl_seconds: Option<u32>) {
    let answer = answer(reply);
    assert_eq!((answer.outcome(), answer.ttl_seconds()), (outcome, ttl_seconds));
}

#[test]
fn a_query_is_what_the_rfcs_say() {
    let question = Question::new(n("a.bc"), RecordType::Mx);
    let options = QueryOptions { authentic_data: true, ..QUIET };
    let mut room = [0; QUERY_BYTES_MAX];
    let it = write_query(0x1234, &question, &options, &mut room);
    assert_eq!(
        it,
        b"\x12\x34\x01\x20\0\x01\0\0\0\0\0\x01\x01a\x02bc\0\0\x0f\0\x01\0\0\x29\x04\xd0\0\0\0\0\0\0".as_slice()
    );
    let plain = QueryOptions { edns_payload_bytes: None, ..QUIET };
    assert_eq!(
        write_query(0x1234, &question, &plain, &mut room),
        b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x01a\x02bc\0\0\x0f\0\x01"
    );
    let label = "a".repeat(63);
    let longest = txt_question(&format!("{label}.{label}.{label}.{}", "a".repeat(61)));
    assert_eq!(query(&longest).len(), HEADER_BYTES + 255 + 4 + OPT_BYTES);
}

#[test]
fn padded_queries_are_of_few_lengths() {
    let padded = QueryOptions { pads: true, ..QUIET };
    for length in 1..=243 {
        let labels: Vec<String> = [63, 63, 63, 51]
            .into_iter()
            .scan(length, |left, most: usize| {
                let label = (*left).min(most);
                *left -= label;
                (label > 0).then(|| "a".repeat(label))
            })
            .collect();
        let question = txt_question(&labels.join("."));
        let mut room = [0xff; QUERY_BYTES_MAX];
        let it = write_query(7, &question, &padded, &mut room);
        let expected = (query(&question).len() + OPTION_HEADER_BYTES).next_multiple_of(PADDED_BYTES);
        assert_eq!(it.len(), expected, "{length}");
        // The option fills the record to the end of the message, with zeros.
        let message = Message::from_slice(it).unwrap();
        let opt = message.opt().unwrap();
        let options: Vec<_> = opt.opt().iter::<domain::base::opt::AllOptData<_, _>>().map(Result::unwrap).collect();
        let [domain::base::opt::AllOptData::Padding(padding)] = &options[..] else { panic!("{options:?}") };
        assert!(padding.as_slice().iter().all(|&octet| octet == 0));
        assert_eq!(Query::read(it).unwrap().question, question);
    }
}

#[test]
fn letter_case_follows_the_seed_and_nothing_else_changes() {
    let question = txt_question("a1-_.abcdefghijklmnopqrstuvwxyz.example");
    let of_seed = |seed| {
        let options = QueryOptions { case_seed: Some(seed), ..QUIET };
        write_query(7, &question, &options, &mut [0; QUERY_BYTES_MAX]).to_vec()
    };
    assert_eq!(of_seed(1), of_seed(1));
    assert_ne!(of_seed(1), of_seed(2));
    assert!(of_seed(1).eq_ignore_ascii_case(&query(&question)));
    assert_eq!(Query::read(&of_seed(1)).unwrap().question, question);
}

#[test]
fn replies_match_by_id_and_question() {
    let question = txt_question("a.example");
    let asked = query(&question);
    let reply = writer(&question).finish();
    let changed = |at: usize, octet: u8| {
        let mut reply = reply.clone();
        reply[at] = octet;
        matches(&asked, &reply)
    };
    assert_eq!(matches(&asked, &reply), Match::Exact);
    assert_eq!(changed(13, b'A'), Match::OtherCase);
    assert_eq!(changed(13, b'b'), Match::No);
    assert_eq!(changed(1, 8), Match::No, "ID");
    assert_eq!(changed(2, 0x01), Match::No, "a query");
    assert_eq!(changed(2, 0x91), Match::No, "opcode");
    assert_eq!(changed(5, 2), Match::No, "two questions");
    assert_eq!(changed(24, 17), Match::No, "type");
    assert_eq!(changed(26, 3), Match::No, "class");
    for len in 0..reply.len() {
        assert_eq!(matches(&asked, &reply[..len]), Match::No, "{len}");
    }
    // A NUL in a label does not end the name.
    let (odd, other) = (txt_question("a\0b.example"), txt_question("a\0c.example"));
    assert_eq!(matches(&query(&odd), &writer(&odd).finish()), Match::Exact);
    assert_eq!(matches(&query(&odd), &writer(&other).finish()), Match::No);
    let header_only = |rcode: u8| [&reply[..3], &[0x80 | rcode, 0, 0, 0, 0, 0, 0, 0, 0]].concat();
    assert_eq!(matches(&asked, &header_only(1)), Match::ErrorOnly);
    assert_eq!(matches(&asked, &header_only(0)), Match::No);
    assert_eq!(matches(&asked, &header_only(3)), Match::No);
}

#[test]
fn only_records_on_the_chain_count() {
    let reply = read_txt("a.example", |reply| {
        // Out of order, with other names, another class in between; a text that came twice is two.
        reply.records(Section::Answer, &n("c.example"), &texts(&["it", "it", "also"]), 50);
        reply.records(Section::Answer, &n("victim.example"), &texts(&["forged"]), 1);
        reply.alias(&n("b.example"), &n("C.example"), 40);
        reply.alias(&n("x.example"), &n("victim.example"), 1);
        reply.alias(&n("a.example"), &n("b.example"), 60);
        reply.records(Section::Authority, &n("c.example"), &texts(&["authority"]), 1);
        reply.records(Section::Additional, &n("c.example"), &texts(&["additional"]), 1);
    });
    assert_answer(reply, &Outcome::Records(texts(&["also", "it", "it"])), Some(40));
}

#[test]
fn ttls_are_the_lowest_and_the_top_bit_makes_a_large_one() {
    let reply = read_txt("a.example", |reply| {
        reply.records(Section::Answer, &n("a.example"), &texts(&["1"]), 0x8000_0000);
        reply.records(Section::Answer, &n("a.example"), &texts(&["2"]), 0x7fff_ffff);
    });
    assert_answer(reply, &Outcome::Records(texts(&["1", "2"])), Some(0x7fff_ffff));
    let reply = read_txt("a.example", |reply| {
        reply.records(Section::Answer, &n("a.example"), &texts(&["1"]), 9);
        reply.records(Section::Answer, &n("a.example"), &texts(&["2"]), 8);
    });
    assert_answer(reply, &Outcome::Records(texts(&["1", "2"])), Some(8));
}

#[test]
fn negative_answers_live_as_long_as_their_soa_says() {
    let negative = |rcode: u8, owner: &str, ttl, minimum| {
        let question = txt_question("a.b.example");
        let mut reply = writer(&question).rcode(rcode);
        reply.soa(&n(owner), ttl, minimum);
        read_reply(&reply.finish(), &question, None, false)
    };
    assert_answer(negative(0, "b.example", 100, 60), &Outcome::NoData, Some(60));
    assert_answer(negative(3, "example", 60, 100), &Outcome::NxDomain, Some(60));
    assert_answer(negative(3, "a.b.example", 60, 0), &Outcome::NxDomain, Some(0));
    assert_answer(negative(3, "other.example", 60, 60), &Outcome::NxDomain, None);
    assert_answer(read_txt("a.example", |_| ()), &Outcome::NoData, None);
}

#[test]
fn no_such_name_after_an_alias_is_the_last_name() {
    let question = txt_question("a.example");
    let mut reply = writer(&question).rcode(3);
    reply.alias(&n("a.example"), &n("gone.test"), 30);
    reply.soa(&n("test"), 90, 90);
    let answer = answer(read_reply(&reply.finish(), &question, None, false));
    assert_eq!((answer.outcome(), answer.ttl_seconds()), (&Outcome::NxDomain, Some(30)));
    assert_eq!(answer.denied_name(), Some(&n("gone.test")));
    // A name can not both have the record and not exist.
    let mut reply = writer(&question).rcode(3);
    reply.records(Section::Answer, &n("a.example"), &texts(&["it"]), 30);
    assert!(matches!(read_reply(&reply.finish(), &question, None, false), Reply::Malformed));
}

#[test]
fn an_alias_without_its_target_is_asked_on() {
    let reply = read_txt("a.example", |reply| reply.alias(&n("a.example"), &n("b.example"), 30));
    let Reply::Alias(links) = reply else { panic!("{reply:?}") };
    assert_eq!((links.target(), links.count()), (&n("b.example"), 1));
    let next = txt_question("b.example");
    let mut reply = writer(&next);
    reply.records(Section::Answer, &n("b.example"), &texts(&["it"]), 90);
    let reply = read_reply(&reply.finish(), &next, Some(&links), false);
    assert_answer(reply, &Outcome::Records(texts(&["it"])), Some(30));
    // The target has no such records; nothing more to ask.
    assert_answer(read_reply(&writer(&next).finish(), &next, Some(&links), false), &Outcome::NoData, None);
    // Back to where it began, over two messages.
    let mut reply = writer(&next);
    reply.alias(&n("b.example"), &n("a.example"), 30);
    assert_answer(read_reply(&reply.finish(), &next, Some(&links), false), &Outcome::NoData, None);
}

#[test]
fn chains_have_an_end() {
    let chain = |links: usize| {
        read_txt("c0.example", |reply| {
            let name = |index: usize| n(&format!("c{index}.example"));
            for index in 0..links {
                reply.alias(&name(index), &name(index + 1), 30);
            }
            reply.records(Section::Answer, &name(links), &texts(&["end"]), 30);
        })
    };
    assert_answer(chain(8), &Outcome::Records(texts(&["end"])), Some(30));
    assert!(matches!(chain(9), Reply::OverLimit));
    assert!(matches!(chain(1000), Reply::OverLimit));
    let reply = read_txt("a.example", |reply| {
        reply.alias(&n("a.example"), &n("b.example"), 30);
        reply.alias(&n("b.example"), &n("a.example"), 30);
    });
    assert_answer(reply, &Outcome::NoData, None);
    let two_targets = |second: &str| {
        read_txt("a.example", |reply| {
            reply.alias(&n("a.example"), &n("b.example"), 30);
            reply.alias(&n("a.example"), &n(second), 30);
            reply.records(Section::Answer, &n("b.example"), &texts(&["it"]), 30);
        })
    };
    assert!(matches!(two_targets("c.example"), Reply::Malformed));
    assert_answer(two_targets("b.example"), &Outcome::Records(texts(&["it"])), Some(30));
}

#[test]
fn errors_are_told_apart() {
    let question = txt_question("a.example");
    let of = |rcode: u8, opt: Option<u8>| {
        let mut reply = writer(&question).rcode(rcode);
        if let Some(extended) = opt {
            reply.opt(1232, extended);
        }
        let reply = read_reply(&reply.finish(), &question, None, false);
        let Reply::Error(error) = reply else { panic!("{reply:?}") };
        error
    };
    assert_eq!(of(1, None), ServerError::NoEdns);
    assert_eq!(of(4, None), ServerError::NoEdns);
    assert_eq!(of(1, Some(0)), ServerError::Refused);
    assert_eq!(of(0, Some(1)), ServerError::NoEdns, "BADVERS");
    assert_eq!(of(2, Some(0)), ServerError::ServFail);
    assert_eq!(of(3, Some(1)), ServerError::Refused, "an extended RCODE is not NXDOMAIN");
    assert_eq!(of(5, None), ServerError::Refused);
    let mut twice = writer(&question);
    twice.opt(1232, 0);
    twice.opt(1232, 0);
    assert!(matches!(read_reply(&twice.finish(), &question, None, false), Reply::Malformed));
    let mut referral = writer(&question).clear_bits(0x80);
    referral.record(Section::Authority, &n("example"), 2, 9, n("ns.example").wire());
    let reply = read_reply(&referral.finish(), &question, None, false);
    assert!(matches!(reply, Reply::Error(ServerError::Refused)), "{reply:?}");
    let truncated = read_reply(&writer(&question).set_bits(0x200).finish(), &question, None, false);
    assert!(matches!(truncated, Reply::Truncated));
}

#[test]
fn the_ad_bit_counts_only_where_it_is_trusted() {
    let question = txt_question("a.example");
    let of = |bits, trusts_ad| {
        answer(read_reply(&writer(&question).set_bits(bits).finish(), &question, None, trusts_ad)).authentic()
    };
    assert_eq!(of(0x20, false), None);
    assert_eq!(of(0x20, true), Some(true));
    assert_eq!(of(0, true), Some(false));
}

#[test]
fn data_that_disagrees_with_its_length_is_malformed() {
    let of = |kind: RecordType, data: &[u8]| {
        let question = Question::new(n("a.example"), kind);
        let mut reply = writer(&question);
        reply.record(Section::Answer, &question.name, kind.code(), 9, data);
        read_reply(&reply.finish(), &question, None, false)
    };
    // The first is CVE-2008-2469.
    for data in [&b"\xffvsf1"[..], b"", b"\x02a", b"\x01ab", b"\x01a\x05b"] {
        assert!(matches!(of(RecordType::Txt, data), Reply::Malformed), "{data:?}");
    }
    assert_answer(of(RecordType::Txt, b"\0"), &Outcome::Records(texts(&[""])), Some(9));
    assert_answer(of(RecordType::Txt, b"\x02ab\0\x01c"), &Outcome::Records(texts(&["abc"])), Some(9));
    for (kind, data) in [
        (RecordType::A, &b"\x01\x02\x03"[..]),
        (RecordType::A, b"\x01\x02\x03\x04\x05"),
        (RecordType::Aaaa, &[0; 15]),
        (RecordType::Mx, b"\0\x01"),
        (RecordType::Mx, b"\0\x01\x01a\0\0"),
        (RecordType::Ptr, b"\x01a"),
        (RecordType::Ptr, b"\xc0\xff"),
    ] {
        assert!(matches!(of(kind, data), Reply::Malformed), "{kind} {data:?}");
    }
    let null_mx = RecordSet::Mx([Mx { preference: 0, exchange: None }].into());
    assert_answer(of(RecordType::Mx, b"\0\0\0"), &Outcome::Records(null_mx), Some(9));
    assert_answer(of(RecordType::Ptr, b"\0"), &Outcome::NoData, None);
}

#[test]
fn names_may_be_compressed_but_not_in_circles() {
    let question = txt_question("a.example");
    let with_owner = |owner: &[u8]| {
        let mut reply = writer(&question).finish();
        reply[7] = 1;
        reply.extend_from_slice(owner);
        reply.extend_from_slice(b"\0\x10\0\x01\0\0\0\x09\0\x02\x01x");
        read_reply(&reply, &question, None, false)
    };
    assert_answer(with_owner(b"\xc0\x0c"), &Outcome::Records(texts(&["x"])), Some(9));
    assert_answer(with_owner(b"\x01A\xc0\x0e"), &Outcome::Records(texts(&["x"])), Some(9));
    // Itself; forward; a label type that is not defined.
    for owner in [&b"\xc0\x1b"[..], b"\xc0\x1d", b"\xc0\xff", b"\x40a\0"] {
        assert!(matches!(with_owner(owner), Reply::Malformed), "{owner:?}");
    }
}

#[test]
fn the_bound_on_records_holds_on_both_sides() {
    let question = Question::new(n("a.example"), RecordType::A);
    let of = |count: u32| {
        let mut reply = writer(&question).finish();
        reply[6..8].copy_from_slice(&(count as u16).to_be_bytes());
        for index in 0..count {
            reply.extend_from_slice(b"\xc0\x0c\0\x01\0\x01\0\0\0\x09\0\x04");
            reply.extend_from_slice(&index.to_be_bytes());
        }
        read_reply(&reply, &question, None, false)
    };
    let most = ANSWER_RECORDS_MAX as u32;
    assert!(matches!(of(most), Reply::Answer(_)));
    assert!(matches!(of(most + 1), Reply::OverLimit));
}

fn any_name() -> impl Strategy<Value = Name> {
    prop::collection::vec("[a-c]{1,3}", 1..4).prop_map(|labels| n(&labels.join(".")))
}

fn any_records() -> impl Strategy<Value = RecordSet> {
    let size = 1..6;
    prop_oneof![
        prop::collection::vec(any::<[u8; 4]>(), size.clone())
            .prop_map(|list| RecordSet::A(set(list.into_iter().map(Into::into).collect()))),
        prop::collection::vec(any::<[u8; 16]>(), size.clone())
            .prop_map(|list| RecordSet::Aaaa(set(list.into_iter().map(Into::into).collect()))),
        prop::collection::vec((any::<u16>(), prop::option::of(any_name())), size.clone()).prop_map(|list| {
            let mx = list.into_iter().map(|(preference, exchange)| Mx { preference, exchange });
            RecordSet::Mx(set(mx.collect()))
        }),
        prop::collection::vec(any_name(), size.clone()).prop_map(|list| RecordSet::Ptr(set(list))),
        prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), size)
            .prop_map(|list| RecordSet::Txt(set(list.into_iter().map(|text| Txt(text.into())).collect()))),
    ]
}

fn kind_of(records: &RecordSet) -> RecordType {
    match records {
        RecordSet::A(_) => RecordType::A,
        RecordSet::Aaaa(_) => RecordType::Aaaa,
        RecordSet::Mx(_) => RecordType::Mx,
        RecordSet::Ptr(_) => RecordType::Ptr,
        RecordSet::Txt(_) => RecordType::Txt,
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(name in any_name(), alias in any_name(), records in any_records(), ttl in 0..i32::MAX as u32) {
        prop_assume!(name != alias);
        let question = Question::new(alias, kind_of(&records));
        let mut reply = writer(&question);
        reply.records(Section::Answer, &name, &records, ttl);
        reply.alias(&alias, &name, ttl);
        reply.opt(1232, 0);
        assert_answer(read_reply(&reply.finish(), &question, None, false), &Outcome::Records(records), Some(ttl));
    }

    /// Whatever a damaged message says, records that are not its own are never made up.
    #[test]
    fn damage_never_panics_and_never_adds(
        records in any_records(),
        damage in prop::collection::vec((12_usize..400, any::<u8>()), 0..4),
        cut in prop::option::of(0_usize..400),
    ) {
        let question = Question::new(n("a.example"), kind_of(&records));
        let mut reply = writer(&question);
        reply.records(Section::Answer, &question.name, &records, 9);
        reply.soa(&n("example"), 9, 9);
        let mut reply = reply.finish();
        for (at, octet) in damage {
            if let Some(it) = reply.get_mut(at) {
                *it = octet;
            }
        }
        reply.truncate(cut.unwrap_or(reply.len()));
        let _ = matches(&query(&question), &reply);
        let _ = read_reply(&reply, &question, None, true);
        let _ = Query::read(&reply);
    }

    /// Comparing in place says what comparing whole names says.
    #[test]
    fn names_compare_as_whole_names_do(mine in any_name(), theirs in any_name()) {
        let parsed = ParsedName::parse_ref(&mut octets_parser(theirs.wire())).unwrap();
        prop_assert_eq!(is_name(&parsed, &mine), mine == theirs);
        prop_assert_eq!(is_at_or_below(&mine, &parsed), mine.is_at_or_below(&theirs));
    }
}

fn octets_parser(octets: &[u8]) -> domain::dep::octseq::Parser<'_, [u8]> {
    domain::dep::octseq::Parser::from_ref(octets)
}
