//! What an identity does on the chain, what it costs, and what the contract then says.

use futures::future::join_all;
use veilcast::Identity;
use veilcast::permission::ethereum::{Account, Action, Receipt, WriteError};

use super::*;
use crate::anvil::START;
use crate::between::{Between, Reply};

const ETHER: u128 = 1_000_000_000_000_000_000;

fn seller() -> Identity {
    Identity::from_secret_bytes(&[7; 32]).unwrap()
}

fn stream() -> StreamId {
    StreamId::of(seller().user(), "s").unwrap()
}

fn create(path: &str) -> Action {
    Action::CreateStream { path: path.into(), partitions: 3 }
}

fn grant(permission: Permission, user: UserId, period: Period) -> Action {
    Action::Grant { stream: stream(), user, permission, period }
}

fn revoke(permission: Permission, user: UserId) -> Action {
    Action::Revoke { stream: stream(), user, permission }
}

/// A chain, and a seller with money on it.
async fn market() -> (Chain, EthereumRegistry) {
    let chain = Chain::start().await;
    chain.give(seller().user(), ETHER).await;
    let registry = chain.registry_in_time().await;
    (chain, registry)
}

async fn done(account: &Account<'_>, action: Action) -> Receipt {
    account.quote(action).await.unwrap().send().await.unwrap().receipt().await.unwrap()
}

#[tokio::test]
async fn a_stream_is_made_and_its_permissions_are_given_one_by_one_and_taken_back_one_by_one() {
    let (chain, registry) = market().await;
    let seller = registry.account(seller());
    done(&seller, create("s")).await;
    let (subscribe, publish, end) = (Permission::Subscribe, Permission::Publish, START + 1000);
    done(&seller, grant(subscribe, user(2), Period::until(at(end)))).await;
    done(&seller, grant(publish, user(2), Period::ALWAYS)).await;
    let both = Entry { publish: ethers_core::types::U256::MAX, subscribe: end.into(), ..Entry::default() };
    assert_eq!(chain.entry(&stream(), user(2)).await, both);
    done(&seller, grant(subscribe, user(2), Period::until(at(end + 5)))).await;
    assert_eq!(chain.entry(&stream(), user(2)).await, Entry { subscribe: (end + 5).into(), ..both });
    done(&seller, revoke(publish, user(2))).await;
    let left = Entry { subscribe: (end + 5).into(), ..Entry::default() };
    assert_eq!(chain.entry(&stream(), user(2)).await, left);
    done(&seller, revoke(subscribe, user(2))).await;
    assert_eq!(chain.entry(&stream(), user(2)).await, Entry::default());
}

#[tokio::test]
async fn a_stream_is_made_public_and_private_again_and_has_its_partitions() {
    use veilcast::permission::PermissionSource;

    let (chain, registry) = market().await;
    let seller = registry.account(seller());
    done(&seller, create("s")).await;
    for public in [true, false] {
        done(&seller, Action::SetPublic { stream: stream(), public }).await;
        let info = chain.registry_in_time().await.stream(&stream()).await.unwrap().unwrap();
        assert_eq!((info.public, info.partitions), (public, 3));
        assert_eq!(chain.ask(&registry, &stream(), user(9)).await.unwrap().is_ok(), public);
    }
}

#[tokio::test]
async fn a_quote_tells_the_most_it_costs_before_anything_is_sent() {
    let (chain, registry) = market().await;
    let account = registry.account(seller());
    let before = chain.head().await.0;
    let quote = account.quote(create("s")).await.unwrap();
    assert_eq!(chain.head().await.0, before, "nothing was sent");
    assert_eq!((quote.action(), quote.balance()), (&create("s"), ETHER));
    let (gas, fee, total) = (quote.gas_limit(), quote.max_fee_per_gas(), quote.total());
    assert_eq!(total, u128::from(gas) * fee);
    let sent = quote.send().await.unwrap();
    let receipt = sent.receipt().await.unwrap();
    assert_eq!((receipt.hash, receipt.block), (sent.hash(), before + 1));
    assert!(receipt.gas_used <= gas && receipt.cost <= total && receipt.cost > 0, "{receipt:?}");
    assert_eq!(chain.balance(account.user()).await, ETHER - receipt.cost);
}

#[tokio::test]
async fn what_was_agreed_to_holds_while_it_still_buys_the_gas_and_is_never_exceeded() {
    let (_chain, registry) = market().await;
    let account = registry.account(seller());
    let quote = account.quote(create("s")).await.unwrap();
    let (total, fee) = (quote.total(), quote.max_fee_per_gas());
    assert_eq!(quote.clone().at_most(total).unwrap().total(), total);
    assert_eq!(quote.clone().at_most(u128::MAX).unwrap().total(), total);
    match quote.clone().at_most(total / 3) {
        Err(WriteError::TooDear { cost, limit }) => assert_eq!((cost, limit), (total, total / 3)),
        other => panic!("{other:?}"),
    }
    let agreed = total / 10 * 9;
    let lower = quote.at_most(agreed).unwrap();
    assert!(lower.total() <= agreed && lower.max_fee_per_gas() < fee, "{lower:?}");
    let receipt = lower.send().await.unwrap().receipt().await.unwrap();
    assert!(receipt.cost <= agreed, "{receipt:?}");
}

#[tokio::test]
async fn writes_at_once_have_a_number_each_and_all_take_effect() {
    let (chain, registry) = market().await;
    done(&registry.account(seller()), create("s")).await;
    let buyers: Vec<UserId> = (10..30).map(user).collect();
    let writes = buyers.iter().map(|buyer| {
        let account = registry.account(seller());
        async move { done(&account, grant(Permission::Subscribe, *buyer, Period::ALWAYS)).await }
    });
    let mut hashes: Vec<_> = join_all(writes).await.into_iter().map(|receipt| receipt.hash).collect();
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), buyers.len());
    assert_eq!(chain.transactions(seller().user()).await, 21);
    for buyer in buyers {
        assert_eq!(chain.ask(&registry, &stream(), buyer).await.unwrap(), for_ever(Permission::Subscribe));
    }
}

#[tokio::test]
async fn two_processes_with_one_identity_take_different_numbers() {
    let (chain, one) = market().await;
    let other = chain.registry_in_time().await;
    done(&one.account(seller()), create("s")).await;
    for buyer in (10..20).step_by(2) {
        for (registry, buyer) in [(&one, buyer), (&other, buyer + 1)] {
            done(&registry.account(seller()), grant(Permission::Subscribe, user(buyer), Period::ALWAYS)).await;
        }
    }
    assert_eq!(chain.transactions(seller().user()).await, 11);
}

#[tokio::test]
async fn what_the_contract_refuses_is_a_typed_error_with_its_reason_before_anything_is_sent() {
    let (chain, registry) = market().await;
    let seller = registry.account(seller());
    let foreign = chain.create("s", "{}").await;
    done(&seller, create("s")).await;
    let period = Period::ALWAYS;
    let unknown = StreamId::of(user(5), "none").unwrap();
    let permission = Permission::Subscribe;
    let cases = [
        (create("s"), "error_streamAlreadyExists"),
        (Action::Grant { stream: unknown, user: user(2), permission, period }, "error_streamDoesNotExist"),
        (Action::Grant { stream: foreign, user: user(2), permission, period }, "error_noSharePermission"),
    ];
    for (action, expected) in cases {
        match seller.quote(action).await {
            Err(WriteError::Reverted { reason }) => assert_eq!(reason.as_deref(), Some(expected)),
            other => panic!("{expected}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn what_the_contract_refuses_only_when_it_is_carried_out_is_told_with_its_reason() {
    let (_chain, registry) = market().await;
    let account = registry.account(seller());
    let (first, second) = (account.quote(create("s")).await.unwrap(), account.quote(create("s")).await.unwrap());
    first.send().await.unwrap().receipt().await.unwrap();
    match second.send().await.unwrap().receipt().await {
        Err(WriteError::Reverted { reason }) => assert_eq!(reason.as_deref(), Some("error_streamAlreadyExists")),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn without_money_or_above_the_limit_nothing_is_sent() {
    let (chain, registry) = market().await;
    chain.give(seller().user(), 1000).await;
    let quote = registry.account(seller()).quote(create("s")).await.unwrap();
    let cost = quote.total();
    assert!(matches!(quote.send().await, Err(WriteError::Funds { balance: 1000, .. })));
    let mut config = config();
    config.max_cost = Some(cost / 2);
    let careful = chain.builder(config).rpc(&chain.url).build().unwrap();
    assert!(matches!(careful.account(seller()).quote(create("s")).await, Err(WriteError::TooDear { .. })));
    assert_eq!(chain.transactions(seller().user()).await, 0);
}

#[tokio::test]
async fn a_transaction_whose_answer_is_lost_is_sent_once() {
    let (chain, _) = market().await;
    let lossy = Between::start(&chain, |method, _| match method {
        "eth_sendRawTransaction" => Reply::Unsaid,
        _ => Reply::Truth,
    })
    .await;
    let clock = Arc::new(ManualClock::at(at(chain.head().await.1)));
    let registry = chain.builder(config()).rpc(&lossy.url).rpc(&chain.url).clock(clock).build().unwrap();
    let account = registry.account(seller());
    done(&account, create("s")).await;
    done(&account, grant(Permission::Subscribe, user(2), Period::ALWAYS)).await;
    assert_eq!(chain.transactions(seller().user()).await, 2);
}

#[tokio::test]
async fn a_tip_that_an_endpoint_makes_up_is_not_paid() {
    let (chain, _) = market().await;
    let dear = Between::start(&chain, |method, _| match method {
        "eth_maxPriorityFeePerGas" => Reply::Result("0x38d7ea4c68000".into()),
        _ => Reply::Truth,
    })
    .await;
    let clock = Arc::new(ManualClock::at(at(chain.head().await.1)));
    let registry = chain.builder(config()).rpc(&dear.url).clock(clock).build().unwrap();
    let quote = registry.account(seller()).quote(create("s")).await.unwrap();
    let base = chain.rpc("eth_getBlockByNumber", serde_json::json!(["latest", false])).await["baseFeePerGas"].clone();
    let base = u128::from_str_radix(base.as_str().unwrap().trim_start_matches("0x"), 16).unwrap();
    assert!(quote.max_fee_per_gas() <= 2 * base + 50_000_000_000, "{}", quote.max_fee_per_gas());
    quote.send().await.unwrap().receipt().await.unwrap();
}

#[tokio::test]
async fn a_transaction_is_not_carried_out_twice_because_the_endpoint_that_took_it_is_silent_and_the_next_one_lags() {
    let (chain, _) = market().await;
    let lossy = Between::start(&chain, |_, _| Reply::Truth).await;
    // It has heard of the account's next number, and of nothing else.
    let lagging = Between::start(&chain, |method, _| match method {
        "eth_sendRawTransaction" => Reply::Error(serde_json::json!({ "code": -32000, "message": "nonce too low" })),
        "eth_getTransactionByHash" => Reply::Result(serde_json::Value::Null),
        _ => Reply::Truth,
    })
    .await;
    let clock = Arc::new(ManualClock::at(at(chain.head().await.1)));
    let mut config = config();
    config.rest = Duration::ZERO;
    let registry = chain.builder(config).rpc(&lossy.url).rpc(&lagging.url).clock(clock).build().unwrap();
    let quote = registry.account(seller()).quote(create("s")).await.unwrap();
    lossy.now(|method, _| match method {
        "eth_sendRawTransaction" => Reply::Unsaid,
        "eth_getTransactionByHash" => Reply::Hangup,
        _ => Reply::Truth,
    });
    let sent = quote.send().await;
    assert!(matches!(&sent, Err(WriteError::Unsettled { .. })), "nobody can tell: {sent:?}");
    assert_eq!(chain.transactions(seller().user()).await, 1);

    lossy.now(|method, _| if method == "eth_sendRawTransaction" { Reply::Unsaid } else { Reply::Truth });
    let quote = registry.account(seller()).quote(create("t")).await.unwrap();
    quote.send().await.unwrap().receipt().await.unwrap();
    assert_eq!(chain.transactions(seller().user()).await, 2, "the one that took it knows it");
}

#[tokio::test]
async fn a_transaction_that_may_or_may_not_be_sent_says_so_and_names_itself() {
    let (chain, _) = market().await;
    let lossy = Between::start(&chain, |method, _| match method {
        "eth_sendRawTransaction" => Reply::Unsaid,
        _ => Reply::Truth,
    })
    .await;
    let clock = Arc::new(ManualClock::at(at(chain.head().await.1)));
    let registry = chain.builder(config()).rpc(&lossy.url).clock(clock).build().unwrap();
    let sent = registry.account(seller()).quote(create("s")).await.unwrap().send().await;
    let Err(WriteError::Unsettled { hash, .. }) = sent else { panic!("{sent:?}") };
    let hash = format!("0x{}", hex::encode(hash)).into();
    assert_eq!(chain.receipt(hash).await["status"], "0x1", "this time it was");
}

#[tokio::test]
async fn a_grant_that_ends_in_the_past_or_starts_after_its_end_or_later_is_refused_without_asking_the_chain() {
    let chain = Chain::start().await;
    let silent = Between::start(&chain, |_, _| Reply::Silence).await;
    let clock = Arc::new(ManualClock::at(at(START)));
    let registry = chain.builder(config()).rpc(&silent.url).clock(clock).build().unwrap();
    let quote = async |start: Option<u64>, end: u64| {
        let period = Period { start: start.map(at), end: Some(at(end)) };
        registry.account(seller()).quote(grant(Permission::Subscribe, user(2), period)).await.unwrap_err()
    };
    assert!(matches!(quote(None, START - 1).await, WriteError::Period(_)));
    assert!(matches!(quote(Some(START + 9), START + 5).await, WriteError::Period(_)));
    assert!(matches!(quote(Some(START + 5), START + 9).await, WriteError::StartsLater { .. }));
    assert_eq!(silent.asked(), 0);
}
