//! "A rekey reaches a thousand subscribers, or ten thousand, in little more time than their RSA encryptions take on all cores."
//!
//! The rekey is a whole one: the ledger is read, everybody checked again, the key wrapped, signed and sent on its way. Nobody is
//! there to confirm it, so that what is measured is the publisher's work.

use std::hint::black_box;
use std::sync::Arc;

use veilcast::cipher::{PublicKey, Recipient, RsaPair, encapsulate};
use veilcast::client::{Client, KeyUpdateMethod, Keypair, StreamOptions};
use veilcast::exchange::push;
use veilcast::key_store::{GroupKey, KeyId, KeyOrigin, KeyScope, MemoryKeyStore, StoredKey};
use veilcast::publisher::{Entry, Given, GivenBy, GrantLedger, Place};
use veilcast::wire::RequestId;
use veilcast::{Identity, Period, Permission, StreamId, Timestamp, UserId};
use veilcast_benches::{Line, Outcome, Report, Sample, cores, in_turn, quick_or, run, timed};

/// Ledger entries written at once.
const AT_ONCE: usize = 1000;

fn user(n: u32) -> UserId {
    let mut bytes = [5; 20];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    UserId::from_bytes(bytes)
}

/// Each of so many at once, shared among the cores.
fn on_all_cores(count: u32, one: impl Fn(u32) + Sync) {
    std::thread::scope(|threads| {
        for core in 0..cores() as u32 {
            let one = &one;
            threads.spawn(move || (core..count).step_by(cores()).for_each(one));
        }
    });
}

/// A publisher whose ledger knows so many holders, none of whom is there.
async fn publisher(identity: &Identity, public_key: &[u8], holders: u32) -> Outcome<(Client, StreamId)> {
    let store = Arc::new(MemoryKeyStore::default());
    let (stream, key) = (StreamId::of(identity.user(), "bench")?, KeyId::new("before")?);
    let given = |n| Given {
        stream: stream.clone(),
        user: user(n),
        place: Place {
            peer: Keypair::generate_ed25519().public().to_peer_id().to_bytes(),
            addresses: Vec::new(),
            public_key: public_key.to_vec(),
        },
        grant: Period::ALWAYS,
        keys: vec![(key.clone(), Timestamp::ZERO)],
        at: Timestamp::ZERO,
        by: GivenBy::Answer,
    };
    let entries: Vec<_> = (0..holders).map(|n| Entry::Given(given(n))).collect();
    let ledger = GrantLedger::new(store.clone(), identity.user());
    entries.chunks(AT_ONCE).try_for_each(|entries| ledger.write(entries))?;
    let publisher = Client::builder(identity.clone()).store(store).start().await?;
    publisher.create_stream("bench", StreamOptions::default()).await?;
    for n in 0..holders {
        publisher.grant(&stream, user(n), Permission::Subscribe, Period::ALWAYS).await?;
    }
    Ok((publisher, stream))
}

/// The limit, the wraps alone, and whole rekeys, in turn; seconds of each.
fn measure(pair: &RsaPair, holders: u32, rounds: usize) -> Outcome<[Sample; 3]> {
    let (identity, scope) = (Identity::from_secret_bytes(&[1; 32])?, KeyScope::new([1; 20], "bench"));
    let public = PublicKey::from_der(pair.public().as_der())?;
    let key = StoredKey {
        key: GroupKey::new(KeyId::new("after")?, &[2; 32])?,
        since: 0,
        until: None,
        origin: KeyOrigin::Made,
    };
    let runtime = tokio::runtime::Runtime::new()?;
    let (client, stream) = runtime.block_on(publisher(&identity, pair.public().as_der(), holders))?;
    let (mut limits, mut wraps, mut rekeys) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let mut alone = || {
            on_all_cores(holders, |n| {
                let recipient = Recipient { scope: &scope, subscriber: user(n), request: RequestId([0; 16]) };
                _ = black_box(encapsulate(recipient, &public, &mut rand::rng()).is_ok());
            });
        };
        let mut pushes = || {
            on_all_cores(holders, |n| {
                let public = PublicKey::from_der(pair.public().as_der());
                let made = public.map(|public| {
                    push(&stream, user(n), &public, &key, &identity, Timestamp::ZERO, &mut rand::rng()).is_ok()
                });
                _ = black_box(made.is_ok());
            });
        };
        let [alone, pushes] = in_turn(1, 1, [&mut alone, &mut pushes]);
        limits.push(alone.median());
        wraps.push(pushes.median());
        let (took, report) =
            timed(|| runtime.block_on(client.update_encryption_key(&stream, KeyUpdateMethod::Rekey, None)));
        if report?.must_pull.len() != holders as usize {
            return Err("a rekey passed somebody over".into());
        }
        rekeys.push(took.as_secs_f64());
    }
    runtime.block_on(client.stop());
    Ok([limits, wraps, rekeys].map(Sample::of))
}

fn main() -> Outcome<()> {
    run(|| {
        let mut report = Report::begin("rekey")?;
        let pair = RsaPair::generate(2048, &mut rand::rng())?;
        for (holders, rounds) in quick_or(&[(20, 1)][..], &[(1000, 10), (10_000, 3)]) {
            let [limit, wraps, whole] = measure(&pair, *holders, *rounds)?;
            let (limit, limit_is) = (limit.median() * 1e3, "RSA-2048 on all cores");
            let line = Line::cost(format!("{holders} keys parsed, wrapped and signed on all cores"), "ms", 1e3, &wraps);
            report.line(line.limit(limit, limit_is));
            let line = Line::cost(format!("a rekey of {holders} holders who are away"), "ms", 1e3, &whole);
            report.line(line.limit(limit, limit_is).target_ratio(1.2));
        }
        report.save()
    })
}
