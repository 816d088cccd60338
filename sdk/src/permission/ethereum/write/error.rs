//! Why something was not done on the chain.

use crate::permission::PeriodError;
use crate::permission::ethereum::rpc::ChainError;
use crate::stream::{MAX_PARTITIONS, StreamIdError};
use crate::time::Timestamp;

/// Why something was not done on the chain, or may not have been.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// A period that makes no sense.
    #[error(transparent)]
    Period(#[from] PeriodError),
    /// The contract cannot say "from then on".
    #[error("a grant on a chain begins when it is given; it cannot begin at {from}")]
    StartsLater {
        /// When it should, ms since the epoch.
        from: Timestamp,
    },
    /// The zero address stands for everybody.
    #[error("the zero address is nobody's; to let everybody read, make the stream public")]
    Everybody,
    /// Out of range.
    #[error("a stream has 1 to {MAX_PARTITIONS} partitions, not {got}")]
    Partitions {
        /// The number given.
        got: u32,
    },
    /// Not the name of a stream.
    #[error(transparent)]
    Stream(#[from] StreamIdError),
    /// The contract says no; nothing changed, though a transaction that was sent is paid for.
    #[error("the contract refuses: {}", .reason.as_deref().unwrap_or("it gives no reason"))]
    Reverted {
        /// The contract's word for it.
        reason: Option<String>,
    },
    /// More than the limit in the settings: a node may ask any price.
    #[error("it would cost up to {cost} wei, more than the limit of {limit}")]
    TooDear {
        /// What it may cost, wei.
        cost: u128,
        /// The limit, wei.
        limit: u128,
    },
    /// Not enough on the account.
    #[error("the account has {balance} wei, up to {cost} are needed")]
    Funds {
        /// What it has, wei.
        balance: u128,
        /// What it may cost, wei.
        cost: u128,
    },
    /// A chain without EIP-1559.
    #[error("the chain has no base fee (EIP-1559)")]
    NoFeeMarket,
    /// A node does not take the transaction. It was not sent.
    #[error("a node does not take the transaction: {message}")]
    NotTaken {
        /// What the node says.
        message: String,
    },
    /// Nobody confirmed that the transaction was taken; it may still be carried out. Look for it before doing the same again.
    #[error("it cannot be told whether the transaction {} was taken: {error}", hex_of(.hash))]
    Unsettled {
        /// Its hash.
        hash: [u8; 32],
        /// What went wrong.
        error: ChainError,
    },
    /// In no block yet; it may still be carried out.
    #[error("the transaction {} is in no block after {seconds} s; it may still be carried out", hex_of(.hash))]
    Pending {
        /// Its hash.
        hash: [u8; 32],
        /// How long was waited, seconds.
        seconds: u64,
    },
    /// The chain cannot be asked; nothing was sent.
    #[error(transparent)]
    Chain(#[from] ChainError),
}

fn hex_of(hash: &[u8; 32]) -> String {
    format!("0x{}", hex::encode(hash))
}
