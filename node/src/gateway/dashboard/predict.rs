//! `GET /streams/{id}/predict?act=rekey|rotate|grant|revoke`: what an act would do, before it is done. Changes nothing.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use veilcast::client::{ClientError, UpdateForecast};
use veilcast::permission::ethereum::{Action, EthereumRegistry};
use veilcast::{Period, Permission, Refusal, StreamId, UserId};

use super::super::Gateway;
use super::super::caller::Caller;
use super::super::error::{ApiError, RETRY};
use super::super::known::must_be_known;
use super::super::params::{On, Params, lasting, moment};
use super::super::spending::foresee;
use super::prediction::{self, Prediction, Standing};
use crate::api_key::Verb;
use crate::args::{Kept, Registry};
use crate::commands::now;
use crate::commands::stream::subscribers;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    act: String,
    user: Option<String>,
    from: Option<String>,
    until: Option<String>,
    #[serde(rename = "for")]
    lasting: Option<String>,
}

pub(super) async fn predict(
    State(gateway): State<Gateway>,
    caller: Caller,
    On(stream): On,
    Params(asked): Params<Asked>,
) -> Result<Json<Value>, ApiError> {
    let verb = match asked.act.as_str() {
        "rekey" | "rotate" => Verb::Keys,
        "grant" | "revoke" => Verb::Permissions,
        _ => return Err(ApiError::bad("act is rekey, rotate, grant or revoke")),
    };
    caller.may(verb, &stream)?;
    let signed = matches!(gateway.registry, Registry::Kept(Kept::Grants));
    let told = match asked.act.as_str() {
        "rekey" => prediction::rekey(forecast(&gateway, &stream).await?, signed),
        "rotate" => prediction::rotate(forecast(&gateway, &stream).await?),
        _ => return Ok(Json(permission(&gateway, &stream, &asked).await?.in_json(stream.as_str(), &asked.act))),
    };
    let told = if gateway.readiness.contract.is_some() { told.without_gas() } else { told };
    Ok(Json(told.in_json(stream.as_str(), &asked.act)))
}

/// # Errors
/// As the change itself; where the contract's events are still being read, it is said how far.
async fn forecast(gateway: &Gateway, stream: &StreamId) -> Result<UpdateForecast, ApiError> {
    gateway.client.forecast_update(stream).await.map_err(|error| match reading(gateway) {
        Some(why) if is_untold(&error) => {
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", why).later(RETRY)
        }
        _ => error.into(),
    })
}

async fn permission(gateway: &Gateway, stream: &StreamId, asked: &Asked) -> Result<Prediction, ApiError> {
    must_be_known(gateway, stream).await?;
    let no_user = || ApiError::bad("a user is an address, 0x and 40 hex digits");
    let user: UserId = asked.user.as_deref().and_then(|user| user.parse().ok()).ok_or_else(no_user)?;
    let (client, contract) = (&gateway.client, gateway.readiness.contract.as_deref());
    let listed = match client.subscribers(stream).await {
        // A contract's events may take hours to be read, and granting waits for none of them.
        Err(error) if contract.is_some() && is_untold(&error) => None,
        listed => Some(listed?),
    };
    let rules = client.access_rules(stream).await?;
    let mut standing = Standing {
        now: now(),
        listed: listed.as_deref().unwrap_or_default(),
        is_out: subscribers::is_out(&rules, user),
        history: client.history(stream).await?,
        signed: matches!(gateway.registry, Registry::Kept(Kept::Grants)),
        confirmations: contract.map(EthereumRegistry::confirmations),
        unsure: listed.is_none().then(|| reading(gateway).unwrap_or_else(|| UNTOLD.into())),
    };
    let permission = Permission::Subscribe;
    let (told, action) = match asked.act.as_str() {
        "grant" => {
            let period = asked.period()?;
            (
                prediction::grant(user, period, &standing),
                Action::Grant { stream: stream.clone(), user, permission, period },
            )
        }
        _ => {
            let forecast = match client.forecast_update(stream).await {
                // Whoever may grant on a contract need not be one who publishes.
                Err(ClientError::NotPermitted { .. }) if contract.is_some() => None,
                forecast => Some(forecast?),
            };
            if let (None, Some(contract)) = (&standing.unsure, contract) {
                standing.unsure = unconfirmed(contract, stream, user).await;
            }
            (prediction::revoke(user, forecast, &standing), Action::Revoke { stream: stream.clone(), user, permission })
        }
    };
    match contract {
        Some(_) if !told.is_refused() => Ok(told.by_transaction(foresee(gateway, action).await?)),
        _ => Ok(told),
    }
}

/// What they hold may be too new to be listed: only the contract's own no is one.
async fn unconfirmed(contract: &EthereumRegistry, stream: &StreamId, user: UserId) -> Option<String> {
    match contract.ask(stream, user, Permission::Subscribe, now()).await {
        Ok(Err(Refusal::Denied | Refusal::Expired { .. })) => None,
        _ => Some("it is in no list yet".into()),
    }
}

const UNTOLD: &str = "the contract's events could not be read";

/// How far the contract's events are read, where that is not to the end.
fn reading(gateway: &Gateway) -> Option<String> {
    let progress = gateway.readiness.contract.as_ref()?.progress().filter(|progress| !progress.is_caught_up)?;
    Some(format!("the contract's events are being read, and are at block {} of {}", progress.at, progress.head))
}

const fn is_untold(error: &ClientError) -> bool {
    matches!(error, ClientError::NotPermitted { refusal: Refusal::Unavailable { .. }, .. })
}

impl Asked {
    fn period(&self) -> Result<Period, ApiError> {
        let start = self.from.as_deref().map(|from| moment("from", from)).transpose()?;
        let end = match (&self.until, &self.lasting) {
            (Some(_), Some(_)) => return Err(ApiError::bad("give until or for, not both")),
            (Some(until), None) => Some(moment("until", until)?),
            (None, Some(span)) => Some(lasting(span, start.unwrap_or_else(now))?),
            (None, None) => None,
        };
        Ok(Period { start, end })
    }
}
