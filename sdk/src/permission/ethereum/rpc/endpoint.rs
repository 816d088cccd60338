//! One JSON-RPC endpoint: its address, what it may cost, and whether it was found to be what it should.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::super::abi::Revert;
use super::http::Http;
use super::json::{self, Outcome};
use super::meter::EndpointMeter;
use super::{RpcFault, UrlError};

/// Calls under way at one endpoint; others wait, within their deadlines.
const CALLS: usize = 64;
/// Shortest part of a URL that may be a secret.
const SECRET: usize = 8;

/// Largest answer to most calls, bytes: a block with some thousand transactions is the largest.
const MAX_ANSWER: usize = 1 << 20;
/// Largest answer to a call for a range of blocks, bytes; one full of events has a few hundred thousand.
const MAX_LOGS: usize = 8 << 20;
/// The call for a range of blocks.
pub(super) const GET_LOGS: &str = "eth_getLogs";
/// Longest text of a node or a contract that is kept, characters.
const MAX_TEXT: usize = 200;

pub(in super::super) struct Endpoint {
    uri: Uri,
    http: Http,
    calls: Arc<Semaphore>,
    ids: AtomicU64,
    pub(super) verified: AtomicBool,
    rest: Mutex<Option<Rest>>,
    meter: EndpointMeter,
}

/// It failed, and is left alone until then.
#[derive(Clone, Debug)]
pub(super) struct Rest {
    pub(super) until: Instant,
    pub(super) fault: RpcFault,
}

/// Checks the URL of an endpoint.
///
/// # Errors
/// [`UrlError`], which does not repeat it.
pub(super) fn parse(url: &str) -> Result<Uri, UrlError> {
    let uri: Uri = url.parse().map_err(|_| UrlError::Malformed)?;
    let scheme = uri.scheme().ok_or(UrlError::Scheme)?;
    if *scheme != Scheme::HTTP && *scheme != Scheme::HTTPS {
        return Err(UrlError::Scheme);
    }
    let authority = uri.authority().ok_or(UrlError::Malformed)?;
    if authority.as_str().contains('@') {
        return Err(UrlError::Credentials);
    }
    if authority.host().is_empty() { Err(UrlError::Malformed) } else { Ok(uri) }
}

impl Endpoint {
    pub(super) fn new(uri: Uri, http: Http, meter: EndpointMeter) -> Self {
        let (calls, ids) = (Arc::new(Semaphore::new(CALLS)), AtomicU64::new(1));
        Self { uri, http, calls, ids, verified: AtomicBool::new(false), rest: Mutex::new(None), meter }
    }

    /// Calls `method`; whatever happens, it is over after `deadline`, which begins when its turn has come. Dropping the future
    /// gives the answer up.
    ///
    /// # Errors
    /// [`RpcFault`]; a revert is an outcome.
    pub(super) async fn call<T: DeserializeOwned + Send + 'static>(
        &self,
        method: &'static str,
        params: &Value,
        deadline: Duration,
    ) -> Result<Outcome<T>, RpcFault> {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let (uri, http, calls) = (self.uri.clone(), self.http.clone(), self.calls.clone());
        let (body, limit) = (json::request(id, method, params), limit_of(method));
        let begun = Instant::now();
        // A task of its own: a caller that is not polled for a while must not keep others from their turns.
        let mut call = JoinSet::new();
        call.spawn(async move {
            let late = RpcFault::Deadline { after: deadline };
            let _turn = calls.acquire_owned().await.map_err(|_| late.clone())?;
            let answer = async { json::outcome(id, method, &http.post(&uri, body, limit).await?) };
            tokio::time::timeout(deadline, answer).await.unwrap_or(Err(late))
        });
        let ended = call.join_next().await.and_then(Result::ok);
        let stopped = || Err(RpcFault::Unreachable { text: "the call was broken off".into() });
        let ended = ended.unwrap_or_else(stopped);
        self.meter.ended(&ended, begun.elapsed());
        match ended {
            Ok(outcome) => Ok(outcome.map_err(|revert| Revert { reason: revert.reason.map(|text| self.clean(&text)) })),
            Err(fault) => Err(self.redacted(fault)),
        }
    }

    /// Leaves it alone for a while.
    pub(super) fn let_rest(&self, span: Duration, fault: RpcFault) {
        *self.rest() = Some(Rest { until: Instant::now() + span, fault });
    }

    /// `None` when it may be asked.
    pub(super) fn resting(&self) -> Option<Rest> {
        self.rest().clone().filter(|rest| rest.until > Instant::now())
    }

    fn rest(&self) -> MutexGuard<'_, Option<Rest>> {
        self.rest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn redacted(&self, fault: RpcFault) -> RpcFault {
        match fault {
            RpcFault::Unreachable { text } => RpcFault::Unreachable { text: self.clean(&text) },
            RpcFault::Node { code, message } => RpcFault::Node { code, message: self.clean(&message) },
            fault => fault,
        }
    }

    /// Nodes and proxies like to repeat in an error what they were called by. What they say is cut short only after that is
    /// out, so that no part of it stays, and may not steer a terminal.
    fn clean(&self, text: &str) -> String {
        let secrets = self.uri.path_and_query().map_or("", |p| p.as_str());
        let parts = secrets.split(['/', '?', '&', '=']).filter(|part| part.len() >= SECRET);
        let text = parts.fold(text.to_owned(), |text, part| text.replace(part, "…"));
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_TEXT).collect()
    }
}

fn limit_of(method: &str) -> usize {
    if method == GET_LOGS { MAX_LOGS } else { MAX_ANSWER }
}

impl fmt::Display for Endpoint {
    /// Scheme, host and port. Path and query carry the keys of paying customers and are never shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, authority) = (self.uri.scheme_str().unwrap_or_default(), self.uri.authority());
        write!(f, "{scheme}://{}", authority.map_or("", |a| a.as_str()))?;
        if self.uri.path_and_query().is_some_and(|p| p.as_str() != "/") { f.write_str("/…") } else { Ok(()) }
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::super::meter::Meter;
    use super::*;

    #[test]
    fn an_endpoint_shows_its_host_and_none_of_what_follows() {
        let endpoint = |url| Endpoint::new(parse(url).unwrap(), Http::plain(), Meter::default().of(0));
        let keyed = endpoint("https://rpc.example:8443/v2/s3cret-key-of-a-customer?apikey=an0ther-s3cret");
        assert_eq!(format!("{keyed} {keyed:?}"), "https://rpc.example:8443/… Endpoint(https://rpc.example:8443/…)");
        assert_eq!(endpoint("http://127.0.0.1:8545").to_string(), "http://127.0.0.1:8545");
        let said = RpcFault::Node { code: -1, message: "no quota for s3cret-key-of-a-customer, an0ther-s3cret".into() };
        assert_eq!(keyed.redacted(said), RpcFault::Node { code: -1, message: "no quota for …, …".into() });
    }

    #[test]
    fn what_a_node_says_is_cut_after_what_is_secret_and_steers_no_terminal() {
        let url = parse("https://rpc.example/v2/s3cret-key-of-a-customer").unwrap();
        let keyed = Endpoint::new(url, Http::plain(), Meter::default().of(0));
        let across = format!("{}s3cret-key-of-a-customer\u{1b}[2J", "x".repeat(MAX_TEXT - 5));
        assert_eq!(keyed.clean(&across), format!("{}… [2J", "x".repeat(MAX_TEXT - 5)));
        assert_eq!(keyed.clean(&"y".repeat(9999)).len(), MAX_TEXT);
    }

    #[test]
    fn only_http_and_https_urls_with_a_host_and_no_password_are_endpoints() {
        assert_eq!(parse("https://user:password@rpc.example/"), Err(UrlError::Credentials));
        for wrong in ["ftp://rpc.example", "rpc.example", "/v2", ""] {
            assert!(matches!(parse(wrong), Err(UrlError::Scheme | UrlError::Malformed)), "{wrong}");
        }
        assert!(parse("http://[::1]:8545").is_ok());
    }
}
