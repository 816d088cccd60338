//! Where an interrupted fetch of keys goes on: one record for each fetch that did not come to its end, with a mark for each
//! device of the publisher.

use std::collections::BTreeMap;
use std::time::Duration;

use libp2p::PeerId;
use serde::{Deserialize, Serialize};
use veilcast_key_store::{HistoryCursor, KeyId, RecordStore, TimeRange};

use super::error::ClientError;
use crate::identity::UserId;
use crate::stream::StreamId;
use crate::time::Timestamp;

const TABLE: &str = "fetches";
/// A device that nobody has heard of for so long is asked for no more: it may have lost its store, and will never come back.
const FORGOTTEN: Duration = Duration::from_secs(30 * 24 * 3600);

/// Records looked at in one go.
const SWEPT: usize = 256;

/// How far a fetch has come, at each device it knows of.
pub(super) type Bookmark = BTreeMap<PeerId, Mark>;

/// Up to where one device was asked, and what that brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) after: Option<HistoryCursor>,
    pub(super) keys: u64,
    pub(super) refused: u64,
    /// It was asked to the end of the span.
    pub(super) done: bool,
    /// When the device was last known to be somewhere, by our clock.
    pub(super) heard: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Entries {
    devices: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    /// The peer id, in base 58.
    device: String,
    after: Option<Place>,
    keys: u64,
    refused: u64,
    done: bool,
    heard: u64,
}

#[derive(Serialize, Deserialize)]
struct Place {
    since: u64,
    key_id: String,
}

/// `stream id | 0 | publisher 20 | from 8 | to 8`: the name of one fetch.
pub(super) fn name(stream: &StreamId, publisher: UserId, range: TimeRange) -> Vec<u8> {
    let (from, to) = (range.from.to_be_bytes(), range.to.to_be_bytes());
    [stream.as_str().as_bytes(), &[0], publisher.as_bytes(), &from, &to].concat()
}

/// Where the fetch of this name goes on; empty when it was never interrupted.
pub(super) fn read(
    records: &(impl RecordStore + ?Sized),
    name: &[u8],
    now: Timestamp,
) -> Result<Bookmark, ClientError> {
    let Some(found) = records.get(TABLE, name)? else { return Ok(Bookmark::new()) };
    Ok(marks(&found, now))
}

/// A record that cannot be read costs a fetch from the beginning, and nothing else.
fn marks(record: &[u8], now: Timestamp) -> Bookmark {
    let entries = serde_json::from_slice::<Entries>(record).map(|found| found.devices).unwrap_or_default();
    let marks = entries.into_iter().filter_map(Entry::into_mark);
    marks.filter(|(_, mark)| now.since(mark.heard) < FORGOTTEN).collect()
}

/// Removes the records of fetches that will not go on: every device of theirs is forgotten. So who fetches another span every day
/// leaves no record for each.
pub(super) fn sweep(records: &(impl RecordStore + ?Sized), now: Timestamp) -> Result<(), ClientError> {
    let mut after: Option<Vec<u8>> = None;
    loop {
        let found = records.scan(TABLE, &[], after.as_deref(), SWEPT)?;
        let Some((last, _)) = found.last() else { return Ok(()) };
        after = Some(last.clone());
        let over = found.into_iter().filter(|(_, value)| marks(value, now).is_empty());
        let gone: Vec<_> = over.map(|(name, _)| (name, None)).collect();
        if !gone.is_empty() {
            records.write(TABLE, &gone)?;
        }
    }
}

/// Keeps the marks, or forgets the fetch when there are none.
pub(super) fn write(
    records: &(impl RecordStore + ?Sized),
    name: Vec<u8>,
    bookmark: &Bookmark,
) -> Result<(), ClientError> {
    let entries = (!bookmark.is_empty()).then(|| Entries { devices: bookmark.iter().map(Entry::of).collect() });
    // Numbers and text always have a JSON form; without one the fetch would begin anew.
    let value = entries.and_then(|entries| serde_json::to_vec(&entries).ok());
    Ok(records.write(TABLE, &[(name, value)])?)
}

impl Entry {
    fn of((device, mark): (&PeerId, &Mark)) -> Self {
        let Mark { after, keys, refused, done, heard } = mark.clone();
        let after = after.map(|after| Place { since: after.since, key_id: after.id.as_str().into() });
        Self { device: device.to_base58(), after, keys, refused, done, heard: heard.as_millis() }
    }

    fn into_mark(self) -> Option<(PeerId, Mark)> {
        let after = match self.after {
            Some(place) => Some(HistoryCursor { since: place.since, id: KeyId::new(&place.key_id).ok()? }),
            None => None,
        };
        let (keys, refused, done, heard) = (self.keys, self.refused, self.done, Timestamp::from_millis(self.heard));
        Some((self.device.parse().ok()?, Mark { after, keys, refused, done, heard }))
    }
}

#[cfg(test)]
mod tests {
    use veilcast_key_store::MemoryKeyStore;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(10_000_000);
    const RANGE: TimeRange = TimeRange { from: 1, to: 2 };

    fn user(byte: u8) -> UserId {
        UserId::from_bytes([byte; 20])
    }

    fn stream() -> StreamId {
        StreamId::of(user(1), "s").unwrap()
    }

    fn some() -> Bookmark {
        let after = Some(HistoryCursor { since: 7, id: KeyId::new("k").unwrap() });
        let asked = Mark { after, keys: 256, refused: 3, done: true, heard: NOW };
        Bookmark::from([(PeerId::random(), asked), (PeerId::random(), Mark { heard: NOW, ..Mark::default() })])
    }

    #[test]
    fn a_bookmark_is_found_under_its_own_fetch_only_until_it_is_forgotten() {
        let records = MemoryKeyStore::new();
        let (here, kept) = (name(&stream(), user(1), RANGE), some());
        write(&records, here.clone(), &kept).unwrap();
        assert_eq!(read(&records, &here, NOW).unwrap(), kept);
        let other = TimeRange { from: 1, to: 3 };
        for another in [name(&stream(), user(2), RANGE), name(&stream(), user(1), other)] {
            assert_eq!(read(&records, &another, NOW).unwrap(), Bookmark::new());
        }
        write(&records, here.clone(), &Bookmark::new()).unwrap();
        assert_eq!(read(&records, &here, NOW).unwrap(), Bookmark::new());
    }

    #[test]
    fn fetches_that_will_not_go_on_leave_no_records() {
        let (records, late) = (MemoryKeyStore::new(), NOW.plus(FORGOTTEN));
        for span in 0..600 {
            let range = TimeRange { from: span, to: u64::MAX };
            write(&records, name(&stream(), user(1), range), &some()).unwrap();
        }
        let fresh = Bookmark::from([(PeerId::random(), Mark { heard: late, ..Mark::default() })]);
        let here = name(&stream(), user(2), RANGE);
        write(&records, here.clone(), &fresh).unwrap();
        sweep(&records, NOW).unwrap();
        assert_eq!(records.scan(TABLE, &[], None, 1_000).unwrap().len(), 601);
        sweep(&records, late).unwrap();
        assert_eq!(records.scan(TABLE, &[], None, 1_000).unwrap().len(), 1);
        assert_eq!(read(&records, &here, late).unwrap(), fresh);
    }

    #[test]
    fn a_bookmark_that_cannot_be_read_means_the_beginning() {
        let records = MemoryKeyStore::new();
        records.write(TABLE, &[(b"x".to_vec(), Some(b"nonsense".to_vec()))]).unwrap();
        assert_eq!(read(&records, b"x", NOW).unwrap(), Bookmark::new());
    }

    #[test]
    fn a_device_that_nobody_has_heard_of_for_thirty_days_is_asked_for_no_more() {
        let (records, kept) = (MemoryKeyStore::new(), some());
        write(&records, b"x".to_vec(), &kept).unwrap();
        let last = NOW.plus(FORGOTTEN - Duration::from_millis(1));
        assert_eq!(read(&records, b"x", last).unwrap(), kept);
        assert_eq!(read(&records, b"x", NOW.plus(FORGOTTEN)).unwrap(), Bookmark::new());
    }
}
