//! WebSockets. Frames are bounded, whoever answers no ping is gone, and what a client does not take is not kept for it.

use std::time::Duration;

use axum::extract::WebSocketUpgrade;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, close_code};
use axum::http::StatusCode;
use axum::response::Response;
use futures::StreamExt;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_tungstenite::tungstenite::{self, error::ProtocolError};
use veilcast::Payload;

use super::Gateway;
use super::caller::{Caller, End};
use super::error::ApiError;
use super::feed::{self, Live};
use super::publish::Destination;

/// How often a ping is sent, and how many may stay without any sign of life.
const PING: Duration = Duration::from_secs(20);
const SILENT: u32 = 3;
/// How long whoever is there has to be told that it is over.
const FAREWELL: Duration = Duration::from_secs(1);
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
        let lines = feed::lines(live, with_events);
        work.track_future(async move { Talk::new(socket).subscribe(&gateway, &caller, lines).await })
    })
}

/// One socket, and whether anybody is there.
struct Talk {
    socket: WebSocket,
    pings: tokio::time::Interval,
    silent: u32,
}

/// Why it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// Nobody is there any more, or whoever is said so.
    Gone,
    /// What came cannot be taken.
    Wrong(Fault),
    /// It is to be closed.
    End(End),
}

/// What came and should not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    TooLarge,
    NotText,
    Protocol,
}

impl Over {
    /// The close code of RFC 6455, section 7.4.1 (1013: its registry), and a word to it; `None` where nobody is told.
    fn told(self) -> Option<(u16, &'static str)> {
        Some(match self {
            Self::Gone => return None,
            Self::Wrong(Fault::TooLarge) => (close_code::SIZE, "the message is too large"),
            Self::Wrong(Fault::NotText) => (close_code::INVALID, "text is UTF-8"),
            Self::Wrong(Fault::Protocol) => (close_code::PROTOCOL, "this is not the WebSocket protocol"),
            Self::End(End::Revoked) => (close_code::POLICY, "this API key was revoked"),
            Self::End(End::Stopping) => (close_code::AWAY, "this node stops"),
            Self::End(End::GivesWay) => (close_code::AGAIN, "too many connections; try later"),
        })
    }

    /// Of what went wrong while something was read.
    fn of(error: axum::Error) -> Self {
        let error = error.into_inner().downcast::<tungstenite::Error>();
        match error.map(|error| *error) {
            Ok(tungstenite::Error::Capacity(_)) => Self::Wrong(Fault::TooLarge),
            Ok(tungstenite::Error::Utf8(_)) => Self::Wrong(Fault::NotText),
            Ok(tungstenite::Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => Self::Gone,
            Ok(tungstenite::Error::Protocol(_) | tungstenite::Error::AttackAttempt) => Self::Wrong(Fault::Protocol),
            _ => Self::Gone,
        }
    }
}

impl Talk {
    fn new(socket: WebSocket) -> Self {
        let mut pings = interval_at(Instant::now() + PING, PING);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { socket, pings, silent: 0 }
    }

    async fn publish(mut self, gateway: &Gateway, caller: &Caller, to: &Destination) {
        let over = self.publish_on(gateway, caller, to).await;
        self.leave(over, caller).await;
    }

    async fn publish_on(&mut self, gateway: &Gateway, caller: &Caller, to: &Destination) -> Over {
        let ends = caller.ends(gateway);
        tokio::pin!(ends);
        loop {
            // What ends comes first: of a key that was revoked nothing more is published.
            let heard = tokio::select! {
                biased;
                end = ends.as_mut() => return Over::End(end),
                heard = self.hear() => heard,
            };
            let payload = match heard {
                Err(over) => return over,
                Ok(None) => continue,
                Ok(Some(payload)) => payload,
            };
            let answer = match to.publish(gateway, payload).await {
                Ok(done) => done,
                Err(refused) => refused.in_json(),
            };
            // What was published is told, if anybody takes it.
            let said = tokio::select! {
                biased;
                said = self.say(answer.to_string()) => said,
                end = ends.as_mut() => return Over::End(end),
            };
            if let Err(over) = said {
                return over;
            }
        }
    }

    async fn subscribe(mut self, gateway: &Gateway, caller: &Caller, lines: impl futures::Stream<Item = feed::Line>) {
        tokio::pin!(lines);
        let over = {
            let ends = caller.ends(gateway);
            tokio::pin!(ends);
            tokio::select! {
                biased;
                end = ends => Over::End(end),
                over = self.subscribe_on(lines) => over,
            }
        };
        self.leave(over, caller).await;
    }

    async fn subscribe_on(&mut self, mut lines: impl futures::Stream<Item = feed::Line> + Unpin) -> Over {
        loop {
            let done = tokio::select! {
                line = lines.next() => match line {
                    Some(line) => self.say(line.into_json()).await,
                    None => return Over::End(End::Stopping),
                },
                heard = self.hear() => heard.map(drop),
            };
            if let Err(over) = done {
                return over;
            }
        }
    }

    /// The next message; `None` for what is none. Dropping the future loses nothing.
    async fn hear(&mut self) -> Result<Option<Payload>, Over> {
        let heard = tokio::select! {
            heard = self.socket.recv() => heard,
            _ = self.pings.tick() => {
                self.silent += 1;
                if self.silent > SILENT {
                    return Err(Over::Gone);
                }
                return self.socket.send(Message::Ping(Default::default())).await.map(|()| None).map_err(|_| Over::Gone);
            }
        };
        self.silent = 0;
        match heard {
            Some(Ok(Message::Text(text))) => Ok(Some(payload(text))),
            Some(Ok(Message::Binary(bytes))) => Ok(Some(Payload::binary(bytes))),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => Ok(None),
            Some(Ok(Message::Close(_))) => {
                // Reading on is what sends the answer to it.
                let _ = tokio::time::timeout(FAREWELL, self.socket.recv()).await;
                Err(Over::Gone)
            }
            Some(Err(error)) => Err(Over::of(error)),
            None => Err(Over::Gone),
        }
    }

    async fn say(&mut self, text: String) -> Result<(), Over> {
        self.socket.send(Message::Text(text.into())).await.map_err(|_| Over::Gone)
    }

    async fn leave(mut self, over: Over, caller: &Caller) {
        let Some((code, reason)) = over.told() else { return };
        let close = Message::Close(Some(CloseFrame { code, reason: Utf8Bytes::from_static(reason) }));
        let _ = tokio::time::timeout(FAREWELL, self.socket.send(close)).await;
        // A stop waits for nobody.
        if over != Over::End(End::Stopping) {
            caller.linger();
        }
    }
}

fn payload(text: Utf8Bytes) -> Payload {
    match Payload::json_text(bytes::Bytes::copy_from_slice(text.as_bytes())) {
        Ok(json) => json,
        Err(_) => Payload::text(text.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_there_is_told_by_the_close_code_why_it_is_over() {
        for (over, code) in [
            (Over::Wrong(Fault::TooLarge), Some(1009)),
            (Over::Wrong(Fault::NotText), Some(1007)),
            (Over::Wrong(Fault::Protocol), Some(1002)),
            (Over::End(End::Revoked), Some(1008)),
            (Over::End(End::Stopping), Some(1001)),
            (Over::End(End::GivesWay), Some(1013)),
            (Over::Gone, None),
        ] {
            assert_eq!(over.told().map(|(code, _)| code), code, "{over:?}");
            // A close frame has room for 125 bytes, two of them for the code.
            assert!(over.told().is_none_or(|(_, reason)| reason.len() <= 123));
        }
        assert_eq!(Over::of(axum::Error::new(std::io::Error::other("closed"))), Over::Gone);
    }
}
