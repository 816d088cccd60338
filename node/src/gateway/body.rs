//! A request's body: no larger and no slower than it may be.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;

use super::Gateway;
use super::caller::Caller;
use super::error::ApiError;
use super::linger::{REST, WITHIN};

/// The whole body.
///
/// # Errors
/// 413 and 408; a length that is announced is believed at once. 401 where the key was revoked meanwhile.
pub(super) async fn read(
    gateway: &Gateway,
    caller: &Caller,
    headers: &HeaderMap,
    mut body: Body,
) -> Result<Bytes, ApiError> {
    let limit = gateway.settings.max_body;
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let collected = match announced.filter(|length| *length > limit) {
        Some(_) => Ok(Ok(None)),
        None => tokio::time::timeout(gateway.settings.body_timeout, collect(&mut body, limit)).await,
    };
    let slow = |_| ApiError::new(StatusCode::REQUEST_TIMEOUT, "too_slow", "the body took too long");
    match collected.map_err(slow)? {
        Ok(Some(bytes)) => caller.still_may(gateway).map(|()| bytes),
        // Who asks before he sends it (RFC 9110, section 10.1.1) is not told to go on.
        Ok(None) if announced.is_some() && headers.contains_key(header::EXPECT) => Err(ApiError::too_large(limit)),
        Ok(None) => {
            // Whoever still sends when the connection is closed may never see the answer.
            let _ = tokio::time::timeout(WITHIN, discard(&mut body)).await;
            Err(ApiError::too_large(limit))
        }
        Err(_) => Err(ApiError::bad("the body ended before it was whole")),
    }
}

/// `None` where it is larger.
async fn collect(body: &mut Body, limit: usize) -> Result<Option<Bytes>, axum::Error> {
    let mut collected = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        if collected.len() + data.len() > limit {
            return Ok(None);
        }
        collected.extend_from_slice(&data);
    }
    Ok(Some(collected.into()))
}

async fn discard(body: &mut Body) {
    let mut seen = 0;
    while let Some(Ok(frame)) = body.frame().await {
        seen += frame.data_ref().map_or(0, Bytes::len);
        if seen > REST {
            return;
        }
    }
}

/// A body that nobody read yet: whoever may not ask for this need not be heard.
pub(super) struct Sent {
    headers: HeaderMap,
    body: Body,
}

impl<S: Send + Sync> FromRequest<S> for Sent {
    type Rejection = Infallible;

    async fn from_request(request: Request, _: &S) -> Result<Self, Infallible> {
        let (parts, body) = request.into_parts();
        Ok(Self { headers: parts.headers, body })
    }
}

impl Sent {
    /// JSON, as a type; nothing counts as an empty object.
    ///
    /// # Errors
    /// As [`read`]; 415 for another content type, 400 for what is no such JSON.
    pub(super) async fn json<T: DeserializeOwned>(self, gateway: &Gateway, caller: &Caller) -> Result<T, ApiError> {
        let bytes = read(gateway, caller, &self.headers, self.body).await?;
        let bytes = if bytes.is_empty() { Bytes::from_static(b"{}") } else { bytes };
        // A page of another site can send a form without asking, and not JSON.
        if kind(&self.headers).is_some_and(|kind| kind != "application/json") {
            return Err(unsupported("application/json"));
        }
        serde_json::from_slice(&bytes).map_err(|error| ApiError::bad(format!("the body cannot be used: {error}")))
    }
}

pub(super) fn unsupported(expected: &str) -> ApiError {
    let message = format!("the content type is {expected}");
    ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "content_type", message)
}

/// The content type without its parameters, in lower case.
pub(super) fn kind(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
}
