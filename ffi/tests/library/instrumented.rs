//! The whole library instrumented, Rust's own code included: minutes long, so for the long run of the tests.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::c::{folder, has, run, said, scratch, skip};
use crate::compilers::{cargo, cargo_with_library, nightly};
use crate::random_calls::server;
use crate::scenarios::{Cases, Dns, check};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The static library with a sanitizer in it, and the runtime that belongs to it, which only a nightly toolchain has.
///
/// A nightly compiler brings its standard library as it is; where `whole`, one is built that is instrumented as well.
fn instrumented(sanitizer: &str, whole: bool) -> Option<(PathBuf, PathBuf)> {
    let sysroot = nightly()?;
    let mut flags = format!("-Zsanitizer={sanitizer}");
    let mut cargo = if whole && !sysroot.join("lib/rustlib/src/rust/library/std").exists() {
        // The runtime is given to the linker below.
        flags.push_str(" -Zexternal-clangrt");
        cargo_with_library()?
    } else {
        let mut cargo = cargo();
        cargo.args(["+nightly", "build", "--quiet"]).args(whole.then_some("-Zbuild-std"));
        cargo
    };
    let out = folder().join("../target/instrumented").join(sanitizer);
    cargo.args(["--package", "mailproof-ffi", "--target", TARGET, "--target-dir"]).arg(&out);
    run(cargo.env("RUSTFLAGS", flags));
    let names = [("address", "asan"), ("thread", "tsan")];
    let name = names.iter().find(|(name, _)| *name == sanitizer).unwrap().1;
    let runtime = sysroot.join(format!("lib/rustlib/{TARGET}/lib/librustc-nightly_rt.{name}.a"));
    Some((out.join(TARGET).join("debug/libmailproof_ffi.a"), runtime))
}

/// Compiles with the sanitizer of the C compiler, and links with the runtime of rustc's, which has to be the only one.
fn build(source: &str, sanitizer: &str, library: &Path, runtime: &Path, to: &Path) -> PathBuf {
    let (source, object, program) = (folder().join(source), to.join("program.o"), to.join("program"));
    let mut compiler = Command::new("cc");
    compiler.args(["-std=c11", "-g", "-O1", "-c", &format!("-fsanitize={sanitizer}"), "-fno-common", "-I"]);
    run(compiler.arg(folder().join("include")).arg(&source).arg("-o").arg(&object));
    let mut linker = Command::new("cc");
    linker.arg(&object).arg(library).args(["-Wl,--whole-archive"]).arg(runtime).arg("-Wl,--no-whole-archive");
    linker.args(["-Wl,--export-dynamic", "-lpthread", "-lm", "-ldl", "-lrt", "-lresolv", "-lgcc_s", "-lc"]);
    run(linker.arg("-o").arg(&program));
    program
}

fn run_all(sanitizer: &str, whole: bool) {
    if !has("cc") {
        return skip("needs a C compiler");
    }
    let Some((library, runtime)) = instrumented(sanitizer, whole) else { return };
    let to = scratch(&format!("instrumented-{sanitizer}"));
    let driver = build("tests/library/driver.c", sanitizer, &library, &runtime, &to);
    let cases = Cases::write(&to, Dns::Zone, |_| true);
    for way in ["one", "stream", "queued", "loop", "own", "threads"] {
        check(&mut Command::new(&driver), way, &cases);
    }
    let cases = Cases::write(&to, Dns::Servers, |_| true);
    for way in ["one", "stream", "queued", "loop", "threads"] {
        check(&mut Command::new(&driver), way, &cases);
    }
    let server = server();
    let random = build("tests/library/random_calls.c", sanitizer, &library, &runtime, &to);
    for seed in 100..116 {
        said(Command::new(&random).args([&seed.to_string(), "20000", &server.addr().to_string(), "auto"]));
    }
}

#[test]
#[ignore = "minutes long"]
fn address_sanitizer_finds_nothing_in_the_whole_library() {
    run_all("address", false);
}

#[test]
#[ignore = "minutes long"]
fn thread_sanitizer_finds_nothing_in_the_whole_library() {
    run_all("thread", true);
}
