//! Who may read a stream, and since when: kept by ourselves, from the contract's events.
//!
//! The contract has no list of users and an event has no indexed argument, so the events of all streams come along. All are kept,
//! compactly: (stream, user) -> its changes, some 100 bytes. A stream that is asked about tomorrow has its full list without
//! reading years of blocks once more, which is what keeping only the streams of interest would cost.
//!
//! An event is a claim: for the streams that are followed it leads to a fresh read of the entry it names, and what that
//! read says counts. What a permission comes to, with its beginning and its ends, is folded from the changes whenever something
//! changed (`timeline`), so that stepping back over a reorganisation is forgetting the changes of its blocks. Times of blocks
//! are fetched for followed streams only.
//!
//! This part is pure but for the store: blocks, events, reads and times are passed in. [`super::follower`] fetches them.
//!
//! **Bounds.** [`IndexLimits::entries`] in all: anybody can make the chain longer, for a fee. Beyond it new entries are kept for
//! followed streams only; a stream that begins to be followed later has a hole, and its list is refused. A stream of more
//! than [`MAX_USERS`] users has no list either. Of one entry the newest 32 changes stay.

mod listing;
mod marks;
mod record;
mod source;
#[cfg(test)]
mod tests;
mod timeline;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use prost::Message as _;
use veilcast_key_store::{MAX_RECORD_CHANGES, RecordStore, StoreError};

#[cfg(test)]
pub(super) use self::listing::EVERYBODY;
pub(super) use self::listing::{Holders, Lack, Listing, Survey};
use self::marks::Marks;
pub(super) use self::record::StreamKey;
use self::record::{Change, Entry, Meta, Place, Root, Stored as _, TABLE};
pub use self::source::SourceError;
pub(super) use self::source::{LogSource, Span};
use super::events::RegistryEvent;
use super::expiration::Expiration;
use crate::identity::UserId;
use crate::stream::StreamId;

/// How many blocks a reorganisation may take back without the index beginning anew.
pub(super) const REORG_WINDOW: u64 = 512;
/// Most users of one stream that are listed.
pub(super) const MAX_USERS: usize = 65_536;
/// Blocks read without an event until the cursor is written down nevertheless.
const SAVE_EVERY: u64 = 256;
/// Records read or written at a time.
const PAGE: usize = 1024;

/// How much the index keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IndexLimits {
    /// The block to begin with: the one that the contract is in, or an earlier one.
    pub(super) start: u64,
    /// Blocks on top of the one whose grants count.
    pub(super) confirmations: u64,
    /// Entries of all streams together.
    pub(super) entries: u64,
}

/// A block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) number: u64,
    pub(super) hash: [u8; 32],
    /// Seconds since the epoch.
    pub(super) time: u64,
}

/// Where an event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) block: u64,
    /// The log's number within its block.
    pub(super) index: u32,
}

/// An event and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) at: Position,
    /// The time of the block, seconds since the epoch, where the endpoint said it along with the log.
    pub(super) time: Option<u64>,
    pub(super) event: RegistryEvent,
}

/// The last block that no reorganisation takes back.
const fn final_at(head: u64) -> u64 {
    head.saturating_sub(REORG_WINDOW)
}

/// What an entry of the contract allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Held {
    pub(super) publish: Expiration,
    pub(super) subscribe: Expiration,
}

impl Held {
    pub(super) const NOTHING: Self = Self { publish: Expiration::NONE, subscribe: Expiration::NONE };
}

/// What the contract said of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Read {
    /// The block for which it said this first, and the time of that block.
    since: u64,
    time: u64,
    /// The block for which it said so last.
    as_of: u64,
    held: Held,
}

/// Which streams something happened to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Touched {
    /// Each with the last block that changed it.
    pub(super) streams: BTreeMap<StreamKey, u64>,
    /// All of them.
    pub(super) everything: bool,
}

impl Touched {
    fn note(&mut self, stream: StreamKey, block: u64) {
        let last = self.streams.entry(stream).or_default();
        *last = block.max(*last);
    }
}

/// What events come to before they are on disk.
#[derive(Default)]
struct Draft {
    /// Entries that changed, and the blocks that changed them.
    places: BTreeMap<Place, (Entry, BTreeSet<u64>)>,
    touched: Touched,
    /// How many of them are new.
    fresh: u64,
    upgraded: u64,
    overflow: Option<u64>,
}

/// Why the index cannot tell.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record that cannot be read: the store is damaged or newer.
    #[error("a record of the chain index cannot be read; it may come from a newer version")]
    Record,
}

/// The index of one registry.
pub(super) struct Index {
    records: Arc<dyn RecordStore>,
    root: Root,
    limits: IndexLimits,
    marks: Marks,
    entries: u64,
    upgraded: u64,
    overflow: Option<u64>,
    /// Streams that are followed, and from which block on nothing of theirs was left out for want of room.
    followed: HashMap<StreamKey, (StreamId, u64)>,
    /// The cursor that is on disk.
    saved: Option<u64>,
    /// Something after the cursor may be on disk.
    is_ragged: bool,
}

impl Index {
    /// Goes on where the records say; begins anew where they cannot serve the limits given.
    ///
    /// # Errors
    /// [`IndexError`].
    pub(super) fn open(
        records: Arc<dyn RecordStore>,
        chain_id: u64,
        contract: UserId,
        limits: IndexLimits,
    ) -> Result<Self, IndexError> {
        let root = Root::new(chain_id, contract);
        let found = records.get(TABLE, &root.meta())?;
        let meta = found.map(|bytes| Meta::parse(&bytes).ok_or(IndexError::Record)).transpose()?;
        let meta = meta.unwrap_or_else(|| Meta::new(limits.start));
        let marks = meta.marks().and_then(Marks::resume).ok_or(IndexError::Record)?;
        let has_room_again = meta.overflow.is_some() && limits.entries > meta.entries;
        let must_begin_anew = meta.start > limits.start || has_room_again || marks.cursor().is_none();
        let (saved, followed) = (marks.cursor().map(|block| block.number), HashMap::new());
        let limits = IndexLimits { start: limits.start.min(meta.start), ..limits };
        let Meta { entries, upgraded, overflow, .. } = meta;
        let mut index =
            Self { records, root, limits, marks, entries, upgraded, overflow, followed, saved, is_ragged: true };
        if must_begin_anew {
            index.begin_anew()?;
        }
        index.load_followed()?;
        index.mend()?;
        Ok(index)
    }

    /// The last block of which everything is on record; `None` before the first.
    pub(super) fn cursor(&self) -> Option<&Block> {
        self.marks.cursor()
    }

    /// Blocks that were read, the newest first: where the chain still has one of them, all before it counts.
    pub(super) fn marks(&self) -> Vec<Block> {
        self.marks.newest_first().copied().collect()
    }

    /// The block to begin with.
    pub(super) fn start(&self) -> u64 {
        self.limits.start
    }

    /// The first block to read while `head` is the newest; `None` when all are read. Blocks that were new the last time are read once
    /// more: a node may know a block and not yet its logs.
    pub(super) fn first(&self, head: u64) -> Option<u64> {
        let next = self.cursor().map_or(self.limits.start, |cursor| cursor.number + 1);
        let again = if next > final_at(head) { self.limits.confirmations.min(REORG_WINDOW / 2) } else { 0 };
        (next <= head).then(|| next.saturating_sub(again).max(self.limits.start))
    }

    /// The last block to read along with `from`, `width` at most. What is final and what is not are read apart.
    pub(super) fn last(from: u64, head: u64, width: u64) -> u64 {
        let end = if from <= final_at(head) { final_at(head) } else { head };
        from.saturating_add(width.max(1) - 1).min(end)
    }

    /// Takes in the events of all blocks up to `tip`, which were read while the newest one was `head`. They are on disk when
    /// this returns; without any, the cursor is written down now and then.
    ///
    /// # Errors
    /// [`IndexError`]: nothing counts, and they may be passed in again.
    pub(super) fn advance(&mut self, tip: Block, head: u64, events: &[Placed]) -> Result<Touched, IndexError> {
        self.mend()?;
        let mut draft = Draft { upgraded: self.upgraded, overflow: self.overflow, ..Draft::default() };
        for placed in events {
            self.take(placed, &mut draft)?;
        }
        self.is_ragged = true;
        self.write(draft.places, final_at(head))?;
        (self.upgraded, self.overflow) = (draft.upgraded, draft.overflow);
        self.entries += draft.fresh;
        // Not so when old blocks were read once more.
        if self.cursor().is_none_or(|cursor| cursor.number < tip.number) {
            self.marks.push(tip);
        }
        self.is_ragged = false;
        let is_due = self.saved.is_none_or(|saved| tip.number.abs_diff(saved) >= SAVE_EVERY);
        if is_due || draft.touched != Touched::default() {
            self.save()?;
        }
        Ok(draft.touched)
    }

    fn take(&self, placed: &Placed, draft: &mut Draft) -> Result<(), IndexError> {
        let block = placed.at.block;
        let (stream, user, held) = match &placed.event {
            RegistryEvent::Permission { stream, user, publish, subscribe } => {
                (stream, Some(*user), Held { publish: *publish, subscribe: *subscribe })
            }
            RegistryEvent::Created { stream } | RegistryEvent::Deleted { stream } => (stream, None, Held::NOTHING),
            RegistryEvent::Upgraded => {
                draft.touched.everything |= block > draft.upgraded;
                draft.upgraded = draft.upgraded.max(block);
                return Ok(());
            }
        };
        let place = Place { stream: StreamKey::of(stream), user };
        if !draft.places.contains_key(&place) {
            let entry = match self.entry(place)? {
                Some(entry) => entry,
                None if self.has_room(place, draft) => {
                    draft.fresh += 1;
                    Entry::new()
                }
                None => {
                    // From the next block that is read on, streams that are not followed have holes.
                    let next = self.cursor().map_or(0, |cursor| cursor.number + 1);
                    draft.overflow.get_or_insert(block.max(next));
                    return Ok(());
                }
            };
            draft.places.insert(place, (entry, BTreeSet::new()));
        }
        if let Some((entry, blocks)) = draft.places.get_mut(&place)
            && entry.insert(Change::new(placed.at, placed.time, held))
        {
            blocks.insert(block);
            draft.touched.note(place.stream, block);
        }
        Ok(())
    }

    fn has_room(&self, place: Place, draft: &Draft) -> bool {
        self.entries + draft.fresh < self.limits.entries || self.followed.contains_key(&place.stream)
    }

    /// Entries, and which recent blocks changed them; in parts, each of them whole.
    fn write(&self, entries: BTreeMap<Place, (Entry, BTreeSet<u64>)>, is_final: u64) -> Result<(), IndexError> {
        let mut part = Vec::new();
        for (place, (entry, blocks)) in entries {
            let recent = blocks.into_iter().filter(|block| *block > is_final);
            let mut changes: Vec<_> =
                recent.map(|block| (self.root.journal_row(block, place), Some(Vec::new()))).collect();
            changes.push((self.root.entry(place), Some(entry.encode_to_vec())));
            if part.len() + changes.len() > MAX_RECORD_CHANGES {
                self.records.write(TABLE, &std::mem::take(&mut part))?;
            }
            part.append(&mut changes);
        }
        if part.is_empty() { Ok(()) } else { Ok(self.records.write(TABLE, &part)?) }
    }

    /// Nothing after `block` counts: a reorganisation took it back. Without one it begins anew.
    ///
    /// # Errors
    /// [`IndexError`]: it may be called again.
    pub(super) fn step_back(&mut self, block: Option<&Block>) -> Result<Touched, IndexError> {
        let Some(block) = block else {
            self.begin_anew()?;
            return Ok(Touched { everything: true, ..Touched::default() });
        };
        self.marks.cut(Some(block));
        let is_upgrade_gone = self.upgraded > block.number;
        self.upgraded = self.upgraded.min(block.number);
        self.is_ragged = true;
        self.save()?;
        let touched = self.mend()?;
        Ok(Touched { everything: is_upgrade_gone, ..touched })
    }

    /// Writes the cursor down.
    ///
    /// # Errors
    /// [`IndexError::Store`].
    pub(super) fn save(&mut self) -> Result<(), IndexError> {
        let mut meta = Meta::new(self.limits.start);
        (meta.entries, meta.upgraded, meta.overflow) = (self.entries, self.upgraded, self.overflow);
        meta.set_marks(self.marks.as_slice());
        let mut changes = vec![(self.root.meta(), Some(meta.encode_to_vec()))];
        changes.extend(self.settled_rows()?.into_iter().map(|key| (key, None)));
        self.records.write(TABLE, &changes)?;
        self.saved = self.cursor().map(|block| block.number);
        Ok(())
    }

    /// Some rows of the journal that no step back will ask for.
    fn settled_rows(&self) -> Result<Vec<Vec<u8>>, IndexError> {
        let Some(oldest) = self.marks.oldest() else { return Ok(Vec::new()) };
        let rows = self.records.scan(TABLE, &self.root.journal(), None, PAGE)?;
        let settled = |(key, _): (Vec<u8>, Vec<u8>)| {
            let is_settled = self.root.read_journal(&key).is_none_or(|(block, _)| block <= oldest);
            is_settled.then_some(key)
        };
        Ok(rows.into_iter().filter_map(settled).collect())
    }

    /// Forgets whatever is on disk of blocks after the cursor: they were taken back, or a crash left them half written.
    fn mend(&mut self) -> Result<Touched, IndexError> {
        let mut touched = Touched::default();
        let Some(cursor) = self.cursor().copied().filter(|_| self.is_ragged) else { return Ok(touched) };
        loop {
            let after = self.root.journal_after(cursor.number);
            let rows = self.records.scan(TABLE, &self.root.journal(), Some(&after), PAGE)?;
            if rows.is_empty() {
                break;
            }
            let mut changes = Vec::new();
            let places: BTreeSet<_> =
                rows.iter().filter_map(|(key, _)| self.root.read_journal(key)).map(|row| row.1).collect();
            for place in places {
                touched.note(place.stream, cursor.number);
                let Some(mut entry) = self.entry(place)? else { continue };
                if entry.cut(cursor.number) {
                    let is_left = !entry.changes().is_empty();
                    self.entries -= u64::from(!is_left).min(self.entries);
                    changes.push((self.root.entry(place), is_left.then(|| entry.encode_to_vec())));
                }
            }
            changes.extend(rows.into_iter().map(|(key, _)| (key, None)));
            self.records.write(TABLE, &changes)?;
        }
        self.is_ragged = false;
        Ok(touched)
    }

    fn begin_anew(&mut self) -> Result<(), IndexError> {
        // First, so that a crash on the way begins anew once more.
        (self.entries, self.upgraded, self.overflow, self.is_ragged) = (0, 0, None, false);
        self.marks.cut(None);
        self.save()?;
        for prefix in [self.root.entries(), self.root.journal()] {
            loop {
                let page = self.records.scan(TABLE, &prefix, None, PAGE)?;
                if page.is_empty() {
                    break;
                }
                let changes: Vec<_> = page.into_iter().map(|(key, _)| (key, None)).collect();
                self.records.write(TABLE, &changes)?;
            }
        }
        for (_, since) in self.followed.values_mut() {
            *since = 0;
        }
        let rows: Vec<_> =
            self.followed.values().map(|(stream, since)| self.root.followed_row(stream, *since)).collect();
        for part in rows.chunks(MAX_RECORD_CHANGES) {
            self.records.write(TABLE, part)?;
        }
        Ok(())
    }

    /// Keeps everything about a stream from now on, and lists it.
    ///
    /// # Errors
    /// [`IndexError::Store`].
    pub(super) fn follow(&mut self, stream: &StreamId) -> Result<(), IndexError> {
        let key = StreamKey::of(stream);
        if self.followed.contains_key(&key) {
            return Ok(());
        }
        let since = self.cursor().map_or(0, |cursor| cursor.number + 1);
        self.records.write(TABLE, &[self.root.followed_row(stream, since)])?;
        self.followed.insert(key, (stream.clone(), since));
        Ok(())
    }

    /// The end of that.
    ///
    /// # Errors
    /// [`IndexError::Store`].
    pub(super) fn unfollow(&mut self, stream: &StreamId) -> Result<(), IndexError> {
        self.records.write(TABLE, &[(self.root.followed_stream(stream), None)])?;
        self.followed.remove(&StreamKey::of(stream));
        Ok(())
    }

    /// Streams that are followed.
    pub(super) fn followed(&self) -> Vec<StreamId> {
        self.followed.values().map(|(stream, _)| stream.clone()).collect()
    }

    /// Whether nothing of this stream was left out for want of room.
    fn is_whole(&self, stream: StreamKey) -> bool {
        let since = self.followed.get(&stream).map_or(u64::MAX, |(_, since)| *since);
        self.overflow.is_none_or(|first| since <= first)
    }

    fn load_followed(&mut self) -> Result<(), IndexError> {
        let mut followed = HashMap::new();
        self.each_of(&self.root.followed(), |key, value| {
            let stream = self.root.read_followed(key).ok_or(IndexError::Record)?;
            let since = Root::read_since(value).ok_or(IndexError::Record)?;
            followed.insert(StreamKey::of(&stream), (stream, since));
            Ok(())
        })?;
        self.followed = followed;
        Ok(())
    }

    fn entry(&self, place: Place) -> Result<Option<Entry>, IndexError> {
        let found = self.records.get(TABLE, &self.root.entry(place))?;
        found.map(|bytes| Entry::parse(&bytes).ok_or(IndexError::Record)).transpose()
    }

    /// Goes through the records under a prefix, in the order of their places.
    fn each_of(
        &self,
        prefix: &[u8],
        mut each: impl FnMut(&[u8], &[u8]) -> Result<(), IndexError>,
    ) -> Result<(), IndexError> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.records.scan(TABLE, prefix, after.as_deref(), PAGE)?;
            for (key, value) in &page {
                each(key, value)?;
            }
            match page.last() {
                Some((last, _)) if page.len() == PAGE => after = Some(last.clone()),
                _ => return Ok(()),
            }
        }
    }
}
