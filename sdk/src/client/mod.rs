//! The client: what an application embeds.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use veilcast::client::{Client, StreamOptions};
//! use veilcast::{Identity, Payload, Period, Permission};
//!
//! let seller = Client::builder(Identity::generate(&mut rand::rng()))
//!     .listen("/ip4/127.0.0.1/tcp/0".parse()?)
//!     .start()
//!     .await?;
//! let stream = seller.create_stream("prices/btc", StreamOptions::default()).await?;
//! # let buyer = seller.user();
//! seller.grant(&stream, buyer, Permission::Subscribe, Period::ALWAYS).await?;
//! seller.publish(&stream, Payload::json(&42)?).await?;
//! seller.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! Tasks: the swarm's ([`network`](crate::network)), `dispatch` which routes what it hears, `asking` which owns the
//! [`Requester`](crate::exchange::Requester), and one per subscription which owns an [`Intake`](crate::subscriber::Intake).
//! They talk through bounded channels; the core decides, they only carry out.

mod access;
mod agreeing;
mod announcing;
mod answering;
mod asking;
mod assigning;
mod auditing;
mod bookmarks;
mod bounded;
mod builder;
mod carrying;
mod checks;
mod config;
mod depots;
mod directory;
mod dispatch;
mod enforcing;
mod error;
mod fetching;
mod finding;
mod forecasting;
mod gaps;
mod gate;
mod handing;
mod holders;
mod incoming;
mod keeping;
mod metrics;
mod opening;
mod peer_key;
mod permitting;
mod publishing;
mod pushing;
mod reading;
mod relay;
mod replaying;
mod resending;
mod shared;
mod showing;
mod stats;
mod storing;
mod subscribing;
mod updating;
mod workers;

use std::ops::RangeInclusive;
use std::sync::Arc;

use bytes::Bytes;
use veilcast_key_store::{GroupKey, KeyId, TimeRange};

pub use builder::ClientBuilder;
pub use config::{ClientConfig, GapFill, KeySource, ReadOptions, SlowReader, StreamOptions};
pub use error::ClientError;
pub use fetching::{FetchEvent, FetchProgress, KeyFetch, MissedDevice};
pub use forecasting::UpdateForecast;
pub use libp2p::identity::Keypair;
pub use libp2p::{Multiaddr, PeerId};
pub use metrics::Metrics;
pub use relay::{Relay, RelayBuilder};
pub use stats::Stats;
pub use storing::StorageCounts;
pub use subscribing::{Delivery, Subscription};
pub use updating::{KeyUpdateMethod, UpdateReport};

pub use crate::subscriber::Replay;

use crate::audit::{AuditHead, AuditLog, AuditReport, LoggedEntry};
use crate::exchange::HistoryPolicy;
use crate::identity::{Identity, UserId};
use crate::key_ring::{self, RingPrefix};
use crate::message::{Message, Payload};
use crate::permission::{LocalRegistry, Period, Permission};
use crate::publisher::{GivenKey, Holder, KeyPolicy};
use crate::stream::{Partition, StreamId, StreamPart};
use crate::subscriber::IntakeLimits;
use crate::time::Timestamp;
use crate::wire::{MessageRef, Verified};
use shared::{Shared, blocking};

/// The target of what is logged about asking for and answering with keys.
const EXCHANGE: &str = "veilcast::exchange";

/// A node of the network with an identity: publishes, subscribes, answers and asks for keys. Cheap to clone.
///
/// **Runs until [`Client::stop`].** Dropping the last handle does not stop it: it goes on until its runtime ends.
///
/// Who decides about permissions is chosen at the start, and with it the calls that change them:
///
/// | set up with | makes a stream | lets somebody in | takes it back |
/// | --- | --- | --- | --- |
/// | nothing: the local registry decides | [`create_stream`](Self::create_stream) | [`grant`](Self::grant) | [`revoke`](Self::revoke) |
/// | [`signed_grants`](ClientBuilder::signed_grants) | [`set_up_stream`](Self::set_up_stream) | [`issue_grant`](Self::issue_grant) | [`revoke_grants`](Self::revoke_grants) |
/// | [`permissions`](ClientBuilder::permissions) with a contract | `EthereumRegistry::account`, then a quote of an `Action` | the same | the same |
///
/// Dropping the future of a call that changes what is on record (a stream, a grant, a list, a policy, a key agreed on) calls nothing
/// off once it began: each record is changed or not, never in part. Where a call changes several
/// ([`create_stream`](Self::create_stream) with a policy) do it again. To drop one that reads or waits loses nothing. Where it is
/// otherwise the call says so.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

impl Client {
    /// Begins to set up a client for `identity`.
    pub fn builder(identity: Identity) -> ClientBuilder {
        ClientBuilder::new(identity)
    }

    /// Whose client this is.
    pub fn user(&self) -> UserId {
        self.shared.user
    }

    /// Its libp2p peer id, which is not its identity.
    pub fn peer_id(&self) -> PeerId {
        self.shared.network.local_peer()
    }

    /// Where it can be reached; each address ends in `/p2p/PEER`.
    pub async fn addresses(&self) -> Vec<Multiaddr> {
        self.shared.network.listen_addresses().await
    }

    /// How many peers it is connected to.
    pub async fn connected_peers(&self) -> usize {
        self.shared.network.connected_peers().await
    }

    /// Connects to a node. Returns once connected. Dropping the future calls nothing off.
    ///
    /// # Errors
    /// [`ClientError::Network`] when nobody answers there.
    pub async fn connect(&self, address: Multiaddr) -> Result<(), ClientError> {
        Ok(self.shared.network.dial(address).await?)
    }

    /// The local permission registry, kept in this client's store. It decides unless the client was set up otherwise.
    pub fn registry(&self) -> &Arc<LocalRegistry> {
        &self.shared.registry
    }

    /// Creates the stream `<this identity>/path` in the local registry, which decides unless the client was set up with
    /// [`ClientBuilder::signed_grants`] or [`ClientBuilder::permissions`]. In the latter case this changes nothing that counts,
    /// unless that source asks the local registry.
    ///
    /// # Errors
    /// [`ClientError::StreamId`] for a path that cannot be one, [`ClientError::Registry`], [`ClientError::History`],
    /// [`ClientError::Store`] for its key policy; [`ClientError::DecidedElsewhere`] where signed grants decide.
    pub async fn create_stream(&self, path: &str, options: StreamOptions) -> Result<StreamId, ClientError> {
        let stream = StreamId::of(self.user(), path)?;
        self.shared.must_decide_here(&stream)?;
        let (registry, id) = (self.shared.registry.clone(), stream.clone());
        blocking(move || registry.create_stream(&id, options.partitions, options.public)).await??;
        if let Some(policy) = options.history {
            self.set_history(&stream, policy).await?;
        }
        if let Some(policy) = options.key_policy {
            self.set_key_policy(&stream, policy).await?;
        }
        announcing::soon(&self.shared);
        Ok(stream)
    }

    /// Gives `user` a permission for a period, or renews it, in the local registry; see [`Client::create_stream`] for when that
    /// counts.
    ///
    /// # Errors
    /// [`ClientError::Registry`]: no such stream, or a period that makes no sense; [`ClientError::DecidedElsewhere`].
    pub async fn grant(
        &self,
        stream: &StreamId,
        user: UserId,
        permission: Permission,
        period: Period,
    ) -> Result<(), ClientError> {
        self.shared.must_decide_here(stream)?;
        let (registry, stream, now) = (self.shared.registry.clone(), stream.clone(), self.shared.now());
        Ok(blocking(move || registry.grant(&stream, user, permission, period, now)).await??)
    }

    /// Takes a permission back at once, in the local registry; see [`Client::create_stream`] for when that counts. Keys already
    /// handed out still open what was published under them; the next message goes out under a new key.
    ///
    /// # Errors
    /// [`ClientError::Registry`]: there is no such grant; [`ClientError::DecidedElsewhere`].
    pub async fn revoke(&self, stream: &StreamId, user: UserId, permission: Permission) -> Result<(), ClientError> {
        self.shared.must_decide_here(stream)?;
        let (registry, stream, now) = (self.shared.registry.clone(), stream.clone(), self.shared.now());
        Ok(blocking(move || registry.revoke(&stream, user, permission, now)).await??)
    }

    /// Makes a stream readable by everybody (plaintext, still signed), or by subscribers only: then the very next message
    /// is encrypted. In the local registry; see [`Client::create_stream`] for when that counts.
    ///
    /// # Errors
    /// [`ClientError::Registry`]: no such stream; [`ClientError::DecidedElsewhere`].
    pub async fn set_public(&self, stream: &StreamId, public: bool) -> Result<(), ClientError> {
        self.shared.must_decide_here(stream)?;
        let (registry, stream, now) = (self.shared.registry.clone(), stream.clone(), self.shared.now());
        Ok(blocking(move || registry.set_public(&stream, public, now)).await??)
    }

    /// Says how far back the keys that this identity publishes the stream under are handed out, from the next request on. What
    /// was handed out stays handed out.
    ///
    /// # Errors
    /// [`ClientError::History`] when the store fails.
    pub async fn set_history(&self, stream: &StreamId, policy: HistoryPolicy) -> Result<(), ClientError> {
        let (history, stream) = (self.shared.history.clone(), stream.clone());
        Ok(blocking(move || history.set(&stream, policy)).await??)
    }

    /// How far back the keys of a stream are handed out.
    ///
    /// # Errors
    /// [`ClientError::History`] when the store fails; nothing is handed out then.
    pub async fn history(&self, stream: &StreamId) -> Result<HistoryPolicy, ClientError> {
        let (history, stream) = (self.shared.history.clone(), stream.clone());
        Ok(blocking(move || history.of(&stream)).await??)
    }

    /// Fetches the keys of `publisher` that were in use on the stream at any moment of `span`: from every device of his that is
    /// known, page by page, each page stored before the next is asked for. A fetch of the same span that was interrupted, or
    /// that did not get an answer from every device, goes on where it was. A device is one process of the publisher with a store of
    /// its own. Returns at once; see [`KeyFetch`] for what it tells
    /// and what dropping it does.
    ///
    /// # Errors
    /// [`ClientError::Backwards`] for a span that ends before it begins; [`ClientError::AgreedKeysOnly`] where nobody is asked for keys.
    pub fn fetch_keys(
        &self,
        stream: &StreamId,
        publisher: UserId,
        span: RangeInclusive<Timestamp>,
    ) -> Result<KeyFetch, ClientError> {
        let (from, to) = span.into_inner();
        if from > to {
            return Err(ClientError::Backwards { from, to });
        }
        if self.shared.agreed_only(stream) {
            return Err(ClientError::AgreedKeysOnly { stream: stream.clone() });
        }
        let range = TimeRange { from: from.as_millis(), to: to.as_millis() };
        Ok(fetching::start(&self.shared, stream.clone(), publisher, range))
    }

    /// Publishes to partition 0. See [`Client::publish_to`].
    ///
    /// # Errors
    /// As [`Client::publish_to`].
    pub async fn publish(&self, stream: &StreamId, payload: Payload) -> Result<MessageRef, ClientError> {
        self.publish_to(stream, Partition::default(), payload, None).await
    }

    /// Seals, signs and sends a message; returns once it is queued for the network, waiting while the queue is full.
    ///
    /// Where nobody takes part in the partition and no storage node keeps it, the message is lost: see
    /// [`wait_for_peers`](Self::wait_for_peers). `timestamp` dates the message otherwise than now; one ahead of the clock holds for all
    /// that follows in the partition until the clock gets there. Dropping the future before it is ready may leave a gap in the chain,
    /// which subscribers see as such.
    ///
    /// # Errors
    /// Nothing was sent: [`ClientError::NotPermitted`], [`ClientError::PayloadTooLarge`], [`ClientError::BackDated`], a
    /// partition that does not exist, or a store that cannot keep a new key.
    pub async fn publish_to(
        &self,
        stream: &StreamId,
        partition: Partition,
        payload: Payload,
        timestamp: Option<Timestamp>,
    ) -> Result<MessageRef, ClientError> {
        publishing::publish(&self.shared, stream, partition, payload, timestamp).await
    }

    /// Returns when everything published so far was handed to the network.
    pub async fn flush(&self) {
        self.shared.network.flush().await;
    }

    /// Returns when at least `n` connected peers take part in this partition, or the client was stopped. The caller adds the timeout.
    pub async fn wait_for_peers(&self, part: &StreamPart, n: usize) {
        self.shared.network.wait_for_peers(&part.topic(), n).await;
    }

    /// Subscribes to all partitions of a stream. Where the permission source does not know the stream, though its owner may, that
    /// is partition 0 alone.
    ///
    /// # Errors
    /// [`ClientError::NoStream`] where it is certain that there is none: the contract does not know it, or its owner is an ENS name
    /// that nothing here resolves; [`ClientError::Network`]; [`ClientError::NotPermitted`] while the permission source cannot be asked.
    pub async fn subscribe(&self, stream: &StreamId) -> Result<Subscription, ClientError> {
        let parts = self.parts_of(stream).await?;
        subscribing::subscribe(&self.shared, stream.clone(), parts, self.limits()).await
    }

    async fn parts_of(&self, stream: &StreamId) -> Result<Vec<StreamPart>, ClientError> {
        let (user, permission) = (self.user(), Permission::Subscribe);
        let refused = |refusal| ClientError::NotPermitted { user, stream: stream.clone(), permission, refusal };
        carrying::meet(&self.shared, stream).await;
        let count = match self.shared.stream_info(stream).await.map_err(refused)? {
            Some(info) => info.partitions,
            None if self.shared.is_nowhere(stream) => return Err(ClientError::NoStream { stream: stream.clone() }),
            None => 1,
        };
        Ok((0..count).map(|n| stream.part(n)).collect::<Result<Vec<_>, _>>()?)
    }

    /// Subscribes to one partition, also while the permission source cannot be asked.
    ///
    /// # Errors
    /// [`ClientError::NoStream`], [`ClientError::Network`].
    pub async fn subscribe_part(&self, part: &StreamPart) -> Result<Subscription, ClientError> {
        self.may_exist(part.stream()).await?;
        subscribing::subscribe(&self.shared, part.stream().clone(), vec![part.clone()], self.limits()).await
    }

    /// An error only where it is certain that there is no such stream.
    async fn may_exist(&self, stream: &StreamId) -> Result<(), ClientError> {
        if self.shared.is_nowhere(stream) && self.shared.stream_info(stream).await == Ok(None) {
            return Err(ClientError::NoStream { stream: stream.clone() });
        }
        Ok(())
    }

    /// Subscribes to a stream from the past on: first the stored messages that `replay` names, then what is published, without
    /// loss or repeat in between. [`Event::HistoryEnd`](crate::Event::HistoryEnd) stands where the one ends and the other
    /// begins. Where no storage node is known it says so, and live messages follow.
    ///
    /// # Errors
    /// As [`Client::subscribe`].
    pub async fn subscribe_from(&self, stream: &StreamId, replay: Replay) -> Result<Subscription, ClientError> {
        let parts = self.parts_of(stream).await?;
        subscribing::subscribe_from(&self.shared, stream.clone(), parts, replay, self.limits()).await
    }

    /// Reads stored messages alone: the subscription ends behind the last one, after
    /// [`Event::HistoryEnd`](crate::Event::HistoryEnd). Every answer of a storage node is checked; one that lies, leaves
    /// something out or goes away is told as [`Event::StorageFault`](crate::Event::StorageFault), and another is asked. Messages whose
    /// keys cannot be had are told by key, and the others follow. Partitions come one after the other.
    ///
    /// # Errors
    /// [`ClientError::NoStorage`] when no storage node of the stream is found; as [`Client::subscribe`].
    pub async fn resend(&self, stream: &StreamId, replay: Replay) -> Result<Subscription, ClientError> {
        let parts = self.parts_of(stream).await?;
        subscribing::resend(&self.shared, stream.clone(), parts, replay, self.limits()).await
    }

    /// [`Client::resend`] of one partition.
    ///
    /// # Errors
    /// As [`Client::resend`].
    pub async fn resend_part(&self, part: &StreamPart, replay: Replay) -> Result<Subscription, ClientError> {
        self.may_exist(part.stream()).await?;
        subscribing::resend(&self.shared, part.stream().clone(), vec![part.clone()], replay, self.limits()).await
    }

    /// [`Client::subscribe_from`] of one partition.
    ///
    /// # Errors
    /// As [`Client::subscribe_from`].
    pub async fn subscribe_part_from(&self, part: &StreamPart, replay: Replay) -> Result<Subscription, ClientError> {
        self.may_exist(part.stream()).await?;
        subscribing::subscribe_from(&self.shared, part.stream().clone(), vec![part.clone()], replay, self.limits())
            .await
    }

    /// [`Client::subscribe`] or, with a `replay`, [`Client::subscribe_from`]: one subscription to what the options say.
    ///
    /// # Errors
    /// As [`Client::subscribe`]; [`ClientError::StreamId`] for a partition that no stream has.
    pub async fn subscribe_with(
        &self,
        stream: &StreamId,
        replay: Option<Replay>,
        options: &ReadOptions,
    ) -> Result<Subscription, ClientError> {
        let (parts, limits) = (self.parts_told(stream, options).await?, options.limits(self.limits()));
        match replay {
            None => subscribing::subscribe(&self.shared, stream.clone(), parts, limits).await,
            Some(replay) => subscribing::subscribe_from(&self.shared, stream.clone(), parts, replay, limits).await,
        }
    }

    /// [`Client::resend`] of what the options say.
    ///
    /// # Errors
    /// As [`Client::resend`]; [`ClientError::StreamId`] for a partition that no stream has.
    pub async fn resend_with(
        &self,
        stream: &StreamId,
        replay: Replay,
        options: &ReadOptions,
    ) -> Result<Subscription, ClientError> {
        let (parts, limits) = (self.parts_told(stream, options).await?, options.limits(self.limits()));
        subscribing::resend(&self.shared, stream.clone(), parts, replay, limits).await
    }

    async fn parts_told(&self, stream: &StreamId, options: &ReadOptions) -> Result<Vec<StreamPart>, ClientError> {
        let Some(numbers) = &options.partitions else { return self.parts_of(stream).await };
        if numbers.is_empty() {
            return Err(ClientError::Config("a subscription to no partition brings nothing, ever".into()));
        }
        self.may_exist(stream).await?;
        Ok(numbers.iter().map(|number| stream.part(*number)).collect::<Result<_, _>>()?)
    }

    fn limits(&self) -> IntakeLimits {
        self.shared.config.intake
    }

    /// Reads one archived message: checks its signature and author's permission, finds its key here or asks for it.
    ///
    /// # Errors
    /// [`ClientError::Refused`] when the key is refused, [`ClientError::WrongKey`], [`ClientError::KeyUnavailable`],
    /// [`ClientError::Wire`] for bytes that are no message.
    pub async fn open(&self, envelope: Bytes) -> Result<Message, ClientError> {
        opening::open(&self.shared, envelope).await
    }

    /// Changes the key of a stream that this identity publishes: `Rotate` for later (nobody re-checked), `Rekey` at once
    /// (everybody re-checked). Without a key a random one is made.
    ///
    /// A rekey returns once everybody in the grant ledger confirmed the key, was refused it, or let `push_timeout` pass. The
    /// key is current long before that. Dropping the future calls nothing off: the client goes on by itself.
    ///
    /// # Errors
    /// [`ClientError::GrantEnded`]: rotate would hand the next key to somebody whose grant ended since the last rekey.
    /// [`ClientError::Store`] also when a rekey made the key current but cannot read who holds the one before.
    pub async fn update_encryption_key(
        &self,
        stream: &StreamId,
        method: KeyUpdateMethod,
        key: Option<GroupKey>,
    ) -> Result<UpdateReport, ClientError> {
        updating::update(&self.shared, stream, method, key, false).await
    }

    /// Rotates although somebody whose grant ended will read on: whoever ended until now does, until the next rekey, whatever
    /// [`ClientConfig::rekey_on_end`] says. An end that comes later is a reason for one, and shuts all of them out. Dropping the
    /// future calls nothing off.
    ///
    /// # Errors
    /// [`ClientError::NotPermitted`] or a store that fails; then nobody was let.
    pub async fn rotate_regardless(
        &self,
        stream: &StreamId,
        key: Option<GroupKey>,
    ) -> Result<UpdateReport, ClientError> {
        updating::update(&self.shared, stream, KeyUpdateMethod::Rotate, key, true).await
    }

    /// What a rekey or a rotate of a stream would do now, and to whom. Changes no key and tells nobody. Dropping the future loses
    /// nothing.
    ///
    /// # Errors
    /// What [`update_encryption_key`](Self::update_encryption_key) would fail with, but for
    /// [`ClientError::GrantEnded`]; and [`ClientError::NotPermitted`] while the permission source cannot tell who subscribes.
    pub async fn forecast_update(&self, stream: &StreamId) -> Result<UpdateForecast, ClientError> {
        forecasting::forecast(&self.shared, stream).await
    }

    /// Lets the key that this client uses on a stream change by itself from now on, also after a restart.
    ///
    /// Each key seals exactly as many messages as the policy says, in all partitions together: the last one carries the next
    /// key. What is counted in time counts from the moment the key became current. A change by hand starts both anew. After
    /// a crash a key may seal up to an eighth fewer. A key whose messages nobody counted, because there was no policy when
    /// this client began, is replaced at once. Where a grant ended since the last rekey, a rotate that is due is a rekey. A
    /// pre-agreed key is never replaced.
    ///
    /// # Errors
    /// [`ClientError::Store`] and [`ClientError::Stopped`]; then the policy is what it was.
    pub async fn set_key_policy(&self, stream: &StreamId, policy: KeyPolicy) -> Result<(), ClientError> {
        let (worker, stream) = (self.shared.clone(), stream.clone());
        self.shared.to_its_end(async move { worker.set_key_policy(&stream, policy).await }).await
    }

    /// The policy of [`Client::set_key_policy`]; where there is none, the default, which is never.
    ///
    /// # Errors
    /// [`ClientError::Store`].
    pub async fn key_policy(&self, stream: &StreamId) -> Result<KeyPolicy, ClientError> {
        let (store, stream) = (self.shared.store.clone(), stream.clone());
        Ok(blocking(move || KeyPolicy::load(&*store, &stream)).await??)
    }

    /// Who was given keys of a stream by this client, now or in an earlier run, and was not refused since. From the grant
    /// ledger in the store; at most 65,536, in the order of addresses.
    ///
    /// # Errors
    /// [`ClientError::Store`].
    pub async fn holders(&self, stream: &StreamId) -> Result<Vec<Holder>, ClientError> {
        self.shared.holders.all(stream).await
    }

    /// The same with those who were refused since, and read on with what they have.
    ///
    /// # Errors
    /// [`ClientError::Store`].
    pub async fn recipients(&self, stream: &StreamId) -> Result<Vec<Holder>, ClientError> {
        self.shared.holders.recipients(stream).await
    }

    /// Which keys of a stream a user was given by this client, when and under which grant, also if it was refused since. At
    /// most the newest 256.
    ///
    /// # Errors
    /// [`ClientError::Store`].
    pub async fn given_keys(&self, stream: &StreamId, user: UserId) -> Result<Vec<GivenKey>, ClientError> {
        self.shared.holders.given_keys(stream, user).await
    }

    /// Puts a pre-agreed key in by hand: messages of `publisher` under it open without any request. It is never handed
    /// out to others.
    ///
    /// # Errors
    /// [`ClientError::Store`], also when there is another key of this id.
    pub async fn add_encryption_key(
        &self,
        key: &GroupKey,
        publisher: UserId,
        stream: &StreamId,
    ) -> Result<(), ClientError> {
        let (shared, stream, key) = (self.shared.clone(), stream.clone(), key.clone());
        self.shared.to_its_end(async move { shared.add_pre_agreed(publisher, &stream, key).await }).await
    }

    /// Puts a key into the ring of a prefix: it opens messages of every publisher on every stream that the ring decides
    /// about, see [`key_ring`]. Which key seals stays as it is.
    ///
    /// # Errors
    /// [`ClientError::Ring`], also when the ring has another key of this id.
    pub async fn add_ring_key(&self, prefix: &RingPrefix, key: &GroupKey) -> Result<(), ClientError> {
        let (ring, key, now) = (prefix.clone(), key.clone(), self.shared.now().as_millis());
        self.shared.change_ring(prefix, move |shared| Ok(key_ring::add(&*shared.store, &ring, &key, now)?)).await
    }

    /// Lets a key of a ring seal what this client publishes, from the next message on, on every stream that the ring decides
    /// about. Add it on the readers' side first.
    ///
    /// # Errors
    /// [`ClientError::Ring`]: it is not in the ring.
    pub async fn use_ring_key(&self, prefix: &RingPrefix, key_id: &KeyId) -> Result<(), ClientError> {
        let (ring, id, now) = (prefix.clone(), key_id.clone(), self.shared.now().as_millis());
        self.shared.change_ring(prefix, move |shared| key_ring::make_current(&*shared.store, &ring, &id, now)).await
    }

    /// Takes a key out of a ring: what is under it opens no more. The key in use goes last, and with it the ring.
    ///
    /// # Errors
    /// [`ClientError::Ring`]: it is not in the ring, or in use.
    pub async fn remove_ring_key(&self, prefix: &RingPrefix, key_id: &KeyId) -> Result<(), ClientError> {
        let (ring, id) = (prefix.clone(), key_id.clone());
        self.shared.change_ring(prefix, move |shared| key_ring::remove(&*shared.store, &ring, &id)).await
    }

    /// The signed head of the [audit log](crate::audit), which covers everything given and refused so far; `None` before the
    /// first. Whoever keeps it can tell later whether the log still holds what it held.
    ///
    /// # Errors
    /// [`ClientError::Audit`].
    pub async fn audit_head(&self) -> Result<Option<Verified<AuditHead>>, ClientError> {
        self.shared.audit.head().await
    }

    /// Checks the whole audit log, and that it still holds what it held when `kept` was signed. Takes as long as reading it;
    /// answers go on meanwhile. `None`: there is no log yet.
    ///
    /// # Errors
    /// [`ClientError::Audit`] with the first thing that is wrong.
    pub async fn verify_audit(&self, kept: Option<AuditHead>) -> Result<Option<AuditReport>, ClientError> {
        self.shared.audit.verify(kept).await
    }

    /// Entries of the audit log after a sequence number (0: from the first one kept), at most `limit`, unchecked: for looking on.
    ///
    /// # Errors
    /// [`ClientError::Audit`].
    pub async fn audit_entries(&self, after: u64, limit: usize) -> Result<Vec<LoggedEntry>, ClientError> {
        self.shared.audit.read(after, limit).await
    }

    /// The audit log that this client writes, with everything given and refused so far in it: for reading it whole, and for
    /// [beginning anew](AuditLog::begin_anew). Nothing but this client may append to it. Dropping the future leaves what was waiting to
    /// be written where it was.
    pub async fn audit_log(&self) -> Arc<AuditLog> {
        self.shared.audit.log().await
    }

    /// Counters since the start.
    pub fn stats(&self) -> Stats {
        self.shared.counters.snapshot()
    }

    /// Leaves politely: queued messages are sent, connections closed, ports freed. Subscriptions end. Dropping the future leaves it
    /// half stopped; call it again.
    pub async fn stop(&self) {
        self.shared.stop().await;
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("user", &self.shared.user).finish_non_exhaustive()
    }
}
