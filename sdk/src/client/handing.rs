//! Handing a rekeyed key out: everybody in the ledger is checked again, and sent the key or told of.
//!
//! One pipeline, pulled from its end, so that nothing piles up however many holders there are:
//!
//! ```text
//! ledger, page by page ─▶ checks, some at a time ─▶ wraps, one job per core ─▶ pushes, some at a time ─▶ report
//! ```
//! A key that was made [ahead](crate::publisher::KeysAhead) goes the same way, before it is current: to those in its [`Circle`] only. Once it is
//! current, it goes to whoever was not in it.
//!
//! What it needs of the world is a [`Road`], so that a thousand subscribers fit into one process and a test.

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use veilcast_key_store::{KeyId, KeyOrigin, StoredKey};

use super::error::ClientError;
use super::shared::{blocking, lock};
use super::updating::UpdateReport;
use crate::cipher::PublicKey;
use crate::exchange::push;
use crate::identity::{Identity, UserId};
use crate::permission::{Grant, Refusal};
use crate::publisher::{Circle, Entry, Given, GivenBy, Holder, Place};
use crate::stream::StreamId;
use crate::time::Timestamp;
use crate::wire::{KeyPush, KeyReceipt, Received, Verified};

/// Holders read from the ledger at a time.
const PAGE: usize = 256;
/// Checks under way at a time: a source may be far away.
const CHECKS: usize = 32;
/// Pushes under way at a time. Each may need a connection first, and the network makes 128 at a time.
const PUSHES: usize = 64;
/// Wraps in one job, so that the jobs cost little beside them.
const WRAPS: usize = 16;

/// What handing out needs of the world around it.
pub(super) trait Road: Send + Sync + 'static {
    fn identity(&self) -> &Identity;
    fn now(&self) -> Timestamp;
    /// The next holders, strictly after `after`; fewer than `limit` are the last.
    fn holders(
        &self,
        stream: &StreamId,
        after: Option<UserId>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(Holder, Place)>, ClientError>> + Send;
    /// Whether `user` may SUBSCRIBE now.
    fn check(&self, stream: &StreamId, user: UserId) -> impl Future<Output = Result<Grant, Refusal>> + Send;
    /// Sends a push and returns what came back, if anything did in time.
    fn send(&self, to: &Place, push: Bytes) -> impl Future<Output = Option<Bytes>> + Send;
    /// Writes into the ledger, some time.
    fn note(&self, entry: Entry) -> impl Future<Output = ()> + Send;
    /// Accounts for a key that was sent, whether or not that was confirmed.
    fn sent(&self, given: &Given, confirmed: bool);
    /// Accounts for a key that was kept from somebody.
    fn withheld(&self, stream: &StreamId, to: (UserId, &Place), key: &KeyId, refusal: Refusal);
}

/// One that was checked and may have the key.
struct Allowed {
    user: UserId,
    place: Place,
    grant: Grant,
}

/// The same, with the key wrapped for it; `None` when its public key cannot be used.
type Wrapped = (Allowed, Option<Verified<KeyPush>>);

struct HandOut<R> {
    road: Arc<R>,
    stream: StreamId,
    key: StoredKey,
    /// Of a key that was made ahead: who may be sent it, and was.
    circle: Option<Circle>,
    report: Mutex<UpdateReport>,
}

/// Checks everybody who holds a key again, and sends the new one to those who may have it. A pre-agreed key is sent to nobody.
/// Everybody on record is in one list of the report, but for those to whom the `circle` of a key that was made ahead is not open: they
/// are not sent it, or were already.
///
/// # Errors
/// The ledger cannot be read. Who was told of by then has the key all the same.
pub(super) async fn hand_out<R: Road>(
    road: Arc<R>,
    stream: StreamId,
    key: StoredKey,
    circle: Option<Circle>,
) -> Result<UpdateReport, ClientError> {
    let report = Mutex::new(UpdateReport::of(key.key.id().clone()));
    let out = Arc::new(HandOut { road, stream, key, circle, report });
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let failure = Arc::new(Mutex::new(None));
    let checking = out.clone();
    let allowed = known(out.clone(), failure.clone())
        .map(move |(holder, place)| checking.clone().check(holder.user, place))
        .buffer_unordered(CHECKS)
        .filter_map(std::future::ready);
    let (wrapping, pushing) = (out.clone(), out.clone());
    allowed
        .chunks(WRAPS)
        .map(move |chunk| wrapping.clone().wrap(chunk))
        .buffer_unordered(cores)
        .flat_map(stream::iter)
        .map(move |wrapped| pushing.clone().push(wrapped))
        .buffer_unordered(PUSHES)
        .for_each(std::future::ready)
        .await;
    if let Some(error) = lock(&failure).take() {
        return Err(error);
    }
    let mut report = lock(&out.report).clone();
    report.sort();
    Ok(report)
}

/// Everybody on record, as far as it can be read.
fn known<R: Road>(
    out: Arc<HandOut<R>>,
    failure: Arc<Mutex<Option<ClientError>>>,
) -> impl Stream<Item = (Holder, Place)> + Send {
    let pages = stream::unfold(Some(None), move |after: Option<Option<UserId>>| {
        let (out, failure) = (out.clone(), failure.clone());
        async move {
            match out.road.holders(&out.stream, after?, PAGE).await {
                Ok(page) => {
                    let last = page.last().map(|(holder, _)| holder.user).filter(|_| page.len() == PAGE);
                    Some((page, last.map(Some)))
                }
                Err(error) => {
                    *lock(&failure) = Some(error);
                    None
                }
            }
        }
    });
    pages.flat_map(stream::iter)
}

impl<R: Road> HandOut<R> {
    async fn check(self: Arc<Self>, user: UserId, place: Place) -> Option<Allowed> {
        if self.circle.as_ref().is_some_and(|circle| !circle.is_open_to(user)) {
            return None;
        }
        let asked = self.road.now();
        match self.road.check(&self.stream, user).await {
            Ok(grant) if self.allows(&grant) => Some(Allowed { user, place, grant }),
            Ok(_) => None,
            Err(refusal) => {
                self.refused(user, &place, refusal, asked).await;
                None
            }
        }
    }

    /// Whether a key that was made ahead may go to who holds this grant.
    fn allows(&self, grant: &Grant) -> bool {
        self.circle.as_ref().is_none_or(|circle| circle.allows(grant))
    }

    async fn refused(&self, user: UserId, place: &Place, refusal: Refusal, asked: Timestamp) {
        self.road.withheld(&self.stream, (user, place), self.key.key.id(), refusal);
        lock(&self.report).refused.push((user, refusal));
        // Who may be let in again in a moment stays a holder.
        if refusal.retry_after().is_none() {
            self.road.note(Entry::Refused { stream: self.stream.clone(), user, at: asked }).await;
        }
    }

    async fn wrap(self: Arc<Self>, chunk: Vec<Allowed>) -> Vec<Wrapped> {
        if self.key.origin == KeyOrigin::PreAgreed {
            return chunk.into_iter().map(|allowed| (allowed, None)).collect();
        }
        let job = self.clone();
        // The runtime ends when this fails: nobody is left to report to.
        blocking(move || chunk.into_iter().map(|allowed| job.wrap_one(allowed)).collect()).await.unwrap_or_default()
    }

    fn wrap_one(&self, allowed: Allowed) -> Wrapped {
        let make = || {
            let public = PublicKey::from_der(&allowed.place.public_key).ok()?;
            let (identity, now) = (self.road.identity(), self.road.now());
            push(&self.stream, allowed.user, &public, &self.key, identity, now, &mut rand::rng()).ok()
        };
        let signed = make();
        (allowed, signed)
    }

    async fn push(self: Arc<Self>, wrapped: Wrapped) {
        let user = wrapped.0.user;
        // Before the check that decides: a key that was made ahead does not become current past it.
        if self.circle.as_ref().is_some_and(|circle| !circle.join(user)) {
            return;
        }
        // It may have waited behind others since it was checked, and its grant may have been taken back meanwhile.
        let now = self.road.now();
        let checked = self.road.check(&self.stream, user).await;
        if checked.as_ref().is_ok_and(|grant| self.allows(grant)) {
            return self.deliver(wrapped).await;
        }
        self.circle.iter().for_each(|circle| circle.leave(user));
        if let Err(refusal) = checked {
            self.refused(user, &wrapped.0.place, refusal, now).await;
        }
    }

    async fn deliver(&self, (allowed, signed): Wrapped) {
        let confirmed = match &signed {
            Some(signed) => self.is_confirmed(&allowed, signed).await,
            None => false,
        };
        let given = Given {
            stream: self.stream.clone(),
            user: allowed.user,
            place: allowed.place,
            grant: allowed.grant.period,
            keys: vec![(self.key.key.id().clone(), Timestamp::from_millis(self.key.since))],
            at: self.road.now(),
            by: GivenBy::Push,
        };
        if signed.is_some() {
            self.road.sent(&given, confirmed);
        }
        if !confirmed {
            return lock(&self.report).must_pull.push(given.user);
        }
        lock(&self.report).pushed.push(given.user);
        self.road.note(Entry::Given(given)).await;
    }

    async fn is_confirmed(&self, to: &Allowed, signed: &Verified<KeyPush>) -> bool {
        let Some(reply) = self.road.send(&to.place, signed.envelope().clone()).await else { return false };
        let receipt = Received::<KeyReceipt>::decode(&reply).ok().and_then(|receipt| receipt.verify().ok());
        let push = signed.content();
        receipt.is_some_and(|receipt| {
            let receipt = receipt.content();
            (receipt.id, receipt.subscriber) == (push.id, to.user)
                && (receipt.publisher, &receipt.stream) == (push.publisher, &push.stream)
        })
    }
}
