use std::pin::pin;
use std::task::{Context, Poll, Waker};

use veilcast_key_store::MemoryKeyStore;

use super::*;
use crate::permission::LocalRegistry;
use crate::publisher::EndWatch;

const fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(1_900_000_000 + secs)
}

fn user(byte: u8) -> UserId {
    UserId::from_bytes([byte; 20])
}

fn stream() -> StreamId {
    StreamId::of(user(1), "s").unwrap()
}

fn now<T>(answer: impl Future<Output = T>) -> T {
    match pin!(answer).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(answer) => answer,
        Poll::Pending => panic!("neither source nor list waits"),
    }
}

struct Desk {
    store: Arc<MemoryKeyStore>,
    registry: Arc<LocalRegistry>,
    list: AccessList,
}

impl Desk {
    /// The publisher 7 of a stream of 1; 2 and 3 have grants, 4 has none.
    fn new() -> Self {
        let store = Arc::new(MemoryKeyStore::default());
        let registry = Arc::new(LocalRegistry::new(store.clone()));
        registry.create_stream(&stream(), 1, false).unwrap();
        for byte in [2, 3] {
            registry.grant(&stream(), user(byte), Permission::Subscribe, Period::ALWAYS, at(0)).unwrap();
        }
        let list = AccessList::new(registry.clone(), store.clone(), user(7));
        Self { store, registry, list }
    }

    fn check(&self, byte: u8) -> Result<(), Refusal> {
        now(self.list.check(&stream(), user(byte), Permission::Subscribe, at(50))).map(drop)
    }

    fn deny(&self, byte: u8, secs: u64) {
        self.list.set(&stream(), user(byte), Rule::Deny, at(secs)).unwrap();
    }

    fn allow(&self, byte: u8, secs: u64) {
        self.list.set(&stream(), user(byte), Rule::Allow, at(secs)).unwrap();
    }

    fn subscribers(&self) -> Vec<Subscriber> {
        now(self.list.subscribers(&stream())).unwrap()
    }
}

#[test]
fn who_is_denied_is_out_whatever_the_source_says_and_nobody_is_let_in_whom_it_refuses() {
    let desk = Desk::new();
    desk.deny(2, 10);
    assert_eq!(desk.check(2), Err(Refusal::Policy));
    assert_eq!(desk.check(3), Ok(()));
    desk.allow(4, 11);
    assert_eq!(desk.check(4), Err(Refusal::Denied), "allowing narrows, it does not grant");
    assert_eq!(desk.check(3), Err(Refusal::Policy), "not among the allowed");
    assert_eq!(desk.check(2), Err(Refusal::Policy), "and deny wins");
    desk.allow(2, 12);
    assert_eq!(desk.check(2), Ok(()), "it is on one list at a time");
}

#[test]
fn taking_the_last_one_off_an_allow_list_lets_nobody_else_in_until_the_list_is_ended() {
    let desk = Desk::new();
    desk.allow(2, 10);
    desk.list.clear_user(&stream(), user(2), at(11)).unwrap();
    assert_eq!((desk.check(2), desk.check(3)), (Err(Refusal::Policy), Err(Refusal::Policy)));
    assert_eq!(desk.list.rules(&stream()).unwrap(), AccessRules { only_allowed: true, users: Vec::new() });
    desk.list.clear(&stream(), at(12)).unwrap();
    assert_eq!((desk.check(2), desk.check(3)), (Ok(()), Ok(())));
    let again = desk.list.clear_user(&stream(), user(2), at(13));
    assert!(matches!(again, Err(AccessError::NotListed { .. })));
}

#[test]
fn the_owner_and_the_publisher_itself_are_on_no_list_and_publishing_is_not_narrowed() {
    let desk = Desk::new();
    for byte in [1, 7] {
        let refused = desk.list.set(&stream(), user(byte), Rule::Deny, at(10));
        assert!(matches!(refused, Err(AccessError::Exempt { .. })));
    }
    desk.allow(2, 10);
    assert_eq!(desk.check(1), Ok(()));
    desk.registry.grant(&stream(), user(3), Permission::Publish, Period::ALWAYS, at(0)).unwrap();
    assert!(now(desk.list.check(&stream(), user(3), Permission::Publish, at(50))).is_ok());
}

#[test]
fn being_put_out_is_an_end_that_causes_one_rekey_and_being_let_in_again_is_none() {
    let desk = Desk::new();
    let mut watch = EndWatch::default();
    let look = |watch: &mut EndWatch, secs| {
        watch.learn(at(secs), desk.list.changes(), Some(desk.subscribers()));
        let ended = watch.ended().to_vec();
        watch.rekeyed(at(secs), None);
        ended
    };
    look(&mut watch, 1);
    let before = desk.list.changes();
    desk.deny(2, 10);
    assert_ne!(desk.list.changes(), before);
    assert_eq!(look(&mut watch, 10), [user(2)]);
    assert_eq!(look(&mut watch, 11), []);
    desk.list.clear_user(&stream(), user(2), at(12)).unwrap();
    assert_eq!(look(&mut watch, 12), []);
    desk.deny(2, 12);
    assert_eq!(look(&mut watch, 12), [user(2)], "in the millisecond of the change before");
    desk.allow(2, 20);
    assert_eq!(look(&mut watch, 20), [user(3)]);
    desk.list.clear_user(&stream(), user(2), at(21)).unwrap();
    assert!(look(&mut watch, 21).contains(&user(2)));
}

#[test]
fn who_was_allowed_then_denied_then_taken_off_in_one_moment_is_an_end_that_was_not_covered() {
    let desk = Desk::new();
    desk.allow(3, 5);
    let mut watch = EndWatch::default();
    watch.learn(at(5), desk.list.changes(), Some(desk.subscribers()));
    watch.rekeyed(at(5), None);
    desk.allow(2, 6);
    desk.deny(2, 7);
    desk.list.clear_user(&stream(), user(2), at(7)).unwrap();
    watch.learn(at(7), desk.list.changes(), Some(desk.subscribers()));
    assert!(watch.ended().contains(&user(2)));
}

#[test]
fn while_a_list_is_in_force_a_public_stream_is_not_public_and_who_came_as_the_public_is_shut_out() {
    let desk = Desk::new();
    desk.registry.set_public(&stream(), true, at(1)).unwrap();
    let info = || now(desk.list.stream_at(&stream(), at(50))).unwrap().unwrap();
    assert!(info().public);
    assert_eq!(desk.check(4), Ok(()));
    desk.deny(4, 10);
    assert_eq!((info().public, info().public_until), (false, Some(at(10))));
    assert_eq!((desk.check(4), desk.check(5)), (Err(Refusal::Policy), Ok(())));
    assert!(desk.subscribers().iter().any(|s| s.user == user(4) && s.grant.revoked == Some(at(10))));
    desk.list.clear(&stream(), at(11)).unwrap();
    assert!(info().public);
}

#[test]
fn lists_survive_a_restart_and_one_that_cannot_be_read_lets_nobody_in() {
    let desk = Desk::new();
    desk.deny(2, 10);
    let again = AccessList::new(desk.registry.clone(), desk.store.clone(), user(7));
    assert_eq!(again.rules(&stream()).unwrap().users, [(user(2), Rule::Deny)]);
    for value in ["{}", r#"{"narrowed":null}"#, r#"{"narrowed":null,"last":1,"more":2}"#, "nonsense"] {
        let key = stream().as_str().as_bytes().to_vec();
        desk.store.write("access", &[(key, Some(value.as_bytes().to_vec()))]).unwrap();
        assert_eq!(desk.check(3), Err(UNAVAILABLE), "{value}");
        assert_eq!(now(desk.list.subscribers(&stream())), Err(UNAVAILABLE));
    }
}
