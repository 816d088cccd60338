//! JSON-RPC over HTTP(S) to several endpoints of one chain.
//!
//! Every call has a deadline, every answer a limit. An endpoint is trusted only after it was found to be on the right chain, with a
//! contract at the registry's address ([`Trusted`]); one that fails rests for a while and the next is asked. What is read from an
//! endpoint for one purpose is read from that one alone: two of them are never at the same block.

mod endpoint;
mod fault;
mod http;
mod json;
mod logs;
mod meter;

use std::collections::HashSet;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ethers_core::types::{Address, Bytes, U64};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use self::endpoint::{Endpoint, Rest};
pub use self::fault::{ChainError, EndpointFault, RpcFault, UrlError};
use self::http::Http;
pub(super) use self::json::{Block, Outcome, quantity_of};
use self::meter::Meter;
use super::networks::Deployment;
use crate::identity::UserId;
use crate::metrics::Registry;

/// How calls are made.
#[derive(Clone, Copy, Debug)]
pub(super) struct CallLimits {
    pub(super) deadline: Duration,
    /// How long an endpoint that failed is left alone.
    pub(super) rest: Duration,
}

#[derive(Debug)]
pub(super) struct Rpc {
    endpoints: Vec<Endpoint>,
    /// The endpoint that gave events the last time.
    able: AtomicUsize,
    contract: Address,
    chain_id: OnceLock<u64>,
    limits: CallLimits,
    meter: Meter,
}

/// An endpoint that was found to be of the right chain, with code at the contract's address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trusted<'a> {
    rpc: &'a Rpc,
    endpoint: &'a Endpoint,
}

/// Why there is no [`Rpc`].
#[derive(Debug)]
pub(super) enum RpcSetupError {
    Url(UrlError),
    Tls(std::io::Error),
}

impl Rpc {
    /// Asks nobody yet.
    ///
    /// # Errors
    /// [`RpcSetupError`].
    pub(super) fn new(deployment: Deployment, urls: &[String], limits: CallLimits) -> Result<Self, RpcSetupError> {
        let mut uris =
            urls.iter().map(|url| endpoint::parse(url)).collect::<Result<Vec<_>, _>>().map_err(RpcSetupError::Url)?;
        // The same one twice would agree with itself.
        let mut seen = HashSet::new();
        uris.retain(|uri| seen.insert(uri.to_string()));
        let tls = uris.iter().any(|uri| uri.scheme_str() == Some("https"));
        let http = if tls { Http::tls().map_err(RpcSetupError::Tls)? } else { Http::plain() };
        let meter = Meter::default();
        let endpoint = |(number, uri)| Endpoint::new(uri, http.clone(), meter.of(number));
        let endpoints = uris.into_iter().enumerate().map(endpoint).collect();
        let chain_id = deployment.chain_id().map_or_else(OnceLock::new, OnceLock::from);
        Ok(Self { endpoints, able: AtomicUsize::new(0), contract: deployment.contract(), chain_id, limits, meter })
    }

    /// Adds what calls do to a node's figures.
    pub(super) fn register(&self, registry: &mut Registry) {
        self.meter.register(registry);
    }

    pub(super) fn endpoints(&self) -> usize {
        self.endpoints.len()
    }

    /// The chain's id, as soon as it is known.
    pub(super) fn chain_id(&self) -> Option<u64> {
        self.chain_id.get().copied()
    }

    /// The answer of the first endpoint that has one. Dropping the future gives it up.
    ///
    /// # Errors
    /// [`ChainError::Unavailable`].
    pub(super) async fn first<'a, T, F, Fut>(&'a self, ask: F) -> Result<T, ChainError>
    where
        F: Fn(Trusted<'a>) -> Fut + Send,
        Fut: Future<Output = Result<T, RpcFault>> + Send,
        T: Send,
    {
        let mut faults = Vec::new();
        for endpoint in self.candidates(1)? {
            match self.ask(endpoint, &ask).await {
                Ok(answer) => return Ok(answer),
                Err(fault) => faults.push(fault),
            }
        }
        Err(ChainError::Unavailable { faults })
    }

    /// Whether any endpoint says so, those that rest included. Dropping the future gives it up.
    ///
    /// # Errors
    /// [`ChainError::Unavailable`] where none does and not all could be asked.
    pub(super) async fn any<'a, F, Fut>(&'a self, ask: F) -> Result<bool, ChainError>
    where
        F: Fn(Trusted<'a>) -> Fut + Send,
        Fut: Future<Output = Result<bool, RpcFault>> + Send,
    {
        let mut faults = Vec::new();
        for endpoint in &self.endpoints {
            match self.ask(endpoint, &ask).await {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(fault) => faults.push(fault),
            }
        }
        if faults.is_empty() { Ok(false) } else { Err(ChainError::Unavailable { faults }) }
    }

    /// The answer that `count` endpoints give alike. Dropping the future gives it up.
    ///
    /// # Errors
    /// [`ChainError`], when too few answer or two disagree.
    pub(super) async fn agreed<'a, T, F, Fut>(&'a self, count: usize, ask: F) -> Result<T, ChainError>
    where
        F: Fn(Trusted<'a>) -> Fut + Send,
        Fut: Future<Output = Result<T, RpcFault>> + Send,
        T: PartialEq + Send,
    {
        let (mut faults, mut answers) = (Vec::new(), Vec::<(String, T)>::new());
        for endpoint in self.candidates(count)? {
            match self.ask(endpoint, &ask).await {
                Ok(answer) => answers.push((endpoint.to_string(), answer)),
                Err(fault) => faults.push(fault),
            }
            if let [(first, answer), .., (other, another)] = &answers[..]
                && answer != another
            {
                return Err(ChainError::Disagreement { endpoints: vec![first.clone(), other.clone()] });
            }
            if answers.len() >= count {
                break;
            }
        }
        let enough = answers.len() >= count;
        answers.pop().filter(|_| enough).map(|(_, answer)| answer).ok_or(ChainError::Unavailable { faults })
    }

    async fn ask<'a, T, F, Fut>(&'a self, endpoint: &'a Endpoint, ask: &F) -> Result<T, EndpointFault>
    where
        F: Fn(Trusted<'a>) -> Fut + Send,
        Fut: Future<Output = Result<T, RpcFault>> + Send,
        T: Send,
    {
        let answer = match self.trust(endpoint).await {
            Ok(trusted) => ask(trusted).await,
            Err(fault) => Err(fault),
        };
        answer.map_err(|fault| {
            let name = endpoint.to_string();
            if fault.is_the_endpoints() {
                tracing::warn!(endpoint = name, %fault, "an RPC endpoint failed and is left alone for a while");
                endpoint.let_rest(self.limits.rest, fault.clone());
            }
            EndpointFault { endpoint: name, fault }
        })
    }

    /// Those that do not rest, in the order they were given. Where all rest and one is enough, the one whose rest ends first.
    ///
    /// # Errors
    /// [`ChainError::Unavailable`], with why they rest, when they are too few.
    fn candidates(&self, count: usize) -> Result<Vec<&Endpoint>, ChainError> {
        let (mut awake, mut resting) = (Vec::new(), Vec::new());
        for endpoint in &self.endpoints {
            match endpoint.resting() {
                None => awake.push(endpoint),
                Some(rest) => resting.push((endpoint, rest)),
            }
        }
        if awake.is_empty() && count == 1 {
            return Ok(resting
                .iter()
                .min_by_key(|(_, rest)| rest.until)
                .map(|(endpoint, _)| *endpoint)
                .into_iter()
                .collect());
        }
        if awake.len() < count {
            let fault = |(endpoint, rest): (&Endpoint, Rest)| EndpointFault {
                endpoint: endpoint.to_string(),
                fault: rest.fault,
            };
            return Err(ChainError::Unavailable { faults: resting.into_iter().map(fault).collect() });
        }
        Ok(awake)
    }

    /// Looks once at what an endpoint is. Where nobody said which chain it should be, the first one asked decides for all.
    async fn trust<'a>(&'a self, endpoint: &'a Endpoint) -> Result<Trusted<'a>, RpcFault> {
        let trusted = Trusted { rpc: self, endpoint };
        if endpoint.verified.load(Ordering::Acquire) {
            return Ok(trusted);
        }
        let got: U64 = trusted.get("eth_chainId", json!([])).await?;
        let got = got.as_u64();
        let code: Bytes = trusted.get("eth_getCode", json!([self.contract, "latest"])).await?;
        if let Some(expected) = self.chain_id().filter(|expected| *expected != got) {
            return Err(RpcFault::WrongChain { expected, got });
        }
        if code.is_empty() {
            return Err(RpcFault::NoCode { contract: UserId::from_bytes(self.contract.0) });
        }
        match *self.chain_id.get_or_init(|| got) {
            expected if expected == got => endpoint.verified.store(true, Ordering::Release),
            expected => return Err(RpcFault::WrongChain { expected, got }),
        }
        Ok(trusted)
    }
}

impl Trusted<'_> {
    pub(super) fn contract(&self) -> Address {
        self.rpc.contract
    }

    /// The id of the chain it was found to be on.
    pub(super) fn chain_id(&self) -> u64 {
        // Set before anything is trusted.
        self.rpc.chain_id().unwrap_or_default()
    }

    /// The newest block.
    pub(super) async fn head(&self) -> Result<Block, RpcFault> {
        self.get("eth_getBlockByNumber", json!(["latest", false])).await
    }

    /// What the registry's contract answers in the state behind this block.
    pub(super) async fn read(&self, call: Bytes, block: u64) -> Result<Outcome<Bytes>, RpcFault> {
        let params = json!([{ "to": self.rpc.contract, "data": call }, quantity_of(block)]);
        self.call("eth_call", params).await
    }

    /// A call that cannot revert.
    pub(super) async fn get<T>(&self, method: &'static str, params: Value) -> Result<T, RpcFault>
    where
        T: DeserializeOwned + Send + 'static,
    {
        self.call(method, params).await?.map_err(|revert| RpcFault::Reverted { reason: revert.reason })
    }

    /// A call that may revert.
    pub(super) async fn call<T>(&self, method: &'static str, params: Value) -> Result<Outcome<T>, RpcFault>
    where
        T: DeserializeOwned + Send + 'static,
    {
        self.endpoint.call(method, &params, self.rpc.limits.deadline).await
    }
}
