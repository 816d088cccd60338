//! Streams that the contract does not know: never made, deleted, or of an ENS name that nothing resolves.

use std::sync::Arc;

use veilcast::client::{Client, ClientError, Replay, Subscription};
use veilcast::permission::PermissionSource;
use veilcast::permission::ethereum::{Action, WriteError};
use veilcast::time::Clock;
use veilcast::{Identity, Payload};

use super::*;
use crate::anvil::START;

fn seller() -> Identity {
    Identity::from_secret_bytes(&[7; 32]).unwrap()
}

async fn client(registry: Arc<EthereumRegistry>, clock: Arc<ManualClock>) -> Client {
    let builder = Client::builder(seller()).permissions(registry).clock(clock);
    builder.listen("/ip4/127.0.0.1/tcp/0".parse().unwrap()).start().await.unwrap()
}

/// One that was there and was deleted, one that never was, one of an ENS name.
async fn nowhere(chain: &Chain) -> [StreamId; 3] {
    let deleted = chain.create("deleted", "{}").await;
    let everything = Entry { publish: u64::MAX.into(), subscribe: u64::MAX.into(), ..Entry::default() };
    chain.set(&deleted, seller().user(), everything).await;
    chain.set_public(&deleted, 0.into(), u64::MAX.into()).await;
    chain.delete(&deleted).await;
    [deleted, StreamId::of(chain.owner().await, "never").unwrap(), "nobody.eth/prices".parse().unwrap()]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_was_deleted_never_made_or_is_of_an_unresolved_ens_name_is_neither_read_nor_published_nor_sold() {
    let chain = Chain::start().await;
    chain.give(seller().user(), 1_000_000_000_000_000_000).await;
    let streams = nowhere(&chain).await;
    let clock = Arc::new(ManualClock::at(at(chain.head().await.1)));
    let registry = Arc::new(chain.builder(config()).rpc(&chain.url).clock(clock.clone()).build().unwrap());
    let client = client(registry.clone(), clock.clone()).await;
    for stream in &streams {
        let none = |subscribed: Result<Subscription, ClientError>| match subscribed {
            Err(ClientError::NoStream { stream: named }) => assert_eq!(named, *stream),
            other => panic!("{stream}: {:?}", other.map(drop)),
        };
        let (part, replay) = (stream.part(0).unwrap(), Replay::last(5));
        none(client.subscribe(stream).await);
        none(client.subscribe_part(&part).await);
        none(client.subscribe_from(stream, replay).await);
        none(client.subscribe_part_from(&part, replay).await);
        none(client.resend(stream, replay).await);
        none(client.resend_part(&part, replay).await);

        let published = client.publish(stream, Payload::text("for nobody")).await;
        assert!(
            matches!(&published, Err(ClientError::NotPermitted { refusal: Refusal::Denied, .. })),
            "{stream}: {published:?}"
        );
        for permission in [Permission::Publish, Permission::Subscribe] {
            let checked = registry.check(stream, seller().user(), permission, clock.now()).await;
            assert_eq!(checked, Err(Refusal::Denied), "{stream}");
            let period = Period::until(at(START + 100_000));
            let action = Action::Grant { stream: stream.clone(), user: user(2), permission, period };
            let sold = registry.account(seller()).quote(action).await.map(drop);
            assert!(matches!(&sold, Err(WriteError::Reverted { .. })), "{stream}: {sold:?}");
        }
    }
    client.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_partition_is_subscribed_to_also_while_no_endpoint_can_tell_whether_the_stream_exists() {
    let deployment = Deployment::at([9; 20]).on_chain(Chain::ID);
    let registry = EthereumRegistry::builder(deployment).config(config()).rpc("http://127.0.0.1:1").build().unwrap();
    let client = client(Arc::new(registry), Arc::new(ManualClock::at(at(START)))).await;
    let stream = StreamId::of(user(3), "prices").unwrap();
    let all = client.subscribe(&stream).await.map(drop);
    assert!(
        matches!(&all, Err(ClientError::NotPermitted { refusal: Refusal::Unavailable { .. }, .. })),
        "how many partitions there are cannot be told: {all:?}"
    );
    client.subscribe_part(&stream.part(0).unwrap()).await.unwrap();
    client.stop().await;
}
