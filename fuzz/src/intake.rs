//! The subscriber's pipeline, driven by a program of small steps.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;
use veilcast::cipher::{MessageCipher, wrap_next};
use veilcast::exchange::AskFailure;
use veilcast::key_store::GroupKey;
use veilcast::message::{Draft, Payload, compose};
use veilcast::subscriber::{Arrival, Intake, IntakeEffect, IntakeLimits};
use veilcast::wire::{KeyUpdate, MessageContent, MessageRef, Received, UpdateKind, Verified};
use veilcast::{Identity, Refusal, Timestamp, UserId};

use crate::cast::{NOW, identity, key, rng, stream};

const KEYS: [&str; 4] = ["a", "b", "c", "d"];
/// Most steps of one input.
const MOST: usize = 64;

/// Steps of four bytes: messages of two publishers in four chains each, under keys that are here, missing, wrong, refused
/// or carried by other messages, in any order and with anything for a reference; time that passes; and raw envelopes. What
/// is delivered is what was sealed, each chain in order and nothing twice; what waits is bounded.
pub fn intake(data: &[u8]) -> bool {
    let limits = IntakeLimits {
        parked: 6,
        out_of_order: 6,
        chains: NonZeroUsize::new(8).expect("not zero"),
        chains_per_publisher: 4,
        keys: NonZeroUsize::new(3).expect("not zero"),
        ..IntakeLimits::default()
    };
    let mut reader = Reader { intake: Intake::new(stream(), limits), now: NOW, last: HashMap::new() };
    let mut rest = data;
    for _ in 0..MOST {
        let Some((step, tail)) = rest.split_first_chunk() else { break };
        rest = reader.step(step, tail);
        assert!(reader.intake.parked() <= limits.parked);
    }
    !reader.last.is_empty()
}

struct Reader {
    intake: Intake,
    now: Timestamp,
    /// The last message delivered of each chain.
    last: HashMap<(UserId, [u8; 16]), MessageRef>,
}

impl Reader {
    /// Takes one step; returns the bytes that are left.
    fn step<'a>(&mut self, step: &[u8; 4], tail: &'a [u8]) -> &'a [u8] {
        let [kind, who, which, far] = *step;
        let (author, name) = (identity(1 + who % 2), KEYS[usize::from(which % 4)]);
        let (publisher, now) = (author.user(), self.now);
        let mut tail = tail;
        let effects = match kind % 8 {
            0..=2 => match message(&author, step) {
                Some(message) => self.intake.message(now, message),
                None => Vec::new(),
            },
            3 => {
                // Now and then another key under the same name.
                let held = key(name, name.as_bytes()[0] ^ u8::from(far > 250));
                self.intake.key_arrived(now, publisher, held, Arrival::Answer)
            }
            4 => {
                let until = now.plus(Duration::from_millis(10 * u64::from(far)));
                self.intake.key_refused(now, publisher, &crate::cast::key_id(name), Refusal::Denied, until)
            }
            5 => self.intake.key_unavailable(now, publisher, &crate::cast::key_id(name), AskFailure::Timeout),
            6 => {
                self.now = now.plus(Duration::from_millis(5 * u64::from(far)));
                self.intake.tick(self.now)
            }
            _ => {
                let (envelope, after) = tail.split_at(usize::from(u16::from_be_bytes([which, far])).min(tail.len()));
                tail = after;
                match Received::<MessageContent>::decode(&Bytes::copy_from_slice(envelope)).map(Received::verify) {
                    Ok(Ok(verified)) => self.intake.message(now, verified),
                    _ => Vec::new(),
                }
            }
        };
        self.check(effects);
        tail
    }

    fn check(&mut self, effects: Vec<IntakeEffect>) {
        for effect in effects {
            match effect {
                IntakeEffect::Deliver(message) => {
                    let read = Received::<MessageContent>::decode(&message.envelope).expect("it came so").verify();
                    let content = read.expect("only verified messages went in").into_content();
                    let name = (content.publisher, content.chain);
                    let before = self.last.insert(name, content.at);
                    assert!(before.is_none_or(|before| before < content.at), "a chain is delivered in order, once");
                    // A raw envelope of the seeds says something else.
                    if is_author(content.publisher) {
                        assert_eq!(message.payload, text_of(&content.chain, content.at));
                    }
                }
                IntakeEffect::Keep { publisher, key: carried, .. } => {
                    let known = KEYS.iter().any(|name| carried.same_as(&true_key(name)));
                    assert!(known || !is_author(publisher), "a carried key is one that was wrapped");
                }
                IntakeEffect::Notify(_) | IntakeEffect::Need { .. } => {}
            }
        }
    }
}

fn is_author(user: UserId) -> bool {
    [1, 2].iter().any(|byte| identity(*byte).user() == user)
}

fn true_key(name: &str) -> GroupKey {
    key(name, name.as_bytes()[0])
}

/// What a message of [`message`] says: where it stands.
fn text_of(chain: &[u8; 16], at: MessageRef) -> Vec<u8> {
    format!("step {} {} {}", chain[0], at.timestamp.as_millis(), at.sequence).into_bytes()
}

fn at(n: u8) -> MessageRef {
    MessageRef { timestamp: NOW.plus(Duration::from_millis(u64::from(n / 2))), sequence: u32::from(n % 2) }
}

/// `who`: author, chain, whether there is a reference, how far it reaches back. `which`: under which key, what it carries.
/// `None` when no receiver would take it.
fn message(author: &Identity, [_, who, which, n]: &[u8; 4]) -> Option<Verified<MessageContent>> {
    let scope = veilcast::scope(author.user(), &stream());
    let (under, next) = (true_key(KEYS[usize::from(which % 4)]), true_key(KEYS[usize::from(which / 4 % 4)]));
    let wrapped = match which / 16 % 4 {
        0 => Some(wrap_next(&scope, &under, &next, &mut rng())),
        1 => Some(vec![9; 80]),
        _ => None,
    };
    let update = |wrapped| KeyUpdate {
        kind: UpdateKind::Rotate,
        key_id: next.id().clone(),
        wrapped_by: under.id().clone(),
        wrapped,
    };
    let chain = [who / 2 % 4; 16];
    let draft = Draft {
        part: stream().part(0).ok()?,
        chain,
        at: at(*n),
        previous: (who & 8 != 0).then(|| at(n.saturating_sub(1 + who / 16))),
        key_updates: wrapped.map(update).into_iter().collect(),
    };
    let cipher = MessageCipher::new(&scope, &under);
    let with = (which / 64 != 0).then_some((under.id(), &cipher));
    compose(draft, &Payload::binary(text_of(&chain, at(*n))), with, author, &mut rng()).ok()
}
