use veilcast_key_store::MemoryKeyStore;

use super::*;

const fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn period(start: u64, end: u64) -> Period {
    Period { start: Some(at(start)), end: Some(at(end)) }
}

struct Desk {
    store: Arc<MemoryKeyStore>,
    registry: LocalRegistry,
    stream: StreamId,
    user: UserId,
}

impl Desk {
    fn new() -> Self {
        let store = Arc::new(MemoryKeyStore::default());
        let registry = LocalRegistry::new(store.clone());
        let stream = StreamId::of(UserId::from_bytes([1; 20]), "s").unwrap();
        registry.create_stream(&stream, 1, false).unwrap();
        Self { store, registry, stream, user: UserId::from_bytes([2; 20]) }
    }

    fn grant(&self, period: Period, now: u64) -> Result<(), RegistryError> {
        self.registry.grant(&self.stream, self.user, Permission::Subscribe, period, at(now))
    }

    fn only(&self) -> Grant {
        self.registry.grants(&self.stream).unwrap()[0].1
    }
}

#[test]
fn next_month_sold_in_advance_lengthens_the_present_one() {
    let desk = Desk::new();
    desk.grant(period(10, 20), 10).unwrap();
    desk.grant(period(21, 30), 15).unwrap();
    assert_eq!(desk.only().period, period(10, 30));
    assert_eq!(desk.only().voids_at(at(31)).collect::<Vec<_>>(), [at(31)]);
}

#[test]
fn a_present_grant_is_not_replaced_by_one_that_begins_after_a_pause() {
    let desk = Desk::new();
    desk.grant(period(10, 20), 10).unwrap();
    assert!(matches!(desk.grant(period(25, 30), 15), Err(RegistryError::StillHeld { .. })));
    assert_eq!(desk.only().period, period(10, 20));
}

#[test]
fn an_end_is_not_forgotten_when_the_user_buys_again_for_later() {
    let desk = Desk::new();
    desk.grant(period(10, 20), 10).unwrap();
    desk.grant(period(30, 40), 25).unwrap();
    assert_eq!(desk.only().voids_at(at(41)).collect::<Vec<_>>(), [at(21), at(41)], "he may hold the key of then");
}

#[test]
fn bought_again_and_taken_back_within_the_millisecond_of_a_revocation_is_another_end() {
    let desk = Desk::new();
    let revoke = || desk.registry.revoke(&desk.stream, desk.user, Permission::Subscribe, at(12)).unwrap();
    desk.grant(period(10, 20), 10).unwrap();
    revoke();
    desk.grant(period(12, 20), 12).unwrap();
    revoke();
    let again = at(12).plus(std::time::Duration::from_millis(1));
    assert_eq!(desk.only().voids_at(at(12)).collect::<Vec<_>>(), [at(12), again]);
}

#[test]
fn a_grant_begins_when_it_was_given_or_is_said_to_and_keeps_its_beginning_while_it_is_renewed() {
    let (desk, open) = (Desk::new(), |end| Period::until(at(end)));
    desk.grant(open(20), 10).unwrap();
    assert_eq!(desk.only().beginning(), Some(at(10)), "given without a start");
    desk.grant(open(30), 15).unwrap();
    desk.grant(period(31, 40), 25).unwrap();
    desk.grant(period(26, 50), 26).unwrap();
    assert_eq!(desk.only().beginning(), Some(at(10)), "renewed three times, without a pause");
    desk.grant(period(5, 50), 27).unwrap();
    assert_eq!(desk.only().beginning(), Some(at(5)), "the owner gave an earlier beginning");
}

#[test]
fn a_grant_bought_again_after_its_end_or_a_revocation_begins_anew() {
    let desk = Desk::new();
    desk.grant(Period::until(at(20)), 10).unwrap();
    desk.grant(Period::until(at(40)), 21).unwrap();
    assert_eq!(desk.only().beginning(), Some(at(21)));
    desk.registry.revoke(&desk.stream, desk.user, Permission::Subscribe, at(30)).unwrap();
    desk.grant(Period::ALWAYS, 31).unwrap();
    assert_eq!(desk.only().beginning(), Some(at(31)));
}

#[test]
fn a_grant_of_an_older_version_has_the_beginning_it_is_known_to_have() {
    let desk = Desk::new();
    let written = |start: &str| {
        let key = [desk.stream.as_str().as_bytes(), b"\0", desk.user.as_bytes(), b"subscribe"].concat();
        let value = format!(r#"{{"start":{start},"end":null,"revoked":null}}"#).into_bytes();
        desk.store.write("grants", &[(key, Some(value))]).unwrap();
    };
    written("7000");
    assert_eq!(desk.only().beginning(), Some(at(7)));
    written("null");
    assert_eq!(desk.only().beginning(), None);
    desk.grant(Period::ALWAYS, 50).unwrap();
    assert_eq!(desk.only().beginning(), Some(at(50)));
}

#[test]
fn a_stream_remembers_when_it_stopped_being_public() {
    let desk = Desk::new();
    desk.registry.set_public(&desk.stream, true, at(5)).unwrap();
    desk.registry.set_public(&desk.stream, false, at(9)).unwrap();
    desk.registry.set_public(&desk.stream, false, at(12)).unwrap();
    let info = desk.registry.stream_info(&desk.stream).unwrap().unwrap();
    assert_eq!((info.public, info.public_until), (false, Some(at(9))));
}
