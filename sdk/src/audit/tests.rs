use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use proptest::prelude::*;
use veilcast_key_store::{KeyId, MemoryKeyStore, Record, RecordChange, RecordStore, StoreError};

use super::page::TABLE;
use super::*;
use crate::identity::{Identity, UserId};
use crate::permission::{Period, Refusal};
use crate::stream::StreamId;
use crate::time::Timestamp;

fn identity(byte: u8) -> Identity {
    Identity::from_secret_bytes(&[byte; 32]).unwrap()
}

fn me() -> Identity {
    identity(1)
}

fn user(n: u32) -> UserId {
    let mut bytes = [9; 20];
    bytes[..4].copy_from_slice(&n.to_be_bytes());
    UserId::from_bytes(bytes)
}

fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(1_000_000 + secs)
}

fn stream() -> StreamId {
    StreamId::of(me().user(), "s").unwrap()
}

fn key(n: u64) -> KeyId {
    KeyId::new(&format!("key-{n}")).unwrap()
}

fn given(n: u64) -> AuditEvent {
    AuditEvent::Given {
        stream: stream(),
        user: user(2),
        keys: vec![key(n)],
        by: Handed::ToIds,
        grant: Period::until(at(5000)),
        public_key: [7; 32],
    }
}

fn repeats() -> Repeats {
    Repeats { times: 3, keys: 9, since: at(1), until: at(2) }
}

/// One of each kind, with every field that may be absent both ways.
fn events() -> Vec<AuditEvent> {
    let (stream, user, public_key, repeats) = (stream(), user(3), [8; 32], repeats());
    let refused = |refusal| AuditEvent::Refused {
        stream: stream.clone(),
        user,
        keys: vec![key(1), key(2)],
        count: 40,
        by: Handed::ToSpan,
        refusal,
        public_key,
    };
    let wait = Duration::from_millis(1500);
    let refusals = [
        Refusal::Denied,
        Refusal::NotYet { from: at(9) },
        Refusal::Expired { since: at(8) },
        Refusal::UnknownKey,
        Refusal::Throttled { retry_after: wait },
        Refusal::Policy,
        Refusal::Unavailable { retry_after: wait },
        Refusal::UnacceptableAlgorithm,
    ];
    let pushed =
        |by, grant| AuditEvent::Given { stream: stream.clone(), user, keys: vec![key(5)], by, grant, public_key };
    let always = Period::ALWAYS;
    let mut events: Vec<_> = refusals.into_iter().map(refused).collect();
    events.extend([
        given(4),
        pushed(Handed::Push, Period { start: Some(at(0)), end: None }),
        pushed(Handed::PushUnconfirmed, always),
        AuditEvent::GivenAgain { stream: stream.clone(), user, repeats },
        AuditEvent::RefusedAgain { stream: stream.clone(), user, refusal: Refusal::Denied, repeats },
        AuditEvent::Unlisted { repeats },
        AuditEvent::Throttled { repeats },
        AuditEvent::NotWritten { entries: 77 },
    ]);
    events
}

/// A store whose writes can be made to fail.
#[derive(Default)]
struct Records {
    store: MemoryKeyStore,
    fails: AtomicBool,
}

impl RecordStore for Records {
    fn get(&self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.get(table, key)
    }

    fn write(&self, table: &str, changes: &[RecordChange]) -> Result<(), StoreError> {
        if self.fails.load(Ordering::Relaxed) {
            return Err(StoreError::TooLarge { what: "a test", got: 1, limit: 0 });
        }
        self.store.write(table, changes)
    }

    fn scan(&self, table: &str, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<Record>, StoreError> {
        self.store.scan(table, prefix, after, limit)
    }
}

struct Desk {
    records: Arc<Records>,
    log: AuditLog,
    limits: AuditLimits,
}

impl Desk {
    fn new(limits: AuditLimits) -> Self {
        let records = Arc::new(Records::default());
        Self { log: AuditLog::with_limits(records.clone(), me().user(), limits), records, limits }
    }

    /// Three batches, the second in several pages: 16 entries, then 600, then one.
    fn filled() -> Self {
        let desk = Self::default();
        desk.write(events()).unwrap();
        desk.write((0..600).map(given)).unwrap();
        desk.write([given(1000)]).unwrap();
        desk
    }

    /// As filled, made once: many cases start from it.
    fn copied() -> Self {
        static FILLED: LazyLock<Vec<Record>> = LazyLock::new(|| Desk::filled().all());
        let desk = Self::default();
        FILLED.iter().for_each(|(place, value)| desk.put(place, Some(value.clone())));
        desk
    }

    fn write(&self, events: impl IntoIterator<Item = AuditEvent>) -> Result<(), AuditError> {
        let events = events.into_iter().map(|event| (at(10), event)).collect();
        self.log.append(events, &me(), at(20), &mut rand::rng())
    }

    fn verify(&self) -> Result<Option<AuditReport>, AuditFault> {
        self.log.verify(None, |_| Ok(()))
    }

    fn since(&self, kept: &AuditHead) -> Result<Option<AuditReport>, AuditFault> {
        self.log.verify(Some(kept), |_| Ok(()))
    }

    fn fault(&self) -> AuditFault {
        self.verify().expect_err("the log is not whole")
    }

    fn head(&self) -> AuditHead {
        self.log.head().unwrap().unwrap().into_content()
    }

    fn restart(&mut self) {
        self.log = AuditLog::with_limits(self.records.clone(), me().user(), self.limits);
    }

    fn all(&self) -> Vec<Record> {
        self.records.scan(TABLE, b"", None, usize::MAX).unwrap()
    }

    fn pages(&self) -> Vec<Record> {
        self.records.scan(TABLE, b"e", None, usize::MAX).unwrap()
    }

    fn put(&self, place: &[u8], value: Option<Vec<u8>>) {
        self.records.write(TABLE, &[(place.to_vec(), value)]).unwrap();
    }

    fn sequences(&self) -> Vec<u64> {
        self.log.read(0, usize::MAX).unwrap().iter().map(|logged| logged.entry.sequence).collect()
    }

    /// Changes the entries of one page, and writes it as the log would.
    fn rewrite(&self, page: usize, change: impl FnOnce(&mut Vec<LoggedEntry>)) {
        let (place, bytes) = self.pages().swap_remove(page);
        let mut entries = page::read(&bytes).unwrap();
        change(&mut entries);
        self.put(&place, page::write(entries).pop().map(|(_, bytes)| bytes));
    }
}

impl Default for Desk {
    fn default() -> Self {
        Self::new(AuditLimits::default())
    }
}

#[test]
fn an_entry_of_every_kind_reads_back_as_it_was_written_and_stands_in_the_log_in_its_order() {
    let desk = Desk::default();
    assert!(desk.verify().unwrap().is_none(), "there is no log yet");
    desk.write(events()).unwrap();
    desk.write(events()).unwrap();
    let read = desk.log.read(0, usize::MAX).unwrap();
    let said: Vec<_> = read.iter().map(|logged| logged.entry.event.clone()).collect();
    assert_eq!(said, [events(), events()].concat());
    assert!(read.iter().all(|logged| logged.entry.at == at(10)));
    assert_eq!(desk.sequences(), (1..=32).collect::<Vec<_>>());
    let report = desk.verify().unwrap().unwrap();
    assert_eq!((report.first, report.entries, report.since, report.not_written), (1, 32, at(10), 2 * 77));
    assert_eq!((report.head.sequence, report.head.at, report.head.pruned), (32, at(20), 0));
}

#[test]
fn the_log_is_read_from_any_place_on_across_pages() {
    let desk = Desk::filled();
    assert!(desk.pages().len() > 4);
    for after in [0, 1, 15, 16, 17, 255, 256, 271, 272, 300, 600, 615, 616] {
        let read = desk.log.read(after, 20).unwrap();
        let expected: Vec<_> = (after + 1..=617).take(20).collect();
        assert_eq!(read.iter().map(|logged| logged.entry.sequence).collect::<Vec<_>>(), expected);
    }
    assert!(desk.log.read(617, 20).unwrap().is_empty());
}

#[test]
fn a_changed_byte_of_an_entry_is_named_by_its_number() {
    for n in [0, 3, 15] {
        let desk = Desk::filled();
        desk.rewrite(0, |entries| *entries[n].content.last_mut().unwrap() ^= 1);
        let fault = desk.fault();
        assert!(fault.to_string().contains(&format!("entry {}", n + 1)), "{fault}");
    }
}

#[test]
fn a_chain_computed_anew_from_an_altered_entry_on_is_not_the_one_the_head_was_signed_for() {
    let desk = Desk::filled();
    let mut hash = desk.head().pruned_hash;
    for page in 0..desk.pages().len() {
        desk.rewrite(page, |entries| {
            for logged in entries {
                if logged.entry.sequence == 5 {
                    logged.entry.event = given(99);
                }
                *logged = LoggedEntry::behind(&hash, logged.entry.clone());
                hash = logged.hash;
            }
        });
    }
    assert!(matches!(desk.fault(), AuditFault::Foreign { sequence: 617 }), "{:?}", desk.fault());
}

#[test]
fn an_entry_taken_out_of_the_middle_moved_or_said_twice_is_noticed_where_it_is() {
    type Change = fn(&mut Vec<LoggedEntry>);
    let cases: [(&str, Change); 3] = [
        ("taken out", |entries| drop(entries.remove(4))),
        ("moved", |entries| entries.swap(4, 9)),
        ("said twice", |entries| entries.insert(4, entries[3].clone())),
    ];
    for (what, change) in cases {
        let desk = Desk::filled();
        desk.rewrite(0, change);
        assert!(matches!(desk.fault(), AuditFault::Misplaced { sequence: 5, .. }), "{what}: {:?}", desk.fault());
    }
}

#[test]
fn a_log_without_its_end_its_beginning_a_page_or_its_head_is_noticed() {
    let pages = Desk::filled().pages().len();
    for gone in 0..pages {
        let desk = Desk::filled();
        let (place, _) = desk.pages().swap_remove(gone);
        let first = page::first_at(&place).unwrap();
        desk.put(&place, None);
        match desk.fault() {
            AuditFault::Misplaced { sequence, .. } | AuditFault::CutOff { sequence, .. } => assert_eq!(sequence, first),
            fault => panic!("{fault:?}"),
        }
    }
    let desk = Desk::filled();
    desk.put(&page::head(me().user()), None);
    assert!(matches!(desk.fault(), AuditFault::NoHead { sequence: 1 }));
    desk.pages().iter().for_each(|(place, _)| desk.put(place, None));
    assert!(desk.verify().unwrap().is_none());
}

#[test]
fn entries_added_behind_the_head_are_noticed() {
    let desk = Desk::filled();
    let head = desk.head();
    let more = LoggedEntry::behind(&head.hash, AuditEntry { sequence: 618, at: at(10), event: given(1) });
    let (first, bytes) = page::write(vec![more]).pop().unwrap();
    desk.put(&page::page(me().user(), first), Some(bytes));
    assert!(matches!(desk.fault(), AuditFault::Beyond { sequence: 618 }));
}

#[test]
fn pages_and_heads_of_another_log_of_this_publisher_or_of_another_publisher_do_not_fit_in() {
    let (desk, other) = (Desk::filled(), Desk::filled());
    for (place, bytes) in other.pages() {
        let whole = Desk::filled();
        whole.put(&place, Some(bytes));
        assert!(matches!(whole.fault(), AuditFault::Altered { .. }), "{:?}", whole.fault());
    }
    let head = page::head(me().user());
    desk.put(&head, other.records.get(TABLE, &head).unwrap());
    assert!(matches!(desk.fault(), AuditFault::Altered { sequence: 1 }), "{:?}", desk.fault());

    let theirs = AuditLog::new(Arc::new(MemoryKeyStore::default()), identity(2).user());
    let refused = theirs.append(vec![(at(1), given(1))], &me(), at(1), &mut rand::rng());
    assert!(matches!(refused, Err(AuditError::Sign(_))), "{refused:?}");
    let records = Arc::new(MemoryKeyStore::default());
    let theirs = AuditLog::new(records.clone(), identity(2).user());
    theirs.append(vec![(at(1), given(1))], &identity(2), at(1), &mut rand::rng()).unwrap();
    let desk = Desk::default();
    desk.put(&head, records.get(TABLE, &page::head(identity(2).user())).unwrap());
    assert!(matches!(desk.fault(), AuditFault::Publisher { .. }));
}

#[test]
fn against_a_head_kept_elsewhere_a_log_put_back_rewritten_or_begun_anew_by_its_owner_shows() {
    let mut desk = Desk::default();
    desk.write(events()).unwrap();
    let (early, before) = (desk.head(), desk.all());
    desk.write([given(1), given(2)]).unwrap();
    let late = desk.head();
    assert_eq!(desk.since(&early).unwrap().unwrap().entries, 18);
    assert_eq!(desk.since(&late).unwrap().unwrap().entries, 18);

    // The whole store as it was before: by itself it is whole.
    desk.all().iter().for_each(|(place, _)| desk.put(place, None));
    before.into_iter().for_each(|(place, bytes)| desk.put(&place, Some(bytes)));
    desk.restart();
    assert!(desk.verify().is_ok() && desk.since(&early).is_ok());
    assert!(matches!(desk.since(&late), Err(AuditFault::PutBack { sequence: 17, kept: 18 })));

    // And written on from there, otherwise.
    desk.write([given(1), given(3)]).unwrap();
    assert!(desk.verify().is_ok());
    assert!(matches!(desk.since(&late), Err(AuditFault::Rewritten { sequence: 18 })));

    let anew = Desk::filled();
    assert!(matches!(anew.since(&late), Err(AuditFault::OtherLog)));
    assert!(matches!(Desk::default().since(&late), Err(AuditFault::PutBack { sequence: 1, kept: 18 })));
    let theirs = AuditHead { publisher: user(5), ..late };
    assert!(matches!(anew.since(&theirs), Err(AuditFault::Publisher { .. })));
}

#[test]
fn a_restart_continues_the_chain_and_a_write_that_fails_costs_its_own_entries_only() {
    let mut desk = Desk::default();
    desk.write([given(1)]).unwrap();
    let head = desk.head();
    desk.restart();
    desk.write([given(2)]).unwrap();
    desk.records.fails.store(true, Ordering::Relaxed);
    assert!(matches!(desk.write([given(3)]), Err(AuditError::Store(_))));
    desk.records.fails.store(false, Ordering::Relaxed);
    desk.write([given(4)]).unwrap();
    desk.restart();
    desk.write([given(5)]).unwrap();
    assert_eq!(desk.since(&head).unwrap().unwrap().entries, 4);
    let read = desk.log.read(0, 10).unwrap();
    let said: Vec<_> = read.into_iter().map(|logged| logged.entry.event).collect();
    assert_eq!(said, [given(1), given(2), given(4), given(5)]);
    assert_eq!(desk.head().log, head.log);
}

#[test]
fn a_log_that_lost_its_head_is_not_written_on() {
    let mut desk = Desk::filled();
    desk.put(&page::head(me().user()), None);
    let before = desk.all();
    desk.restart();
    let refused = desk.write([given(1)]);
    assert!(matches!(refused, Err(AuditError::Broken(AuditFault::NoHead { .. }))), "{refused:?}");
    assert_eq!(desk.all(), before);

    // Until it is begun anew, by hand.
    assert_eq!(desk.log.begin_anew().unwrap(), before.len() as u64);
    assert!(desk.all().is_empty() && desk.verify().unwrap().is_none());
    desk.write([given(1)]).unwrap();
    assert_eq!(desk.verify().unwrap().unwrap().entries, 1);
}

#[test]
fn at_its_limits_the_log_drops_the_oldest_and_stays_whole_also_after_a_restart() {
    for limits in [AuditLimits { entries: 320, bytes: u64::MAX }, AuditLimits { entries: u64::MAX, bytes: 64 * 1024 }] {
        let mut desk = Desk::new(limits);
        let mut heads = Vec::new();
        for n in 0..120 {
            desk.write((0..8).map(|i| given(n * 8 + i))).unwrap();
            let (head, report) = (desk.head(), desk.verify().unwrap().unwrap());
            assert!(head.sequence - head.pruned <= limits.entries && head.size <= limits.bytes, "{head:?}");
            assert_eq!((report.first, report.entries), (head.pruned + 1, head.sequence - head.pruned));
            heads.push(head);
            desk.restart();
        }
        let now = heads.last().unwrap().clone();
        assert!(now.pruned > 100, "{now:?}");
        assert_eq!(desk.sequences(), (now.pruned + 1..=960).collect::<Vec<_>>());
        let (gone, kept): (Vec<_>, Vec<_>) = heads.iter().partition(|head| head.sequence < now.pruned);
        assert!(gone.iter().all(|head| matches!(desk.since(head), Err(AuditFault::Forgotten { .. }))));
        assert!(!kept.is_empty() && kept.iter().all(|head| desk.since(head).is_ok()));

        // What is dropped is what the head says, no more: neither one page more, nor with an older head.
        let (place, bytes) = desk.pages().swap_remove(0);
        desk.put(&place, None);
        assert!(matches!(desk.fault(), AuditFault::Misplaced { .. }));
        desk.put(&place, Some(bytes));
        assert!(desk.verify().is_ok());
    }
}

#[test]
fn an_old_head_does_not_pass_for_the_word_that_what_it_covers_was_dropped() {
    let desk = Desk::default();
    desk.write([given(1)]).unwrap();
    let (place, _) = desk.pages().swap_remove(0);
    desk.write([given(2)]).unwrap();
    desk.put(&place, None);
    assert!(matches!(desk.fault(), AuditFault::Misplaced { sequence: 1, found: 2 }));
}

#[test]
fn what_does_not_check_is_not_dropped_for_age() {
    let desk = Desk::new(AuditLimits { entries: 20, bytes: u64::MAX });
    desk.write((0..10).map(given)).unwrap();
    desk.rewrite(0, |entries| entries[3].hash[0] ^= 1);
    desk.write((0..10).map(given)).unwrap();
    let refused = desk.write([given(1)]);
    assert!(matches!(refused, Err(AuditError::Broken(AuditFault::Altered { sequence: 4 }))), "{refused:?}");
    assert!(matches!(desk.fault(), AuditFault::Altered { sequence: 4 }));
}

#[test]
fn a_log_may_be_checked_while_it_is_written_and_its_oldest_entries_are_dropped() {
    let desk = Desk::new(AuditLimits { entries: 200, bytes: u64::MAX });
    (0..100).for_each(|n| desk.write([given(n)]).unwrap());
    let kept = desk.head();
    let mut seen = Vec::new();
    let report = desk.log.verify(Some(&kept), |logged| {
        if seen.len() < 60 {
            desk.write([given(1000)]).unwrap();
        }
        seen.push(logged.entry.sequence);
        Ok::<_, AuditFault>(())
    });
    let report = report.unwrap().unwrap();
    assert_eq!((report.entries, seen), (160, (1..=160).collect::<Vec<_>>()));

    let mut seen = BTreeSet::new();
    let report = desk.log.verify(None, |logged| {
        if seen.len() < 40 {
            (0..3).for_each(|_| desk.write([given(1000)]).unwrap());
        }
        assert!(seen.insert(logged.entry.sequence));
        Ok::<_, AuditFault>(())
    });
    let report = report.unwrap().unwrap();
    assert!(seen.last() == Some(&report.head.sequence) && report.head.pruned > 0, "{report:?}");
    assert!(desk.verify().is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_flipped_bit_of_any_record_or_its_place_is_noticed(which: prop::sample::Index, bit: prop::sample::Index, in_place: bool) {
        let desk = Desk::copied();
        let mut records = desk.all();
        let (mut place, mut value) = records.swap_remove(which.index(records.len()));
        desk.put(&place, None);
        // The first bytes of a place say which table and whose log it is: flipped there, it is gone.
        let bytes = if in_place { &mut place } else { &mut value };
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        desk.put(&place, Some(value));
        prop_assert!(desk.verify().is_err());
    }

    #[test]
    fn any_records_that_are_taken_out_changed_for_each_other_or_said_again_elsewhere_are_noticed(
        one: prop::sample::Index, other: prop::sample::Index, how in 0..3,
    ) {
        let desk = Desk::copied();
        let records = desk.all();
        let ((a, first), (b, second)) = (one.get(&records), other.get(&records));
        prop_assume!(a != b);
        match how {
            0 => desk.put(a, None),
            1 => {
                desk.put(a, Some(second.clone()));
                desk.put(b, Some(first.clone()));
            }
            _ => desk.put(a, Some(second.clone())),
        }
        prop_assert!(desk.verify().is_err());
    }

    #[test]
    fn whatever_is_done_to_the_entries_of_a_page_is_noticed(
        page: prop::sample::Index, one: prop::sample::Index, other: prop::sample::Index, bit: prop::sample::Index, how in 0..5,
    ) {
        let desk = Desk::copied();
        let before = desk.all();
        desk.rewrite(page.index(desk.pages().len()), |entries| {
            let (a, b) = (one.index(entries.len()), other.index(entries.len()));
            match how {
                0 => drop(entries.remove(a)),
                1 => entries.swap(a, b),
                2 => entries[a] = entries[b].clone(),
                3 => entries[a].hash = entries[b].hash,
                _ => {
                    let bit = bit.index(entries[a].content.len() * 8);
                    entries[a].content[bit / 8] ^= 1 << (bit % 8);
                }
            }
        });
        prop_assume!(desk.all() != before);
        prop_assert!(desk.verify().is_err());
    }
}
