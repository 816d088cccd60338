//! Writing: what it costs first, then the transaction, then its receipt.

mod action;
mod error;
mod nonce;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ethers_core::types::transaction::eip1559::Eip1559TransactionRequest;
use ethers_core::types::{Address, Bytes, H256, U64, U256};
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;

pub use self::action::Action;
pub use self::error::WriteError;
use self::nonce::{Nonces, Sent as LastSent};
use super::EthereumRegistry;
use super::rpc::{ChainError, Outcome, RpcFault, Trusted, quantity_of};
use crate::identity::{Identity, SignedTransaction, UserId};

/// Room above what a node estimates, in quarters: the state may be another when the transaction is carried out.
const MARGIN: u64 = 5;
/// What whoever makes the block is paid for a unit of gas at most, wei: twice the base fee, or this where that is more, since some
/// chains have next to no base fee. An endpoint may name any tip.
const TIP: u128 = 50_000_000_000;
/// How long a receipt is waited for.
const PATIENCE: Duration = Duration::from_secs(180);
/// The longest pause between two looks for a receipt.
const LOOK: Duration = Duration::from_secs(2);
/// How often a transaction is made anew because another process took its number.
const ATTEMPTS: usize = 4;

/// What the writers of one registry share.
#[derive(Debug, Default)]
pub(super) struct Desk(Nonces);

/// An identity's account on the chain. Several may write at once, also for the same identity.
#[derive(Clone, Debug)]
pub struct Account<'a> {
    registry: &'a EthereumRegistry,
    identity: Identity,
}

/// What an action may cost. Nothing is sent before [`Quote::send`].
#[derive(Clone, Debug)]
#[must_use = "nothing is done until it is sent"]
pub struct Quote<'a> {
    account: Account<'a>,
    action: Action,
    call: Bytes,
    chain_id: u64,
    gas_limit: u64,
    /// What gas cost when it was asked, wei.
    base_fee: u128,
    max_fee_per_gas: u128,
    priority_fee_per_gas: u128,
    balance: u128,
}

/// A transaction that a node took.
#[derive(Clone, Debug)]
pub struct Sent<'a> {
    registry: &'a EthereumRegistry,
    account: UserId,
    call: Bytes,
    hash: H256,
}

/// A transaction that was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// Its hash.
    pub hash: [u8; 32],
    /// The block it is in. A reorganisation may still take it back.
    pub block: u64,
    /// Gas used.
    pub gas_used: u64,
    /// What it cost, wei.
    pub cost: u128,
}

impl<'a> Account<'a> {
    pub(super) fn new(registry: &'a EthereumRegistry, identity: Identity) -> Self {
        Self { registry, identity }
    }

    /// Whose it is.
    pub fn user(&self) -> UserId {
        self.identity.user()
    }

    /// What the action may cost, and whether the contract would do it. Nothing is sent. Dropping the future gives it up.
    ///
    /// # Errors
    /// [`WriteError`]: it makes no sense, the contract would refuse it, it costs too much, or the chain cannot be asked.
    pub async fn quote(&self, action: Action) -> Result<Quote<'a>, WriteError> {
        let call = action.call(self.user(), self.registry.clock.now())?;
        let from = self.user();
        let priced = self.registry.rpc.first(|endpoint| price(endpoint, from, call.clone())).await?;
        let Price { chain_id, gas, base_fee, priority_fee, balance } =
            priced.map_err(|revert| WriteError::Reverted { reason: revert.reason })?;
        let base_fee = base_fee.ok_or(WriteError::NoFeeMarket)?;
        let priority_fee = priority_fee.min(TIP.max(base_fee.saturating_mul(2)));
        let quote = Quote {
            account: self.clone(),
            action,
            call,
            chain_id,
            gas_limit: gas.saturating_mul(MARGIN) / (MARGIN - 1),
            base_fee,
            // The base fee rises by at most an eighth from block to block: this lasts for five full ones.
            max_fee_per_gas: base_fee.saturating_mul(2).saturating_add(priority_fee),
            priority_fee_per_gas: priority_fee,
            balance,
        };
        let limit = self.registry.config.max_cost.unwrap_or(self.registry.deployment.max_cost());
        let cost = quote.total();
        if cost > limit { Err(WriteError::TooDear { cost, limit }) } else { Ok(quote) }
    }
}

struct Price {
    chain_id: u64,
    gas: u64,
    base_fee: Option<u128>,
    priority_fee: u128,
    balance: u128,
}

async fn price(endpoint: Trusted<'_>, from: UserId, call: Bytes) -> Result<Outcome<Price>, RpcFault> {
    let from = Address::from(*from.as_bytes());
    let transaction = json!({ "from": from, "to": endpoint.contract(), "data": call });
    let gas: U256 = match endpoint.call("eth_estimateGas", json!([transaction])).await? {
        Ok(gas) => gas,
        Err(revert) => return Ok(Err(revert)),
    };
    let head = endpoint.head().await?;
    let priority_fee: U256 = endpoint.get("eth_maxPriorityFeePerGas", json!([])).await?;
    let balance: U256 = endpoint.get("eth_getBalance", json!([from, "latest"])).await?;
    let too_much = |_| RpcFault::Malformed { what: "the price of gas" };
    Ok(Ok(Price {
        chain_id: endpoint.chain_id(),
        gas: gas.try_into().map_err(too_much)?,
        base_fee: head.base_fee_per_gas.map(u128::try_from).transpose().map_err(too_much)?,
        priority_fee: priority_fee.try_into().map_err(too_much)?,
        balance: u128::try_from(balance).unwrap_or(u128::MAX),
    }))
}

impl<'a> Quote<'a> {
    /// What would be done.
    pub fn action(&self) -> &Action {
        &self.action
    }

    /// The most gas it may use.
    pub fn gas_limit(&self) -> u64 {
        self.gas_limit
    }

    /// The most it may cost for each unit of gas, wei.
    pub fn max_fee_per_gas(&self) -> u128 {
        self.max_fee_per_gas
    }

    /// The most it may cost, wei. Usually it is about half.
    pub fn total(&self) -> u128 {
        u128::from(self.gas_limit).saturating_mul(self.max_fee_per_gas)
    }

    /// What the account has, wei.
    pub fn balance(&self) -> u128 {
        self.balance
    }

    /// The same for `limit` wei at most. A quote has room for a price of gas that doubles, so that one agreed to a while ago holds though
    /// the price rose since: what is left must last for the next block.
    ///
    /// # Errors
    /// [`WriteError::TooDear`]: it does not.
    pub fn at_most(self, limit: u128) -> Result<Self, WriteError> {
        let cost = self.total();
        if cost <= limit {
            return Ok(self);
        }
        let max_fee_per_gas = limit / u128::from(self.gas_limit.max(1));
        let needed = self.base_fee.saturating_add(self.base_fee / 8).saturating_add(self.priority_fee_per_gas);
        if max_fee_per_gas < needed {
            return Err(WriteError::TooDear { cost, limit });
        }
        Ok(Self { max_fee_per_gas, ..self })
    }

    /// Signs the transaction and hands it to a node. Dropping the future may or may not keep it from being sent.
    ///
    /// # Errors
    /// [`WriteError`]. After any but [`WriteError::Unsettled`] nothing was sent.
    pub async fn send(self) -> Result<Sent<'a>, WriteError> {
        let (balance, cost) = (self.balance, self.total());
        if balance < cost {
            return Err(WriteError::Funds { balance, cost });
        }
        let registry = self.account.registry;
        let mut turn = registry.desk.0.turn(self.account.user()).await;
        let mut refused = String::new();
        for _ in 0..ATTEMPTS {
            let nonce = self.nonce(&mut turn).await?;
            let signed = self.account.identity.sign_transaction(self.transaction(nonce));
            match broadcast(registry, &signed).await? {
                Taken::Yes => {
                    turn.took(nonce, Instant::now());
                    let (account, call) = (self.account.user(), self.call);
                    return Ok(Sent { registry, account, call, hash: signed.hash });
                }
                Taken::NumberUsed(message) => {
                    turn.forget();
                    refused = message;
                }
                Taken::No(message) => return Err(WriteError::NotTaken { message }),
            }
        }
        Err(WriteError::NotTaken { message: refused })
    }

    async fn nonce(&self, last: &mut LastSent) -> Result<u64, WriteError> {
        let account = Address::from(*self.account.user().as_bytes());
        let count = |endpoint: Trusted<'a>| async move {
            endpoint.get::<U64>("eth_getTransactionCount", json!([account, "pending"])).await
        };
        let pending = self.account.registry.rpc.first(count).await?;
        Ok(last.next(pending.as_u64(), Instant::now()))
    }

    fn transaction(&self, nonce: u64) -> Eip1559TransactionRequest {
        Eip1559TransactionRequest::new()
            .to(self.account.registry.deployment.contract())
            .data(self.call.clone())
            .nonce(nonce)
            .gas(self.gas_limit)
            .max_fee_per_gas(self.max_fee_per_gas)
            .max_priority_fee_per_gas(self.priority_fee_per_gas)
            .chain_id(self.chain_id)
    }
}

/// What became of a transaction at the nodes.
enum Taken {
    Yes,
    NumberUsed(String),
    No(String),
}

/// Hands a transaction to the first node that answers. One that took it and whose answer was lost makes the next one say that it
/// knows the transaction, or that its number is used: it is looked for before it counts as refused. Where it was handed to several,
/// every one of them has to say that it has none: a node that lags behind does not know what the others carry out.
async fn broadcast(registry: &EthereumRegistry, signed: &SignedTransaction) -> Result<Taken, WriteError> {
    let unsettled = |error| WriteError::Unsettled { hash: signed.hash.0, error };
    let (bytes, handed) = (&signed.bytes, AtomicUsize::new(0));
    let hand = |endpoint| {
        handed.fetch_add(1, Ordering::Relaxed);
        hand_over(endpoint, bytes)
    };
    let answer = registry.rpc.first(hand).await.map_err(unsettled)?;
    let Err(message) = answer else { return Ok(Taken::Yes) };
    let known = |endpoint| is_known(endpoint, signed.hash);
    let is_known = match handed.into_inner() {
        0 | 1 => registry.rpc.first(known).await,
        _ => registry.rpc.any(known).await,
    };
    if is_known.map_err(unsettled)? {
        return Ok(Taken::Yes);
    }
    let said = message.to_lowercase();
    // What geth, and after it most others, says about a number that a transaction in a block, or one in the queue, has.
    let number_used = ["nonce too low", "replacement transaction underpriced"].iter().any(|words| said.contains(words));
    Ok(if number_used { Taken::NumberUsed(message) } else { Taken::No(message) })
}

async fn hand_over(endpoint: Trusted<'_>, bytes: &Bytes) -> Result<Result<(), String>, RpcFault> {
    match endpoint.call::<H256>("eth_sendRawTransaction", json!([bytes])).await {
        Ok(Ok(_)) => Ok(Ok(())),
        Ok(Err(revert)) => Ok(Err(revert.reason.unwrap_or_else(|| "it would revert".into()))),
        // The node speaks of the transaction, not of itself (geth: -32000, EIP-1474: -32003).
        Err(RpcFault::Node { code: -32000 | -32003, message }) => Ok(Err(message)),
        Err(fault) => Err(fault),
    }
}

async fn is_known(endpoint: Trusted<'_>, hash: H256) -> Result<bool, RpcFault> {
    Ok(endpoint.get::<Option<serde_json::Value>>("eth_getTransactionByHash", json!([hash])).await?.is_some())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeReceipt {
    status: U64,
    block_number: U64,
    gas_used: U64,
    effective_gas_price: U256,
}

impl<'a> Sent<'a> {
    /// The transaction's hash.
    pub fn hash(&self) -> [u8; 32] {
        self.hash.0
    }

    /// Waits until it is in a block, three minutes at most. Dropping the future stops waiting, not the transaction.
    ///
    /// # Errors
    /// [`WriteError::Reverted`] when the contract refused after all, [`WriteError::Pending`] when it is in no block yet.
    pub async fn receipt(&self) -> Result<Receipt, WriteError> {
        let (start, mut pause) = (Instant::now(), LOOK / 64);
        loop {
            match self.look().await {
                Ok(Some(receipt)) => return self.settle(receipt).await,
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "cannot look for the receipt of a transaction"),
            }
            if start.elapsed() > PATIENCE {
                return Err(WriteError::Pending { hash: self.hash.0, seconds: PATIENCE.as_secs() });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LOOK);
        }
    }

    async fn look(&self) -> Result<Option<NodeReceipt>, ChainError> {
        let hash = self.hash;
        let look = |endpoint| async move { Trusted::get(&endpoint, "eth_getTransactionReceipt", json!([hash])).await };
        self.registry.rpc.first(look).await
    }

    async fn settle(&self, receipt: NodeReceipt) -> Result<Receipt, WriteError> {
        let block = receipt.block_number.as_u64();
        if receipt.status.is_zero() {
            return Err(WriteError::Reverted { reason: self.reason(block).await });
        }
        let cost = receipt.effective_gas_price.saturating_mul(receipt.gas_used.as_u64().into());
        let cost = u128::try_from(cost).unwrap_or(u128::MAX);
        Ok(Receipt { hash: self.hash.0, block, gas_used: receipt.gas_used.as_u64(), cost })
    }

    /// A receipt has no reason in it; the same call behind the same block has.
    async fn reason(&self, block: u64) -> Option<String> {
        let from = Address::from(*self.account.as_bytes());
        let again = |endpoint: Trusted<'a>| {
            let transaction = json!({ "from": from, "to": endpoint.contract(), "data": self.call });
            let params = json!([transaction, quantity_of(block)]);
            async move { endpoint.call::<Bytes>("eth_call", params).await }
        };
        self.registry.rpc.first(again).await.ok()?.err()?.reason
    }
}
