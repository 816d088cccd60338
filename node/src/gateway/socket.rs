//! WebSockets. Frames are bounded, whoever answers no ping is gone, and what a client does not take is not kept for it.

use std::time::Duration;

use axum::extract::WebSocketUpgrade;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use axum::http::StatusCode;
use axum::response::Response;
use futures::StreamExt;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use veilcast::Payload;

use super::Gateway;
use super::caller::Caller;
use super::error::ApiError;
use super::feed::{self, Live};
use super::publish::Destination;

/// How often a ping is sent, and how many may stay without any sign of life.
const PING: Duration = Duration::from_secs(20);
const SILENT: u32 = 3;
/// What is collected before it is written, bytes. Beyond this sending waits, and one message at a time is on its way.
const BUFFER: usize = 64 * 1024;
/// By how much a payload may grow when it is written as JSON, where a character can become `\u0000`, and what stands beside it.
const IN_JSON: usize = 6;
const BESIDE: usize = 16 * 1024;

/// That this is for WebSockets.
pub(super) fn needed() -> ApiError {
    ApiError::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", "this is for WebSocket connections")
}

fn bounded(upgrade: WebSocketUpgrade, gateway: &Gateway) -> WebSocketUpgrade {
    let largest = gateway.settings.max_body;
    let upgrade = upgrade.max_message_size(largest).max_frame_size(largest).write_buffer_size(BUFFER);
    upgrade.max_write_buffer_size(BUFFER + BESIDE + IN_JSON * largest)
}

/// One frame in is one message: text that is JSON as JSON, other text as text, bytes as bytes. Each is answered by a frame, in their
/// order: where it stands, or why it was not published.
pub(super) fn publish(upgrade: WebSocketUpgrade, gateway: Gateway, caller: Caller, to: Destination) -> Response {
    let work = gateway.work.clone();
    bounded(upgrade, &gateway).on_upgrade(move |socket| {
        work.track_future(async move { Talk::new(socket).publish(&gateway, &caller, &to).await })
    })
}

/// Each message is a frame of JSON. What the client sends is not looked at.
pub(super) fn subscribe(
    upgrade: WebSocketUpgrade,
    gateway: Gateway,
    caller: Caller,
    live: Live,
    with_events: bool,
) -> Response {
    let work = gateway.work.clone();
    bounded(upgrade, &gateway).on_upgrade(move |socket| {
        let lines = feed::lines(live, with_events, gateway.clone(), caller);
        work.track_future(async move { Talk::new(socket).subscribe(lines).await })
    })
}

/// One socket, and whether anybody is there.
struct Talk {
    socket: WebSocket,
    pings: tokio::time::Interval,
    silent: u32,
}

/// Nobody is there any more.
struct Gone;

impl Talk {
    fn new(socket: WebSocket) -> Self {
        let mut pings = interval_at(Instant::now() + PING, PING);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { socket, pings, silent: 0 }
    }

    async fn publish(mut self, gateway: &Gateway, caller: &Caller, to: &Destination) {
        let ends = caller.ends(gateway);
        tokio::pin!(ends);
        loop {
            let heard = tokio::select! {
                heard = self.hear() => heard,
                _ = ends.as_mut() => break,
            };
            let payload = match heard {
                Err(Gone) => return,
                Ok(None) => continue,
                Ok(Some(payload)) => payload,
            };
            let answer = match to.publish(gateway, payload).await {
                Ok(done) => done,
                Err(refused) => refused.in_json(),
            };
            if self.say(answer.to_string()).await.is_err() {
                return;
            }
        }
        self.leave().await;
    }

    async fn subscribe(mut self, lines: impl futures::Stream<Item = feed::Line>) {
        tokio::pin!(lines);
        loop {
            tokio::select! {
                line = lines.next() => match line {
                    Some(line) => if self.say(line.into_json()).await.is_err() { return },
                    None => break,
                },
                heard = self.hear() => if heard.is_err() { return },
            }
        }
        self.leave().await;
    }

    /// The next message; `None` for what is none. Dropping the future loses nothing.
    async fn hear(&mut self) -> Result<Option<Payload>, Gone> {
        let heard = tokio::select! {
            heard = self.socket.recv() => heard,
            _ = self.pings.tick() => {
                self.silent += 1;
                if self.silent > SILENT {
                    return Err(Gone);
                }
                return self.socket.send(Message::Ping(Default::default())).await.map(|()| None).map_err(|_| Gone);
            }
        };
        self.silent = 0;
        match heard {
            Some(Ok(Message::Text(text))) => Ok(Some(payload(text))),
            Some(Ok(Message::Binary(bytes))) => Ok(Some(Payload::binary(bytes))),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(None),
            Some(Ok(Message::Close(_)) | Err(_)) | None => Err(Gone),
        }
    }

    async fn say(&mut self, text: String) -> Result<(), Gone> {
        self.socket.send(Message::Text(text.into())).await.map_err(|_| Gone)
    }

    async fn leave(mut self) {
        let reason = Utf8Bytes::from_static("the key was revoked, or this node stops");
        let close = Message::Close(Some(CloseFrame { code: close_code::AWAY, reason }));
        let _ = self.socket.send(close).await;
    }
}

fn payload(text: Utf8Bytes) -> Payload {
    match Payload::json_text(bytes::Bytes::copy_from_slice(text.as_bytes())) {
        Ok(json) => json,
        Err(_) => Payload::text(text.as_str()),
    }
}
