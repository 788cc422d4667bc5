//! The time of every case of the list, in short runs: `make bench` keeps the medians.
//!
//! `cargo bench -p mailproof-benches --bench cases [-- FILTER]`

use std::hint::black_box;
use std::time::Duration;

use criterion::Criterion;
use mailproof_benches::cases;

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(15)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(600))
        .without_plots()
        .configure_from_args();
    for case in cases::all() {
        // The work is prepared when the filter lets it through, and once.
        let mut work = None;
        criterion.bench_function(&case.id(), |bencher| {
            let work = work.get_or_insert_with(|| case.prepare());
            bencher.iter(|| black_box(work()));
        });
    }
    criterion.final_summary();
}
