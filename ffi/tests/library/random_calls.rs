//! Random calls of the interface, seeded, under the sanitizers of the C compiler.

use std::process::Command;

use mailproof::zone::Zone;
use mailproof_fault_dns::{Plan, Server};

use crate::c::{Language, SANITIZERS, compile, folder, said, scratch};

/// Runs as many random programs; every failure names its seed.
pub(crate) fn run_seeds(
    seeds: std::ops::Range<u64>,
    steps: u32,
    wrapper: &[&str],
    options: &[&str],
    name: &str,
) -> String {
    let zone = Zone::from_yaml("example.org: [{TXT: 'v=spf1 ip4:192.0.2.7 -all'}]").unwrap();
    let server = Server::start(zone, Plan::new(7)).unwrap();
    let program = compile(&folder().join("tests/library/random_calls.c"), Language::C11, options, &scratch(name));
    let mut told = String::new();
    for seed in seeds {
        let mut command = match wrapper {
            [] => Command::new(&program),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(&program);
                command
            }
        };
        command.env("MAILPROOF_KERNELS", if wrapper.is_empty() { "auto" } else { "portable" });
        told.push_str(&said(command.args([seed.to_string(), steps.to_string(), server.addr().to_string()])));
    }
    told
}

#[test]
fn any_order_of_calls_is_answered() {
    let told = run_seeds(0..12, 4000, &[], SANITIZERS, "random-calls");
    for status in ["done", "a pointer is NULL", "not at this stage", "nothing there at the moment", "the queue is full"]
    {
        assert!(told.contains(status), "{status} never came up:\n{told}");
    }
}
