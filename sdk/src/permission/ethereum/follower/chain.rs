//! The chain as the follower reads it: over the registry's endpoints.

use std::sync::Arc;
use std::time::Duration;

use crate::identity::UserId;
use crate::permission::Answer;
use crate::permission::ethereum::events::{Asked, TOPICS};
use crate::permission::ethereum::index::{Block, Held, LogSource, SourceError, Span};
use crate::permission::ethereum::reading::{self, Depth};
use crate::permission::ethereum::rpc::{self, ChainError, Rpc, RpcFault, Trusted};
use crate::stream::StreamId;
use crate::time::Clock;

/// Blocks and events from endpoints.
pub(in super::super) struct ChainSource {
    pub(in super::super) rpc: Arc<Rpc>,
    pub(in super::super) clock: Arc<dyn Clock>,
    pub(in super::super) depth: Depth,
    /// How many endpoints must say the same of an entry.
    pub(in super::super) agreement: usize,
    /// How long a call for logs may take.
    pub(in super::super) deadline: Duration,
    pub(in super::super) contract: UserId,
}

impl LogSource for ChainSource {
    fn chain_id(&self) -> Answer<'_, Result<u64, SourceError>> {
        Box::pin(async move {
            if let Some(id) = self.rpc.chain_id() {
                return Ok(id);
            }
            Ok(self.rpc.first(async |endpoint| Ok(endpoint.chain_id())).await?)
        })
    }

    fn head(&self) -> Answer<'_, Result<Block, SourceError>> {
        Box::pin(async move {
            let now = self.clock.now();
            Ok(self.rpc.first(|endpoint| reading::fresh_head(endpoint, now, self.depth)).await?.into())
        })
    }

    fn block(&self, number: u64) -> Answer<'_, Result<Option<Block>, SourceError>> {
        Box::pin(async move {
            let found = self.rpc.first_that_can(async |endpoint| endpoint.block(number).await).await?;
            Ok(found.map(Block::from))
        })
    }

    fn span(&self, from: u64, to: u64) -> Answer<'_, Result<Span, SourceError>> {
        Box::pin(async move { self.rpc.first_that_can(|endpoint| self.span_of(endpoint, from, to)).await? })
    }

    fn held<'a>(&'a self, stream: &'a StreamId, user: UserId, block: u64) -> Answer<'a, Result<Held, SourceError>> {
        Box::pin(async move {
            let held = self.rpc.agreed(self.agreement, |endpoint| reading::held(endpoint, stream, user, block));
            Ok(held.await?)
        })
    }
}

impl ChainSource {
    /// The inner error is about what the endpoint said, the outer one about its saying nothing.
    async fn span_of(&self, endpoint: Trusted<'_>, from: u64, to: u64) -> Result<Result<Span, SourceError>, RpcFault> {
        let missing = Ok(Err(SourceError::NoBlock { number: to }));
        let Some(tip) = endpoint.block(to).await?.map(Block::from) else { return missing };
        let logs = endpoint.logs((from, to), &TOPICS.all(), self.deadline).await?;
        // Logs are asked for by number: between the two calls the number may have become another block's.
        if endpoint.block(to).await?.map(Block::from) != Some(tip) {
            return missing;
        }
        let asked = Asked { contract: self.contract, from, to, tip: tip.hash };
        Ok(asked.read(&logs).map(|events| Span { tip, events }).map_err(SourceError::from))
    }
}

impl From<rpc::Block> for Block {
    fn from(block: rpc::Block) -> Self {
        Self { number: block.number, hash: block.hash.0, time: block.timestamp }
    }
}

impl From<ChainError> for SourceError {
    fn from(error: ChainError) -> Self {
        Self::Unavailable { text: error.to_string() }
    }
}
