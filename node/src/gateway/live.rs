//! `GET /streams/{id}/subscribe`: what is published from now on, as server-sent events or over a WebSocket.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{State, WebSocketUpgrade};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use serde::Deserialize;
use serde::de::IgnoredAny;
use veilcast::client::Replay;
use veilcast::{Partition, StreamId};

use super::caller::{Caller, is_upgrade};
use super::error::ApiError;
use super::feed::{self, Line, Live};
use super::params::{At, Params, partition, stream};
use super::readers::Readers;
use super::routes::Routes;
use super::{Gateway, history, known, socket};
use crate::api_key::Verb;

pub(super) fn routes(routes: Routes) -> Routes {
    routes.get("/streams/{id}/subscribe", subscribe)
}

/// A comment so often, that proxies and clients see that the connection lives, and that a client that went is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct What {
    /// Numbers, separated by commas; all without.
    partitions: Option<String>,
    /// Begin with so many stored messages of each.
    last: Option<u64>,
    /// Tell events, too.
    #[serde(default)]
    events: bool,
    /// Of whoever asks; see `caller`.
    #[serde(rename = "apiKey")]
    _api_key: Option<IgnoredAny>,
}

async fn subscribe(
    State(gateway): State<Gateway>,
    mut caller: Caller,
    At(id): At<String>,
    Params(what): Params<What>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let stream = stream(&id)?;
    caller.may(Verb::Subscribe, &stream)?;
    if let Some(n) = what.last {
        caller.may(Verb::History, &stream)?;
        if !(1..=history::MOST).contains(&n) {
            return Err(ApiError::bad(format!("last is 1 to {}", history::MOST)));
        }
    }
    if is_upgrade(&headers) {
        let upgrade = upgrade.map_err(|_| socket::needed())?;
        caller.stays()?;
        let live = follow(&gateway, &stream, &what).await?;
        return Ok(socket::subscribe(upgrade, gateway, caller, live, what.events));
    }
    if !accepts_events(&headers) {
        let message = "ask with Accept: text/event-stream, or for a WebSocket";
        return Err(ApiError::new(StatusCode::NOT_ACCEPTABLE, "not_acceptable", message));
    }
    caller.stays()?;
    let live = follow(&gateway, &stream, &what).await?;
    let lines = feed::lines_until(live, what.events, gateway, caller).map(|line| Ok::<_, Infallible>(event(line)));
    let mut response = Sse::new(lines).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

fn event(line: Line) -> Event {
    match line {
        Line::Message { json, id } => Event::default().event("message").id(id).data(json),
        Line::Event(json) => Event::default().event("event").data(json),
    }
}

async fn follow(gateway: &Gateway, stream: &StreamId, what: &What) -> Result<Live, ApiError> {
    subscription(gateway, &gateway.readers, stream, what.partitions.as_deref(), what.last.map(Replay::last)).await
}

/// One, within what these have, whatever partitions are named (numbers, separated by commas): each has queues of its own.
pub(super) async fn subscription(
    gateway: &Gateway,
    readers: &Readers,
    stream: &StreamId,
    partitions: Option<&str>,
    last: Option<Replay>,
) -> Result<Live, ApiError> {
    let count = known::partitions(gateway, stream).await?;
    let share = readers.share();
    let mut options = share.options();
    if let Some(named) = partitions {
        let numbers = named.split(',').map(partition).collect::<Result<BTreeSet<u32>, _>>()?;
        for number in &numbers {
            Partition::Number(*number).number(count)?;
        }
        options.partitions = Some(numbers);
    }
    let subscription = gateway.client.subscribe_with(stream, last, &options).await?;
    Ok(Live { subscription, share })
}

fn accepts_events(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accepted.is_none_or(|accepted| {
        accepted.split(',').any(|one| {
            let kind = one.split(';').next().unwrap_or_default().trim();
            matches!(kind, "text/event-stream" | "text/*" | "*/*")
        })
    })
}
