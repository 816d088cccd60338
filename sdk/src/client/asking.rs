//! The task that owns the requester: carries out what it decides, and brings it the answers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use libp2p::PeerId;
use rand::rngs::StdRng;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use veilcast_key_store::{GroupKey, KeyId, KeyOrigin, KeyScope, KeyStore, StoreError, StoredKey};

use super::EXCHANGE;
use super::directory::Contact;
use super::error::ClientError;
use super::finding::{self, Wish};
use super::shared::{Shared, blocking, lock};
use super::showing;
use super::stats::count;
use super::subscribing::KeyNews;
use crate::cipher::{Recipient, RsaPair, TransportKey};
use crate::exchange::{AskFailure, Device, Requester, RequesterEffect};
use crate::identity::UserId;
use crate::network::RequestError;
use crate::permission::PermissionSource;
use crate::stream::StreamId;
use crate::subscriber::Arrival;
use crate::time::{Timestamp, millis};
use crate::wire::{
    ALGORITHM_RSA_OAEP_SHA256, GrantedKey, KeyAnswer, KeyRequest, Received, RequestId, Verified, Wanted,
};

/// Questions and news waiting for the task; askers wait, or try again, beyond.
pub(super) const KEYS_MAILBOX: usize = 1024;

/// Devices dialed in one try, one after the other, until one is reached.
const DIALED: usize = 3;

/// What the task is told.
pub(super) enum Ask {
    /// Keys are needed that the store does not have.
    Want { publisher: UserId, stream: StreamId, key_ids: Vec<KeyId> },
    /// A key came by another way.
    Arrived { publisher: UserId, stream: StreamId, key_id: KeyId },
    /// Somebody has a request of his own to send: may he now, or how long is he to wait?
    Leave(oneshot::Sender<Result<(), Duration>>),
    /// A request left.
    Left { id: RequestId, device: Device },
    /// A try ended.
    Tried { id: RequestId, outcome: Outcome },
    /// Granted keys were opened, or not.
    Opened { publisher: UserId, stream: StreamId, keys: Vec<GroupKey>, unopened: Vec<KeyId> },
}

/// How a try ended.
pub(super) enum Outcome {
    /// With this, from the device that was asked last.
    Answer(Bytes),
    /// Without an answer.
    Failed(AskFailure),
    /// There is no device but those that do not have the keys.
    NobodyElse,
}

struct Asking {
    shared: Arc<Shared>,
    requester: Requester,
    rng: StdRng,
    began: Instant,
    /// When the requester's time is next looked at.
    due: Option<Timestamp>,
}

pub(super) async fn run(shared: Arc<Shared>, mut asked: mpsc::Receiver<Ask>) {
    let requester = Requester::new(shared.user, shared.config.requester, Timestamp::ZERO);
    let mut asking = Asking { shared, requester, rng: rand::make_rng(), began: Instant::now(), due: None };
    loop {
        // The clock is looked at every time: askers that never pause must not keep it from being seen.
        let wake = asking.keep_time().await;
        let effects = tokio::select! {
            ask = asked.recv() => match ask {
                Some(ask) => asking.hear(ask),
                None => return,
            },
            () = tokio::time::sleep(wake.max(Duration::from_millis(1))) => continue,
        };
        for effect in effects {
            asking.carry_out(effect).await;
        }
    }
}

impl Asking {
    /// The requester's time, which begins with this task. Nobody sets it back: a wall clock that jumps by an hour must not
    /// make a retry wait for an hour.
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(millis(self.began.elapsed()))
    }

    /// What time alone brings about, if it is due, and how long until it is again. What is due already and waits for leave to
    /// send moves ahead of the clock, so the earliest moment ever said counts until there was a tick.
    async fn keep_time(&mut self) -> Duration {
        let now = self.now();
        let next = self.requester.next_wake(now);
        self.due = next.map(|next| self.due.map_or(next, |due| due.min(next)));
        if self.due.is_some_and(|due| due <= now) {
            for effect in self.requester.tick(now, &mut self.rng) {
                self.carry_out(effect).await;
            }
            self.due = self.requester.next_wake(self.now());
        }
        self.due.map_or(Duration::from_secs(3600), |due| due.since(self.now()))
    }

    fn hear(&mut self, ask: Ask) -> Vec<RequesterEffect> {
        let now = self.now();
        match ask {
            Ask::Want { publisher, stream, key_ids } => {
                self.requester.want(now, publisher, stream, key_ids, &mut self.rng)
            }
            Ask::Arrived { publisher, stream, key_id } => {
                self.requester.arrived(now, publisher, &stream, &key_id, &mut self.rng)
            }
            Ask::Leave(asker) => {
                let _ = asker.send(self.requester.leave_to_send(now));
                Vec::new()
            }
            Ask::Left { id, device } => {
                self.requester.left(now, id, device);
                Vec::new()
            }
            Ask::Tried { id, outcome } => match outcome {
                Outcome::Answer(envelope) => self.answered(now, id, &envelope),
                Outcome::Failed(failure) => {
                    self.shared.meters.got_none(failure);
                    self.requester.failed(now, id, failure, &mut self.rng)
                }
                Outcome::NobodyElse => self.requester.nobody_else(now, id),
            },
            Ask::Opened { publisher, stream, keys, unopened } => {
                let mut effects = Vec::new();
                for key in &keys {
                    effects.extend(self.requester.arrived(now, publisher, &stream, key.id(), &mut self.rng));
                }
                if !unopened.is_empty() {
                    let rng = &mut self.rng;
                    effects.extend(self.requester.did_not_open(now, publisher, &stream, &unopened, rng));
                }
                self.tell_arrived(publisher, stream, keys);
                effects
            }
        }
    }

    /// An answer came back on the request's own stream. It counts only if it is signed by the one asked and fits.
    fn answered(&mut self, now: Timestamp, id: RequestId, envelope: &Bytes) -> Vec<RequesterEffect> {
        let verified = Received::<KeyAnswer>::decode(envelope)
            .ok()
            .filter(|received| received.claims().id == id)
            .and_then(|received| received.verify().ok());
        let settled = verified.as_ref().map(|answer| {
            let publisher = answer.content().publisher;
            let elsewhere = |tried: &BTreeSet<Device>| finding::may_be_elsewhere(&self.shared, publisher, tried);
            self.requester.settle(now, answer, elsewhere, &mut self.rng)
        });
        match (verified, settled) {
            (Some(answer), Some(Ok(settled))) => {
                count(&self.shared.counters.key_answers_accepted, 1);
                self.shared.meters.got(answer.content());
                if !settled.granted.is_empty() {
                    self.shared.spawn(open_granted(self.shared.clone(), answer, settled.granted));
                }
                settled.effects
            }
            _ => {
                count(&self.shared.counters.key_answers_ignored, 1);
                self.shared.meters.got_none(AskFailure::BadAnswer);
                self.requester.failed(now, id, AskFailure::BadAnswer, &mut self.rng)
            }
        }
    }

    async fn carry_out(&mut self, effect: RequesterEffect) {
        match effect {
            RequesterEffect::Send { id, publisher, stream, key_ids, not_at, rather_not } => {
                let (shared, wish) = (self.shared.clone(), Wish { not_at, rather_not });
                self.shared.spawn(async move {
                    let question = Question { id, publisher, stream, wanted: Wanted::Keys(key_ids) };
                    let outcome = match ask(&shared, question, wish).await {
                        Ok(outcome) => outcome,
                        Err(failure) => Outcome::Failed(failure),
                    };
                    let _ = shared.asking.send(Ask::Tried { id, outcome }).await;
                });
            }
            RequesterEffect::Refused { publisher, stream, key_id, refusal, until } => {
                // By the wall clock, which is what readers go by.
                let until = self.shared.now().plus(until.since(self.now()));
                self.shared.tell_readers(&stream, KeyNews::Refused { publisher, key_id, refusal, until }).await;
            }
            RequesterEffect::Retrying { publisher, stream, failure, after } => {
                self.shared.tell_readers(&stream, KeyNews::Retrying { publisher, failure, after }).await;
            }
            RequesterEffect::GivenUp { publisher, stream, key_ids, failure } => {
                for key_id in key_ids {
                    let news = KeyNews::Unavailable { publisher, key_id, failure };
                    self.shared.tell_readers(&stream, news).await;
                }
            }
        }
    }

    fn tell_arrived(&self, publisher: UserId, stream: StreamId, keys: Vec<GroupKey>) {
        let shared = self.shared.clone();
        self.shared.spawn(async move {
            for key in keys {
                shared.tell_readers(&stream, KeyNews::Arrived { publisher, key, by: Arrival::Answer }).await;
            }
        });
    }
}

/// What to ask of whom.
pub(super) struct Question {
    pub(super) id: RequestId,
    pub(super) publisher: UserId,
    pub(super) stream: StreamId,
    pub(super) wanted: Wanted,
}

/// One try: find a device of the publisher, ask, bring back what it said.
pub(super) async fn ask(shared: &Arc<Shared>, question: Question, mut wish: Wish) -> Result<Outcome, AskFailure> {
    let _pending = shared.meters.pending();
    let (id, publisher, stream) = (question.id, question.publisher, question.stream.clone());
    let find = tokio::time::timeout(shared.config.requester.find_timeout, finding::find(shared, publisher, &wish));
    let (shown, found) = tokio::join!(shown(shared, &question), find);
    let shown = shown?;
    let mut to = match found.ok().flatten() {
        Some(contact) => contact,
        None if wish.not_at.is_empty() => return Err(AskFailure::Unreachable),
        None => return Ok(Outcome::NobodyElse),
    };
    let serial = shown.serial;
    let signed = sign(shared, question, shown)?;
    for _ in 0..DIALED {
        let _ = shared.asking.send(Ask::Left { id, device: to.device() }).await;
        match send(shared, publisher, &to, signed.envelope()).await {
            Ok(answer) => {
                showing::carried(shared, &stream, publisher, serial).await;
                return Ok(Outcome::Answer(answer));
            }
            Err(AskFailure::Unreachable) => lock(&shared.directory).doubt(publisher, &to.peer),
            Err(failure) => {
                if failure == AskFailure::Timeout {
                    // For the next try: it may have moved, and if nobody knows better it is asked here again.
                    lock(&shared.directory).doubt(publisher, &to.peer);
                    finding::look_up(shared, publisher);
                }
                return Err(failure);
            }
        }
        to = next_after(shared, publisher, to, &mut wish).await.ok_or(AskFailure::Unreachable)?;
    }
    Err(AskFailure::Unreachable)
}

/// One try at one device, wherever it is known to be.
pub(super) async fn ask_at(shared: &Arc<Shared>, question: Question, device: PeerId) -> Result<Bytes, AskFailure> {
    let _pending = shared.meters.pending();
    let (publisher, stream) = (question.publisher, question.stream.clone());
    let find =
        tokio::time::timeout(shared.config.requester.find_timeout, finding::find_device(shared, publisher, device));
    let (shown, found) = tokio::join!(shown(shared, &question), find);
    let to = found.ok().flatten().ok_or(AskFailure::Unreachable)?;
    let shown = shown?;
    let serial = shown.serial;
    let signed = sign(shared, question, shown)?;
    let answer = send(shared, publisher, &to, signed.envelope()).await;
    if answer.is_ok() {
        showing::carried(shared, &stream, publisher, serial).await;
    }
    if let Err(AskFailure::Unreachable | AskFailure::Timeout) = answer {
        // For the next try: it may have moved.
        lock(&shared.directory).doubt(publisher, &device);
        finding::look_up(shared, publisher);
    }
    answer
}

/// What a request shows of its subscriber: the key to wrap for, and what the owner signed for him.
struct Shown {
    pair: Arc<RsaPair>,
    proofs: Vec<Bytes>,
    /// The newest of these grants, if the publisher was not shown it before.
    serial: Option<u64>,
}

async fn shown(shared: &Arc<Shared>, question: &Question) -> Result<Shown, AskFailure> {
    let (worker, stream, publisher) = (shared.clone(), question.stream.clone(), question.publisher);
    let proofs = blocking(move || {
        let serial = showing::newest(&worker, &stream, publisher);
        (worker.source.proofs(&stream, worker.user, worker.now()), serial)
    });
    let (pair, proofs) = tokio::join!(shared.rsa_pair(), proofs);
    let pair = pair.map_err(|error| unmade(publisher, &error))?;
    let (proofs, serial) = proofs.map_err(|error| unmade(publisher, &error))?;
    Ok(Shown { pair, proofs, serial })
}

fn sign(shared: &Shared, question: Question, shown: Shown) -> Result<Verified<KeyRequest>, AskFailure> {
    let publisher = question.publisher;
    let request = KeyRequest {
        id: question.id,
        stream: question.stream,
        publisher,
        requester: shared.user,
        sent: shared.now(),
        algorithm: ALGORITHM_RSA_OAEP_SHA256,
        public_key: shown.pair.public().as_der().to_vec(),
        wanted: question.wanted,
        proofs: shown.proofs,
    };
    Verified::sign(request, &shared.identity).map_err(|error| unmade(publisher, &error))
}

/// Another device after one that could not be reached, or the same one where it has moved to.
async fn next_after(shared: &Arc<Shared>, publisher: UserId, failed: Contact, wish: &mut Wish) -> Option<Contact> {
    let device = failed.device();
    wish.rather_not.retain(|other| *other != device);
    wish.rather_not.push(device);
    let is_another = |found: &Contact| *found != failed;
    let pick = || lock(&shared.directory).pick(publisher, shared.now(), &wish.not_at, &wish.rather_not);
    if let Some(known) = pick().filter(|found| found.peer != failed.peer) {
        return Some(known);
    }
    // It may have moved: the DHT may know where.
    let _ = tokio::time::timeout(shared.config.requester.find_timeout, finding::look_again(shared, publisher)).await;
    pick().filter(is_another)
}

fn unmade(publisher: UserId, error: &dyn std::error::Error) -> AskFailure {
    tracing::error!(target: EXCHANGE, %publisher, %error, "a key request could not be made");
    AskFailure::Unmade
}

async fn send(shared: &Shared, publisher: UserId, to: &Contact, envelope: &Bytes) -> Result<Bytes, AskFailure> {
    count(&shared.counters.key_requests_sent, 1);
    tracing::debug!(target: EXCHANGE, %publisher, to = %to.peer, "a key request leaves");
    let asked = shared.meters.asking(shared.network.request(to.peer, to.addresses.clone(), envelope.to_vec()));
    // The network bounds the answer; this bounds the connecting, too.
    let answer = tokio::time::timeout(shared.config.requester.key_request_timeout, asked).await;
    answer.map_err(|_| AskFailure::Timeout)?.map(Bytes::from).map_err(|error| {
        tracing::debug!(target: EXCHANGE, %publisher, %error, "a key request failed");
        failure_of(&error)
    })
}

/// Whose fault it was: the answer's, the way's there, or ours.
fn failure_of(error: &RequestError) -> AskFailure {
    match error {
        RequestError::Timeout(_) => AskFailure::Timeout,
        RequestError::Malformed { .. } => AskFailure::BadAnswer,
        RequestError::Busy(_) => AskFailure::Overload,
        RequestError::TooLarge { .. } | RequestError::Stopped => AskFailure::Unmade,
        RequestError::Unreachable(_) | RequestError::Closed(_) | RequestError::Unsupported(_) => {
            AskFailure::Unreachable
        }
    }
}

/// Opens and stores granted keys on a blocking thread, then reports back.
async fn open_granted(shared: Arc<Shared>, answer: Verified<KeyAnswer>, granted: Vec<GrantedKey>) {
    let answer = answer.into_content();
    let (publisher, stream) = (answer.publisher, answer.stream.clone());
    let all: Vec<KeyId> = granted.iter().map(|key| key.key_id.clone()).collect();
    let batch =
        Batch { publisher, stream: stream.clone(), request: answer.id, encapsulated: answer.encapsulated, granted };
    let keys = match open_unless_held(&shared, batch).await {
        Ok(opened) => opened.keys,
        Err(error) => {
            tracing::warn!(target: EXCHANGE, %publisher, %stream, %error, "granted keys could not be stored");
            Vec::new()
        }
    };
    let unopened = all.into_iter().filter(|id| keys.iter().all(|key| key.id() != id)).collect();
    let _ = shared.asking.send(Ask::Opened { publisher, stream, keys, unopened }).await;
}

/// Wrapped keys of one answer or push, addressed to us.
pub(super) struct Batch {
    pub(super) publisher: UserId,
    pub(super) stream: StreamId,
    pub(super) request: RequestId,
    pub(super) encapsulated: Vec<u8>,
    pub(super) granted: Vec<GrantedKey>,
}

/// What became of a batch.
#[derive(Default)]
pub(super) struct Opened {
    /// Stored.
    pub(super) keys: Vec<GroupKey>,
    /// How many are left out because other bytes are held under their ids.
    pub(super) conflicting: usize,
}

/// The same, but what came both as an answer and as a push is opened once: no RSA operation where every key is here already.
pub(super) async fn open_unless_held(shared: &Arc<Shared>, batch: Batch) -> Result<Opened, ClientError> {
    open(shared, batch, true).await
}

/// One RSA operation, then every key that opens is stored, all of them at once.
pub(super) async fn open_and_store(shared: &Arc<Shared>, batch: Batch) -> Result<Opened, ClientError> {
    open(shared, batch, false).await
}

/// All of these keys, if the publisher handed each of them over before.
fn held(store: &dyn KeyStore, scope: &KeyScope, granted: &[GrantedKey]) -> Result<Option<Vec<GroupKey>>, StoreError> {
    let mut keys = Vec::new();
    for granted in granted {
        match store.key(scope, &granted.key_id)? {
            Some(stored) if stored.origin == KeyOrigin::Received => keys.push(stored.key),
            _ => return Ok(None),
        }
    }
    Ok(Some(keys))
}

async fn open(shared: &Arc<Shared>, batch: Batch, unless_held: bool) -> Result<Opened, ClientError> {
    let pair = shared.rsa_pair().await?;
    let (store, subscriber) = (shared.store.clone(), shared.user);
    blocking(move || {
        let scope = crate::scope(batch.publisher, &batch.stream);
        if unless_held && let Some(keys) = held(&*store, &scope, &batch.granted)? {
            return Ok(Opened { keys, conflicting: 0 });
        }
        let recipient = Recipient { scope: &scope, subscriber, request: batch.request };
        let Ok(transport) = TransportKey::decapsulate(recipient, &pair, &batch.encapsulated, &mut rand::rng()) else {
            return Ok(Opened::default());
        };
        let opened = batch.granted.iter().filter_map(|granted| {
            let key = transport.unwrap(&granted.key_id, &granted.wrapped).ok()?;
            let (since, until) = (granted.since.as_millis(), granted.until.map(Timestamp::as_millis));
            Some(StoredKey { key, since, until, origin: KeyOrigin::Received })
        });
        let opened: Vec<StoredKey> = opened.collect();
        let conflicts = store.add_all(&scope, &opened)?;
        for id in &conflicts {
            tracing::warn!(%id, stream = scope.stream(), "the publisher sent other bytes for a key held here");
        }
        let keys = opened.into_iter().map(|stored| stored.key).filter(|key| !conflicts.contains(key.id()));
        Ok(Opened { keys: keys.collect(), conflicting: conflicts.len() })
    })
    .await?
}
