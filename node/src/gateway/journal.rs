//! The log's line for each request: who asked, from where, for what, and what became of it. Never a key, a query or a body.
//!
//! What was refused is told by default. Whoever is refused as often as he likes fills no disk: of each who asks so many lines a minute
//! are written, and how many more there were.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use axum::extract::{MatchedPath, RawPathParams, Request};
use axum::http::{Method, StatusCode};
use axum::response::Response;
use axum::{RequestExt, body::Body};
use tokio::time::{Instant, sleep_until};
use tracing::field::display;
use veilcast::StreamId;

use super::Gateway;
use super::error::Code;
use super::listener::Control;

/// Refusals of one who asks that are told in a minute; all that have shown no key count as one, and so do all that have shown none of
/// ours.
const LINES: u32 = 20;
const MINUTE: Duration = Duration::from_secs(60);

/// Names of API keys have no brackets.
pub(super) const NOBODY: &str = "(no key)";
pub(super) const STRANGER: &str = "(unknown key)";

/// Where a connection comes from; the control socket has no address.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(super) Option<SocketAddr>);

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("local"),
        }
    }
}

/// Who asks, once that is found out.
#[derive(Clone, Default)]
pub(super) struct Asker(Arc<OnceLock<String>>);

impl Asker {
    /// What he is called.
    pub(super) fn is(&self, name: &str) {
        let _ = self.0.set(name.to_owned());
    }

    /// He has shown something that is no key of ours.
    pub(super) fn is_a_stranger(&self) {
        self.is(STRANGER);
    }

    fn name(&self) -> &str {
        self.0.get().map_or(NOBODY, String::as_str)
    }
}

/// What is told of one request.
pub(super) struct Entry {
    asker: Asker,
    peer: Peer,
    method: Method,
    /// As the router has it; where no route matched, what was asked for is anybody's text.
    path: String,
    stream: Option<StreamId>,
    began: Instant,
    /// Whether it came by the control socket, which is no application's.
    local: bool,
}

impl Entry {
    /// Of a request that was not looked at yet.
    pub(super) async fn of(request: &mut Request<Body>) -> Self {
        let params = request.extract_parts::<RawPathParams>().await.ok();
        let id = params.as_ref().and_then(|params| params.iter().find(|(name, _)| *name == "id"));
        let path = request.extensions().get::<MatchedPath>().map_or("(none)", MatchedPath::as_str);
        let entry = Self {
            asker: Asker::default(),
            peer: request.extensions().get::<Peer>().copied().unwrap_or(Peer(None)),
            method: request.method().clone(),
            path: path.to_owned(),
            stream: id.and_then(|(_, id)| StreamId::new(id).ok()),
            began: Instant::now(),
            local: request.extensions().get::<Control>().is_some(),
        };
        request.extensions_mut().insert(entry.asker.clone());
        entry
    }

    /// Tells what became of it, and counts it.
    pub(super) fn close(self, gateway: &Gateway, response: &Response) {
        let Self { asker, peer, method, path, stream, began, local } = self;
        if !local {
            gateway.meters.answered(&method, &path, response.status(), began.elapsed());
        }
        let (who, stream, ms) = (asker.name(), stream.as_ref().map(display), began.elapsed().as_millis());
        let (answer, status) = (response.status(), response.status().as_u16());
        if !(answer.is_client_error() || answer.is_server_error()) {
            match who {
                NOBODY => tracing::debug!(who, %peer, %method, path, stream, status, ms, "asked"),
                _ => tracing::info!(who, %peer, %method, path, stream, status, ms, "asked"),
            }
            return;
        }
        if !gateway.journal.has_room(gateway, who) {
            return;
        }
        let code = response.extensions().get::<Code>().map_or("none", |code| code.0);
        match is_grave(answer) {
            true => tracing::warn!(who, %peer, %method, path, stream, status, code, ms, "refused"),
            false => tracing::info!(who, %peer, %method, path, stream, status, code, ms, "refused"),
        }
    }
}

/// Somebody wants what he may not have, or this node cannot do what it is for. The rest is a mistake of whoever asks, for him to read.
fn is_grave(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS)
        || status.is_server_error()
}

/// How much was told, and of whom.
#[derive(Default)]
pub(crate) struct Journal(Mutex<Rations>);

impl Journal {
    /// There is no seat for a connection.
    pub(super) fn turned_away(&self, gateway: &Gateway, peer: Peer) {
        gateway.meters.turned_away();
        if self.has_room(gateway, NOBODY) {
            tracing::warn!(who = NOBODY, %peer, code = "full", "refused");
        }
    }

    /// What was refused through a door that has no requests: to whom, what, and why, in words of ours. `grave` as for a request.
    pub(super) fn refused(&self, gateway: &Gateway, who: &str, peer: Peer, grave: bool, what: &'static str, why: &str) {
        gateway.meters.refused(what);
        if !self.has_room(gateway, who) {
            return;
        }
        match grave {
            true => tracing::warn!(who, %peer, what, why, "refused"),
            false => tracing::info!(who, %peer, what, why, "refused"),
        }
    }

    /// Whether one more is told. Of those that are not, the number is, when the minute is over or the node stops.
    fn has_room(&self, gateway: &Gateway, who: &str) -> bool {
        let taken = self.lock().take(who, Instant::now());
        if let Taken::FirstLeftOut { until } = taken {
            let (gateway, who) = (gateway.clone(), who.to_owned());
            gateway.work.clone().spawn(async move {
                tokio::select! {
                    () = sleep_until(until) => {}
                    () = gateway.stops() => {}
                }
                let left_out = gateway.journal.lock().settle(&who);
                tracing::warn!(who, left_out, "refused more often than is listed");
            });
        }
        taken == Taken::Told
    }

    fn lock(&self) -> MutexGuard<'_, Rations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// So many lines a minute for each who asks.
#[derive(Default)]
struct Rations(HashMap<String, Ration>);

struct Ration {
    until: Instant,
    told: u32,
    left_out: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Taken {
    Told,
    /// A number is to be told at this moment.
    FirstLeftOut {
        until: Instant,
    },
    LeftOut,
}

impl Rations {
    fn take(&mut self, who: &str, now: Instant) -> Taken {
        match self.0.get_mut(who) {
            Some(ration) if ration.told < LINES && now < ration.until => ration.told += 1,
            // Nobody told yet how many were left out: the minute is not over.
            Some(ration) if now < ration.until || ration.left_out > 0 => {
                ration.left_out += 1;
                return if ration.left_out == 1 { Taken::FirstLeftOut { until: ration.until } } else { Taken::LeftOut };
            }
            _ => {
                self.0.retain(|_, ration| now < ration.until || ration.left_out > 0);
                self.0.insert(who.to_owned(), Ration { until: now + MINUTE, told: 1, left_out: 0 });
            }
        }
        Taken::Told
    }

    /// How many were left out; a new minute begins with the next.
    fn settle(&mut self, who: &str) -> u64 {
        self.0.remove(who).map_or(0, |ration| ration.left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_each_who_asks_so_many_lines_a_minute_are_told_and_then_how_many_more_there_were() {
        let (mut rations, begun) = (Rations::default(), Instant::now());
        for n in 0..LINES {
            assert_eq!(rations.take("a", begun + Duration::from_secs(n.into())), Taken::Told);
        }
        let until = begun + MINUTE;
        assert_eq!(rations.take("a", begun + MINUTE / 2), Taken::FirstLeftOut { until });
        assert_eq!(rations.take("a", begun + MINUTE / 2), Taken::LeftOut);
        assert_eq!(rations.take("b", begun + MINUTE / 2), Taken::Told, "one keeps no other out of the log");
        // However late the number is told, none is lost.
        assert_eq!(rations.take("a", begun + 3 * MINUTE), Taken::LeftOut);
        assert_eq!(rations.settle("a"), 3);
        assert_eq!(rations.take("a", begun + 3 * MINUTE), Taken::Told);
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let (mut rations, begun) = (Rations::default(), Instant::now());
        for n in 0..1000 {
            rations.take(&n.to_string(), begun);
        }
        rations.take("late", begun + MINUTE);
        assert_eq!(rations.0.len(), 1);
    }

    #[test]
    fn who_may_not_or_a_node_that_cannot_is_grave_and_a_mistyped_question_is_not() {
        for (status, grave) in
            [(401, true), (403, true), (429, true), (500, true), (503, true), (400, false), (404, false)]
        {
            assert_eq!(is_grave(StatusCode::from_u16(status).unwrap()), grave, "{status}");
        }
    }
}
