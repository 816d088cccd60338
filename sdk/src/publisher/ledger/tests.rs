use proptest::prelude::*;
use veilcast_key_store::{MemoryKeyStore, SledKeyStore, Unlock};

use super::*;

const ME: UserId = UserId::from_bytes([1; 20]);

fn user(n: u16) -> UserId {
    let mut bytes = [9; 20];
    bytes[..2].copy_from_slice(&n.to_be_bytes());
    UserId::from_bytes(bytes)
}

fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(1_000_000 + secs)
}

fn stream() -> StreamId {
    StreamId::of(ME, "s").unwrap()
}

fn key(n: u64) -> (KeyId, Timestamp) {
    (KeyId::new(&format!("key-{n}")).unwrap(), at(n))
}

fn place(byte: u8) -> Place {
    Place { peer: vec![byte; 38], addresses: vec![vec![byte; 8]], public_key: vec![byte; 294] }
}

fn given(who: u16, keys: &[u64], secs: u64) -> Given {
    Given {
        stream: stream(),
        user: user(who),
        place: place(7),
        grant: Period::until(at(5000)),
        keys: keys.iter().map(|n| key(*n)).collect(),
        at: at(secs),
        by: GivenBy::Answer,
    }
}

fn refused(who: u16, secs: u64) -> Entry {
    Entry::Refused { stream: stream(), user: user(who), at: at(secs) }
}

struct Desk {
    records: Arc<MemoryKeyStore>,
    ledger: GrantLedger,
}

impl Desk {
    fn new(limits: LedgerLimits) -> Self {
        let records = Arc::new(MemoryKeyStore::default());
        Self { ledger: GrantLedger::with_limits(records.clone(), ME, limits), records }
    }

    fn write(&self, entries: impl IntoIterator<Item = Entry>) {
        self.ledger.write(&entries.into_iter().collect::<Vec<_>>()).unwrap();
    }

    fn holders(&self) -> Vec<UserId> {
        self.ledger.holders(&stream()).unwrap().into_iter().map(|holder| holder.user).collect()
    }

    fn keys_of(&self, who: u16) -> Vec<String> {
        let keys = self.ledger.given_keys(&stream(), user(who)).unwrap();
        keys.into_iter().map(|given| given.key_id.as_str().to_string()).collect()
    }

    fn places(&self) -> usize {
        self.records.scan(TABLE, b"", None, usize::MAX).unwrap().len()
    }
}

impl Default for Desk {
    fn default() -> Self {
        Self::new(LedgerLimits::default())
    }
}

#[test]
fn the_ledger_tells_who_was_given_which_key_when_under_which_grant_and_for_which_public_key() {
    let desk = Desk::default();
    desk.write([Entry::Given(given(2, &[1, 2], 10))]);
    let pushed = Given { place: place(8), by: GivenBy::Push, grant: Period::ALWAYS, ..given(2, &[3], 20) };
    desk.write([Entry::Given(pushed), Entry::Given(given(3, &[3], 20))]);

    let holders = desk.ledger.places(&stream(), None, 10).unwrap();
    let (first, found) = &holders[0];
    assert_eq!((first.user, first.first, first.last), (user(2), at(10), at(20)));
    assert_eq!((&first.newest_key, first.grant), (&key(3).0, Period::ALWAYS));
    assert_eq!(*found, place(8));
    assert_eq!(holders[1].0.user, user(3));

    let keys = desk.ledger.given_keys(&stream(), user(2)).unwrap();
    let told: Vec<_> = keys.iter().map(|key| (key.key_id.as_str(), key.since, key.at, key.by)).collect();
    let (answer, push) = (GivenBy::Answer, GivenBy::Push);
    let expected = [("key-1", at(1), at(10), answer), ("key-2", at(2), at(10), answer), ("key-3", at(3), at(20), push)];
    assert_eq!(told, expected);
    assert_eq!((keys[0].grant, keys[0].public_key), (Period::until(at(5000)), place(7).fingerprint()));
    assert_eq!((keys[2].grant, keys[2].public_key), (Period::ALWAYS, place(8).fingerprint()));
}

#[test]
fn a_key_given_again_is_one_record_and_an_old_key_does_not_hide_the_newest() {
    let desk = Desk::default();
    desk.write([Entry::Given(given(2, &[5], 10)), Entry::Given(given(2, &[5, 1], 20))]);
    assert_eq!(desk.keys_of(2), ["key-1", "key-5"]);
    let keys = desk.ledger.given_keys(&stream(), user(2)).unwrap();
    assert_eq!((keys[1].times, keys[1].at), (2, at(20)));
    assert_eq!(desk.ledger.holders(&stream()).unwrap()[0].newest_key, key(5).0);
}

#[test]
fn streams_and_publishers_are_kept_apart_even_when_one_name_begins_with_another() {
    let desk = Desk::default();
    let longer = StreamId::of(ME, "s2").unwrap();
    desk.write([
        Entry::Given(given(2, &[1], 10)),
        Entry::Given(Given { stream: longer.clone(), ..given(3, &[1], 10) }),
    ]);
    assert_eq!(desk.holders(), [user(2)]);
    assert_eq!(desk.ledger.holders(&longer).unwrap()[0].user, user(3));
    assert_eq!(desk.ledger.given_keys(&longer, user(2)).unwrap(), []);
    let other = GrantLedger::new(desk.records.clone(), user(99));
    assert_eq!(other.holders(&stream()).unwrap(), []);
}

#[test]
fn whoever_is_refused_for_good_is_no_holder_but_what_it_got_stays_on_record_and_where_it_is_does_not() {
    let desk = Desk::default();
    desk.write([Entry::Given(given(2, &[1], 10)), refused(2, 10), refused(3, 10)]);
    assert!(desk.holders().is_empty());
    assert_eq!(desk.keys_of(2), ["key-1"]);
    let recipients = desk.ledger.recipients(&stream()).unwrap();
    let told: Vec<_> = recipients.iter().map(|one| (one.user, one.newest_key.as_str())).collect();
    assert_eq!(told, [(user(2), "key-1")], "2 reads on with it, and 3 was never given any");
    let everything = desk.records.scan(TABLE, b"", None, usize::MAX).unwrap();
    assert!(
        everything.iter().all(|(_, value)| !value.windows(8).any(|part| part == [7; 8])),
        "it can be found nowhere"
    );

    desk.write([Entry::Given(given(2, &[2], 20))]);
    assert_eq!(desk.holders(), [user(2)], "it was let in again");
    desk.write([refused(2, 19)]);
    assert_eq!(desk.holders(), [user(2)], "that check was before it was let in");
    assert_eq!(desk.ledger.holders(&stream()).unwrap()[0].first, at(10));
}

#[test]
fn a_peer_that_says_nothing_new_of_where_it_is_stays_where_it_was_and_another_peer_does_not() {
    let desk = Desk::default();
    let silent = |byte| Given { place: Place { addresses: Vec::new(), ..place(byte) }, ..given(2, &[1], 20) };
    let addresses = || desk.ledger.places(&stream(), None, 1).unwrap()[0].1.addresses.clone();
    desk.write([Entry::Given(given(2, &[1], 10)), Entry::Given(silent(7))]);
    assert_eq!(addresses(), place(7).addresses);
    desk.write([Entry::Given(silent(8))]);
    assert!(addresses().is_empty());
}

#[test]
fn a_user_that_asks_from_ever_new_places_with_ever_new_keys_has_one_record_and_the_newest_keys() {
    let desk = Desk::new(LedgerLimits { keys_per_holder: 16, ..LedgerLimits::default() });
    for n in 0..100 {
        let asked = Given { place: place(n), ..given(2, &[n.into()], 10) };
        desk.write([Entry::Given(asked)]);
        assert!(desk.keys_of(2).len() <= 16);
        assert!(desk.places() <= 16 + 2, "a holder, a number and the keys");
    }
    assert_eq!(desk.keys_of(2).last().unwrap(), "key-99");
    assert!(desk.keys_of(2).len() >= 14, "all but the eighth that is oldest");
    // Old keys fetched later do not push newer ones out.
    desk.write([Entry::Given(given(2, &(0..50).collect::<Vec<_>>(), 20))]);
    assert_eq!(desk.keys_of(2).last().unwrap(), "key-99");
}

#[test]
fn holders_of_a_stream_are_limited_and_those_refused_or_served_longest_ago_go_first_with_their_account() {
    let desk = Desk::new(LedgerLimits { holders: 16, ..LedgerLimits::default() });
    desk.write((0..16).map(|n| Entry::Given(given(n, &[1], 100 + u64::from(n)))));
    desk.write([refused(9, 200), Entry::Given(given(0, &[1], 200))]);
    desk.write([Entry::Given(given(16, &[1], 201)), Entry::Given(given(17, &[1], 202))]);
    let expected: Vec<_> = [0].into_iter().chain(3..9).chain(10..18).map(user).collect();
    assert_eq!(desk.holders(), expected, "9 was refused; 1 and 2 were served the longest ago");
    assert_eq!((desk.keys_of(9), desk.keys_of(1)), (vec![], vec![]));
    for n in 18..300 {
        desk.write([Entry::Given(given(n, &[1], 300 + u64::from(n)))]);
        assert!(desk.holders().len() <= 16);
        assert!(desk.places() <= 2 * 16 + 1);
    }
}

#[test]
fn a_batch_beyond_what_one_write_takes_is_written_whole() {
    let desk = Desk::default();
    let keys: Vec<u64> = (0..250).collect();
    desk.write((0..40).map(|n| Entry::Given(given(n, &keys, 10))));
    assert_eq!(desk.holders().len(), 40);
    assert!((0..40).all(|n| desk.keys_of(n).len() == 250));
}

#[test]
fn pages_follow_each_other_without_loss_or_repetition_whatever_their_size() {
    let desk = Desk::default();
    desk.write((0..700).map(|n| Entry::Given(given(n, &[1], 10))));
    desk.write((0..700).filter(|n| n % 3 == 0).map(|n| refused(n, 10)));
    let expected: Vec<_> = (0..700).filter(|n| n % 3 != 0).map(user).collect();
    for size in [1, 7, 256, 1000] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = desk.ledger.places(&stream(), after, size).unwrap();
            found.extend(page.iter().map(|(holder, _)| holder.user));
            after = found.last().copied();
            if page.len() < size {
                break;
            }
        }
        assert_eq!(found, expected, "pages of {size}");
    }
}

#[test]
fn a_record_of_a_newer_version_is_passed_over_and_the_others_are_read() {
    let desk = Desk::default();
    desk.write([Entry::Given(given(2, &[1], 10)), Entry::Given(given(3, &[1, 2], 10))]);
    // Field 1, the version: 2.
    let of = record::keys(ME, &stream(), user(3));
    let newer = vec![(record::holder(ME, &stream(), user(2)), Some(vec![8, 2]))];
    let foreign = vec![(record::key(&of, &key(1).0, key(1).1), Some(vec![8, 2]))];
    desk.records.write(TABLE, &newer).unwrap();
    desk.records.write(TABLE, &foreign).unwrap();
    assert_eq!(desk.holders(), [user(3)]);
    assert_eq!(desk.keys_of(3), ["key-2"]);
    assert_eq!(HolderRecord::read(&[8, 2]), Err(RecordFault::Version(2)));
    assert_eq!(HolderRecord::read(&[255; 9]), Err(RecordFault::Damaged));
    desk.write([Entry::Given(given(2, &[1], 20))]);
    assert_eq!(desk.holders(), [user(2), user(3)], "the next delivery makes it whole");
}

#[test]
fn what_was_written_is_there_after_a_crash_and_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, image) = (folder.path().join("store"), folder.path().join("image"));
    let unlock = Unlock::KeyFile(folder.path().join("key"));
    let open = |dir: &std::path::Path| Arc::new(SledKeyStore::open(dir, &unlock).unwrap());
    let told = |store: Arc<SledKeyStore>| {
        let ledger = GrantLedger::new(store, ME);
        (ledger.places(&stream(), None, 10).unwrap(), ledger.given_keys(&stream(), user(2)).unwrap())
    };
    let store = open(&dir);
    let ledger = GrantLedger::new(store.clone(), ME);
    ledger.write(&[Entry::Given(given(2, &[1, 2], 10)), Entry::Given(given(3, &[1], 10)), refused(3, 11)]).unwrap();
    // What a machine that stops now leaves behind: the files as they are while the store is open.
    copy(&dir, &image);
    let before = told(store.clone());
    assert_eq!((before.0.len(), before.1.len()), (1, 2));
    drop((ledger, store));
    assert_eq!(told(open(&image)), before, "after a crash");
    assert_eq!(told(open(&dir)), before, "after a restart");
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => drop(std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap()),
        }
    }
}

proptest! {
    #[test]
    fn damaged_records_are_passed_over_and_never_a_panic(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        cut in 0usize..200, flip in 0usize..200,
    ) {
        let desk = Desk::default();
        desk.write([Entry::Given(given(2, &[1], 10)), Entry::Given(given(3, &[1], 10))]);
        let of = record::keys(ME, &stream(), user(2));
        for place in [record::holder(ME, &stream(), user(2)), record::key(&of, &key(1).0, key(1).1)] {
            let mut damaged = desk.records.get(TABLE, &place).unwrap().unwrap();
            let last = damaged.len() - 1;
            damaged[flip.min(last)] ^= 0x55;
            damaged.truncate(cut);
            for value in [bytes.clone(), damaged] {
                desk.records.write(TABLE, &[(place.clone(), Some(value))]).unwrap();
                prop_assert!(desk.holders().contains(&user(3)));
                let _ = desk.keys_of(2);
                desk.write([refused(2, 9)]);
            }
        }
        // Whatever is there, the next delivery makes it readable again, and what lies beside it does no harm.
        desk.records.write(TABLE, &[(record::holder(ME, &stream(), user(2)), Some(bytes.clone()))]).unwrap();
        desk.records.write(TABLE, &[(record::number(ME, &stream()), Some(bytes.clone()))]).unwrap();
        desk.records.write(TABLE, &[([of.as_slice(), &bytes].concat(), Some(bytes))]).unwrap();
        desk.write([Entry::Given(given(2, &[1], 20))]);
        prop_assert_eq!(desk.holders(), [user(2), user(3)]);
        prop_assert!(desk.keys_of(2).contains(&"key-1".to_string()));
    }
}
