//! The way to whoever runs on a data folder: HTTP over its control socket.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, BodyStream, Full, Limited, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use super::ThroughError;
use super::asked::{self, Asked};
use crate::data_dir::DataDir;

/// How long it may take to do what it is asked: longer than a transaction on a chain is waited for, lest somebody send it twice.
const PATIENCE: Duration = Duration::from_secs(240);
/// Most bytes of an answer.
const ANSWER: usize = 256 << 20;

/// What is sent: a few bytes, or a file.
pub(super) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

pub(super) struct Link {
    sender: SendRequest<Body>,
}

impl Link {
    /// `None` where nobody listens: there is no socket, or a killed process left one behind.
    pub(super) async fn find(dir: &DataDir) -> Option<Self> {
        let stream = UnixStream::connect(dir.control()).await.ok()?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        Some(Self { sender })
    }

    pub(super) async fn get(&mut self, path: &str) -> Result<Value, ThroughError> {
        self.ask(Method::GET, path, None).await
    }

    pub(super) async fn delete(&mut self, path: &str) -> Result<Value, ThroughError> {
        self.ask(Method::DELETE, path, None).await
    }

    pub(super) async fn post(&mut self, path: &str, body: &Value) -> Result<Value, ThroughError> {
        self.ask(Method::POST, path, Some(("application/json", body.to_string().into()))).await
    }

    /// Sends a body of this content type.
    pub(super) async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: Option<(&'static str, Bytes)>,
    ) -> Result<Value, ThroughError> {
        let broken = |error: &dyn std::fmt::Display| ThroughError::Broken { what: error.to_string() };
        let request = Request::builder().method(method).uri(path).header(HOST, "localhost");
        let (request, body) = match body {
            Some((kind, body)) => (request.header(CONTENT_TYPE, kind), body),
            None => (request, Bytes::new()),
        };
        let request =
            request.body(Body::new(Full::new(body).map_err(|never| match never {}))).map_err(|error| broken(&error))?;
        self.sender.ready().await.map_err(|_| ThroughError::Stopped)?;
        let answer = tokio::time::timeout(PATIENCE, self.sender.send_request(request)).await;
        let answer = answer.map_err(|_| broken(&"it is silent"))?.map_err(|error| broken(&error))?;
        let done = answer.status().is_success();
        let body = Limited::new(answer.into_body(), ANSWER).collect().await.map_err(|error| broken(&error))?;
        let answer: Value = serde_json::from_slice(&body.to_bytes()).map_err(|error| broken(&error))?;
        if done { Ok(answer) } else { Err(ThroughError::of(&answer)) }
    }
}

impl Link {
    /// Hands over a command, and what it reads; the answer comes as frames for as long as it takes.
    pub(super) async fn command(&mut self, asked: &Asked, input: Body) -> Result<Incoming, ThroughError> {
        let broken = |error: &dyn std::fmt::Display| ThroughError::Broken { what: error.to_string() };
        let head = Full::new(asked.encode()).map_err(|never| match never {});
        let body = Body::new(StreamBody::new(BodyStream::new(head).chain(BodyStream::new(input))));
        let request = Request::builder().method(Method::POST).uri(asked::PATH).header(HOST, "localhost");
        let request = request.body(body).map_err(|error| broken(&error))?;
        self.sender.ready().await.map_err(|_| ThroughError::Stopped)?;
        let answer = self.sender.send_request(request).await.map_err(|error| broken(&error))?;
        if answer.status().is_success() {
            return Ok(answer.into_body());
        }
        // One of before there were commands says so, too.
        let body = Limited::new(answer.into_body(), ANSWER).collect().await.map_err(|error| broken(&error))?;
        Err(ThroughError::of(&serde_json::from_slice(&body.to_bytes()).unwrap_or_default()))
    }
}

/// Text as one segment of a path, or one value of a query.
pub(super) fn segment(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_one_segment_of_a_path() {
        assert_eq!(segment("0xab/a b?c#d/é"), "0xab%2Fa%20b%3Fc%23d%2F%C3%A9");
    }
}
