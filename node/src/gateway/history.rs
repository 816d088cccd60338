//! `GET /streams/{id}/data/partitions/{partition}/last|from|range`: stored messages, a line of JSON each.
//!
//! Lines are read from storage as fast as the client takes them. The status is decided by what comes first; where the history is
//! then found to be incomplete the answer breaks off, so that a client sees it is not whole.

use std::io;

use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::{StreamExt, stream};
use serde::Deserialize;
use veilcast::client::{Delivery, Replay, Subscription};
use veilcast::subscriber::StorageFault;
use veilcast::{Event, Partition, Refusal, UserId};

use super::Gateway;
use super::caller::Caller;
use super::error::ApiError;
use super::known::partitions;
use super::params::{At, Params, moment, partition, stream};
use super::readers::Share;
use super::routes::Routes;
use crate::api_key::Verb;
use crate::commands::subscribe::{events, print};

const LAST: &str = "/streams/{id}/data/partitions/{partition}/last";
const FROM: &str = "/streams/{id}/data/partitions/{partition}/from";
const RANGE: &str = "/streams/{id}/data/partitions/{partition}/range";

pub(super) fn routes(routes: Routes) -> Routes {
    routes.get(LAST, last).get(FROM, from).get(RANGE, range)
}

/// Most messages that `last` gives.
pub(super) const MOST: u64 = 1_000_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct What {
    count: Option<u64>,
    #[serde(rename = "fromTimestamp")]
    from: Option<String>,
    #[serde(rename = "toTimestamp")]
    to: Option<String>,
    #[serde(rename = "publisherId")]
    publisher: Option<String>,
    #[serde(default)]
    events: bool,
}

type Asked = (State<Gateway>, Caller, At<(String, String)>, Params<What>);

async fn last((gateway, caller, path, Params(what)): Asked) -> Result<Response, ApiError> {
    let count = what.count.unwrap_or(1);
    if !(1..=MOST).contains(&count) {
        return Err(ApiError::bad(format!("count is 1 to {MOST}")));
    }
    read(gateway, caller, path, what, Replay::last(count)).await
}

async fn from((gateway, caller, path, Params(what)): Asked) -> Result<Response, ApiError> {
    let from = needed("fromTimestamp", what.from.as_deref())?;
    read(gateway, caller, path, what, Replay::from(from)).await
}

async fn range((gateway, caller, path, Params(what)): Asked) -> Result<Response, ApiError> {
    let (from, to) = (needed("fromTimestamp", what.from.as_deref())?, needed("toTimestamp", what.to.as_deref())?);
    if to < from {
        return Err(ApiError::bad("toTimestamp is before fromTimestamp"));
    }
    read(gateway, caller, path, what, Replay::range(from, to)).await
}

fn needed(name: &str, text: Option<&str>) -> Result<veilcast::Timestamp, ApiError> {
    moment(name, text.ok_or_else(|| ApiError::bad(format!("{name} is needed")))?)
}

async fn read(
    State(gateway): State<Gateway>,
    caller: Caller,
    At((id, number)): At<(String, String)>,
    what: What,
    replay: Replay,
) -> Result<Response, ApiError> {
    let stream = stream(&id)?;
    caller.may(Verb::History, &stream)?;
    let number = partition(&number)?;
    let publisher = what.publisher.map(|text| text.parse::<UserId>()).transpose();
    let publisher = publisher.map_err(|_| ApiError::bad("publisherId is an address, 0x and 40 hex digits"))?;
    let replay = publisher.map_or(replay, |publisher| replay.publisher(publisher));
    let part = stream.part(Partition::Number(number).number(partitions(&gateway, &stream).await?)?)?;
    let share = gateway.readers.share();
    let options = share.options().partitions([part.number()]);
    let subscription = gateway.client.resend_with(&stream, replay, &options).await?;
    let mut reading = Reading { subscription, _share: share, events: what.events };
    let first = tokio::select! {
        first = reading.first() => first?,
        end = caller.ends(&gateway) => return Err(end.into()),
    };
    let rest = stream::unfold(Some(reading), |reading| async move {
        let mut reading = reading?;
        let line = reading.next().await?;
        let goes_on = line.is_ok();
        Some((line, goes_on.then_some(reading)))
    });
    // Cut off rather than ended: it is not whole.
    let cut = stream::once(Box::pin(async move {
        caller.ends(&gateway).await;
        Err(io::Error::other("stopped"))
    }));
    let lines = stream::iter(first.map(Ok)).chain(until(rest, cut));
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((StatusCode::OK, kind, Body::from_stream(lines)).into_response())
}

/// All of `lines`, unless `cut` comes before their end.
fn until<T: Send>(
    lines: impl futures::Stream<Item = T> + Send,
    cut: impl futures::Stream<Item = T> + Send,
) -> impl futures::Stream<Item = T> + Send {
    let (lines, cut) = (Box::pin(lines), Box::pin(cut));
    stream::unfold(Some((lines, cut)), |both| async move {
        let (mut lines, mut cut) = both?;
        tokio::select! {
            line = lines.next() => line.map(|line| (line, Some((lines, cut)))),
            cut = cut.next() => cut.map(|cut| (cut, None)),
        }
    })
}

struct Reading {
    subscription: Subscription,
    _share: Share,
    events: bool,
}

impl Reading {
    /// What comes first; nothing where there is nothing.
    ///
    /// # Errors
    /// Nothing can be read because somebody said no, or nobody could be asked.
    async fn first(&mut self) -> Result<Option<String>, ApiError> {
        let mut refused: Option<Refusal> = None;
        while let Some(delivery) = self.subscription.next().await {
            match &delivery {
                Delivery::Event(Event::StorageFault { fault: StorageFault::Refused(refusal), .. }) => {
                    refused = Some(*refusal);
                }
                Delivery::Event(Event::KeyRefused { refusal, .. }) => refused = Some(*refusal),
                Delivery::Event(Event::HistoryEnd { complete: false, .. }) if refused.is_none() => {
                    return Err(incomplete());
                }
                _ => {}
            }
            if let Some(line) = self.line(&delivery) {
                return Ok(Some(line));
            }
        }
        match refused {
            Some(refusal) => {
                let message = format!("nothing can be read: {}", events::reason(&refusal));
                Err(ApiError::new(StatusCode::FORBIDDEN, "not_permitted", message))
            }
            None => Ok(None),
        }
    }

    async fn next(&mut self) -> Option<io::Result<String>> {
        while let Some(delivery) = self.subscription.next().await {
            if matches!(delivery, Delivery::Event(Event::HistoryEnd { complete: false, .. })) {
                return Some(Err(io::Error::other("the history is not whole")));
            }
            if let Some(line) = self.line(&delivery) {
                return Some(Ok(line));
            }
        }
        None
    }

    fn line(&self, delivery: &Delivery) -> Option<String> {
        match delivery {
            Delivery::Message(message) => Some(print::in_json(message) + "\n"),
            Delivery::Event(event) => self.events.then(|| format!("{}\n", events::in_json(event))),
        }
    }
}

fn incomplete() -> ApiError {
    ApiError::new(StatusCode::BAD_GATEWAY, "incomplete", "no storage node could be read to its end")
}
