use std::time::Duration;

use veilcast_key_store::MemoryKeyStore;

use super::*;
use crate::identity::Identity;
use crate::publisher::EndWatch;
use crate::wire::{Revocation, Revoked};

const DAY: Duration = Duration::from_secs(24 * 3600);

const fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(1_900_000_000 + secs)
}

fn identity(byte: u8) -> Identity {
    Identity::from_secret_bytes(&[byte; 32]).unwrap()
}

fn user(byte: u8) -> UserId {
    identity(byte).user()
}

fn stream() -> StreamId {
    StreamId::of(user(1), "prices").unwrap()
}

fn period(start: u64, end: u64) -> Period {
    Period { start: Some(at(start)), end: Some(at(end)) }
}

fn settings() -> StreamSettings {
    StreamSettings { partitions: 3, public: false, publishers: vec![user(9)], storage: Vec::new() }
}

/// The owner with a stream, and a publisher of it that is somebody else.
struct Desk {
    issuer: Issuer,
    mine: Arc<SignedGrants>,
    theirs: SignedGrants,
}

impl Desk {
    fn new() -> Self {
        let mine = Arc::new(SignedGrants::new(Arc::new(MemoryKeyStore::default())));
        let issuer = Issuer::new(identity(1), mine.clone());
        let desk = Self { issuer, mine, theirs: SignedGrants::new(Arc::new(MemoryKeyStore::default())) };
        let record = desk.issuer.set_up(&stream(), &settings(), at(0)).unwrap();
        desk.theirs.import(record.envelope(), at(0)).unwrap();
        desk
    }

    fn grant(&self, period: Period, now: u64) -> Verified<SignedGrant> {
        self.issuer.issue(&stream(), user(2), Permission::Subscribe, period, at(now)).unwrap()
    }

    /// The same, and the publisher has it.
    fn sold(&self, period: Period, now: u64) -> Verified<SignedGrant> {
        let grant = self.grant(period, now);
        self.theirs.import(grant.envelope(), at(now)).unwrap();
        grant
    }

    fn take(&self, record: &Verified<StreamRecord>, now: u64) {
        self.theirs.import(record.envelope(), at(now)).unwrap();
    }

    fn check(&self, now: u64) -> Result<Grant, Refusal> {
        self.theirs.check_now(&stream(), user(2), Permission::Subscribe, at(now)).unwrap()
    }

    fn import(&self, content: SignedGrant, by: &Identity) -> Result<Statement, GrantError> {
        self.theirs.import(&signed_by(content, by), at(0))
    }
}

/// Signed by whoever, as [`Verified::sign`] would not do it.
fn signed_by<T: Content>(content: T, by: &Identity) -> Bytes {
    let bytes = content.encode();
    let signature = by.sign(T::DOMAIN, &bytes);
    crate::wire::testing::envelope_of(1, T::DOMAIN.number(), &bytes, signature.as_bytes())
}

fn plain() -> SignedGrant {
    let (stream, registry) = (stream(), OWNERS_REGISTRY.to_owned());
    let (permission, period) = (Permission::Subscribe, Period::until(at(100)));
    SignedGrant { stream, registry, user: user(2), permission, period, serial: 77, issued: at(0) }
}

fn record(version: u64) -> StreamRecord {
    StreamRecord {
        stream: stream(),
        registry: OWNERS_REGISTRY.into(),
        partitions: 1,
        public: true,
        public_until: None,
        publishers: Vec::new(),
        version,
        issued: at(0),
        expires: at(1000),
        revocations: Vec::new(),
        storage: Vec::new(),
    }
}

#[test]
fn a_grant_lets_its_user_in_at_somebody_who_never_met_the_owner_until_its_last_second() {
    let desk = Desk::new();
    assert_eq!(desk.check(10), Err(Refusal::Denied));
    desk.sold(period(20, 30), 10);
    assert_eq!(desk.check(19), Err(Refusal::NotYet { from: at(20) }));
    assert_eq!(desk.check(30).unwrap().period, period(20, 30));
    assert_eq!(desk.check(31), Err(Refusal::Expired { since: at(30) }));
    let publisher = desk.theirs.check_now(&stream(), user(9), Permission::Publish, at(10)).unwrap();
    assert!(publisher.is_ok(), "named in the record");
    let subscribes = desk.theirs.check_now(&stream(), user(9), Permission::Subscribe, at(10)).unwrap();
    assert_eq!(subscribes, Err(Refusal::Denied), "to publish is not to read");
}

#[test]
fn what_somebody_else_than_the_owner_signed_does_not_count() {
    let desk = Desk::new();
    let refused = desk.import(plain(), &identity(2)).unwrap_err();
    assert!(matches!(refused, GrantError::NotOwner { owner, found, .. } if (owner, found) == (user(1), user(2))));
    let of_anothers = SignedGrant { stream: StreamId::of(user(2), "prices").unwrap(), ..plain() };
    assert!(desk.import(of_anothers, &identity(2)).is_ok(), "everybody owns streams");
    assert_eq!(desk.check(1), Err(Refusal::Denied), "but only those");
    let public = desk.theirs.import(&signed_by(record(9), &identity(9)), at(0)).unwrap_err();
    assert!(matches!(public, GrantError::NotOwner { found, .. } if found == user(9)), "a publisher is not the owner");
    assert_eq!(desk.theirs.record(&stream()).unwrap().unwrap().0.version, 1);
}

#[test]
fn a_grant_for_another_registry_or_of_a_stream_with_an_ens_owner_does_not_count() {
    let desk = Desk::new();
    let for_a_chain = SignedGrant { registry: "eip155:137:0xabc".into(), ..plain() };
    assert!(matches!(desk.import(for_a_chain, &identity(1)), Err(GrantError::ForeignRegistry { .. })));
    let by_name = SignedGrant { stream: StreamId::new("alice.eth/prices").unwrap(), ..plain() };
    assert!(matches!(desk.import(by_name, &identity(1)), Err(GrantError::Wire(_))));
    let ens = StreamId::new("alice.eth/prices").unwrap();
    let issued = desk.issuer.issue(&ens, user(2), Permission::Subscribe, Period::ALWAYS, at(0));
    assert!(matches!(issued, Err(GrantError::EnsOwner { .. })));
    assert_eq!(desk.theirs.check_now(&ens, user(1), Permission::Publish, at(0)).unwrap(), Err(Refusal::Denied));
}

#[test]
fn an_older_record_never_takes_the_place_of_a_newer_one_also_not_after_a_restart() {
    let store = Arc::new(MemoryKeyStore::default());
    let bytes = |version| signed_by(record(version), &identity(1));
    SignedGrants::new(store.clone()).import(&bytes(5), at(0)).unwrap();
    let again = SignedGrants::new(store);
    for version in [1, 4] {
        let refused = again.import(&bytes(version), at(0)).unwrap_err();
        assert!(matches!(refused, GrantError::Outdated { known: 5, found } if found == version));
    }
    let other = signed_by(StreamRecord { public: false, ..record(5) }, &identity(1));
    assert!(matches!(again.import(&other, at(0)), Err(GrantError::Outdated { .. })), "two of one version: the first");
    let before = again.changes();
    again.import(&bytes(5), at(0)).unwrap();
    assert_eq!(again.changes(), before, "the same again is no news");
    again.import(&bytes(6), at(0)).unwrap();
    assert_ne!(again.changes(), before);
}

#[test]
fn where_the_record_is_missing_or_expired_nobody_is_let_in_for_nobody_can_tell() {
    let desk = Desk::new();
    desk.sold(Period::ALWAYS, 0);
    let later = Duration::from_secs(RECORD_LIFETIME.as_secs());
    let check = |permission, user, now| desk.theirs.check_now(&stream(), user, permission, now).unwrap();
    assert!(check(Permission::Subscribe, user(2), at(0).plus(later).minus(DAY)).is_ok());
    let over = at(0).plus(later);
    for (permission, user) in [(Permission::Subscribe, user(2)), (Permission::Publish, user(9))] {
        assert_eq!(check(permission, user, over), Err(UNAVAILABLE));
    }
    assert!(check(Permission::Publish, user(1), over).is_ok(), "the owner needs no record");
    let empty = SignedGrants::new(Arc::new(MemoryKeyStore::default()));
    empty.import(&signed_by(plain(), &identity(1)), at(0)).unwrap();
    let answer = empty.check_now(&stream(), user(2), Permission::Subscribe, at(1)).unwrap();
    assert_eq!(answer, Err(UNAVAILABLE));
    let expired = signed_by(record(9), &identity(1));
    assert!(matches!(desk.theirs.import(&expired, at(1000)), Err(GrantError::RecordExpired { .. })));
    let info = decide::info(&record(9), at(1000));
    assert!(!info.public, "nor is it public any more");
    assert_eq!(info.public_until, Some(record(9).expires), "whoever asked until then may hold its key");
    let before = decide::info(&record(9), at(10));
    assert_eq!((before.public, before.public_ends), (true, Some(record(9).expires)));
}

#[test]
fn a_revocation_ends_what_was_granted_so_far_whatever_the_clock_says_and_what_is_bought_later_counts() {
    let desk = Desk::new();
    let grant = desk.sold(Period::ALWAYS, 10);
    let unseen = desk.grant(Period::until(at(500)), 11);
    desk.take(&desk.issuer.revoke_user(&stream(), user(2), at(20)).unwrap(), 20);
    assert_eq!(desk.check(20), Err(Refusal::Expired { since: at(20) }));
    assert_eq!(desk.check(15), Err(Refusal::Expired { since: at(20) }), "though the clock was set back");
    for replayed in [&grant, &unseen] {
        let refused = desk.theirs.import(replayed.envelope(), at(21)).unwrap_err();
        assert!(matches!(refused, GrantError::Revoked { since, .. } if since == at(20)), "{refused}");
    }
    desk.sold(Period::until(at(60)), 30);
    assert!(desk.check(40).is_ok());
    let again = desk.issuer.revoke_user(&stream(), user(2), at(20)).unwrap();
    let moments: Vec<_> = again.content().revocations.iter().map(|revocation| revocation.at).collect();
    assert!(moments == [at(20).plus(Duration::from_millis(1))], "another end has another moment: {moments:?}");
}

#[test]
fn one_of_two_grants_is_taken_back_by_its_serial() {
    let desk = Desk::new();
    let (one, other) = (desk.sold(Period::until(at(100)), 10), desk.sold(Period::until(at(50)), 10));
    assert_eq!((one.content().serial, other.content().serial), (1, 2));
    desk.take(&desk.issuer.revoke_serial(&stream(), 1, at(20)).unwrap(), 20);
    assert_eq!(desk.check(30).unwrap().period.end, Some(at(50)));
    assert_eq!(desk.check(51), Err(Refusal::Expired { since: at(50) }));
    assert!(matches!(desk.issuer.revoke_serial(&stream(), 9, at(20)), Err(GrantError::NoGrant { .. })));
}

#[test]
fn a_renewal_continues_a_grant_and_no_end_is_seen_between_them() {
    let desk = Desk::new();
    desk.sold(Period::until(at(30)), 10);
    desk.sold(period(31, 60), 20);
    desk.sold(Period::until(at(90)), 25);
    let known = desk.theirs.subscribers_now(&stream()).unwrap();
    assert_eq!(known.len(), 1);
    assert_eq!((known[0].grant.period, known[0].grant.beginning()), (Period::until(at(90)), Some(at(10))));
    let mut watch = EndWatch::default();
    watch.rekeyed(at(25), None);
    watch.learn(at(40), 0, Some(known.clone()));
    assert!(watch.ended().is_empty());
    watch.learn(at(91), 0, Some(known));
    assert_eq!(watch.ended(), [user(2)]);
}

#[test]
fn who_buys_again_after_a_pause_has_two_ends_and_begins_anew() {
    let desk = Desk::new();
    desk.sold(Period::until(at(30)), 10);
    desk.sold(Period::until(at(60)), 50);
    let known = desk.theirs.subscribers_now(&stream()).unwrap();
    let of = |n: usize| (known[n].grant.ends(), known[n].grant.beginning());
    assert_eq!([of(0), of(1)], [(Some(at(30)), Some(at(10))), (Some(at(60)), Some(at(50)))]);
    let held = desk.check(55).unwrap();
    assert_eq!(held.beginning(), Some(at(50)));
}

#[test]
fn a_grant_that_ended_and_one_whose_serial_is_another_grants_are_not_taken_in() {
    let desk = Desk::new();
    let ended = SignedGrant { period: Period::until(at(0).minus(DAY)), ..plain() };
    assert!(matches!(desk.import(ended, &identity(1)), Err(GrantError::Ended { .. })));
    desk.import(plain(), &identity(1)).unwrap();
    let twin = SignedGrant { period: Period::ALWAYS, ..plain() };
    assert!(matches!(desk.import(twin, &identity(1)), Err(GrantError::SerialTaken { serial: 77 })));
    assert_eq!(desk.check(101), Err(Refusal::Expired { since: at(100) }));
}

#[test]
fn what_is_shown_with_a_request_counts_for_its_requester_and_stream_only_and_what_nobody_signed_is_charged() {
    let desk = Desk::new();
    let grant = desk.grant(Period::until(at(60)), 10);
    let show =
        |stream: &StreamId, user, proof: &Bytes| desk.theirs.show(stream, user, std::slice::from_ref(proof), at(20));
    let other = StreamId::of(user(1), "other").unwrap();
    assert_eq!(show(&other, user(2), grant.envelope()), Shown::default());
    assert_eq!(show(&stream(), user(3), grant.envelope()), Shown::default());
    assert_eq!(desk.check(20), Err(Refusal::Denied));
    let forged = signed_by(plain(), &identity(2));
    assert_eq!(show(&stream(), user(2), &forged).vain_checks, 1);
    assert_eq!(show(&stream(), user(2), &Bytes::from_static(b"\x10\x08nonsense")), Shown::default());
    assert_eq!(desk.check(20), Err(Refusal::Denied));
    assert_eq!(show(&stream(), user(2), grant.envelope()), Shown::default());
    assert!(desk.check(20).is_ok());
    let late =
        desk.theirs.show(&stream(), user(2), &[desk.grant(Period::until(at(70)), 10).envelope().clone()], at(80));
    assert_eq!(late.refusal, Some(Refusal::Expired { since: at(70) }), "it says why");
}

#[test]
fn who_asks_shows_the_newest_record_and_its_grants_that_hold_and_what_was_taken_back_is_kept_back() {
    let desk = Desk::new();
    let held = desk.grant(Period::until(at(60)), 10);
    let later = desk.grant(period(200, 300), 10);
    let record = desk.issuer.renew(&stream(), at(0).plus(RECORD_LIFETIME / 2)).unwrap().unwrap();
    let shown = desk.mine.proofs(&stream(), user(2), at(20));
    assert_eq!(shown, [record.envelope().clone(), held.envelope().clone(), later.envelope().clone()]);
    let record = desk.issuer.revoke_user(&stream(), user(2), at(30)).unwrap();
    assert_eq!(desk.mine.proofs(&stream(), user(2), at(31)), [record.envelope().clone()]);
}

#[test]
fn of_one_user_eight_grants_are_kept_and_what_has_been_over_the_longest_goes_first() {
    let desk = Desk::new();
    for n in 0..8 {
        desk.sold(period(100 * n + 10, 100 * n + 20), 0);
    }
    let full = desk.issuer.issue(&stream(), user(2), Permission::Subscribe, Period::ALWAYS, at(0)).unwrap_err();
    assert!(matches!(full, GrantError::TooMany { limit: 8, .. }));
    desk.sold(period(900, 910), 200);
    let kept: Vec<u64> = desk.theirs.grants(&stream()).unwrap().iter().map(|(grant, _)| grant.serial).collect();
    assert_eq!(kept, [2, 3, 4, 5, 6, 7, 8, 10], "the first is over, and a serial was left out");
}

#[test]
fn grants_of_a_stream_and_streams_with_a_record_are_bounded() {
    let limits = GrantLimits { streams: 1, per_stream: 2, ..GrantLimits::default() };
    let grants = SignedGrants::with_limits(Arc::new(MemoryKeyStore::default()), limits);
    for byte in 2..5 {
        let grant = SignedGrant { user: user(byte), ..plain() };
        let taken = grants.import(&signed_by(grant, &identity(1)), at(0));
        assert_eq!(taken.is_ok(), byte < 4, "{taken:?}");
    }
    grants.import(&signed_by(record(1), &identity(1)), at(0)).unwrap();
    let other = StreamRecord { stream: StreamId::of(user(1), "other").unwrap(), ..record(1) };
    let refused = grants.import(&signed_by(other, &identity(1)), at(0)).unwrap_err();
    assert!(matches!(refused, GrantError::TooMany { limit: 1, .. }));
}

#[test]
fn a_serial_is_used_up_before_anything_bears_it_and_never_comes_back_after_a_restart() {
    let store = Arc::new(MemoryKeyStore::default());
    let open = || Issuer::new(identity(1), Arc::new(SignedGrants::new(store.clone())));
    open().set_up(&stream(), &settings(), at(0)).unwrap();
    let serial = |issuer: Issuer, byte| {
        let signed = issuer.issue(&stream(), user(byte), Permission::Subscribe, Period::ALWAYS, at(0)).unwrap();
        signed.content().serial
    };
    assert_eq!([serial(open(), 2), serial(open(), 3), serial(open(), 4)], [1, 2, 3]);
    let record = open().revoke_user(&stream(), user(3), at(1)).unwrap();
    assert_eq!(record.content().revocations[0].what, Revoked::User { user: user(3), through: 3 });
}

#[test]
fn a_record_is_made_anew_once_a_third_of_its_life_is_over_and_keeps_what_it_said() {
    let desk = Desk::new();
    desk.grant(Period::ALWAYS, 0);
    let before = desk.issuer.revoke_user(&stream(), user(2), at(1)).unwrap();
    assert_eq!(desk.issuer.renew(&stream(), at(1).plus(RECORD_LIFETIME / 3 - DAY)).unwrap().map(|_| ()), None);
    let now = at(1).plus(RECORD_LIFETIME / 3);
    let after = desk.issuer.renew(&stream(), now).unwrap().unwrap().into_content();
    let expected = StreamRecord {
        version: before.content().version + 1,
        issued: now,
        expires: now.plus(RECORD_LIFETIME),
        ..before.content().clone()
    };
    assert_eq!(after, expected);
}

#[test]
fn setting_a_stream_up_again_the_same_changes_nothing_and_making_it_private_says_since_when() {
    let desk = Desk::new();
    let version =
        |settings: &StreamSettings, now| desk.issuer.set_up(&stream(), settings, at(now)).unwrap().into_content();
    assert_eq!(version(&settings(), 5).version, 1);
    let public = StreamSettings { public: true, ..settings() };
    assert_eq!((version(&public, 6).version, version(&public, 7).version), (2, 2));
    let private = version(&settings(), 8);
    assert_eq!((private.version, private.public_until), (3, Some(at(8))));
    let nonsense = StreamSettings { partitions: 0, ..settings() };
    assert!(matches!(desk.issuer.set_up(&stream(), &nonsense, at(9)), Err(GrantError::Wire(_))));
}

#[test]
fn a_revocation_leaves_the_record_a_day_after_the_grants_would_have_ended_and_no_sooner() {
    let desk = Desk::new();
    desk.grant(Period::until(at(100)), 0);
    desk.issuer.revoke_user(&stream(), user(2), at(1)).unwrap();
    let another = |byte, now| {
        desk.issuer.issue(&stream(), user(byte), Permission::Subscribe, Period::ALWAYS, now).unwrap();
        desk.issuer.revoke_user(&stream(), user(byte), now).unwrap().into_content().revocations
    };
    let names = |all: Vec<Revocation>| all.into_iter().map(|revocation| revocation.what).collect::<Vec<_>>();
    let of = |byte, through| Revoked::User { user: user(byte), through };
    assert_eq!(names(another(3, at(100).plus(DAY))), [of(2, 1), of(3, 2)]);
    assert_eq!(names(another(4, at(102).plus(DAY))), [of(3, 2), of(4, 3)]);
}

#[test]
fn a_line_is_one_grant_or_record_and_anything_else_is_an_error() {
    let desk = Desk::new();
    let grant = desk.grant(Period::ALWAYS, 0);
    let line = to_line(grant.envelope()).unwrap();
    assert!(line.starts_with("veilcast-grant-1:0801"));
    assert_eq!(from_line(&format!("  {line}\r\n")).unwrap(), grant.envelope());
    let (record, _) = desk.mine.record(&stream()).unwrap().map(|(record, envelope)| (envelope, record)).unwrap();
    let of_record = to_line(&record).unwrap();
    assert!(of_record.starts_with("veilcast-record-1:"));
    for wrong in
        ["", "veilcast-grant-1:", "veilcast-grant-1:zz", &line[..line.len() - 1], &of_record.replace("record", "grant")]
    {
        assert!(matches!(from_line(wrong), Err(GrantError::Line)), "{wrong}");
    }
    let long = format!("veilcast-grant-1:{}", "00".repeat(MAX_PROOF_LEN + 1));
    assert!(matches!(from_line(&long), Err(GrantError::TooLong { .. })));
}

#[test]
fn a_damaged_or_newer_record_in_the_store_lets_nobody_in() {
    let store = Arc::new(MemoryKeyStore::default());
    let grants = SignedGrants::new(store.clone());
    grants.import(&signed_by(record(1), &identity(1)), at(0)).unwrap();
    for value in [vec![2, 1, 2], vec![1, 0xff], Vec::new()] {
        store.write("owner_records", &[(stream().as_str().as_bytes().to_vec(), Some(value))]).unwrap();
        assert!(matches!(grants.record(&stream()), Err(GrantError::Damaged)));
        assert!(grants.check_now(&stream(), user(2), Permission::Subscribe, at(1)).is_err());
    }
}

#[test]
fn what_a_statement_says_is_read_only_if_the_streams_owner_signed_it_though_it_be_over() {
    let over = SignedGrant { period: Period::until(at(0)), ..plain() };
    assert_eq!(Statement::read(&signed_by(over.clone(), &identity(1))).unwrap(), Statement::Grant(over));
    assert_eq!(Statement::read(&signed_by(record(3), &identity(1))).unwrap(), Statement::Record(record(3)));
    for forged in [signed_by(plain(), &identity(2)), signed_by(record(3), &identity(2))] {
        assert!(matches!(Statement::read(&forged), Err(GrantError::NotOwner { .. })));
    }
}

#[test]
fn a_publisher_is_shown_the_newest_grant_that_counts_once_also_after_a_restart() {
    let store = Arc::new(MemoryKeyStore::default());
    let open = || SignedGrants::new(store.clone());
    let unshown = |publisher, now| open().unshown(&stream(), user(2), user(publisher), at(now)).unwrap();
    assert_eq!(unshown(9, 0), None);
    open().import(&signed_by(plain(), &identity(1)), at(0)).unwrap();
    assert_eq!(unshown(9, 0), Some(77));
    open().was_shown(&stream(), user(9), 77).unwrap();
    assert_eq!((unshown(9, 0), unshown(8, 0)), (None, Some(77)), "another publisher was not");
    let renewal = SignedGrant { serial: 78, period: period(101, 200), ..plain() };
    open().import(&signed_by(renewal, &identity(1)), at(0)).unwrap();
    assert_eq!((unshown(9, 0), unshown(9, 201)), (Some(78), None), "what is over is not worth it");
    let revocations = vec![Revocation { what: Revoked::User { user: user(2), through: 78 }, at: at(1) }];
    open().import(&signed_by(StreamRecord { revocations, ..record(1) }, &identity(1)), at(0)).unwrap();
    assert_eq!(unshown(9, 2), None);
}

#[test]
fn a_revocation_that_arrives_late_shuts_out_whoever_was_given_a_key_made_in_the_meantime() {
    let desk = Desk::new();
    desk.sold(Period::ALWAYS, 0);
    let late = at(30).plus(DAY * 2);
    let revoked = desk.issuer.revoke_user(&stream(), user(2), at(20)).unwrap();
    let mut watch = EndWatch::default();
    let learn = |watch: &mut EndWatch, now: Timestamp| {
        watch.learn(now, desk.theirs.changes(), Some(desk.theirs.subscribers_now(&stream()).unwrap()));
    };
    learn(&mut watch, late);
    watch.rekeyed(late, None);
    let came = late.plus(Duration::from_secs(10));
    desk.theirs.import(revoked.envelope(), came).unwrap();
    learn(&mut watch, came);
    assert!(watch.ended().contains(&user(2)), "he could ask for that key until the record came");
    watch.rekeyed(came, None);
    desk.theirs.import(revoked.envelope(), came.plus(DAY)).unwrap();
    learn(&mut watch, came.plus(DAY));
    assert!(watch.ended().is_empty(), "and that he is shut out once");
}

#[test]
fn a_stream_said_late_to_be_public_no_more_was_public_until_that_was_heard() {
    let desk = Desk::new();
    let of = |public| StreamSettings { public, ..settings() };
    desk.take(&desk.issuer.set_up(&stream(), &of(true), at(1)).unwrap(), 1);
    let private = desk.issuer.set_up(&stream(), &of(false), at(5)).unwrap();
    desk.take(&private, 100);
    let info = desk.theirs.record_as_heard(&stream()).unwrap().map(|record| decide::info(&record, at(100))).unwrap();
    assert_eq!((info.public, info.public_until), (false, Some(at(100))));
}

#[test]
fn a_grant_that_was_taken_back_stays_so_however_many_its_user_buys_later() {
    let desk = Desk::new();
    let first = desk.sold(Period::ALWAYS, 0);
    desk.take(&desk.issuer.revoke_serial(&stream(), first.content().serial, at(1)).unwrap(), 1);
    for n in 0..10 {
        desk.grant(Period::until(at(10 + n)), 9 + n);
    }
    let other = desk.issuer.issue(&stream(), user(3), Permission::Subscribe, Period::ALWAYS, at(30)).unwrap();
    let taken = desk.issuer.revoke_serial(&stream(), other.content().serial, at(31)).unwrap();
    assert!(taken.content().revoked(first.content()).is_some(), "{:?}", taken.content().revocations);
    desk.take(&taken, 31);
    assert!(desk.check(32).is_err());
}

#[test]
fn in_a_new_store_serials_go_on_behind_all_that_come_back_to_it() {
    let desk = Desk::new();
    let old: Vec<_> = (0..5).map(|n| desk.grant(Period::ALWAYS, n)).collect();
    let record = desk.issuer.set_up(&stream(), &settings(), at(6)).unwrap();
    let anew = Arc::new(SignedGrants::new(Arc::new(MemoryKeyStore::default())));
    let issuer = Issuer::new(identity(1), anew.clone());
    anew.import(record.envelope(), at(7)).unwrap();
    anew.import(old[2].envelope(), at(7)).unwrap();
    let next = issuer.issue(&stream(), user(3), Permission::Subscribe, Period::ALWAYS, at(8)).unwrap();
    assert_eq!(next.content().serial, old[2].content().serial + 1);
    anew.import(old[4].envelope(), at(9)).unwrap();
    let all = issuer.revoke_user(&stream(), user(2), at(10)).unwrap();
    assert!(all.content().revoked(old[4].content()).is_some());
}

/// Grants of others on the stream, one user each.
fn fill(desk: &Desk, users: std::ops::Range<u8>, period: Period, now: u64) -> Result<(), GrantError> {
    users.into_iter().try_for_each(|byte| {
        let grant = desk.issuer.issue(&stream(), user(byte), Permission::Subscribe, period, at(now)).unwrap();
        desk.theirs.import(grant.envelope(), at(now)).map(drop)
    })
}

fn with_limits(desk: Desk, limits: GrantLimits) -> Desk {
    let theirs = SignedGrants::with_limits(Arc::new(MemoryKeyStore::default()), limits);
    theirs.import(&desk.mine.record(&stream()).unwrap().unwrap().1, at(0)).unwrap();
    Desk { theirs, ..desk }
}

#[test]
fn where_a_stream_is_full_what_has_been_over_for_a_day_gives_way_and_nothing_else_does() {
    let day = DAY.as_secs();
    let desk = with_limits(Desk::new(), GrantLimits { per_stream: 4, ..GrantLimits::default() });
    fill(&desk, 10..12, period(0, 100), 0).unwrap();
    fill(&desk, 12..14, period(0, 10 * day), 0).unwrap();
    let full = |outcome| matches!(outcome, Err(GrantError::TooMany { limit: 4, .. }));
    assert!(full(fill(&desk, 14..15, period(0, 20 * day), 50)), "all of them hold");
    assert!(full(fill(&desk, 15..16, period(0, 20 * day), 100 + day)), "over, but not for a day");
    fill(&desk, 16..18, period(0, 20 * day), 200 + day).unwrap();
    let users: Vec<_> = desk.theirs.grants(&stream()).unwrap().into_iter().map(|(grant, _)| grant.user).collect();
    assert_eq!(users.len(), 4);
    assert!([12, 13, 16, 17].iter().all(|byte| users.contains(&user(*byte))), "{users:?}");
    assert!(full(fill(&desk, 18..19, period(0, 20 * day), 300 + day)), "and full again");
}

#[test]
fn of_a_full_stream_it_is_looked_for_what_gives_way_once_a_minute_only() {
    let day = DAY.as_secs();
    let desk = with_limits(Desk::new(), GrantLimits { per_stream: 1, ..GrantLimits::default() });
    fill(&desk, 10..11, period(0, 100), 0).unwrap();
    let over = 101 + day;
    assert!(fill(&desk, 11..12, period(0, 9 * day), over - 2).is_err());
    assert!(fill(&desk, 12..13, period(0, 9 * day), over + 1).is_err(), "it was looked three seconds ago");
    fill(&desk, 13..14, period(0, 9 * day), over + 60).unwrap();
}

#[test]
fn where_there_is_no_room_for_another_stream_those_of_others_that_nobody_speaks_of_any_more_give_way() {
    let month = RECORD_LIFETIME.as_secs();
    let store = Arc::new(MemoryKeyStore::default());
    let limits = GrantLimits { streams: 2, ..GrantLimits::default() };
    let grants = Arc::new(SignedGrants::with_limits(store.clone(), limits));
    let of = |byte: u8| StreamId::of(user(byte), "prices").unwrap();
    let said = |byte: u8, now: u64| {
        let record = StreamRecord { stream: of(byte), issued: at(now), expires: at(now + 10), ..record(1) };
        grants.import(&signed_by(record, &identity(byte)), at(now)).map(drop)
    };
    said(2, 0).unwrap();
    let issuer = Issuer::new(identity(1), grants.clone());
    issuer.set_up(&of(1), &settings(), at(0)).unwrap();
    let full = |outcome| matches!(outcome, Err(GrantError::TooMany { limit: 2, .. }));
    assert!(full(said(3, 10 + month)), "its owner may be back");
    said(3, 12 + month).unwrap();
    assert_eq!(grants.record(&of(2)).unwrap(), None);
    assert_eq!(grants.streams().unwrap().len(), 2);
    assert!(full(said(4, 13 + month)), "one's own never gives way, nor what was said just now");
    assert!(grants.record(&of(1)).unwrap().is_some());
}

#[test]
fn grants_of_many_users_that_come_at_once_are_all_kept_and_never_more_than_there_is_room_for() {
    let desk = with_limits(Desk::new(), GrantLimits { per_stream: 60, ..GrantLimits::default() });
    let grants: Vec<Bytes> = (20..120)
        .map(|byte| {
            let always = Period::ALWAYS;
            desk.issuer.issue(&stream(), user(byte), Permission::Subscribe, always, at(0)).unwrap().envelope().clone()
        })
        .collect();
    let kept: usize = std::thread::scope(|scope| {
        let shown = |part: &[Bytes]| part.iter().filter(|grant| desk.theirs.import(grant, at(1)).is_ok()).count();
        let threads: Vec<_> = grants.chunks(25).map(|part| scope.spawn(move || shown(part))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!((kept, desk.theirs.grants(&stream()).unwrap().len()), (60, 60));
}

#[test]
fn a_place_taken_by_a_grant_that_is_still_being_written_is_given_to_nobody_else() {
    let desk = with_limits(Desk::new(), GrantLimits { per_stream: 2, ..GrantLimits::default() });
    let take = || desk.theirs.make_room(&stream(), at(1));
    assert!(take().is_ok() && take().is_ok());
    assert!(matches!(take(), Err(GrantError::TooMany { limit: 2, .. })), "neither of the two is on the shelf yet");
    desk.theirs.rooms.lock().settled(&stream(), false);
    assert!(take().is_ok(), "one of them did not come");
}
