//! Nodes over real loopback sockets, for the tests of the client.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own share")]
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use veilcast::cipher::{MessageCipher, Recipient, RsaPair, TransportKey};
use veilcast::client::{
    Client, ClientBuilder, ClientConfig, Delivery, Keypair, Multiaddr, Relay, StreamOptions, Subscription,
};
use veilcast::key_store::{GroupKey, KeyId, KeyOrigin, MemoryKeyStore, Store, StoredKey};
use veilcast::message::{Draft, compose};
use veilcast::network::{Gate, Network, NetworkConfig, NetworkEvent, Reply, RequestError, Verdict};
use veilcast::time::{Clock, SystemClock};
use veilcast::wire::{
    ALGORITHM_RSA_OAEP_SHA256, Content, Frame, KeyAnswer, KeyRequest, MessageContent, MessageRef, PublisherRecord,
    Received, RequestId, Verified, Wanted,
};
use veilcast::{Event, Identity, Message, Payload, Period, Permission, Refusal, StreamId, StreamPart, UserId};

/// Longer than anything here takes; a test that waits so long has failed.
pub const LONG: Duration = Duration::from_secs(180);

pub fn loopback() -> Multiaddr {
    "/ip4/127.0.0.1/tcp/0".parse().unwrap()
}

pub fn identity(byte: u8) -> Identity {
    Identity::from_secret_bytes(&[byte; 32]).unwrap()
}

pub fn config() -> ClientConfig {
    let mut config = ClientConfig::default();
    config.rsa_bits = 2048;
    // Answers and confirmations of whoever is there may take their time on a busy machine; whoever is gone is known to be at once.
    config.requester.key_request_timeout = LONG;
    config.push_timeout = LONG;
    config
}

pub struct Net {
    pub relay: Relay,
    pub address: Multiaddr,
}

impl Net {
    pub async fn start() -> Self {
        let relay = Relay::builder().listen(loopback()).start().await.unwrap();
        let address = relay.addresses().await.first().cloned().unwrap();
        Self { relay, address }
    }

    pub async fn client(&self, byte: u8) -> Client {
        self.client_with(byte, Arc::new(MemoryKeyStore::default()), config()).await
    }

    pub async fn client_with(&self, byte: u8, store: Arc<dyn Store>, config: ClientConfig) -> Client {
        let builder = Client::builder(identity(byte)).store(store).config(config).listen(loopback());
        let client = builder.bootstrap(self.address.clone()).start().await.unwrap();
        within(client.connect(self.address.clone())).await.unwrap();
        client
    }

    /// Waits until the relay knows of so many subscribers, and the publisher of the relay.
    pub async fn ready(&self, publisher: &Client, stream: &StreamId, subscribers: usize) {
        let part = stream.part(0).unwrap();
        within(self.relay.wait_for_peers(&part, subscribers)).await;
        within(publisher.wait_for_peers(&part, 1)).await;
    }

    /// Somebody with an endless grant who has subscribed.
    pub async fn granted_reader(&self, byte: u8, publisher: &Client, stream: &StreamId) -> (Client, Subscription) {
        let reader = self.client(byte).await;
        publisher.grant(stream, reader.user(), Permission::Subscribe, Period::ALWAYS).await.unwrap();
        let subscription = reader.subscribe(stream).await.unwrap();
        (reader, subscription)
    }

    /// A publisher with a private stream of one partition.
    pub async fn publisher(&self) -> (Client, StreamId) {
        let publisher = self.client(1).await;
        let stream = publisher.create_stream("s", StreamOptions::default()).await.unwrap();
        (publisher, stream)
    }
}

pub async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, future).await.expect("it should have happened by now")
}

pub async fn say(publisher: &Client, stream: &StreamId, text: &str) {
    publisher.publish(stream, Payload::text(text)).await.unwrap();
}

pub async fn next_message(subscription: &mut Subscription) -> Message {
    within(async {
        loop {
            match subscription.next().await.expect("the client runs") {
                Delivery::Message(message) => return message,
                Delivery::Event(_) => {}
            }
        }
    })
    .await
}

pub async fn next_text(subscription: &mut Subscription) -> String {
    next_message(subscription).await.text().unwrap().to_string()
}

/// The next text but this one: whoever has just come may be brought what was said a moment before.
pub async fn next_text_but(subscription: &mut Subscription, earlier: &str) -> String {
    loop {
        let text = next_text(subscription).await;
        if text != earlier {
            return text;
        }
    }
}

/// The next event for which `pick` answers; messages in between are an error.
pub async fn next_event<T>(subscription: &mut Subscription, pick: impl Fn(&Event) -> Option<T>) -> T {
    within(async {
        loop {
            match subscription.next().await.expect("the client runs") {
                Delivery::Message(message) => panic!("an event was expected, not {:?}", message.text()),
                Delivery::Event(event) => {
                    if let Some(picked) = pick(&event) {
                        return picked;
                    }
                }
            }
        }
    })
    .await
}

/// Waits until something that no event tells is so.
pub async fn until(mut so: impl AsyncFnMut() -> bool) {
    within(async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

impl Net {
    /// What every client here is set up with; [`Net::join`] starts it.
    pub fn builder(&self, byte: u8) -> ClientBuilder {
        Client::builder(identity(byte)).config(config()).listen(loopback()).bootstrap(self.address.clone())
    }

    /// Starts a client and connects it to the relay.
    pub async fn join(&self, builder: ClientBuilder) -> Client {
        let client = builder.start().await.unwrap();
        within(client.connect(self.address.clone())).await.unwrap();
        client
    }

    /// Waits until the relay knows of so many peers and of no more: those that stopped are gone.
    pub async fn peers(&self, n: usize) {
        until(async || self.relay.connected_peers().await == n).await;
    }
}

/// A node that keeps none of the rules: it takes in everything, relays everything and says what it is told to.
pub struct Raw {
    pub network: Network,
    pub events: mpsc::Receiver<NetworkEvent<Bytes>>,
}

struct TakesAll;

impl Gate for TakesAll {
    type Accepted = Bytes;
    fn admit_frame(&self, _: &str, frame: &[u8]) -> Result<Bytes, Verdict> {
        Ok(Bytes::copy_from_slice(frame))
    }
    fn is_topic(&self, _: &str) -> bool {
        true
    }
    fn admit_record(&self, _: &[u8], _: &[u8]) -> bool {
        true
    }
}

impl Raw {
    /// Connected to this address; with no limit of its own on what it asks.
    pub async fn start(connect: &Multiaddr) -> Self {
        Self::listening(connect, vec![loopback()]).await
    }

    /// Nobody can dial it: whatever it gets and sends goes through the node at this address.
    pub async fn leaf(connect: &Multiaddr) -> Self {
        Self::listening(connect, Vec::new()).await
    }

    async fn listening(connect: &Multiaddr, listen: Vec<Multiaddr>) -> Self {
        let mut config = NetworkConfig::new(Keypair::generate_ed25519());
        config.listen = listen;
        config.limits.max_request = 1 << 20;
        let (network, events) = veilcast::network::spawn(config, Arc::new(TakesAll)).await.unwrap();
        within(network.dial(connect.clone())).await.unwrap();
        Self { network, events }
    }

    /// Sends bytes to a client as a request, and returns what it answers.
    pub async fn ask(&self, client: &Client, request: impl Into<Vec<u8>>) -> Result<Bytes, RequestError> {
        let asked = self.network.request(client.peer_id(), client.addresses().await, request.into());
        within(asked).await.map(Bytes::from)
    }

    /// The answer to an honest request; it must come.
    pub async fn answer(&self, client: &Client, request: &Verified<KeyRequest>) -> KeyAnswer {
        answer_of(&self.ask(client, request.envelope().to_vec()).await.expect("an answer"))
    }

    /// The next request of somebody, and the way to answer it.
    pub async fn requested(&mut self) -> (Bytes, Reply) {
        self.wait(|event| match event {
            NetworkEvent::Request { request, reply, .. } => Some((request.into(), reply)),
            _ => None,
        })
        .await
    }

    /// The next frame that reaches this node.
    pub async fn frame(&mut self) -> Bytes {
        self.wait(|event| match event {
            NetworkEvent::Frame { accepted, .. } => Some(accepted),
            _ => None,
        })
        .await
    }

    async fn wait<T>(&mut self, pick: impl Fn(NetworkEvent<Bytes>) -> Option<T>) -> T {
        within(async {
            loop {
                if let Some(picked) = pick(self.events.recv().await.expect("the node runs")) {
                    return picked;
                }
            }
        })
        .await
    }

    /// Publishes a frame as one gossip message of its own, to at least so many neighbours.
    pub async fn send(&self, part: &StreamPart, frame: impl Into<Bytes>) {
        within(self.network.wait_for_peers(&part.topic(), 1)).await;
        self.network.publish(&part.topic(), frame.into()).await.unwrap();
        // Frames that wait together travel as one; each of these is to be judged alone.
        within(self.network.flush()).await;
    }

    /// A signed record that sends whoever looks for `identity` to this node.
    pub async fn record(&self, identity: &Identity) -> PublisherRecord {
        let now = SystemClock.now();
        let addresses = self.network.listen_addresses().await;
        PublisherRecord {
            publisher: identity.user(),
            peer: self.network.local_peer().to_bytes(),
            addresses: addresses.iter().map(|address| address.to_vec()).collect(),
            issued: now,
            expires: now.plus(Duration::from_secs(600)),
            slot: 0,
        }
    }
}

/// A publisher that exists only as an identity, a key and a node without rules.
pub struct HandMade {
    pub raw: Raw,
    pub identity: Identity,
    pub stream: StreamId,
    pub key: GroupKey,
    pub chain: [u8; 16],
    pub last: Option<MessageRef>,
}

impl HandMade {
    pub async fn start(net: &Net, byte: u8) -> Self {
        let made = Self::start_unlisted(net, byte).await;
        let record = Verified::sign(made.raw.record(&made.identity).await, &made.identity).unwrap();
        let (key, value) = (PublisherRecord::dht_key(made.identity.user(), 0), record.envelope().to_vec());
        within(made.raw.network.put_record(key, value, Duration::from_secs(600))).await.unwrap();
        made
    }

    /// The same, but the DHT does not know where it is.
    pub async fn start_unlisted(net: &Net, byte: u8) -> Self {
        let (identity, raw) = (identity(byte), Raw::start(&net.address).await);
        let stream = StreamId::of(identity.user(), "s").unwrap();
        Self { raw, identity, stream, key: group_key("the-key", 0x5a), chain: [byte; 16], last: None }
    }

    pub fn part(&self) -> StreamPart {
        self.stream.part(0).unwrap()
    }

    /// The next message of its chain, sealed and signed.
    pub fn message(&mut self, text: &str) -> Verified<MessageContent> {
        let at = MessageRef { timestamp: SystemClock.now(), sequence: 0 };
        let at = match self.last {
            Some(last) if at <= last => MessageRef { timestamp: last.timestamp, sequence: last.sequence + 1 },
            _ => at,
        };
        let previous = self.last.replace(at);
        let draft = Draft { part: self.part(), chain: self.chain, at, previous, key_updates: Vec::new() };
        sealed(draft, text, &self.key, &self.identity)
    }

    /// Publishes its next message together with its record.
    pub async fn say(&mut self, text: &str) {
        let mut frame = Frame::of_message(self.message(text).envelope().clone()).to_vec();
        let record = Verified::sign(self.raw.record(&self.identity).await, &self.identity).unwrap();
        frame.extend_from_slice(&Frame::of_record(record.envelope().clone()));
        self.raw.send(&self.part(), frame).await;
    }

    /// The next key request.
    pub async fn requested(&mut self) -> (KeyRequest, Reply) {
        let (request, reply) = self.raw.requested().await;
        (Received::<KeyRequest>::decode(&request).unwrap().verify().unwrap().into_content(), reply)
    }

    /// The answer that an honest publisher would give.
    pub fn answer(&self, request: &KeyRequest) -> Verified<KeyAnswer> {
        let grant = |id: &KeyId| match id == self.key.id() {
            true => (id.clone(), Ok(stored(&self.key))),
            false => (id.clone(), Err(Refusal::UnknownKey)),
        };
        let decisions = request.wanted.key_ids().iter().map(grant).collect();
        veilcast::exchange::answer(request, decisions, &self.identity, SystemClock.now(), &mut rand::rng()).unwrap()
    }
}

pub fn group_key(id: &str, byte: u8) -> GroupKey {
    GroupKey::new(KeyId::new(id).unwrap(), &[byte; 32]).unwrap()
}

pub fn stored(key: &GroupKey) -> StoredKey {
    let since = SystemClock.now().as_millis();
    StoredKey { key: key.clone(), since, until: None, origin: KeyOrigin::Made }
}

pub fn sealed(draft: Draft, text: &str, key: &GroupKey, identity: &Identity) -> Verified<MessageContent> {
    let cipher = MessageCipher::new(&veilcast::scope(identity.user(), draft.part.stream()), key);
    compose(draft, &Payload::text(text), Some((key.id(), &cipher)), identity, &mut rand::rng()).unwrap()
}

/// The RSA pair of every hand-made request.
pub fn rsa() -> &'static RsaPair {
    static PAIR: OnceLock<RsaPair> = OnceLock::new();
    PAIR.get_or_init(|| RsaPair::generate(2048, &mut rand::rng()).unwrap())
}

/// What an honest subscriber would ask.
pub fn key_request(from: &Identity, publisher: UserId, stream: &StreamId, key_ids: &[&KeyId]) -> KeyRequest {
    let mut id = [0; 16];
    rand::fill(&mut id);
    KeyRequest {
        id: RequestId(id),
        stream: stream.clone(),
        publisher,
        requester: from.user(),
        sent: SystemClock.now(),
        algorithm: ALGORITHM_RSA_OAEP_SHA256,
        public_key: rsa().public().as_der().to_vec(),
        wanted: Wanted::Keys(key_ids.iter().copied().cloned().collect()),
        proofs: Vec::new(),
    }
}

pub fn signed_request(
    from: &Identity,
    publisher: UserId,
    stream: &StreamId,
    key_ids: &[&KeyId],
) -> Verified<KeyRequest> {
    Verified::sign(key_request(from, publisher, stream, key_ids), from).unwrap()
}

pub fn answer_of(bytes: &Bytes) -> KeyAnswer {
    Received::<KeyAnswer>::decode(bytes).unwrap().verify().unwrap().into_content()
}

/// Why the only key asked for was refused.
pub fn refusal_of(answer: &KeyAnswer) -> Refusal {
    match (&answer.granted[..], &answer.refused[..]) {
        ([], [refused]) => refused.refusal,
        _ => panic!("one refusal was expected: {answer:?}"),
    }
}

/// The keys of an answer to a hand-made request, unwrapped.
pub fn opened(answer: &KeyAnswer) -> Vec<GroupKey> {
    let scope = veilcast::scope(answer.publisher, &answer.stream);
    let recipient = Recipient { scope: &scope, subscriber: answer.requester, request: answer.id };
    let transport = TransportKey::decapsulate(recipient, rsa(), &answer.encapsulated, &mut rand::rng()).unwrap();
    answer.granted.iter().map(|key| transport.unwrap(&key.key_id, &key.wrapped).unwrap()).collect()
}

/// An envelope with any fields: what [`Verified::sign`] would not make.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AnyEnvelope {
    #[prost(uint32, tag = "1")]
    pub version: u32,
    #[prost(uint32, tag = "2")]
    pub kind: u32,
    #[prost(bytes = "vec", tag = "3")]
    pub content: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    pub signature: Vec<u8>,
    /// No envelope has this field.
    #[prost(bytes = "vec", tag = "15")]
    pub extra: Vec<u8>,
}

impl AnyEnvelope {
    /// `content` under a good signature of `signer`, whoever it names.
    pub fn of<T: Content>(content: &T, signer: &Identity) -> Self {
        let bytes = content.encode();
        let signature = signer.sign(T::DOMAIN, &bytes).as_bytes().to_vec();
        Self { version: 1, kind: T::DOMAIN.number(), content: bytes, signature, extra: Vec::new() }
    }

    pub fn bytes(&self) -> Bytes {
        prost::Message::encode_to_vec(self).into()
    }
}
