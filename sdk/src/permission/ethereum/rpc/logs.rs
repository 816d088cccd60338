//! Calls for whole ranges of blocks: slow, large, and refused by each kind of node in its own words.

use std::sync::atomic::Ordering;
use std::time::Duration;

use ethers_core::types::{Address, Bytes, H256};
use serde::Deserialize;
use serde_json::json;

use super::endpoint::GET_LOGS;
use super::json::{maybe_quantity, quantity};
use super::{Block, ChainError, EndpointFault, Rpc, RpcFault, Trusted, quantity_of};
use crate::identity::UserId;
use crate::permission::ethereum::events::RawLog;

impl Rpc {
    /// As [`Rpc::first`], for what an endpoint may refuse because it is too much: that is no reason to leave it alone, for it
    /// may be the one that knows about grants. The one that could the last time is asked first.
    ///
    /// # Errors
    /// [`ChainError::Unavailable`].
    pub(in super::super) async fn first_that_can<'a, T, F, Fut>(&'a self, ask: F) -> Result<T, ChainError>
    where
        F: Fn(Trusted<'a>) -> Fut + Send,
        Fut: Future<Output = Result<T, RpcFault>> + Send,
        T: Send,
    {
        let (mut faults, count) = (Vec::new(), self.endpoints.len());
        let first = self.able.load(Ordering::Relaxed);
        for place in (0..count).map(|place| (first + place) % count) {
            let endpoint = &self.endpoints[place];
            let answer = match self.trust(endpoint).await {
                Ok(trusted) => ask(trusted).await,
                Err(fault) => Err(fault),
            };
            match answer {
                Ok(answer) => {
                    self.able.store(place, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(fault) => faults.push(EndpointFault { endpoint: endpoint.to_string(), fault }),
            }
        }
        Err(ChainError::Unavailable { faults })
    }
}

impl Rpc {
    /// The answers of the first `count` endpoints that have one, as [`Rpc::first_that_can`] asks them.
    ///
    /// # Errors
    /// [`ChainError::Unavailable`] where they are fewer.
    pub(in super::super) async fn several_that_can<'a, T, F, Fut>(
        &'a self,
        count: usize,
        ask: F,
    ) -> Result<Vec<T>, ChainError>
    where
        F: Fn(Trusted<'a>) -> Fut + Send,
        Fut: Future<Output = Result<T, RpcFault>> + Send,
        T: Send,
    {
        let (mut faults, mut answers) = (Vec::new(), Vec::new());
        for endpoint in &self.endpoints {
            let answer = match self.trust(endpoint).await {
                Ok(trusted) => ask(trusted).await,
                Err(fault) => Err(fault),
            };
            match answer {
                Ok(answer) => answers.push(answer),
                Err(fault) => faults.push(EndpointFault { endpoint: endpoint.to_string(), fault }),
            }
            if answers.len() >= count {
                return Ok(answers);
            }
        }
        Err(ChainError::Unavailable { faults })
    }
}

impl Trusted<'_> {
    /// A block by its number; `None` where this endpoint has none.
    pub(in super::super) async fn block(&self, number: u64) -> Result<Option<Block>, RpcFault> {
        let block: Option<Block> = self.get("eth_getBlockByNumber", json!([quantity_of(number), false])).await?;
        if block.is_some_and(|block| block.number != number) {
            return Err(RpcFault::Malformed { what: "the number of the block" });
        }
        Ok(block)
    }

    /// The contract's logs in these blocks that begin with one of these topics, as they come.
    pub(in super::super) async fn logs(
        &self,
        (from, to): (u64, u64),
        topics: &[[u8; 32]],
        deadline: Duration,
    ) -> Result<Vec<RawLog>, RpcFault> {
        let topics: Vec<String> = topics.iter().map(|topic| format!("0x{}", hex::encode(topic))).collect();
        let (from, to) = (quantity_of(from), quantity_of(to));
        let filter = json!({ "address": self.rpc.contract, "fromBlock": from, "toBlock": to, "topics": [topics] });
        let outcome = self.endpoint.call::<Vec<Log>>(GET_LOGS, &json!([filter]), deadline).await?;
        let logs = outcome.map_err(|revert| RpcFault::Reverted { reason: revert.reason })?;
        Ok(logs.into_iter().map(RawLog::from).collect())
    }
}

/// A log. One of a block that is not there yet has no number, and cannot be read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Log {
    address: Address,
    topics: Vec<H256>,
    data: Bytes,
    #[serde(deserialize_with = "quantity")]
    block_number: u64,
    block_hash: H256,
    #[serde(deserialize_with = "quantity")]
    log_index: u64,
    /// Not every node says it.
    #[serde(default, deserialize_with = "maybe_quantity")]
    block_timestamp: Option<u64>,
    #[serde(default)]
    removed: bool,
}

impl From<Log> for RawLog {
    fn from(log: Log) -> Self {
        Self {
            address: UserId::from_bytes(log.address.0),
            topics: log.topics.into_iter().map(|topic| topic.0).collect(),
            data: log.data.to_vec(),
            block: log.block_number,
            block_hash: log.block_hash.0,
            index: log.log_index,
            time: log.block_timestamp,
            is_removed: log.removed,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn log() -> Value {
        let hash = format!("0x{}", "ab".repeat(32));
        json!({
            "address": format!("0x{}", "09".repeat(20)), "topics": [hash], "data": "0x0102", "blockNumber": "0x10",
            "blockHash": hash, "logIndex": "0x3", "transactionHash": hash, "removed": false,
        })
    }

    fn read(log: Value) -> Option<RawLog> {
        serde_json::from_value::<Log>(log).ok().map(RawLog::from)
    }

    #[test]
    fn a_log_is_read_with_or_without_the_time_of_its_block() {
        let found = read(log()).unwrap();
        assert_eq!((found.address, found.block, found.index), (UserId::from_bytes([9; 20]), 16, 3));
        assert_eq!((found.block_hash, found.topics, found.data), ([0xab; 32], vec![[0xab; 32]], vec![1, 2]));
        assert_eq!((found.time, found.is_removed), (None, false));
        let mut timed = log();
        (timed["blockTimestamp"], timed["removed"]) = ("0x5".into(), true.into());
        let found = read(timed).unwrap();
        assert_eq!((found.time, found.is_removed), (Some(5), true));
        let mut untimed = log();
        untimed["blockTimestamp"] = Value::Null;
        assert_eq!(read(untimed).unwrap().time, None);
    }

    #[test]
    fn a_log_without_a_place_in_the_chain_or_with_absurd_fields_is_malformed() {
        for (field, wrong) in [
            ("blockNumber", Value::Null),
            ("blockNumber", "0x10000000000000000".into()),
            ("logIndex", "3".into()),
            ("blockHash", "0xab".into()),
            ("address", "0x09".into()),
            ("data", "0x123".into()),
            ("topics", "0x".into()),
            ("blockTimestamp", "soon".into()),
        ] {
            let mut log = log();
            log[field] = wrong;
            assert_eq!(read(log), None, "{field}");
        }
    }
}
