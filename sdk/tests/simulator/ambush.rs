//! Traps for requests: a hostile answer that is there before the true one.

use veilcast::cipher::PublicKey;
use veilcast::exchange::{Decision, answer};
use veilcast::identity::Domain;
use veilcast::key_store::{GroupKey, KeyOrigin, StoredKey};
use veilcast::wire::{Content, KeyRequest, Received};
use veilcast::{Refusal, Timestamp};

use crate::forging::forged;
use crate::network::{Body, Packet, Place};
use crate::world::World;

/// What is said to the next one who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trap {
    /// A refusal in the publisher's name, not signed by it.
    Forge,
    /// A refusal, and keys, of somebody else's; well signed.
    Stranger,
    /// By the publisher itself, gone bad: speaks of keys that were not asked for.
    Unasked,
    /// The publisher's last answer again, on this call.
    Repeat,
}

impl World {
    /// A request passes by.
    pub(crate) fn ambush(&mut self, packet: &Packet) {
        let (Place::Subscriber(victim), Place::Publisher(asked), Body::Request(bytes)) =
            (packet.from, packet.to, &packet.body)
        else {
            return;
        };
        let Ok(request) = Received::<KeyRequest>::decode(bytes).map(|received| received.claims().clone()) else {
            return;
        };
        // Damage on the way may have made it a request for nobody.
        let whole = request.publisher == self.publishers[asked].user();
        if !whole || request.wanted.key_ids().is_empty() || PublicKey::from_der(&request.public_key).is_err() {
            return;
        }
        let Some(trap) = self.hostile.traps.pop() else { return };
        self.env.note(format_args!("{trap:?} lies in wait for subscriber {victim}"));
        let said = match trap {
            Trap::Forge => self.refusal_in_the_name_of(&request),
            Trap::Stranger => self.answer_of_a_stranger(&request),
            Trap::Unasked => self.more_than_was_asked(asked, &request),
            Trap::Repeat => return self.repeat(victim, &request),
        };
        self.say(Place::Subscriber(victim), Body::Answer(request.id, said));
    }

    fn refusal_in_the_name_of(&mut self, request: &KeyRequest) -> bytes::Bytes {
        let mut content = self.refusing(request);
        content.publisher = request.publisher;
        forged(Domain::KeyAnswer, content.encode(), &self.hostile.identity)
    }

    fn refusing(&mut self, request: &KeyRequest) -> veilcast::wire::KeyAnswer {
        let mut own = request.clone();
        own.publisher = self.hostile.identity.user();
        let no = |id: &veilcast::key_store::KeyId| -> Decision { (id.clone(), Err(Refusal::Denied)) };
        let decisions = request.wanted.key_ids().iter().map(no).collect();
        let now = Timestamp::from_millis(self.env.now);
        answer(&own, decisions, &self.hostile.identity, now, &mut self.env.rng).unwrap().into_content()
    }

    /// Half of the keys refused, the other half given: the hostile peer's own, under the names asked for.
    fn answer_of_a_stranger(&mut self, request: &KeyRequest) -> bytes::Bytes {
        let mut own = request.clone();
        own.publisher = self.hostile.identity.user();
        let decisions = request.wanted.key_ids().iter().enumerate().map(|(n, id)| -> Decision {
            let given = || GroupKey::new(id.clone(), &[7; 32]).unwrap();
            (id.clone(), if n % 2 == 0 { Err(Refusal::Denied) } else { Ok(stored(given(), self.env.now)) })
        });
        let (decisions, now) = (decisions.collect(), Timestamp::from_millis(self.env.now));
        let signed = answer(&own, decisions, &self.hostile.identity, now, &mut self.env.rng).unwrap();
        signed.envelope().clone()
    }

    fn more_than_was_asked(&mut self, asked: usize, request: &KeyRequest) -> bytes::Bytes {
        let extra = GroupKey::generate(&mut self.env.rng);
        let refused = GroupKey::generate(&mut self.env.rng).id().clone();
        let decisions = vec![(extra.id().clone(), Ok(stored(extra, self.env.now))), (refused, Err(Refusal::Denied))];
        let now = Timestamp::from_millis(self.env.now);
        let signed = answer(request, decisions, &self.publishers[asked].identity, now, &mut self.env.rng).unwrap();
        signed.envelope().clone()
    }

    fn repeat(&mut self, victim: usize, request: &KeyRequest) {
        let to = Place::Subscriber(victim);
        if let Some(Packet { body: Body::Answer(_, bytes), .. }) = self.heard(|body| matches!(body, Body::Answer(..))) {
            self.say(to, Body::Answer(request.id, bytes));
        }
    }
}

fn stored(key: GroupKey, since: u64) -> StoredKey {
    StoredKey { key, since, until: None, origin: KeyOrigin::Made }
}
