//! The relaxed form of a body, for every vector routine of this CPU.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mailproof_benches::messages::{Kind, body};
use mailproof_kernels::{Kernel, RelaxedBody};

fn canonical(criterion: &mut Criterion) {
    for kind in Kind::ALL {
        let body = body(kind, 30_000);
        let expected = canonical_length(Kernel::portable(), &body);
        let mut group = criterion.benchmark_group(format!("relaxed/30 kB {}", kind.name()));
        group.throughput(Throughput::Bytes(body.len() as u64));
        for kernel in Kernel::available() {
            assert_eq!(canonical_length(kernel, &body), expected);
            group.bench_with_input(BenchmarkId::from_parameter(kernel.name()), &body, |bencher, body| {
                bencher.iter(|| canonical_length(kernel, black_box(body)));
            });
        }
        group.finish();
    }
}

fn canonical_length(kernel: Kernel, body: &str) -> usize {
    let mut length = 0;
    let mut form = RelaxedBody::with_kernel(kernel);
    form.update(body.as_bytes(), |run| length += black_box(run).len());
    form.finish(|run| length += black_box(run).len());
    length
}

criterion_group!(benches, canonical);
criterion_main!(benches);
