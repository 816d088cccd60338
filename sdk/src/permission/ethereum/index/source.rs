//! Where blocks and events come from.

use super::{Block, Held, Placed};
use crate::identity::UserId;
use crate::permission::Answer;
use crate::permission::ethereum::events::EventFault;
use crate::stream::StreamId;

/// A chain, as far as the index needs it. What fails may be asked again.
pub(in super::super) trait LogSource: Send + Sync + 'static {
    /// The chain's id (EIP-155).
    ///
    /// # Errors
    /// [`SourceError`].
    fn chain_id(&self) -> Answer<'_, Result<u64, SourceError>>;

    /// The newest block.
    ///
    /// # Errors
    /// [`SourceError`], also where it is too old to be the newest.
    fn head(&self) -> Answer<'_, Result<Block, SourceError>>;

    /// A block by its number; `None` where there is none (yet).
    ///
    /// # Errors
    /// [`SourceError`].
    fn block(&self, number: u64) -> Answer<'_, Result<Option<Block>, SourceError>>;

    /// The events of the blocks `from` to `to`, both included, from one node that had the block `to` before and after.
    ///
    /// # Errors
    /// [`SourceError`].
    fn span(&self, from: u64, to: u64) -> Answer<'_, Result<Span, SourceError>>;

    /// The contract's own entry of a user in the state behind a block; nothing where there is no such stream.
    ///
    /// # Errors
    /// [`SourceError`].
    fn held<'a>(&'a self, stream: &'a StreamId, user: UserId, block: u64) -> Answer<'a, Result<Held, SourceError>>;
}

/// The events of some blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Span {
    /// The last of the blocks.
    pub(in super::super) tip: Block,
    /// In the order of the chain.
    pub(in super::super) events: Vec<Placed>,
}

/// Why a source could not tell.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// It cannot be asked.
    #[error("{text}")]
    Unavailable {
        /// What happened.
        text: String,
    },
    /// It does not give so much at once, or not in time.
    #[error("{text}")]
    TooMuch {
        /// What happened.
        text: String,
    },
    /// What it said cannot be true.
    #[error(transparent)]
    Event(#[from] EventFault),
    /// A block that should be there is not.
    #[error("there is no block {number}")]
    NoBlock {
        /// Its number.
        number: u64,
    },
}
