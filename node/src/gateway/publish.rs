//! `POST /streams/{id}`: one message. `GET /streams/{id}/publish`: a WebSocket, one frame a message.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{State, WebSocketUpgrade};
use axum::http::HeaderMap;
use axum::response::Response;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use veilcast::{Partition, Payload, StreamId, Timestamp};

use super::caller::Caller;
use super::error::ApiError;
use super::known::must_be_made;
use super::params::{At, Params, moment, partition, stream};
use super::routes::Routes;
use super::{Gateway, body, socket};
use crate::api_key::Verb;
use crate::commands::now;

pub(super) fn routes(routes: Routes) -> Routes {
    routes.post("/streams/{id}", one).get("/streams/{id}/publish", many)
}

/// How far ahead of this machine's clock a message may be dated. Whatever is published behind it in its partition is dated later
/// still, and nobody stores what is from too far ahead.
const AHEAD: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Where {
    partition: Option<String>,
    #[serde(rename = "partitionKey")]
    partition_key: Option<String>,
    timestamp: Option<String>,
    /// Of whoever asks; see `caller`.
    #[serde(rename = "apiKey")]
    _api_key: Option<IgnoredAny>,
}

impl Where {
    /// As it is said elsewhere than in a query.
    pub(super) fn new(partition: Option<String>, partition_key: Option<String>, timestamp: Option<String>) -> Self {
        Self { partition, partition_key, timestamp, _api_key: None }
    }
}

/// Where messages go, and when they are from.
#[derive(Clone)]
pub(super) struct Destination {
    stream: StreamId,
    partition: Partition,
    timestamp: Option<Timestamp>,
}

impl Destination {
    pub(super) fn of(stream: StreamId, given: Where) -> Result<Self, ApiError> {
        let partition = match (given.partition, given.partition_key) {
            (Some(_), Some(_)) => return Err(ApiError::bad("give partition or partitionKey, not both")),
            (Some(number), None) => Partition::Number(partition(&number)?),
            (None, Some(key)) => Partition::Key(key),
            (None, None) => Partition::default(),
        };
        let timestamp = given.timestamp.map(|text| moment("timestamp", &text)).transpose()?;
        if timestamp.is_some_and(|at| at > now().plus(AHEAD)) {
            return Err(ApiError::bad(format!("timestamp is more than {} s ahead of now", AHEAD.as_secs())));
        }
        Ok(Self { stream, partition, timestamp })
    }

    /// Publishes, to its end: whoever hangs up meanwhile must not leave a gap in the chain.
    ///
    /// # Errors
    /// 404 where there is no such stream, so that no key is made for it, whatever door it was asked through.
    pub(super) async fn publish(&self, gateway: &Gateway, payload: Payload) -> Result<Value, ApiError> {
        must_be_made(gateway, &self.stream).await?;
        let (client, to) = (gateway.client.clone(), self.clone());
        let published =
            gateway.finish(async move { client.publish_to(&to.stream, to.partition, payload, to.timestamp).await });
        let at = published.await??;
        let (timestamp, sequence) = (at.timestamp.as_millis(), at.sequence);
        Ok(json!({ "stream": self.stream.as_str(), "timestamp": timestamp, "sequence": sequence }))
    }
}

async fn one(
    State(gateway): State<Gateway>,
    caller: Caller,
    At(id): At<String>,
    Params(given): Params<Where>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    let stream = stream(&id)?;
    caller.may(Verb::Publish, &stream)?;
    let destination = Destination::of(stream, given)?;
    must_be_made(&gateway, &destination.stream).await?;
    let kind = body::kind(&headers);
    let bytes = body::read(&gateway, &caller, &headers, body).await?;
    let payload = match kind.as_deref() {
        Some("application/json") => Payload::json_text(bytes).map_err(|error| ApiError::bad(error.to_string()))?,
        Some("text/plain") => match String::from_utf8(bytes.into()) {
            Ok(text) => Payload::text(text),
            Err(_) => return Err(ApiError::bad("text is UTF-8; send other bytes as application/octet-stream")),
        },
        Some("application/octet-stream") | None => Payload::binary(bytes),
        Some(_) => return Err(body::unsupported("application/json, text/plain or application/octet-stream")),
    };
    Ok(Json(destination.publish(&gateway, payload).await?))
}

async fn many(
    State(gateway): State<Gateway>,
    mut caller: Caller,
    At(id): At<String>,
    Params(given): Params<Where>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let stream = stream(&id)?;
    caller.may(Verb::Publish, &stream)?;
    if given.timestamp.is_some() {
        return Err(ApiError::bad("messages of a WebSocket are dated when they come"));
    }
    let destination = Destination::of(stream, given)?;
    let upgrade = upgrade.map_err(|_| socket::needed())?;
    must_be_made(&gateway, &destination.stream).await?;
    caller.stays()?;
    Ok(socket::publish(upgrade, gateway, caller, destination))
}
