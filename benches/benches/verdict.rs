//! The time of one verdict.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mailproof_benches::mail_auth_side::MailAuth;
use mailproof_benches::mailproof_side::Mailproof;
use mailproof_benches::messages::{Kind, SIZES_KIB, message};

fn verdict(criterion: &mut Criterion) {
    let (theirs, mut ours) = (MailAuth::new(), Mailproof::new());
    for (kind, kib) in SIZES_KIB.into_iter().flat_map(|kib| Kind::ALL.map(|kind| (kind, kib))) {
        let message = message(kind, kib);
        let mut group = criterion.benchmark_group(format!("verdict/{kib} KiB {}", kind.name()));
        group.throughput(Throughput::Bytes(message.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter("mailproof"), &message, |bencher, message| {
            bencher.iter(|| black_box(ours.verdict(black_box(message))).len());
        });
        group.bench_with_input(BenchmarkId::from_parameter("mail-auth"), &message, |bencher, message| {
            bencher.iter(|| black_box(theirs.verdict(black_box(message))).len());
        });
        group.finish();
    }
}

criterion_group!(benches, verdict);
criterion_main!(benches);
