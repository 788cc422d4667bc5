//! The header that is committed is the one that the library has, and the same symbols stand in the map of versions.

use std::collections::BTreeSet;
use std::path::Path;
use std::{env, fs};

/// Writes the header instead of comparing it.
const UPDATE_VARIABLE: &str = "MAILPROOF_UPDATE_HEADER";

fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn generated() -> String {
    let config = cbindgen::Config::from_file(folder().join("cbindgen.toml")).unwrap();
    let mut builder = cbindgen::Builder::new().with_config(config);
    for module in
        ["build", "status", "log", "zone", "envelope", "engine", "session", "answer", "queue", "verdict", "signer"]
    {
        builder = builder.with_src(folder().join(format!("src/{module}.rs")));
    }
    let mut out = Vec::new();
    builder.generate().unwrap().write(&mut out);
    String::from_utf8(out).unwrap()
}

/// The functions that the header declares.
fn declared(header: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut in_comment = false;
    for line in header.lines() {
        in_comment |= line.starts_with("/*");
        if !in_comment && !line.starts_with([' ', '#', '}']) {
            let before = line.split('(').next().unwrap_or_default();
            let name = before.rsplit([' ', '*']).next().unwrap_or_default();
            if line.contains('(') && name.starts_with("mailproof_") && !line.starts_with("typedef") {
                names.insert(name.to_owned());
            }
        }
        in_comment &= !line.trim_end().ends_with("*/");
    }
    names
}

#[test]
fn header_is_the_committed_one() {
    let (path, found) = (folder().join("include/mailproof.h"), generated());
    if env::var_os(UPDATE_VARIABLE).is_some() {
        fs::write(&path, &found).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == found, "include/mailproof.h is not what the library has: run with {UPDATE_VARIABLE}=1");
}

#[test]
fn versioned_symbols_are_those_of_the_header() {
    let map = fs::read_to_string(folder().join("mailproof.map")).unwrap();
    let mapped: BTreeSet<String> = map
        .lines()
        .filter_map(|line| line.trim().strip_suffix(';'))
        .filter(|name| name.starts_with("mailproof_"))
        .map(str::to_owned)
        .collect();
    assert_eq!(declared(&fs::read_to_string(folder().join("include/mailproof.h")).unwrap()), mapped);
    assert!(mapped.len() > 50, "{mapped:?}");
}
