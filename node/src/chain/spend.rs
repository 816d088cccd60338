//! Spending gas: what it costs is shown first, then somebody says yes, then it is sent.

use std::io::{self, BufRead, IsTerminal, Write};

use serde_json::json;
use veilcast::Identity;
use veilcast::permission::ethereum::{Action, EthereumRegistry, Quote, Receipt};

use super::{ChainFailure, coins};
use crate::output::Output;
use crate::times;
use crate::words::counted;

/// Who pays, and whether he was asked already.
pub(crate) struct Purse<'a> {
    pub(crate) registry: &'a EthereumRegistry,
    pub(crate) identity: &'a Identity,
    pub(crate) yes: bool,
    pub(crate) output: Output<'a>,
}

impl Purse<'_> {
    /// Does it, once somebody agreed to what it may cost, and waits until it is in a block.
    pub(crate) async fn spend(&self, action: Action) -> Result<Receipt, ChainFailure> {
        let account = self.registry.account(self.identity.clone());
        let quote = account.quote(action).await?;
        self.show(&quote);
        if !self.yes && !agreed().await? {
            return Err(ChainFailure::Declined);
        }
        let sent = quote.send().await?;
        let hash = hex_of(&sent.hash());
        self.output.event(
            format!("sent as transaction {hash}; waiting until it is in a block"),
            &json!({ "event": "sent", "transaction": hash }),
        );
        let receipt = sent.receipt().await?;
        let cost = coins::show(receipt.cost, self.coin());
        self.output.event(
            format!("done in block {} for {cost}", receipt.block),
            &json!({
                "event": "done", "transaction": hash, "block": receipt.block, "gas_used": receipt.gas_used,
                "cost_wei": receipt.cost.to_string(),
            }),
        );
        Ok(receipt)
    }

    fn show(&self, quote: &Quote<'_>) {
        let what = describe(quote.action());
        let (cost, has) = (coins::show(quote.total(), self.coin()), coins::show(quote.balance(), self.coin()));
        let (gas, price) = (quote.gas_limit(), coins::show_gwei(quote.max_fee_per_gas()));
        let text = format!(
            "to {what} on {} costs at most {cost} ({gas} gas at {price} at most); {} has {has}",
            self.registry.deployment(),
            self.identity.user()
        );
        let json = json!({
            "event": "quote", "action": what, "gas_limit": gas, "max_cost_wei": quote.total().to_string(),
            "max_fee_per_gas_wei": quote.max_fee_per_gas().to_string(), "balance_wei": quote.balance().to_string(),
        });
        self.output.event(text, &json);
    }

    fn coin(&self) -> Option<&'static str> {
        self.registry.deployment().coin()
    }
}

/// What an action does, behind a "to".
fn describe(action: &Action) -> String {
    match action {
        Action::CreateStream { path, partitions } => {
            format!("make the stream {path} with {}", counted(u64::from(*partitions), "partition", "partitions"))
        }
        Action::Grant { stream, user, permission, period } => {
            let end = period.end.map_or_else(|| "for good".into(), |end| format!("until {}", times::show(end)));
            format!("let {user} {permission} on {stream} {end}")
        }
        Action::Revoke { stream, user, permission } => format!("let {user} {permission} no longer on {stream}"),
        Action::SetPublic { stream, public: true } => format!("let everybody read {stream}"),
        Action::SetPublic { stream, public: false } => format!("let nobody read {stream} without a grant"),
        other => format!("do {other:?}"),
    }
}

/// Asks at the terminal.
///
/// # Errors
/// When there is none: a script has to say `--yes`.
pub(crate) async fn agreed() -> Result<bool, ChainFailure> {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(ChainFailure::NobodyToAsk);
    }
    let ask = || {
        let _ = write!(io::stderr(), "Send it? [y/N] ");
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer)?;
        Ok::<_, io::Error>(matches!(answer.trim(), "y" | "Y" | "yes"))
    };
    // On a thread of its own, so that Ctrl-C is heard meanwhile.
    tokio::task::spawn_blocking(ask).await.unwrap_or(Ok(false)).map_err(ChainFailure::Terminal)
}

pub(super) fn hex_of(hash: &[u8; 32]) -> String {
    format!("0x{}", hex::encode(hash))
}
