//! What is promised to linkers: symbols and their versions, the soname, and what a staged installation gives to programs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::c::{Language, compile, folder, has, library, run, said, scratch, skip};

/// Symbols that the library gives to others, without their versions.
pub(crate) fn exported(library: &Path) -> BTreeSet<String> {
    let text = said(Command::new("nm").args(["-D", "--defined-only", "--format=posix"]).arg(library));
    text.lines().filter_map(|line| line.split([' ', '@']).next()).map(str::to_owned).collect()
}

/// Symbols that the library wants of others.
pub(crate) fn imported(library: &Path) -> BTreeSet<String> {
    let text = said(Command::new("nm").args(["-D", "--undefined-only", "--format=posix"]).arg(library));
    text.lines().filter_map(|line| line.split([' ', '@']).next()).map(str::to_owned).collect()
}

/// The functions that the map gives a version.
fn mapped() -> BTreeSet<String> {
    let map = fs::read_to_string(folder().join("mailproof.map")).unwrap();
    let names = map.lines().filter_map(|line| line.trim().strip_suffix(';'));
    names.filter(|name| name.starts_with("mailproof_")).map(str::to_owned).collect()
}

#[test]
fn exported_symbols_are_those_of_the_header() {
    let mut found = exported(&library().join("libmailproof.so"));
    assert!(found.remove("MAILPROOF_0.1"), "the version itself is a symbol");
    assert_eq!(found, mapped());
}

#[test]
fn symbols_have_a_version_and_the_library_its_soname() {
    let path = library().join("libmailproof.so");
    let symbols = said(Command::new("nm").args(["-D", "--defined-only"]).arg(&path));
    for line in symbols.lines().filter(|line| line.contains(" T ")) {
        assert!(line.ends_with("@@MAILPROOF_0.1"), "{line}");
    }
    let header = said(Command::new("readelf").args(["-d", "-W"]).arg(&path));
    assert!(header.contains("Library soname: [libmailproof.so.0.1]"), "{header}");
    assert!(header.contains("BIND_NOW"), "{header}");
    assert!(!header.contains("TEXTREL"), "{header}");
}

#[test]
fn allocator_of_the_program_is_left_alone() {
    let path = library().join("libmailproof.so");
    let (given, wanted) = (exported(&path), imported(&path));
    assert!(wanted.contains("malloc") && wanted.contains("free"), "{wanted:?}");
    assert!(!given.contains("malloc") && !given.contains("free"), "{given:?}");
}

/// Installs into a staging root as packagers do, from the library that is there already; gives the root.
fn staged(name: &str, prefix: &str) -> PathBuf {
    let root = scratch(name);
    let mut make = Command::new("make");
    make.args(["--no-print-directory", "-C"]).arg(folder().join(".."));
    make.arg("install-library-files").arg(format!("DESTDIR={}", root.display())).arg(format!("PREFIX={prefix}"));
    run(make.arg(format!("LIBRARY={}", library().display())));
    root
}

#[test]
fn program_is_built_against_a_staged_installation() {
    if !has("pkg-config") || !has("make") {
        return skip("needs pkg-config and make");
    }
    let root = staged("staged", "/opt/mail");
    let source = folder().join("examples/verify.c");
    let pkg_config = |options: &[&str]| {
        let mut command = Command::new("pkg-config");
        command.env("PKG_CONFIG_LIBDIR", root.join("opt/mail/lib/pkgconfig"));
        command.env("PKG_CONFIG_SYSROOT_DIR", &root).args(options).arg("mailproof");
        said(&mut command).split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(pkg_config(&["--modversion"]), [env!("CARGO_PKG_VERSION")]);
    let wanted = ["--cflags", "--libs"];
    let program = root.join("verify");
    run(Command::new("cc").arg("-std=c11").arg(&source).args(pkg_config(&wanted)).arg("-o").arg(&program));
    let usage = Command::new(&program).env("LD_LIBRARY_PATH", root.join("opt/mail/lib")).output().unwrap();
    assert_eq!((usage.status.code(), usage.stderr.starts_with(b"usage:")), (Some(64), true));

    // The static library needs no file of the installation at run time.
    let static_program = root.join("verify-static");
    let archive = root.join("opt/mail/lib/libmailproof.a");
    let mut compiler = Command::new("cc");
    compiler.arg("-std=c11").arg(&source).arg("-I").arg(root.join("opt/mail/include")).arg(archive);
    let private = pkg_config(&["--libs", "--static"]).into_iter().filter(|word| word != "-lmailproof");
    run(compiler.args(private).arg("-o").arg(&static_program));
    assert_eq!(Command::new(&static_program).output().unwrap().status.code(), Some(64));
    let libraries = said(Command::new("readelf").arg("-d").arg(&static_program));
    assert!(!libraries.contains("libmailproof"), "{libraries}");
}

#[test]
fn promises_of_the_header_are_kept() {
    let scratch = scratch("promises");
    for language in [Language::C11, Language::Cpp17] {
        let program = compile(&folder().join("tests/library/promises.c"), language, &[], &scratch);
        run(Command::new(&program).arg(&scratch));
    }
}
