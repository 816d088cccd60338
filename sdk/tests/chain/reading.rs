//! What the registry makes of what the contract says.

use veilcast::permission::PermissionSource;

use super::*;
use crate::anvil::START;

#[tokio::test]
async fn on_a_chain_a_grant_is_valid_at_its_end_and_not_one_second_later() {
    let chain = Chain::start().await;
    let (stream, registry, end) = (chain.create("s", "{}").await, chain.registry(), START + 1000);
    chain.sell(&stream, user(2), end).await;
    chain.mine_at(end).await;
    assert_eq!(chain.ask(&registry, &stream, user(2)).await.unwrap(), until(Permission::Subscribe, end));
    chain.mine_at(end + 1).await;
    let expired = Err(Refusal::Expired { since: at(end) });
    assert_eq!(chain.ask(&registry, &stream, user(2)).await.unwrap(), expired);
    assert_eq!(chain.ask(&registry, &stream, user(3)).await.unwrap(), Err(Refusal::Denied), "he never had one");
}

#[tokio::test]
async fn on_a_chain_whose_newest_block_is_older_a_grant_ends_by_our_clock() {
    let chain = Chain::start().await;
    let (stream, registry, end) = (chain.create("s", "{}").await, chain.registry(), START + 1000);
    chain.sell(&stream, user(2), end).await;
    chain.mine_at(end - 10).await;
    let ask = |now| registry.check(&stream, user(2), Permission::Subscribe, at(now));
    assert_eq!(ask(end).await, until(Permission::Subscribe, end));
    assert_eq!(ask(end + 1).await, Err(Refusal::Expired { since: at(end) }));
    chain.mine_at(end + 1).await;
    assert_eq!(ask(end).await, Err(Refusal::Expired { since: at(end) }), "the chain's clock has gone on");
}

#[tokio::test]
async fn on_a_chain_publish_and_subscribe_are_two_things_and_the_maker_of_a_stream_has_both() {
    let chain = Chain::start().await;
    let (stream, registry) = (chain.create("s", "{}").await, chain.registry());
    let publisher = Entry { publish: (START + 1000).into(), ..Entry::default() };
    chain.set(&stream, user(2), publisher).await;
    let now = at(chain.head().await.1);
    let ask = |user, permission| registry.check(&stream, user, permission, now);
    assert_eq!(ask(user(2), Permission::Publish).await, until(Permission::Publish, START + 1000));
    assert_eq!(ask(user(2), Permission::Subscribe).await, Err(Refusal::Denied));
    for permission in [Permission::Publish, Permission::Subscribe] {
        assert_eq!(ask(chain.owner().await, permission).await, for_ever(permission));
    }
}

#[tokio::test]
async fn on_a_chain_whose_grant_has_ended_falls_back_to_what_everybody_may() {
    let chain = Chain::start().await;
    let (stream, registry, end) = (chain.create("s", "{}").await, chain.registry(), START + 1000);
    chain.sell(&stream, user(2), end).await;
    chain.set_public(&stream, 0.into(), (end + 500).into()).await;
    chain.mine_at(end).await;
    assert_eq!(chain.ask(&registry, &stream, user(2)).await.unwrap(), until(Permission::Subscribe, end));
    assert_eq!(chain.ask(&registry, &stream, user(3)).await.unwrap(), until(Permission::Subscribe, end + 500));
    let between_blocks = registry.check(&stream, user(2), Permission::Subscribe, at(end + 1)).await;
    assert_eq!(between_blocks, until(Permission::Subscribe, end + 500), "before the next block, by our clock");
    chain.mine_at(end + 1).await;
    assert_eq!(chain.ask(&registry, &stream, user(2)).await.unwrap(), until(Permission::Subscribe, end + 500));
    chain.mine_at(end + 501).await;
    assert_eq!(chain.ask(&registry, &stream, user(3)).await.unwrap(), Err(Refusal::Denied));
}

#[tokio::test]
async fn a_stream_on_a_chain_is_public_while_everybody_may_subscribe_and_has_the_partitions_of_its_metadata() {
    let chain = Chain::start().await;
    let stream = chain.create("s", r#"{"partitions":7}"#).await;
    let info = || async { chain.registry_in_time().await.stream(&stream).await };
    let first = info().await.unwrap().unwrap();
    assert_eq!((first.partitions, first.public, first.public_until), (7, false, None));
    chain.set_public(&stream, 0.into(), (START + 1000).into()).await;
    let public = info().await.unwrap().unwrap();
    assert_eq!((public.public, public.public_ends), (true, Some(at(START + 1001))));
    chain.mine_at(START + 1001).await;
    let last = info().await.unwrap().unwrap();
    assert_eq!((last.public, last.public_until), (false, Some(at(START + 1001))));

    let absurd = chain.create("t", r#"{"partitions":1000}"#).await;
    let refusal = chain.registry_in_time().await.stream(&absurd).await.unwrap_err();
    assert!(matches!(refusal, Refusal::Unavailable { .. }));
}

#[tokio::test]
async fn a_stream_that_was_never_made_or_was_deleted_is_none_and_nobody_may_do_anything_on_it() {
    let chain = Chain::start().await;
    let stream = chain.create("s", "{}").await;
    chain.sell(&stream, user(2), START + 1000).await;
    chain.set_public(&stream, 0.into(), (START + 1000).into()).await;
    chain.delete(&stream).await;
    let elsewhere = "nobody.eth/s".parse().unwrap();
    let registry = chain.registry_in_time().await;
    for stream in [&stream, &elsewhere] {
        assert_eq!(registry.stream(stream).await, Ok(None));
        for user in [user(2), chain.owner().await] {
            assert_eq!(chain.ask(&registry, stream, user).await.unwrap(), Err(Refusal::Denied));
        }
    }
}

#[tokio::test]
async fn a_stream_deleted_and_made_again_has_none_of_its_former_users() {
    let chain = Chain::start().await;
    let (stream, registry) = (chain.create("s", "{}").await, chain.registry());
    chain.sell(&stream, user(2), START + 1000).await;
    assert!(chain.ask(&registry, &stream, user(2)).await.unwrap().is_ok());
    chain.delete(&stream).await;
    chain.create("s", "{}").await;
    assert_eq!(chain.ask(&registry, &stream, user(2)).await.unwrap(), Err(Refusal::Denied));
    assert!(chain.ask(&registry, &stream, chain.owner().await).await.unwrap().is_ok());
}

#[tokio::test]
async fn a_grant_counts_after_its_confirmations_and_a_revocation_in_the_next_block() {
    let chain = Chain::start().await;
    let stream = chain.create("s", "{}").await;
    chain.mine(3).await;
    let mut config = config();
    config.confirmations = 3;
    let registry = chain.builder(config).rpc(&chain.url).build().unwrap();
    chain.sell(&stream, user(2), START + 1000).await;
    for _ in 0..3 {
        let unconfirmed = chain.ask(&registry, &stream, user(2)).await.unwrap();
        assert!(matches!(unconfirmed, Err(Refusal::Unavailable { .. })), "{unconfirmed:?}");
        chain.mine(1).await;
    }
    assert_eq!(chain.ask(&registry, &stream, user(2)).await.unwrap(), until(Permission::Subscribe, START + 1000));
    chain.send("revokePermission", (stream.to_string(), ethers_core::types::Address::from([2; 20]), 3u8)).await;
    assert_eq!(chain.ask(&registry, &stream, user(2)).await.unwrap(), Err(Refusal::Denied));
}

#[tokio::test]
async fn a_reorganisation_takes_a_grant_back_before_it_has_counted() {
    let chain = Chain::start().await;
    let stream = chain.create("s", "{}").await;
    chain.mine(5).await;
    let mut config = config();
    config.confirmations = 2;
    let registry = chain.builder(config).rpc(&chain.url).build().unwrap();
    chain.sell(&stream, user(2), START + 1000).await;
    assert!(matches!(chain.ask(&registry, &stream, user(2)).await.unwrap(), Err(Refusal::Unavailable { .. })));
    chain.rpc("anvil_reorg", serde_json::json!([1, []])).await;
    chain.mine(5).await;
    assert_eq!(chain.ask(&registry, &stream, user(2)).await.unwrap(), Err(Refusal::Denied));
}
