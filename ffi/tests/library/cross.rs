//! The minimal build for other processors, in an emulator: verdicts are those of this one. Minutes long, so for the long run
//! of the tests.

use std::process::Command;

use crate::c::{folder, has, run, scratch, skip};
use crate::compilers::cargo_with_library;
use crate::minimal::{driver, stripped_size};
use crate::scenarios::{Cases, Dns, check};

/// A processor: Rust's name of the target, that of its C compiler, and the emulator.
struct Processor {
    target: &'static str,
    gnu: &'static str,
    emulator: &'static str,
}

fn gives_the_verdicts_of_this_one(processor: &Processor) {
    let Processor { target, gnu, emulator } = processor;
    let compiler = format!("{gnu}-gcc");
    for tool in [&compiler, *emulator] {
        if !has(tool) {
            return skip(&format!("needs {tool}"));
        }
    }
    let Some(mut cargo) = cargo_with_library() else { return };
    let out = folder().join("../target/cross");
    cargo.args(["--package", "mailproof-ffi", "--no-default-features", "--profile", "minimal", "--target", target]);
    cargo.arg("--target-dir").arg(&out).env(format!("CC_{}", target.replace('-', "_")), &compiler);
    let linker = format!("CARGO_TARGET_{}_LINKER", target.replace('-', "_").to_uppercase());
    run(cargo.env(linker, &compiler));

    let to = scratch(&format!("cross-{target}"));
    let library = to.join("library");
    let mut link = Command::new("sh");
    link.arg(folder().join("link.sh")).arg(out.join(target).join("minimal")).arg(&library);
    run(link.env("CC", &compiler));

    let driver = driver(&compiler, &library, &to);
    let mut emulated = Command::new(emulator);
    emulated.arg("-L").arg(format!("/usr/{gnu}")).arg(&driver);
    check(&mut emulated, "own", &Cases::write(&to, Dns::Zone, |_| true));
    let strip = format!("{gnu}-strip");
    println!("minimal, {target}, stripped: {} octets", stripped_size(&strip, &library.join("libmailproof.so"), &to));
}

#[test]
#[ignore = "minutes long"]
fn minimal_build_gives_the_same_verdicts_on_aarch64() {
    gives_the_verdicts_of_this_one(&Processor {
        target: "aarch64-unknown-linux-gnu",
        gnu: "aarch64-linux-gnu",
        emulator: "qemu-aarch64",
    });
}

#[test]
#[ignore = "minutes long"]
fn minimal_build_gives_the_same_verdicts_on_armv7() {
    gives_the_verdicts_of_this_one(&Processor {
        target: "armv7-unknown-linux-gnueabihf",
        gnu: "arm-linux-gnueabihf",
        emulator: "qemu-arm",
    });
}
