//! The command `mailproof`.
#![forbid(unsafe_code)]

use std::process::ExitCode;

/// Measured faster than the system's for many small allocations on several threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // The allocator asks for pages of 2 MiB, which at rest are 13 MiB of nothing and measured no faster. A kernel without
    // them refuses, and there is nothing to do then.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    mailproof_cli::run(std::env::args_os())
}
