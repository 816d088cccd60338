//! The rules, and what a source must bring along to be held to them.

use std::sync::Arc;
use std::time::Duration;

use veilcast::client::{Client, Subscription};
use veilcast::key_store::{GroupKey, KeyStore, MemoryKeyStore, TimeRange};
use veilcast::permission::PermissionSource;
use veilcast::subscriber::Arrival;
use veilcast::time::{Clock, ManualClock, SystemClock};
use veilcast::wire::{KeyAnswer, Verified};
use veilcast::{Event, Period, Permission, Refusal, StreamId, Timestamp, UserId};

use crate::support::{
    Net, Raw, group_key, identity, key_request, next_event, next_message, next_text, next_text_but, opened, refusal_of,
    say, until,
};

/// A source under test: what an owner does at it, and where publisher and readers ask.
pub trait Desk: Sized {
    /// Whose device publishes: the owner's, or somebody's whom the owner lets.
    const PUBLISHER: u8;

    /// A stream of one partition on which nobody but its owner and the publisher has a permission.
    async fn open(now: Timestamp) -> Self;
    fn stream(&self) -> &StreamId;
    /// Where the publisher asks.
    fn source(&self) -> Arc<dyn PermissionSource>;
    /// Where this reader asks.
    fn readers_source(&self, user: UserId) -> Arc<dyn PermissionSource>;

    // Each returns once the publisher's source goes by it.
    async fn grant(&self, user: UserId, permission: Permission, period: Period, now: Timestamp);
    async fn revoke(&self, user: UserId, now: Timestamp);
    async fn set_public(&self, public: bool, now: Timestamp);
    /// It is `now`: what keeps a time of its own follows.
    async fn pass(&self, now: Timestamp);
}

/// One test for each rule, of this desk; with `begins later` also of those about grants that do.
macro_rules! every_rule {
    ($desk:ty, begins later) => {
        every_rule!($desk);
        every_rule!($desk:
            a_grant_that_begins_later_is_not_yet_good_and_good_from_its_first_second_on,
            who_begins_later_is_refused_until_then_and_reads_from_then_on,
        );
    };
    ($desk:ty) => {
        every_rule!($desk:
            the_owner_may_everything_and_nobody_else_anything,
            a_grant_is_good_at_its_last_second_and_not_one_second_later,
            whoever_was_granted_is_listed_with_its_end_and_is_over_once_taken_back,
            at_the_second_after_the_end_the_publisher_has_rekeyed_by_itself_and_who_ended_reads_nothing_more,
            ten_that_end_together_cause_one_rekey,
            who_renewed_before_the_end_reads_on_under_the_same_key,
            a_publisher_that_was_down_at_the_end_rekeys_before_its_first_message,
            who_is_taken_back_reads_nothing_from_the_next_message_on,
            a_public_stream_is_for_everybody_and_made_private_for_nobody_from_the_next_message_on,
            no_answer_outlives_the_grants_end_or_its_revocation_in_a_cache,
            the_publishers_own_lists_only_narrow,
        );
    };
    ($desk:ty: $($rule:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $rule() {
                $crate::suite::$rule::<$desk>().await;
            }
        )+
    };
}

const OWNER: u8 = 1;

/// A second is the precision of paid time.
const SECOND: Duration = Duration::from_secs(1);

fn user(byte: u8) -> UserId {
    identity(byte).user()
}

/// A desk, a publisher that asks there, and a clock that both go by. Readers go by the machine's: what they get must be
/// fresh, so the clock is moved by seconds only.
struct Shop<D> {
    net: Net,
    desk: D,
    clock: Arc<ManualClock>,
    start: Timestamp,
    store: Arc<MemoryKeyStore>,
    publisher: Client,
}

impl<D: Desk> Shop<D> {
    async fn open() -> Self {
        let net = Net::start().await;
        let start = Timestamp::from_secs(SystemClock.now().as_secs());
        let (clock, store) = (Arc::new(ManualClock::at(start)), Arc::new(MemoryKeyStore::default()));
        let desk = D::open(start).await;
        let publisher = publisher(&net, &desk, &store, &clock).await;
        Self { net, desk, clock, start, store, publisher }
    }

    fn stream(&self) -> &StreamId {
        self.desk.stream()
    }

    fn after(&self, secs: u64) -> Timestamp {
        self.start.plus(Duration::from_secs(secs))
    }

    /// It is so late now.
    async fn pass(&self, to: Timestamp) {
        self.desk.pass(to).await;
        self.clock.set(to);
    }

    async fn grant(&self, byte: u8, period: Period) {
        self.desk.grant(user(byte), Permission::Subscribe, period, self.clock.now()).await;
    }

    async fn revoke(&self, byte: u8) {
        self.desk.revoke(user(byte), self.clock.now()).await;
    }

    async fn check(&self, byte: u8, permission: Permission) -> Result<(), Refusal> {
        self.desk.source().check(self.stream(), user(byte), permission, self.clock.now()).await.map(drop)
    }

    async fn subscribed(&self, byte: u8) -> Subscription {
        let builder = self.net.builder(byte).permissions(self.desk.readers_source(user(byte)));
        self.net.join(builder).await.subscribe(self.stream()).await.unwrap()
    }

    /// Who may read for this period, and has subscribed.
    async fn reader(&self, byte: u8, period: Period) -> Subscription {
        self.grant(byte, period).await;
        self.subscribed(byte).await
    }

    async fn ready(&self, readers: usize) {
        self.net.ready(&self.publisher, self.stream(), readers).await;
    }

    async fn say(&self, text: &str) {
        say(&self.publisher, self.stream(), text).await;
    }

    fn keys_made(&self) -> usize {
        let scope = veilcast::scope(self.publisher.user(), self.stream());
        self.store.history(&scope, TimeRange::ALL, None, 100).unwrap().len()
    }

    /// What the publisher answers to whoever asks for this key.
    async fn answer(&self, raw: &Raw, byte: u8, key: &GroupKey) -> KeyAnswer {
        let mut request = key_request(&identity(byte), self.publisher.user(), self.stream(), &[key.id()]);
        request.sent = self.clock.now();
        raw.answer(&self.publisher, &Verified::sign(request, &identity(byte)).unwrap()).await
    }

    /// Publishes under a key that the test knows.
    async fn under_known_key(&self) -> GroupKey {
        let key = group_key("the-key", 0x5a);
        let method = veilcast::client::KeyUpdateMethod::Rekey;
        self.publisher.update_encryption_key(self.stream(), method, Some(key.clone())).await.unwrap();
        self.say("once").await;
        key
    }
}

async fn publisher(net: &Net, desk: &impl Desk, store: &Arc<MemoryKeyStore>, clock: &Arc<ManualClock>) -> Client {
    fn byte<D: Desk>(_: &D) -> u8 {
        D::PUBLISHER
    }
    let builder = net.builder(byte(desk)).store(store.clone()).clock(clock.clone());
    net.join(builder.permissions(desk.source())).await
}

fn pushed(event: &Event) -> Option<()> {
    matches!(event, Event::KeyArrived { by: Arrival::Push, .. }).then_some(())
}

fn refusal(event: &Event) -> Option<Refusal> {
    match event {
        Event::KeyRefused { refusal, .. } => Some(*refusal),
        _ => None,
    }
}

/// What a source says of somebody whose grant was taken back; not every one can tell since when.
fn is_out(refusal: Refusal) -> bool {
    matches!(refusal, Refusal::Expired { .. } | Refusal::Denied)
}

pub async fn the_owner_may_everything_and_nobody_else_anything<D: Desk>() {
    let shop = Shop::<D>::open().await;
    for permission in [Permission::Publish, Permission::Subscribe] {
        assert_eq!(shop.check(OWNER, permission).await, Ok(()));
        assert_eq!(shop.check(9, permission).await, Err(Refusal::Denied));
    }
    assert_eq!(shop.check(D::PUBLISHER, Permission::Publish).await, Ok(()));
    shop.grant(9, Period::ALWAYS).await;
    assert_eq!(shop.check(9, Permission::Subscribe).await, Ok(()));
    assert_eq!(shop.check(9, Permission::Publish).await, Err(Refusal::Denied), "to read is not to publish");
    let info = shop.desk.source().stream_at(shop.stream(), shop.start).await.unwrap().unwrap();
    assert_eq!((info.partitions, info.public), (1, false));
}

pub async fn a_grant_is_good_at_its_last_second_and_not_one_second_later<D: Desk>() {
    let shop = Shop::<D>::open().await;
    let end = shop.after(10);
    shop.grant(2, Period::until(end)).await;
    for (moment, expected) in [
        (shop.start, Ok(())),
        (end, Ok(())),
        (end.plus(Duration::from_millis(999)), Ok(())),
        (end.plus(SECOND), Err(Refusal::Expired { since: end })),
    ] {
        shop.pass(moment).await;
        assert_eq!(shop.check(2, Permission::Subscribe).await, expected, "{moment}");
    }
}

pub async fn a_grant_that_begins_later_is_not_yet_good_and_good_from_its_first_second_on<D: Desk>() {
    let shop = Shop::<D>::open().await;
    let from = shop.after(5);
    shop.grant(2, Period { start: Some(from), end: Some(shop.after(10)) }).await;
    assert_eq!(shop.check(2, Permission::Subscribe).await, Err(Refusal::NotYet { from }));
    shop.pass(from).await;
    assert_eq!(shop.check(2, Permission::Subscribe).await, Ok(()));
}

pub async fn whoever_was_granted_is_listed_with_its_end_and_is_over_once_taken_back<D: Desk>() {
    let shop = Shop::<D>::open().await;
    let end = shop.after(10);
    shop.grant(2, Period::until(end)).await;
    shop.grant(3, Period::ALWAYS).await;
    let listed = async |byte: u8| {
        let all = shop.desk.source().subscribers(shop.stream()).await.unwrap();
        all.into_iter().find(|subscriber| subscriber.user == user(byte)).map(|subscriber| subscriber.grant)
    };
    assert_eq!(listed(2).await.unwrap().ends(), Some(end));
    assert_eq!(listed(3).await.unwrap().ends(), None);
    assert!(listed(4).await.is_none());
    let before = shop.desk.source().changes();
    shop.revoke(3).await;
    assert_ne!(shop.desk.source().changes(), before, "a publisher must look again");
    assert!(listed(3).await.is_none_or(|grant| grant.is_over_at(shop.start)));
    assert!(is_out(shop.check(3, Permission::Subscribe).await.unwrap_err()));
    assert_eq!(shop.check(2, Permission::Subscribe).await, Ok(()), "of whom nothing was taken");
}

pub async fn at_the_second_after_the_end_the_publisher_has_rekeyed_by_itself_and_who_ended_reads_nothing_more<
    D: Desk,
>() {
    let shop = Shop::<D>::open().await;
    let end = shop.after(5);
    let mut stays = shop.reader(2, Period::ALWAYS).await;
    let mut leaves = shop.reader(3, Period::until(end)).await;
    shop.ready(2).await;
    shop.pass(end).await;
    shop.say("paid").await;
    assert_eq!((next_text(&mut stays).await, next_text(&mut leaves).await), ("paid".into(), "paid".into()));
    assert_eq!(shop.keys_made(), 1, "in its last second it is good");

    shop.pass(end.plus(SECOND)).await;
    next_event(&mut stays, pushed).await;
    shop.say("unpaid").await;
    assert_eq!(next_text(&mut stays).await, "unpaid");
    assert_eq!(next_event(&mut leaves, refusal).await, Refusal::Expired { since: end });
    assert_eq!(shop.keys_made(), 2);
}

pub async fn who_begins_later_is_refused_until_then_and_reads_from_then_on<D: Desk>() {
    let shop = Shop::<D>::open().await;
    let from = shop.after(5);
    let mut early = shop.reader(2, Period { start: Some(from), end: None }).await;
    shop.ready(1).await;
    shop.say("too early").await;
    assert_eq!(next_event(&mut early, refusal).await, Refusal::NotYet { from });
    shop.pass(from).await;
    // A device that was not refused: the other one asks again when it forgot that it was.
    let mut in_time = shop.subscribed(2).await;
    shop.ready(2).await;
    shop.say("in time").await;
    assert_eq!(next_text_but(&mut in_time, "too early").await, "in time");
}

pub async fn ten_that_end_together_cause_one_rekey<D: Desk>() {
    let shop = Shop::<D>::open().await;
    let end = shop.after(5);
    let mut stays = shop.reader(2, Period::ALWAYS).await;
    for byte in 20..30 {
        shop.grant(byte, Period::until(end)).await;
    }
    shop.ready(1).await;
    shop.say("one").await;
    assert_eq!(next_text(&mut stays).await, "one");
    shop.pass(end.plus(SECOND)).await;
    next_event(&mut stays, pushed).await;
    shop.say("two").await;
    assert_eq!(next_text(&mut stays).await, "two");
    assert_eq!(shop.keys_made(), 2);
}

pub async fn who_renewed_before_the_end_reads_on_under_the_same_key<D: Desk>() {
    let shop = Shop::<D>::open().await;
    let mut renews = shop.reader(2, Period::until(shop.after(5))).await;
    shop.ready(1).await;
    shop.say("one").await;
    let one = next_message(&mut renews).await;
    shop.grant(2, Period::until(shop.after(60))).await;
    shop.pass(shop.after(7)).await;
    // Publishing looks for ends before every message.
    shop.say("two").await;
    let two = next_message(&mut renews).await;
    assert_eq!((two.text(), &two.key_id), (Some("two"), &one.key_id));
    assert_eq!(shop.keys_made(), 1);
}

pub async fn a_publisher_that_was_down_at_the_end_rekeys_before_its_first_message<D: Desk>() {
    let mut shop = Shop::<D>::open().await;
    let end = shop.after(5);
    let mut stays = shop.reader(2, Period::ALWAYS).await;
    let mut leaves = shop.reader(3, Period::until(end)).await;
    shop.ready(2).await;
    shop.say("paid").await;
    assert_eq!((next_text(&mut stays).await, next_text(&mut leaves).await), ("paid".into(), "paid".into()));
    shop.publisher.stop().await;
    shop.net.peers(2).await;
    shop.pass(shop.after(7)).await;
    shop.publisher = publisher(&shop.net, &shop.desk, &shop.store, &shop.clock).await;
    shop.ready(2).await;
    shop.say("unpaid").await;
    assert_eq!(next_text(&mut stays).await, "unpaid");
    assert_eq!(next_event(&mut leaves, refusal).await, Refusal::Expired { since: end });
    assert_eq!(shop.keys_made(), 2);
}

pub async fn who_is_taken_back_reads_nothing_from_the_next_message_on<D: Desk>() {
    let shop = Shop::<D>::open().await;
    let mut stays = shop.reader(2, Period::ALWAYS).await;
    let mut leaves = shop.reader(3, Period::until(shop.after(60))).await;
    shop.ready(2).await;
    shop.say("before").await;
    assert_eq!((next_text(&mut stays).await, next_text(&mut leaves).await), ("before".into(), "before".into()));
    shop.revoke(3).await;
    shop.say("after").await;
    assert_eq!(next_text(&mut stays).await, "after");
    assert!(is_out(next_event(&mut leaves, refusal).await));
    assert_eq!(shop.keys_made(), 2);
}

pub async fn a_public_stream_is_for_everybody_and_made_private_for_nobody_from_the_next_message_on<D: Desk>() {
    let shop = Shop::<D>::open().await;
    shop.desk.set_public(true, shop.start).await;
    assert_eq!(shop.check(9, Permission::Subscribe).await, Ok(()));
    let mut anybody = shop.subscribed(9).await;
    let mut granted = shop.reader(2, Period::ALWAYS).await;
    shop.ready(2).await;
    shop.say("for all").await;
    let read = next_message(&mut anybody).await;
    assert_eq!((read.text(), &read.key_id), (Some("for all"), &None));
    assert_eq!(next_text(&mut granted).await, "for all");

    shop.desk.set_public(false, shop.after(1)).await;
    shop.pass(shop.after(1)).await;
    shop.say("for subscribers").await;
    let read = next_message(&mut granted).await;
    assert!(read.text() == Some("for subscribers") && read.key_id.is_some(), "{read:?}");
    assert!(is_out(next_event(&mut anybody, refusal).await));
}

pub async fn no_answer_outlives_the_grants_end_or_its_revocation_in_a_cache<D: Desk>() {
    let shop = Shop::<D>::open().await;
    let key = shop.under_known_key().await;
    let raw = Raw::start(&shop.publisher.addresses().await[0]).await;
    let end = shop.after(5);
    shop.grant(2, Period::until(end)).await;
    shop.grant(3, Period::ALWAYS).await;
    shop.pass(end).await;
    for byte in [2, 3] {
        assert!(opened(&shop.answer(&raw, byte, &key).await)[0].same_as(&key));
    }
    shop.pass(end.plus(SECOND)).await;
    assert_eq!(refusal_of(&shop.answer(&raw, 2, &key).await), Refusal::Expired { since: end });
    assert!(opened(&shop.answer(&raw, 3, &key).await)[0].same_as(&key));
    shop.revoke(3).await;
    assert!(is_out(refusal_of(&shop.answer(&raw, 3, &key).await)));
}

pub async fn the_publishers_own_lists_only_narrow<D: Desk>() {
    let shop = Shop::<D>::open().await;
    let mut stays = shop.reader(2, Period::ALWAYS).await;
    let mut denied = shop.reader(3, Period::ALWAYS).await;
    shop.ready(2).await;
    shop.say("before").await;
    assert_eq!((next_text(&mut stays).await, next_text(&mut denied).await), ("before".into(), "before".into()));
    shop.publisher.deny(shop.stream(), user(3)).await.unwrap();
    until(async || shop.keys_made() == 2).await;
    shop.say("after").await;
    assert_eq!(next_text(&mut stays).await, "after");
    assert_eq!(next_event(&mut denied, refusal).await, Refusal::Policy);

    let key = shop.under_known_key().await;
    let raw = Raw::start(&shop.publisher.addresses().await[0]).await;
    for (byte, expected) in [(3, Refusal::Policy), (9, Refusal::Denied)] {
        assert_eq!(refusal_of(&shop.answer(&raw, byte, &key).await), expected);
    }
    shop.publisher.allow(shop.stream(), user(9)).await.unwrap();
    for (byte, expected) in [(9, Refusal::Denied), (2, Refusal::Policy)] {
        assert_eq!(refusal_of(&shop.answer(&raw, byte, &key).await), expected, "to allow is not to grant");
    }
    shop.publisher.clear_access(shop.stream(), None).await.unwrap();
    assert!(opened(&shop.answer(&raw, 3, &key).await)[0].same_as(&key));
}
