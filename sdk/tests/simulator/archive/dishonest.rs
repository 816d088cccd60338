//! What a dishonest storage node says in place of its honest answer.

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::StdRng;
use veilcast::identity::{Domain, Identity};
use veilcast::storage::{MemoryMessageStore, MessageStore, Place, Query};
use veilcast::wire::{Content, MessageContent, MessageRef, Received, RequestId, ResendPage, ResendRequest};
use veilcast::{Timestamp, UserId};

use crate::env::Env;
use crate::forging::forged;
use crate::network::flip_bits;

/// What kind of node it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Mode {
    Honest,
    /// Says what is not so, this often (per mille).
    Lying(u32),
    /// Has nothing behind this moment, it says.
    WithoutEnd(u64),
    /// Leaves out what is dated between these moments.
    WithoutMiddle(u64, u64),
    /// Leaves out one message in so many, always the same ones.
    WithHoles(u8),
    /// Leads its readers past everything.
    Leaping,
    /// Leads its readers on for ever, a step at a time.
    Endless,
}

impl Mode {
    pub(super) fn any(rng: &mut StdRng) -> Self {
        let moment = |rng: &mut StdRng| crate::plan::START + rng.random_range(0..120_000);
        match rng.random_range(0..16) {
            0..7 => Self::Honest,
            7..10 => Self::Lying([1_000, 300][rng.random_range(0..2)]),
            10 | 11 => Self::WithoutEnd(moment(rng)),
            12 => {
                let from = moment(rng);
                Self::WithoutMiddle(from, from + rng.random_range(1_000..60_000))
            }
            13 => Self::WithHoles(rng.random_range(2..5)),
            14 => Self::Leaping,
            _ => Self::Endless,
        }
    }

    /// Whether it may be said to have lied: pages that lead on for ever with nothing on them are a lie as well.
    pub(super) fn lies(self) -> bool {
        !matches!(self, Self::Honest)
    }

    /// In place of the honest page; `None` where that one is given.
    pub(super) fn says(
        self,
        rng: &mut StdRng,
        env: &Env,
        asked: &ResendRequest,
        honest: &ResendPage,
        before: Option<&ResendPage>,
        store: &MemoryMessageStore,
    ) -> Option<Said> {
        let mut page = honest.clone();
        match self {
            Self::Honest => return None,
            Self::Lying(often) => {
                return (rng.random_range(0..1000) < often).then(|| lie(rng, env, asked, honest, before, store))?;
            }
            Self::WithoutEnd(moment) => {
                page.messages.retain(|envelope| place_of(envelope).at.timestamp.as_millis() < moment);
                if page.messages.len() < honest.messages.len() {
                    page.next = None;
                }
            }
            Self::WithoutMiddle(from, until) => {
                page.messages.retain(|envelope| !(from..until).contains(&place_of(envelope).at.timestamp.as_millis()));
            }
            Self::WithHoles(n) => {
                page.messages.retain(|envelope| envelope.last().is_none_or(|byte| byte % n != 0));
            }
            Self::Leaping => {
                page.messages.clear();
                page.next = Some(far_behind(asked));
            }
            Self::Endless => {
                page.messages.clear();
                page.next = Some(asked.after.map_or(far_behind(asked), step_behind));
            }
        }
        Some(Said { page, by: Signer::Node })
    }
}

/// Where no message will ever be.
fn far_behind(asked: &ResendRequest) -> Place {
    let far = MessageRef { timestamp: Timestamp::from_millis(u64::MAX / 2), sequence: 0 };
    let far = asked.after.map_or(far, |after| far.max(after.at));
    Place {
        at: MessageRef { sequence: far.sequence + 1, ..far },
        publisher: UserId::from_bytes([0; 20]),
        chain: [0; 16],
    }
}

fn step_behind(place: Place) -> Place {
    Place { at: MessageRef { sequence: place.at.sequence + 1, ..place.at }, ..place }
}

fn place_of(envelope: &Bytes) -> Place {
    Place::from(Received::<MessageContent>::decode(envelope).unwrap().claims())
}

/// A page, and who signs it.
pub(super) struct Said {
    page: ResendPage,
    by: Signer,
}

enum Signer {
    Node,
    /// Somebody else, in the node's name.
    Stranger,
}

impl Said {
    pub(super) fn sign(&self, node: &Identity, rng: &mut StdRng) -> Bytes {
        match self.by {
            Signer::Node => forged(Domain::ResendPage, self.page.encode(), node),
            Signer::Stranger => forged(Domain::ResendPage, self.page.encode(), &Identity::generate(rng)),
        }
    }
}

/// Something that is seen to be wrong at once; `None` where there is nothing to make it of.
fn lie(
    rng: &mut StdRng,
    env: &Env,
    asked: &ResendRequest,
    honest: &ResendPage,
    before: Option<&ResendPage>,
    store: &MemoryMessageStore,
) -> Option<Said> {
    let mut page = honest.clone();
    let count = page.messages.len();
    let mut by = Signer::Node;
    match rng.random_range(0..9) {
        // Bytes altered.
        0 if count > 0 => {
            let one = rng.random_range(0..count);
            flip_bits(&mut page.messages[one], rng);
            if page.messages[one] == honest.messages[one] {
                return None;
            }
        }
        // A message in its author's name that he did not sign.
        1 if count > 0 => {
            let one = rng.random_range(0..count);
            let mut content = Received::<MessageContent>::decode(&page.messages[one]).unwrap().claims().clone();
            content.payload = b"forged".as_slice().into();
            page.messages[one] = forged(Domain::Message, content.encode(), &Identity::generate(rng));
        }
        // Of another stream or partition.
        2 => {
            let other = env.facts.messages.values().find(|fact| {
                let part = Received::<MessageContent>::decode(&fact.envelope).unwrap().claims().part.clone();
                part != asked.part
            })?;
            page.messages.push(other.envelope.clone());
        }
        // Everything there is, whatever was asked for.
        3 => {
            let all = store.read(&Query::everything(asked.part.clone())).unwrap();
            let whole: Vec<Bytes> = all.messages.into_iter().map(|stored| stored.envelope).collect();
            let asked_for = |envelope: &Bytes| {
                let place = place_of(envelope);
                let within = match asked.span {
                    veilcast::wire::Span::Last(_) => true,
                    veilcast::wire::Span::Range { from, to } => (from..=to).contains(&place.at.timestamp),
                };
                within && asked.filter.passes(&place) && asked.after.is_none_or(|after| place > after)
            };
            if whole.iter().all(asked_for) {
                return None;
            }
            page.messages = whole;
        }
        // Twice.
        4 if count > 0 => {
            let one = page.messages[rng.random_range(0..count)].clone();
            page.messages.push(one);
        }
        // Out of order.
        5 if count > 1 => page.messages.reverse(),
        // An answer to another request.
        6 => match before {
            Some(before) => page = before.clone(),
            None => page.id = RequestId([9; 16]),
        },
        // Back to where it began.
        7 => page.next = Some(asked.after?),
        // Signed by somebody else.
        8 => by = Signer::Stranger,
        _ => return None,
    }
    Some(Said { page, by })
}
