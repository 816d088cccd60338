//! One POST: bytes in, bytes out, under a limit of size. Redirects are not followed, proxies of the environment not used.

use std::error::Error;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;

use super::RpcFault;

/// Keeps its connections open between calls. Cheap to clone.
#[derive(Clone)]
pub(super) enum Http {
    /// Without certificates: where no endpoint wants TLS, a machine without any still works.
    Plain(Client<HttpConnector, Full<Bytes>>),
    Tls(Client<HttpsConnector<HttpConnector>, Full<Bytes>>),
}

impl Http {
    pub(super) fn plain() -> Self {
        Self::Plain(Client::builder(TokioExecutor::new()).build(connector()))
    }

    /// Over TLS with the certificates that the machine trusts.
    ///
    /// # Errors
    /// When it trusts none, or they cannot be read.
    pub(super) fn tls() -> std::io::Result<Self> {
        // Named, because an application may have compiled another provider in beside it.
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        let mut connector = connector();
        connector.enforce_http(false);
        let https = HttpsConnectorBuilder::new().with_provider_and_native_roots(provider)?;
        let https = https.https_or_http().enable_http1().wrap_connector(connector);
        Ok(Self::Tls(Client::builder(TokioExecutor::new()).build(https)))
    }

    /// Posts JSON and reads the answer, of `limit` bytes at most. Dropping the future closes the connection.
    ///
    /// # Errors
    /// [`RpcFault`].
    pub(super) async fn post(&self, uri: &Uri, body: Bytes, limit: usize) -> Result<Bytes, RpcFault> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(uri.clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json")
            .body(Full::new(body))
            .map_err(unreachable)?;
        let response = match self {
            Self::Plain(client) => client.request(request).await,
            Self::Tls(client) => client.request(request).await,
        }
        .map_err(unreachable)?;
        if response.status() != StatusCode::OK {
            return Err(RpcFault::Status { status: response.status().as_u16() });
        }
        let body = Limited::new(response.into_body(), limit).collect().await.map_err(|error| match error
            .downcast_ref::<LengthLimitError>(
        ) {
            Some(_) => RpcFault::TooLarge { limit },
            None => RpcFault::Unreachable { text: chain(error.as_ref()) },
        })?;
        Ok(body.to_bytes())
    }
}

fn connector() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector
}

fn unreachable(error: impl Error) -> RpcFault {
    RpcFault::Unreachable { text: chain(&error) }
}

/// An error and its causes, the last of which says what happened.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
