//! The Author Domain of From fields that readers take in different ways (RFC 5322 section 3.4, RFC 6854, RFC 9989
//! sections 4.2, 5.3.1 and 11.5).

use mailproof_proto::dns::Name;
use mailproof_proto::limits::{
    DMARC_AUTHOR_DOMAINS_MAX, FROM_ADDRESSES_MAX, HEADER_BLOCK_BYTES_MAX, HEADER_FIELD_BYTES_MAX,
};
use mailproof_proto::message::HeaderIndex;
use mailproof_proto::message::address::{Author, AuthorProblem, addresses, author};
use proptest::prelude::*;

/// What must come out of a header block.
enum Expect {
    One(&'static str),
    Several(&'static [&'static str]),
    Unusable(&'static str),
}
use Expect::{One, Several, Unusable};

/// The one From field of the message, by what is odd about it.
const VALUES: &[(&str, &[u8], Expect)] = &[
    ("plain", b"a@ok.example", One("ok.example")),
    ("angle", b"Ann Other <a@ok.example>", One("ok.example")),
    ("no white space", b"=?UTF-8?B?QmVk?=<a&b@OK.example>", One("ok.example")),
    ("dots in the display name", b"John Q. Public <a@ok.example>", One("ok.example")),
    ("comma in a quoted display name", b"\"Test, User\" <a@ok.example>", One("ok.example")),
    ("address in a quoted display name", b"\"b@evil.example\" <a@ok.example>", One("ok.example")),
    ("8-bit display name", b"M\xfcller <a@ok.example>", One("ok.example")),
    ("dots of old mobile carriers", b"a..b.@ok.example", One("ok.example")),
    ("folded", b"Ann\r\n Other\r\n\t<a@ok.example>\r\n ", One("ok.example")),
    ("fold of white space alone", b"\r\n \r\n a@ok.example", One("ok.example")),
    ("white space before the closing bracket", b" <a@ok.example > ", One("ok.example")),
    ("two addresses of one domain", b"a@ok.example, <b@OK.Example.>", One("ok.example")),
    ("two addresses", b"a@ok.example, b@evil.example", Several(&["ok.example", "evil.example"])),
    ("two addresses in brackets", b"<a@ok.example>,<b@evil.example>", Several(&["ok.example", "evil.example"])),
    ("bare address, then brackets", b"a@ok.example,<b@evil.example>", Several(&["ok.example", "evil.example"])),
    ("second without an address", b"a@ok.example, b, c@ok.example", Unusable("from-text-without-address")),
    ("empty elements", b"(only), <a@ok.example>, ,,", One("ok.example")),
    ("address as unquoted display name", b"a@ok.example <a@ok.example>", One("ok.example")),
    ("other address as display name", b"b@evil.example <a@ok.example>", Several(&["evil.example", "ok.example"])),
    ("group", b"group: a@ok.example;", One("ok.example")),
    ("group of two domains", b"group: a@ok.example, <b@evil.example>;", Several(&["ok.example", "evil.example"])),
    ("empty group", b"undisclosed:;", Unusable("from-no-address")),
    ("group and address", b"g:;, a@ok.example", One("ok.example")),
    ("group without end", b"group: a@ok.example", Unusable("from-unclosed-group")),
    ("group in a group", b"g: h: a@ok.example;;", Unusable("from-nested-group")),
    ("text after a group", b"g: a@ok.example; b", Unusable("from-text-around-address")),
    ("semicolon outside a group", b"a@ok.example; b@evil.example", Unusable("from-text-around-address")),
    ("quoted local-part with @", b"\"b@evil.example\"@ok.example", One("ok.example")),
    ("quoted local-part with a quote", b"<\"b\\\"@evil.example\"@ok.example>", One("ok.example")),
    ("quoted local-part with brackets", b"\"<b@evil.example>\"@ok.example", Unusable("from-bad-local-part")),
    ("quoted words before the address", b"\"( b@evil.example)\" a@ok.example", Unusable("from-text-around-address")),
    ("words before a bare address", b"Joe a@ok.example", Unusable("from-text-around-address")),
    ("quoted string without end", b"\"Joe <a@ok.example>", Unusable("from-unclosed-quote")),
    ("comment before", b"(Joe Johnson) a@ok.example", One("ok.example")),
    ("comment after", b"a@ok.example(comment)", One("ok.example")),
    ("comment with <", b"a@ok.example (<b@evil.example>)", One("ok.example")),
    ("comment with < before", b"(<b@evil.example>, ) <a@ok.example>", One("ok.example")),
    ("nested comments", b"a@ok.example (x (y \\) (z)) \")", One("ok.example")),
    ("comment without end", b"a@ok.example (x (y)", Unusable("from-unclosed-comment")),
    ("comment beside the @", b"a(x)@(y)ok.example", One("ok.example")),
    ("comment with > in brackets", b"<a@ok.example(>,<b@evil.example<)>", Unusable("from-ambiguous-comment")),
    ("comment with @ beside the @", b"a(@evil.example)@ok.example", Unusable("from-ambiguous-comment")),
    ("comment within the domain", b"a@ok(x).example", Unusable("from-text-around-address")),
    ("space within the domain", b"a@ok. example", Unusable("from-text-around-address")),
    ("encoded-word that is an address", b"=?utf-8?q?a=40ok.example?=", Unusable("from-text-without-address")),
    ("encoded-word that is a local-part", b"=?utf-8?q?b=40evil.example?=@ok.example", Unusable("from-encoded-address")),
    (
        "encoded-word before an address",
        b"=?utf-8?B?YWRtaW5AZXZpbC5leGFtcGxl?=, <a@ok.example>",
        Unusable("from-text-without-address"),
    ),
    ("source route", b"<@evil.example:a@ok.example>", Unusable("from-source-route")),
    ("source route of two", b"<@evil.example,@x.example:a@ok.example>", Unusable("from-source-route")),
    ("route without brackets", b"@evil.example:a@ok.example", Unusable("from-bad-local-part")),
    ("quoted-pair outside quotes", b"<a@ok.example>\\,<b@evil.example>", Unusable("from-text-around-address")),
    ("text after the brackets", b"<a@ok.example>b@evil.example", Unusable("from-text-around-address")),
    ("brackets after the brackets", b"<a@ok.example> <b@evil.example>", Unusable("from-text-around-address")),
    ("brackets in brackets", b"<<<><a@ok.example>>>", Unusable("from-stray-character")),
    ("comma in brackets", b"<a@ok.example,b@evil.example>", Unusable("from-stray-character")),
    ("two @", b"a@ok.example@evil.example", Unusable("from-second-at")),
    ("missing >", b"Joe <a@ok.example", Unusable("from-unclosed-angle")),
    ("missing <", b"a@ok.example>", Unusable("from-text-around-address")),
    ("empty brackets", b"Joe <>", Unusable("from-empty-address")),
    ("no @", b"undisclosed", Unusable("from-text-without-address")),
    ("no @ in brackets", b"<root>", Unusable("from-text-without-address")),
    ("no domain", b"a@", Unusable("from-bad-domain")),
    ("no local-part in brackets", b"<@ok.example>", Unusable("from-source-route")),
    ("empty", b"", Unusable("from-no-address")),
    ("comment alone", b"(a@ok.example)", Unusable("from-no-address")),
    ("NUL in the domain", b"a@ok\0.example", Unusable("from-nul")),
    ("NUL in a comment", b"a@ok.example (\0)", Unusable("from-nul")),
    ("control character", b"a@ok.example\x08", Unusable("from-control-character")),
    ("bare LF", b"a@ok.example,\n b@evil.example", Unusable("from-control-character")),
    ("8-bit in the domain", b"a@\xfcok.example", Unusable("from-bad-domain")),
    ("8-bit local-part", b"\xfc@ok.example", Unusable("from-bad-local-part")),
    ("quote in the domain", b"a@ok'x.example", Unusable("from-bad-domain")),
    ("address literal", b"a@[192.0.2.1]", Unusable("from-address-literal")),
    ("single label", b"a@localhost", One("localhost")),
    ("trailing dot", b"a@ok.example.", One("ok.example")),
    ("two trailing dots", b"a@ok.example..", Unusable("from-bad-domain")),
    ("empty label", b"a@ok..example", Unusable("from-bad-domain")),
    ("U-labels", "a@B\u{dc}CHER.example".as_bytes(), One("xn--bcher-kva.example")),
    ("U-label of mixed scripts", "a@p\u{430}ypal.example".as_bytes(), One("xn--pypal-4ve.example")),
    ("full-width letters", "a@\u{ff4f}k.example".as_bytes(), Unusable("from-bad-domain")),
    ("ideographic full stop", "a@ok\u{3002}example".as_bytes(), Unusable("from-bad-domain")),
    ("soft hyphen", "a@o\u{ad}k.example".as_bytes(), Unusable("from-bad-domain")),
];

/// Whole header blocks.
const BLOCKS: &[(&str, &[u8], Expect)] = &[
    ("no From field", b"Subject: x\r\nResent-From: a@ok.example\r\n", Unusable("from-missing")),
    ("From with a space before its colon", b"From : a@ok.example\r\n", One("ok.example")),
    ("From in capitals", b"FROM:a@ok.example\r\n", One("ok.example")),
    ("after a fold-only line", b"Subject: x\r\n \r\nFrom: a@ok.example\r\n", One("ok.example")),
    ("mbox line", b"From a@evil.example Mon Jan  1 00:00:00 2024\r\nFrom: a@ok.example\r\n", One("ok.example")),
    ("two From fields", b"From: a@ok.example\r\nFrom: b@evil.example\r\n", Several(&["ok.example", "evil.example"])),
    ("two From fields of one domain", b"From: a@ok.example\r\nFrom: b@ok.example\r\n", Unusable("from-repeated")),
    ("two From fields, one unreadable", b"From: a@ok.example\r\nfrom : <>\r\n", Unusable("from-repeated")),
    ("From before the first field", b" From: a@evil.example\r\nFrom: b@ok.example\r\n", Unusable("from-hidden")),
    ("fold before the colon", b"From\r\n : a@evil.example\r\nFrom: b@ok.example\r\n", Unusable("from-hidden")),
    ("NUL before the colon", b"From\0: a@evil.example\r\nFrom: b@ok.example\r\n", Unusable("from-hidden")),
    ("byte order mark", b"\xef\xbb\xbfFrom: a@evil.example\r\nFrom: b@ok.example\r\n", Unusable("from-hidden")),
    ("From after a bare LF", b"Subject: x\nFrom: a@evil.example\r\nFrom: b@ok.example\r\n", Unusable("from-hidden")),
    ("From after a bare CR", b"Subject: x\rFrom: a@evil.example\r\nFrom: b@ok.example\r\n", Unusable("from-hidden")),
    ("bare LF elsewhere", b"Subject: x\nfrom me\r\nFrom: b@ok.example\r\n", One("ok.example")),
    ("From in a folded field", b"Subject: x\r\n From: a@evil.example\r\nFrom: b@ok.example\r\n", One("ok.example")),
];

fn author_of(block: &[u8]) -> Author {
    let mut index = HeaderIndex::new();
    author(index.scan(block))
}

fn check(what: &str, block: &[u8], expect: &Expect) {
    let found = author_of(block);
    let name = |text: &str| Name::parse(text).unwrap();
    match expect {
        One(domain) => assert_eq!(found, Author::One(name(domain)), "{what}"),
        Several(domains) => assert_eq!(found, Author::Several(domains.iter().map(|it| name(it)).collect()), "{what}"),
        Unusable(word) => match found {
            Author::Unusable(problem) => assert_eq!(problem.word(), *word, "{what}"),
            other => panic!("{what}: {other:?}"),
        },
    }
}

#[test]
fn every_row_of_the_test_set() {
    for (what, value, expect) in VALUES {
        check(what, &[b"From: ", *value, b"\r\n"].concat(), expect);
    }
    for (what, block, expect) in BLOCKS {
        check(what, block, expect);
    }
}

#[test]
fn distinct_domains_are_listed_up_to_one_more_than_are_judged() {
    let field = |count: usize| {
        let list: Vec<String> = (0..count).map(|n| format!("a@d{n}.example")).collect();
        author_of(format!("From: {}\r\n", list.join(",")).as_bytes())
    };
    for (count, listed) in [
        (DMARC_AUTHOR_DOMAINS_MAX, DMARC_AUTHOR_DOMAINS_MAX),
        (DMARC_AUTHOR_DOMAINS_MAX + 1, DMARC_AUTHOR_DOMAINS_MAX + 1),
        (1000, DMARC_AUTHOR_DOMAINS_MAX + 1),
    ] {
        assert!(matches!(field(count), Author::Several(domains) if domains.len() == listed));
    }
}

#[test]
fn addresses_and_domains_hold_on_both_sides_of_their_limits() {
    let many = |count: usize| format!("From: {}\r\n", vec!["a@ok.example"; count].join(","));
    check("as many as are read", many(FROM_ADDRESSES_MAX).as_bytes(), &One("ok.example"));
    check("one more", many(FROM_ADDRESSES_MAX + 1).as_bytes(), &Unusable("from-too-many-addresses"));
    // 63 octets as A-labels, and four octets a character as U-labels.
    let longest = format!("From: a@{0}.{0}.{0}.example\r\n", "\u{10400}".to_lowercase().repeat(50));
    assert!(longest.len() > 600 && matches!(author_of(longest.as_bytes()), Author::One(_)), "{longest}");
    let longer = format!("From: a@{}.example\r\n", "\u{fc}".repeat(600));
    check("longer than any name", longer.as_bytes(), &Unusable("from-bad-domain"));
}

#[test]
fn what_was_not_read_may_hold_another_from() {
    let wide = format!("From: a@ok.example\r\nFrom: b@evil.example, {}\r\n", "c".repeat(HEADER_FIELD_BYTES_MAX));
    assert!(matches!(author_of(wide.as_bytes()), Author::Unusable(_)));
    let wide = format!("From: a@ok.example\r\nTo: {}\r\n", "c".repeat(HEADER_FIELD_BYTES_MAX));
    check("another field over the limit", wide.as_bytes(), &One("ok.example"));
    let many = format!("From: a@ok.example\r\n{}", "From: a@ok.example\r\n".repeat(50_000));
    check("more From fields than are read", many.as_bytes(), &Unusable("from-hidden"));
    let fill = |bytes: usize| {
        let mut block = b"From: a@ok.example\r\n".to_vec();
        block.resize(bytes, b'x');
        let mut index = HeaderIndex::new();
        index.scan(&block);
        index.mark_over_limit();
        author(index.view(&block))
    };
    assert!(matches!(fill(HEADER_BLOCK_BYTES_MAX - 1), Author::One(_)));
    assert_eq!(fill(HEADER_BLOCK_BYTES_MAX), Author::Unusable(AuthorProblem::HeaderOverLimit));
}

#[test]
fn a_from_field_behind_the_limit_of_a_header_is_not_said_to_be_missing() {
    let block = b"X: y\r\n".repeat(100);
    let mut index = HeaderIndex::new();
    assert_eq!(author(index.scan(&block)), Author::Unusable(AuthorProblem::NoFrom));
    index.mark_over_limit();
    assert_eq!(author(index.view(&block)), Author::Unusable(AuthorProblem::HeaderOverLimit));
}

/// Run time would be minutes if any of these took more than one look at each octet.
#[test]
fn hostile_fields_are_read_once() {
    let room = HEADER_FIELD_BYTES_MAX - 32;
    let patterns =
        ["(", ")", ",", "\"", "\\\"", "<", "a", "a:", "a@b,", "a@b<", "=?", "\r\n ", ".", "((()))", "\u{fc}"];
    for pattern in patterns {
        let value = pattern.repeat(room / pattern.len());
        for before in ["", "a@", "a@b.example (", "\""] {
            let found = author_of(format!("From: {before}{value}\r\n").as_bytes());
            assert!(!matches!(found, Author::Several(_)), "{before}{pattern}");
        }
    }
    for pattern in ["\n", "\r", "from", "\nfrom", "From\r\n ", "\nfrom\n"] {
        author_of(pattern.repeat(HEADER_BLOCK_BYTES_MAX / pattern.len()).as_bytes());
    }
}

/// Text made of what the grammar is made of, so that every state of the reader is met.
fn field_text() -> impl Strategy<Value = String> {
    const PIECES: &[&str] = &[
        "<",
        ">",
        "@",
        ",",
        ";",
        ":",
        "\"",
        "\\",
        "(",
        ")",
        "[",
        "]",
        ".",
        " ",
        "\t",
        "\r\n ",
        "\r",
        "\n",
        "\0",
        "a",
        "b",
        "x.example",
        "y.example",
        "a@x.example",
        "<a@x.example>",
        "\u{fc}",
        "=?utf-8?q?",
        "?=",
        "From",
        "From:",
        "\r\n",
        "From: a@x.example\r\n",
    ];
    proptest::collection::vec(proptest::sample::select(PIECES), 0..24).prop_map(|pieces| pieces.concat())
}

fn renders_to_itself(block: &[u8]) -> Result<(), TestCaseError> {
    if let Author::One(domain) = author_of(block) {
        let again = author_of(format!("From: <x@{domain}>\r\n").as_bytes());
        prop_assert_eq!(again, Author::One(domain));
    }
    Ok(())
}

proptest! {
    #[test]
    fn one_domain_reads_back_as_itself(text in field_text(), octets in proptest::collection::vec(any::<u8>(), 0..64)) {
        renders_to_itself(format!("From: {text}\r\n").as_bytes())?;
        renders_to_itself(text.as_bytes())?;
        renders_to_itself(&[b"From: a@x.example,", octets.as_slice()].concat())?;
        renders_to_itself(&octets)?;
    }

    /// Whoever splits at every @ and takes the characters of a domain behind it must not find another domain outside
    /// quotes and comments.
    #[test]
    fn one_domain_is_the_only_one_in_sight(text in field_text()) {
        if let Author::One(domain) = author_of(format!("From: {text}\r\n").as_bytes())
            && !text.contains(['"', '(', '\r', '\n'])
        {
            for after in text.split('@').skip(1) {
                let after = after.trim_start_matches([' ', '\t']);
                let end = after.find(|it: char| !it.is_alphanumeric() && it != '.').unwrap_or(after.len());
                prop_assert_eq!(Name::parse_domain(&after[..end]).ok(), Some(domain), "{}", text);
            }
        }
    }

    /// Nothing after the first problem, and pieces that stand in the field as they are.
    #[test]
    fn lists_end_with_their_first_problem(text in field_text()) {
        let items: Vec<_> = addresses(text.as_bytes()).collect();
        let problems = items.iter().filter(|item| item.is_err()).count();
        prop_assert!(problems <= 1 && (problems == 0 || items.last().is_some_and(Result::is_err)));
        for address in items.into_iter().flatten() {
            let written = |part: &[u8]| text.as_bytes().windows(part.len()).any(|window| window == part);
            prop_assert!(written(address.local_part) && written(address.domain) && !address.domain.is_empty());
        }
    }
}
