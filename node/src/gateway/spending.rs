//! Changing permissions where a contract decides: a transaction of this node's identity, which costs gas. What it may cost is told
//! first; nothing is sent before a request says that it is meant.

use axum::http::StatusCode;
use serde_json::{Value, json};
use veilcast::permission::ethereum::{Action, Quote, WriteError};

use super::Gateway;
use super::error::ApiError;

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
    let contract = gateway.readiness.contract.clone();
    let contract = contract.ok_or_else(|| ApiError::internal("the contract that decides is not open"))?;
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
        let cost = quote.total();
        if !consent.confirm {
            let message = format!("it costs up to {cost} wei of gas; say \"confirm\": true to send it");
            return Err(ApiError::new(StatusCode::CONFLICT, "confirm", message));
        }
        if let Some(limit) = consent.max_cost.filter(|limit| cost > *limit) {
            let message = format!("it would cost up to {cost} wei by now, more than the {limit} of the request");
            return Err(ApiError::new(StatusCode::CONFLICT, "too_dear", message));
        }
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
    fn what_is_only_looked_at_is_never_sent_and_an_amount_is_a_whole_number() {
        assert!(Consent::new(true, true, None).is_err());
        assert!(Consent::new(false, true, Some("1.5")).is_err());
        assert!(Consent::new(true, false, None).unwrap().must_not_be_dry().is_err());
        let consent = Consent::new(false, true, Some("340282366920938463463374607431768211455")).unwrap();
        assert_eq!((consent.max_cost, consent.confirm), (Some(u128::MAX), true));
        assert!(consent.must_not_be_dry().is_ok());
    }
}
