//! A seller with an account on a chain of its own. Whoever uses it has `anvil` and `common` at the top.
#![allow(dead_code, unreachable_pub, reason = "each test file uses some of it")]

use serde_json::json;
use veilcast::UserId;

use crate::anvil::Chain;
use crate::common::{Daemon, Home, Run};

pub const USER: &str = "0x00000000000000000000000000000000000000bb";
const COIN: u128 = 1_000_000_000_000_000_000;

/// A chain, and a seller with an account on it.
pub struct Market {
    pub chain: Chain,
    pub seller: Home,
}

impl Market {
    pub async fn open() -> Self {
        let (chain, seller) = (Chain::start_now().await, Home::new());
        chain.give(seller.address().parse().unwrap(), COIN).await;
        // A chain that stands still cannot be asked, however slow this machine is.
        chain.rpc("evm_setIntervalMining", json!([1])).await;
        Self { chain, seller }
    }

    pub fn contract(&self) -> String {
        UserId::from_bytes(self.chain.contract.0).to_string()
    }

    /// Of the seller, with the contract as the registry.
    pub fn run(&self, args: &[&str]) -> Run {
        let contract = self.contract();
        self.seller.run(&[args, &["--registry", &contract, "--rpc", &self.chain.url, "--confirmations", "0"]].concat())
    }

    /// A daemon of the seller's that goes by the contract, asked at `rpc`.
    pub fn daemon(&self, rpc: &str, confirmations: u64) -> Daemon {
        let (contract, confirmations) = (self.contract(), confirmations.to_string());
        Daemon::start(&self.seller, &["--registry", &contract, "--rpc", rpc, "--confirmations", &confirmations])
    }

    pub fn stream(&self) -> String {
        self.run(&["stream", "create", "prices", "--partitions", "3", "--yes"]).ok()
    }

    pub async fn sent(&self) -> u64 {
        self.chain.transactions(self.seller.address().parse().unwrap()).await
    }

    /// When a block was made, seconds.
    pub async fn time_of(&self, block: u64) -> u64 {
        let block = self.chain.rpc("eth_getBlockByNumber", json!([format!("{block:#x}"), false])).await;
        u64::from_str_radix(block["timestamp"].as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
    }

    pub async fn ends(&self, stream: &str) -> u64 {
        self.chain.entry(&stream.parse().unwrap(), USER.parse().unwrap()).await.subscribe.as_u64()
    }
}
