use std::time::Instant;

use super::*;
use crate::network::NetworkError;

const MANY: u32 = 10_000;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_frames_pass_a_relay_in_order_without_loss_and_in_fewer_batches() {
    let relay = Node::relay().await;
    let publisher = Node::leaf_of(&relay).await;
    let mut subscriber = Node::leaf_of(&relay).await;
    subscriber.network.join(TOPIC).await.unwrap();
    publisher.someone_on(TOPIC, 1).await;

    let sending = tokio::spawn({
        let network = publisher.network.clone();
        async move {
            for number in 0..MANY {
                let published = network.publish(TOPIC, good(number)).await.unwrap();
                assert_eq!(published.peers, 1);
            }
            network.flush().await;
        }
    });
    let mut received = Vec::new();
    while received.len() < MANY as usize {
        received.extend(subscriber.frame().await);
    }
    assert!(received.into_iter().eq(0..MANY));
    sending.await.unwrap();
    assert!(subscriber.gate.frames.load(Ordering::SeqCst) < MANY as usize);
}

#[tokio::test(flavor = "multi_thread")]
async fn quic_carries_frames_too() {
    let quic = || vec!["/ip4/127.0.0.1/udp/0/quic-v1".parse().expect("an address")];
    let mut subscriber = Node::start(|config| config.listen = quic()).await;
    let publisher = Node::start(|config| config.listen = quic()).await;
    subscriber.network.join(TOPIC).await.unwrap();
    publisher.network.dial(subscriber.address().await).await.unwrap();
    publisher.someone_on(TOPIC, 1).await;
    publisher.network.publish(TOPIC, good(7)).await.unwrap();
    assert_eq!(subscriber.frame().await, [7]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_frame_is_not_relayed() {
    let relay = Node::relay().await;
    let publisher = Node::leaf_of(&relay).await;
    let mut subscriber = Node::leaf_of(&relay).await;
    subscriber.network.join(TOPIC).await.unwrap();
    publisher.someone_on(TOPIC, 1).await;

    publisher.network.publish(TOPIC, Bytes::from_static(b"R")).await.unwrap();
    publisher.network.flush().await;
    publisher.network.publish(TOPIC, good(1)).await.unwrap();
    assert_eq!(subscriber.frame().await, [1]);
    assert_eq!(relay.gate.rejected.load(Ordering::SeqCst), 1);
    assert_eq!(subscriber.gate.frames.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_keeps_sending_rejected_frames_is_no_longer_listened_to() {
    let mut subscriber = Node::start(|_| {}).await;
    let liar = Node::start(|_| {}).await;
    let honest = Node::start(|_| {}).await;
    subscriber.network.join(TOPIC).await.unwrap();
    for node in [&liar, &honest] {
        node.network.dial(subscriber.address().await).await.unwrap();
        node.someone_on(TOPIC, 1).await;
    }
    for number in 0..50u8 {
        liar.network.publish(TOPIC, vec![b'R', number].into()).await.unwrap();
        liar.network.flush().await;
    }
    until(async || subscriber.gate.rejected.load(Ordering::SeqCst) >= 5).await;
    // The score is looked at before each message, so what the liar sends from here on is not even checked.
    until(async || {
        let before = subscriber.gate.rejected.load(Ordering::SeqCst);
        liar.network.publish(TOPIC, vec![b'R', 100 + before as u8].into()).await.unwrap();
        liar.network.flush().await;
        honest.network.publish(TOPIC, good(before as u32)).await.unwrap();
        subscriber.frame().await;
        subscriber.gate.rejected.load(Ordering::SeqCst) == before
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_of_a_subscriber_that_comes_late_flow_at_once() {
    let relay = Node::relay().await;
    let publisher = Node::leaf_of(&relay).await;
    let mut early = Node::leaf_of(&relay).await;
    early.network.join(TOPIC).await.unwrap();
    publisher.someone_on(TOPIC, 1).await;

    let mut late = Node::leaf_of(&relay).await;
    late.someone_on(TOPIC, 1).await;
    let start = Instant::now();
    late.network.join(TOPIC).await.unwrap();
    let publishing = tokio::spawn(async move {
        for number in 0.. {
            publisher.network.publish(TOPIC, good(number)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    late.frame().await;
    println!("the first frame came {:?} after joining", start.elapsed());
    early.frame().await;
    publishing.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_leaves_a_topic_when_nobody_is_left_on_it() {
    let relay = Node::relay().await;
    let publisher = Node::leaf_of(&relay).await;
    let subscriber = Node::leaf_of(&relay).await;
    subscriber.network.join(TOPIC).await.unwrap();
    publisher.someone_on(TOPIC, 1).await;
    subscriber.network.leave(TOPIC).await;
    until(async || publisher.network.peers_on(TOPIC).await == 0).await;
    subscriber.network.join(TOPIC).await.unwrap();
    publisher.someone_on(TOPIC, 1).await;
    subscriber.network.stop().await;
    until(async || publisher.network.peers_on(TOPIC).await == 0).await;
}

/// Publishes until something arrives: a way over several relays may not be there yet, and then what is sent is lost.
async fn reaches(publisher: &Node, listener: &mut Node) {
    until(async || {
        publisher.network.publish(TOPIC, good(rand::random())).await.unwrap();
        timeout(Duration::from_millis(100), listener.frame()).await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_that_know_each_other_do_not_hold_each_other_on_a_topic() {
    let first = Node::relay().await;
    let (second, third) = (relay_of(&first).await, relay_of(&first).await);
    third.network.dial(second.address().await).await.expect("it listens");
    let publisher = Node::leaf_of(&third).await;
    // A listener at either of them, and one at each: whoever goes last, all three leave.
    for places in [[&first, &first], [&first, &second], [&second, &third]] {
        let mut listeners = Vec::new();
        for place in places {
            let listener = Node::leaf_of(place).await;
            listener.network.join(TOPIC).await.unwrap();
            listeners.push(listener);
        }
        publisher.someone_on(TOPIC, 1).await;
        for listener in &mut listeners {
            reaches(&publisher, listener).await;
        }
        // One goes, and the way to the other stays.
        let mut last = listeners.pop().expect("two");
        listeners.remove(0).network.stop().await;
        reaches(&publisher, &mut last).await;
        last.network.stop().await;
        for relay in [&first, &second, &third, &publisher] {
            until(async || relay.network.peers_on(TOPIC).await == 0).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frame_passes_as_many_relays_in_a_row_as_marks_can_count() {
    let mut relays = vec![Node::relay().await];
    for _ in 1..4 {
        relays.push(relay_of(&relays[relays.len() - 1]).await);
    }
    let mut subscriber = Node::leaf_of(&relays[0]).await;
    let publisher = Node::leaf_of(&relays[3]).await;
    subscriber.network.join(TOPIC).await.unwrap();
    publisher.someone_on(TOPIC, 1).await;
    reaches(&publisher, &mut subscriber).await;
    subscriber.network.leave(TOPIC).await;
    until(async || publisher.network.peers_on(TOPIC).await == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_whose_application_listens_counts_as_a_listener_until_it_leaves() {
    let mut keeper = Node::relay().await;
    let relay = relay_of(&keeper).await;
    let publisher = Node::leaf_of(&relay).await;
    let subscriber = Node::leaf_of(&relay).await;
    keeper.network.join(TOPIC).await.unwrap();
    publisher.someone_on(TOPIC, 1).await;
    subscriber.network.join(TOPIC).await.unwrap();
    relay.someone_on(TOPIC, 2).await;
    subscriber.network.stop().await;
    until(async || relay.network.peers_on(TOPIC).await == 1).await;
    publisher.network.publish(TOPIC, good(7)).await.unwrap();
    assert_eq!(keeper.frame().await, [7]);
    keeper.network.leave(TOPIC).await;
    until(async || publisher.network.peers_on(TOPIC).await == 0).await;
}

async fn relay_of(relay: &Node) -> Node {
    Node::dialing(relay, |config| config.role = Role::Relay).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_published_is_a_typed_error() {
    let node = Node::start(|config| config.limits.max_frame = 100).await;
    assert!(matches!(
        node.network.publish(TOPIC, vec![b'A'; 101].into()).await,
        Err(NetworkError::TooLarge { what: "frame", size: 101, limit: 100 })
    ));
    assert!(matches!(node.network.publish("other", good(1)).await, Err(NetworkError::NotATopic(_))));
    assert!(matches!(node.network.join("other").await, Err(NetworkError::NotATopic(_))));
    assert_eq!(node.network.publish(TOPIC, good(1)).await.unwrap().peers, 0);
    node.network.flush().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_takes_no_events_stops_nothing_else() {
    let mut slow = Node::start(|config| config.limits.events = 4).await;
    let publisher = Node::start(|config| config.limits.batch = 1).await;
    slow.network.join(TOPIC).await.unwrap();
    publisher.network.dial(slow.address().await).await.unwrap();
    publisher.someone_on(TOPIC, 1).await;
    for number in 0..3_000 {
        publisher.network.publish(TOPIC, good(number)).await.unwrap();
    }
    publisher.network.flush().await;
    // Frames are dropped by now; the node answers still, and so does everything else it speaks.
    assert_eq!(slow.network.connected_peers().await, 1);
    let first = slow.frame().await;
    assert_eq!(first, [0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_waits_for_a_subscriber_whose_gate_is_slower() {
    let gate = TestGate { work: Duration::from_millis(1), ..Default::default() };
    let mut slow = Node::start_with(gate, |config| config.limits.unchecked_frames = 16).await;
    let publisher = Node::start(|config| {
        config.limits.batch = 1;
        config.limits.send_queue = 16;
    })
    .await;
    slow.network.join(TOPIC).await.unwrap();
    publisher.network.dial(slow.address().await).await.unwrap();
    publisher.someone_on(TOPIC, 1).await;
    // Padded, or the sockets alone would hold them all. More than every queue together, so that a loss would show.
    let frame = |number: u32| Bytes::from([good(number).as_ref(); 4096].concat());
    let sending = tokio::spawn(async move {
        for number in 0..2_000 {
            publisher.network.publish(TOPIC, frame(number)).await.unwrap();
        }
        publisher.network.flush().await;
        publisher
    });
    for number in 0..2_000 {
        assert_eq!(slow.frame().await[0], number);
    }
    sending.await.unwrap();
}
