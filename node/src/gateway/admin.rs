//! `/api-keys`: making, listing and revoking them.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};
use veilcast::StreamId;

use super::Gateway;
use super::body::Sent;
use super::caller::Caller;
use super::error::ApiError;
use super::params::At;
use super::routes::Routes;
use crate::api_key::{ApiKey, KeyName, Streams, Verb};
use crate::commands::{api_key, now};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.get("/api-keys", list).post("/api-keys", add).delete("/api-keys/{name}", revoke)
}

async fn list(State(gateway): State<Gateway>, caller: Caller) -> Result<Json<Value>, ApiError> {
    caller.may_here(Verb::Admin)?;
    let keys = gateway.api_keys.all();
    Ok(Json(api_key::all_in_json(keys.iter().map(AsRef::as_ref), &gateway.api_keys.damaged())))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    name: String,
    verbs: Vec<String>,
    #[serde(default)]
    streams: Vec<String>,
    /// Said in so many words, and not by leaving the streams out.
    #[serde(default)]
    all_streams: bool,
}

async fn add(State(gateway): State<Gateway>, caller: Caller, sent: Sent) -> Result<Json<Value>, ApiError> {
    caller.may_here(Verb::Admin)?;
    let new: New = sent.json(&gateway, &caller).await?;
    let name: KeyName = new.name.parse().map_err(|error: String| ApiError::bad(error))?;
    let verbs: Vec<Verb> =
        new.verbs.iter().map(|verb| verb.parse()).collect::<Result<_, _>>().map_err(ApiError::bad)?;
    let streams = match (new.all_streams, new.streams.is_empty()) {
        (true, true) => Streams::Every,
        (false, false) => Streams::These(new.streams.iter().map(|id| StreamId::new(id)).collect::<Result<_, _>>()?),
        _ => return Err(ApiError::bad("give streams, or all_streams: true, and not both")),
    };
    if verbs.is_empty() {
        return Err(ApiError::bad("a key allows one verb at least"));
    }
    streams.must_suit(&verbs)?;
    let (key, text) = ApiKey::make(name, verbs, streams, now(), &mut rand::rng());
    let mut json = api_key::in_json(&key);
    gateway.on_disk(move |shared| shared.api_keys.add(&key)).await??;
    json["key"] = text.as_str().into();
    Ok(Json(json))
}

async fn revoke(State(gateway): State<Gateway>, caller: Caller, At(name): At<String>) -> Result<Json<Value>, ApiError> {
    caller.may_here(Verb::Admin)?;
    let name: KeyName = name.parse().map_err(|error: String| ApiError::bad(error))?;
    let json = json!({ "name": name.as_str(), "revoked": true });
    gateway.on_disk(move |shared| shared.api_keys.revoke(&name)).await??;
    Ok(Json(json))
}
