//! A publisher's own allow and deny list, beside any source. It only narrows: nobody is let in whom the source refuses.
//!
//! - Who is denied gets no key of the stream from this publisher, whatever the source says.
//! - Once somebody is allowed by name, nobody else is let in, until the whole list is cleared; an empty allow list lets nobody
//!   in.
//! - The stream's owner and the publisher itself are served always: an owner has every permission.
//! - While a list of a public stream is in force, its messages are encrypted: plaintext would be for everybody.
//!
//! Narrowing counts as an end of the grants of those who are out: the publisher rekeys. Lists lie in the publisher's store,
//! table `access`, by stream id, and by stream id, zero byte and user.

mod record;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use veilcast_key_store::{RecordStore, StoreError};

use self::record::{Entry, Lists, Table};
use super::{Answer, Grant, Period, Permission, PermissionSource, Refusal, Shown, StreamInfo, Subscriber};
use crate::identity::UserId;
use crate::metrics::Registry;
use crate::stream::StreamId;
use crate::time::Timestamp;

/// What is said where the lists cannot be read.
const UNAVAILABLE: Refusal = Refusal::Unavailable { retry_after: std::time::Duration::from_secs(5) };

/// What a publisher decided about somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "there is a list of either kind")]
pub enum Rule {
    /// On the allow list.
    Allow,
    /// On the deny list.
    Deny,
}

/// The lists of one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessRules {
    /// Whether only who is allowed by name is let in.
    pub only_allowed: bool,
    /// Who is on either list, in the order of addresses.
    pub users: Vec<(UserId, Rule)>,
}

/// A source, narrowed by its publisher's lists.
pub struct AccessList {
    source: Arc<dyn PermissionSource>,
    me: UserId,
    table: Table,
    changes: AtomicU64,
    /// Held by whoever reads first and then writes.
    turn: Mutex<()>,
}

/// What the lists of a stream say, and since when.
struct Narrowed {
    lists: Lists,
    users: HashMap<UserId, Entry>,
}

impl AccessList {
    /// Most users on the lists of one stream.
    pub const MAX_USERS: usize = 16_384;

    /// The lists of the publisher `me` in a store, over a source.
    pub fn new(source: Arc<dyn PermissionSource>, records: Arc<dyn RecordStore>, me: UserId) -> Self {
        Self { source, me, table: Table::new(records), changes: AtomicU64::new(0), turn: Mutex::new(()) }
    }

    /// What it narrows.
    #[cfg(feature = "p2p")]
    pub(crate) fn unnarrowed(&self) -> &Arc<dyn PermissionSource> {
        &self.source
    }

    /// Puts a user on a list, and takes it off the other. With the first who is allowed, everybody else is out.
    ///
    /// # Errors
    /// [`AccessError::Exempt`] for the owner and the publisher itself, [`AccessError::TooMany`], [`AccessError::Store`].
    pub fn set(&self, stream: &StreamId, user: UserId, rule: Rule, now: Timestamp) -> Result<(), AccessError> {
        if self.is_exempt(stream, user) {
            return Err(AccessError::Exempt { user });
        }
        let _turn = self.turn();
        let mut lists = self.table.lists(stream)?;
        let known = self.table.entry(stream, user)?;
        if known.is_some_and(|entry| entry.rule() == rule) {
            return Ok(());
        }
        if known.is_none() && self.table.users(stream)?.len() >= Self::MAX_USERS {
            return Err(AccessError::TooMany);
        }
        let at = lists.next_moment(now);
        if rule == Rule::Allow && !lists.only_allowed() {
            lists.begin_allowing(at);
        }
        self.table.write(stream, &lists, Some((user, Some(Entry::new(rule, at)))))?;
        self.changed();
        Ok(())
    }

    /// Takes a user off the list it is on. Where others are allowed by name, a user taken off is out.
    ///
    /// # Errors
    /// [`AccessError::NotListed`], [`AccessError::Store`].
    pub fn clear_user(&self, stream: &StreamId, user: UserId, now: Timestamp) -> Result<(), AccessError> {
        let _turn = self.turn();
        let mut lists = self.table.lists(stream)?;
        self.table.entry(stream, user)?.ok_or(AccessError::NotListed { user })?;
        // Who was allowed, or denied a moment ago, may hold the key in use.
        let at = lists.next_moment(now);
        lists.narrow(at);
        self.table.write(stream, &lists, Some((user, None)))?;
        self.changed();
        Ok(())
    }

    /// Ends both lists of a stream: the source alone decides.
    ///
    /// # Errors
    /// [`AccessError::Store`].
    pub fn clear(&self, stream: &StreamId, now: Timestamp) -> Result<(), AccessError> {
        let _turn = self.turn();
        let mut lists = self.table.lists(stream)?;
        lists.end(now);
        self.table.clear(stream, &lists)?;
        self.changed();
        Ok(())
    }

    /// The lists of a stream.
    ///
    /// # Errors
    /// [`AccessError::Store`], [`AccessError::Damaged`].
    pub fn rules(&self, stream: &StreamId) -> Result<AccessRules, AccessError> {
        let only_allowed = self.table.lists(stream)?.only_allowed();
        let users = self.table.users(stream)?;
        Ok(AccessRules { only_allowed, users: users.into_iter().map(|(user, entry)| (user, entry.rule())).collect() })
    }

    fn narrowed(&self, stream: &StreamId) -> Result<Narrowed, Refusal> {
        let read = || {
            let lists = self.table.lists(stream)?;
            Ok(Narrowed { lists, users: self.table.users(stream)?.into_iter().collect() })
        };
        read().map_err(unavailable)
    }

    /// What the lists say about one user; `None` where they leave it to the source.
    fn refusal(&self, stream: &StreamId, user: UserId, permission: Permission) -> Option<Refusal> {
        if permission != Permission::Subscribe || self.is_exempt(stream, user) {
            return None;
        }
        let read = || Ok((self.table.lists(stream)?, self.table.entry(stream, user)?));
        match read() {
            Ok((_, Some(entry))) => (entry.rule() == Rule::Deny).then_some(Refusal::Policy),
            Ok((lists, None)) => lists.only_allowed().then_some(Refusal::Policy),
            Err(error) => Some(unavailable(error)),
        }
    }

    fn is_exempt(&self, stream: &StreamId, user: UserId) -> bool {
        user == self.me || stream.owner() == Some(user)
    }

    fn narrow(&self, stream: &StreamId, narrowed: &Narrowed, from_source: Vec<Subscriber>) -> Vec<Subscriber> {
        let mut all = from_source;
        for subscriber in &mut all {
            let out = narrowed.out_since(subscriber.user).filter(|_| !self.is_exempt(stream, subscriber.user));
            if let Some(since) = out {
                subscriber.grant.revoked = subscriber.grant.revoked.or(Some(since));
            }
        }
        // Who was let in as part of the public has no grant, but may hold a key.
        let known: std::collections::HashSet<UserId> = all.iter().map(|subscriber| subscriber.user).collect();
        for (user, entry) in &narrowed.users {
            if entry.rule() == Rule::Deny && !known.contains(user) {
                let grant = Grant { revoked: Some(entry.at()), ..Grant::new(Permission::Subscribe, Period::ALWAYS) };
                all.push(Subscriber { user: *user, grant });
            }
        }
        all
    }

    fn narrow_info(&self, stream: &StreamId, info: Option<StreamInfo>) -> Result<Option<StreamInfo>, Refusal> {
        let Some(info) = info else { return Ok(None) };
        let narrowed = self.narrowed(stream)?;
        if !info.public || !narrowed.is_in_force() {
            return Ok(Some(info));
        }
        let public_until = info.public_until.into_iter().chain(narrowed.last()).max();
        Ok(Some(StreamInfo { public: false, public_until, public_ends: None, ..info }))
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }
}

impl Narrowed {
    fn is_in_force(&self) -> bool {
        self.lists.only_allowed() || self.users.values().any(|entry| entry.rule() == Rule::Deny)
    }

    /// Since when a user is out.
    fn out_since(&self, user: UserId) -> Option<Timestamp> {
        match self.users.get(&user) {
            Some(entry) => (entry.rule() == Rule::Deny).then(|| entry.at()),
            None => self.lists.narrowed(),
        }
    }

    /// The last moment at which anybody was put out.
    fn last(&self) -> Option<Timestamp> {
        let denied = self.users.values().filter(|entry| entry.rule() == Rule::Deny).map(Entry::at);
        denied.chain(self.lists.narrowed()).max()
    }
}

/// Lists that cannot be read let nobody in.
fn unavailable(error: AccessError) -> Refusal {
    tracing::warn!(%error, "the access lists cannot be read");
    UNAVAILABLE
}

impl PermissionSource for AccessList {
    fn check<'a>(
        &'a self,
        stream: &'a StreamId,
        user: UserId,
        permission: Permission,
        now: Timestamp,
    ) -> Answer<'a, Result<Grant, Refusal>> {
        match self.refusal(stream, user, permission) {
            Some(refusal) => Box::pin(std::future::ready(Err(refusal))),
            None => self.source.check(stream, user, permission, now),
        }
    }

    fn subscribers<'a>(&'a self, stream: &'a StreamId) -> Answer<'a, Result<Vec<Subscriber>, Refusal>> {
        Box::pin(async move {
            let from_source = self.source.subscribers(stream).await?;
            Ok(self.narrow(stream, &self.narrowed(stream)?, from_source))
        })
    }

    fn stream<'a>(&'a self, stream: &'a StreamId) -> Answer<'a, Result<Option<StreamInfo>, Refusal>> {
        Box::pin(async move { self.narrow_info(stream, self.source.stream(stream).await?) })
    }

    fn stream_at<'a>(
        &'a self,
        stream: &'a StreamId,
        now: Timestamp,
    ) -> Answer<'a, Result<Option<StreamInfo>, Refusal>> {
        Box::pin(async move { self.narrow_info(stream, self.source.stream_at(stream, now).await?) })
    }

    fn knows_every_stream(&self) -> bool {
        self.source.knows_every_stream()
    }

    fn show(&self, stream: &StreamId, user: UserId, proofs: &[Bytes], now: Timestamp) -> Shown {
        self.source.show(stream, user, proofs, now)
    }

    fn proofs(&self, stream: &StreamId, user: UserId, now: Timestamp) -> Vec<Bytes> {
        self.source.proofs(stream, user, now)
    }

    fn changes(&self) -> u64 {
        // Either only rises, so their sum changes with each.
        self.source.changes().wrapping_add(self.changes.load(Ordering::SeqCst))
    }

    fn changes_for(&self, stream: &StreamId, user: UserId) -> u64 {
        self.source.changes_for(stream, user).wrapping_add(self.changes.load(Ordering::SeqCst))
    }

    fn kind(&self) -> &'static str {
        self.source.kind()
    }

    fn register(&self, registry: &mut Registry) {
        self.source.register(registry);
    }

    fn waits_for_the_disk(&self) -> bool {
        self.source.waits_for_the_disk()
    }
}

/// Why a list is not changed or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AccessError {
    /// Owners and the publisher itself are on no list.
    #[error("{user} is the stream's owner or the publisher itself, who are always let in")]
    Exempt {
        /// Who.
        user: UserId,
    },
    /// Nothing to clear.
    #[error("{user} is on no list of this stream")]
    NotListed {
        /// Who.
        user: UserId,
    },
    /// Over the limit.
    #[error("at most {} users are on the lists of one stream", AccessList::MAX_USERS)]
    TooMany,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A record that cannot be read: the store is damaged or newer.
    #[error("an access list cannot be read; it may come from a newer version")]
    Damaged,
}
