//! Streams whose owner is away: what it signed travels with its subscribers, and a publisher that is not the owner goes by it.

#![cfg(feature = "p2p")]
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use support::{
    AnyEnvelope, Net, Raw, config, group_key, identity, key_request, next_event, next_message, next_text,
    next_text_but, opened, refusal_of, say, until,
};
use veilcast::client::{Client, ClientError, Replay, StreamOptions, Subscription};
use veilcast::key_store::{GroupKey, MemoryKeyStore};
use veilcast::permission::{GrantError, Issuer, RegistryError, SignedGrants, StreamSettings, from_line, to_line};
use veilcast::subscriber::Arrival;
use veilcast::time::{Clock, ManualClock, SystemClock};
use veilcast::wire::{KeyAnswer, OWNERS_REGISTRY, SignedGrant, Verified};
use veilcast::{Event, Period, Permission, Refusal, StreamId, Timestamp, UserId};

const OWNER: u8 = 1;
const PUBLISHER: u8 = 7;

/// An owner that was never on the network, a publisher that goes by what the owner signed, and a clock in our hands.
struct Desk {
    net: Net,
    owner: Arc<SignedGrants>,
    issuer: Issuer,
    store: Arc<MemoryKeyStore>,
    clock: Arc<ManualClock>,
    start: Timestamp,
    publisher: Client,
    stream: StreamId,
    key: GroupKey,
}

impl Desk {
    async fn open() -> Self {
        let net = Net::start().await;
        // Messages and requests must be fresh elsewhere too.
        let start = Timestamp::from_secs(SystemClock.now().as_secs());
        let clock = Arc::new(ManualClock::at(start));
        let owner = Arc::new(SignedGrants::new(Arc::new(MemoryKeyStore::default())));
        let issuer = Issuer::new(identity(OWNER), owner.clone());
        let stream = StreamId::of(user(OWNER), "prices").unwrap();
        let publishers = vec![user(PUBLISHER)];
        issuer
            .set_up(&stream, &StreamSettings { partitions: 1, public: false, publishers, storage: Vec::new() }, start)
            .unwrap();
        let store = Arc::new(MemoryKeyStore::default());
        let publisher = publisher(&net, store.clone(), clock.clone()).await;
        let key = group_key("the-key", 0x5a);
        let desk = Self { net, owner, issuer, store, clock, start, publisher, stream, key };
        desk.publisher.import_grant(&desk.record()).await.unwrap();
        desk
    }

    async fn restart(&mut self) {
        self.publisher.stop().await;
        self.publisher = publisher(&self.net, self.store.clone(), self.clock.clone()).await;
    }

    fn after(&self, secs: u64) -> Timestamp {
        self.start.plus(Duration::from_secs(secs))
    }

    /// The newest stream record.
    fn record(&self) -> String {
        to_line(&self.owner.record(&self.stream).unwrap().unwrap().1).unwrap()
    }

    fn grant(&self, byte: u8, period: Period) -> String {
        let (permission, now) = (Permission::Subscribe, self.clock.now());
        to_line(self.issuer.issue(&self.stream, user(byte), permission, period, now).unwrap().envelope()).unwrap()
    }

    /// Lets the publisher use a key that the test knows.
    async fn publish_once(&self) {
        let method = veilcast::client::KeyUpdateMethod::Rekey;
        self.publisher.update_encryption_key(&self.stream, method, Some(self.key.clone())).await.unwrap();
        say(&self.publisher, &self.stream, "once").await;
    }

    /// A reader that was handed these lines, and has subscribed.
    async fn reader(&self, byte: u8, lines: &[&str]) -> (Client, Subscription) {
        let reader = self.net.join(self.net.builder(byte).signed_grants()).await;
        for line in lines {
            reader.import_grant(line).await.unwrap();
        }
        let subscription = reader.subscribe(&self.stream).await.unwrap();
        (reader, subscription)
    }

    /// What the publisher answers to whoever asks for its key and shows this.
    async fn answer(&self, raw: &Raw, byte: u8, proofs: &[Bytes]) -> KeyAnswer {
        let mut request = key_request(&identity(byte), self.publisher.user(), &self.stream, &[self.key.id()]);
        request.proofs = proofs.to_vec();
        request.sent = self.clock.now();
        raw.answer(&self.publisher, &Verified::sign(request, &identity(byte)).unwrap()).await
    }
}

async fn publisher(net: &Net, store: Arc<MemoryKeyStore>, clock: Arc<ManualClock>) -> Client {
    net.join(net.builder(PUBLISHER).signed_grants().store(store).clock(clock)).await
}

fn user(byte: u8) -> UserId {
    identity(byte).user()
}

fn refusal(event: &Event) -> Option<Refusal> {
    match event {
        Event::KeyRefused { refusal, .. } => Some(*refusal),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_is_not_the_owner_serves_whoever_shows_the_owners_grant_with_its_request_and_nobody_else() {
    let desk = Desk::open().await;
    let (record, grant) = (desk.record(), desk.grant(2, Period::until(desk.after(600))));
    let (_reader, mut of_reader) = desk.reader(2, &[&record, &grant]).await;
    let (_stranger, mut of_stranger) = desk.reader(3, &[&record]).await;
    desk.net.ready(&desk.publisher, &desk.stream, 2).await;
    say(&desk.publisher, &desk.stream, "paid for").await;
    assert_eq!(next_text(&mut of_reader).await, "paid for");
    assert_eq!(next_event(&mut of_stranger, refusal).await, Refusal::Denied);
    let known = desk.publisher.signed_grants().grants(&desk.stream).unwrap();
    assert_eq!(known.len(), 1, "the publisher was never handed the grant but by its holder");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_was_shown_ends_by_the_clock_and_the_publisher_rekeys_by_itself() {
    let desk = Desk::open().await;
    let (record, end) = (desk.record(), desk.after(5));
    let (stays, leaves) = (desk.grant(2, Period::ALWAYS), desk.grant(3, Period::until(end)));
    let (_stays, mut of_stays) = desk.reader(2, &[&record, &stays]).await;
    let (_leaves, mut of_leaves) = desk.reader(3, &[&record, &leaves]).await;
    desk.net.ready(&desk.publisher, &desk.stream, 2).await;
    say(&desk.publisher, &desk.stream, "paid").await;
    assert_eq!((next_text(&mut of_stays).await, next_text(&mut of_leaves).await), ("paid".into(), "paid".into()));
    desk.clock.set(end.plus(Duration::from_secs(1)));
    say(&desk.publisher, &desk.stream, "unpaid").await;
    assert_eq!(next_text(&mut of_stays).await, "unpaid");
    assert_eq!(next_event(&mut of_leaves, refusal).await, Refusal::Expired { since: end });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_owner_took_back_is_refused_once_anybody_brings_the_newer_record_and_showing_it_again_does_not_help() {
    let desk = Desk::open().await;
    let (record, grants) = (desk.record(), [2, 3].map(|byte| desk.grant(byte, Period::ALWAYS)));
    let (_out, mut of_out) = desk.reader(2, &[&record, &grants[0]]).await;
    desk.net.ready(&desk.publisher, &desk.stream, 1).await;
    say(&desk.publisher, &desk.stream, "before").await;
    assert_eq!(next_text(&mut of_out).await, "before");

    let at = desk.after(1);
    desk.issuer.revoke_user(&desk.stream, user(2), at).unwrap();
    let (_other, mut of_other) = desk.reader(3, &[&desk.record(), &grants[1]]).await;
    desk.net.ready(&desk.publisher, &desk.stream, 2).await;
    say(&desk.publisher, &desk.stream, "brings the record").await;
    assert_eq!(next_text_but(&mut of_other, "before").await, "brings the record");
    say(&desk.publisher, &desk.stream, "after").await;
    assert_eq!(next_text(&mut of_other).await, "after");
    assert_eq!(next_event_past_messages(&mut of_out).await, Refusal::Expired { since: at });

    // With a store of its own, and both lines from before.
    let (_again, mut of_again) = desk.reader(2, &[&record, &grants[0]]).await;
    desk.net.ready(&desk.publisher, &desk.stream, 3).await;
    say(&desk.publisher, &desk.stream, "later").await;
    assert_eq!(next_event(&mut of_again, refusal).await, Refusal::Expired { since: at });
}

/// The first refusal, whatever is read before it.
async fn next_event_past_messages(subscription: &mut Subscription) -> Refusal {
    support::within(async {
        loop {
            match subscription.next().await.expect("the client runs") {
                veilcast::client::Delivery::Event(event) => {
                    if let Some(refusal) = refusal(&event) {
                        return refusal;
                    }
                }
                veilcast::client::Delivery::Message(message) => {
                    assert_ne!(message.text(), Some("after"), "read by who is out");
                }
            }
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_key_is_given_for_a_grant_of_another_signer_user_stream_or_registry_or_one_that_is_over_or_to_begin() {
    let desk = Desk::open().await;
    desk.publish_once().await;
    let raw = Raw::start(&desk.publisher.addresses().await[0]).await;
    let period = Period::until(desk.after(600));
    let good = SignedGrant {
        stream: desk.stream.clone(),
        registry: OWNERS_REGISTRY.into(),
        user: user(2),
        permission: Permission::Subscribe,
        period,
        serial: 50,
        issued: desk.start,
    };
    let (over, ahead) = (desk.start.minus(Duration::from_secs(60)), desk.after(300));
    let of = |grant: SignedGrant, signer| AnyEnvelope::of(&grant, &identity(signer)).bytes();
    let owned_by_2 = StreamId::of(user(2), "prices").unwrap();
    let mut damaged = of(good.clone(), OWNER).to_vec();
    damaged[40] ^= 1;
    let bad = [
        ("signed by its holder", of(good.clone(), 2), Refusal::Denied),
        ("signed by the publisher", of(good.clone(), PUBLISHER), Refusal::Denied),
        ("somebody else's", of(SignedGrant { user: user(3), ..good.clone() }, OWNER), Refusal::Denied),
        ("to publish", of(SignedGrant { permission: Permission::Publish, ..good.clone() }, OWNER), Refusal::Denied),
        ("for a stream of its holder's", of(SignedGrant { stream: owned_by_2, ..good.clone() }, 2), Refusal::Denied),
        (
            "for another stream",
            of(SignedGrant { stream: StreamId::of(user(OWNER), "p").unwrap(), ..good.clone() }, OWNER),
            Refusal::Denied,
        ),
        ("for a chain", of(SignedGrant { registry: "eip155:137:0xab".into(), ..good.clone() }, OWNER), Refusal::Denied),
        ("damaged", damaged.into(), Refusal::Denied),
        (
            "over",
            of(SignedGrant { period: Period::until(over), ..good.clone() }, OWNER),
            Refusal::Expired { since: over },
        ),
        (
            "ends before it starts",
            of(
                SignedGrant { period: Period { start: Some(ahead), end: Some(desk.after(100)) }, ..good.clone() },
                OWNER,
            ),
            Refusal::Denied,
        ),
        ("no statement", Bytes::from_static(b"\x0a\x03abc"), Refusal::Denied),
    ];
    for (what, proof, expected) in bad {
        let answer = desk.answer(&raw, 2, &[proof]).await;
        assert_eq!(refusal_of(&answer), expected, "{what}");
        // Refusals are remembered for a moment; so is nothing that was shown in vain.
        desk.clock.advance(Duration::from_secs(3));
    }
    let to_begin = SignedGrant { period: Period { start: Some(ahead), end: None }, serial: 51, ..good.clone() };
    let answer = desk.answer(&raw, 2, &[of(to_begin, OWNER)]).await;
    assert_eq!(refusal_of(&answer), Refusal::NotYet { from: ahead });
    let answer = desk.answer(&raw, 2, &[of(good, OWNER)]).await;
    assert!(opened(&answer)[0].same_as(&desk.key), "and the good one is good");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_serial_taken_back_is_refused_however_often_it_is_shown_also_after_a_restart_and_a_later_one_counts() {
    let mut desk = Desk::open().await;
    desk.publish_once().await;
    let raw = Raw::start(&desk.net.address).await;
    let envelope = |line: &str| from_line(line).unwrap();
    let (old, grant) = (envelope(&desk.record()), envelope(&desk.grant(2, Period::ALWAYS)));
    desk.issuer.revoke_serial(&desk.stream, 1, desk.after(1)).unwrap();
    desk.clock.set(desk.after(2));
    let new = envelope(&desk.record());
    let since = desk.after(1);
    for proofs in [vec![new, grant.clone()], vec![grant.clone()], vec![old, grant]] {
        let answer = desk.answer(&raw, 2, &proofs).await;
        assert_eq!(refusal_of(&answer), Refusal::Expired { since });
        desk.restart().await;
    }
    let bought = envelope(&desk.grant(2, Period::until(desk.after(60))));
    let answer = desk.answer(&raw, 2, &[bought]).await;
    assert!(opened(&answer)[0].same_as(&desk.key));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_and_what_it_takes_back_reach_a_running_publisher_and_readers_through_the_dht_after_the_owner_left() {
    let net = Net::start().await;
    let owner = net.join(net.builder(OWNER).signed_grants()).await;
    let settings =
        StreamSettings { partitions: 1, public: false, publishers: vec![user(PUBLISHER)], storage: Vec::new() };
    let stream = owner.set_up_stream("prices", settings).await.unwrap();
    let mut quick = config();
    quick.stream_record_refresh = Duration::from_millis(100);
    let publisher = net.join(net.builder(PUBLISHER).signed_grants().config(quick)).await;
    publisher.import_grant(&owner.stream_record(&stream).await.unwrap().unwrap()).await.unwrap();
    let announced = async || until(async || owner.announce_record(&stream).await.unwrap() > 0).await;
    announced().await;
    // Nobody handed them the record.
    let mut subscriptions = Vec::new();
    for byte in [2, 3] {
        let reader = net.join(net.builder(byte).signed_grants()).await;
        let grant = owner.issue_grant(&stream, user(byte), Permission::Subscribe, Period::ALWAYS).await.unwrap();
        reader.import_grant(&grant).await.unwrap();
        subscriptions.push(reader.subscribe(&stream).await.unwrap());
    }
    let [stays, leaves] = &mut subscriptions[..] else { unreachable!() };
    net.ready(&publisher, &stream, 2).await;
    say(&publisher, &stream, "before").await;
    assert_eq!((next_text(stays).await, next_text(leaves).await), ("before".into(), "before".into()));

    owner.revoke_grants(&stream, user(3)).await.unwrap();
    announced().await;
    owner.stop().await;
    next_event(stays, pushed).await;
    say(&publisher, &stream, "after").await;
    assert_eq!(next_text(stays).await, "after");
    assert!(matches!(next_event(leaves, refusal).await, Refusal::Expired { .. }));
}

fn pushed(event: &Event) -> Option<()> {
    matches!(event, Event::KeyArrived { by: Arrival::Push, .. }).then_some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_bought_in_time_is_shown_at_once_so_that_the_end_of_the_one_before_shuts_nobody_out() {
    let desk = Desk::open().await;
    let (record, grant) = (desk.record(), desk.grant(2, Period::until(desk.after(40))));
    let (reader, mut subscription) = desk.reader(2, &[&record, &grant]).await;
    desk.net.ready(&desk.publisher, &desk.stream, 1).await;
    say(&desk.publisher, &desk.stream, "one").await;
    let one = next_message(&mut subscription).await;
    assert_eq!(reader.stats().key_requests_sent, 1, "what it carried is not shown again");

    reader.import_grant(&desk.grant(2, Period::until(desk.after(600)))).await.unwrap();
    until(async || desk.publisher.signed_grants().grants(&desk.stream).unwrap().len() == 2).await;
    desk.clock.set(desk.after(42));
    say(&desk.publisher, &desk.stream, "two").await;
    let two = next_message(&mut subscription).await;
    assert_eq!((two.text(), &two.key_id), (Some("two"), &one.key_id));
    assert_eq!(reader.stats().key_requests_sent, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_an_ens_name_does_not_exist_where_no_contract_knows_it() {
    let net = Net::start().await;
    let stream: StreamId = "nobody.eth/prices".parse().unwrap();
    for (builder, local) in [(net.builder(20), true), (net.builder(21).signed_grants(), false)] {
        let reader = net.join(builder).await;
        for subscribed in [
            reader.subscribe(&stream).await,
            reader.subscribe_part(&stream.part(0).unwrap()).await,
            reader.resend(&stream, Replay::last(1)).await,
        ] {
            let error = subscribed.map(drop).unwrap_err();
            assert!(matches!(&error, ClientError::NoStream { stream: named } if *named == stream), "{error}");
            assert!(error.to_string().contains("ENS name"), "{error}");
        }
        let published = reader.publish(&stream, veilcast::Payload::text("mine?")).await;
        assert!(matches!(published, Err(ClientError::NotPermitted { refusal: Refusal::Denied, .. })), "{published:?}");
        let granted = reader.grant(&stream, user(22), Permission::Subscribe, Period::ALWAYS).await;
        match granted.unwrap_err() {
            ClientError::Registry(RegistryError::NoStream { .. }) if local => {}
            ClientError::DecidedElsewhere { .. } if !local => {}
            other => panic!("{other:?}"),
        }
        let issued = reader.issue_grant(&stream, user(22), Permission::Subscribe, Period::ALWAYS).await;
        assert!(matches!(issued, Err(ClientError::Grant(GrantError::EnsOwner { .. }))), "{issued:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_change_the_local_registry_is_refused_where_signed_grants_decide() {
    let net = Net::start().await;
    let owner = net.join(net.builder(OWNER).signed_grants()).await;
    let stream = StreamId::of(owner.user(), "s").unwrap();
    let refused = [
        owner.create_stream("s", StreamOptions::default()).await.map(drop),
        owner.grant(&stream, user(22), Permission::Subscribe, Period::ALWAYS).await,
        owner.revoke(&stream, user(22), Permission::Subscribe).await,
        owner.set_public(&stream, true).await,
    ];
    for refused in refused {
        assert!(
            matches!(&refused, Err(ClientError::DecidedElsewhere { stream: named }) if *named == stream),
            "{refused:?}"
        );
    }
    assert!(owner.registry().streams().unwrap().is_empty());
}
