//! Random calls of the interface, seeded, under the sanitizers of the C compiler.

use std::process::Command;

use mailproof::zone::Zone;
use mailproof_fault_dns::{Plan, Server};

use crate::c::{Language, SANITIZERS, compile, folder, has, said, scratch, skip};

/// The DNS of the engines that have threads.
pub(crate) fn server() -> Server {
    let zone = Zone::from_yaml("example.org: [{TXT: 'v=spf1 ip4:192.0.2.7 -all'}]").unwrap();
    Server::start(zone, Plan::new(7)).unwrap()
}

#[test]
fn any_order_of_calls_is_answered() {
    let (to, server) = (scratch("random-calls"), server());
    let program = compile(&folder().join("tests/library/random_calls.c"), Language::C11, SANITIZERS, &to);
    let mut told = String::new();
    // A failure shows the command, and so the seed.
    for seed in 0..12 {
        let words = [seed.to_string(), "20000".to_owned(), server.addr().to_string(), "auto".to_owned()];
        told.push_str(&said(Command::new(&program).args(words)));
    }
    for status in ["done", "a pointer is NULL", "not at this stage", "nothing there at the moment", "the queue is full"]
    {
        assert!(told.contains(status), "{status} never came up:\n{told}");
    }
}

#[test]
fn any_order_of_calls_is_answered_under_valgrind() {
    if !has("valgrind") {
        return skip("needs valgrind");
    }
    let (to, server) = (scratch("random-calls-valgrind"), server());
    let program = compile(&folder().join("tests/library/random_calls.c"), Language::C11, &[], &to);
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--quiet", "--error-exitcode=9", "--leak-check=full", "--errors-for-leak-kinds=definite"]);
    // Valgrind knows no AVX-512.
    valgrind.env("MAILPROOF_KERNELS", "portable").arg(&program);
    said(valgrind.args(["12", "3000", &server.addr().to_string(), "epoll"]));
}
