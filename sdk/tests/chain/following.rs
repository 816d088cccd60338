//! The index of a contract's events: it catches up, goes on, steps back, and knows since when.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use ethers_core::types::{Address, Bytes, U256};
use serde_json::{Value, json};
use veilcast::key_store::{MemoryKeyStore, RecordStore};
use veilcast::permission::PermissionSource;
use veilcast::permission::ethereum::{EventFault, FollowConfig, IndexError, SourceError, Trouble};

use super::*;
use crate::anvil::START;
use crate::between::{Between, Reply};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Looks when it is told to.
fn on_demand() -> FollowConfig {
    let mut config = FollowConfig::default();
    (config.poll, config.max_silence, config.deadline) = (DAY, DAY, Duration::from_secs(60));
    config
}

struct Market {
    chain: Chain,
    stream: StreamId,
    records: Arc<MemoryKeyStore>,
    clock: Arc<ManualClock>,
    config: ChainConfig,
}

impl Market {
    async fn open() -> Self {
        let chain = Chain::start().await;
        let stream = chain.create("s", "{}").await;
        let clock = Arc::new(ManualClock::at(at(START)));
        let mut config = config();
        config.max_head_age = DAY;
        Self { chain, stream, records: Arc::default(), clock, config }
    }

    fn follow(&self, config: FollowConfig, urls: &[&str]) -> EthereumRegistry {
        self.follow_into(self.records.clone(), config, urls)
    }

    fn follow_into(&self, records: Arc<MemoryKeyStore>, config: FollowConfig, urls: &[&str]) -> EthereumRegistry {
        let builder = urls.iter().fold(self.chain.builder(self.config), |builder, url| builder.rpc(*url));
        builder.clock(self.clock.clone()).build().unwrap().follow(records, config)
    }

    fn registry(&self) -> EthereumRegistry {
        self.follow(on_demand(), &[&self.chain.url])
    }

    /// Who is listed, the maker of the stream left out.
    async fn list(&self, registry: &EthereumRegistry) -> BTreeMap<UserId, Grant> {
        registry.watch(&self.stream);
        registry.look_now().await;
        let list = registry.subscribers(&self.stream).await;
        let list = list.unwrap_or_else(|refusal| panic!("{refusal}: {:?}", registry.trouble()));
        let owner = self.chain.owner().await;
        list.into_iter().filter(|one| one.user != owner).map(|one| (one.user, one.grant)).collect()
    }

    async fn sell(&self, who: u8, end: u64) -> Timestamp {
        self.chain.sell(&self.stream, user(who), end).await;
        self.now().await
    }

    async fn revoke(&self, who: u8) -> Timestamp {
        let user = Address::from([who; 20]);
        self.chain.send("revokePermission", (self.stream.to_string(), user, 3u8)).await;
        self.now().await
    }

    async fn now(&self) -> Timestamp {
        at(self.chain.head().await.1)
    }
}

fn users(list: &BTreeMap<UserId, Grant>) -> Vec<UserId> {
    list.keys().copied().collect()
}

/// The blocks that a request for logs names.
fn span(params: &Value) -> (u64, u64) {
    let number = |field: &str| u64::from_str_radix(params[0][field].as_str().unwrap().trim_start_matches("0x"), 16);
    (number("fromBlock").unwrap(), number("toBlock").unwrap())
}

#[tokio::test]
async fn the_index_catches_up_with_a_chain_and_says_who_subscribes_since_when_and_until_when() {
    let market = Market::open().await;
    let since = market.sell(2, START + 1000).await;
    let gone = market.sell(3, START + 2000).await;
    let taken = market.revoke(3).await;
    let registry = market.registry();
    let list = market.list(&registry).await;
    assert_eq!(users(&list), [user(2), user(3)]);
    assert_eq!((list[&user(2)].beginning(), list[&user(2)].ends()), (Some(since), Some(at(START + 1000))));
    assert_eq!((list[&user(3)].beginning(), list[&user(3)].revoked), (Some(gone), Some(taken)));

    let before = registry.changes();
    market.sell(2, START + 5000).await;
    let again = market.sell(3, START + 5000).await;
    let list = market.list(&registry).await;
    assert_eq!((list[&user(2)].beginning(), list[&user(2)].ends()), (Some(since), Some(at(START + 5000))), "renewed");
    assert_eq!((list[&user(3)].beginning(), list[&user(3)].before), (Some(again), Some(taken)), "and came back");
    assert!(registry.changes() > before);

    market.chain.mine_at(START + 5001).await;
    let list = market.list(&registry).await;
    assert_eq!(list[&user(2)].ends(), Some(at(START + 5000)), "nothing announces the end");
    assert!(list[&user(2)].is_over_at(at(START + 5001)));
}

#[tokio::test]
async fn a_check_on_a_followed_stream_says_since_when_the_user_may_without_a_break() {
    let market = Market::open().await;
    let since = market.sell(2, START + 1000).await;
    market.chain.mine_at(START + 900).await;
    market.sell(2, START + 5000).await;
    let registry = market.registry();
    let check = async || registry.check(&market.stream, user(2), Permission::Subscribe, market.now().await).await;
    assert_eq!(check().await.unwrap().beginning(), None, "nobody can tell yet");
    market.list(&registry).await;
    let grant = check().await.unwrap();
    assert_eq!((grant.beginning(), grant.ends()), (Some(since), Some(at(START + 5000))));
    assert_eq!(registry.check(&market.stream, user(3), Permission::Subscribe, since).await, Err(Refusal::Denied));
}

#[tokio::test]
async fn grants_to_an_address_and_to_the_same_user_id_are_one_and_other_ids_are_nobody() {
    let market = Market::open().await;
    let to_id = async |id: Vec<u8>| {
        market.chain.send("grantPermissionForUserId", (market.stream.to_string(), Bytes::from(id), 3u8)).await;
    };
    to_id(vec![2; 20]).await;
    to_id(vec![3; 33]).await;
    let registry = market.registry();
    assert_eq!(users(&market.list(&registry).await), [user(2)]);
    let taken = market.revoke(2).await;
    assert_eq!(market.list(&registry).await[&user(2)].revoked, Some(taken));
}

#[tokio::test]
async fn a_stopped_index_goes_on_after_the_last_block_it_read() {
    let market = Market::open().await;
    market.sell(2, START + 1000).await;
    let registry = market.registry();
    market.list(&registry).await;
    let at = registry.progress().unwrap().at;
    assert_eq!(at, market.chain.head().await.0);
    registry.stop().await;
    assert_eq!(Arc::strong_count(&market.records), 1, "the store is let go of");

    market.sell(3, START + 1000).await;
    let spans: Arc<Mutex<Vec<(u64, u64)>>> = Arc::default();
    let noted = spans.clone();
    let between = Between::start(&market.chain, move |method, params| {
        if method == "eth_getLogs" {
            noted.lock().unwrap().push(span(params));
        }
        Reply::Truth
    })
    .await;
    let registry = market.follow(on_demand(), &[&between.url]);
    assert_eq!(users(&market.list(&registry).await), [user(2), user(3)]);
    assert_eq!(*spans.lock().unwrap(), [(at + 1, at + 1)]);
}

#[tokio::test]
async fn while_it_catches_up_the_progress_is_told_and_nobody_is_given_half_a_list() {
    let market = Market::open().await;
    for who in 2..12 {
        market.sell(who, START + 1000).await;
    }
    let calls = AtomicUsize::new(0);
    let between = Between::start(&market.chain, move |method, _| match method {
        "eth_getLogs" if calls.fetch_add(1, Ordering::SeqCst) >= 3 => Reply::Silence,
        _ => Reply::Truth,
    })
    .await;
    let mut config = on_demand();
    config.max_range = 2;
    let registry = market.follow(config, &[&between.url]);
    let half = async {
        while registry.progress().is_none_or(|progress| progress.at < 4) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(anvil::LONG, half).await.unwrap();
    let progress = registry.progress().unwrap();
    assert_eq!((progress.from, progress.at, progress.head), (0, 4, market.chain.head().await.0));
    let refusal = registry.subscribers(&market.stream).await;
    assert!(matches!(refusal, Err(Refusal::Unavailable { .. })), "{refusal:?}");
    registry.stop().await;

    let registry = market.registry();
    assert_eq!(market.list(&registry).await.len(), 10);
    let progress = registry.progress().unwrap();
    assert_eq!(progress.at, progress.head);
}

#[tokio::test]
async fn a_reorganisation_takes_a_listed_grant_back_and_a_revocation_too() {
    let market = Market::open().await;
    market.sell(2, START + 1000).await;
    market.chain.mine(5).await;
    let registry = market.registry();
    market.sell(3, START + 1000).await;
    market.revoke(2).await;
    let list = market.list(&registry).await;
    assert!(list[&user(2)].revoked.is_some() && list[&user(3)].revoked.is_none());

    let before = registry.changes();
    market.chain.rpc("anvil_reorg", json!([2, []])).await;
    let list = market.list(&registry).await;
    assert_eq!(users(&list), [user(2)]);
    assert_eq!((list[&user(2)].revoked, list[&user(2)].ends()), (None, Some(at(START + 1000))));
    assert!(registry.changes() > before, "whoever asked before asks again");
}

#[tokio::test]
async fn a_grant_is_listed_with_its_confirmations_and_a_revocation_without() {
    let mut market = Market::open().await;
    market.config.confirmations = 3;
    market.chain.mine(3).await;
    let registry = market.registry();
    let since = market.sell(2, START + 1000).await;
    for _ in 0..3 {
        assert!(market.list(&registry).await.is_empty());
        market.chain.mine(1).await;
    }
    assert_eq!(market.list(&registry).await[&user(2)].beginning(), Some(since));
    let taken = market.revoke(2).await;
    assert_eq!(market.list(&registry).await[&user(2)].revoked, Some(taken));
}

#[tokio::test]
async fn users_of_a_stream_that_was_deleted_and_made_again_have_ended_and_the_new_ones_count() {
    let market = Market::open().await;
    market.sell(2, START + 5000).await;
    let registry = market.registry();
    market.list(&registry).await;
    market.chain.delete(&market.stream).await;
    let gone = market.now().await;
    assert_eq!(market.list(&registry).await[&user(2)].revoked, Some(gone));
    market.chain.create("s", "{}").await;
    market.sell(3, START + 5000).await;
    let list = market.list(&registry).await;
    assert_eq!((list[&user(2)].revoked, list[&user(3)].revoked), (Some(gone), None));

    // And for whoever was away meanwhile.
    let anew = Market { records: Arc::default(), ..market };
    assert_eq!(anew.list(&anew.registry()).await, list);
}

#[tokio::test]
async fn after_an_upgrade_of_the_contract_everything_is_read_again() {
    let market = Market::open().await;
    market.sell(2, START + 5000).await;
    let reads = Arc::new(AtomicUsize::new(0));
    let count = reads.clone();
    let between = Between::start(&market.chain, move |method, _| {
        count.fetch_add(usize::from(method == "eth_call"), Ordering::SeqCst);
        Reply::Truth
    })
    .await;
    let registry = market.follow(on_demand(), &[&between.url]);
    market.list(&registry).await;
    let (before, changes) = (reads.load(Ordering::SeqCst), registry.changes());
    market.chain.mine(1).await;
    market.list(&registry).await;
    assert_eq!((reads.load(Ordering::SeqCst), registry.changes()), (before, changes), "without an event nothing is");
    market.chain.upgrade().await;
    assert_eq!(users(&market.list(&registry).await), [user(2)]);
    assert!(reads.load(Ordering::SeqCst) > before && registry.changes() > changes);
}

#[tokio::test]
async fn it_is_known_when_a_stream_on_a_chain_stopped_being_public_before_its_time() {
    let market = Market::open().await;
    let registry = market.registry();
    market.chain.set_public(&market.stream, 0.into(), U256::MAX).await;
    market.list(&registry).await;
    let info = async || registry.stream(&market.stream).await.unwrap().unwrap();
    assert_eq!((info().await.public, info().await.public_until), (true, None));
    market.chain.set_public(&market.stream, 0.into(), 0.into()).await;
    let until = market.now().await;
    market.list(&registry).await;
    market.clock.set(until);
    assert_eq!((info().await.public, info().await.public_until), (false, Some(until)));
}

#[tokio::test]
async fn an_endpoint_that_refuses_many_blocks_at_once_is_asked_for_fewer_and_still_serves_checks() {
    let market = Market::open().await;
    market.sell(2, START + 1000).await;
    market.chain.mine(40).await;
    let between = Between::start(&market.chain, |method, params| match method {
        "eth_getLogs" if span(params).1 - span(params).0 > 4 => {
            Reply::Error(json!({ "code": -32005, "message": "query exceeds max block range" }))
        }
        _ => Reply::Truth,
    })
    .await;
    let registry = market.follow(on_demand(), &[&between.url]);
    assert_eq!(users(&market.list(&registry).await), [user(2)]);
    assert!(registry.trouble().is_none());
    let check = registry.check(&market.stream, user(2), Permission::Subscribe, market.now().await).await;
    assert!(check.is_ok(), "{check:?}");
}

#[tokio::test]
async fn the_next_endpoint_is_asked_for_events_when_one_is_down() {
    let market = Market::open().await;
    market.sell(2, START + 1000).await;
    let broken = Between::start(&market.chain, |_, _| Reply::Status("503 Service Unavailable")).await;
    let registry = market.follow(on_demand(), &[&broken.url, &market.chain.url]);
    assert_eq!(users(&market.list(&registry).await), [user(2)]);
    let alone = Market { records: Arc::default(), ..market };
    let registry = alone.follow(on_demand(), &[&broken.url]);
    registry.watch(&alone.stream);
    registry.look_now().await;
    assert!(matches!(registry.trouble().as_deref(), Some(Trouble::Source(SourceError::Unavailable { .. }))));
    assert!(matches!(registry.subscribers(&alone.stream).await, Err(Refusal::Unavailable { .. })));
}

#[tokio::test]
async fn one_endpoint_that_hangs_or_lies_about_events_keeps_nobody_from_the_next() {
    let market = Market::open().await;
    market.sell(2, START + 1000).await;
    let wrong = json!([{
        "address": format!("0x{}", "07".repeat(20)), "topics": [], "data": "0x", "blockNumber": "0x1", "logIndex": "0x0",
        "blockHash": format!("0x{}", "07".repeat(32)),
    }]);
    for reply in [Reply::Silence, Reply::Result(wrong)] {
        let bad = Between::start(&market.chain, move |method, _| match method {
            "eth_getLogs" => reply.clone(),
            _ => Reply::Truth,
        })
        .await;
        let mut config = on_demand();
        config.deadline = Duration::from_secs(2);
        let registry = market.follow_into(Arc::default(), config, &[&bad.url, &market.chain.url]);
        assert_eq!(users(&market.list(&registry).await), [user(2)]);
        let asked = bad.asked();
        market.chain.mine(1).await;
        market.list(&registry).await;
        assert_eq!(bad.asked(), asked, "the one that could is asked first");
    }
}

#[tokio::test]
async fn logs_that_cannot_be_the_contracts_are_a_typed_trouble_and_nobody_is_listed_by_them() {
    let market = Market::open().await;
    market.sell(2, START + 1000).await;
    let head = market.chain.head().await.0;
    let topic = "0xd22d58032f55c61c3896b3f67eb399b25071b61e122a23d4cd06bc87d4b7b8c1"; // PermissionUpdated
    let filter = json!([{ "fromBlock": "0x0", "toBlock": format!("{head:#x}"), "topics": [topic] }]);
    let true_logs = market.chain.rpc("eth_getLogs", filter).await;
    let last = true_logs.as_array().unwrap().len() - 1;
    let lie = |change: &dyn Fn(&mut Value)| {
        let mut logs = true_logs.clone();
        change(&mut logs[last]);
        logs
    };
    let other = format!("0x{}", "07".repeat(32));
    let lies: Vec<(Value, EventFault)> = vec![
        (lie(&|log| log["address"] = format!("0x{}", "07".repeat(20)).into()), EventFault::Foreign),
        (lie(&|log| log["topics"] = json!([other])), EventFault::Unasked),
        (lie(&|log| log["blockNumber"] = "0xffffff".into()), EventFault::OutOfRange { block: 0xff_ffff }),
        (lie(&|log| log["removed"] = true.into()), EventFault::Removed),
        (lie(&|log| log["blockHash"] = other.clone().into()), EventFault::TwoBlocks { block: head }),
        (lie(&|log| log["data"] = "0x01".into()), EventFault::Malformed { event: "PermissionUpdated" }),
    ];
    let between = Between::start(&market.chain, |_, _| Reply::Truth).await;
    let registry = market.follow(on_demand(), &[&between.url]);
    registry.watch(&market.stream);
    for (logs, fault) in lies {
        between.now(move |method, params| match method {
            // In part they are left out, so that only the lie is in question.
            "eth_getLogs" => {
                let (from, to) = span(params);
                let within = |log: &&Value| {
                    let number = log["blockNumber"].as_str().unwrap().trim_start_matches("0x");
                    let number = u64::from_str_radix(number, 16).unwrap();
                    (from..=to).contains(&number) || number > 0xffff
                };
                let logs: Vec<Value> = logs.as_array().unwrap().iter().filter(within).cloned().collect();
                Reply::Result(logs.into())
            }
            _ => Reply::Truth,
        });
        registry.look_now().await;
        let trouble = registry.trouble();
        let found = |found: &Trouble| matches!(found, Trouble::Source(SourceError::Event(found)) if *found == fault);
        assert!(trouble.as_deref().is_some_and(found), "{fault:?}: {trouble:?}");
        assert!(matches!(registry.subscribers(&market.stream).await, Err(Refusal::Unavailable { .. })));
    }
    between.now(|_, _| Reply::Truth);
    assert_eq!(users(&market.list(&registry).await), [user(2)]);
    assert!(registry.trouble().is_none());
}

#[tokio::test]
async fn an_event_whose_grant_the_contract_does_not_know_lists_nobody_who_may_read() {
    let market = Market::open().await;
    market.sell(2, START + 1000).await;
    let between = Between::start(&market.chain, |_, _| Reply::Truth).await;
    let nothing = format!("0x{}", "00".repeat(160));
    between
        .now(move |method, _| if method == "eth_call" { Reply::Result(nothing.clone().into()) } else { Reply::Truth });
    let registry = market.follow(on_demand(), &[&between.url]);
    let list = market.list(&registry).await;
    assert!(list[&user(2)].revoked.is_some(), "{list:?}");
}

#[tokio::test]
async fn a_damaged_index_is_a_typed_trouble_and_no_list() {
    let market = Market::open().await;
    market.sell(2, START + 1000).await;
    let registry = market.registry();
    market.list(&registry).await;
    registry.stop().await;
    let rows = market.records.scan("chain", &[], None, 100).unwrap();
    assert!(!rows.is_empty());
    let damaged: Vec<_> = rows.into_iter().map(|(key, _)| (key, Some(vec![0xff; 7]))).collect();
    market.records.write("chain", &damaged).unwrap();
    let registry = market.registry();
    registry.watch(&market.stream);
    registry.look_now().await;
    assert!(matches!(registry.trouble().as_deref(), Some(Trouble::Index(IndexError::Record))));
    assert!(matches!(registry.subscribers(&market.stream).await, Err(Refusal::Unavailable { .. })));
}

#[tokio::test]
async fn without_an_index_nobody_can_tell_who_subscribes() {
    let market = Market::open().await;
    let registry = market.chain.registry();
    assert!(matches!(registry.subscribers(&market.stream).await, Err(Refusal::Unavailable { .. })));
    assert!(registry.progress().is_none() && registry.trouble().is_none() && registry.changes() == 0);
}

#[tokio::test]
async fn where_endpoints_must_agree_an_event_that_one_of_them_leaves_out_is_told_by_the_other() {
    let mut market = Market::open().await;
    market.config.agreement = 2;
    market.sell(2, START + 1000).await;
    let hiding = Between::start(&market.chain, |method, _| match method {
        "eth_getLogs" => Reply::Result(json!([])),
        _ => Reply::Truth,
    })
    .await;
    let registry = market.follow(on_demand(), &[&hiding.url, &market.chain.url]);
    assert_eq!(users(&market.list(&registry).await), [user(2)]);
    let taken = market.revoke(2).await;
    assert_eq!(market.list(&registry).await[&user(2)].revoked, Some(taken));

    let alone = market.follow_into(Arc::default(), on_demand(), &[&hiding.url, "http://127.0.0.1:1"]);
    alone.watch(&market.stream);
    alone.look_now().await;
    assert!(alone.subscribers(&market.stream).await.is_err(), "one alone is not believed");
}

#[tokio::test]
async fn a_revocation_whose_event_the_only_endpoint_keeps_back_is_found_by_reading_the_entry_anew() {
    let market = Market::open().await;
    market.sell(2, START + 1000).await;
    let between = Between::start(&market.chain, |_, _| Reply::Truth).await;
    let mut config = on_demand();
    config.recheck = Duration::ZERO;
    let registry = market.follow(config, &[&between.url]);
    assert_eq!(market.list(&registry).await[&user(2)].revoked, None);
    between.now(|method, _| match method {
        "eth_getLogs" => Reply::Result(json!([])),
        _ => Reply::Truth,
    });
    let taken = market.revoke(2).await;
    assert_eq!(market.list(&registry).await[&user(2)].revoked, Some(taken));
}
