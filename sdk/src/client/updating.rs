//! Changing keys: rotate for later, rekey at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, oneshot};
use veilcast_key_store::{GroupKey, KeyId, KeyOrigin, StoredKey};

use super::error::ClientError;
use super::handing;
use super::publishing::StreamPublisher;
use super::shared::{Shared, blocking};
use super::stats::count;
use crate::identity::UserId;
use crate::permission::Refusal;
use crate::publisher::{Circle, KeyAhead};
use crate::stream::StreamId;
use crate::time::Timestamp;

/// Table of what the last rekey shut out, by stream, as [`EndWatch`](crate::publisher::EndWatch) writes it.
pub(super) const REKEYS: &str = "rekeys";

/// Keys being handed out at a time.
pub(super) const HAND_OUTS: usize = 8;

/// How a key is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyUpdateMethod {
    /// The next key rides, wrapped in the current one, in the next message. Cheap; nobody is re-checked.
    Rotate,
    /// The new key is current at once and goes to each subscriber separately, after a SUBSCRIBE check.
    Rekey,
}

/// What a key change did. Everybody whom the grant ledger knows as a holder is in one of the lists, each in the order of
/// addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpdateReport {
    /// The new key.
    pub key_id: KeyId,
    /// Who confirmed to hold it already (rekey).
    pub pushed: Vec<UserId>,
    /// Who held a key and is not given the new one (rekey).
    pub refused: Vec<(UserId, Refusal)>,
    /// Who may have it but did not confirm it in time, and will ask (rekey); everybody who may read, when the key is
    /// pre-agreed, for that is sent to nobody.
    pub must_pull: Vec<UserId>,
}

impl UpdateReport {
    pub(super) fn of(key_id: KeyId) -> Self {
        Self { key_id, pushed: Vec::new(), refused: Vec::new(), must_pull: Vec::new() }
    }

    pub(super) fn sort(&mut self) {
        self.pushed.sort_unstable();
        self.refused.sort_unstable_by_key(|(user, _)| *user);
        self.must_pull.sort_unstable();
    }
}

/// In a task of the client, to its end: a caller that drops the future half-way would otherwise leave a key that is current
/// in the store but not in memory, or holders that nobody told.
pub(super) async fn update(
    shared: &Arc<Shared>,
    stream: &StreamId,
    method: KeyUpdateMethod,
    key: Option<GroupKey>,
    regardless: bool,
) -> Result<UpdateReport, ClientError> {
    let (reply, done) = oneshot::channel();
    let (worker, stream) = (shared.clone(), stream.clone());
    shared.spawn(async move {
        let _ = reply.send(carry_out(&worker, &stream, method, key, regardless).await);
    });
    done.await.unwrap_or(Err(ClientError::Stopped))
}

async fn carry_out(
    shared: &Arc<Shared>,
    stream: &StreamId,
    method: KeyUpdateMethod,
    key: Option<GroupKey>,
    regardless: bool,
) -> Result<UpdateReport, ClientError> {
    shared.must_publish(stream).await?;
    must_be_agreed(shared, stream, method, key.as_ref()).await?;
    let key = key.unwrap_or_else(|| GroupKey::generate(&mut rand::rng()));
    let publisher = shared.publisher(stream).await?;
    let mut publisher = publisher.lock().await;
    match method {
        KeyUpdateMethod::Rekey => {
            publisher.ended(shared, stream).await;
            let made = make_current(shared, stream, &mut publisher, Some(key)).await?;
            drop(publisher);
            let turn = shared.handing.clone().acquire_owned().await.map_err(|_| ClientError::Stopped)?;
            hand_out(shared, stream, &made, turn).await
        }
        KeyUpdateMethod::Rotate => rotate(shared, stream, &mut publisher, key, regardless).await,
    }
}

/// No key becomes current twice, but those put in by hand. Where agreed keys alone count, one of those may become current and
/// no other; none is passed on in a message.
async fn must_be_agreed(
    shared: &Arc<Shared>,
    stream: &StreamId,
    method: KeyUpdateMethod,
    key: Option<&GroupKey>,
) -> Result<(), ClientError> {
    if let Some(key) = key {
        let (store, scope, id) = (shared.store.clone(), crate::scope(shared.user, stream), key.id().clone());
        match blocking(move || store.key(&scope, &id)).await?? {
            Some(stored) if stored.origin != KeyOrigin::PreAgreed => {
                return Err(ClientError::KeyUsedBefore { key_id: key.id().clone() });
            }
            Some(_) if method == KeyUpdateMethod::Rekey => return Ok(()),
            _ => {}
        }
    }
    shared.must_exchange(stream).await
}

async fn rotate(
    shared: &Shared,
    stream: &StreamId,
    publisher: &mut StreamPublisher,
    key: GroupKey,
    regardless: bool,
) -> Result<UpdateReport, ClientError> {
    let (store, scope, id) = (shared.store.clone(), crate::scope(shared.user, stream), key.id().clone());
    let known = blocking(move || store.key(&scope, &id)).await??;
    if known.is_some_and(|stored| stored.origin == KeyOrigin::PreAgreed) && publisher.schedule.current().is_some() {
        return Err(ClientError::PreAgreed { key_id: key.id().clone() });
    }
    let is_first = publisher.schedule.current().is_none();
    let ended = publisher.ended(shared, stream).await.to_vec();
    match regardless {
        _ if is_first => {}
        // Or the next message would rekey because of them.
        true => publisher.let_read_on(shared, stream, shared.now()).await?,
        false if !ended.is_empty() => return Err(ClientError::GrantEnded { ended }),
        false => {}
    }
    let report = UpdateReport::of(key.id().clone());
    publisher.ahead.discard();
    if let Some(first) = publisher.schedule.rotate(key) {
        make_current(shared, stream, publisher, Some(first.make_current)).await?;
    }
    Ok(report)
}

/// A key that is to be handed out.
pub(super) struct Made {
    pub(super) stored: StoredKey,
    /// Who was sent it ahead.
    pub(super) circle: Option<Circle>,
}

/// The key is durable, then current; nothing queued survives it. What ended up to now, as far as is known, is shut out: whoever wants
/// to know more asks the source before. Without one by hand it is the one made ahead for an end that is
/// there, or a fresh one.
pub(super) async fn make_current(
    shared: &Shared,
    stream: &StreamId,
    publisher: &mut StreamPublisher,
    by_hand: Option<GroupKey>,
) -> Result<Made, ClientError> {
    // What is decided about the key ahead goes by what the rekey shuts out: the same list at the same moment.
    let (store, scope, now) = (shared.store.clone(), crate::scope(shared.user, stream), shared.now());
    let (key, since, circle) = publisher.next_key(by_hand, now);
    let step = publisher.schedule.plan_rekey(key);
    let made = step.make_current.clone();
    let stored = blocking(move || {
        store.make_current(&scope, &made, since.as_millis())?;
        store.key(&scope, made.id())
    })
    .await??;
    let fallback =
        StoredKey { key: step.make_current.clone(), since: since.as_millis(), until: None, origin: KeyOrigin::Made };
    publisher.schedule.rekeyed(step);
    publisher.meter.rekeyed(now);
    count(&shared.counters.keys_rekeyed, 1);
    publisher.pre_agreed = stored.as_ref().is_some_and(|stored| stored.origin == KeyOrigin::PreAgreed);
    note_rekey(shared, stream, publisher, now).await?;
    Ok(Made { stored: stored.unwrap_or(fallback), circle })
}

/// Everybody known to have ended by `now` is shut out by the key that is current since then. A crash before this is durable
/// costs one more rekey, nothing else.
pub(super) async fn note_rekey(
    shared: &Shared,
    stream: &StreamId,
    publisher: &mut StreamPublisher,
    now: Timestamp,
) -> Result<(), ClientError> {
    let record = publisher.shut_out(now);
    save_ends(shared, stream, record).await
}

pub(super) async fn save_ends(shared: &Shared, stream: &StreamId, record: Vec<u8>) -> Result<(), ClientError> {
    let (store, key) = (shared.store.clone(), stream.as_str().as_bytes().to_vec());
    Ok(blocking(move || store.write(REKEYS, &[(key, Some(record))])).await??)
}

/// Hands a new key out over the network, in its turn; see [`handing`].
async fn hand_out(
    shared: &Arc<Shared>,
    stream: &StreamId,
    made: &Made,
    _turn: OwnedSemaphorePermit,
) -> Result<UpdateReport, ClientError> {
    // Whoever was given a key a moment ago counts too.
    shared.holders.flush().await;
    handing::hand_out(shared.clone(), stream.clone(), made.stored.clone(), made.circle.clone()).await
}

/// The same, behind a message that must not wait for anybody's confirmation. When holders that cannot be reached hold up so
/// many already, nobody is sent this one: whoever may have it asks.
pub(super) fn hand_out_behind(shared: &Arc<Shared>, stream: &StreamId, made: Made) {
    let Ok(turn) = shared.handing.clone().try_acquire_owned() else {
        tracing::warn!(%stream, "too many keys are being handed out; whoever may have this one asks");
        return;
    };
    let (worker, stream) = (shared.clone(), stream.clone());
    shared.spawn(async move {
        if let Err(error) = hand_out(&worker, &stream, &made, turn).await {
            tracing::error!(%stream, %error, "the new key is not sent to everybody; whoever may have it asks");
        }
    });
}

/// Hands a key out that is not current yet. Waits for its turn, unless it is not ahead of time any more by then.
pub(super) fn hand_out_ahead(shared: &Arc<Shared>, stream: &StreamId, ahead: &KeyAhead) {
    let stored =
        StoredKey { key: ahead.key().clone(), since: ahead.from().as_millis(), until: None, origin: KeyOrigin::Made };
    let made = Made { stored, circle: Some(ahead.circle().clone()) };
    let (worker, stream) = (shared.clone(), stream.clone());
    shared.spawn(async move {
        let Ok(turn) = worker.handing.clone().acquire_owned().await else { return };
        if let Err(error) = hand_out(&worker, &stream, &made, turn).await {
            tracing::error!(%stream, %error, "the next key is not sent to everybody ahead; it follows when it is current");
        }
    });
}
