//! The configuration file: examples, defaults, faults.

use std::path::Path;

use mailproof_milter::config::{Config, Endpoint, FileMode};
use mailproof_milter::policy::Mode;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("mailproof.toml")).map_err(|error| error.to_string())
}

#[test]
fn the_full_example_is_the_defaults() {
    let full = parse(include_str!("../examples/full.toml")).unwrap();
    assert_eq!(full, Config::default());
    assert_eq!(full, parse("").unwrap());
}

/// The reader itself says which keys a table may have.
#[test]
fn the_full_example_leaves_nothing_out() {
    let text = include_str!("../examples/full.toml");
    let tables =
        ["", "[verify]", "[skip]", "[headers]", "[policy]", "[policy.rules]", "[signing]", "[log]", "[events]"];
    for table in tables.into_iter().chain(["[[policy.domain]]", "[[signing.key]]"]) {
        let error = parse(&format!("{table}\nno-such-key = 1\n")).unwrap_err();
        let (_, expected) = error.split_once("expected ").unwrap_or_else(|| panic!("{error}"));
        let keys: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
        assert!(!keys.is_empty());
        for key in keys {
            let written = |line: &str| {
                let line = line.strip_prefix("# ").unwrap_or(line);
                line.starts_with(&format!("{key} = ")) || line.trim_matches(['[', ']']).split('.').any(|it| it == key)
            };
            assert!(text.lines().any(written), "{table} {key}");
        }
    }
}

#[test]
fn the_manual_page_has_every_key_with_the_same_default() {
    let page = include_str!("../man/mailproof.toml.5").replace("\\(dq", "\"");
    for line in include_str!("../examples/full.toml").lines() {
        let line = line.strip_prefix("# ").unwrap_or(line);
        let Some((key, value)) = line.split_once(" = ").filter(|(key, _)| !key.contains(' ')) else { continue };
        let item = |shown: &str| page.lines().any(|it| it == format!(".It Li {key} = {shown}"));
        assert!(item(value) || item("[...]"), "{line}");
    }
}

#[test]
fn the_commented_parts_of_the_full_example_are_right() {
    let text = include_str!("../examples/full.toml");
    let uncommented: Vec<&str> = text
        .lines()
        .map(|line| {
            let code = line.strip_prefix("# ").filter(|rest| {
                rest.starts_with("[[") || rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '))
            });
            code.unwrap_or(line)
        })
        .collect();
    let config = parse(&uncommented.join("\n")).unwrap();
    assert_eq!((config.policy.domain.len(), config.signing.key.len()), (1, 1));
    assert!(config.signing.opendkim_key_table.is_some() && config.signing.opendkim_signing_table.is_some());
}

#[test]
fn the_minimal_example_is_short_and_right() {
    let config = parse(include_str!("../examples/minimal.toml")).unwrap();
    assert_eq!(config.policy.mode, Mode::Observe);
    assert_eq!(config.options("host.example").authserv_id, "mx.example.net");
    assert_eq!(parse("").unwrap().options("host.example").authserv_id, "host.example");
    assert_eq!(parse("").unwrap().options("no (name)").authserv_id, "localhost");
}

#[test]
fn faults_name_file_line_and_key() {
    let faults = [
        ("listen = [\n", "mailproof.toml:1: "),
        ("\nlistne = []\n", "mailproof.toml:2: listne: unknown field `listne`"),
        ("[policy]\nmode = 'obey'\n", "mailproof.toml:2: policy.mode: unknown variant `obey`"),
        ("[policy.rules]\n\nspf-softfail = 'reject'\n", "mailproof.toml:3: policy.rules.spf-softfail: unknown variant"),
        ("listen = ['tcp:127.0.0.1']\n", "mailproof.toml:1: listen[0]: `tcp:127.0.0.1`: write `unix:/PATH`"),
        ("[skip]\nnetworks = ['10.0.0.0/40']\n", "mailproof.toml:2: skip.networks[0]: `10.0.0.0/40` is no IP"),
        ("authserv-id = 'a b'\n", "mailproof.toml:1: authserv-id: a character that an authserv-id should not hold"),
        ("socket-mode = '1000'\n", "mailproof.toml:1: socket-mode: `1000` is no mode"),
        ("resolvers = ['dns.example']\n", "mailproof.toml:1: resolvers[0]: `dns.example` is no IP address"),
        ("threads = -1\n", "mailproof.toml:1: threads: invalid value: integer `-1`"),
        ("threads = 1\nthreads = 2\n", "mailproof.toml:2: "),
        ("[[signing.key]]\ndomain = 'x'\n", "mailproof.toml:2: signing.key[0].domain: `x` is no domain name of two"),
        ("[[signing.key]]\ndomain = 'example.net'\n", "mailproof.toml:1: signing.key[0]: missing field"),
    ];
    for (text, expected) in faults {
        let error = parse(text).unwrap_err();
        assert!(error.starts_with(expected), "{error}\ninstead of\n{expected}");
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn endpoints_and_modes_are_read() {
    let config = parse("listen = ['tcp:[::1]:9790', 'unix:/run/x', 'systemd:milter']\nsocket-mode = '0600'\n").unwrap();
    let expected = [
        Endpoint::Tcp("[::1]:9790".parse().unwrap()),
        Endpoint::Unix("/run/x".into()),
        Endpoint::Systemd("milter".to_owned()),
    ];
    assert_eq!((config.listen.as_slice(), config.socket_mode), (&expected[..], FileMode(0o600)));
    let path = |length: usize| parse(&format!("listen = ['unix:/{}']", "x".repeat(length - 1)));
    assert!(path(107).is_ok() && path(108).is_err());
}

#[test]
fn a_missing_file_is_said_to_be_missing() {
    let error = Config::load(Path::new("/nonexistent/mailproof.toml")).unwrap_err().to_string();
    assert!(error.starts_with("/nonexistent/mailproof.toml: "), "{error}");
}
