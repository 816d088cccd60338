//! The publish path: permission, key, seal, sign, send.

mod watching;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::time::Instant;
use veilcast_key_store::{GroupKey, KeyOrigin};

use super::agreeing::Sealing;
use super::error::ClientError;
use super::shared::{Shared, blocking, lock};
use super::stats::count;
use super::{announcing, dispatch, updating};
use crate::cipher::MessageCipher;
use crate::message::{Draft, Payload, compose};
use crate::permission::{Permission, PermissionSource, StreamInfo};
use crate::publisher::{Chain, Circle, Due, EndWatch, KeyPolicy, KeySchedule, KeysAhead, MessageStep, Meter, policy};
use crate::stream::{Partition, StreamId, StreamPart};
use crate::time::Timestamp;
use crate::wire::{Frame, MessageContent, MessageRef, Verified};

pub(super) use watching::{Question, ask, handed, is_watched};

/// How long what a source said about a stream is believed, if it did not say that something changed.
const INFO_FRESHNESS: Duration = Duration::from_secs(5);
/// A stream that the source knows nothing of.
const UNKNOWN: StreamInfo = StreamInfo { partitions: 1, public: false, public_until: None, public_ends: None };

/// This publisher on one stream: its keys, and a chain per partition. One caller at a time.
pub(super) struct StreamPublisher {
    pub(super) schedule: KeySchedule,
    pub(super) meter: Meter,
    ends: EndWatch,
    /// Keys for the ends that come next.
    pub(super) ahead: KeysAhead,
    /// The current key was shared outside the network.
    pub(super) pre_agreed: bool,
    chains: HashMap<u32, Chain>,
    cipher: Option<(GroupKey, MessageCipher)>,
    /// What seals, as of that state of the rings and of `pre_agreed`.
    sealing: Option<(u64, bool, Sealing)>,
    info: Option<(StreamInfo, Timestamp, u64)>,
    /// When the source was asked for what it told last.
    told: Option<Instant>,
    /// Whether those it told of were compared with those who were given keys, of whom another source may have told before the start.
    compared: bool,
    /// When it was last looked who was given keys, because the source could not tell who subscribes.
    supposed: Option<Instant>,
    announced: HashMap<u32, Timestamp>,
    published: Counter,
}

impl Shared {
    /// The publisher of a stream, resumed from the store the first time.
    pub(super) async fn publisher(
        &self,
        stream: &StreamId,
    ) -> Result<Arc<tokio::sync::Mutex<StreamPublisher>>, ClientError> {
        self.must_run()?;
        if let Some(known) = lock(&self.publishers).get(stream) {
            return Ok(known.clone());
        }
        let (store, scope) = (self.store.clone(), crate::scope(self.user, stream));
        let (resumed, id) = (scope.clone(), stream.clone());
        let (current, rekeyed, (policy, count)) = blocking(move || {
            let rekeyed = store.get(updating::REKEYS, id.as_str().as_bytes())?;
            Ok::<_, ClientError>((store.current(&resumed)?, rekeyed, policy::load_with_count(&*store, &id)?))
        })
        .await??;
        let ends = EndWatch::resume(rekeyed.as_deref());
        let fresh = StreamPublisher {
            pre_agreed: current.as_ref().is_some_and(|stored| stored.origin == KeyOrigin::PreAgreed),
            meter: Meter::resume(policy, count.as_deref(), current.as_ref(), ends.last_rekey()),
            schedule: KeySchedule::resume(scope, current.map(|stored| stored.key)),
            ends,
            ahead: KeysAhead::default(),
            chains: HashMap::new(),
            cipher: None,
            sealing: None,
            info: None,
            told: None,
            compared: false,
            supposed: None,
            announced: HashMap::new(),
            published: self.meters.published_on(stream),
        };
        let fresh = Arc::new(tokio::sync::Mutex::new(fresh));
        let mut publishers = lock(&self.publishers);
        if publishers.is_empty() {
            // From now on this is a publisher, whom others look for.
            announcing::soon(self);
        }
        Ok(publishers.entry(stream.clone()).or_insert(fresh).clone())
    }

    /// Follows a policy from now on; nothing changes when it cannot be stored.
    pub(super) async fn set_key_policy(&self, stream: &StreamId, policy: KeyPolicy) -> Result<(), ClientError> {
        let publisher = self.publisher(stream).await?;
        let mut publisher = publisher.lock().await;
        self.must_run()?;
        let mut meter = publisher.meter.clone();
        let count = meter.set_policy(policy, publisher.schedule.current().map(GroupKey::id));
        let (store, stream) = (self.store.clone(), stream.clone());
        blocking(move || policy::save_with_count(&*store, &stream, policy, count)).await??;
        publisher.meter = meter;
        Ok(())
    }

    /// Writes down exactly how much each key was used, and forgets the publishers: nothing is sealed after this.
    pub(super) async fn settle_publishers(&self) {
        let publishers = std::mem::take(&mut *lock(&self.publishers));
        for (stream, publisher) in publishers {
            let mut publisher = publisher.lock().await;
            let current = publisher.schedule.current().map(|key| key.id().clone());
            let Some(count) = publisher.meter.settle(current.as_ref()) else { continue };
            let store = self.store.clone();
            let saved = blocking(move || policy::save_count(&*store, &stream, count)).await;
            if let Ok(Err(error)) = saved {
                tracing::warn!(%error, "how much a key was used is not written down: it counts as used up to the last record");
            }
        }
    }

    /// # Errors
    /// [`ClientError::Stopped`].
    fn must_run(&self) -> Result<(), ClientError> {
        if *self.stopping.borrow() { Err(ClientError::Stopped) } else { Ok(()) }
    }

    /// # Errors
    /// [`ClientError::NotPermitted`], naming the identity and the stream.
    pub(super) async fn must_publish(&self, stream: &StreamId) -> Result<(), ClientError> {
        let (user, permission) = (self.user, Permission::Publish);
        let checked = self.check(stream, user, permission).await;
        let refused = |refusal| ClientError::NotPermitted { user, stream: stream.clone(), permission, refusal };
        checked.map(drop).map_err(refused)
    }
}

pub(super) async fn publish(
    shared: &Arc<Shared>,
    stream: &StreamId,
    partition: Partition,
    payload: Payload,
    timestamp: Option<Timestamp>,
) -> Result<MessageRef, ClientError> {
    let limit = shared.config.max_payload;
    if payload.len() > limit {
        return Err(ClientError::PayloadTooLarge { size: payload.len(), limit });
    }
    shared.must_publish(stream).await?;
    let publisher = shared.publisher(stream).await?;
    let mut publisher = publisher.lock().await;
    shared.must_run()?;
    // Others may have published for as long as the network took: it may have been taken back meanwhile.
    shared.must_publish(stream).await?;
    let info = publisher.info(shared, stream).await?;
    let part = stream.part(partition.number(info.partitions)?)?;
    let encrypt = !info.public || shared.config.always_encrypt;
    let sealing = if encrypt { Some(publisher.sealing(shared, stream).await?) } else { None };
    // An agreed key changes by hand only: nobody came by it through a grant, and both sides go by it.
    if let Some(Sealing::Own) = sealing
        && !publisher.pre_agreed
        && publisher.schedule.current().is_some()
    {
        change_key_where_due(shared, stream, &mut publisher, &info).await?;
    }
    let (at, message) = publisher.make(shared, stream, &part, &payload, sealing, timestamp).await?;
    let mut frame = Frame::of_message(message.envelope().clone()).to_vec();
    if publisher.announcement_due(part.number(), shared.now())
        && let Some(record) = announcing::record(shared).await
    {
        frame.extend_from_slice(&Frame::of_record(record.envelope().clone()));
    }
    // The publisher stays locked until the frame is queued, so that frames are queued in the order of the chain.
    shared.network.publish(&part.topic(), frame.into()).await?;
    if shared.config.hear_own {
        dispatch::to_readers(shared, &part, std::slice::from_ref(&message)).await;
    }
    if let Some(storage) = &shared.storage {
        // Nobody sends us our own.
        storage.offer(stream, vec![message]).await;
    }
    count(&shared.counters.messages_published, 1);
    publisher.published.inc();
    Ok(at)
}

/// At most one change: for somebody whose grant ended, or as the policy says.
async fn change_key_where_due(
    shared: &Arc<Shared>,
    stream: &StreamId,
    publisher: &mut StreamPublisher,
    info: &StreamInfo,
) -> Result<(), ClientError> {
    let mut due = publisher.meter.due(shared.now());
    let would_rotate = matches!(due, Due::RotateWith | Due::RotateBefore);
    if (shared.config.rekey_on_end || would_rotate) && publisher.is_somebody_out(shared, stream, info).await {
        tracing::info!(%stream, "a grant ended: rekeying instead of rotating or going on");
        due = Due::Rekey;
    }
    if due == Due::Rekey {
        publisher.ended(shared, stream).await;
        rekey(shared, stream, publisher).await?;
        // Where each key seals one message, this one carries the next already.
        due = Some(publisher.meter.due(shared.now())).filter(|due| *due == Due::RotateWith).unwrap_or(Due::Nothing);
    }
    if matches!(due, Due::RotateWith | Due::RotateBefore) {
        publisher.queue_next(due == Due::RotateBefore);
    }
    Ok(())
}

/// Rekeys for what is known: what the source was not asked about yet is another reason, and another rekey.
pub(super) async fn rekey(
    shared: &Arc<Shared>,
    stream: &StreamId,
    publisher: &mut StreamPublisher,
) -> Result<(), ClientError> {
    let made = updating::make_current(shared, stream, publisher, None).await?;
    updating::hand_out_behind(shared, stream, made);
    Ok(())
}

/// Makes keys for the ends that come next, and sends them: whoever stays has them before the first message. Where a stream is
/// public nobody waits for a key at an end.
pub(super) fn prepare(shared: &Arc<Shared>, stream: &StreamId, publisher: &mut StreamPublisher) {
    let now = shared.now();
    let Some(from) = publisher.ahead.due(now, &publisher.ends) else { return };
    if publisher.info.as_ref().is_none_or(|(info, ..)| info.clone().at(now).public) {
        return;
    }
    let (key, served_always) = (GroupKey::generate(&mut rand::rng()), [Some(shared.user), stream.owner()]);
    let ahead = publisher.ahead.make(from, key, now, &publisher.ends, served_always.into_iter().flatten());
    updating::hand_out_ahead(shared, stream, &ahead);
    count(&shared.counters.keys_ahead, 1);
}

impl StreamPublisher {
    /// The next key rides in the next message, unless one was queued by hand; at once, if the current one is used up.
    fn queue_next(&mut self, at_once: bool) {
        if self.schedule.queued().is_none() {
            self.schedule.rotate(GroupKey::generate(&mut rand::rng()));
        }
        if at_once {
            self.schedule.hurry();
        }
    }

    /// The key of a rekey at `now`, since when it is current, and who was sent it ahead.
    pub(super) fn next_key(
        &mut self,
        by_hand: Option<GroupKey>,
        now: Timestamp,
    ) -> (GroupKey, Timestamp, Option<Circle>) {
        if let Some(key) = by_hand {
            self.ahead.discard();
            return (key, now, None);
        }
        match self.ahead.take(now, &self.ends) {
            // Nothing was sealed since the end, and everybody who was sent it was told this moment.
            Some(ahead) => (ahead.key().clone(), ahead.from(), Some(ahead.circle().clone())),
            None => (GroupKey::generate(&mut rand::rng()), now, None),
        }
    }

    /// What seals the next message. Looked for again only when a ring changed.
    async fn sealing(&mut self, shared: &Shared, stream: &StreamId) -> Result<Sealing, ClientError> {
        let (rings, pre_agreed) = (shared.rings(), self.pre_agreed);
        if let Some((_, _, known)) =
            self.sealing.as_ref().filter(|(at, agreed, _)| (*at, *agreed) == (rings, pre_agreed))
        {
            return Ok(known.clone());
        }
        let found = shared.sealing(stream, pre_agreed).await?;
        Ok(self.sealing.insert((rings, pre_agreed, found)).2.clone())
    }

    async fn info(&mut self, shared: &Shared, stream: &StreamId) -> Result<StreamInfo, ClientError> {
        let (begun, now, changes) = (Instant::now(), shared.now(), shared.source.changes());
        if let Some((info, asked, at)) = &self.info
            && *at == changes
            && now >= *asked
            && now.since(*asked) < INFO_FRESHNESS
            && info.holds_at(now)
        {
            return Ok(info.clone());
        }
        let info = match (shared.stream_info(stream).await, &self.info) {
            (Ok(known), _) => known.unwrap_or(UNKNOWN),
            // Cannot tell whether it is public: then it is not. How many partitions it has does not change.
            (Err(_), Some((info, ..))) => return Ok(StreamInfo { public: false, ..info.clone().at(now) }),
            (Err(refusal), None) => {
                let (user, permission) = (shared.user, Permission::Publish);
                return Err(ClientError::NotPermitted { user, stream: stream.clone(), permission, refusal });
            }
        };
        (self.info, self.told) = (Some((info.clone(), now, changes)), Some(begun));
        Ok(info)
    }

    async fn make(
        &mut self,
        shared: &Shared,
        stream: &StreamId,
        part: &StreamPart,
        payload: &Payload,
        sealing: Option<Sealing>,
        timestamp: Option<Timestamp>,
    ) -> Result<(MessageRef, Verified<MessageContent>), ClientError> {
        let chain = self.chains.entry(part.number()).or_insert_with(|| Chain::begin(&mut rand::rng()));
        let at = match timestamp {
            Some(timestamp) => chain.next_at(timestamp)?,
            None => chain.next(shared.now()),
        };
        let mut draft =
            Draft { part: part.clone(), chain: chain.id(), at, previous: chain.last(), key_updates: Vec::new() };
        let signed = match sealing {
            None => compose(draft, payload, None, &shared.identity, &mut rand::rng())?,
            Some(Sealing::Ring(key)) => {
                let cipher = self.cipher_of(shared, stream, &key);
                compose(draft, payload, Some((key.id(), cipher)), &shared.identity, &mut rand::rng())?
            }
            Some(Sealing::Own) => {
                // By our clock, whatever date the message was given.
                let (step, now) = (self.schedule.plan_message(&mut rand::rng()), shared.now());
                self.make_durable(shared, stream, &step, now).await?;
                draft.key_updates = step.key_updates.clone();
                let cipher = self.cipher_of(shared, stream, &step.key);
                let signed =
                    compose(draft, payload, Some((step.key.id(), cipher)), &shared.identity, &mut rand::rng())?;
                self.schedule.message_sent(&step);
                self.meter.sealed(&step, now);
                self.pre_agreed &= step.make_current.is_none();
                signed
            }
        };
        if let Some(chain) = self.chains.get_mut(&part.number()) {
            chain.advance(at);
        }
        Ok((at, signed))
    }

    /// Before the message leaves (promise 8): its key, the key it carries, and the record that allows for one message more.
    async fn make_durable(
        &mut self,
        shared: &Shared,
        stream: &StreamId,
        step: &MessageStep,
        now: Timestamp,
    ) -> Result<(), ClientError> {
        if let Some(key) = &step.make_current {
            let (store, scope, key) = (shared.store.clone(), crate::scope(shared.user, stream), key.clone());
            let first = self.schedule.current().is_none();
            if first {
                self.ended(shared, stream).await;
            }
            blocking(move || store.make_current(&scope, &key, now.as_millis())).await??;
            match first {
                true => updating::note_rekey(shared, stream, self, now).await?,
                false => count(&shared.counters.keys_rotated, 1),
            }
        }
        self.meter.begin(step, now);
        if let Some(record) = self.meter.reserve(step.key.id()) {
            let (store, stream) = (shared.store.clone(), stream.clone());
            blocking(move || policy::save_count(&*store, &stream, record)).await??;
            self.meter.reserved();
        }
        Ok(())
    }

    fn cipher_of(&mut self, shared: &Shared, stream: &StreamId, key: &GroupKey) -> &MessageCipher {
        // A ring may have other bytes under an id than it had before.
        if self.cipher.as_ref().is_none_or(|(known, _)| known.id() != key.id() || !known.same_as(key)) {
            self.cipher = None;
        }
        let derive = || (key.clone(), MessageCipher::new(&crate::scope(shared.user, stream), key));
        &self.cipher.get_or_insert_with(derive).1
    }

    /// Whether the next message of a partition should also say where this publisher can be reached.
    fn announcement_due(&mut self, partition: u32, now: Timestamp) -> bool {
        let last = self.announced.get(&partition);
        let due = last.is_none_or(|last| now < *last || now.since(*last) >= announcing::REPEAT);
        if due {
            self.announced.insert(partition, now);
        }
        due
    }
}
