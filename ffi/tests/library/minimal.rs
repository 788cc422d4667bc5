//! The minimal build: way four and nothing else, without threads and sockets.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::abi::{exported, imported};
use crate::c::{folder, library, run, scratch};
use crate::scenarios::{Cases, Dns, check};

/// What a program needs for threads, sockets and waiting for them.
const NOT_WANTED: [&str; 22] = [
    "pthread_create",
    "clone",
    "fork",
    "socket",
    "socketpair",
    "connect",
    "bind",
    "listen",
    "accept",
    "accept4",
    "send",
    "sendto",
    "sendmsg",
    "sendmmsg",
    "recv",
    "recvfrom",
    "recvmsg",
    "recvmmsg",
    "epoll_create1",
    "epoll_wait",
    "eventfd",
    "getaddrinfo",
];

/// Builds the library without its features; gives the folder with what is installed.
fn minimal() -> PathBuf {
    let root = folder().join("..");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--package", "mailproof-ffi", "--no-default-features", "--profile", "minimal"]);
    run(cargo.current_dir(&root));
    let out = scratch("library-minimal");
    run(Command::new("sh").arg(folder().join("link.sh")).arg(root.join("target/minimal")).arg(&out));
    out
}

/// Compiles the driver, without what needs threads, against a library.
pub(crate) fn driver(compiler: &str, library: &Path, to: &Path) -> PathBuf {
    let driver = to.join("driver");
    let mut command = Command::new(compiler);
    command.args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", "-DDRIVER_WITHOUT_THREADS"]);
    command.arg("-I").arg(folder().join("include")).arg(folder().join("tests/library/driver.c"));
    command.arg("-L").arg(library).arg(format!("-Wl,-rpath,{}", library.display()));
    run(command.arg("-lmailproof").arg("-o").arg(&driver));
    driver
}

/// The octets of a library without what a program does not need of it.
pub(crate) fn stripped_size(strip: &str, library: &Path, to: &Path) -> u64 {
    let copy = to.join("stripped.so");
    run(Command::new(strip).arg("--strip-unneeded").arg("-o").arg(&copy).arg(library));
    fs::metadata(copy).unwrap().len()
}

#[test]
fn minimal_build_has_neither_threads_nor_sockets() {
    let built = minimal();
    let shared = built.join("libmailproof.so");
    let wanted = imported(&shared);
    let unwanted: BTreeSet<&str> = NOT_WANTED.into_iter().filter(|name| wanted.contains(*name)).collect();
    assert!(unwanted.is_empty(), "{unwanted:?} of {wanted:?}");
    assert_eq!(exported(&shared), exported(&library().join("libmailproof.so")), "what is left out answers so");

    let to = scratch("minimal");
    let driver = driver("cc", &built, &to);
    check(&mut Command::new(&driver), "own", &Cases::write(&to, Dns::Zone, |_| true));

    let refused = Command::new(&driver).arg("one").arg(Cases::write(&to, Dns::Zone, |_| true).list).output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("without zone files"));
    println!("minimal, stripped: {} octets", stripped_size("strip", &shared, &to));
}
