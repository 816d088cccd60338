//! Permissions on a chain: the StreamRegistry contract of the Streamr network, asked by JSON-RPC.
//!
//! ```no_run
//! use std::sync::Arc;
//! use veilcast::key_store::MemoryKeyStore;
//! use veilcast::permission::ethereum::{EthereumRegistry, FollowConfig};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let registry = EthereumRegistry::builder("polygon".parse()?)
//!     .rpc("https://rpc.example/v2/KEY") // asked first
//!     .rpc("https://other.example")      // asked while the first one fails
//!     .build()?;
//! // Who publishes must learn of ends and revocations, and the contract has no list: its events are read into the store.
//! let store = Arc::new(MemoryKeyStore::default());
//! let registry = registry.follow(store.clone(), FollowConfig::default());
//! # Ok(()) }
//! ```
//!
//! What a node says is a claim. The endpoint must be on the right chain and at the present; a grant must hold at the newest block and
//! some blocks below it, by the block's time and by our clock. Whatever cannot be told is [`Refusal::Unavailable`]. Who has
//! which permission is the contract's word alone: it gives the maker of a stream all of them, and he can give them away.

mod abi;
mod events;
mod expiration;
mod follower;
mod index;
mod networks;
mod reading;
mod rpc;
mod write;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use veilcast_key_store::RecordStore;

pub use self::events::EventFault;
use self::follower::{ChainSource, Follower};
pub use self::follower::{FollowConfig, Progress, Trouble};
pub use self::index::{IndexError, SourceError};
pub use self::networks::{Deployment, DeploymentError};
use self::reading::{Depth, Question};
use self::rpc::{CallLimits, Rpc, RpcSetupError};
pub use self::rpc::{ChainError, EndpointFault, RpcFault, UrlError};
use self::write::Desk;
pub use self::write::{Account, Action, Quote, Receipt, Sent, WriteError};
use super::{Answer, Grant, Permission, PermissionSource, Refusal, StreamInfo, Subscriber};
use crate::identity::{Identity, UserId};
use crate::metrics::Registry;
use crate::stream::StreamId;
use crate::time::{Clock, SystemClock, Timestamp};

/// What an asker is told to wait when the chain cannot be asked.
const RETRY: Duration = Duration::from_secs(5);

/// How the chain is read. The default suits Polygon.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct ChainConfig {
    /// How many blocks lie on top of the one whose grants count. What is taken back counts at once.
    pub confirmations: u64,
    /// How far the time of an endpoint's newest block may be from the clock, before or after it.
    pub max_head_age: Duration,
    /// How long one call may take. A client waits five seconds for an answer, which may need four calls.
    pub call_deadline: Duration,
    /// How long an endpoint that failed is left alone.
    pub rest: Duration,
    /// How many endpoints must say the same about a grant; where they disagree it is refused.
    pub agreement: usize,
    /// The most that one transaction may cost, wei: endpoints say what gas costs. Without it what suits the network: 5 POL, 10 PEAQ,
    /// 100 IOTX, and a fifth of a coin on a chain that has no name here.
    pub max_cost: Option<u128>,
}

impl Default for ChainConfig {
    fn default() -> Self {
        Self {
            confirmations: 12,
            max_head_age: Duration::from_secs(60),
            call_deadline: Duration::from_secs(2),
            rest: Duration::from_secs(10),
            agreement: 1,
            max_cost: None,
        }
    }
}

/// Sets an [`EthereumRegistry`] up.
pub struct RegistryBuilder {
    deployment: Deployment,
    urls: Vec<String>,
    config: ChainConfig,
    clock: Arc<dyn Clock>,
}

impl RegistryBuilder {
    /// An endpoint, `http://` or `https://`; may be called several times. They are asked in this order.
    pub fn rpc(mut self, url: impl Into<String>) -> Self {
        self.urls.push(url.into());
        self
    }

    /// Settings other than the recommended ones.
    pub fn config(mut self, config: ChainConfig) -> Self {
        self.config = config;
        self
    }

    /// Where the time is read for what is asked without one. Without it the machine's clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The registry. Nobody is asked yet; [`EthereumRegistry::verify`] does.
    ///
    /// # Errors
    /// [`RegistrySetupError`].
    pub fn build(self) -> Result<EthereumRegistry, RegistrySetupError> {
        let limits = CallLimits { deadline: self.config.call_deadline, rest: self.config.rest };
        let rpc = Rpc::new(self.deployment, &self.urls, limits).map_err(|error| match error {
            RpcSetupError::Url(error) => RegistrySetupError::Url(error),
            RpcSetupError::Tls(error) => RegistrySetupError::Tls(error),
        })?;
        let (agreement, endpoints) = (self.config.agreement, rpc.endpoints());
        if agreement == 0 || agreement > endpoints {
            return Err(RegistrySetupError::Endpoints { needed: agreement.max(1), endpoints });
        }
        let Self { deployment, config, clock, .. } = self;
        Ok(EthereumRegistry { rpc: Arc::new(rpc), config, deployment, clock, desk: Desk::default(), follower: None })
    }
}

/// The StreamRegistry contract as a source of permissions.
pub struct EthereumRegistry {
    rpc: Arc<Rpc>,
    config: ChainConfig,
    deployment: Deployment,
    clock: Arc<dyn Clock>,
    desk: Desk,
    follower: Option<Follower>,
}

impl EthereumRegistry {
    /// The registry of this deployment, once it is told where to ask.
    pub fn builder(deployment: Deployment) -> RegistryBuilder {
        let (config, clock) = (ChainConfig::default(), Arc::new(SystemClock));
        RegistryBuilder { deployment, urls: Vec::new(), config, clock }
    }

    /// Which contract.
    pub fn deployment(&self) -> Deployment {
        match self.rpc.chain_id() {
            Some(id) => self.deployment.on_chain(id),
            None => self.deployment,
        }
    }

    /// Looks whether an endpoint is there that is on the right chain, at the present, and has the contract. Dropping the future gives
    /// it up.
    ///
    /// # Errors
    /// [`ChainError`] says what is wrong with each endpoint.
    pub async fn verify(&self) -> Result<(), ChainError> {
        let (now, depth) = (self.clock.now(), self.depth());
        self.rpc.first(|endpoint| reading::fresh_head(endpoint, now, depth)).await.map(drop)
    }

    /// Whether `user` holds `permission` on `stream` at `now`, and why the chain cannot tell. Dropping the future gives it up.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn ask(
        &self,
        stream: &StreamId,
        user: UserId,
        permission: Permission,
        now: Timestamp,
    ) -> Result<Result<Grant, Refusal>, ChainError> {
        let question = Question { stream, user, permission, now, depth: self.depth() };
        self.rpc.agreed(self.config.agreement, |endpoint| question.ask(endpoint)).await
    }

    /// What is known about `stream` at `now`, `None` when there is none, and why the chain cannot tell. Dropping the future gives it
    /// up.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn stream_info(&self, stream: &StreamId, now: Timestamp) -> Result<Option<StreamInfo>, ChainError> {
        let depth = self.depth();
        let asked =
            self.rpc.agreed(self.config.agreement, |endpoint| reading::stream_info(endpoint, stream, now, depth));
        let mut info = asked.await?;
        if let (Some(info), Some(follower)) = (&mut info, &self.follower) {
            info.public_until = info.public_until.max(follower.public_until(stream, now));
        }
        Ok(info)
    }

    /// Follows the contract's events from now on, and keeps an index of them in `records`, so that [`PermissionSource::subscribers`]
    /// has an answer: the contract itself has no list. Goes on where the index in the store ends. Ends with [`Self::stop`], or when
    /// the registry is dropped.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn follow(mut self, records: Arc<dyn RecordStore>, config: FollowConfig) -> Self {
        let contract = UserId::from_bytes(*self.deployment.address());
        let source = ChainSource {
            rpc: self.rpc.clone(),
            clock: self.clock.clone(),
            depth: self.depth(),
            agreement: self.config.agreement,
            deadline: config.deadline,
            contract,
        };
        // One endpoint that hangs must not use up the time of the others.
        let endpoints = u32::try_from(self.rpc.endpoints()).unwrap_or(u32::MAX);
        let config = FollowConfig { deadline: config.deadline.saturating_mul(endpoints.saturating_add(1)), ..config };
        let first = config.first_block.unwrap_or_else(|| self.deployment.first_block());
        let depth = (first, self.config.confirmations);
        self.follower = Some(Follower::start(Arc::new(source), records, contract, depth, config));
        self
    }

    /// Lists a stream's subscribers from now on: the first [`PermissionSource::subscribers`] of a stream does the same. Nothing
    /// where the contract is not [followed](Self::follow).
    pub fn watch(&self, stream: &StreamId) {
        if let Some(follower) = &self.follower {
            follower.watch(stream);
        }
    }

    /// Streams whose subscribers are listed, of earlier runs on the same store, too: at most 4096, and nothing where the contract is not
    /// [followed](Self::follow). The contract itself has no list of streams.
    pub fn watched(&self) -> Vec<StreamId> {
        self.follower.as_ref().map(Follower::watched).unwrap_or_default()
    }

    /// How many blocks lie on top of the one whose grants count.
    pub const fn confirmations(&self) -> u64 {
        self.config.confirmations
    }

    /// How far the contract's events were read; `None` where it is not [followed](Self::follow).
    pub fn progress(&self) -> Option<Progress> {
        self.follower.as_ref().map(Follower::progress)
    }

    /// What was wrong when the contract's events were last read; `None` where nothing was.
    pub fn trouble(&self) -> Option<Arc<Trouble>> {
        self.follower.as_ref()?.trouble()
    }

    /// Reads the contract's events without waiting for the next time. Returns when a look that began after the call is over.
    /// Dropping the future calls nothing off.
    pub async fn look_now(&self) {
        if let Some(follower) = &self.follower {
            follower.look_now().await;
        }
    }

    /// Follows the contract no more; when this returns the store is let go of. Dropping the future calls nothing off.
    pub async fn stop(&self) {
        if let Some(follower) = &self.follower {
            follower.stop().await;
        }
    }

    /// What the contract's events add to its answer: since when the user has had this without a break.
    fn with_history(&self, stream: &StreamId, user: UserId, grant: Grant, now: Timestamp) -> Grant {
        let known = self.follower.as_ref().and_then(|follower| follower.grant(stream, user, grant.permission));
        match known.filter(|known| known.holds_at(now).is_ok()) {
            Some(known) => Grant { began: known.began, before: known.before, ..grant },
            None => grant,
        }
    }

    /// The identity's account: for making streams, granting and revoking.
    pub fn account(&self, identity: Identity) -> Account<'_> {
        Account::new(self, identity)
    }

    fn depth(&self) -> Depth {
        let ChainConfig { confirmations, max_head_age, .. } = self.config;
        Depth { confirmations, max_head_age, retry: RETRY }
    }
}

impl fmt::Debug for EthereumRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EthereumRegistry")
            .field("deployment", &self.deployment)
            .field("rpc", &self.rpc)
            .finish_non_exhaustive()
    }
}

/// Cannot tell is a refusal, and says when to ask again.
fn unavailable(error: ChainError) -> Refusal {
    tracing::warn!(%error, "the chain cannot tell about a permission");
    Refusal::Unavailable { retry_after: RETRY }
}

impl PermissionSource for EthereumRegistry {
    fn check<'a>(
        &'a self,
        stream: &'a StreamId,
        user: UserId,
        permission: Permission,
        now: Timestamp,
    ) -> Answer<'a, Result<Grant, Refusal>> {
        Box::pin(async move {
            let grant = self.ask(stream, user, permission, now).await.map_err(unavailable)??;
            Ok(self.with_history(stream, user, grant, now))
        })
    }

    fn subscribers<'a>(&'a self, stream: &'a StreamId) -> Answer<'a, Result<Vec<Subscriber>, Refusal>> {
        Box::pin(async move {
            match &self.follower {
                Some(follower) => follower.subscribers(stream).await,
                // The contract keeps no list.
                None => Err(Refusal::Unavailable { retry_after: RETRY }),
            }
        })
    }

    fn stream<'a>(&'a self, stream: &'a StreamId) -> Answer<'a, Result<Option<StreamInfo>, Refusal>> {
        self.stream_at(stream, self.clock.now())
    }

    fn stream_at<'a>(
        &'a self,
        stream: &'a StreamId,
        now: Timestamp,
    ) -> Answer<'a, Result<Option<StreamInfo>, Refusal>> {
        Box::pin(async move { self.stream_info(stream, now).await.map_err(unavailable) })
    }

    fn knows_every_stream(&self) -> bool {
        true
    }

    fn kind(&self) -> &'static str {
        "ethereum"
    }

    fn register(&self, registry: &mut Registry) {
        self.rpc.register(registry);
    }

    fn changes(&self) -> u64 {
        self.follower.as_ref().map_or(0, Follower::changes)
    }
}

/// Why there is no registry.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistrySetupError {
    /// A URL that is none.
    #[error(transparent)]
    Url(#[from] UrlError),
    /// Too few different endpoints.
    #[error("{needed} different RPC endpoints are needed, {endpoints} given")]
    Endpoints {
        /// How many must agree.
        needed: usize,
        /// How many there are.
        endpoints: usize,
    },
    /// This machine trusts no certificates.
    #[error("the certificates that this machine trusts cannot be read: {0}")]
    Tls(#[source] std::io::Error),
}
