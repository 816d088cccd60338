//! The list of a followed stream: what is still to be fetched for it, and what it says.

use std::collections::{BTreeMap, BTreeSet};

use super::record::{Entry, Place, Stored as _, StreamKey, TABLE};
use super::timeline::{self, Step};
use super::{Block, Held, Index, IndexError, MAX_USERS, PAGE, Position, REORG_WINDOW, Read};
use crate::identity::UserId;
use crate::permission::{Grant, Permission, Subscriber};
use crate::stream::StreamId;
use crate::time::Timestamp;

/// What is fetched for a list at a time: blocks for their times, entries for what the contract says of them.
const FETCH: usize = 1024;
/// The user that stands for everybody.
pub(in super::super) const EVERYBODY: UserId = UserId::from_bytes([0; UserId::LEN]);

/// Everybody who has or had a permission on a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Listing {
    /// In the order of their addresses.
    subscribers: Vec<Subscriber>,
    publishers: Vec<Subscriber>,
    /// SUBSCRIBE of everybody.
    public: Option<Grant>,
    /// The first block with which something counts that does not yet.
    pub(in super::super) until: Option<u64>,
}

/// What a list lacks, or the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) enum Survey {
    /// Something that is to be fetched. There may be more.
    Lacks(Lack),
    /// Nothing.
    Whole(Listing),
    /// There is no room for it, and never will be with these limits.
    Full,
}

/// What is to be fetched for a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Lack {
    /// Blocks whose times are not known.
    pub(in super::super) blocks: BTreeSet<u64>,
    /// Users of whom the contract is asked, as of the cursor.
    pub(in super::super) users: Vec<UserId>,
    /// The entries that those blocks changed.
    undated: BTreeSet<Place>,
}

/// Some of those whom the events leave something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in super::super) struct Holders {
    /// Who, and what.
    pub(in super::super) held: Vec<(UserId, Held)>,
    /// The last user looked at; `None` at the end.
    pub(in super::super) after: Option<UserId>,
}

impl Lack {
    /// What the contract says of these users now.
    pub(in super::super) fn of(users: Vec<UserId>) -> Self {
        Self { users, ..Self::default() }
    }
}

impl Listing {
    /// Every grant of SUBSCRIBE there is or was.
    pub(in super::super) fn subscribers(&self) -> &[Subscriber] {
        &self.subscribers
    }

    /// Whether it tells the same.
    pub(in super::super) fn says_as(&self, other: &Self) -> bool {
        (&self.subscribers, &self.publishers, self.public) == (&other.subscribers, &other.publishers, other.public)
    }

    /// What a user has or had in the user's own name.
    pub(in super::super) fn grant(&self, user: UserId, permission: Permission) -> Option<Grant> {
        let list = match permission {
            Permission::Subscribe => &self.subscribers,
            Permission::Publish => &self.publishers,
        };
        list.binary_search_by_key(&user, |one| one.user).ok().map(|place| list[place].grant)
    }

    /// When the stream last stopped being readable by everybody, as far as that was before `now`.
    pub(in super::super) fn public_until(&self, now: Timestamp) -> Option<Timestamp> {
        self.public.and_then(|grant| grant.voids_at(now).last())
    }
}

/// A stream's entries while they are looked through.
struct Look {
    cursor: Block,
    confirmations: u64,
    upgraded: u64,
    clears: Entry,
    lack: Lack,
    until: Option<u64>,
}

/// One change with what is known of it.
#[derive(Clone, Copy)]
struct Known {
    at: Position,
    time: Option<u64>,
    held: Held,
}

impl Index {
    /// What the list of a stream lacks, or the list.
    ///
    /// # Errors
    /// [`IndexError`].
    pub(in super::super) fn survey(&self, stream: &StreamId) -> Result<Survey, IndexError> {
        let key = StreamKey::of(stream);
        let Some(cursor) = self.cursor().copied().filter(|_| self.is_whole(key)) else { return Ok(Survey::Full) };
        let clears = self.entry(Place { stream: key, user: None })?.unwrap_or_else(Entry::new);
        let (confirmations, upgraded) = (self.limits.confirmations, self.upgraded);
        let mut look =
            Look { cursor, confirmations, upgraded, clears: Entry::new(), lack: Lack::default(), until: None };
        look.date(Place { stream: key, user: None }, &clears);
        look.clears = clears;
        let mut listing = Listing { subscribers: Vec::new(), publishers: Vec::new(), public: None, until: None };
        let mut count = 0;
        self.each_of(&self.root.stream(key), |place, value| {
            let place = self.root.read_entry(place).ok_or(IndexError::Record)?;
            let Some(user) = place.user else { return Ok(()) };
            count += 1;
            if count <= MAX_USERS {
                let entry = Entry::parse(value).ok_or(IndexError::Record)?;
                look.date(place, &entry);
                look.at(user, &entry, &mut listing);
            }
            Ok(())
        })?;
        Ok(look.survey(listing, count))
    }

    /// The next users of a stream, behind `after`, who hold something by what is known; `most` of them, or those of one page.
    ///
    /// # Errors
    /// [`IndexError`].
    pub(in super::super) fn holders(
        &self,
        stream: &StreamId,
        after: Option<UserId>,
        most: usize,
    ) -> Result<Holders, IndexError> {
        let key = StreamKey::of(stream);
        let Some(cursor) = self.cursor().copied() else { return Ok(Holders::default()) };
        let clears = self.entry(Place { stream: key, user: None })?.unwrap_or_else(Entry::new);
        let (confirmations, upgraded) = (self.limits.confirmations, self.upgraded);
        let look = Look { cursor, confirmations, upgraded, clears, lack: Lack::default(), until: None };
        let from = after.map(|user| self.root.entry(Place { stream: key, user: Some(user) }));
        let page = self.records.scan(TABLE, &self.root.stream(key), from.as_deref(), PAGE)?;
        let mut found = Holders { held: Vec::new(), after: None };
        for (place, value) in &page {
            let place = self.root.read_entry(place).ok_or(IndexError::Record)?;
            let Some(user) = place.user else { continue };
            let entry = Entry::parse(value).ok_or(IndexError::Record)?;
            let held = look.steps(&entry).last().map_or(Held::NOTHING, |step| step.held);
            if look.holds(&held) {
                found.held.push((user, held));
            }
            found.after = Some(user);
            if found.held.len() >= most {
                return Ok(found);
            }
        }
        Ok(if page.len() < PAGE { Holders { after: None, ..found } } else { found })
    }

    /// What a list lacked: the times of blocks, and what the contract said of users in the state behind the cursor.
    ///
    /// # Errors
    /// [`IndexError`]: it may be passed in again.
    pub(in super::super) fn supply(
        &mut self,
        stream: &StreamId,
        lack: &Lack,
        times: &BTreeMap<u64, u64>,
        reads: &[(UserId, Held)],
    ) -> Result<(), IndexError> {
        let Some(cursor) = self.cursor().copied() else { return Ok(()) };
        // What was read must not be of a later block than the cursor on disk.
        self.save()?;
        let key = StreamKey::of(stream);
        let mut changed = BTreeMap::new();
        for place in &lack.undated {
            let Some(mut entry) = self.entry(*place)? else { continue };
            entry.date(|block| times.get(&block).copied());
            changed.insert(*place, (entry, BTreeSet::new()));
        }
        for (user, held) in reads {
            let place = Place { stream: key, user: Some(*user) };
            let drafted = changed.remove(&place).map(|(entry, _)| entry);
            let Some(mut entry) = drafted.map_or_else(|| self.entry(place), |entry| Ok(Some(entry)))? else { continue };
            entry.set_read(seen(&entry, *held, &cursor));
            changed.insert(place, (entry, BTreeSet::from([cursor.number])));
        }
        self.write(changed, cursor.number.saturating_sub(REORG_WINDOW))
    }
}

/// What a read at the cursor comes to after the one before it.
fn seen(entry: &Entry, held: Held, cursor: &Block) -> Read {
    let (number, time) = (cursor.number, cursor.time);
    let newest = entry.changes().last().map_or(0, |change| change.at().block);
    let same = entry.read().filter(|read| read.held == held && newest <= read.since);
    same.map_or(Read { since: number, time, as_of: number, held }, |read| Read { as_of: number, ..read })
}

impl Look {
    fn at(&mut self, user: UserId, entry: &Entry, listing: &mut Listing) {
        let steps = self.steps(entry);
        self.want(user, entry, &steps);
        let grant = |permission, held: fn(&Held) -> super::Expiration| {
            let step = |known: &Known| Step {
                time: known.time.unwrap_or_default(),
                confirmed: self.is_confirmed(known.at.block),
                expiration: held(&known.held),
            };
            timeline::grant(permission, steps.iter().map(step))
        };
        let subscribe = grant(Permission::Subscribe, |held| held.subscribe);
        let publish = grant(Permission::Publish, |held| held.publish);
        let waiting = steps.iter().map(|known| known.at.block).filter(|block| !self.is_confirmed(*block)).min();
        let counts = waiting.map(|block| block.saturating_add(self.confirmations));
        self.until = [self.until, counts].into_iter().flatten().min();
        if user == EVERYBODY {
            listing.public = subscribe;
            return;
        }
        listing.subscribers.extend(subscribe.map(|grant| Subscriber { user, grant }));
        listing.publishers.extend(publish.map(|grant| Subscriber { user, grant }));
    }

    /// Notes the blocks of an entry whose times are to be fetched.
    fn date(&mut self, place: Place, entry: &Entry) {
        let undated: Vec<_> = entry.changes().iter().filter(|change| change.time.is_none()).collect();
        if !undated.is_empty() && self.lack.blocks.len() < FETCH {
            self.lack.blocks.extend(undated.into_iter().map(|change| change.at().block));
            self.lack.undated.insert(place);
        }
    }

    fn is_confirmed(&self, block: u64) -> bool {
        block.saturating_add(self.confirmations) <= self.cursor.number
    }

    /// The user's changes among those of the stream, and what was read if that is another change.
    fn steps(&self, entry: &Entry) -> Vec<Known> {
        let known = |change: &super::Change| Known { at: change.at(), time: change.time, held: change.held() };
        let mut steps: Vec<Known> = entry.changes().iter().chain(self.clears.changes()).map(known).collect();
        steps.sort_by_key(|step| step.at);
        let Some(read) = entry.read() else { return steps };
        let place = steps.partition_point(|step| step.at.block <= read.as_of);
        let last = place.checked_sub(1).map(|last| steps[last]);
        if last.map_or(Held::NOTHING, |last| last.held) != read.held {
            let after = last.map_or((0, 0), |last| (last.at.block, last.time.unwrap_or_default()));
            let at = Position { block: read.since.max(after.0), index: u32::MAX };
            steps.insert(place, Known { at, time: Some(read.time.max(after.1)), held: read.held });
        }
        steps
    }

    /// Notes whom the contract is to be asked about: whom the changes leave something, and whom they changed of late. Whoever
    /// is out by the events' own word is not worth a call.
    fn want(&mut self, user: UserId, entry: &Entry, steps: &[Known]) {
        let changed = entry.changes().iter().chain(self.clears.changes()).map(|change| change.at().block).max();
        let changed = changed.unwrap_or_default().max(self.upgraded);
        if entry.read().is_some_and(|read| read.as_of >= changed) {
            return;
        }
        let left = steps.last().map_or(Held::NOTHING, |step| step.held);
        let holds = self.holds(&left);
        let own = entry.changes().last().map_or(0, |change| change.at().block);
        if (holds || own.saturating_add(REORG_WINDOW) > self.cursor.number) && self.lack.users.len() < FETCH {
            self.lack.users.push(user);
        }
    }

    fn holds(&self, held: &Held) -> bool {
        held.publish.holds_at(self.cursor.time) || held.subscribe.holds_at(self.cursor.time)
    }

    fn survey(self, listing: Listing, count: usize) -> Survey {
        if count > MAX_USERS {
            return Survey::Full;
        }
        if self.lack.blocks.is_empty() && self.lack.users.is_empty() {
            return Survey::Whole(Listing { until: self.until, ..listing });
        }
        Survey::Lacks(self.lack)
    }
}
