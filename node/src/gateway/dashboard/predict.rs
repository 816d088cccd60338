//! `GET /streams/{id}/predict?act=rekey|rotate|grant|revoke`: what an act would do, before it is done. Changes nothing.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::Value;
use veilcast::{Period, StreamId, UserId};

use super::super::Gateway;
use super::super::caller::Caller;
use super::super::error::ApiError;
use super::super::known::must_be_known;
use super::super::params::{On, Params, lasting, moment};
use super::super::permissions::on_chain;
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
        "rekey" => prediction::rekey(gateway.client.forecast_update(&stream).await?, signed),
        "rotate" => prediction::rotate(gateway.client.forecast_update(&stream).await?),
        _ => permission(&gateway, &stream, &asked).await?,
    };
    Ok(Json(told.in_json(stream.as_str(), &asked.act)))
}

async fn permission(gateway: &Gateway, stream: &StreamId, asked: &Asked) -> Result<Prediction, ApiError> {
    if matches!(gateway.registry, Registry::Chain(_)) {
        return Err(on_chain());
    }
    must_be_known(gateway, stream).await?;
    let no_user = || ApiError::bad("a user is an address, 0x and 40 hex digits");
    let user: UserId = asked.user.as_deref().and_then(|user| user.parse().ok()).ok_or_else(no_user)?;
    let client = &gateway.client;
    let (listed, rules) = (client.subscribers(stream).await?, client.access_rules(stream).await?);
    let standing = Standing {
        now: now(),
        listed: &listed,
        is_out: subscribers::is_out(&rules, user),
        history: client.history(stream).await?,
        signed: matches!(gateway.registry, Registry::Kept(Kept::Grants)),
    };
    match asked.act.as_str() {
        "grant" => Ok(prediction::grant(user, asked.period()?, &standing)),
        _ => Ok(prediction::revoke(user, client.forecast_update(stream).await?, &standing)),
    }
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
