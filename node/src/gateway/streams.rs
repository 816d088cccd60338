//! `/streams`: those there are, and new ones.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use veilcast::client::{Client, ClientError, StreamOptions};
use veilcast::exchange::HistoryPolicy;
use veilcast::permission::StreamSettings;
use veilcast::publisher::{Every, KeyPolicy};
use veilcast::{Period, Permission, StreamId, UserId};

use super::body::Sent;
use super::caller::Caller;
use super::error::ApiError;
use super::routes::Routes;
use super::spending::Consent;
use super::{Gateway, contract_streams};
use crate::api_key::Verb;
use crate::args::{Kept, Registry, parse_history, parse_rhythm};
use crate::commands::stream::own;
use crate::commands::{history, rhythm};

pub(super) fn routes(routes: Routes) -> Routes {
    routes.get("/streams", list).post("/streams", create)
}

/// Whatever a key allows, it sees the streams that it is for.
async fn list(State(gateway): State<Gateway>, caller: Caller) -> Result<Json<Value>, ApiError> {
    let client = &gateway.client;
    let known: Vec<StreamId> = match gateway.registry {
        Registry::Kept(Kept::Local) => {
            let registry = client.registry().clone();
            let known = gateway.on_disk(move |_| registry.streams()).await?.map_err(ApiError::internal)?;
            known.into_iter().map(|(id, _)| id).collect()
        }
        Registry::Kept(Kept::Grants) => {
            let grants = client.signed_grants().clone();
            gateway.on_disk(move |_| grants.streams()).await?.map_err(ApiError::internal)?
        }
        Registry::Chain(_) => return contract_streams::list(&gateway, &caller).await.map(Json),
    };
    let mut streams = Vec::new();
    for stream in known.iter().filter(|stream| caller.covers(stream)) {
        if let Some(info) = client.stream_info(stream).await? {
            let history = history::word(client.history(stream).await?);
            let (partitions, public) = (info.partitions, info.public);
            streams.push(json!({
                "id": stream.as_str(), "partitions": partitions, "public": public, "history": history,
            }));
        }
    }
    Ok(Json(json!({ "streams": streams })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    path: String,
    partitions: Option<u32>,
    #[serde(default)]
    public: bool,
    #[serde(default)]
    publishers: Vec<String>,
    #[serde(default)]
    storage: Vec<String>,
    rotate_every: Option<String>,
    rekey_every: Option<String>,
    history: Option<String>,
    #[serde(default)]
    dry_run: bool,
    #[serde(default)]
    confirm: bool,
    max_cost_wei: Option<String>,
}

/// What is kept of a stream here, whoever decides; nothing is changed that is not given.
pub(super) struct Settings {
    rotate_every: Option<Every>,
    rekey_every: Option<Every>,
    history: Option<HistoryPolicy>,
}

impl New {
    fn settings(&self) -> Result<Settings, ApiError> {
        let (rotate_every, rekey_every) = (every(self.rotate_every.as_deref())?, every(self.rekey_every.as_deref())?);
        let history = self.history.as_deref().map(parse_history).transpose().map_err(ApiError::bad)?;
        Ok(Settings { rotate_every, rekey_every, history })
    }

    fn consent(&self) -> Result<Consent, ApiError> {
        Consent::new(self.dry_run, self.confirm, self.max_cost_wei.as_deref())
    }
}

/// Keeps them, and tells what counts from now on.
///
/// # Errors
/// 500 when the store fails.
pub(super) async fn keep(
    client: &Client,
    stream: &StreamId,
    settings: Settings,
    told: &mut Value,
) -> Result<(), ClientError> {
    let Settings { rotate_every, rekey_every, history } = settings;
    if let Some(history) = history {
        client.set_history(stream, history).await?;
    }
    let kept = client.key_policy(stream).await?;
    let policy = KeyPolicy {
        rotate_every: rotate_every.unwrap_or(kept.rotate_every),
        rekey_every: rekey_every.unwrap_or(kept.rekey_every),
    };
    if rotate_every.is_some() || rekey_every.is_some() {
        client.set_key_policy(stream, policy).await?;
    }
    told["history"] = history::word(client.history(stream).await?).into();
    told["key_policy"] = rhythm::in_json(policy);
    Ok(())
}

async fn create(State(gateway): State<Gateway>, caller: Caller, sent: Sent) -> Result<Json<Value>, ApiError> {
    caller.may_here(Verb::Admin)?;
    let new: New = sent.json(&gateway, &caller).await?;
    let (publishers, storage) = (users(&new.publishers)?, users(&new.storage)?);
    let (settings, consent) = (new.settings()?, new.consent()?);
    let (partitions, public) = (new.partitions.unwrap_or(1), new.public);
    if !(1..=veilcast::stream::MAX_PARTITIONS).contains(&partitions) {
        return Err(ApiError::bad("a stream has 1 to 100 partitions"));
    }
    let (client, registry) = (gateway.client.clone(), gateway.registry);
    let path = path(client.user(), &new.path)?;
    if matches!(registry, Registry::Chain(_)) {
        if public || !publishers.is_empty() || !storage.is_empty() {
            return Err(one_transaction());
        }
        let (stream, door) = (StreamId::of(client.user(), &path)?, gateway.clone());
        let making = async move { contract_streams::create(&door, stream, partitions, settings, consent).await };
        return Ok(Json(gateway.finish(making).await??));
    }
    consent.must_not_be_dry()?;
    if !storage.is_empty() && matches!(registry, Registry::Kept(Kept::Local)) {
        return Err(ApiError::bad("storage nodes are named in records that owners sign, with the registry grants"));
    }
    let made = gateway.finish(async move {
        let stream = match registry {
            Registry::Kept(Kept::Grants) => {
                let settings = StreamSettings { partitions, public, publishers, storage };
                client.set_up_stream(&path, settings).await?
            }
            _ => {
                let options = StreamOptions { partitions, public, ..StreamOptions::default() };
                let stream = client.create_stream(&path, options).await?;
                for user in publishers {
                    client.grant(&stream, user, Permission::Publish, Period::ALWAYS).await?;
                }
                stream
            }
        };
        let mut told = json!({ "id": stream.as_str(), "partitions": partitions, "public": public });
        keep(&client, &stream, settings, &mut told).await?;
        Ok::<_, ClientError>(told)
    });
    Ok(Json(made.await??))
}

/// Whoever agreed to one transaction agreed to no further one.
fn one_transaction() -> ApiError {
    let message = "with a contract one request is one transaction, and this one makes the stream: who else may publish is said by POST \
        /streams/{id}/permissions, who may read everything by veilcast stream set, and storage nodes are named with the registry grants";
    ApiError::new(StatusCode::BAD_REQUEST, "one_transaction", message)
}

/// As the command line understands one: a path, or the whole id of a stream of one's own.
fn path(user: UserId, text: &str) -> Result<String, ApiError> {
    let stream = own(user, text).map_err(|failure| ApiError::bad(failure.to_string()))?;
    Ok(stream.as_str().split_once('/').map_or_else(String::new, |(_, path)| path.to_owned()))
}

fn users(texts: &[String]) -> Result<Vec<UserId>, ApiError> {
    let user = |text: &String| text.parse().map_err(|_| ApiError::bad("a user is an address, 0x and 40 hex digits"));
    texts.iter().map(user).collect()
}

fn every(text: Option<&str>) -> Result<Option<Every>, ApiError> {
    text.map(parse_rhythm).transpose().map_err(|error| ApiError::bad(error.to_string()))
}
