//! An application at the gateway: HTTP, server-sent events, WebSockets.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt, future, stream};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use veilcast_benches::Outcome;

/// How long an answer may take: others share the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A WebSocket.
pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Asks one gateway. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Web {
    client: Client<HttpConnector, Full<Bytes>>,
    gateway: Arc<str>,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Outcome<Value> {
        Ok(serde_json::from_slice(&self.body)?)
    }

    /// The JSON of what worked.
    pub(crate) fn ok(&self) -> Outcome<Value> {
        if self.status == 200 { self.json() } else { Err(self.words().into()) }
    }

    pub(crate) fn words(&self) -> String {
        format!("{}: {}", self.status, String::from_utf8_lossy(&self.body))
    }
}

impl Web {
    pub(crate) fn new(gateway: &str) -> Self {
        let mut builder = Client::builder(TokioExecutor::new());
        // Less than the gateway waits, so that none is used again just when it is closed.
        builder.pool_idle_timeout(Duration::from_secs(2)).pool_timer(TokioTimer::new());
        Self { client: builder.build_http(), gateway: gateway.into() }
    }

    pub(crate) fn gateway(&self) -> &str {
        &self.gateway
    }

    /// Asks, and reads the answer whole.
    pub(crate) async fn ask(&self, method: Method, path: &str, key: &str, body: Option<String>) -> Outcome<Answer> {
        let kind = body.as_ref().map(|_| "application/json");
        let request = self.request(method, path, key).header(CONTENT_TYPE, kind.unwrap_or("text/plain"));
        let request = request.body(Full::from(body.unwrap_or_default()))?;
        let asked = async {
            let response = self.client.request(request).await?;
            let status = response.status().as_u16();
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(Answer {
                status,
                body: response.into_body().collect().await?.to_bytes(),
            })
        };
        tokio::time::timeout(PATIENCE, asked).await.map_err(|_| format!("{path} was not answered in time"))?
    }

    pub(crate) async fn get(&self, path: &str, key: &str) -> Outcome<Answer> {
        self.ask(Method::GET, path, key, None).await
    }

    pub(crate) async fn post(&self, path: &str, key: &str, body: String) -> Outcome<Answer> {
        self.ask(Method::POST, path, key, Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str, key: &str) -> Outcome<Answer> {
        self.ask(Method::DELETE, path, key, None).await
    }

    fn request(&self, method: Method, path: &str, key: &str) -> http::request::Builder {
        let request = Request::builder().method(method).uri(format!("http://{}{path}", self.gateway));
        request.header(AUTHORIZATION, format!("Bearer {key}"))
    }

    /// The data of server-sent events; what is published once this returns comes.
    pub(crate) async fn events(
        &self,
        path: &str,
        key: &str,
    ) -> Outcome<impl Stream<Item = String> + Send + Unpin + use<>> {
        let request = self.request(Method::GET, path, key).header(ACCEPT, "text/event-stream").body(Full::default())?;
        let response = tokio::time::timeout(PATIENCE, self.client.request(request)).await??;
        if response.status() != 200 {
            return Err(format!("{path}: {}", response.status()).into());
        }
        let state = (response.into_body(), Vec::new());
        Ok(Box::pin(stream::unfold(state, |(mut body, mut rest)| async move {
            let data = next_event(&mut body, &mut rest).await?;
            Some((data, (body, rest)))
        })))
    }

    /// A WebSocket; what is published once this returns comes.
    pub(crate) async fn socket(&self, path: &str, key: &str) -> Outcome<Socket> {
        let url = format!("ws://{}{path}?apiKey={key}", self.gateway);
        let (socket, _) = tokio::time::timeout(PATIENCE, tokio_tungstenite::connect_async(url)).await??;
        Ok(socket)
    }
}

/// The data of the next event; `None` once the connection is closed.
async fn next_event(body: &mut Incoming, rest: &mut Vec<u8>) -> Option<String> {
    loop {
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            if let Some(data) = String::from_utf8_lossy(&line).trim_end().strip_prefix("data:") {
                return Some(data.trim_start().to_owned());
            }
        }
        let frame = body.frame().await?.ok()?;
        rest.extend_from_slice(frame.data_ref()?);
    }
}

/// The text of what comes over a WebSocket, until it is closed.
pub(crate) fn texts(socket: Socket) -> impl Stream<Item = String> + Send + Unpin {
    let heard = socket.take_while(|heard| future::ready(heard.is_ok()));
    heard.filter_map(|heard| {
        future::ready(match heard {
            Ok(Message::Text(text)) => Some(text.to_string()),
            _ => None,
        })
    })
}
