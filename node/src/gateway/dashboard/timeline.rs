//! `GET /streams/{id}/timeline`: the newest keys of a stream and who paid for which time, bounded, so that both can be looked at again
//! and again.

use axum::Json;
use axum::extract::State;
use serde::Deserialize;
use serde_json::{Value, json};
use veilcast::key_store::{KeyScope, KeyStore, StoreError, StoredKey, TimeRange};
use veilcast::{StreamId, Timestamp};

use super::super::Gateway;
use super::super::caller::Caller;
use super::super::error::ApiError;
use super::super::known::must_be_known;
use super::super::params::{On, Params};
use crate::api_key::Verb;
use crate::commands::key::list;
use crate::commands::now;
use crate::commands::stream::subscribers;

/// Most keys and grants that are told.
const MOST: usize = 500;
/// Keys are looked for in the last so many milliseconds first, then in eight times as many, and so on.
const FIRST_SPAN: u64 = 3_600_000;
/// Most keys that are looked at to find the newest.
const LOOKED_AT: usize = 20_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct What {
    /// Grants of users with this in their address only.
    find: Option<String>,
}

pub(super) async fn timeline(
    State(gateway): State<Gateway>,
    caller: Caller,
    On(stream): On,
    Params(what): Params<What>,
) -> Result<Json<Value>, ApiError> {
    if caller.may(Verb::Permissions, &stream).is_err() {
        caller.may(Verb::Keys, &stream)?;
    }
    let keys = told(keys(&gateway, &caller, &stream).await);
    let subscribers = told(grants(&gateway, &caller, &stream, &what.find.unwrap_or_default()).await);
    Ok(Json(json!({
        "stream": stream.as_str(),
        "now": now().as_millis(),
        "keys": keys,
        "subscribers": subscribers,
        "contract": contract(&gateway),
    })))
}

/// How far the events of the contract are read that decides, where one does: subscribers are as of that block.
fn contract(gateway: &Gateway) -> Option<Value> {
    let contract = gateway.readiness.contract.as_ref()?;
    let progress = contract.progress()?;
    Some(json!({
        "block": progress.at,
        "head": progress.head,
        "caught_up": progress.is_caught_up,
        "confirmations": contract.confirmations(),
    }))
}

/// Where one half cannot be told, why.
fn told(half: Result<Value, ApiError>) -> Value {
    half.unwrap_or_else(|error| json!({ "fault": error.in_json()["message"] }))
}

async fn keys(gateway: &Gateway, caller: &Caller, stream: &StreamId) -> Result<Value, ApiError> {
    caller.may(Verb::Keys, stream)?;
    let scope = veilcast::scope(gateway.client.user(), stream);
    let found = gateway.on_disk(move |shared| newest(&*shared.store, &scope, now(), MOST)).await?;
    found.map_err(ApiError::internal)
}

/// The newest keys of a scope, oldest of them first.
fn newest(store: &dyn KeyStore, scope: &KeyScope, now: Timestamp, most: usize) -> Result<Value, StoreError> {
    let current = store.current(scope)?.map(|current| current.key.id().clone());
    let mut span = FIRST_SPAN;
    let mut found = loop {
        let from = now.as_millis().saturating_sub(span);
        let found = within(store, scope, from)?;
        if found.len() > most || from == 0 {
            break found;
        }
        span = span.saturating_mul(8);
    };
    let more = found.len() > most;
    found.drain(..found.len().saturating_sub(most));
    let keys =
        found.iter().map(|stored| list::described(scope, false, stored, current.as_ref() == Some(stored.key.id())));
    Ok(json!({ "list": keys.collect::<Vec<_>>(), "more": more }))
}

fn within(store: &dyn KeyStore, scope: &KeyScope, from: u64) -> Result<Vec<StoredKey>, StoreError> {
    const PAGE: usize = 1000;
    let mut found: Vec<StoredKey> = Vec::new();
    loop {
        let after = found.last().map(StoredKey::cursor);
        let page = store.history(scope, TimeRange { from, ..TimeRange::ALL }, after.as_ref(), PAGE)?;
        let is_last = page.len() < PAGE;
        found.extend(page);
        if is_last || found.len() >= LOOKED_AT {
            return Ok(found);
        }
    }
}

async fn grants(gateway: &Gateway, caller: &Caller, stream: &StreamId, find: &str) -> Result<Value, ApiError> {
    caller.may(Verb::Permissions, stream)?;
    must_be_known(gateway, stream).await?;
    let client = &gateway.client;
    let (listed, rules) = (client.subscribers(stream).await?, client.access_rules(stream).await?);
    let holders = client.recipients(stream).await?;
    let rows = subscribers::rows(listed, &rules, &holders, now());
    Ok(bounded(subscribers::in_json(stream, &rows)["subscribers"].take(), find))
}

/// Who may read first, then who was last to end.
fn bounded(mut rows: Value, find: &str) -> Value {
    let mut rows = std::mem::take(rows.as_array_mut().unwrap_or(&mut Vec::new()));
    let total = rows.len();
    let active = rows.iter().filter(|row| row["status"] == "active").count();
    let wanted = find.to_ascii_lowercase();
    rows.retain(|row| row["user"].as_str().is_some_and(|user| user.contains(&wanted)));
    let found = rows.len();
    let place = |row: &Value| match row["status"].as_str() {
        Some("active") => 0,
        Some("not_yet") => 1,
        Some("denied") => 2,
        _ => 3,
    };
    let ended = |row: &Value| row["until"].as_u64().unwrap_or(u64::MAX);
    rows.sort_by_key(|row| (place(row), if place(row) == 0 { 0 } else { u64::MAX - ended(row) }));
    rows.truncate(MOST);
    json!({ "list": rows, "total": total, "active": active, "found": found })
}

#[cfg(test)]
mod tests {
    use veilcast::key_store::{GroupKey, MemoryKeyStore};

    use super::*;

    #[test]
    fn of_many_keys_the_newest_are_told_and_that_there_are_more() {
        let (store, day) = (MemoryKeyStore::default(), 86_400_000);
        let identity = veilcast::Identity::generate(&mut rand::rng());
        let stream = StreamId::of(identity.user(), "s").unwrap();
        let scope = veilcast::scope(identity.user(), &stream);
        for at in 1..=20 {
            store.make_current(&scope, &GroupKey::generate(&mut rand::rng()), at * day).unwrap();
        }
        let now = Timestamp::from_millis(20 * day + 5);
        let told = newest(&store, &scope, now, 6).unwrap();
        let since: Vec<u64> =
            told["list"].as_array().unwrap().iter().map(|key| key["since"].as_u64().unwrap()).collect();
        assert_eq!(since, (15..=20).map(|at| at * day).collect::<Vec<u64>>());
        assert_eq!((&told["more"], &told["list"][5]["current"]), (&json!(true), &json!(true)));
        let all = newest(&store, &scope, now, 20).unwrap();
        assert_eq!((all["list"].as_array().unwrap().len(), &all["more"]), (20, &json!(false)));
        assert!(!told.to_string().contains("bytes"));
    }

    #[test]
    fn who_may_read_comes_first_and_whoever_is_looked_for_is_found() {
        let row = |user: &str, until: u64, status: &str| json!({ "user": user, "until": until, "status": status });
        let rows = json!([row("0xaa", 5, "expired"), row("0xab", 9, "revoked"), row("0xbb", 7, "active")]);
        let told = bounded(rows.clone(), "");
        let users: Vec<&str> =
            told["list"].as_array().unwrap().iter().map(|row| row["user"].as_str().unwrap()).collect();
        assert_eq!(users, ["0xbb", "0xab", "0xaa"]);
        let found = bounded(rows, "0xA");
        assert_eq!((&found["found"], &found["total"], &found["active"]), (&json!(2), &json!(3), &json!(1)));
    }
}
