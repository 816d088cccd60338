//! Who may do what, until when.
//!
//! A [`PermissionSource`] answers whether a user holds a [`Permission`] on a stream at a moment: with the [`Grant`] that
//! allows it or with a [`Refusal`] that says why not. Where no source can be reached the answer is a refusal, never a
//! grant. [`LocalRegistry`] is the embedded source, kept in the owner's own store; [`SignedGrants`] goes by what owners
//! signed, with the owner away; `ethereum` (feature `ethereum`) asks a contract. Beside any source a publisher's own
//! [`AccessList`] narrows whom it serves.

mod cache;
#[cfg(feature = "ethereum")]
pub mod ethereum;
mod grant;
mod local;
mod policy;
mod signed;

use std::future::Future;
use std::pin::Pin;

pub use cache::{GRANT_FRESHNESS, PermissionCache, REFUSAL_FRESHNESS};
pub use grant::{Grant, Period, PeriodError, Permission, Refusal};
pub use local::{LocalRegistry, RegistryError};
pub use policy::{AccessError, AccessList, AccessRules, Rule};
pub use signed::{
    GrantError, GrantLimits, Issuer, RECORD_LIFETIME, SignedGrants, Statement, StreamSettings, from_line, to_line,
};

use bytes::Bytes;

use crate::identity::UserId;
use crate::metrics::Registry;
use crate::stream::StreamId;
use crate::time::Timestamp;

/// An answer that may take a while: a chain or a server may have to be asked.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a source knows about a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    /// How many partitions it has, 1 to 100.
    pub partitions: u32,
    /// Anybody may subscribe, so messages go out in plaintext.
    pub public: bool,
    /// When it last stopped being public: whoever asked for its keys until then may hold them.
    pub public_until: Option<Timestamp>,
    /// The first moment at which it is public no longer unless somebody prolongs it; `None` where it has no end, or is not public.
    pub public_ends: Option<Timestamp>,
}

impl StreamInfo {
    /// What is left of it at `now`, a moment after it was said: its publicity may have run out.
    pub fn at(self, now: Timestamp) -> Self {
        match self.public_ends.filter(|ends| self.public && *ends <= now) {
            Some(ends) => {
                Self { public: false, public_until: self.public_until.max(Some(ends)), public_ends: None, ..self }
            }
            None => self,
        }
    }

    /// Whether it is still as it was said.
    pub fn holds_at(&self, now: Timestamp) -> bool {
        !self.public || self.public_ends.is_none_or(|ends| now < ends)
    }
}

/// A subscriber as a source knows it, including those whose time has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// Who.
    pub user: UserId,
    /// The grant, past, present or future.
    pub grant: Grant,
}

/// What became of proofs that were shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Signatures checked in vain: whoever sent them pays for it.
    pub vain_checks: u32,
    /// Why what was shown does not count, where it once did.
    pub refusal: Option<Refusal>,
}

/// Where permissions come from: the local registry, a chain, an authoriser.
pub trait PermissionSource: Send + Sync + 'static {
    /// Whether `user` holds `permission` on `stream` at `now`. Cannot-tell is [`Refusal::Unavailable`].
    fn check<'a>(
        &'a self,
        stream: &'a StreamId,
        user: UserId,
        permission: Permission,
        now: Timestamp,
    ) -> Answer<'a, Result<Grant, Refusal>>;

    /// Every grant of SUBSCRIBE there is or was on the stream.
    ///
    /// # Errors
    /// A refusal when the source cannot tell.
    fn subscribers<'a>(&'a self, stream: &'a StreamId) -> Answer<'a, Result<Vec<Subscriber>, Refusal>>;

    /// What is known about the stream; `None` when the source has never heard of it.
    ///
    /// # Errors
    /// A refusal when the source cannot tell.
    fn stream<'a>(&'a self, stream: &'a StreamId) -> Answer<'a, Result<Option<StreamInfo>, Refusal>>;

    /// Whether there is no stream but those it has heard of: a contract has them all. Who keeps what it was told has not, and what it
    /// never heard of may be on record elsewhere.
    fn knows_every_stream(&self) -> bool {
        false
    }

    /// As [`Self::stream`], at `now`: for a source whose word on a stream runs out.
    ///
    /// # Errors
    /// As [`Self::stream`].
    fn stream_at<'a>(
        &'a self,
        stream: &'a StreamId,
        now: Timestamp,
    ) -> Answer<'a, Result<Option<StreamInfo>, Refusal>> {
        let _ = now;
        self.stream(stream)
    }

    /// Takes in what `user` shows along with a key request about `stream`, if the source goes by such things. May wait for the
    /// disk, so it is called on a thread that may.
    fn show(&self, stream: &StreamId, user: UserId, proofs: &[Bytes], now: Timestamp) -> Shown {
        let _ = (stream, user, proofs, now);
        Shown::default()
    }

    /// What `user` can show along with a key request about `stream`; at most [`MAX_PROOFS`](crate::wire::MAX_PROOFS). May wait
    /// for the disk.
    fn proofs(&self, stream: &StreamId, user: UserId, now: Timestamp) -> Vec<Bytes> {
        let _ = (stream, user, now);
        Vec::new()
    }

    /// A number that changes whenever an answer may have changed for a reason other than time.
    fn changes(&self) -> u64;

    /// A number that changes whenever an answer about `user` on `stream` may have changed for a reason other than time.
    fn changes_for(&self, stream: &StreamId, user: UserId) -> u64 {
        let _ = (stream, user);
        self.changes()
    }

    /// What it is called among a node's [figures](crate::metrics): one word.
    fn kind(&self) -> &'static str {
        "other"
    }

    /// Adds what it counts to the figures of the client that asks it; called once, when that starts.
    fn register(&self, registry: &mut Registry) {
        let _ = registry;
    }

    /// Whether asking waits for the disk rather than for the network: it is then done on a thread that may.
    fn waits_for_the_disk(&self) -> bool {
        false
    }
}
