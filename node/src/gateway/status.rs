//! `/health`: the process lives. `/ready`: it does what it is for. `/node`: what it is and did.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use veilcast::client::Multiaddr;
use veilcast::key_store::KeyStore;
use veilcast::permission::ethereum::EthereumRegistry;

use super::caller::Caller;
use super::error::ApiError;
use super::routes::Routes;
use super::{Gateway, Shared};
use crate::api_key::Verb;

pub(super) fn routes(routes: Routes) -> Routes {
    routes.get("/health", health).get("/ready", ready).get("/node", node)
}

/// How long what was found out is believed: nobody needs a key to ask, and asking a contract costs.
const FRESH: Duration = Duration::from_secs(5);
/// How long finding it out may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether it works, looked at now and then.
pub(crate) struct Readiness {
    /// The contract that decides, where one does.
    pub(crate) contract: Option<Arc<EthereumRegistry>>,
    last: Mutex<Option<(Instant, Vec<String>)>>,
}

impl Readiness {
    pub(crate) fn of(contract: Option<Arc<EthereumRegistry>>) -> Self {
        Self { contract, last: Mutex::default() }
    }
}

async fn health() -> Json<Value> {
    Json(json!({ "status": "alive" }))
}

async fn ready(State(gateway): State<Gateway>) -> (StatusCode, Json<Value>) {
    let reasons = gateway.not_ready().await;
    match reasons.is_empty() {
        true => (StatusCode::OK, Json(json!({ "status": "ready" }))),
        false => (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "status": "not_ready", "reasons": reasons }))),
    }
}

impl Gateway {
    /// Why it does not work; empty where it does. One looks at a time, the others take what it found.
    pub(super) async fn not_ready(&self) -> Vec<String> {
        if *self.stopping.borrow() {
            return vec!["the node is stopping".into()];
        }
        let mut last = self.readiness.last.lock().await;
        if let Some((_, reasons)) = last.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return reasons.clone();
        }
        let looked = tokio::time::timeout(PATIENCE, look(self)).await;
        let reasons = looked.unwrap_or_else(|_| vec!["what it needs does not answer in time".into()]);
        *last = Some((Instant::now(), reasons.clone()));
        reasons
    }
}

async fn look(gateway: &Gateway) -> Vec<String> {
    let mut reasons = Vec::new();
    if gateway.client.addresses().await.is_empty() {
        reasons.push("the network does not listen".to_owned());
    }
    if !matches!(gateway.on_disk(|shared: &Shared| shared.store.scopes().is_ok()).await, Ok(true)) {
        reasons.push("the store cannot be read".into());
    }
    let failed = tokio::time::timeout(Duration::ZERO, gateway.client.storage_failed()).await;
    if failed.is_ok() {
        reasons.push("the message store failed; nothing is stored any more".into());
    }
    if let Some(contract) = &gateway.readiness.contract
        && let Err(error) = contract.verify().await
    {
        tracing::warn!(%error, "the contract that decides about permissions cannot be asked");
        reasons.push("the contract that decides about permissions cannot be asked".into());
    }
    reasons
}

async fn node(State(gateway): State<Gateway>, caller: Caller) -> Result<Json<Value>, ApiError> {
    caller.may_here(Verb::Admin)?;
    let client = &gateway.client;
    let addresses: Vec<String> = client.addresses().await.iter().map(Multiaddr::to_string).collect();
    let stats = client.stats();
    Ok(Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "identity": client.user().to_string(),
        "peer_id": client.peer_id().to_string(),
        "addresses": addresses,
        "registry": gateway.registry.to_string(),
        "messages_published": stats.messages_published,
        "messages_received": stats.messages_received,
        "key_requests_received": stats.key_requests_received,
        "keys_granted": stats.keys_granted,
        "keys_refused": stats.keys_refused,
        "keys_rotated": stats.keys_rotated,
        "keys_rekeyed": stats.keys_rekeyed,
    })))
}
