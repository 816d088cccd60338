//! Who may do what, until when.
//!
//! A [`PermissionSource`] answers whether a user holds a [`Permission`] on a stream at a moment: with the [`Grant`] that
//! allows it or with a [`Refusal`] that says why not. Where no source can be reached the answer is a refusal, never a
//! grant. [`LocalRegistry`] is the embedded source, kept in the owner's own store.

mod cache;
mod grant;
mod local;

use std::future::Future;
use std::pin::Pin;

pub use cache::{GRANT_FRESHNESS, PermissionCache, REFUSAL_FRESHNESS};
pub use grant::{Grant, Period, PeriodError, Permission, Refusal};
pub use local::{LocalRegistry, RegistryError};

use crate::identity::UserId;
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
}

/// A subscriber as a source knows it, including those whose time has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscriber {
    /// Who.
    pub user: UserId,
    /// The grant, past, present or future.
    pub grant: Grant,
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

    /// A number that changes whenever an answer may have changed for a reason other than time.
    fn changes(&self) -> u64;
}
