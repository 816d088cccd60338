//! The registry on a chain: the real contract on a real node, a fresh chain for each test.
//!
//! `scripts/chain-tools` gets node and contract; without them these tests fail and say so.

#![allow(unreachable_pub, reason = "one test, of several files")]
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod anvil;
mod between;
#[cfg(feature = "p2p")]
mod enforcing;
mod faults;
mod following;
#[cfg(feature = "p2p")]
mod nowhere;
mod reading;
mod selling;
mod writing;

use std::sync::Arc;
use std::time::Duration;

use anvil::{Chain, Entry};
use veilcast::permission::ethereum::{ChainConfig, ChainError, Deployment, EthereumRegistry, RegistryBuilder};
use veilcast::time::ManualClock;
use veilcast::{Grant, Period, Permission, Refusal, StreamId, Timestamp, UserId};

const MAX_HEAD_AGE: Duration = Duration::from_secs(400);

/// The newest block's grants count, so that a test says itself what is confirmed.
fn config() -> ChainConfig {
    let mut config = ChainConfig::default();
    config.confirmations = 0;
    config.call_deadline = Duration::from_secs(20);
    // A block's time goes on with the machine's while a test works.
    config.max_head_age = MAX_HEAD_AGE;
    config
}

fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn user(byte: u8) -> UserId {
    UserId::from_bytes([byte; 20])
}

fn until(permission: Permission, secs: u64) -> Result<Grant, Refusal> {
    Ok(Grant::new(permission, Period::until(at(secs))))
}

fn for_ever(permission: Permission) -> Result<Grant, Refusal> {
    Ok(Grant::new(permission, Period::ALWAYS))
}

impl Chain {
    fn deployment(&self) -> Deployment {
        Deployment::at(self.contract.0).on_chain(Self::ID)
    }

    fn builder(&self, config: ChainConfig) -> RegistryBuilder {
        EthereumRegistry::builder(self.deployment()).config(config)
    }

    fn registry(&self) -> EthereumRegistry {
        self.builder(config()).rpc(&self.url).build().unwrap()
    }

    /// A registry that reads the time from a clock standing at the newest block.
    async fn registry_in_time(&self) -> EthereumRegistry {
        let clock = Arc::new(ManualClock::at(at(self.head().await.1)));
        self.builder(config()).rpc(&self.url).clock(clock).build().unwrap()
    }

    /// What the registry says at the moment of the newest block.
    async fn ask(
        &self,
        registry: &EthereumRegistry,
        stream: &StreamId,
        user: UserId,
    ) -> Result<Result<Grant, Refusal>, ChainError> {
        let now = at(self.head().await.1);
        registry.ask(stream, user, Permission::Subscribe, now).await
    }

    /// Gives a user SUBSCRIBE until then.
    async fn sell(&self, stream: &StreamId, user: UserId, until: u64) {
        self.set(stream, user, Entry { subscribe: until.into(), ..Entry::default() }).await;
    }
}
