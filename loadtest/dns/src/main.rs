//! Serves zone files on loopback and goes wrong as a plan says, until it is told to end.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use mailproof_fault_dns::command::{Arguments, main as run};

fn main() -> ExitCode {
    run(&Arguments::parse())
}
