//! Where an interrupted fetch of keys goes on: one record for each fetch that did not come to its end.

use serde::{Deserialize, Serialize};
use veilcast_key_store::{HistoryCursor, KeyId, RecordStore, TimeRange};

use super::error::ClientError;
use crate::identity::UserId;
use crate::stream::StreamId;

const TABLE: &str = "fetches";

/// Up to where a fetch has come, and what it brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Bookmark {
    pub(super) after: Option<HistoryCursor>,
    pub(super) keys: u64,
    pub(super) refused: u64,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    since: u64,
    key_id: String,
    keys: u64,
    refused: u64,
}

/// `stream id | 0 | publisher 20 | from 8 | to 8`: the name of one fetch.
pub(super) fn name(stream: &StreamId, publisher: UserId, range: TimeRange) -> Vec<u8> {
    let (from, to) = (range.from.to_be_bytes(), range.to.to_be_bytes());
    [stream.as_str().as_bytes(), &[0], publisher.as_bytes(), &from, &to].concat()
}

/// Where the fetch of this name goes on; at the beginning when it was never interrupted.
pub(super) fn read(records: &(impl RecordStore + ?Sized), name: &[u8]) -> Result<Bookmark, ClientError> {
    let Some(found) = records.get(TABLE, name)? else { return Ok(Bookmark::default()) };
    // One that cannot be read costs a fetch from the beginning, and nothing else.
    Ok(parse(&found).unwrap_or_default())
}

fn parse(value: &[u8]) -> Option<Bookmark> {
    let entry: Entry = serde_json::from_slice(value).ok()?;
    let id = KeyId::new(&entry.key_id).ok()?;
    Some(Bookmark { after: Some(HistoryCursor { since: entry.since, id }), keys: entry.keys, refused: entry.refused })
}

/// Keeps the place, or forgets it when there is none to go on at.
pub(super) fn write(
    records: &(impl RecordStore + ?Sized),
    name: Vec<u8>,
    bookmark: &Bookmark,
) -> Result<(), ClientError> {
    let Bookmark { after, keys, refused } = bookmark;
    let entry = after.as_ref().map(|after| Entry {
        since: after.since,
        key_id: after.id.as_str().into(),
        keys: *keys,
        refused: *refused,
    });
    // Numbers and text always have a JSON form; without one the fetch would begin anew.
    let value = entry.and_then(|entry| serde_json::to_vec(&entry).ok());
    Ok(records.write(TABLE, &[(name, value)])?)
}

#[cfg(test)]
mod tests {
    use veilcast_key_store::MemoryKeyStore;

    use super::*;

    #[test]
    fn a_bookmark_is_found_under_its_own_fetch_only_until_it_is_forgotten() {
        let records = MemoryKeyStore::new();
        let (a, b) = (UserId::from_bytes([1; 20]), UserId::from_bytes([2; 20]));
        let stream = StreamId::of(a, "s").unwrap();
        let (range, other) = (TimeRange { from: 1, to: 2 }, TimeRange { from: 1, to: 3 });
        let after = Some(HistoryCursor { since: 7, id: KeyId::new("k").unwrap() });
        let kept = Bookmark { after, keys: 256, refused: 3 };
        write(&records, name(&stream, a, range), &kept).unwrap();
        assert_eq!(read(&records, &name(&stream, a, range)).unwrap(), kept);
        for another in [name(&stream, b, range), name(&stream, a, other)] {
            assert_eq!(read(&records, &another).unwrap(), Bookmark::default());
        }
        write(&records, name(&stream, a, range), &Bookmark::default()).unwrap();
        assert_eq!(read(&records, &name(&stream, a, range)).unwrap(), Bookmark::default());
    }

    #[test]
    fn a_bookmark_that_cannot_be_read_means_the_beginning() {
        let records = MemoryKeyStore::new();
        records.write(TABLE, &[(b"x".to_vec(), Some(b"nonsense".to_vec()))]).unwrap();
        assert_eq!(read(&records, b"x").unwrap(), Bookmark::default());
    }
}
