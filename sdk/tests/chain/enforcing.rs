//! Ends and early revocations on a chain: whoever is out is out, without anybody publishing or calling anything.

use std::sync::Arc;

use ethers_core::types::{Address, U256};
use veilcast::client::{Client, ClientConfig, Delivery, Multiaddr, Subscription};
use veilcast::key_store::{KeyStore, MemoryKeyStore, TimeRange};
use veilcast::permission::ethereum::FollowConfig;
use veilcast::subscriber::Arrival;
use veilcast::{Event, Identity, Payload};

use super::*;
use crate::anvil::{LONG, START};
use crate::between::{Between, Reply};

const END: u64 = START + 100_000;

fn identity(byte: u8) -> Identity {
    Identity::from_secret_bytes(&[byte; 32]).unwrap()
}

fn of(byte: u8) -> UserId {
    identity(byte).user()
}

/// A chain, a publisher that may publish, and one clock for all.
struct Shop {
    chain: Chain,
    clock: Arc<ManualClock>,
    store: Arc<MemoryKeyStore>,
    confirmations: u64,
}

impl Shop {
    async fn open() -> Self {
        let chain = Chain::start().await;
        let clock = Arc::new(ManualClock::at(at(START + 10)));
        Self { chain, clock, store: Arc::default(), confirmations: 0 }
    }

    async fn stream(&self, path: &str) -> StreamId {
        let stream = self.chain.create(path, "{}").await;
        self.chain.set(&stream, of(1), Entry { publish: U256::MAX, ..Entry::default() }).await;
        stream
    }

    async fn sell(&self, stream: &StreamId, who: u8, until: U256) {
        self.chain.set(stream, of(who), Entry { subscribe: until, ..Entry::default() }).await;
    }

    /// A registry that follows the chain, with the lists of these streams at hand.
    async fn registry(&self, streams: &[&StreamId]) -> Arc<EthereumRegistry> {
        let registry = self.registry_at(&self.chain.url);
        streams.iter().for_each(|stream| registry.watch(stream));
        registry.look_now().await;
        registry
    }

    fn registry_at(&self, url: &str) -> Arc<EthereumRegistry> {
        let mut config = config();
        (config.max_head_age, config.confirmations) = (Duration::from_secs(1_000_000), self.confirmations);
        let mut follow = FollowConfig::default();
        follow.poll = Duration::from_millis(50);
        let registry = self.chain.builder(config).rpc(url).clock(self.clock.clone()).build().unwrap();
        Arc::new(registry.follow(self.store.clone(), follow))
    }

    async fn publisher(&self, registry: &Arc<EthereumRegistry>) -> Client {
        self.client(1, registry, self.store.clone(), &[]).await
    }

    async fn reader(&self, who: u8, registry: &Arc<EthereumRegistry>, publisher: &Client) -> Client {
        self.client(who, registry, Arc::default(), &publisher.addresses().await).await
    }

    async fn client(
        &self,
        who: u8,
        registry: &Arc<EthereumRegistry>,
        store: Arc<MemoryKeyStore>,
        to: &[Multiaddr],
    ) -> Client {
        let mut config = ClientConfig::default();
        config.rsa_bits = 2048;
        let builder = Client::builder(identity(who)).config(config).store(store).clock(self.clock.clone());
        let builder = builder.permissions(registry.clone()).listen("/ip4/127.0.0.1/tcp/0".parse().unwrap());
        let builder = to.iter().cloned().fold(builder, |builder, address| builder.bootstrap(address));
        let client = builder.start().await.unwrap();
        for address in to {
            within(client.connect(address.clone())).await.unwrap();
        }
        client
    }

    fn keys_made(&self, stream: &StreamId) -> usize {
        self.store.history(&veilcast::scope(of(1), stream), TimeRange::ALL, None, 100).unwrap().len()
    }

    async fn has_made(&self, stream: &StreamId, keys: usize) {
        within(async {
            while self.keys_made(stream) < keys {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        assert_eq!(self.keys_made(stream), keys);
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LONG, future).await.expect("it should have happened by now")
}

async fn say(publisher: &Client, stream: &StreamId, text: &str) {
    within(publisher.publish(stream, Payload::text(text))).await.unwrap();
}

/// The next message or event of interest.
async fn next<T>(subscription: &mut Subscription, pick: impl Fn(Delivery) -> Option<T>) -> T {
    within(async {
        loop {
            if let Some(picked) = pick(subscription.next().await.expect("the client runs")) {
                return picked;
            }
        }
    })
    .await
}

async fn reads(subscription: &mut Subscription, text: &str) {
    let message = next(subscription, |delivery| match delivery {
        Delivery::Message(message) => Some(message),
        Delivery::Event(_) => None,
    });
    assert_eq!(message.await.text(), Some(text));
}

/// What the refusal says; a message before it is an error.
async fn is_refused(subscription: &mut Subscription) -> Refusal {
    next(subscription, |delivery| match delivery {
        Delivery::Event(Event::KeyRefused { refusal, .. }) => Some(refusal),
        Delivery::Event(_) => None,
        Delivery::Message(message) => panic!("a refusal was expected, not {:?}", message.text()),
    })
    .await
}

async fn gets_a_key_pushed(subscription: &mut Subscription) {
    next(subscription, |delivery| match delivery {
        Delivery::Event(Event::KeyArrived { by: Arrival::Push, .. }) => Some(()),
        _ => None,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_second_after_its_end_on_a_chain_a_subscriber_is_out_by_a_rekey_that_nobody_called_for() {
    let shop = Shop::open().await;
    let stream = shop.stream("s").await;
    shop.sell(&stream, 2, U256::MAX).await;
    shop.sell(&stream, 3, END.into()).await;
    let registry = shop.registry(&[&stream]).await;
    let publisher = shop.publisher(&registry).await;
    let (stays, leaves) = (shop.reader(2, &registry, &publisher).await, shop.reader(3, &registry, &publisher).await);
    let mut of_stays = stays.subscribe(&stream).await.unwrap();
    let mut of_leaves = leaves.subscribe(&stream).await.unwrap();
    within(publisher.wait_for_peers(&stream.part(0).unwrap(), 2)).await;
    say(&publisher, &stream, "paid").await;
    reads(&mut of_stays, "paid").await;
    reads(&mut of_leaves, "paid").await;

    // In its last second nothing happens; the chain's clock stands still, and is not what decides.
    shop.clock.set(at(END));
    say(&publisher, &stream, "the last one").await;
    reads(&mut of_leaves, "the last one").await;
    reads(&mut of_stays, "the last one").await;
    assert_eq!(shop.keys_made(&stream), 1);

    shop.clock.set(at(END + 1));
    gets_a_key_pushed(&mut of_stays).await;
    shop.has_made(&stream, 2).await;
    say(&publisher, &stream, "unpaid").await;
    reads(&mut of_stays, "unpaid").await;
    assert_eq!(is_refused(&mut of_leaves).await, Refusal::Expired { since: at(END) });
    assert_eq!(stays.stats().key_requests_sent, 1, "nobody else had to ask");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_taken_back_on_a_chain_is_shut_out_by_a_rekey_that_nobody_called_for() {
    let shop = Shop::open().await;
    let stream = shop.stream("s").await;
    shop.sell(&stream, 2, U256::MAX).await;
    shop.sell(&stream, 3, END.into()).await;
    let registry = shop.registry(&[&stream]).await;
    let publisher = shop.publisher(&registry).await;
    let (stays, leaves) = (shop.reader(2, &registry, &publisher).await, shop.reader(3, &registry, &publisher).await);
    let mut of_stays = stays.subscribe(&stream).await.unwrap();
    let mut of_leaves = leaves.subscribe(&stream).await.unwrap();
    within(publisher.wait_for_peers(&stream.part(0).unwrap(), 2)).await;
    say(&publisher, &stream, "paid").await;
    reads(&mut of_stays, "paid").await;
    reads(&mut of_leaves, "paid").await;

    let user = Address::from(*of(3).as_bytes());
    shop.chain.send("revokePermission", (stream.to_string(), user, 3u8)).await;
    gets_a_key_pushed(&mut of_stays).await;
    shop.has_made(&stream, 2).await;
    say(&publisher, &stream, "not for everybody").await;
    reads(&mut of_stays, "not for everybody").await;
    assert_eq!(is_refused(&mut of_leaves).await, Refusal::Denied);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewal_on_a_chain_before_the_end_causes_no_rekey() {
    let shop = Shop::open().await;
    let (stream, other) = (shop.stream("s").await, shop.stream("other").await);
    for stream in [&stream, &other] {
        shop.sell(stream, 3, END.into()).await;
    }
    let registry = shop.registry(&[&stream, &other]).await;
    let publisher = shop.publisher(&registry).await;
    for stream in [&stream, &other] {
        say(&publisher, stream, "one").await;
    }
    shop.sell(&stream, 3, (END + 1000).into()).await;
    registry.look_now().await;
    shop.clock.set(at(END + 1));
    // The other stream shows that the clock was looked at.
    shop.has_made(&other, 2).await;
    say(&publisher, &stream, "two").await;
    assert_eq!(shop.keys_made(&stream), 1);
    shop.clock.set(at(END + 1001));
    shop.has_made(&stream, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_was_down_when_a_grant_on_a_chain_ended_rekeys_once_it_is_back() {
    let shop = Shop::open().await;
    let stream = shop.stream("s").await;
    shop.sell(&stream, 3, END.into()).await;
    let registry = shop.registry(&[&stream]).await;
    let publisher = shop.publisher(&registry).await;
    say(&publisher, &stream, "paid").await;
    publisher.stop().await;
    registry.stop().await;
    assert_eq!(shop.keys_made(&stream), 1);

    shop.clock.set(at(END + 1));
    let registry = shop.registry(&[]).await;
    let publisher = shop.publisher(&registry).await;
    shop.has_made(&stream, 2).await;
    say(&publisher, &stream, "unpaid").await;
    assert_eq!(shop.keys_made(&stream), 2, "once is enough");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_index_catches_up_whoever_was_given_a_key_is_out_at_his_end_all_the_same() {
    let shop = Shop::open().await;
    let stream = shop.stream("s").await;
    shop.sell(&stream, 3, END.into()).await;
    let behind = Between::start(&shop.chain, |method, _| match method {
        "eth_getLogs" => Reply::Silence,
        _ => Reply::Truth,
    })
    .await;
    let registry = shop.registry_at(&behind.url);
    let publisher = shop.publisher(&registry).await;
    let leaves = shop.reader(3, &registry, &publisher).await;
    let mut of_leaves = leaves.subscribe(&stream).await.unwrap();
    within(publisher.wait_for_peers(&stream.part(0).unwrap(), 1)).await;
    say(&publisher, &stream, "paid").await;
    reads(&mut of_leaves, "paid").await;
    assert_eq!(shop.keys_made(&stream), 1);
    shop.clock.set(at(END + 1));
    shop.has_made(&stream, 2).await;
    say(&publisher, &stream, "unpaid").await;
    assert_eq!(is_refused(&mut of_leaves).await, Refusal::Expired { since: at(END) });
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_taken_back_on_a_chain_is_out_before_that_is_confirmed() {
    let mut shop = Shop::open().await;
    shop.confirmations = 5;
    let stream = shop.stream("s").await;
    shop.sell(&stream, 2, U256::MAX).await;
    shop.sell(&stream, 3, END.into()).await;
    shop.chain.mine(5).await;
    let registry = shop.registry(&[&stream]).await;
    let publisher = shop.publisher(&registry).await;
    let stays = shop.reader(2, &registry, &publisher).await;
    let mut of_stays = stays.subscribe(&stream).await.unwrap();
    within(publisher.wait_for_peers(&stream.part(0).unwrap(), 1)).await;
    say(&publisher, &stream, "paid").await;
    reads(&mut of_stays, "paid").await;
    shop.sell(&stream, 3, U256::zero()).await;
    gets_a_key_pushed(&mut of_stays).await;
    shop.has_made(&stream, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_taken_back_while_no_endpoint_answers_is_out_once_one_does() {
    let shop = Shop::open().await;
    let stream = shop.stream("s").await;
    shop.sell(&stream, 2, U256::MAX).await;
    shop.sell(&stream, 3, END.into()).await;
    let between = Between::start(&shop.chain, |_, _| Reply::Truth).await;
    let registry = shop.registry_at(&between.url);
    registry.watch(&stream);
    registry.look_now().await;
    let publisher = shop.publisher(&registry).await;
    let stays = shop.reader(2, &registry, &publisher).await;
    let mut of_stays = stays.subscribe(&stream).await.unwrap();
    within(publisher.wait_for_peers(&stream.part(0).unwrap(), 1)).await;
    say(&publisher, &stream, "paid").await;
    reads(&mut of_stays, "paid").await;

    between.now(|_, _| Reply::Hangup);
    registry.look_now().await;
    assert!(registry.trouble().is_some());
    shop.sell(&stream, 3, U256::zero()).await;
    say(&publisher, &stream, "nobody can tell").await;
    reads(&mut of_stays, "nobody can tell").await;
    assert_eq!(shop.keys_made(&stream), 1, "what was known holds until something else is");
    between.now(|_, _| Reply::Truth);
    registry.look_now().await;
    gets_a_key_pushed(&mut of_stays).await;
    shop.has_made(&stream, 2).await;
}
