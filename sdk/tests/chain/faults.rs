//! Endpoints that are wrong, gone, slow, behind or lie: each a typed error or another endpoint, never a grant.

use serde_json::{Value, json};
use veilcast::permission::PermissionSource;
use veilcast::permission::ethereum::{RegistrySetupError, RpcFault};

use super::*;
use crate::anvil::{LONG, START};
use crate::between::{Between, Reply};

/// A stream and somebody who may read it.
struct Sold {
    chain: Chain,
    stream: StreamId,
}

impl Sold {
    async fn open() -> Self {
        let chain = Chain::start().await;
        let stream = chain.create("s", "{}").await;
        chain.sell(&stream, user(2), START + 1000).await;
        Self { chain, stream }
    }

    async fn ask(&self, registry: &EthereumRegistry) -> Result<Result<Grant, Refusal>, ChainError> {
        self.chain.ask(registry, &self.stream, user(2)).await
    }

    /// The one fault of the one endpoint; whoever asks for a permission is refused.
    async fn fault(&self, registry: &EthereumRegistry) -> RpcFault {
        let now = at(self.chain.head().await.1);
        let refusal = registry.check(&self.stream, user(2), Permission::Subscribe, now).await;
        assert!(matches!(refusal, Err(Refusal::Unavailable { .. })), "{refusal:?}");
        match self.ask(registry).await.unwrap_err() {
            ChainError::Unavailable { faults } if faults.len() == 1 => faults[0].fault.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn registry(&self, urls: &[&str]) -> EthereumRegistry {
        self.registry_with(config(), urls)
    }

    fn registry_with(&self, config: ChainConfig, urls: &[&str]) -> EthereumRegistry {
        urls.iter().fold(self.chain.builder(config), |builder, url| builder.rpc(*url)).build().unwrap()
    }

    /// The fault of an endpoint that answers so.
    async fn fault_of(&self, answer: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static) -> RpcFault {
        let between = Between::start(&self.chain, answer).await;
        self.fault(&self.registry(&[&between.url])).await
    }
}

/// Answers what the contract is asked.
fn for_calls(reply: Reply) -> impl Fn(&str, &Value) -> Reply + Send + Sync + 'static {
    move |method, _| if method == "eth_call" { reply.clone() } else { Reply::Truth }
}

fn one_deadline() -> ChainConfig {
    let mut config = config();
    config.call_deadline = Duration::from_millis(300);
    config
}

#[tokio::test]
async fn an_endpoint_of_another_chain_is_a_typed_error() {
    let sold = Sold::open().await;
    let deployment = sold.chain.deployment().on_chain(137);
    let registry = EthereumRegistry::builder(deployment).config(config()).rpc(&sold.chain.url).build().unwrap();
    assert_eq!(sold.fault(&registry).await, RpcFault::WrongChain { expected: 137, got: Chain::ID });
    assert!(matches!(registry.verify().await, Err(ChainError::Unavailable { .. })));
}

#[tokio::test]
async fn where_nobody_named_the_chain_the_first_endpoint_decides_for_all() {
    let sold = Sold::open().await;
    let other = Between::start(&sold.chain, |method, _| match method {
        "eth_chainId" => Reply::Result(json!("0x89")),
        _ => Reply::Truth,
    })
    .await;
    let registry = EthereumRegistry::builder(Deployment::at(*sold.chain.deployment().address())).config({
        let mut config = config();
        config.agreement = 2;
        config
    });
    let registry = registry.rpc(&sold.chain.url).rpc(&other.url).build().unwrap();
    assert_eq!(registry.deployment().chain_id(), None);
    assert_eq!(sold.fault(&registry).await, RpcFault::WrongChain { expected: Chain::ID, got: 137 });
    assert_eq!(registry.deployment().chain_id(), Some(Chain::ID));
}

#[tokio::test]
async fn an_address_without_a_contract_is_a_typed_error() {
    let sold = Sold::open().await;
    let deployment = Deployment::at([9; 20]).on_chain(Chain::ID);
    let registry = EthereumRegistry::builder(deployment).config(config()).rpc(&sold.chain.url).build().unwrap();
    assert_eq!(sold.fault(&registry).await, RpcFault::NoCode { contract: user(9) });
}

#[tokio::test]
async fn an_endpoint_that_is_down_is_followed_by_the_next_and_left_alone_for_a_while() {
    let sold = Sold::open().await;
    let broken = Between::start(&sold.chain, |_, _| Reply::Hangup).await;
    // However slow this machine is, it rests until the test is over.
    let mut config = config();
    config.rest = LONG;
    let registry = sold.registry_with(config, &["http://127.0.0.1:1", &broken.url, &sold.chain.url]);
    for _ in 0..3 {
        assert!(sold.ask(&registry).await.unwrap().is_ok());
    }
    // hyper tries a request once more whose connection ended under it.
    assert!((1..=2).contains(&broken.asked()), "asked {} times", broken.asked());
    let alone = sold.registry(&["http://127.0.0.1:1"]);
    assert!(matches!(sold.fault(&alone).await, RpcFault::Unreachable { .. }));
}

#[tokio::test]
async fn an_endpoint_that_hangs_costs_one_deadline_and_lets_nobody_in() {
    let sold = Sold::open().await;
    let hanging = Between::start(&sold.chain, |_, _| Reply::Silence).await;
    let alone = sold.registry_with(one_deadline(), &[&hanging.url]);
    assert_eq!(sold.fault(&alone).await, RpcFault::Deadline { after: one_deadline().call_deadline });

    let mut patient = config();
    (patient.call_deadline, patient.rest) = (Duration::from_secs(5), LONG);
    let registry = sold.registry_with(patient, &[&hanging.url, &sold.chain.url]);
    let asked = hanging.asked();
    for _ in 0..3 {
        assert!(sold.ask(&registry).await.unwrap().is_ok());
    }
    assert_eq!(hanging.asked(), asked + 1);
}

#[tokio::test]
async fn an_endpoint_that_is_back_is_asked_again_after_its_rest() {
    let sold = Sold::open().await;
    let between = Between::start(&sold.chain, |_, _| Reply::Status("503 Service Unavailable")).await;
    let mut config = config();
    config.rest = Duration::ZERO;
    let registry = sold.registry_with(config, &[&between.url]);
    assert_eq!(sold.fault(&registry).await, RpcFault::Status { status: 503 });
    between.now(|_, _| Reply::Truth);
    assert!(sold.ask(&registry).await.unwrap().is_ok());
}

#[tokio::test]
async fn an_endpoint_that_lags_is_passed_over_and_alone_lets_nobody_in() {
    let sold = Sold::open().await;
    let old = sold.chain.rpc("eth_getBlockByNumber", json!(["latest", false])).await;
    sold.chain.mine_at(START + 500).await;
    let lagging = Between::start(&sold.chain, move |method, _| match method {
        "eth_getBlockByNumber" => Reply::Result(old.clone()),
        _ => Reply::Truth,
    })
    .await;
    assert!(matches!(sold.fault(&sold.registry(&[&lagging.url])).await, RpcFault::Stale { .. }));
    assert!(sold.ask(&sold.registry(&[&lagging.url, &sold.chain.url])).await.unwrap().is_ok());
}

#[tokio::test]
async fn a_chain_whose_time_is_not_ours_lets_nobody_in() {
    let sold = Sold::open().await;
    let registry = sold.registry(&[&sold.chain.url]);
    let ask = |now| registry.ask(&sold.stream, user(2), Permission::Subscribe, at(now));
    let (head, limit) = (sold.chain.head().await.1, MAX_HEAD_AGE.as_secs());
    assert!(ask(head + limit).await.unwrap().is_ok());
    assert!(ask(head - limit).await.unwrap().is_ok());
    assert!(
        matches!(ask(head + limit + 1).await, Err(ChainError::Unavailable { faults }) if matches!(faults[0].fault, RpcFault::Stale { .. }))
    );
    assert!(
        matches!(ask(head - limit - 1).await, Err(ChainError::Unavailable { faults }) if matches!(faults[0].fault, RpcFault::Ahead { .. }))
    );
}

#[tokio::test]
async fn a_contract_that_is_gone_or_became_another_one_lets_nobody_in() {
    let sold = Sold::open().await;
    let registry = sold.registry(&[&sold.chain.url]);
    assert!(sold.ask(&registry).await.unwrap().is_ok());
    // A contract that answers every question with five zeros; one that gives nothing back; none.
    for (code, fault) in [
        ("0x60a06000f3", None),
        ("0x00", Some(RpcFault::Malformed { what: "what the contract answers" })),
        ("0x", Some(RpcFault::Malformed { what: "what the contract answers" })),
    ] {
        sold.chain.rpc("anvil_setCode", json!([sold.chain.contract, code])).await;
        match fault {
            None => assert_eq!(sold.ask(&registry).await.unwrap(), Err(Refusal::Denied)),
            Some(fault) => assert_eq!(sold.fault(&registry).await, fault),
        }
    }
}

#[tokio::test]
async fn an_upgraded_contract_is_asked_on() {
    let sold = Sold::open().await;
    let registry = sold.registry(&[&sold.chain.url]);
    assert!(sold.ask(&registry).await.unwrap().is_ok());
    sold.chain.upgrade().await;
    assert!(sold.ask(&registry).await.unwrap().is_ok());
}

#[tokio::test]
async fn endpoints_that_disagree_about_a_grant_let_nobody_in() {
    let sold = Sold::open().await;
    let generous = "ff".repeat(32);
    let entry = format!("0x{0}{0}{generous}{generous}{0}", "00".repeat(32));
    let liar = Between::start(&sold.chain, for_calls(Reply::Result(json!(entry)))).await;
    let honest = Between::start(&sold.chain, |_, _| Reply::Truth).await;
    let mut config = config();
    config.agreement = 2;
    let lied = sold.registry_with(config, &[&liar.url, &sold.chain.url]);
    assert!(matches!(sold.ask(&lied).await, Err(ChainError::Disagreement { endpoints }) if endpoints.len() == 2));
    let now = at(sold.chain.head().await.1);
    let refusal = lied.check(&sold.stream, user(3), Permission::Subscribe, now).await;
    assert!(matches!(refusal, Err(Refusal::Unavailable { .. })));
    let agreed = sold.registry_with(config, &[&honest.url, &sold.chain.url]);
    assert_eq!(sold.ask(&agreed).await.unwrap(), until(Permission::Subscribe, START + 1000));

    let down = sold.registry_with(config, &["http://127.0.0.1:1", &sold.chain.url]);
    assert!(matches!(sold.fault(&down).await, RpcFault::Unreachable { .. }), "one alone is not enough");
    let twice = sold.chain.builder(config).rpc(&sold.chain.url).rpc(&sold.chain.url).build();
    assert!(matches!(twice, Err(RegistrySetupError::Endpoints { needed: 2, endpoints: 1 })), "nor twice the same");
}

#[tokio::test]
async fn answers_that_are_no_permission_let_nobody_in() {
    let sold = Sold::open().await;
    let word = "00".repeat(31) + "01";
    for wrong in [
        "0x".into(),
        "0x01".into(),
        format!("0x{}", word.repeat(4)),
        format!("0x{}", word.repeat(6)),
        "0xzz".into(),
        String::new(),
    ] {
        let fault = sold.fault_of(for_calls(Reply::Result(json!(wrong)))).await;
        assert!(matches!(fault, RpcFault::Malformed { .. }), "{wrong}: {fault:?}");
    }
    for wrong in [json!(null), json!(5), json!({ "a": [] })] {
        let fault = sold.fault_of(for_calls(Reply::Result(wrong.clone()))).await;
        assert!(matches!(fault, RpcFault::Malformed { .. }), "{wrong}: {fault:?}");
    }
    for wrong in ["", "<html>", "[]", r#"{"jsonrpc":"2.0","id":99999,"result":"0x"}"#, &"[".repeat(100_000)] {
        let fault = sold.fault_of(for_calls(Reply::Body(wrong.into()))).await;
        assert!(matches!(fault, RpcFault::Malformed { .. }), "{wrong:.40}: {fault:?}");
    }
    for wrong in [json!(null), json!({}), json!({ "number": "0x1" })] {
        let fault = sold.fault_of(move |method, _| match method {
            "eth_getBlockByNumber" => Reply::Result(wrong.clone()),
            _ => Reply::Truth,
        });
        assert!(matches!(fault.await, RpcFault::Malformed { .. }));
    }
}

#[tokio::test]
async fn errors_of_a_node_and_reverts_for_other_reasons_are_not_taken_for_a_missing_stream() {
    let sold = Sold::open().await;
    let said = "error_streamDoesNotExist";
    let node = json!({ "code": -32000, "message": said });
    assert!(matches!(sold.fault_of(for_calls(Reply::Error(node))).await, RpcFault::Node { code: -32000, .. }));
    let bare = json!({ "code": 3, "message": format!("execution reverted: {said}") });
    assert_eq!(sold.fault_of(for_calls(Reply::Error(bare))).await, RpcFault::Reverted { reason: None });
    let other = ethers_core::abi::encode(&[ethers_core::abi::Token::String("error_other".into())]);
    let other = json!({ "code": 3, "message": said, "data": format!("0x08c379a0{}", hex::encode(other)) });
    let reverted = RpcFault::Reverted { reason: Some("error_other".into()) };
    assert_eq!(sold.fault_of(for_calls(Reply::Error(other))).await, reverted);
}

#[tokio::test]
async fn an_answer_without_end_a_redirect_and_an_error_page_are_faults_of_the_endpoint() {
    let sold = Sold::open().await;
    let endless = sold.fault_of(for_calls(Reply::Body(" ".repeat(9 << 20)))).await;
    assert!(matches!(endless, RpcFault::TooLarge { .. }), "{endless:?}");
    let honest = Between::start(&sold.chain, |_, _| Reply::Truth).await;
    let elsewhere: &'static str = format!("307 Temporary Redirect\r\nlocation: {}", honest.url).leak();
    assert_eq!(sold.fault_of(for_calls(Reply::Status(elsewhere))).await, RpcFault::Status { status: 307 });
    assert_eq!(honest.asked(), 0, "where an endpoint points to was not asked");
    assert_eq!(
        sold.fault_of(for_calls(Reply::Status("429 Too Many Requests"))).await,
        RpcFault::Status { status: 429 }
    );
}

#[tokio::test]
async fn an_error_shows_nothing_of_the_key_in_an_endpoints_url() {
    let sold = Sold::open().await;
    let secret = "s3cret-0f-a-customer";
    let echo = json!({ "code": -32005, "message": format!("no quota for {secret}") });
    let between = Between::start(&sold.chain, for_calls(Reply::Error(echo))).await;
    let registry = sold.registry(&[&format!("{}/v2/{secret}", between.url)]);
    let error = sold.ask(&registry).await.unwrap_err();
    let shown = format!("{error} {error:?}");
    assert!(shown.contains("no quota for …") && shown.contains("/…"), "{shown}");
    assert!(!shown.contains(secret), "{shown}");
}
