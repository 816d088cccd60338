//! `/streams/{id}/keys`: which keys there are, by id and fingerprint, never their bytes; and changing them.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};
use veilcast::UserId;
use veilcast::client::{KeyUpdateMethod, UpdateReport};

use super::Gateway;
use super::body::Sent;
use super::caller::Caller;
use super::error::ApiError;
use super::known::must_be_known;
use super::params::{On, Params};
use super::routes::Routes;
use crate::api_key::Verb;
use crate::commands::key::list;
use crate::commands::subscribe::events;

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get("/keys", everywhere)
        .get("/streams/{id}/keys", of_stream)
        .post("/streams/{id}/keys/rotate", rotate)
        .post("/streams/{id}/keys/rekey", rekey)
}

/// Keys in one answer, unless another number is asked for, and at most.
const KEYS: usize = 1_000;
const MOST: usize = 100_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HowMany {
    limit: Option<usize>,
}

impl HowMany {
    fn checked(&self) -> Result<usize, ApiError> {
        let limit = self.limit.unwrap_or(KEYS);
        if (1..=MOST).contains(&limit) { Ok(limit) } else { Err(ApiError::bad(format!("limit is 1 to {MOST}"))) }
    }
}

async fn everywhere(
    State(gateway): State<Gateway>,
    caller: Caller,
    Params(many): Params<HowMany>,
) -> Result<Json<Value>, ApiError> {
    caller.may_here(Verb::Keys)?;
    let limit = many.checked()?;
    let listed = gateway.on_disk(move |shared| list::in_json(&shared.store, None, limit)).await?;
    listed.map(Json).map_err(ApiError::internal)
}

async fn of_stream(
    State(gateway): State<Gateway>,
    caller: Caller,
    On(stream): On,
    Params(many): Params<HowMany>,
) -> Result<Json<Value>, ApiError> {
    caller.may(Verb::Keys, &stream)?;
    let limit = many.checked()?;
    let listed = gateway.on_disk(move |shared| list::in_json(&shared.store, Some(&stream), limit)).await?;
    listed.map(Json).map_err(ApiError::internal)
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct How {
    /// Although somebody whose grant ended reads on.
    #[serde(default)]
    regardless: bool,
}

async fn rotate(
    State(gateway): State<Gateway>,
    caller: Caller,
    On(stream): On,
    sent: Sent,
) -> Result<Json<Value>, ApiError> {
    caller.may(Verb::Keys, &stream)?;
    let how: How = sent.json(&gateway, &caller).await?;
    must_be_known(&gateway, &stream).await?;
    let (client, id) = (gateway.client.clone(), stream.clone());
    let rotated = gateway.finish(async move {
        match how.regardless {
            true => client.rotate_regardless(&id, None).await,
            false => client.update_encryption_key(&id, KeyUpdateMethod::Rotate, None).await,
        }
    });
    let report = rotated.await??;
    Ok(Json(json!({ "stream": stream.as_str(), "key_id": report.key_id.as_str() })))
}

async fn rekey(
    State(gateway): State<Gateway>,
    caller: Caller,
    On(stream): On,
    sent: Sent,
) -> Result<Json<Value>, ApiError> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Nothing {}
    caller.may(Verb::Keys, &stream)?;
    let Nothing {} = sent.json(&gateway, &caller).await?;
    must_be_known(&gateway, &stream).await?;
    let (client, id) = (gateway.client.clone(), stream.clone());
    let rekeyed = gateway.finish(async move { client.update_encryption_key(&id, KeyUpdateMethod::Rekey, None).await });
    Ok(Json(report(stream.as_str(), &rekeyed.await??)))
}

/// Who has the new key, who is not given it, and who will ask.
pub(crate) fn report(stream: &str, report: &UpdateReport) -> Value {
    let users = |users: &[UserId]| users.iter().map(ToString::to_string).collect::<Vec<_>>();
    let refused: Vec<Value> = report
        .refused
        .iter()
        .map(|(user, refusal)| json!({ "user": user.to_string(), "refusal": events::in_json_refusal(refusal) }))
        .collect();
    json!({
        "stream": stream,
        "key_id": report.key_id.as_str(),
        "pushed": users(&report.pushed),
        "refused": refused,
        "must_pull": users(&report.must_pull),
    })
}
