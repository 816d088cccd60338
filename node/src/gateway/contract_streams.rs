//! `/streams` where a contract decides: it has no list of an owner's streams, and making one is a transaction; see
//! [`spending`](super::spending).

use axum::http::StatusCode;
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use veilcast::StreamId;
use veilcast::permission::StreamInfo;
use veilcast::permission::ethereum::Action;

use super::Gateway;
use super::caller::Caller;
use super::error::ApiError;
use super::known::{named_here, with_keys};
use super::spending::{Consent, contract, spend};
use super::streams::{Settings, keep};
use crate::commands::history;

/// Most streams that are told.
const STREAMS: usize = 500;
/// Streams asked about at a time.
const AT_A_TIME: usize = 16;

/// Streams that this node works with and the API key is for: in the order of their ids, those that the contract knows or cannot tell of
/// now.
pub(super) async fn list(gateway: &Gateway, caller: &Caller) -> Result<Value, ApiError> {
    let known = gateway
        .on_disk(|shared| {
            let mut known = named_here(shared);
            known.extend(with_keys(shared, |_| true)?);
            Ok::<_, ApiError>(known)
        })
        .await??;
    let covered: Vec<StreamId> = known.into_iter().filter(|stream| caller.covers(stream)).collect();
    let more = covered.len() > STREAMS;
    let asked = covered.into_iter().take(STREAMS).map(|id| async move {
        let info = match gateway.client.stream_info(&id).await {
            Ok(Some(info)) => Some(info),
            Ok(None) => return Ok(None),
            Err(_) => None,
        };
        described(gateway, &id, info.as_ref()).await.map(Some)
    });
    let told: Vec<Result<Option<Value>, ApiError>> = stream::iter(asked).buffered(AT_A_TIME).collect().await;
    let streams = told.into_iter().filter_map(Result::transpose).collect::<Result<Vec<Value>, ApiError>>()?;
    Ok(json!({ "streams": streams, "more": more }))
}

/// Without what nobody can tell now.
async fn described(gateway: &Gateway, id: &StreamId, info: Option<&StreamInfo>) -> Result<Value, ApiError> {
    let history = history::word(gateway.client.history(id).await?);
    let (partitions, public) = (info.map(|info| info.partitions), info.map(|info| info.public));
    Ok(json!({ "id": id.as_str(), "partitions": partitions, "public": public, "history": history }))
}

/// Makes the stream of this identity, if that is meant, and keeps its settings. One that exists already with as many partitions costs
/// nothing: what a request that broke off began is finished by the same once more.
///
/// # Errors
/// As [`spend`]; 409 `stream_exists` for one with other partitions.
pub(super) async fn create(
    gateway: &Gateway,
    stream: StreamId,
    partitions: u32,
    settings: Settings,
    consent: Consent,
) -> Result<Value, ApiError> {
    let mut told = json!({ "id": stream.as_str(), "partitions": partitions, "public": false });
    match gateway.client.stream_info(&stream).await? {
        None => {
            let path = stream.as_str().split_once('/').map_or("", |(_, path)| path).to_owned();
            told = spend(gateway, Action::CreateStream { path, partitions }, consent, told).await?;
        }
        Some(info) if info.partitions != partitions => {
            let message = format!("the stream {stream} exists already, with {} partitions", info.partitions);
            return Err(ApiError::new(StatusCode::CONFLICT, "stream_exists", message));
        }
        Some(info) => (told["public"], told["exists"]) = (info.public.into(), true.into()),
    }
    if consent.dry_run {
        told["dry_run"] = true.into();
        told["history"] = history::word(gateway.client.history(&stream).await?).into();
        return Ok(told);
    }
    // So that it is among those that this node knows, after a restart, too.
    contract(gateway)?.watch(&stream);
    keep(&gateway.client, &stream, settings, &mut told).await?;
    Ok(told)
}
