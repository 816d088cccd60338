//! The contract on a chain, written with the owner's account; somebody whom the owner lets publishes and follows its events.

#[path = "../chain/anvil.rs"]
#[allow(dead_code, reason = "this test uses some of it")]
mod anvil;

use std::sync::Arc;
use std::time::Duration;

use anvil::Chain;
use serde_json::json;
use veilcast::key_store::MemoryKeyStore;
use veilcast::permission::PermissionSource;
use veilcast::permission::ethereum::{
    Action, ChainConfig, Deployment, EthereumRegistry, FollowConfig, RegistryBuilder,
};
use veilcast::time::ManualClock;
use veilcast::{Period, Permission, StreamId, Timestamp, UserId};

use crate::suite::Desk;
use crate::support::identity;

/// How far the chain's first block is behind the publisher's clock, seconds: time passes at both when the test says so only.
const BEHIND: u64 = 1000;

struct OnChain {
    chain: Chain,
    clock: Arc<ManualClock>,
    registry: Arc<EthereumRegistry>,
    stream: StreamId,
}

impl OnChain {
    async fn act(&self, action: Action) {
        let account = self.registry.account(identity(1));
        account.quote(action).await.unwrap().send().await.unwrap().receipt().await.unwrap();
        self.registry.look_now().await;
    }
}

fn registry(chain: &Chain) -> RegistryBuilder {
    let mut config = ChainConfig::default();
    config.confirmations = 0;
    config.call_deadline = Duration::from_secs(20);
    config.max_head_age = Duration::from_secs(1_000_000);
    let deployment = Deployment::at(chain.contract.0).on_chain(Chain::ID);
    EthereumRegistry::builder(deployment).config(config).rpc(&chain.url)
}

impl Desk for OnChain {
    const PUBLISHER: u8 = 8;

    async fn open(now: Timestamp) -> Self {
        let chain = Chain::start_at(now.as_secs() - BEHIND).await;
        // Not by the machine's clock: each block is a second after the last.
        chain.rpc("anvil_setBlockTimestampInterval", json!([1])).await;
        let (owner, publisher) = (identity(1).user(), identity(Self::PUBLISHER).user());
        chain.give(owner, 1_000_000_000_000_000_000).await;
        let (clock, stream) = (Arc::new(ManualClock::at(now)), StreamId::of(owner, "s").unwrap());
        let mut follow = FollowConfig::default();
        follow.poll = Duration::from_millis(50);
        let registry = registry(&chain).clock(clock.clone()).build().unwrap();
        let registry = Arc::new(registry.follow(Arc::new(MemoryKeyStore::default()), follow));
        let desk = Self { chain, clock, registry, stream };
        desk.act(Action::CreateStream { path: "s".into(), partitions: 1 }).await;
        desk.grant(publisher, Permission::Publish, Period::ALWAYS, now).await;
        desk
    }

    fn stream(&self) -> &StreamId {
        &self.stream
    }

    fn source(&self) -> Arc<dyn PermissionSource> {
        self.registry.clone()
    }

    /// Asks, and follows nothing.
    fn readers_source(&self, _: UserId) -> Arc<dyn PermissionSource> {
        Arc::new(registry(&self.chain).build().unwrap())
    }

    async fn grant(&self, user: UserId, permission: Permission, period: Period, _: Timestamp) {
        self.act(Action::Grant { stream: self.stream.clone(), user, permission, period }).await;
    }

    async fn revoke(&self, user: UserId, _: Timestamp) {
        let permission = Permission::Subscribe;
        self.act(Action::Revoke { stream: self.stream.clone(), user, permission }).await;
    }

    async fn set_public(&self, public: bool, _: Timestamp) {
        self.act(Action::SetPublic { stream: self.stream.clone(), public }).await;
    }

    async fn pass(&self, now: Timestamp) {
        // A block's time is in whole seconds, each later than the last.
        if self.chain.head().await.1 < now.as_secs() {
            self.chain.mine_at(now.as_secs()).await;
        }
        self.clock.set(now);
    }
}

every_rule!(OnChain);
