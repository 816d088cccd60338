//! Handing out to simulated subscribers: real ledger, real checks of what each can open, a network of function calls.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use veilcast_key_store::{GroupKey, KeyId, MemoryKeyStore, StoreError};

use super::*;
use crate::cipher::{OpenError, Recipient, RsaPair, TransportKey};
use crate::permission::{Period, Permission, Subscriber};
use crate::publisher::{EndWatch, GrantLedger, KeyAhead, KeysAhead};

const NOW: Timestamp = Timestamp::from_secs(1_000_000);
/// Pairs that the simulated subscribers share, for making one takes longer than all the rest.
const PAIRS: usize = 4;

/// How a subscriber takes what is pushed to it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Ways {
    /// It is there, may read, and confirms.
    Here,
    /// Nothing reaches it.
    Away,
    /// It is there, but started anew with another RSA pair: it cannot open, and so does not confirm.
    NewPair,
    /// It sends back somebody else's receipt.
    Liar,
    /// Its grant ended.
    Ended,
    /// Whether it may read cannot be told now.
    Unknown,
    /// Its grant ends, or is taken back, while the key is on its way.
    EndsMeanwhile,
}

struct Simulated {
    identity: Identity,
    ways: Ways,
    pair: usize,
}

impl Simulated {
    /// What the audit log is to be told of it.
    const fn account(&self) -> &'static str {
        match self.ways {
            Ways::Here => "pushed",
            Ways::Away | Ways::NewPair | Ways::Liar => "sent",
            Ways::Ended | Ways::EndsMeanwhile => "expired",
            Ways::Unknown => "unavailable",
        }
    }
}

/// How many are inside at a time, and were at most.
#[derive(Default)]
struct Crowd(AtomicUsize, AtomicUsize);

impl Crowd {
    async fn pass(&self) {
        let inside = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        self.1.fetch_max(inside, Ordering::SeqCst);
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        self.0.fetch_sub(1, Ordering::SeqCst);
    }

    fn most(&self) -> usize {
        self.1.load(Ordering::SeqCst)
    }
}

struct World {
    identity: Identity,
    stream: StreamId,
    ledger: GrantLedger,
    people: BTreeMap<UserId, Simulated>,
    pairs: Vec<RsaPair>,
    checks: Crowd,
    pushes: Crowd,
    /// Who was checked before.
    checked: Mutex<BTreeSet<UserId>>,
    /// Every push that left, by whom it was sent to.
    sent: Mutex<BTreeMap<UserId, Bytes>>,
    /// Pages of the ledger that can be read before it fails.
    pages: AtomicUsize,
    /// What the audit log was told.
    accounted: Mutex<Vec<(UserId, &'static str)>>,
}

impl World {
    fn new(number: usize, ways: impl Fn(usize) -> Ways) -> Self {
        let identity = Identity::from_secret_bytes(&[1; 32]).unwrap();
        let stream = StreamId::of(identity.user(), "s").unwrap();
        let pairs = std::thread::scope(|threads| {
            let make = || RsaPair::generate(2048, &mut rand::rng()).unwrap();
            let making: Vec<_> = (0..PAIRS).map(|_| threads.spawn(make)).collect();
            making.into_iter().map(|pair| pair.join().unwrap()).collect()
        });
        let people = (0..number).map(|n| {
            let mut secret = [2; 32];
            secret[..8].copy_from_slice(&(n as u64).to_be_bytes());
            let identity = Identity::from_secret_bytes(&secret).unwrap();
            (identity.user(), Simulated { identity, ways: ways(n), pair: n % PAIRS })
        });
        let ledger = GrantLedger::new(Arc::new(MemoryKeyStore::default()), identity.user());
        let (sent, checked, pages) = (Mutex::default(), Mutex::default(), AtomicUsize::new(usize::MAX));
        let (checks, pushes) = (Crowd::default(), Crowd::default());
        let world = Self {
            identity,
            stream,
            ledger,
            people: people.collect(),
            pairs,
            checks,
            pushes,
            checked,
            sent,
            pages,
            accounted: Mutex::default(),
        };
        let entries: Vec<Entry> = world.people.values().map(|person| world.held(person)).collect();
        world.ledger.write(&entries).unwrap();
        world
    }

    /// It was given the key before.
    fn held(&self, person: &Simulated) -> Entry {
        let public_key = self.pairs[person.pair].public().as_der().to_vec();
        let user = person.identity.user();
        Entry::Given(Given {
            stream: self.stream.clone(),
            user,
            place: Place { peer: user.as_bytes().to_vec(), addresses: Vec::new(), public_key },
            grant: Period::ALWAYS,
            keys: vec![(KeyId::new("before").unwrap(), Timestamp::ZERO)],
            at: NOW.minus(Duration::from_secs(60)),
            by: GivenBy::Answer,
        })
    }

    fn open(&self, user: UserId, pair: usize, push: &KeyPush) -> Result<GroupKey, OpenError> {
        let scope = crate::scope(push.publisher, &push.stream);
        let recipient = Recipient { scope: &scope, subscriber: user, request: push.id };
        let transport = TransportKey::decapsulate(recipient, &self.pairs[pair], &push.encapsulated, &mut rand::rng())?;
        transport.unwrap(&push.granted[0].key_id, &push.granted[0].wrapped)
    }

    /// What a subscriber does with a push.
    fn received(&self, person: &Simulated, push: &Bytes) -> Option<Bytes> {
        let push = Received::<KeyPush>::decode(push).unwrap().verify().unwrap().into_content();
        let pair = if person.ways == Ways::NewPair { person.pair + 1 } else { person.pair } % PAIRS;
        self.open(person.identity.user(), pair, &push).ok()?;
        let KeyPush { id, publisher, stream, .. } = push;
        let signer = if person.ways == Ways::Liar { &self.identity } else { &person.identity };
        let receipt = KeyReceipt { id, subscriber: signer.user(), publisher, stream };
        Some(Verified::sign(receipt, signer).unwrap().envelope().clone())
    }

    fn those(&self, ways: &[Ways]) -> Vec<UserId> {
        self.people.iter().filter(|(_, person)| ways.contains(&person.ways)).map(|(user, _)| *user).collect()
    }

    fn holders(&self) -> Vec<UserId> {
        self.ledger.holders(&self.stream).unwrap().into_iter().map(|holder| holder.user).collect()
    }
}

impl Road for World {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn now(&self) -> Timestamp {
        NOW
    }

    async fn holders(
        &self,
        stream: &StreamId,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<(Holder, Place)>, ClientError> {
        if self.pages.fetch_sub(1, Ordering::SeqCst) == 0 {
            return Err(StoreError::Broken.into());
        }
        Ok(self.ledger.places(stream, after, limit)?)
    }

    async fn check(&self, _: &StreamId, user: UserId) -> Result<Grant, Refusal> {
        let first = lock(&self.checked).insert(user);
        if first {
            self.checks.pass().await;
        }
        match self.people[&user].ways {
            Ways::Ended => Err(Refusal::Expired { since: NOW }),
            Ways::Unknown => Err(Refusal::Unavailable { retry_after: Duration::from_secs(5) }),
            Ways::EndsMeanwhile if !first => Err(Refusal::Expired { since: NOW }),
            _ => Ok(Grant::new(Permission::Subscribe, Period::ALWAYS)),
        }
    }

    async fn send(&self, to: &Place, push: Bytes) -> Option<Bytes> {
        let user = UserId::try_from(to.peer.as_slice()).unwrap();
        assert!(lock(&self.sent).insert(user, push.clone()).is_none(), "nobody is sent it twice");
        self.pushes.pass().await;
        let person = &self.people[&user];
        if person.ways == Ways::Away { None } else { self.received(person, &push) }
    }

    async fn note(&self, entry: Entry) {
        self.ledger.write(&[entry]).unwrap();
    }

    fn sent(&self, given: &Given, confirmed: bool) {
        lock(&self.accounted).push((given.user, if confirmed { "pushed" } else { "sent" }));
    }

    fn withheld(&self, _: &StreamId, (user, _): (UserId, &Place), _: &KeyId, refusal: Refusal) {
        lock(&self.accounted).push((user, refusal.name()));
    }
}

fn new_key(origin: KeyOrigin) -> StoredKey {
    let key = GroupKey::new(KeyId::new("after").unwrap(), &[7; 32]).unwrap();
    StoredKey { key, since: NOW.as_millis(), until: None, origin }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_thousand_holders_each_is_in_one_list_those_pushed_can_open_the_key_and_nobody_refused_can() {
    let ways = |n| match n % 20 {
        0 | 1 => Ways::Away,
        2 => Ways::NewPair,
        3 => Ways::Liar,
        4 | 5 => Ways::Ended,
        6 => Ways::Unknown,
        7 => Ways::EndsMeanwhile,
        _ => Ways::Here,
    };
    let (world, key) = (Arc::new(World::new(1000, ways)), new_key(KeyOrigin::Made));
    let report = hand_out(world.clone(), world.stream.clone(), key.clone(), None).await.unwrap();

    let no = [Ways::Ended, Ways::Unknown, Ways::EndsMeanwhile];
    let refused: Vec<UserId> = report.refused.iter().map(|(user, _)| *user).collect();
    assert_eq!(report.key_id, *key.key.id());
    assert_eq!(report.pushed, world.those(&[Ways::Here]));
    assert_eq!(report.must_pull, world.those(&[Ways::Away, Ways::NewPair, Ways::Liar]));
    assert_eq!(refused, world.those(&no));
    assert_eq!((report.pushed.len(), report.must_pull.len(), refused.len()), (600, 200, 200));

    let sent = lock(&world.sent);
    let push_to = |user| Received::<KeyPush>::decode(&sent[user]).unwrap().verify().unwrap().into_content();
    for user in &report.pushed {
        let opened = world.open(*user, world.people[user].pair, &push_to(user)).unwrap();
        assert!(opened.same_as(&key.key) && opened.id() == key.key.id());
    }
    assert!(refused.iter().all(|user| !sent.contains_key(user)), "nothing was wrapped for them and sent");
    for user in refused.iter().take(20) {
        let pair = world.people[user].pair;
        let same_pair = report.pushed.iter().find(|other| world.people[other].pair == pair).unwrap();
        assert!(world.open(*user, pair, &push_to(same_pair)).is_err(), "not even with the RSA pair of one who can");
    }

    let mut accounted = lock(&world.accounted).clone();
    accounted.sort_unstable();
    let expected: Vec<_> = world.people.iter().map(|(user, person)| (*user, person.account())).collect();
    assert_eq!(accounted, expected, "a key that left is accounted for, whether or not that was confirmed");

    assert!((2..=PUSHES).contains(&world.pushes.most()), "{}", world.pushes.most());
    assert!((2..=CHECKS).contains(&world.checks.most()), "{}", world.checks.most());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ledger_holds_what_a_hand_out_did_and_forgets_whom_it_refused_for_good() {
    let all = [Ways::Here, Ways::Away, Ways::Ended, Ways::Unknown, Ways::EndsMeanwhile];
    let (world, key) = (Arc::new(World::new(10, |n| all[n % 5])), new_key(KeyOrigin::Made));
    hand_out(world.clone(), world.stream.clone(), key.clone(), None).await.unwrap();

    assert_eq!(
        world.holders(),
        world.those(&[Ways::Here, Ways::Away, Ways::Unknown]),
        "the others ask when let in again"
    );
    for (user, person) in &world.people {
        let given = world.ledger.given_keys(&world.stream, *user).unwrap();
        let told: Vec<_> = given.iter().map(|given| (given.key_id.as_str(), given.by)).collect();
        let before = ("before", GivenBy::Answer);
        match person.ways {
            Ways::Here => assert_eq!(told, [before, ("after", GivenBy::Push)]),
            _ => assert_eq!(told, [before], "{:?} got nothing more, and what it got is not forgotten", person.ways),
        }
    }
    // Whoever is there now gets the next one; who was refused is not even asked after.
    lock(&world.sent).clear();
    let report = hand_out(world.clone(), world.stream.clone(), key, None).await.unwrap();
    assert_eq!((report.pushed.len(), report.must_pull.len(), report.refused.len()), (2, 2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pre_agreed_key_is_wrapped_for_nobody() {
    let ways = |n| if n == 0 { Ways::Ended } else { Ways::Here };
    let (world, key) = (Arc::new(World::new(5, ways)), new_key(KeyOrigin::PreAgreed));
    let report = hand_out(world.clone(), world.stream.clone(), key, None).await.unwrap();
    assert_eq!((report.pushed.len(), report.must_pull.len(), report.refused.len()), (0, 4, 1));
    assert!(lock(&world.sent).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_cannot_be_read_further_is_an_error_and_not_a_report_that_leaves_people_out() {
    let (world, key) = (Arc::new(World::new(300, |_| Ways::Away)), new_key(KeyOrigin::Made));
    world.pages.store(1, Ordering::SeqCst);
    let failed = hand_out(world.clone(), world.stream.clone(), key, None).await;
    assert!(matches!(failed, Err(ClientError::Store(StoreError::Broken))), "{failed:?}");
    assert_eq!(lock(&world.sent).len(), PAGE, "those read before were sent it");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_no_holder_at_all_there_is_nothing_to_do() {
    let (world, key) = (Arc::new(World::new(0, |_| Ways::Here)), new_key(KeyOrigin::Made));
    let report = hand_out(world.clone(), world.stream.clone(), key, None).await.unwrap();
    let told: BTreeSet<UserId> = report.pushed.into_iter().chain(report.must_pull).collect();
    assert!(told.is_empty() && report.refused.is_empty());
}

/// A key for the end of the first holder's time, with its publisher's view of things.
fn key_ahead(world: &World) -> (EndWatch, KeysAhead, KeyAhead) {
    let (mut ends, mut ahead) = (EndWatch::default(), KeysAhead::default());
    let listed = |(n, user): (usize, &UserId)| {
        let period = if n == 0 { Period::until(NOW) } else { Period::ALWAYS };
        Subscriber { user: *user, grant: Grant::new(Permission::Subscribe, period) }
    };
    ends.rekeyed(NOW.minus(Duration::from_secs(60)), None);
    ends.learn(NOW, 1, Some(world.people.keys().enumerate().map(listed).collect()));
    let from = ahead.due(NOW, &ends).unwrap();
    let made = ahead.make(from, new_key(KeyOrigin::Made).key, NOW, &ends, []);
    (ends, ahead, made)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_made_ahead_goes_to_those_in_its_circle_and_to_the_others_once_it_is_current() {
    let (world, key) = (Arc::new(World::new(40, |_| Ways::Here)), new_key(KeyOrigin::Made));
    let (mut ends, mut ahead, made) = key_ahead(&world);
    let all: Vec<UserId> = world.people.keys().copied().collect();
    let send =
        async || hand_out(world.clone(), world.stream.clone(), key.clone(), Some(made.circle().clone())).await.unwrap();
    assert_eq!(send().await.pushed, all[1..]);
    assert_eq!(made.circle().joined(), all[1..]);
    assert!(!lock(&world.checked).contains(&all[0]), "nobody is asked about him");
    assert!(send().await.pushed.is_empty(), "nobody is sent it twice, and nobody is checked again");

    let after = made.from();
    ends.learn(after, 1, None);
    assert!(ahead.take(after, &ends).is_some());
    assert_eq!(send().await.pushed, all[..1], "in this test his permission holds again");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_not_read_when_a_key_ahead_is_sent_is_not_in_its_circle_nor_is_anybody_once_it_is_discarded() {
    let ways = |n| [Ways::Here, Ways::Ended, Ways::EndsMeanwhile, Ways::Unknown, Ways::Away][n % 5];
    let (world, key) = (Arc::new(World::new(40, ways)), new_key(KeyOrigin::Made));
    let (_, mut ahead, made) = key_ahead(&world);
    let circle = made.circle().clone();
    hand_out(world.clone(), world.stream.clone(), key.clone(), Some(circle.clone())).await.unwrap();
    let expected: Vec<UserId> = world.those(&[Ways::Here, Ways::Away]);
    let first = world.people.keys().next().unwrap();
    assert_eq!(circle.joined(), expected.into_iter().filter(|user| user != first).collect::<Vec<_>>());

    lock(&world.sent).clear();
    ahead.discard();
    hand_out(world.clone(), world.stream.clone(), key, Some(circle)).await.unwrap();
    assert!(lock(&world.sent).is_empty());
}
