//! What stands in a path or a query, understood.

use std::fmt::Display;

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::Uri;
use axum::http::request::Parts;
use serde::de::DeserializeOwned;
use veilcast::{StreamId, Timestamp};

use super::error::ApiError;
use crate::times::{When, parse_span, parse_when};

/// A query, as a type.
pub(super) struct Params<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        query(&parts.uri).map(Self)
    }
}

/// What a path names, as a type.
pub(super) struct At<T>(pub(super) T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for At<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let named = Path::<T>::from_request_parts(parts, state).await;
        named.map(|Path(named)| Self(named)).map_err(|_| ApiError::bad("the path cannot be understood"))
    }
}

/// The stream that a path names as `{id}`, where that is all it names.
pub(super) struct On(pub(super) StreamId);

impl<S: Send + Sync> FromRequestParts<S> for On {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let At(id) = At::<String>::from_request_parts(parts, state).await?;
        stream(&id).map(Self)
    }
}

/// A query, where a handler has no use for it. What is said of a query that is none does not repeat it: a key may be in it.
pub(super) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, ApiError> {
    let parsed = Query::<T>::try_from_uri(uri);
    parsed.map(|Query(query)| query).map_err(|_| ApiError::bad("the query cannot be understood; see /openapi.json"))
}

/// The stream in a path, where its slash comes as `%2F`.
pub(super) fn stream(id: &str) -> Result<StreamId, ApiError> {
    StreamId::new(id).map_err(|error| {
        ApiError::bad(format!("{error}; in a path a stream is 0xOWNER%2Fpath, its slash percent-encoded"))
    })
}

/// A moment: RFC 3339 or unix milliseconds.
pub(super) fn moment(name: &str, text: &str) -> Result<Timestamp, ApiError> {
    let wrong = |why: &dyn Display| {
        ApiError::bad(format!("{name} is unix milliseconds or RFC 3339 (2027-01-31T08:00:00Z): {why}"))
    };
    match parse_when(text) {
        _ if text == "0" => Ok(Timestamp::ZERO),
        Ok(When::At(moment)) => Ok(moment),
        Ok(When::After(_)) => Err(wrong(&format_args!("{text} is a span"))),
        Err(error) => Err(wrong(&error)),
    }
}

/// When a period ends that begins then and lasts so long.
pub(super) fn lasting(text: &str, start: Timestamp) -> Result<Timestamp, ApiError> {
    let span = parse_span(text).map_err(|error| ApiError::bad(format!("for: {error}")))?;
    Ok(start.plus(span))
}

/// A partition's number.
pub(super) fn partition(text: &str) -> Result<u32, ApiError> {
    let number = text.parse().ok().filter(|number| *number < veilcast::stream::MAX_PARTITIONS);
    number.ok_or_else(|| ApiError::bad("a partition is a number from 0 to 99"))
}
