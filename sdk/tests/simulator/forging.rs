//! What hostile peers make themselves: floods, intrusions, forgeries, and requests they have no right to.

use bytes::Bytes;
use prost::Message as _;
use rand::{Rng, RngExt};
use veilcast::cipher::{MessageCipher, PublicKey};
use veilcast::exchange::push;
use veilcast::identity::{Domain, Identity};
use veilcast::key_store::{GroupKey, KeyId, KeyOrigin, StoredKey, TimeRange};
use veilcast::message::{Draft, Payload, compose};
use veilcast::stream::StreamId;
use veilcast::wire::{
    ALGORITHM_RSA_OAEP_SHA256, Content, Frame, KeyRange, KeyRequest, MAX_KEYS_PER_REQUEST, MessageContent, MessageRef,
    Received, RequestId, Verified, Wanted,
};
use veilcast::{Timestamp, UserId, scope};

use crate::network::{Body, Place};
use crate::rsa_pool;
use crate::world::World;

/// Requests of one flood.
const FLOOD: usize = 40;

/// `Envelope` of docs/PROTOCOL.md, so that anybody can be named in it and anybody can sign it.
#[derive(Clone, PartialEq, prost::Message)]
struct Envelope {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(uint32, tag = "2")]
    kind: u32,
    #[prost(bytes = "vec", tag = "3")]
    content: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    signature: Vec<u8>,
}

/// `content` in an envelope signed by one whom it does not name.
pub(crate) fn forged(domain: Domain, content: Vec<u8>, signer: &Identity) -> Bytes {
    let signature = signer.sign(domain, &content).as_bytes().to_vec();
    Envelope { version: 1, kind: domain.number(), content, signature }.encode_to_vec().into()
}

impl World {
    /// A publisher, one of its streams, and keys of it that were heard of.
    fn target(&mut self) -> (usize, StreamId, Vec<KeyId>) {
        let number = self.env.rng.random_range(0..self.publishers.len());
        let streams = &self.publishers[number].streams;
        let stream = streams[self.env.rng.random_range(0..streams.len())].clone();
        let keys = self.known_keys(self.publishers[number].user(), &stream);
        (number, stream, keys)
    }

    fn known_keys(&self, publisher: UserId, stream: &StreamId) -> Vec<KeyId> {
        let own = |id: &&KeyId| self.env.facts.belongs(publisher, stream, id);
        self.env.facts.keys.keys().filter(own).take(16).cloned().collect()
    }

    fn request(&mut self, publisher: UserId, stream: StreamId, requester: UserId, key_ids: Vec<KeyId>) -> KeyRequest {
        let mut id = RequestId([0; 16]);
        self.env.rng.fill_bytes(&mut id.0);
        KeyRequest {
            id,
            stream,
            publisher,
            requester,
            sent: Timestamp::from_millis(self.env.now),
            algorithm: ALGORITHM_RSA_OAEP_SHA256,
            public_key: rsa_pool::hostile().public().as_der().to_vec(),
            wanted: Wanted::Keys(key_ids),
            proofs: Vec::new(),
        }
    }

    pub(crate) fn ask_as_stranger(&mut self) {
        let (number, stream, keys) = self.target();
        let (publisher, me) = (self.publishers[number].user(), self.hostile.identity.user());
        if keys.is_empty() {
            return;
        }
        let request = self.request(publisher, stream, me, keys);
        self.env.facts.asked.insert((me, request.id));
        let signed = Verified::sign(request, &self.hostile.identity).unwrap();
        self.say(Place::Publisher(number), Body::Request(signed.envelope().clone()));
    }

    /// Signed by a real subscriber, who wants more than is good for it.
    pub(crate) fn ask_as_insider(&mut self, across: bool) {
        let (number, stream, mut keys) = self.target();
        let publisher = self.publishers[number].user();
        if across {
            let others =
                self.env.facts.keys.iter().filter(|(_, fact)| (fact.publisher, &fact.stream) != (publisher, &stream));
            keys.extend(others.map(|(id, _)| id.clone()).take(16));
        }
        if keys.is_empty() {
            return;
        }
        let insider = self.env.rng.random_range(0..self.subscribers.len());
        let user = self.subscribers[insider].user();
        let request = self.request(publisher, stream, user, keys);
        self.env.facts.asked.insert((user, request.id));
        let signed = Verified::sign(request, &self.subscribers[insider].identity).unwrap();
        self.say(Place::Publisher(number), Body::Request(signed.envelope().clone()));
    }

    pub(crate) fn ask_as_historian(&mut self) {
        let (number, stream, _) = self.target();
        let insider = self.env.rng.random_range(0..self.subscribers.len());
        let user = self.subscribers[insider].user();
        let mut request = self.request(self.publishers[number].user(), stream, user, Vec::new());
        let from = self.env.now.saturating_sub(self.env.rng.random_range(0..200_000));
        let range = TimeRange { from, to: from + self.env.rng.random_range(0..200_000) };
        request.wanted = Wanted::Range(KeyRange { range, after: None });
        self.env.facts.asked.insert((user, request.id));
        let signed = Verified::sign(request, &self.subscribers[insider].identity).unwrap();
        self.say(Place::Publisher(number), Body::Request(signed.envelope().clone()));
    }

    pub(crate) fn forge_request(&mut self) {
        let (number, stream, keys) = self.target();
        let victim = self.env.rng.random_range(0..self.subscribers.len());
        if keys.is_empty() {
            return;
        }
        let (publisher, named) = (self.publishers[number].user(), self.subscribers[victim].user());
        let request = self.request(publisher, stream, named, keys);
        let envelope = forged(Domain::KeyRequest, request.encode(), &self.hostile.identity);
        self.say(Place::Publisher(number), Body::Request(envelope));
    }

    /// In its own name, so that the true request must still be answered.
    pub(crate) fn steal_id(&mut self) {
        let Some(packet) = self.heard(|body| matches!(body, Body::Request(_))) else { return };
        let Body::Request(bytes) = &packet.body else { return };
        let Ok(mut request) = Received::<KeyRequest>::decode(bytes).map(|received| received.claims().clone()) else {
            return;
        };
        let me = self.hostile.identity.user();
        (request.requester, request.sent) = (me, Timestamp::from_millis(self.env.now));
        self.env.facts.asked.insert((me, request.id));
        let signed = Verified::sign(request, &self.hostile.identity).unwrap();
        self.say(packet.to, Body::Request(signed.envelope().clone()));
    }

    pub(crate) fn garbage(&mut self) {
        let mut junk = vec![0; self.env.rng.random_range(0..3_000)];
        self.env.rng.fill_bytes(&mut junk);
        let junk = Bytes::from(junk);
        let (number, stream, _) = self.target();
        let victim = Place::Subscriber(self.env.rng.random_range(0..self.subscribers.len()));
        self.say(Place::Publisher(number), Body::Request(junk.clone()));
        self.say(Place::Publisher(number), Body::Receipt(junk.clone()));
        self.say(victim, Body::Push(junk.clone()));
        self.say(victim, Body::Answer(RequestId([0; 16]), junk.clone()));
        self.say(victim, Body::Frame(stream.part(0).unwrap(), junk));
    }

    /// Well signed, in its own name; nobody may so much as look at it.
    pub(crate) fn oversize(&mut self) {
        let (number, stream, _) = self.target();
        let keys = (0..=MAX_KEYS_PER_REQUEST).map(|n| KeyId::new(&format!("key-{n}")).unwrap()).collect();
        let publisher = self.publishers[number].user();
        let request = self.request(publisher, stream, self.hostile.identity.user(), keys);
        let envelope = forged(Domain::KeyRequest, request.encode(), &self.hostile.identity);
        self.say(Place::Publisher(number), Body::Request(envelope));
        let message = self.own_message(false);
        let many = Frame::of_message(message.envelope().clone()).repeat(1_100);
        let victim = Place::Subscriber(self.env.rng.random_range(0..self.subscribers.len()));
        self.say(victim, Body::Frame(message.content().part.clone(), many.into()));
    }

    pub(crate) fn flood(&mut self) {
        for _ in 0..FLOOD {
            self.forge_request();
        }
    }

    pub(crate) fn forge_push(&mut self) {
        let (number, stream, _) = self.target();
        let victim = self.env.rng.random_range(0..self.subscribers.len());
        let Some(pair) = self.subscribers[victim].run.as_ref().map(|run| run.pair) else { return };
        let (user, named) = (self.subscribers[victim].user(), self.publishers[number].user());
        let public: &PublicKey = pair.public();
        let key = GroupKey::generate(&mut self.env.rng);
        let stored = StoredKey { key, since: self.env.now, until: None, origin: KeyOrigin::Made };
        let now = Timestamp::from_millis(self.env.now);
        let own = push(&stream, user, public, &stored, &self.hostile.identity, now, &mut self.env.rng).unwrap();
        let mut content = own.content().clone();
        content.publisher = named;
        let in_its_name = forged(Domain::KeyPush, content.encode(), &self.hostile.identity);
        self.say(Place::Subscriber(victim), Body::Push(own.envelope().clone()));
        self.say(Place::Subscriber(victim), Body::Push(in_its_name));
    }

    /// Its own chain on a stream where it may not publish: sealed with a key of its own, and in plaintext.
    pub(crate) fn intrude(&mut self) {
        for sealed in [true, false] {
            let message = self.own_message(sealed);
            let part = message.content().part.clone();
            let frame = Frame::of_message(message.envelope().clone());
            for subscriber in 0..self.subscribers.len() {
                self.say(Place::Subscriber(subscriber), Body::Frame(part.clone(), frame.clone()));
            }
        }
    }

    fn own_message(&mut self, sealed: bool) -> Verified<MessageContent> {
        let (_, stream, _) = self.target();
        let at = MessageRef { timestamp: Timestamp::from_millis(self.env.now), sequence: 0 };
        let mut chain = [0; 16];
        self.env.rng.fill_bytes(&mut chain);
        let part = stream.part(0).unwrap();
        let draft = Draft { part, chain, at, previous: None, key_updates: Vec::new() };
        let key = GroupKey::generate(&mut self.env.rng);
        let cipher = MessageCipher::new(&scope(self.hostile.identity.user(), &stream), &key);
        let cipher = sealed.then_some((key.id(), &cipher));
        compose(draft, &Payload::text("buy"), cipher, &self.hostile.identity, &mut self.env.rng).unwrap()
    }

    /// A plaintext message that names a real publisher, and a real message with another payload; signed by somebody else.
    pub(crate) fn forge_message(&mut self) {
        let (number, ..) = self.target();
        let (me, named) = (self.hostile.identity.user(), self.publishers[number].user());
        let own = self.own_message(false);
        let part = own.content().part.clone();
        let content = replaced(&own.content().encode(), me.as_bytes(), named.as_bytes());
        let mut forgeries = vec![(part, forged(Domain::Message, content, &self.hostile.identity))];
        if let Some(packet) = self.heard(|body| matches!(body, Body::Frame(..)))
            && let Body::Frame(part, bytes) = packet.body
            && let Some(altered) = Frame::decode(&bytes).ok().and_then(|parts| parts.messages.into_iter().next())
        {
            forgeries.push((part, self.altered(&altered)));
        }
        for (part, envelope) in forgeries {
            let to = Place::Subscriber(self.env.rng.random_range(0..self.subscribers.len()));
            self.say(to, Body::Frame(part, Frame::of_message(envelope)));
        }
    }

    fn altered(&self, message: &Received<MessageContent>) -> Bytes {
        let mut content = message.claims().clone();
        let mut payload = content.payload.to_vec();
        if let Some(last) = payload.last_mut() {
            *last ^= 1;
        }
        content.payload = payload.into();
        forged(Domain::Message, content.encode(), &self.hostile.identity)
    }
}

fn replaced(bytes: &[u8], from: &[u8; 20], to: &[u8; 20]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if let Some(at) = bytes.windows(20).position(|window| window == from) {
        bytes[at..at + 20].copy_from_slice(to);
    }
    bytes
}
