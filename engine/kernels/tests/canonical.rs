//! The canonical forms against a routine that sees the whole body and takes octet by octet.

use mailproof_kernels::{Kernel, RelaxedBody, SimpleBody};
use proptest::prelude::*;

/// RFC 6376 section 3.4.3.
fn simple_plain(body: &[u8]) -> Vec<u8> {
    let mut out = body.to_vec();
    while out.ends_with(b"\r\n") {
        out.truncate(out.len() - 2);
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// RFC 6376 section 3.4.4.
fn relaxed_plain(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for &octet in body {
        match octet {
            b' ' | b'\t' if out.last() == Some(&b' ') => {}
            b' ' | b'\t' => out.push(b' '),
            b'\n' if out.ends_with(b" \r") => {
                out.truncate(out.len() - 2);
                out.extend_from_slice(b"\r\n");
            }
            _ => out.push(octet),
        }
    }
    if out.ends_with(b" ") {
        out.pop();
    }
    while out.ends_with(b"\r\n") {
        out.truncate(out.len() - 2);
    }
    if !out.is_empty() {
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// What every routine of this CPU gives, if it is the same.
fn relaxed<'a>(chunks: impl IntoIterator<Item = &'a [u8]> + Clone) -> Vec<u8> {
    let of_kernel = |kernel| {
        let mut out = Vec::new();
        let mut body = RelaxedBody::with_kernel(kernel);
        for chunk in chunks.clone() {
            body.update(chunk, |run| out.extend_from_slice(run));
        }
        body.finish(|run| out.extend_from_slice(run));
        out
    };
    let portable = of_kernel(Kernel::portable());
    for kernel in Kernel::available() {
        assert_eq!(of_kernel(kernel), portable, "{}", kernel.name());
    }
    portable
}

fn simple<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    let mut body = SimpleBody::new();
    for chunk in chunks {
        body.update(chunk, |run| out.extend_from_slice(run));
    }
    body.finish(|run| out.extend_from_slice(run));
    out
}

#[test]
fn examples_of_the_standard() {
    // RFC 6376 section 3.4.5.
    let body = &b" C \r\nD \t E\r\n\r\n\r\n"[..];
    assert_eq!(relaxed([body]), b" C\r\nD E\r\n");
    assert_eq!(simple([body]), b" C \r\nD \t E\r\n");
}

#[test]
fn empty_bodies() {
    for body in [&b""[..], b"\r\n", b"\r\n\r\n"] {
        assert_eq!(relaxed([body]), b"");
        assert_eq!(simple([body]), b"\r\n");
    }
    for body in [&b" "[..], b"\t \r\n", b" \r\n\r\n \t"] {
        assert_eq!(relaxed([body]), b"");
    }
}

#[test]
fn lone_cr_and_lf_are_content() {
    assert_eq!(relaxed([&b"a \r"[..]]), b"a \r\r\n");
    assert_eq!(relaxed([&b"a \n \r\n"[..]]), b"a \n\r\n");
    assert_eq!(relaxed([&b"\r"[..]]), b"\r\r\n");
    assert_eq!(relaxed([&b"\r\n\r"[..]]), b"\r\n\r\r\n");
    assert_eq!(simple([&b"\r\n\r"[..]]), b"\r\n\r\r\n");
    assert_eq!(simple([&b"a\r\r\n"[..]]), b"a\r\r\n");
}

#[test]
fn edges_of_vectors_and_stages() {
    let patterns: [&[u8]; 10] =
        [b"\r\n", b"\r", b"\n", b" ", b" \r\n", b"\r \n", b"\r\n\r\n\r\n", b"\r\r\n", b" \t \r\nx", b"\r\n \r\n\t"];
    for edge in [8, 32, 64, 128, 4096, 8192] {
        for (before, pattern) in (0..6).flat_map(|before| patterns.map(|pattern| (before, pattern))) {
            for (filler, after) in
                [b'a', b' ', b'\t'].into_iter().flat_map(|filler| [0, 1, 2, 66, 130].map(|it| (filler, it)))
            {
                let mut body = vec![filler; edge - before];
                body.extend_from_slice(pattern);
                body.resize(body.len() + after, filler);
                let got = relaxed([&body[..]]);
                assert!(got == relaxed_plain(&body), "{edge} {before} {pattern:?} {filler} {after}");
            }
        }
    }
}

#[test]
fn sink_gets_few_runs() {
    let runs = |body: &[u8]| {
        let mut count = 0;
        let mut form = RelaxedBody::new();
        form.update(body, |_| count += 1);
        form.finish(|_| count += 1);
        count
    };
    let base64 = [&[b'A'; 76][..], b"\r\n"].concat().repeat(400);
    assert_eq!(runs(&base64), 2);
    let html = b"    <p>an  indented\tline </p>\r\n".repeat(1000);
    assert!(runs(&html) < 12, "{} runs", runs(&html));
    assert!(runs(&b"\r\n".repeat(100_000)) == 0);
}

#[test]
fn environment_chooses_the_portable_routine() {
    const NAME: &str = "MAILPROOF_KERNELS";
    if std::env::var_os(NAME).is_some_and(|wish| wish == "portable") {
        assert_eq!(Kernel::detected(), Kernel::portable());
        return;
    }
    assert_eq!(Some(Kernel::detected()), Kernel::available().next());
    let status = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "environment_chooses_the_portable_routine"])
        .env(NAME, "portable")
        .output()
        .unwrap()
        .status;
    assert!(status.success());
}

/// Octets in which what matters to the forms is frequent, in pieces of any length.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![&b" "[..], b"\t", b"\r", b"\n", b"\r\n", b" \r\n", b"\r\n\r\n", b" \r", b"\t \t"])
            .prop_map(<[u8]>::to_vec),
        3 => prop::collection::vec(prop::sample::select(b" \t\r\nab".to_vec()), 1..20),
        2 => prop::collection::vec(b'a'..=b'z', 1..150),
        1 => prop::collection::vec(any::<u8>(), 1..80),
        1 => (prop::sample::select(b" \t\r\na".to_vec()), 1..300usize).prop_map(|(octet, count)| vec![octet; count]),
        1 => (1..200usize).prop_map(|count| b"\r\n".repeat(count)),
    ];
    prop::collection::vec(piece, 0..30).prop_map(|pieces| pieces.concat())
}

/// The body cut at arbitrary places.
fn cut<'a>(body: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
    at.sort_unstable();
    let mut chunks = Vec::new();
    let mut from = 0;
    for to in at.into_iter().chain([body.len()]) {
        chunks.push(&body[from..to]);
        from = to;
    }
    chunks
}

proptest! {
    #[test]
    fn relaxed_equals_plain(body in body(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
        prop_assert_eq!(relaxed(cut(&body, &cuts)), relaxed_plain(&body));
        prop_assert_eq!(relaxed(body.chunks(1)), relaxed_plain(&body));
    }

    #[test]
    fn simple_equals_plain(body in body(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12)) {
        prop_assert_eq!(simple(cut(&body, &cuts)), simple_plain(&body));
        prop_assert_eq!(simple(body.chunks(1)), simple_plain(&body));
    }
}
