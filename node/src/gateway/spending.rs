//! Changing permissions where a contract decides: a transaction of this node's identity, which costs gas. What it may cost is told
//! first; nothing is sent before a request says that it is meant.

use std::sync::Arc;

use axum::http::StatusCode;
use serde_json::{Value, json};
use veilcast::UserId;
use veilcast::permission::ethereum::{Action, EthereumRegistry, Quote, WriteError};

use super::Gateway;
use super::error::ApiError;
use crate::chain::in_coins;

/// Whether what it costs is meant.
#[derive(Clone, Copy, Default)]
pub(super) struct Consent {
    /// Only what it may cost is asked.
    pub(super) dry_run: bool,
    /// It may be spent.
    pub(super) confirm: bool,
    /// So much at most, wei.
    pub(super) max_cost: Option<u128>,
}

impl Consent {
    /// As a request says it.
    ///
    /// # Errors
    /// 400 for an amount that is none, and for both at once.
    pub(super) fn new(dry_run: bool, confirm: bool, max_cost: Option<&str>) -> Result<Self, ApiError> {
        let wei = |text: &str| text.parse().map_err(|_| ApiError::bad("max_cost_wei is a whole number of wei"));
        match (dry_run, confirm) {
            (true, true) => Err(ApiError::bad("give dry_run or confirm, not both")),
            _ => Ok(Self { dry_run, confirm, max_cost: max_cost.map(wei).transpose()? }),
        }
    }

    /// Where nothing is spent.
    ///
    /// # Errors
    /// 400: it would be done, and only looking was asked for.
    pub(super) fn must_not_be_dry(self) -> Result<(), ApiError> {
        match self.dry_run {
            true => Err(ApiError::bad("dry_run is for a contract: here it costs nothing, and is done at once")),
            false => Ok(()),
        }
    }
}

/// Does it if that is meant, and adds to `told` what became of it: the quote, and the transaction once it is in a block. That waits for
/// the block, up to three minutes, and goes on when whoever asked has gone.
///
/// # Errors
/// 409 `confirm` tells what it may cost where nobody said that it is meant; the others are in [`of_write`].
pub(super) async fn spend(
    gateway: &Gateway,
    action: Action,
    consent: Consent,
    mut told: Value,
) -> Result<Value, ApiError> {
    let contract = contract(gateway)?;
    let identity = gateway.identity.clone();
    let spent = gateway.finish(async move {
        let account = contract.account(identity);
        let quote = account.quote(action).await.map_err(of_write)?;
        told["registry"] = contract.deployment().to_string().into();
        told["quote"] = in_json(&quote);
        if consent.dry_run {
            told["dry_run"] = true.into();
            return Ok(told);
        }
        if !consent.confirm {
            let message = format!("it costs up to {} wei of gas; say \"confirm\": true to send it", quote.total());
            return Err(ApiError::new(StatusCode::CONFLICT, "confirm", message));
        }
        // The price moves from block to block: what was agreed to holds while it lasts for the next one.
        let quote = quote.at_most(consent.max_cost.unwrap_or(u128::MAX)).map_err(of_write)?;
        let sent = quote.send().await.map_err(of_write)?;
        tracing::info!(transaction = hex::encode(sent.hash()), "sent a transaction");
        let receipt = sent.receipt().await.map_err(of_write)?;
        told["transaction"] = format!("0x{}", hex::encode(receipt.hash)).into();
        told["block"] = receipt.block.into();
        told["gas_used"] = receipt.gas_used.into();
        told["cost_wei"] = receipt.cost.to_string().into();
        Ok(told)
    });
    spent.await?
}

/// What an action may cost, or why the contract or the account will not do it; nothing is sent.
///
/// # Errors
/// 503 where the chain cannot be asked.
pub(super) async fn foresee(gateway: &Gateway, action: Action) -> Result<Foreseen, ApiError> {
    let contract = contract(gateway)?;
    let (deployment, user) = (contract.deployment(), gateway.identity.user());
    let account = contract.account(gateway.identity.clone());
    let (quote, refused) = match account.quote(action).await {
        Ok(quote) => (Some(quote), None),
        Err(error) => (None, Some(refusal(&error, user, deployment.coin()).ok_or_else(|| of_write(error))?)),
    };
    let of_funds = |quote: &Quote<'_>| {
        let (balance, cost) = (quote.balance(), quote.total());
        (balance < cost).then(|| refusal(&WriteError::Funds { balance, cost }, user, deployment.coin())).flatten()
    };
    let refused = refused.or_else(|| quote.as_ref().and_then(of_funds));
    let costs = quote.as_ref().map(|quote| in_coins(quote.total(), deployment.coin()));
    let json = json!({
        "registry": deployment.to_string(),
        "coin": deployment.coin(),
        "confirmations": contract.confirmations(),
        "quote": quote.as_ref().map(in_json),
    });
    Ok(Foreseen { costs, refused, json })
}

/// What is known of a transaction before it is sent.
#[derive(Debug)]
pub(super) struct Foreseen {
    /// What it costs at most, for people.
    pub(super) costs: Option<String>,
    /// Why it would not be done, for people.
    pub(super) refused: Option<String>,
    pub(super) json: Value,
}

pub(super) fn contract(gateway: &Gateway) -> Result<Arc<EthereumRegistry>, ApiError> {
    let contract = gateway.readiness.contract.clone();
    contract.ok_or_else(|| ApiError::internal("the contract that decides is not open"))
}

/// A no that asking again will not change, as a sentence; `None` where it cannot be told.
fn refusal(error: &WriteError, user: UserId, coin: Option<&str>) -> Option<String> {
    let coins = |wei: u128| in_coins(wei, coin);
    Some(match error {
        // The contract's word for an account without the permission to grant on a stream.
        WriteError::Reverted { reason: Some(reason) } if reason.contains("error_noSharePermission") => {
            format!(
                "This node's identity, {user}, may not change permissions of this stream: the contract refuses it ({reason})."
            )
        }
        WriteError::Reverted { reason: Some(reason) } => format!("The contract refuses it: {reason}."),
        WriteError::Reverted { reason: None } => "The contract refuses it, and gives no reason.".into(),
        WriteError::Funds { balance, cost } => format!(
            "This node's account, {user}, has {}, and the gas may cost up to {}: send it some coins.",
            coins(*balance),
            coins(*cost)
        ),
        WriteError::TooDear { cost, limit } => {
            format!(
                "It would cost up to {}, more than this node spends on one transaction, {}.",
                coins(*cost),
                coins(*limit)
            )
        }
        WriteError::Everybody => "The zero address stands for everybody on a contract: it is nobody's.".into(),
        WriteError::StartsLater { .. } => "On a contract a grant begins when it is given, and not later.".into(),
        WriteError::Period(error) => format!("It makes no sense: {error}."),
        _ => return None,
    })
}

/// Amounts as text: they are larger than what many a language takes a number for.
fn in_json(quote: &Quote<'_>) -> Value {
    json!({
        "gas_limit": quote.gas_limit(),
        "max_fee_per_gas_wei": quote.max_fee_per_gas().to_string(),
        "max_cost_wei": quote.total().to_string(),
        "balance_wei": quote.balance().to_string(),
    })
}

fn of_write(error: WriteError) -> ApiError {
    let of = |status, code| ApiError::new(status, code, error.to_string());
    match &error {
        WriteError::Period(_)
        | WriteError::StartsLater { .. }
        | WriteError::Everybody
        | WriteError::Partitions { .. }
        | WriteError::Stream(_) => of(StatusCode::BAD_REQUEST, "bad_request"),
        WriteError::Reverted { .. } => of(StatusCode::CONFLICT, "contract_refuses"),
        WriteError::TooDear { .. } => of(StatusCode::CONFLICT, "too_dear"),
        WriteError::Funds { .. } => of(StatusCode::CONFLICT, "no_funds"),
        // It may still be carried out: whoever does the same again may pay twice.
        WriteError::Unsettled { .. } | WriteError::Pending { .. } => of(StatusCode::GATEWAY_TIMEOUT, "pending"),
        _ => of(StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_no_of_the_contract_or_the_account_is_a_sentence_and_a_chain_that_cannot_be_asked_is_none() {
        let user = UserId::from_bytes([7; 20]);
        let told = |error: WriteError| refusal(&error, user, Some("POL"));
        let reverted = |reason: &str| told(WriteError::Reverted { reason: Some(reason.into()) }).unwrap();
        let may_not = reverted("error_noSharePermission");
        assert!(may_not.contains(&user.to_string()) && may_not.contains("may not change permissions"), "{may_not}");
        assert_eq!(reverted("error_streamDoesNotExist"), "The contract refuses it: error_streamDoesNotExist.");
        let funds = told(WriteError::Funds { balance: 0, cost: 1_500_000_000_000_000_000 }).unwrap();
        assert!(funds.contains("has 0 POL") && funds.contains("1.5 POL"), "{funds}");
        assert!(told(WriteError::Everybody).is_some() && told(WriteError::NoFeeMarket).is_none());
    }

    #[test]
    fn what_is_only_looked_at_is_never_sent_and_an_amount_is_a_whole_number() {
        assert!(Consent::new(true, true, None).is_err());
        assert!(Consent::new(false, true, Some("1.5")).is_err());
        assert!(Consent::new(true, false, None).unwrap().must_not_be_dry().is_err());
        let consent = Consent::new(false, true, Some("340282366920938463463374607431768211455")).unwrap();
        assert_eq!((consent.max_cost, consent.confirm), (Some(u128::MAX), true));
        assert!(consent.must_not_be_dry().is_ok());
    }
}
