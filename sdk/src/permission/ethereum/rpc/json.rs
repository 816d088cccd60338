//! JSON-RPC 2.0 as Ethereum nodes speak it: requests, answers, and the few fields of a block that count.

use std::fmt;

use bytes::Bytes;
use ethers_core::types::{H256, U256};
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::super::abi::Revert;
use super::RpcFault;

/// What a call came to: a value, or the contract's "no".
pub(in super::super) type Outcome<T> = Result<T, Revert>;

pub(super) fn request(id: u64, method: &str, params: &Value) -> Bytes {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string().into()
}

/// Read straight into what is wanted: a tree of whatever a node likes to send would take a hundred times its bytes.
#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct Answer<T> {
    id: Option<u64>,
    #[serde(default, deserialize_with = "present")]
    result: Option<T>,
    error: Option<NodeError>,
}

#[derive(Deserialize)]
struct NodeError {
    code: i64,
    #[serde(default)]
    message: String,
    #[serde(default, deserialize_with = "text_or_nothing")]
    data: Option<String>,
}

/// A result of `null` is a result: "no such block".
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// Nodes say more about an error in any form; of a revert it is a text. Anything else is passed over.
fn text_or_nothing<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    struct Said;

    impl<'de> Visitor<'de> for Said {
        type Value = Option<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("anything")
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Some(text.to_owned()))
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
            IgnoredAny.visit_seq(seq).map(|_| None)
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            IgnoredAny.visit_map(map).map(|_| None)
        }
    }

    deserializer.deserialize_any(Said)
}

/// The result of the call with this id.
///
/// # Errors
/// [`RpcFault::Malformed`] or [`RpcFault::Node`]: what the node says instead of an answer of the contract.
pub(super) fn outcome<T: DeserializeOwned>(id: u64, method: &'static str, body: &[u8]) -> Result<Outcome<T>, RpcFault> {
    let answer: Answer<T> = serde_json::from_slice(body).map_err(|_| RpcFault::Malformed { what: method })?;
    if answer.id != Some(id) {
        return Err(RpcFault::Malformed { what: "the id of the answer" });
    }
    match (answer.result, answer.error) {
        (Some(result), None) => Ok(Ok(result)),
        (_, Some(error)) => error.into_outcome(),
        (None, None) => Err(RpcFault::Malformed { what: method }),
    }
}

impl NodeError {
    /// The code of a revert, by convention of the nodes (geth, since 2020).
    const REVERTED: i64 = 3;

    fn into_outcome<T>(self) -> Result<Outcome<T>, RpcFault> {
        let data = self.data.as_deref().and_then(|text| hex::decode(text.strip_prefix("0x")?).ok());
        if let Some(data) = data {
            return Ok(Err(Revert::decode(&data)));
        }
        if self.code == Self::REVERTED {
            return Ok(Err(Revert { reason: None }));
        }
        Err(RpcFault::Node { code: self.code, message: self.message })
    }
}

/// A block, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in super::super) struct Block {
    #[serde(deserialize_with = "quantity")]
    pub(in super::super) number: u64,
    pub(in super::super) hash: H256,
    pub(in super::super) parent_hash: H256,
    /// Seconds since the epoch.
    #[serde(deserialize_with = "quantity")]
    pub(in super::super) timestamp: u64,
    /// Wei per gas (EIP-1559); `None` on a chain without a fee market.
    #[serde(default)]
    pub(in super::super) base_fee_per_gas: Option<U256>,
}

pub(super) fn quantity<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    let digits = text.strip_prefix("0x").filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    let number = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    number.ok_or_else(|| serde::de::Error::custom("not a quantity"))
}

/// A quantity that may be missing.
pub(super) fn maybe_quantity<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    struct Quantity(#[serde(deserialize_with = "quantity")] u64);
    Ok(Option::<Quantity>::deserialize(deserializer)?.map(|quantity| quantity.0))
}

/// A quantity as nodes want it: hexadecimal, without leading zeros.
pub(in super::super) fn quantity_of(number: u64) -> Value {
    format!("{number:#x}").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: DeserializeOwned>(body: &str) -> Result<Outcome<T>, RpcFault> {
        outcome(7, "eth_test", body.as_bytes())
    }

    fn fault(body: &str) -> RpcFault {
        read::<Value>(body).unwrap_err()
    }

    #[test]
    fn an_answer_counts_under_its_own_id_only() {
        assert_eq!(read::<Value>(r#"{"jsonrpc":"2.0","id":7,"result":"0x1"}"#).unwrap(), Ok("0x1".into()));
        assert_eq!(read::<Option<Block>>(r#"{"jsonrpc":"2.0","id":7,"result":null}"#).unwrap(), Ok(None));
        for wrong in [
            r#"{"jsonrpc":"2.0","id":8,"result":"0x1"}"#,
            r#"{"jsonrpc":"2.0","id":"7","result":"0x1"}"#,
            r#"{"jsonrpc":"2.0","id":7}"#,
            r#"[{"jsonrpc":"2.0","id":7,"result":"0x1"}]"#,
            r#"{"id":7,"result":"#,
            "<html>",
            "",
        ] {
            assert!(matches!(fault(wrong), RpcFault::Malformed { .. }), "{wrong}");
        }
    }

    #[test]
    fn json_nested_without_end_is_malformed() {
        assert!(matches!(fault(&"[".repeat(1 << 20)), RpcFault::Malformed { .. }));
    }

    #[test]
    fn a_nodes_error_is_a_fault_and_a_revert_is_none() {
        let said = |data: &str| format!(r#"{{"id":7,"error":{{"code":-32000,"message":"no"{data}}}}}"#);
        for data in
            ["", r#","data":null"#, r#","data":{"data":"0x08c379a0"}"#, r#","data":[["0x"]]"#, r#","data":"words""#]
        {
            let expected = RpcFault::Node { code: -32000, message: "no".into() };
            assert_eq!(fault(&said(data)), expected, "{data}");
        }
        let reverted = r#"{"id":7,"error":{"code":3,"message":"execution reverted"}}"#;
        assert_eq!(read::<Value>(reverted).unwrap(), Err(Revert { reason: None }));
        let said = r#"{"id":7,"error":{"code":3,"message":"error_streamDoesNotExist","data":"0x"}}"#;
        assert!(!read::<Value>(said).unwrap().unwrap_err().is_no_stream(), "a message is not the contract's word");
    }

    #[test]
    fn a_block_without_its_fields_or_with_absurd_numbers_is_no_block() {
        let block = |number: &str| {
            let hash = format!("0x{}", "ab".repeat(32));
            json!({ "number": number, "hash": hash, "parentHash": hash, "timestamp": "0x5", "more": [] })
        };
        assert_eq!(serde_json::from_value::<Block>(block("0x10")).unwrap().number, 16);
        for wrong in ["", "16", "0x", "0x10000000000000000", "0xzz"] {
            assert!(serde_json::from_value::<Block>(block(wrong)).is_err(), "{wrong}");
        }
        assert!(serde_json::from_value::<Block>(json!({ "number": "0x10" })).is_err());
    }
}
