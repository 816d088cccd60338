use super::*;
use crate::network::NetworkError;

#[tokio::test(flavor = "multi_thread")]
async fn a_record_is_found_by_a_peer_that_only_knows_the_relay() {
    let relay = Node::relay().await;
    let author = Node::peer_of(&relay).await;
    let reader = Node::peer_of(&relay).await;
    let put = async || {
        let (key, value) = (b"key".to_vec(), b"A value".to_vec());
        author.network.put_record(key, value, PATIENCE).await.unwrap();
    };
    put().await;
    until(async || reader.network.get_record(b"key".to_vec()).await.unwrap() == [b"A value"]).await;

    // The author may not have known the relay at first.
    until(async || {
        put().await;
        relay.gate.records.load(Ordering::SeqCst) > 0
    })
    .await;
    author.network.stop().await;
    until(async || relay.network.get_record(b"key".to_vec()).await.unwrap() == [b"A value"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_the_gate_refuses_is_not_stored() {
    let relay = Node::relay().await;
    let author = Node::peer_of(&relay).await;
    // Again and again, for the author may not know yet that the relay keeps records.
    until(async || {
        author.network.put_record(b"key".to_vec(), b"R value".to_vec(), PATIENCE).await.unwrap();
        relay.gate.records_refused.load(Ordering::SeqCst) > 0
    })
    .await;
    author.network.stop().await;
    assert!(relay.network.get_record(b"key".to_vec()).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_stored_before_any_peer_was_there_reaches_the_first_peers() {
    let author = Node::start(|_| {}).await;
    author.network.put_record(b"key".to_vec(), b"A value".to_vec(), PATIENCE).await.unwrap();
    assert_eq!(author.network.get_record(b"key".to_vec()).await.unwrap(), [b"A value"]);

    let relay = Node::relay().await;
    author.network.dial(relay.address().await).await.unwrap();
    let stored = async || relay.network.get_record(b"key".to_vec()).await.unwrap() == [b"A value"];
    until(stored).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_too_large_is_a_typed_error() {
    let node = Node::start(|config| config.limits.max_record = 10).await;
    let result = node.network.put_record(b"key".to_vec(), vec![b'A'; 11], PATIENCE).await;
    assert!(matches!(result, Err(NetworkError::TooLarge { what: "record", .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_announces_itself_although_strangers_filled_the_table_with_records() {
    const PLACES: usize = 8;
    const STRANGERS: u8 = 20;
    let publisher = Node::start(|config| config.limits.records = PLACES).await;
    let stranger = Node::peer_of(&publisher).await;
    let held = async || {
        let mut held = 0;
        for n in 0..STRANGERS {
            held += publisher.network.get_record(vec![n]).await.unwrap().len();
        }
        held
    };
    // Again and again, for the stranger may not know yet that the publisher keeps records. Each is put once a round at most.
    until(async || {
        for n in 0..STRANGERS {
            stranger.network.put_record(vec![n], b"A value".to_vec(), PATIENCE).await.unwrap();
        }
        publisher.gate.records.load(Ordering::SeqCst) >= 2 * usize::from(STRANGERS)
    })
    .await;
    stranger.network.stop().await;
    until(async || held().await == PLACES).await;

    publisher.network.put_record(b"own".to_vec(), b"A record".to_vec(), PATIENCE).await.unwrap();
    let reader = Node::peer_of(&publisher).await;
    until(async || reader.network.get_record(b"own".to_vec()).await.unwrap() == [b"A record"]).await;
    assert_eq!(held().await, PLACES, "the table holds both");
}
