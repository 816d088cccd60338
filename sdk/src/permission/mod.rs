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
///
/// A client believes a grant for 5 s ([`GRANT_FRESHNESS`]) and a refusal for 2 s, unless [`changes_for`](Self::changes_for) has
/// another value by then: a source that never changes it lets somebody whose grant was taken back in for so long, and nobody
/// rekeys for it. No answer within 5 s is [`Refusal::Unavailable`]. Asked are [`check`](Self::check) for each key request and each
/// author, unless the answer is still believed, and [`subscribers`](Self::subscribers) when [`changes`](Self::changes) has another
/// value, so both numbers should cost nothing to tell. That list has those whose time is over, too: whoever was on it, or was given a
/// key before the client was started anew, and is on it no more counts as ended at that moment, and causes a rekey.
///
/// ```
/// use std::collections::HashMap;
/// use std::sync::Mutex;
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use veilcast::permission::{Answer, PermissionSource, StreamInfo, Subscriber};
/// use veilcast::{Grant, Period, Permission, Refusal, StreamId, Timestamp, UserId};
///
/// /// Who paid a shop, and until when: good for every stream of its owner.
/// #[derive(Default)]
/// struct Shop {
///     paid: Mutex<HashMap<UserId, Grant>>,
///     changes: AtomicU64,
/// }
///
/// impl Shop {
///     fn sell(&self, user: UserId, until: Timestamp) {
///         let grant = Grant::new(Permission::Subscribe, Period::until(until));
///         self.paid.lock().unwrap().insert(user, grant);
///         self.changes.fetch_add(1, Ordering::SeqCst);
///     }
///
///     fn look_up(&self, stream: &StreamId, user: UserId, permission: Permission, now: Timestamp) -> Result<Grant, Refusal> {
///         if stream.owner() == Some(user) {
///             return Ok(Grant::new(permission, Period::ALWAYS));
///         }
///         let paid = self.paid.lock().unwrap().get(&user).copied();
///         let grant = paid.filter(|grant| grant.permission == permission).ok_or(Refusal::Denied)?;
///         grant.holds_at(now).map(|()| grant)
///     }
/// }
///
/// impl PermissionSource for Shop {
///     fn check<'a>(
///         &'a self,
///         stream: &'a StreamId,
///         user: UserId,
///         permission: Permission,
///         now: Timestamp,
///     ) -> Answer<'a, Result<Grant, Refusal>> {
///         Box::pin(async move { self.look_up(stream, user, permission, now) })
///     }
///
///     fn subscribers<'a>(&'a self, _: &'a StreamId) -> Answer<'a, Result<Vec<Subscriber>, Refusal>> {
///         let paid = self.paid.lock().unwrap();
///         let all = paid.iter().map(|(user, grant)| Subscriber { user: *user, grant: *grant }).collect::<Vec<_>>();
///         Box::pin(async move { Ok(all) })
///     }
///
///     fn stream<'a>(&'a self, _: &'a StreamId) -> Answer<'a, Result<Option<StreamInfo>, Refusal>> {
///         let info = StreamInfo { partitions: 1, public: false, public_until: None, public_ends: None };
///         Box::pin(async move { Ok(Some(info)) })
///     }
///
///     fn changes(&self) -> u64 {
///         self.changes.load(Ordering::SeqCst)
///     }
/// }
///
/// let (shop, owner, buyer) = (Shop::default(), UserId::from_bytes([1; 20]), UserId::from_bytes([2; 20]));
/// let stream = StreamId::of(owner, "prices")?;
/// shop.sell(buyer, Timestamp::from_secs(1_000));
/// let may = |at| shop.look_up(&stream, buyer, Permission::Subscribe, Timestamp::from_secs(at)).is_ok();
/// assert!(may(1_000) && !may(1_001));
/// # Ok::<(), veilcast::stream::StreamIdError>(())
/// ```
pub trait PermissionSource: Send + Sync + 'static {
    /// Whether `user` holds `permission` on `stream` at `now`. Cannot-tell is [`Refusal::Unavailable`].
    fn check<'a>(
        &'a self,
        stream: &'a StreamId,
        user: UserId,
        permission: Permission,
        now: Timestamp,
    ) -> Answer<'a, Result<Grant, Refusal>>;

    /// Every grant of SUBSCRIBE there is or was on the stream: those whose time is over stay on the list.
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
