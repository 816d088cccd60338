//! `[registry]`: who decides about permissions, and how a contract is asked.

use serde::Deserialize;
use toml::{Spanned, Value};

use super::fault::Fault;
use crate::args::{Registry, RpcUrl};

/// What `[registry]` says.
#[derive(Clone, Debug, Default)]
pub(crate) struct RegistrySection {
    /// `--registry`
    pub(crate) name: Option<Registry>,
    /// `--rpc`
    pub(crate) rpc: Vec<RpcUrl>,
    /// `--chain-id`
    pub(crate) chain_id: Option<u64>,
    /// `--agree`
    pub(crate) agree: Option<usize>,
    /// `--confirmations`
    pub(crate) confirmations: Option<u64>,
    /// `--from-block`
    pub(crate) from_block: Option<u64>,
}

/// The same as it stands there.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Written {
    name: Option<Spanned<Value>>,
    rpc: Option<Spanned<Value>>,
    chain_id: Option<Spanned<Value>>,
    agree: Option<Spanned<Value>>,
    confirmations: Option<Spanned<Value>>,
    from_block: Option<Spanned<Value>>,
}

impl Written {
    pub(super) fn understood(self) -> Result<RegistrySection, Fault> {
        let section = RegistrySection {
            name: self.name.map(name).transpose()?,
            rpc: self.rpc.map_or_else(|| Ok(Vec::new()), endpoints)?,
            chain_id: self.chain_id.as_ref().map(|value| number("chain_id", 1, value)).transpose()?,
            agree: self.agree.as_ref().map(|value| number("agree", 1, value)).transpose()?,
            confirmations: self.confirmations.map(|value| number("confirmations", 0, &value)).transpose()?,
            from_block: self.from_block.map(|value| number("from_block", 0, &value)).transpose()?,
        };
        if let (Some(at), Some(given), Some(Registry::Chain(deployment))) =
            (self.chain_id, section.chain_id, section.name)
            && let Some(known) = deployment.chain_id().filter(|known| *known != given)
        {
            return Err(fault("chain_id", &at, format!("{deployment} is on chain {known}, not {given}")));
        }
        match (self.agree, section.agree, section.rpc.len()) {
            (Some(at), Some(agree), 1..) if agree > section.rpc.len() => {
                Err(fault("agree", &at, format!("{agree} endpoints cannot agree, rpc has {}", section.rpc.len())))
            }
            _ => Ok(section),
        }
    }
}

fn name(value: Spanned<Value>) -> Result<Registry, Fault> {
    let named = value.as_ref().as_str().and_then(|text| text.parse().ok());
    named.ok_or_else(|| fault("name", &value, "expected local, grants, polygon, amoy, peaq, iotex or an \"0xADDRESS\""))
}

/// One URL, or a list of them.
fn endpoints(value: Spanned<Value>) -> Result<Vec<RpcUrl>, Fault> {
    let wrong = || {
        fault(
            "rpc",
            &value,
            "expected an http:// or https:// URL in quotes, without user and password, or a list of them",
        )
    };
    let one = |value: &Value| {
        let url = value.as_str().filter(|text| text.starts_with("http://") || text.starts_with("https://"));
        url.filter(|url| !authority(url).contains('@')).map(|url| RpcUrl(url.into())).ok_or_else(wrong)
    };
    match value.as_ref() {
        Value::Array(list) => list.iter().map(one).collect(),
        single => Ok(vec![one(single)?]),
    }
}

fn number<N: TryFrom<i64>>(key: &str, least: i64, value: &Spanned<Value>) -> Result<N, Fault> {
    let number = value.as_ref().as_integer().filter(|number| *number >= least);
    let number = number.and_then(|number| N::try_from(number).ok());
    number.ok_or_else(|| fault(key, value, format!("expected a whole number from {least} on")))
}

fn fault(key: &str, value: &Spanned<Value>, what: impl std::fmt::Display) -> Fault {
    Fault::new(value.span().start, format!("registry.{key}: {what}"))
}

/// Where an endpoint is, without what may be secret in its URL.
pub(crate) fn host(url: &RpcUrl) -> &str {
    authority(&url.0).rsplit('@').next().unwrap_or_default()
}

fn authority(url: &str) -> &str {
    let (_, rest) = url.split_once("://").unwrap_or_default();
    rest.split(['/', '?', '#', '\\']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_endpoint_only_its_host_is_shown() {
        for (url, shown) in [
            ("https://rpc.example/v2/KEY?k=KEY", "rpc.example"),
            ("http://KEY:KEY@rpc.example:8545", "rpc.example:8545"),
            ("https://rpc.example?KEY", "rpc.example"),
            ("https://KEY@KEY@rpc.example#KEY", "rpc.example"),
        ] {
            assert_eq!(host(&RpcUrl(url.into())), shown);
        }
    }
}
