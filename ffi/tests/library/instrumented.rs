//! The whole library instrumented, Rust's own code included: nightly only and minutes long, so for the long run of the tests.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::c::{folder, has, run, said, scratch, skip};
use crate::random_calls::server;
use crate::scenarios::{Cases, Dns, check};

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The static library of the nightly compiler with a sanitizer, and the runtime that belongs to it.
fn instrumented(sanitizer: &str, more: &[&str]) -> Option<(PathBuf, PathBuf)> {
    let mut rustc = Command::new("rustc");
    rustc.env_remove("RUSTUP_TOOLCHAIN").args(["+nightly", "--print", "sysroot"]);
    let Some(sysroot) = rustc.output().ok().filter(|output| output.status.success()) else {
        skip("needs a nightly toolchain");
        return None;
    };
    let sysroot = PathBuf::from(String::from_utf8(sysroot.stdout).unwrap().trim());
    if !more.is_empty() && !sysroot.join("lib/rustlib/src/rust/library/std").exists() {
        skip("needs the component rust-src of the nightly toolchain");
        return None;
    }
    let out = folder().join("../target/instrumented").join(sanitizer);
    let mut cargo = Command::new("cargo");
    for variable in ["RUSTUP_TOOLCHAIN", "CARGO", "RUSTC", "RUSTDOC"] {
        cargo.env_remove(variable);
    }
    cargo.args(["+nightly", "build", "--quiet", "--package", "mailproof-ffi", "--target", TARGET]).args(more);
    cargo.arg("--target-dir").arg(&out).current_dir(folder());
    run(cargo.env("RUSTFLAGS", format!("-Zsanitizer={sanitizer}")));
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

fn run_all(sanitizer: &str, more: &[&str]) {
    if !has("cc") {
        return skip("needs a C compiler");
    }
    let Some((library, runtime)) = instrumented(sanitizer, more) else { return };
    let to = scratch(&format!("instrumented-{sanitizer}"));
    let driver = build("tests/library/driver.c", sanitizer, &library, &runtime, &to);
    let cases = Cases::write(&to, Dns::Zone, |_| true);
    for way in ["one", "stream", "loop", "own", "threads"] {
        check(&mut Command::new(&driver), way, &cases);
    }
    let cases = Cases::write(&to, Dns::Servers, |_| true);
    for way in ["one", "stream", "loop", "threads"] {
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
    run_all("address", &[]);
}

#[test]
#[ignore = "minutes long"]
fn thread_sanitizer_finds_nothing_in_the_whole_library() {
    run_all("thread", &["-Zbuild-std"]);
}
