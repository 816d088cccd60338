//! "A rekey reaches a thousand subscribers in little more time than their RSA encryptions take on all cores."
//!
//! The rekey is a whole one: the ledger is read, everybody checked again, the key wrapped, signed and sent on its way. Nobody is
//! there to confirm it, so that what is measured is the publisher's work.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{Criterion, criterion_group, criterion_main};
use rand::SeedableRng;
use rand::rngs::StdRng;
use veilcast::cipher::{PublicKey, Recipient, RsaPair, encapsulate};
use veilcast::client::{Client, KeyUpdateMethod, Keypair, StreamOptions};
use veilcast::exchange::push;
use veilcast::key_store::{GroupKey, KeyId, KeyOrigin, KeyScope, MemoryKeyStore, StoredKey};
use veilcast::publisher::{Entry, Given, GivenBy, GrantLedger, Place};
use veilcast::wire::RequestId;
use veilcast::{Identity, Period, Permission, StreamId, Timestamp, UserId};

const SUBSCRIBERS: u32 = 1000;

fn user(n: u32) -> UserId {
    let mut bytes = [5; 20];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    UserId::from_bytes(bytes)
}

/// Everybody at once, shared among the cores.
fn on_all_cores(one: impl Fn(u32) + Sync) {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) as u32;
    std::thread::scope(|threads| {
        for core in 0..cores {
            let one = &one;
            threads.spawn(move || (core..SUBSCRIBERS).step_by(cores as usize).for_each(one));
        }
    });
}

/// A publisher whose ledger knows a thousand holders, none of whom is there.
async fn publisher(identity: &Identity, public_key: &[u8]) -> (Client, StreamId) {
    let store = Arc::new(MemoryKeyStore::default());
    let stream = StreamId::of(identity.user(), "bench").expect("a valid path");
    let given = |n| Given {
        stream: stream.clone(),
        user: user(n),
        place: Place {
            peer: Keypair::generate_ed25519().public().to_peer_id().to_bytes(),
            addresses: Vec::new(),
            public_key: public_key.to_vec(),
        },
        grant: Period::ALWAYS,
        keys: vec![(KeyId::new("before").expect("a valid id"), Timestamp::ZERO)],
        at: Timestamp::ZERO,
        by: GivenBy::Answer,
    };
    let entries: Vec<_> = (0..SUBSCRIBERS).map(|n| Entry::Given(given(n))).collect();
    GrantLedger::new(store.clone(), identity.user()).write(&entries).expect("it is written");
    let publisher = Client::builder(identity.clone()).store(store).start().await.expect("it starts");
    publisher.create_stream("bench", StreamOptions::default()).await.expect("a new stream");
    for n in 0..SUBSCRIBERS {
        let granted = publisher.grant(&stream, user(n), Permission::Subscribe, Period::ALWAYS).await;
        granted.expect("it is granted");
    }
    (publisher, stream)
}

fn rekey(criterion: &mut Criterion) {
    let pair = RsaPair::generate(2048, &mut StdRng::seed_from_u64(1)).expect("a pair");
    let public = PublicKey::from_der(pair.public().as_der()).expect("its public half");
    let identity = Identity::from_secret_bytes(&[1; 32]).expect("a valid secret");
    let scope = KeyScope::new([1; 20], "bench");
    criterion.bench_function("rekey: 1,000 RSA-2048 encryptions on all cores (the limit)", |b| {
        b.iter(|| {
            on_all_cores(|n| {
                let recipient = Recipient { scope: &scope, subscriber: user(n), request: RequestId([0; 16]) };
                drop(black_box(encapsulate(recipient, &public, &mut rand::rng()).expect("encrypted")));
            });
        });
    });

    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let (client, stream) = runtime.block_on(publisher(&identity, pair.public().as_der()));
    let key = GroupKey::new(KeyId::new("after").expect("a valid id"), &[2; 32]).expect("32 bytes");
    let key = StoredKey { key, since: 0, until: None, origin: KeyOrigin::Made };
    criterion.bench_function("rekey: 1,000 pushes parsed, wrapped and signed on all cores", |b| {
        b.iter(|| {
            on_all_cores(|n| {
                let public = PublicKey::from_der(pair.public().as_der()).expect("a public key");
                let made = push(&stream, user(n), &public, &key, &identity, Timestamp::ZERO, &mut rand::rng());
                drop(black_box(made.expect("wrapped and signed")));
            });
        });
    });
    criterion.bench_function("rekey: a whole one over 1,000 holders who are away", |b| {
        b.iter(|| {
            let report = runtime.block_on(client.update_encryption_key(&stream, KeyUpdateMethod::Rekey, None));
            assert_eq!(report.expect("a report").must_pull.len(), SUBSCRIBERS as usize);
        });
    });
    runtime.block_on(client.stop());
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10);
    targets = rekey
}
criterion_main!(benches);
