//! Why a request was not done: a status, and `{code, message}` in JSON. What went wrong inside is for the log alone.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use veilcast::client::ClientError;
use veilcast::permission::{GrantError, RegistryError};
use veilcast::stream::StreamIdError;
use veilcast::{Refusal, StreamId};

use crate::api_key::ApiKeyError;

/// When to come again where nobody knows better.
pub(super) const RETRY: Duration = Duration::from_secs(5);

/// The code of an answer that is a no, for whoever logs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Code(pub(super) &'static str);

/// An answer that is a no.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    retry_after: Option<Duration>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), retry_after: None }
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub(super) fn no_route() -> Self {
        Self::new(StatusCode::NOT_FOUND, "no_route", "there is nothing here; see /openapi.json")
    }

    pub(super) fn no_method() -> Self {
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "no_method", "this cannot be done here; see /openapi.json")
    }

    pub(super) fn no_stream(stream: &StreamId) -> Self {
        Self::new(StatusCode::NOT_FOUND, "no_stream", format!("there is no stream {stream}"))
    }

    pub(super) fn too_large(limit: usize) -> Self {
        let message = format!("a body has at most {limit} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }

    pub(super) fn stopping() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopping", "this node is stopping")
    }

    /// What happened goes to the log.
    pub(super) fn internal(error: impl std::fmt::Display) -> Self {
        tracing::error!(%error, "a request failed");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "this node failed; its log tells why")
    }

    pub(super) fn later(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// The status and the message, for whoever is told otherwise.
    pub(super) fn said(&self) -> (StatusCode, &str) {
        (self.status, &self.message)
    }

    /// The same for whoever is told on a socket.
    pub(super) fn in_json(&self) -> serde_json::Value {
        json!({ "code": self.code, "message": self.message })
    }

    fn refused(refusal: &Refusal, message: String) -> Self {
        match refusal {
            Refusal::Unavailable { retry_after } => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message).later(*retry_after)
            }
            Refusal::Throttled { retry_after } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "throttled", message).later(*retry_after)
            }
            _ => Self::new(StatusCode::FORBIDDEN, "not_permitted", message),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, axum::Json(self.in_json())).into_response();
        response.extensions_mut().insert(Code(self.code));
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        let unavailable = (self.status == StatusCode::SERVICE_UNAVAILABLE).then_some(RETRY);
        if let Some(after) = self.retry_after.or(unavailable) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        response
    }
}

impl From<ClientError> for ApiError {
    fn from(error: ClientError) -> Self {
        let message = error.to_string();
        let of = |status, code| Self::new(status, code, message.clone());
        match &error {
            ClientError::NotPermitted { refusal, .. } | ClientError::Refused { refusal, .. } => {
                Self::refused(refusal, message)
            }
            ClientError::NoStream { .. } => of(StatusCode::NOT_FOUND, "no_stream"),
            ClientError::NoStorage { .. } => of(StatusCode::NOT_FOUND, "no_storage"),
            ClientError::PayloadTooLarge { .. } => of(StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            ClientError::BackDated(_) => of(StatusCode::CONFLICT, "back_dated"),
            ClientError::GrantEnded { .. } => of(StatusCode::CONFLICT, "grant_ended"),
            ClientError::PreAgreed { .. } | ClientError::AgreedKeysOnly { .. } | ClientError::NoAgreedKey { .. } => {
                of(StatusCode::CONFLICT, "agreed_keys")
            }
            ClientError::KeyUsedBefore { .. } => of(StatusCode::CONFLICT, "key_used_before"),
            ClientError::StreamId(_) | ClientError::Backwards { .. } => of(StatusCode::BAD_REQUEST, "bad_request"),
            ClientError::Registry(error) => Self::of_registry(error),
            ClientError::Grant(error) => Self::of_grant(error),
            ClientError::Stopped => Self::stopping(),
            _ => Self::internal(error),
        }
    }
}

impl ApiError {
    fn of_registry(error: &RegistryError) -> Self {
        let of = |status, code| Self::new(status, code, error.to_string());
        match error {
            RegistryError::NoStream { .. } => of(StatusCode::NOT_FOUND, "no_stream"),
            RegistryError::NoGrant { .. } => of(StatusCode::NOT_FOUND, "no_grant"),
            RegistryError::StreamExists { .. } => of(StatusCode::CONFLICT, "stream_exists"),
            RegistryError::StillHeld { .. } => of(StatusCode::CONFLICT, "still_held"),
            RegistryError::Period(_) | RegistryError::Partitions { .. } => of(StatusCode::BAD_REQUEST, "bad_request"),
            _ => Self::internal(error),
        }
    }

    fn of_grant(error: &GrantError) -> Self {
        let of = |status, code| Self::new(status, code, error.to_string());
        match error {
            GrantError::NoStream { .. } => of(StatusCode::NOT_FOUND, "no_stream"),
            GrantError::NoGrant { .. } => of(StatusCode::NOT_FOUND, "no_grant"),
            GrantError::NotOwner { .. } | GrantError::EnsOwner { .. } => of(StatusCode::FORBIDDEN, "not_permitted"),
            GrantError::Period(_) => of(StatusCode::BAD_REQUEST, "bad_request"),
            GrantError::TooMany { .. } | GrantError::RevocationsFull => of(StatusCode::CONFLICT, "too_many"),
            _ => Self::internal(error),
        }
    }
}

impl From<StreamIdError> for ApiError {
    fn from(error: StreamIdError) -> Self {
        Self::bad(error.to_string())
    }
}

impl From<ApiKeyError> for ApiError {
    fn from(error: ApiKeyError) -> Self {
        let of = |status, code| Self::new(status, code, error.to_string());
        match &error {
            ApiKeyError::Exists { .. } => of(StatusCode::CONFLICT, "api_key_exists"),
            ApiKeyError::None { .. } => of(StatusCode::NOT_FOUND, "no_api_key"),
            ApiKeyError::TooMany => of(StatusCode::CONFLICT, "too_many"),
            ApiKeyError::OfNode { .. } => Self::bad(format!("{error} (all_streams: true)")),
            _ => Self::internal(error),
        }
    }
}
