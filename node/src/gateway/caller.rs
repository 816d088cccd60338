//! Who asks: an application by its API key, or whoever can open the control socket.
//!
//! The key comes in the header `Authorization: Bearer KEY`. A WebSocket may bring it as `?apiKey=KEY`, since browsers and many
//! libraries set no headers there; nowhere else does a query count, for those end up in logs and histories. Here none is ever logged.

use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use serde::Deserialize;
use veilcast::StreamId;

use super::Gateway;
use super::crowd::{Full, Holder, Seat, SeatNumber, Stay};
use super::error::{ApiError, RETRY};
use super::journal::Asker;
use super::listener::Control;
use super::params::query;
use crate::api_key::{ApiKey, Verb};

/// Whoever can open the control socket is called this; no API key is.
const OWNER: &str = "control socket";

/// Whoever asks, known; and his connection's seat, which is taken for as long as something that he opened goes on.
pub(crate) struct Caller {
    who: Who,
    stay: Option<Stay>,
}

const REVOKED: &str = "this API key was revoked";

/// Why what is open is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The node stops.
    Stopping,
    /// The key was revoked.
    Revoked,
    /// Its place is somebody else's.
    GivesWay,
}

enum Who {
    /// By the control socket: everything.
    Owner,
    /// With this key.
    Key(Arc<ApiKey>),
}

impl Caller {
    /// Whoever has shown this key, without a seat yet.
    pub(super) const fn with(key: Arc<ApiKey>) -> Self {
        Self { who: Who::Key(key), stay: None }
    }

    /// Takes this seat, and stays; where it comes in the place of another of the same key, that one has none any more.
    ///
    /// # Errors
    /// 429 where the key has as many connections as it may have, 503 where all are taken.
    pub(super) fn sits(self, seat: &Seat, instead_of: Option<SeatNumber>) -> Result<Self, ApiError> {
        let holder = match &self.who {
            Who::Owner => Holder::Owner,
            Who::Key(key) => Holder::Key(key.name.clone()),
        };
        let mut stay = seat.show_instead(&holder, instead_of)?;
        stay.live()?;
        Ok(Self { stay: Some(stay), ..self })
    }

    /// On a stream.
    ///
    /// # Errors
    /// 403 where the key allows it not.
    pub(super) fn may(&self, verb: Verb, stream: &StreamId) -> Result<(), ApiError> {
        self.allowed(verb, Some(stream))
    }

    /// On the node as a whole.
    ///
    /// # Errors
    /// 403 where the key allows it not.
    pub(super) fn may_here(&self, verb: Verb) -> Result<(), ApiError> {
        self.allowed(verb, None)
    }

    /// What whoever asks is called.
    pub(super) fn name(&self) -> &str {
        match &self.who {
            Who::Owner => OWNER,
            Who::Key(key) => key.name.as_str(),
        }
    }

    /// Whether the stream is one of those that the key is for, whatever it allows there.
    pub(super) fn covers(&self, stream: &StreamId) -> bool {
        match &self.who {
            Who::Owner => true,
            Who::Key(key) => key.covers(stream),
        }
    }

    fn allowed(&self, verb: Verb, stream: Option<&StreamId>) -> Result<(), ApiError> {
        match &self.who {
            Who::Owner => Ok(()),
            Who::Key(key) if key.allows(verb, stream) => Ok(()),
            Who::Key(_) => {
                let on = stream.map_or_else(|| "this node".to_owned(), ToString::to_string);
                let message = format!("this API key does not allow {verb} on {on}");
                Err(ApiError::new(StatusCode::FORBIDDEN, "out_of_scope", message))
            }
        }
    }

    /// After a wait.
    ///
    /// # Errors
    /// 401 where the key was revoked meanwhile.
    pub(super) fn still_may(&self, gateway: &Gateway) -> Result<(), ApiError> {
        match &self.who {
            Who::Key(key) if !gateway.api_keys.knows(key) => Err(End::Revoked.into()),
            _ => Ok(()),
        }
    }

    /// What is opened now has no end of its own.
    ///
    /// # Errors
    /// 429 where the key has as many of these as it may have.
    pub(crate) fn stays(&mut self) -> Result<(), ApiError> {
        Ok(self.stay.as_mut().map_or(Ok(()), Stay::live)?)
    }

    /// Whoever asked may still be sending, and is to see what is said last.
    pub(super) fn linger(&self) {
        if let Some(stay) = &self.stay {
            stay.seat().linger();
        }
    }

    /// Returns once its seat is another's.
    pub(super) async fn gives_way(&self) {
        match &self.stay {
            None => std::future::pending().await,
            Some(stay) => stay.seat().given_up().await,
        }
    }

    /// Returns once the key is revoked, the node stops or the connection gives way: what is open is to be closed then.
    pub(super) async fn ends(&self, gateway: &Gateway) -> End {
        let gone = async {
            match &self.who {
                Who::Owner => std::future::pending().await,
                Who::Key(key) => gateway.api_keys.gone(key).await,
            }
        };
        tokio::select! {
            biased;
            () = gone => End::Revoked,
            () = gateway.stops() => End::Stopping,
            () = self.gives_way() => End::GivesWay,
        }
    }
}

impl FromRequestParts<Gateway> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, gateway: &Gateway) -> Result<Self, ApiError> {
        let seat = parts.extensions.get::<Seat>();
        let asker = parts.extensions.get::<Asker>().cloned().unwrap_or_default();
        let stay = |holder: Holder| seat.map(|seat| seat.show(&holder)).transpose();
        if parts.extensions.get::<Control>().is_some() {
            asker.is(OWNER);
            return Ok(Self { who: Who::Owner, stay: stay(Holder::Owner)? });
        }
        let unknown = |message| ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", message);
        let shown = shown(parts)?.ok_or_else(|| unknown("an API key is needed: Authorization: Bearer KEY"))?;
        let Some(key) = gateway.api_keys.find(&shown) else {
            asker.is_a_stranger();
            return Err(unknown("this API key is not known here"));
        };
        asker.is(key.name.as_str());
        let stay = stay(Holder::Key(key.name.clone()))?;
        Ok(Self { who: Who::Key(key), stay })
    }
}

impl From<End> for ApiError {
    fn from(end: End) -> Self {
        match end {
            End::Stopping => Self::stopping(),
            End::Revoked => Self::new(StatusCode::UNAUTHORIZED, "unauthorized", REVOKED),
            End::GivesWay => Full::House.into(),
        }
    }
}

impl From<Full> for ApiError {
    fn from(full: Full) -> Self {
        let (status, code) = match full {
            Full::House => (StatusCode::SERVICE_UNAVAILABLE, "full"),
            Full::Key(_) | Full::Live(_) | Full::Owner(_) => (StatusCode::TOO_MANY_REQUESTS, "too_many_connections"),
        };
        Self::new(status, code, full.to_string()).later(RETRY)
    }
}

#[derive(Deserialize)]
struct InQuery {
    #[serde(rename = "apiKey")]
    api_key: Option<String>,
}

fn shown(parts: &Parts) -> Result<Option<String>, ApiError> {
    if let Some(value) = parts.headers.get(header::AUTHORIZATION) {
        let wrong = || ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", "expected Authorization: Bearer KEY");
        let (scheme, key) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(wrong)?;
        return if scheme.eq_ignore_ascii_case("bearer") { Ok(Some(key.trim().to_owned())) } else { Err(wrong()) };
    }
    if !opens_a_socket(parts) {
        return Ok(None);
    }
    Ok(query::<InQuery>(&parts.uri)?.api_key)
}

/// Whether this is the beginning of a WebSocket, on a route that has one.
fn opens_a_socket(parts: &Parts) -> bool {
    let path = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
    let has_one = path.ends_with("/publish") || path.ends_with("/subscribe");
    let keyed = parts.headers.contains_key(header::SEC_WEBSOCKET_KEY);
    has_one && keyed && parts.method == Method::GET && is_upgrade(&parts.headers)
}

/// Whether a WebSocket is asked for.
pub(super) fn is_upgrade(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(header::UPGRADE).and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|text| text.eq_ignore_ascii_case("websocket"))
}
