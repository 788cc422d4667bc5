//! Authentication-Results from outside: reading, writing, and finding forged fields.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::borrow::Cow;
use std::time::{Duration, Instant};

use mailproof_proto::authres::{
    AuthenticationResults, AuthresProblem, AuthservId, AuthservIdError, Forged, Layout, Property, Resinfo, Version,
    Writer, arc_instance, forged, parse, parse_arc, without_forged,
};
use mailproof_proto::limits::{
    AUTHRES_KEYWORD_BYTES_MAX, AUTHRES_PROPERTIES_MAX, AUTHRES_RESULTS_MAX, AUTHRES_VALUE_BYTES_MAX,
    AUTHSERV_ID_BYTES_MAX, HEADER_FIELDS_MAX,
};
use mailproof_proto::message::HeaderIndex;
use proptest::prelude::*;

fn read(value: &str) -> AuthenticationResults<'_> {
    parse(value.as_bytes()).unwrap()
}

fn property<'a>(ptype: &'a str, name: &'a str, value: &'a str) -> Property<'a> {
    Property { ptype: ptype.into(), name: name.into(), value: value.into(), comment: None }
}

fn write(value: &AuthenticationResults<'_>, layout: Layout) -> String {
    let mut out = String::new();
    Writer::write(&mut out, value, layout);
    out
}

#[test]
fn comments_folding_and_quotes_stand_wherever_the_grammar_allows_them() {
    let found = read(
        " (a (nested \\) one)) \"mx.\\example\" (b) 1 (c)\r\n\t; (d) DKIM (e) / (f) 1 (g) = (h) Pass (i \\(j)\r\n \
         reason (k) = (l) \"good;\r\n signature\" (m) header (n) . (o) D (p) = (q) Example.org (r)\r\n\t\
         smtp.mailfrom=\"a \\\"b\"@example.org header.i=joe (s) @example.org; spf=none (t) (u)\r\n",
    );
    let dkim = Resinfo {
        method: "dkim".into(),
        method_version: Some(1),
        result: "pass".into(),
        reason: Some("good; signature".into()),
        comment: Some("i (j".into()),
        properties: vec![
            Property { comment: Some("r".into()), ..property("header", "d", "Example.org") },
            property("smtp", "mailfrom", "\"a \\\"b\"@example.org"),
            property("header", "i", "joe@example.org"),
        ],
    };
    let spf = Resinfo { method: "spf".into(), result: "none".into(), comment: Some("t".into()), ..Resinfo::default() };
    let wanted = AuthenticationResults {
        authserv_id: "mx.example".into(),
        version: Version::Number(1),
        results: vec![dkim, spf],
        comment: None,
        regular: true,
    };
    assert_eq!(found, wanted);
}

#[test]
fn an_ordinary_field_is_borrowed() {
    let found = read("mx.example; spf=pass smtp.mailfrom=example.org (a comment)");
    assert!(matches!(found.authserv_id, Cow::Borrowed(_)));
    assert!(matches!(found.results[0].properties[0].value, Cow::Borrowed(_)));
    assert!(matches!(found.results[0].properties[0].comment, Some(Cow::Borrowed(_))));
}

#[test]
fn unknown_versions_are_read_but_not_understood() {
    let understood = |value: &str| read(value).understood().count();
    assert_eq!(understood("mx.example; spf=pass; dkim/1=pass; dkim/2=pass; new-thing=odd"), 3);
    assert_eq!(understood("mx.example 1; spf=pass"), 1);
    assert_eq!(understood("mx.example 2; spf=pass"), 0);
    assert_eq!(understood("mx.example 99999999999999999999; spf=pass"), 0);
    assert_eq!(understood("mx.example two; spf=pass"), 0);
}

#[test]
fn what_large_senders_write_is_read_and_called_irregular() {
    let words = |value: &str| {
        let found = read(value);
        assert!(!found.regular, "{value}");
        let results: Vec<_> = found.results.iter().map(|it| format!("{}={}", it.method, it.result)).collect();
        format!("{} {}", found.authserv_id, results.join(" "))
    };
    assert_eq!(words("spf=pass (c) smtp.mailfrom=a.example; mx.example; dkim=pass"), "mx.example spf=pass dkim=pass");
    assert_eq!(words("mx.example  from=a.example; dkim=pass"), "mx.example dkim=pass");
    assert_eq!(words("mx.example; spf=pass;"), "mx.example spf=pass");
    assert_eq!(words("mx.example; one=; two; header.d=x; spf=pass"), "mx.example spf=pass");
    assert_eq!(words("mx.example; dkim=fail reason=bad signature header.d=x"), "mx.example dkim=fail");
    assert_eq!(words("; spf=pass"), " spf=pass");
    assert_eq!(words(""), " ");
    let null_sender = read("mx.example; spf=pass smtp.mailfrom= smtp.helo=mx.example");
    let wanted = [property("smtp", "mailfrom", ""), property("smtp", "helo", "mx.example")];
    assert_eq!(null_sender.results[0].properties, wanted);
}

#[test]
fn what_can_not_be_split_is_refused() {
    let unexpected = |offset| Err(AuthresProblem::UnexpectedOctet { offset });
    assert_eq!(parse(b"mx; spf=pass smtp.mailfrom=a.example(.b.example"), Err(AuthresProblem::UnterminatedComment));
    assert_eq!(parse(b"mx; dkim=pass reason=\"x\\\""), Err(AuthresProblem::UnterminatedQuotedString));
    assert_eq!(parse(b"mx; dkim=pass reason=\"x\0\""), unexpected(23));
    assert_eq!(parse(b"mx = = x"), unexpected(5));
    assert_eq!(parse(b"mx; foo bar = x"), unexpected(8));
    assert_eq!(parse(b"mx; foo/bar=x"), unexpected(8));
    assert_eq!(parse(b"mx; foo=pass . x=y"), unexpected(13));
    assert_eq!(parse(b"mx; foo=pass smtp..x=y"), unexpected(18));
}

#[test]
fn counts_are_limited_on_both_sides() {
    let results = |count: usize| format!("mx{}", "; a=b".repeat(count));
    assert_eq!(read(&results(AUTHRES_RESULTS_MAX)).results.len(), AUTHRES_RESULTS_MAX);
    assert_eq!(parse(results(AUTHRES_RESULTS_MAX + 1).as_bytes()), Err(AuthresProblem::TooManyResults));
    let properties = |count: usize| format!("mx; a=b{}", " c.d=e".repeat(count));
    assert_eq!(read(&properties(AUTHRES_PROPERTIES_MAX)).results[0].properties.len(), AUTHRES_PROPERTIES_MAX);
    assert_eq!(parse(properties(AUTHRES_PROPERTIES_MAX + 1).as_bytes()), Err(AuthresProblem::TooManyProperties));
}

#[test]
fn arc_payloads_begin_with_their_instance() {
    let (instance, found) = parse_arc(b" (c) I = 50 (c) ; mx.example; spf=pass smtp.mailfrom=example.org").unwrap();
    assert_eq!((instance, &*found.authserv_id, found.results.len()), (50, "mx.example", 1));
    for bad in
        ["mx.example; i=1; spf=pass", "i=1 mx.example; spf=pass", "i=0; mx", "i=51; mx", "i=; mx", "i=1", "1; mx"]
    {
        assert_eq!(arc_instance(bad.as_bytes()), Err(AuthresProblem::BadInstance), "{bad}");
    }
    assert_eq!(arc_instance(b"i=01; ("), Ok(1));
}

#[test]
fn nothing_that_is_written_leaves_its_place() {
    let mut out = String::from("kept");
    let mut writer = Writer::new(&mut out, "mx.example", Layout::OneLine);
    writer.result("spf", "pass").property("smtp", "mailfrom", "x@a.example\r\nFrom: b; dkim=pass (\0");
    writer.result("dkim", "fail").reason("a\"b\\c").comment("d)(e").property("header", "i", "@example.org");
    writer.property_display("smtp", "remote-ip", &std::net::Ipv6Addr::LOCALHOST).reason("late");
    writer.property("po licy", "x\r\n", "SRS0=a=b@example.org");
    writer.finish();
    let wanted = "keptmx.example; spf=pass smtp.mailfrom=\"x@a.exampleFrom: b; dkim=pass (\"; \
                  dkim=fail reason=\"a\\\"b\\\\c\" (d\\)\\(e) header.i=@example.org smtp.remote-ip=\"::1\" (late) \
                  policy.x=\"SRS0=a=b@example.org\"";
    assert_eq!(out, wanted);
}

#[test]
fn lines_fold_at_results_and_where_they_grow_long() {
    let value = read(
        "mx.example.net; dkim=pass header.d=a-rather-long-domain.example.org \
         header.i=@a-rather-long-domain.example.org header.s=s1; spf=none",
    );
    let folded = "mx.example.net;\r\n\tdkim=pass header.d=a-rather-long-domain.example.org\r\n\t\
                  header.i=@a-rather-long-domain.example.org header.s=s1;\r\n\tspf=none";
    assert_eq!(write(&value, Layout::Folded), folded);
    assert_eq!(write(&value, Layout::FoldedLf), folded.replace('\r', ""));
    assert_eq!(write(&value, Layout::OneLine), folded.replace("\r\n\t", " "));
    let none = AuthenticationResults { authserv_id: "mx".into(), ..AuthenticationResults::default() };
    assert_eq!(write(&none, Layout::Folded), "mx;\r\n\tnone");
}

#[test]
fn a_property_is_whole_or_absent_and_a_reason_may_be_cut() {
    let mut out = String::new();
    let mut writer = Writer::new(&mut out, "mx", Layout::Folded);
    let (fits, long) = ("x".repeat(AUTHRES_VALUE_BYTES_MAX), "x".repeat(AUTHRES_VALUE_BYTES_MAX + 1));
    let escaped = "\"".repeat(AUTHRES_VALUE_BYTES_MAX / 2 + 1);
    writer.result("a", "b").reason(&long);
    writer.property("header", "d", &fits).property("header", "i", &long).property_display("header", "s", &long);
    writer.property("header", "e", &escaped).property_display("header", "f", &escaped);
    writer.finish();
    let found = read(&out);
    assert_eq!(found.results[0].reason.as_deref(), Some(fits.as_str()));
    let names: Vec<_> = found.results[0].properties.iter().map(|it| &*it.name).collect();
    assert_eq!(names, ["d"]);
    assert!(out.lines().all(|line| line.len() < 998));
}

/// The occurrences that are to go from a message with these field values.
fn removed(values: &[&[u8]], ours: &str) -> Vec<usize> {
    let mut header = b"Subject: x\r\n".to_vec();
    for value in values {
        header.extend_from_slice(b"Authentication-Results:");
        header.extend_from_slice(value);
        header.extend_from_slice(b"\r\nX: Authentication-Results: mx.example\r\n");
    }
    let ours = [AuthservId::new(ours).unwrap()];
    let mut index = HeaderIndex::new();
    let headers = index.scan(&header);
    let found: Vec<Forged> = forged(headers, &ours).collect();
    assert!(found.is_sorted_by(|a, b| a.occurrence > b.occurrence && a.position > b.position));
    assert!(found.iter().all(|it| it.position == it.occurrence * 2 - 1));
    found.iter().rev().map(|it| it.occurrence).collect()
}

#[test]
fn fields_in_our_name_go_however_they_are_written() {
    let forgeries: &[&[u8]] = &[
        b" mx.example; spf=pass",
        b"MX.Example; spf=pass",
        b"\r\n\t mx.example.\r\n ; spf=pass",
        b" (c)(d (e)) mx.example (f) 1; none",
        b" \"mx.ex\\ample\"; spf=pass",
        b" \" mx.example \"; spf=pass",
        b" mx.example",
        b" mx.example/1; spf=pass",
        b" mx.example 1 2; spf=pass",
        b" mx.example = pass; spf=pass",
        b" mx(c).example; spf=pass",
        b" mx .example; spf=pass",
        b" x mx.example; spf=pass",
        b" (unterminated mx.example; spf=pass",
        b" \"mx.example; spf=pass",
        b" m\0x.example; spf=pass",
        b" mx.example\xff; spf=pass",
        b" mx.ex\xe2\x80\x8bample; spf=pass",
        b" \xef\xbd\x8dx.example; spf=pass",
        b" ; mx.example; spf=pass",
        b" spf=pass smtp.mailfrom=a; mx.example; dkim=pass",
        b" other.example 2; spf=pass",
        b" other.example; none\nAuthentication-Results: mx.example; spf=pass",
        b" other.example; none\n mx.example; spf=pass",
        b" other.example; none\rX: y",
    ];
    let all: Vec<usize> = (1..=forgeries.len()).collect();
    assert_eq!(removed(forgeries, "mx.example"), all);
    assert_eq!(removed(forgeries, "Mx.EXAMPLE."), all);
}

#[test]
fn fields_of_others_stay() {
    let honest: &[&[u8]] = &[
        b" other.example; spf=pass smtp.mailfrom=mx.example",
        b" notmx.example; spf=pass",
        b" mx.example.org; spf=pass",
        b" other.example (mx.example); none",
        b" other.example  from=a.example; dkim=pass header.d=mx.example",
        b" spf=pass smtp.mailfrom=mx.example; other.example; dkim=pass",
        b" m\xc3\xbcnchen.example; none",
        b"\r\n\tother.example;\r\n\tnone",
        b"",
    ];
    assert_eq!(removed(honest, "mx.example"), [0_usize; 0]);
}

#[test]
fn a_labels_and_u_labels_are_one_name() {
    let forgeries: &[&[u8]] = &[
        "b\u{fc}cher.example; none".as_bytes(),
        "\"B\u{dc}CHER.Example\"; none".as_bytes(),
        "bu\u{308}cher\u{3002}example; none".as_bytes(),
        b"xn--bcher-kva.example; none",
        b"XN--BCHER-KVA.EXAMPLE; none",
        b"(c) xn--bcher-kva.example foo; none",
        "(b\u{fc}cher.example; none".as_bytes(),
    ];
    let all: Vec<usize> = (1..=forgeries.len()).collect();
    assert_eq!(removed(forgeries, "b\u{fc}cher.example"), all);
    assert_eq!(removed(forgeries, "xn--bcher-kva.example"), all);
    assert_eq!(removed(&[b"bucher.example; none"], "xn--bcher-kva.example"), [0_usize; 0]);
}

#[test]
fn forged_fields_beyond_the_header_limits_are_found() {
    let mut header = "A: b\r\n".repeat(HEADER_FIELDS_MAX);
    header.push_str("Authentication-Results: mx.example; spf=pass\r\n");
    let wide = format!("Authentication-Results: mx.example{}\r\n", "; spf=pass".repeat(31_000));
    header.push_str(&wide);
    let deep = format!("Authentication-Results: mx.example {}{}; none", "(".repeat(100_000), ")".repeat(100_000));
    header.push_str(&deep);
    let ours = [AuthservId::new("mx.example").unwrap()];
    let mut index = HeaderIndex::new();
    let headers = index.scan(header.as_bytes());
    let found: Vec<_> = forged(headers, &ours).map(|it| it.occurrence).collect();
    assert_eq!((found, headers.defects().header_over_limit), (vec![3, 2, 1], true));
}

#[test]
fn words_over_their_limit_are_left_out_whole() {
    let (fits, long) = ("x".repeat(AUTHRES_KEYWORD_BYTES_MAX), "x".repeat(AUTHRES_KEYWORD_BYTES_MAX + 1));
    let written = |ptype: &str, method: &str| {
        let value = format!("a; {method}=pass {ptype}.b=c");
        let mut out = String::new();
        Writer::write(&mut out, &parse(value.as_bytes()).unwrap(), Layout::OneLine);
        out
    };
    assert_eq!(written(&fits, &fits), format!("a; {fits}=pass {fits}.b=c"));
    assert_eq!(written(&long, &fits), format!("a; {fits}=pass"));
    assert_eq!(written(&fits, &long), "a; none");
}

#[test]
fn an_authserv_id_is_checked_once() {
    assert_eq!(AuthservId::new(""), Err(AuthservIdError::Empty));
    assert_eq!(AuthservId::new("."), Err(AuthservIdError::Empty));
    assert_eq!(AuthservId::new("a b"), Err(AuthservIdError::BadCharacter));
    assert_eq!(AuthservId::new("a;b"), Err(AuthservIdError::BadCharacter));
    assert!(AuthservId::new(&"a".repeat(AUTHSERV_ID_BYTES_MAX)).is_ok());
    assert_eq!(AuthservId::new(&"a".repeat(AUTHSERV_ID_BYTES_MAX + 1)), Err(AuthservIdError::TooLong));
    assert_eq!(AuthservId::new("Mx.example").unwrap().as_str(), "Mx.example");
}

#[test]
fn hostile_values_take_linear_time() {
    let units: &[&str] = &[
        "(",
        ")",
        ";",
        "\"",
        "\\",
        "=",
        "a=",
        "a=b ",
        "a b",
        ";a=b",
        ";a=b c.d= smtp.x=",
        ";a=b c.d=e (",
        "()",
        "(;",
        "\r\n ",
        "\n",
        "@",
        "a@",
        ".",
        "a.",
        "\u{fc}",
        "\u{fc};",
        "xn--a;",
        "xn--a",
        "mx.example",
        "i=1;",
        "=\"",
        ";none",
    ];
    let ours = [AuthservId::new("mx.example").unwrap(), AuthservId::new("b\u{fc}cher.example").unwrap()];
    for prefix in ["", "mx; a=b c.d=", "(", "mx; a=b ", "x ("] {
        for unit in units {
            let value = format!("{prefix}{}", unit.repeat(64 * 1024 / unit.len()));
            let header = format!("Authentication-Results: {value}");
            let started = Instant::now();
            let _ = parse(value.as_bytes());
            let _ = parse_arc(value.as_bytes());
            let mut index = HeaderIndex::new();
            let _ = forged(index.scan(header.as_bytes()), &ours).count();
            // An unoptimised build takes milliseconds, a second on a machine with other work; a quadratic loop would take minutes.
            assert!(started.elapsed() < Duration::from_secs(10), "{prefix} {unit} {:?}", started.elapsed());
        }
    }
}

/// What the writer keeps of a text.
fn kept(text: &str) -> Cow<'static, str> {
    Cow::Owned(text.chars().map(|it| if it == '\t' { ' ' } else { it }).filter(|it| !it.is_control()).collect())
}

fn text() -> impl Strategy<Value = String> {
    let awkward = proptest::sample::select(vec![
        "\r\n", "\r", "\n", "\0", "\t", " ", "\"", "\\", "(", ")", ";", "=", ".", "@", "/", "none", "a", "xn--",
        "\u{fc}", "\u{85}", "reason=", "smtp.x=y", "i=1;",
    ]);
    let awkward = proptest::collection::vec(awkward, 0..12);
    prop_oneof![any::<String>(), awkward.prop_map(|parts| parts.concat()), "[a-z.@-]{0,40}"]
}

fn octets() -> impl Strategy<Value = Vec<u8>> {
    let close_to_the_grammar = "[a-c;=./()\"@ ]{0,60}".prop_map(String::into_bytes);
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..200),
        text().prop_map(String::into_bytes),
        close_to_the_grammar
    ]
}

fn keyword() -> impl Strategy<Value = Cow<'static, str>> {
    "[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?".prop_map(Cow::Owned)
}

fn optional() -> impl Strategy<Value = Option<Cow<'static, str>>> {
    proptest::option::of(text().prop_map(Cow::Owned))
}

fn any_property() -> impl Strategy<Value = Property<'static>> {
    let parts = (keyword(), keyword(), text().prop_map(Cow::Owned), optional());
    parts.prop_map(|(ptype, name, value, comment)| Property { ptype, name, value, comment })
}

fn any_resinfo() -> impl Strategy<Value = Resinfo<'static>> {
    let properties = proptest::collection::vec(any_property(), 0..4);
    let parts = (keyword(), proptest::option::of(any::<u32>()), keyword(), optional(), optional(), properties);
    parts.prop_map(|(method, method_version, result, reason, comment, properties)| Resinfo {
        method,
        method_version,
        result,
        reason,
        comment,
        properties,
    })
}

fn any_value() -> impl Strategy<Value = AuthenticationResults<'static>> {
    let results = proptest::collection::vec(any_resinfo(), 0..4);
    let version = prop_oneof![Just(Version::Absent), any::<u32>().prop_map(Version::Number)];
    (text(), version, results, optional()).prop_map(|(id, version, results, comment)| AuthenticationResults {
        authserv_id: id.into(),
        version,
        comment: comment.filter(|_| results.is_empty()),
        results,
        regular: true,
    })
}

fn cleaned(mut value: AuthenticationResults<'static>) -> AuthenticationResults<'static> {
    let clean = |it: &mut Option<Cow<'static, str>>| *it = it.as_deref().map(kept);
    value.authserv_id = kept(&value.authserv_id);
    clean(&mut value.comment);
    for resinfo in &mut value.results {
        clean(&mut resinfo.reason);
        clean(&mut resinfo.comment);
        for property in &mut resinfo.properties {
            property.value = kept(&property.value);
            clean(&mut property.comment);
        }
    }
    value
}

proptest! {
    #[test]
    fn reading_gives_back_what_was_written(value in any_value()) {
        let wanted = cleaned(value.clone());
        for layout in [Layout::Folded, Layout::FoldedLf, Layout::OneLine] {
            let out = write(&value, layout);
            // LF alone is no folding on the wire; the mail server makes it CRLF again.
            let on_the_wire = if layout == Layout::FoldedLf { out.replace('\n', "\r\n") } else { out.clone() };
            let found = parse(on_the_wire.as_bytes());
            prop_assert_eq!(found.as_ref(), Ok(&wanted), "{}", out);
            let unfolded = on_the_wire.replace("\r\n\t", "");
            prop_assert!(!unfolded.contains(char::is_control), "{:?}", out);
        }
    }

    #[test]
    fn a_field_we_could_have_written_is_found(value in any_value()) {
        let mut value = cleaned(value);
        let name: String = value.authserv_id.chars().filter(|it| it.is_ascii_alphanumeric()).take(20).collect();
        value.authserv_id = format!("mx{name}.example").into();
        let header = format!("Authentication-Results: {}\r\n", write(&value, Layout::Folded));
        let ours = [AuthservId::new(&value.authserv_id.to_uppercase()).unwrap()];
        let mut index = HeaderIndex::new();
        prop_assert_eq!(forged(index.scan(header.as_bytes()), &ours).count(), 1);
    }

    #[test]
    fn no_octets_make_the_reader_panic_and_what_it_reads_can_be_written(octets in octets()) {
        let _ = parse_arc(&octets);
        let mut index = HeaderIndex::new();
        let header = [b"Authentication-Results:", &octets[..]].concat();
        let _ = forged(index.scan(&header), &[AuthservId::new("mx").unwrap()]).count();
        if let Ok(found) = parse(&octets) {
            let out = write(&found, Layout::Folded);
            prop_assert!(parse(out.as_bytes()).is_ok(), "{:?}", out);
        }
    }
}

#[test]
fn a_header_is_left_without_what_claims_to_be_ours() {
    let ours = [AuthservId::new("mx.example.net").unwrap()];
    for (header, kept) in [
        ("A: 1\r\nAuthentication-Results: mx.example.net; spf=pass\r\nB: 2\r\n", "A: 1\r\nB: 2\r\n"),
        ("authentication-results : (x) MX.example.net.\r\n\t; spf=pass\r\nB: 2\r\n", "B: 2\r\n"),
        ("A: 1\rAuthentication-Results: b.example; spf=pass\r\nB: 2\r\n", "A: 1\r\nB: 2\r\n"),
        ("Authentication-Results: b.example; spf=pass\r\n", "Authentication-Results: b.example; spf=pass\r\n"),
        ("", ""),
    ] {
        assert_eq!(String::from_utf8_lossy(&without_forged(header.as_bytes(), &ours)), kept, "{header:?}");
    }
}
