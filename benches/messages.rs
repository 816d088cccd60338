//! "Publishing a message costs little more than its signature, and so does reading one."
//!
//! The limit is the signature operation alone, on the same bytes in the same run: sign, and recover the signer.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use veilcast::Payload;
use veilcast::identity::Domain;
use veilcast_benches::Desk;

const SIZES: [usize; 4] = [64, 256, 4096, 65_536];

fn messages(criterion: &mut Criterion) {
    let mut desk = Desk::new();
    let mut group = criterion.benchmark_group("messages");
    for size in SIZES {
        let payload = Payload::binary(vec![5; size]);
        let envelope = desk.seal_and_sign(&payload);
        let signature = desk.identity.sign(Domain::Message, &envelope);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("limit: sign", size), |b| {
            b.iter(|| desk.identity.sign(Domain::Message, black_box(&envelope)));
        });
        group.bench_function(BenchmarkId::new("seal and sign", size), |b| {
            b.iter(|| desk.seal_and_sign(black_box(&payload)));
        });
        group.bench_function(BenchmarkId::new("limit: recover", size), |b| {
            b.iter(|| signature.signer(Domain::Message, black_box(&envelope)));
        });
        group.bench_function(BenchmarkId::new("verify and open", size), |b| {
            b.iter(|| desk.verify_and_open(black_box(&envelope)));
        });
    }
    group.finish();
    ratios(&mut desk);
}

/// Interleaved, so that a noisy machine disturbs both sides alike.
fn ratios(desk: &mut Desk) {
    const ROUNDS: u32 = 4000;
    let payload = Payload::binary(vec![5; 256]);
    let envelope = desk.seal_and_sign(&payload);
    let signature = desk.identity.sign(Domain::Message, &envelope);
    let mut spent = [Duration::ZERO; 4];
    for _ in 0..ROUNDS {
        spent[0] += timed(|| desk.identity.sign(Domain::Message, &envelope));
        spent[1] += timed(|| desk.seal_and_sign(&payload));
        spent[2] += timed(|| signature.signer(Domain::Message, &envelope).is_ok());
        spent[3] += timed(|| desk.verify_and_open(&envelope));
    }
    let ratio = |work: Duration, limit: Duration| work.as_secs_f64() / limit.as_secs_f64();
    println!("256 B, {ROUNDS} interleaved rounds, target 1.30:");
    println!("  seal and sign   / sign    = {:.2}  ({:?} each)", ratio(spent[1], spent[0]), spent[1] / ROUNDS);
    println!("  verify and open / recover = {:.2}  ({:?} each)", ratio(spent[3], spent[2]), spent[3] / ROUNDS);
}

fn timed<T>(work: impl FnOnce() -> T) -> Duration {
    let start = Instant::now();
    black_box(work());
    start.elapsed()
}

criterion_group!(benches, messages);
criterion_main!(benches);
