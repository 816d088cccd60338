//! "A new key is with every subscriber before anybody notices that it changed."
//!
//! From the call, rotate or rekey, to the first plaintext under the new key at the last of 1, 8 and 32 subscribers, each a process
//! of its own. What is published meanwhile is what it takes: at a rotate two messages, since the first carries the key and the
//! second is under it; at a rekey one, as soon as the key is current. The limit of a rotate: gossip's way to the last subscriber.
//! Of a rekey: the same, and for each subscriber one RSA encryption and one decryption on the cores they share.

use std::hint::black_box;

use veilcast::Payload;
use veilcast::cipher::{PublicKey, Recipient, RsaPair, TransportKey, encapsulate};
use veilcast::key_store::KeyScope;
use veilcast::wire::{Frame, RequestId};
use veilcast_benches::roles::{Group, Kind, Pace, Run, Runs, identity};
use veilcast_benches::{Desk, Line, Outcome, Report, Sample, cores, in_turn, quick_or, run};

/// Messages per second that show gossip's way.
const PACE: f64 = 20.0;

/// An RSA-2048 encryption and a decryption, seconds.
fn rsa() -> Outcome<f64> {
    let (pair, scope) = (RsaPair::generate(2048, &mut rand::rng())?, KeyScope::new([1; 20], "bench"));
    let (public, user) = (PublicKey::from_der(pair.public().as_der())?, identity(1)?.user());
    let recipient = || Recipient { scope: &scope, subscriber: user, request: RequestId([0; 16]) };
    let (_, carried) = encapsulate(recipient(), &public, &mut rand::rng())?;
    let mut wrap = || _ = black_box(encapsulate(recipient(), &public, &mut rand::rng()).is_ok());
    let mut unwrap =
        || _ = black_box(TransportKey::decapsulate(recipient(), &pair, &carried, &mut rand::rng()).is_ok());
    let [wrap, unwrap] = in_turn(quick_or(10, 200), 1, [&mut wrap, &mut unwrap]);
    Ok(wrap.median() + unwrap.median())
}

/// Gossip's way to the last of so many, seconds.
fn raw(readers: u32) -> Outcome<f64> {
    let size = Frame::of_message(Desk::new().seal_and_sign(&Payload::binary(vec![5; 256]))).to_vec().len();
    let (mut group, mut runs) = (Group::start(Kind::Raw, readers)?, Runs::default());
    runs.push(group.messages(Pace { per_second: Some(PACE), size, seconds: quick_or(0.3, 2.0) })?);
    Ok(runs.of(|run: &Run| run.worst(|got| got.p50)).median() / 1e3)
}

fn main() -> Outcome<()> {
    run(|| {
        let mut report = Report::begin("new_key")?;
        let rsa = rsa()?;
        for readers in quick_or(&[1, 3][..], &[1, 8, 32]) {
            let gossip = raw(*readers)?;
            let mut group = Group::start(Kind::Veilcast, *readers)?;
            for (name, rekey) in [("rotate", false), ("rekey", true)] {
                let mut last = Vec::new();
                for _ in 0..quick_or(1, 7) {
                    last.push(group.update(rekey)?.max());
                }
                let line =
                    Line::cost(format!("{name}: the last of {readers} subscribers"), "ms", 1e3, &Sample::of(last));
                let (limit, limit_is) = if rekey {
                    (gossip + f64::from(*readers) * rsa / cores() as f64, "raw gossip, RSA on all cores")
                } else {
                    (gossip, "raw gossip")
                };
                let line = line.limit(limit * 1e3, limit_is);
                report.line(if rekey && *readers == 32 { line.target(60.0) } else { line });
            }
        }
        report.save()
    })
}
