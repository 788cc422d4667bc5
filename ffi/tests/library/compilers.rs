//! Compilers of Rust beside the one that built these tests: for what it can not make, another processor's code or an
//! instrumented standard library.

use std::path::PathBuf;
use std::process::Command;

use crate::c::{folder, skip};

/// Cargo without what the one that runs these tests has said to its children.
pub(crate) fn cargo() -> Command {
    let mut cargo = Command::new("cargo");
    for variable in ["RUSTUP_TOOLCHAIN", "CARGO", "RUSTC", "RUSTDOC"] {
        cargo.env_remove(variable);
    }
    cargo.current_dir(folder());
    cargo
}

/// Cargo with the compiler that `scripts/cross_compiler.sh` has put below `target`, which builds the standard library too.
pub(crate) fn cargo_with_library() -> Option<Command> {
    let root = folder().join("../target/cross-compiler");
    if !root.join(".complete").exists() {
        skip("needs scripts/cross_compiler.sh");
        return None;
    }
    let mut cargo = cargo();
    cargo.env("RUSTC", root.join("usr/bin/rustc"));
    cargo.env("LD_LIBRARY_PATH", root.join("usr/lib/x86_64-linux-gnu"));
    // Building the standard library is not a thing of stable compilers.
    cargo.env("RUSTC_BOOTSTRAP", "1").args(["build", "--quiet", "-Zbuild-std"]);
    Some(cargo)
}

/// Where the nightly toolchain is, if there is one.
pub(crate) fn nightly() -> Option<PathBuf> {
    let mut rustc = Command::new("rustc");
    rustc.env_remove("RUSTUP_TOOLCHAIN").args(["+nightly", "--print", "sysroot"]);
    let Some(sysroot) = rustc.output().ok().filter(|output| output.status.success()) else {
        skip("needs a nightly toolchain");
        return None;
    };
    Some(PathBuf::from(String::from_utf8(sysroot.stdout).unwrap().trim()))
}
