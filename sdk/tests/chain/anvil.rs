//! A node of a fresh chain with the StreamRegistry contract on it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ethers_core::abi::{self, Detokenize, Token, Tokenize, parse_abi};
use ethers_core::types::{Address, Bytes, U64, U256};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use veilcast::{StreamId, UserId};

/// Longer than anything here takes; a test that waits so long has failed.
pub const LONG: Duration = Duration::from_secs(180);
/// The time of the first block.
pub const START: u64 = 2_000_000_000;

const IMPLEMENTATION: &str =
    "@streamr/network-contracts/dist/artifacts/contracts/StreamRegistry/StreamRegistryV5.sol/StreamRegistryV5.json";
const PROXY: &str = "@openzeppelin/contracts/build/contracts/ERC1967Proxy.json";
const NODE: &str = "@foundry-rs/anvil-linux-amd64/bin/anvil";

const WRITES: [&str; 12] = [
    "function initialize(address,address)",
    "function grantRole(bytes32,address)",
    "function upgradeTo(address)",
    "function createStream(string,string)",
    "function deleteStream(string)",
    "function setPermissionsForUser(string,address,bool,bool,uint256,uint256,bool)",
    "function setPublicPermission(string,uint256,uint256)",
    "function setExpirationTime(string,address,uint8,uint256)",
    "function grantPermission(string,address,uint8)",
    "function revokePermission(string,address,uint8)",
    "function grantPermissionForUserId(string,bytes,uint8)",
    "function getDirectPermissionsForUser(string,address) view returns (bool,bool,uint256,uint256,bool)",
];

/// A user's permissions, as the contract has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    pub edit: bool,
    pub delete: bool,
    pub publish: U256,
    pub subscribe: U256,
    pub grant: bool,
}

/// Ended by its own process id, also where the test fails before it has a chain.
struct Node(Child);

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub struct Chain {
    _node: Node,
    pub url: String,
    pub contract: Address,
    client: Client<HttpConnector, Full<bytes::Bytes>>,
    abi: abi::Abi,
}

impl Chain {
    pub const ID: u64 = 31337;

    /// A chain whose first block is made at [`START`], with the contract and its proxy deployed.
    pub async fn start() -> Self {
        Self::start_at(START).await
    }

    /// The same, whose first block is made then.
    pub async fn start_at(secs: u64) -> Self {
        Self::start_with(&["--timestamp", &secs.to_string()]).await
    }

    /// A chain that goes by the machine's clock.
    #[allow(dead_code, reason = "for tests of whole processes")]
    pub async fn start_now() -> Self {
        Self::start_with(&[]).await
    }

    async fn start_with(arguments: &[&str]) -> Self {
        let (node, url) = start_node(arguments);
        let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        let abi = parse_abi(&WRITES).unwrap();
        let mut chain = Self { _node: node, url, contract: Address::zero(), client, abi };
        let implementation = chain.deploy(bytecode(IMPLEMENTATION)).await;
        let initialize = chain.call_data("initialize", (Address::zero(), Address::zero()));
        let arguments = [Token::Address(implementation), Token::Bytes(initialize.to_vec())];
        chain.contract = chain.deploy([bytecode(PROXY), abi::encode(&arguments)].concat()).await;
        chain
    }

    /// What the node answers.
    pub async fn rpc(&self, method: &str, params: Value) -> Value {
        let answer = self.try_rpc(method, params.clone()).await;
        assert!(answer.get("error").is_none(), "{method} {params}: {answer}");
        answer["result"].clone()
    }

    async fn try_rpc(&self, method: &str, params: Value) -> Value {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let request = Request::post(&self.url).header("content-type", "application/json");
        let request = request.body(Full::new(bytes::Bytes::from(body))).unwrap();
        let answer =
            async { self.client.request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes() };
        serde_json::from_slice(&tokio::time::timeout(LONG, answer).await.unwrap()).unwrap()
    }

    /// Number and time of the newest block.
    pub async fn head(&self) -> (u64, u64) {
        let block = self.rpc("eth_getBlockByNumber", json!(["latest", false])).await;
        let number = |field: &str| serde_json::from_value::<U64>(block[field].clone()).unwrap().as_u64();
        (number("number"), number("timestamp"))
    }

    /// An empty block at exactly this time.
    pub async fn mine_at(&self, secs: u64) {
        self.rpc("evm_setNextBlockTimestamp", json!([secs])).await;
        self.rpc("evm_mine", json!([])).await;
    }

    /// So many empty blocks.
    pub async fn mine(&self, blocks: u64) {
        self.rpc("anvil_mine", json!([format!("{blocks:#x}")])).await;
    }

    /// The owner of the streams below: the first account of the node.
    pub async fn owner(&self) -> UserId {
        UserId::from_bytes(self.account().await.0)
    }

    async fn account(&self) -> Address {
        serde_json::from_value(self.rpc("eth_accounts", json!([])).await[0].clone()).unwrap()
    }

    /// Makes a stream with this metadata.
    pub async fn create(&self, path: &str, metadata: &str) -> StreamId {
        self.send("createStream", (format!("/{path}"), metadata.to_string())).await;
        StreamId::of(self.owner().await, path).unwrap()
    }

    pub async fn delete(&self, stream: &StreamId) {
        self.send("deleteStream", stream.to_string()).await;
    }

    /// Puts the same contract once more behind the proxy.
    pub async fn upgrade(&self) {
        let implementation = self.deploy(bytecode(IMPLEMENTATION)).await;
        let trusted = ethers_core::utils::keccak256("TRUSTED_ROLE");
        self.send("grantRole", (trusted, self.account().await)).await;
        self.send("upgradeTo", implementation).await;
    }

    /// Replaces a user's permissions.
    pub async fn set(&self, stream: &StreamId, user: UserId, entry: Entry) {
        let Entry { edit, delete, publish, subscribe, grant } = entry;
        let (id, user) = (stream.to_string(), Address::from(*user.as_bytes()));
        self.send("setPermissionsForUser", (id, user, edit, delete, publish, subscribe, grant)).await;
    }

    pub async fn set_public(&self, stream: &StreamId, publish: U256, subscribe: U256) {
        self.send("setPublicPermission", (stream.to_string(), publish, subscribe)).await;
    }

    /// A user's own permissions, as they are stored.
    pub async fn entry(&self, stream: &StreamId, user: UserId) -> Entry {
        let (id, user) = (stream.to_string(), Address::from(*user.as_bytes()));
        let data = self.call_data("getDirectPermissionsForUser", (id, user));
        let output = self.rpc("eth_call", json!([{ "to": self.contract, "data": data }, "latest"])).await;
        let output: Bytes = serde_json::from_value(output).unwrap();
        let function = self.abi.function("getDirectPermissionsForUser").unwrap();
        let tokens = function.decode_output(&output).unwrap();
        let (edit, delete, publish, subscribe, grant) = Detokenize::from_tokens(tokens).unwrap();
        Entry { edit, delete, publish, subscribe, grant }
    }

    /// Sets what a user's account has, wei.
    pub async fn give(&self, user: UserId, wei: u128) {
        self.rpc("anvil_setBalance", json!([user.to_string(), U256::from(wei)])).await;
    }

    /// What a user's account has, wei.
    pub async fn balance(&self, user: UserId) -> u128 {
        let wei = self.rpc("eth_getBalance", json!([user.to_string(), "latest"])).await;
        serde_json::from_value::<U256>(wei).unwrap().as_u128()
    }

    /// How many transactions of a user were carried out.
    pub async fn transactions(&self, user: UserId) -> u64 {
        let count = self.rpc("eth_getTransactionCount", json!([user.to_string(), "latest"])).await;
        serde_json::from_value::<U64>(count).unwrap().as_u64()
    }

    /// A transaction of the owner to the contract, in a block of its own.
    pub async fn send(&self, function: &str, arguments: impl Tokenize) {
        let (from, data) = (self.account().await, self.call_data(function, arguments));
        self.transact(json!({ "from": from, "to": self.contract, "data": data, "gas": "0x1000000" })).await;
    }

    async fn deploy(&self, code: Vec<u8>) -> Address {
        let from = self.account().await;
        let receipt = self.transact(json!({ "from": from, "data": Bytes::from(code), "gas": "0x1000000" })).await;
        serde_json::from_value(receipt["contractAddress"].clone()).unwrap()
    }

    async fn transact(&self, transaction: Value) -> Value {
        let hash = self.rpc("eth_sendTransaction", json!([transaction])).await;
        let receipt = self.receipt(hash).await;
        assert_eq!(receipt["status"], "0x1", "{receipt}");
        receipt
    }

    /// The receipt of a transaction, once it is in a block.
    pub async fn receipt(&self, hash: Value) -> Value {
        let mined = async {
            loop {
                let receipt = self.rpc("eth_getTransactionReceipt", json!([hash])).await;
                if !receipt.is_null() {
                    return receipt;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LONG, mined).await.expect("the transaction is in a block by now")
    }

    fn call_data(&self, function: &str, arguments: impl Tokenize) -> Bytes {
        self.abi.function(function).unwrap().encode_input(&arguments.into_tokens()).unwrap().into()
    }
}

/// The node, and where it listens.
fn start_node(arguments: &[&str]) -> (Node, String) {
    let mut command = Command::new(tool(NODE));
    command.args(["--host", "127.0.0.1", "--port", "0"]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut node = Node(command.spawn().unwrap());
    let mut lines = BufReader::new(node.0.stdout.take().unwrap()).lines();
    let address = lines.by_ref().find_map(|line| Some(line.ok()?.strip_prefix("Listening on ")?.to_string()));
    // A node whose output nobody reads stands still once the pipe is full.
    std::thread::spawn(move || lines.for_each(drop));
    (node, format!("http://{}", address.expect("the node says where it listens")))
}

fn bytecode(artifact: &str) -> Vec<u8> {
    let artifact: Value = serde_json::from_slice(&std::fs::read(tool(artifact)).unwrap()).unwrap();
    hex::decode(artifact["bytecode"].as_str().unwrap().trim_start_matches("0x")).unwrap()
}

fn tool(path: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let tool = root.join("target/chain-tools/node_modules").join(path);
    assert!(
        tool.exists(),
        "the chain to test on is missing; get it with ./scripts/chain-tools (it needs Node.js and npm)"
    );
    tool
}
