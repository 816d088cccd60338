//! The chain as the follower reads it: over the registry's endpoints.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::identity::UserId;
use crate::permission::Answer;
use crate::permission::ethereum::events::{Asked, TOPICS};
use crate::permission::ethereum::index::{Block, Held, LogSource, Placed, Position, SourceError, Span};
use crate::permission::ethereum::reading::{self, Depth};
use crate::permission::ethereum::rpc::{self, ChainError, Rpc, RpcFault, Trusted};
use crate::stream::StreamId;
use crate::time::Clock;

/// Blocks and events from endpoints.
pub(in super::super) struct ChainSource {
    pub(in super::super) rpc: Arc<Rpc>,
    pub(in super::super) clock: Arc<dyn Clock>,
    pub(in super::super) depth: Depth,
    /// How many endpoints must say the same of an entry; events are read from as many, and what one of them tells counts.
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
            if self.agreement <= 1 {
                let head = self.rpc.first_that_can(|endpoint| reading::fresh_head(endpoint, now, self.depth));
                return Ok(head.await?.into());
            }
            // What all of them have: no two endpoints are at the same block.
            let ask = |endpoint| reading::fresh_head(endpoint, now, self.depth);
            let heads = self.rpc.several_that_can(self.agreement, ask).await?;
            let lowest = heads.into_iter().min_by_key(|head| head.number);
            lowest.map(Block::from).ok_or(SourceError::Unavailable { text: "no endpoint was asked".into() })
        })
    }

    fn block(&self, number: u64) -> Answer<'_, Result<Option<Block>, SourceError>> {
        Box::pin(async move {
            let found = self.rpc.first_that_can(async |endpoint| endpoint.block(number).await).await?;
            Ok(found.map(Block::from))
        })
    }

    fn span(&self, from: u64, to: u64) -> Answer<'_, Result<Span, SourceError>> {
        Box::pin(async move {
            let ask = |endpoint| self.span_of(endpoint, from, to);
            if self.agreement <= 1 {
                return self.rpc.first_that_can(ask).await.map_err(of_span);
            }
            together(self.rpc.several_that_can(self.agreement, ask).await.map_err(of_span)?, to)
        })
    }

    fn held<'a>(&'a self, stream: &'a StreamId, user: UserId, block: u64) -> Answer<'a, Result<Held, SourceError>> {
        Box::pin(async move {
            let held = self.rpc.agreed(self.agreement, |endpoint| reading::held(endpoint, stream, user, block));
            Ok(held.await?)
        })
    }
}

impl ChainSource {
    async fn span_of(&self, endpoint: Trusted<'_>, from: u64, to: u64) -> Result<Span, RpcFault> {
        let missing = RpcFault::NoBlock { number: to };
        let tip = endpoint.block(to).await?.map(Block::from).ok_or(missing.clone())?;
        let logs = endpoint.logs((from, to), &TOPICS.all(), self.deadline).await?;
        // Logs are asked for by number: between the two calls the number may have become another block's.
        if endpoint.block(to).await?.map(Block::from) != Some(tip) {
            return Err(missing);
        }
        let events = Asked { contract: self.contract, from, to, tip: tip.hash }.read(&logs)?;
        Ok(Span { tip, events })
    }
}

/// What several endpoints told of the same blocks: an event that one of them leaves out is another's to tell.
fn together(spans: Vec<Span>, to: u64) -> Result<Span, SourceError> {
    let mut tip = None;
    let mut events: BTreeMap<Position, Placed> = BTreeMap::new();
    for span in spans {
        if *tip.get_or_insert(span.tip) != span.tip {
            return Err(SourceError::NoBlock { number: to });
        }
        for placed in span.events {
            let known = events.entry(placed.at).or_insert_with(|| placed.clone());
            if known.event != placed.event {
                let text = format!("the endpoints disagree about an event in block {}", placed.at.block);
                return Err(SourceError::Unavailable { text });
            }
            known.time = known.time.or(placed.time);
        }
    }
    let tip = tip.ok_or(SourceError::NoBlock { number: to })?;
    Ok(Span { tip, events: events.into_values().collect() })
}

impl From<rpc::Block> for Block {
    fn from(block: rpc::Block) -> Self {
        Self { number: block.number, hash: block.hash.0, time: block.timestamp }
    }
}

/// What went wrong with every endpoint comes down to what a reader can do about it.
impl From<ChainError> for SourceError {
    fn from(error: ChainError) -> Self {
        let ChainError::Unavailable { faults } = &error else { return Self::Unavailable { text: error.to_string() } };
        let found = |pick: fn(&RpcFault) -> Option<Self>| faults.iter().find_map(|fault| pick(&fault.fault));
        let lie = found(|fault| if let RpcFault::Event(fault) = fault { Some(Self::Event(*fault)) } else { None });
        let missing =
            || {
                found(|fault| {
                    if let RpcFault::NoBlock { number } = fault {
                        Some(Self::NoBlock { number: *number })
                    } else {
                        None
                    }
                })
            };
        lie.or_else(missing).unwrap_or_else(|| Self::Unavailable { text: error.to_string() })
    }
}

/// What was asked for may have been too much.
fn of_span(error: ChainError) -> SourceError {
    let ChainError::Unavailable { faults } = &error else { return error.into() };
    let is_too_much = faults.iter().any(|fault| is_too_much(&fault.fault));
    let text = error.to_string();
    match SourceError::from(error) {
        SourceError::Unavailable { .. } if is_too_much => SourceError::TooMuch { text },
        other => other,
    }
}

const fn is_too_much(fault: &RpcFault) -> bool {
    use RpcFault::{Deadline, Malformed, Node, Status, TooLarge};
    matches!(fault, Deadline { .. } | TooLarge { .. } | Node { .. } | Status { .. } | Malformed { .. })
}
