//! Instructions of every case of the list, counted by callgrind: they do not depend on how busy the machine is.
//!
//! Valgrind shows programs a processor without SHA-NI, AVX-512 and IFMA, so these are the instructions of the portable
//! and AVX2 routines; the parsing around them is the same everywhere.
//!
//! `cargo bench -p mailproof-benches --bench instructions [-- FILTER]`, with `gungraun-runner` of the same version found
//! in the path or named by `GUNGRAUN_RUNNER`.

// The macros make items that nobody sees.
#![allow(missing_docs)]

use std::hint::black_box;

use gungraun::{Callgrind, LibraryBenchmarkConfig, library_benchmark, library_benchmark_group, main};
use mailproof_benches::cases::{self, Work};

fn numbers(is_short: bool) -> Vec<usize> {
    let cases = cases::all();
    cases.iter().enumerate().filter(|(_, case)| case.is_short == is_short).map(|(number, _)| number).collect()
}

fn prepare(number: usize) -> Work {
    cases::all()[number].prepare()
}

// The work goes back to the harness, so that its end is not counted.
#[library_benchmark]
#[benches::case(iter = numbers(true), setup = prepare)]
fn short(mut work: Work) -> (usize, Work) {
    (black_box(work()), work)
}

#[library_benchmark]
#[benches::case(iter = numbers(false), setup = prepare)]
fn rest(mut work: Work) -> (usize, Work) {
    (black_box(work()), work)
}

library_benchmark_group!(name = list, benchmarks = [short, rest]);

main!(
    config = LibraryBenchmarkConfig::default().tool(Callgrind::with_args(["--cache-sim=no"])),
    library_benchmark_groups = list
);
