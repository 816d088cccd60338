//! "A key is found at once, and a new one is on disk when the call returns."

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use veilcast::key_store::{GroupKey, KeyId, KeyOrigin, KeyScope, KeyStore, SledKeyStore, Unlock};

const KEYS: u64 = 10_000;

fn keys(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let unlock = Unlock::KeyFile(folder.path().join("key"));
    let store = SledKeyStore::open(&folder.path().join("store"), &unlock).expect("a new store");
    let scope = KeyScope::new([1; 20], "0x0101010101010101010101010101010101010101/bench");
    let id = |n: u64| KeyId::new(&format!("{n:032x}")).expect("a valid id");
    std::thread::scope(|threads| {
        for thread in 0..16 {
            let (store, scope) = (&store, &scope);
            threads.spawn(move || {
                for n in (thread..KEYS).step_by(16) {
                    let key = GroupKey::new(id(n), &[n as u8; 32]).expect("32 bytes");
                    store.add(scope, &key, n, None, KeyOrigin::Received).expect("it is stored");
                }
            });
        }
    });
    let mut n = 0;
    criterion.bench_function("keys: look one of 10,000 up", |b| {
        b.iter(|| {
            n = (n + 7919) % KEYS;
            black_box(store.key(&scope, &id(n)).expect("readable").expect("there"))
        });
    });
    let mut next = KEYS;
    criterion.bench_function("keys: commit one durably, one writer", |b| {
        b.iter(|| {
            next += 1;
            let key = GroupKey::new(id(next), &[1; 32]).expect("32 bytes");
            store.add(&scope, &key, next, None, KeyOrigin::Received).expect("it is stored");
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = keys
}
criterion_main!(benches);
