use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use libp2p::{
    StreamProtocol, SwarmBuilder, noise, request_response,
    swarm::{SwarmEvent, dial_opts::DialOpts},
    tcp, yamux,
};

use super::*;
use crate::network::NetworkError;

async fn spawn_at(address: &Multiaddr) -> Result<(Network, mpsc::Receiver<NetworkEvent<Vec<u32>>>), NetworkError> {
    let mut config = NetworkConfig::new(Keypair::generate_ed25519());
    config.listen = vec![address.clone()];
    spawn(config, Arc::new(TestGate::default())).await
}

fn without_peer(address: Multiaddr) -> Multiaddr {
    address.iter().take_while(|part| !matches!(part, libp2p::multiaddr::Protocol::P2p(_))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_an_error_that_names_it_and_stopping_frees_it_at_once() {
    // Not a port of those that are given out to whoever asks for any: between stop and start somebody might get it.
    let port = rand::random_range(20_000..32_000);
    for address in [format!("/ip4/127.0.0.1/tcp/{port}"), format!("/ip4/127.0.0.1/udp/{port}/quic-v1")] {
        let node = Node::start(|config| config.listen = vec![address.parse().expect("an address")]).await;
        let peer = Node::peer_of(&node).await;
        let taken = without_peer(node.address().await);

        let error = spawn_at(&taken).await.expect_err("the port is taken");
        assert!(matches!(&error, NetworkError::AddressInUse { address } if *address == taken), "{error}");

        node.network.stop().await;
        let (again, _events) = spawn_at(&taken).await.expect("the port is free");
        peer.network.dial(again.listen_addresses().await.remove(0)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_published_before_stopping_arrives() {
    let mut subscriber = Node::start(|_| {}).await;
    let publisher = Node::peer_of(&subscriber).await;
    subscriber.network.join(TOPIC).await.unwrap();
    publisher.someone_on(TOPIC, 1).await;
    for number in 0..1_000 {
        publisher.network.publish(TOPIC, good(number)).await.unwrap();
    }
    publisher.network.stop().await;
    assert!(matches!(publisher.network.publish(TOPIC, good(0)).await, Err(NetworkError::Stopped)));
    assert!(matches!(publisher.network.join(TOPIC).await, Err(NetworkError::Stopped)));
    publisher.network.stop().await;

    let mut received = Vec::new();
    while received.len() < 1_000 {
        received.extend(subscriber.frame().await);
    }
    let peer = publisher.peer();
    subscriber
        .wait(|event| matches!(event, NetworkEvent::Disconnected { peer: gone } if gone == peer).then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_last_handle_ends_the_task() {
    let Node { network, mut events, .. } = Node::start(|_| {}).await;
    drop(network);
    timeout(PATIENCE, async { while events.recv().await.is_some() {} }).await.expect("the channel closes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bootstrap_peer_without_an_id_is_found_and_dialed_again_after_a_restart() {
    let keypair = Keypair::generate_ed25519();
    let mut relay = Node::start(|config| config.keypair = keypair.clone()).await;
    let address = without_peer(relay.address().await);
    let node = Node::start(|config| config.bootstrap = vec![address.clone()]).await;
    relay.wait(|event| matches!(event, NetworkEvent::Connected { .. }).then_some(())).await;

    relay.network.stop().await;
    let mut relay = Node::start(|config| {
        config.keypair = keypair;
        config.listen = vec![address];
    })
    .await;
    let peer = node.peer();
    relay.wait(|event| matches!(event, NetworkEvent::Connected { peer: who } if who == peer).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dialing_nobody_is_an_error_that_names_the_address() {
    let gone = Node::start(|_| {}).await;
    let address = gone.address().await;
    gone.network.stop().await;
    let node = Node::start(|_| {}).await;
    let error = node.network.dial(address.clone()).await.expect_err("nobody is there");
    assert!(matches!(&error, NetworkError::Dial { address: named, .. } if *named == address), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_behind_a_relay_is_reached_through_it() {
    let relay = Node::relay().await;
    let address = relay.address().await;
    let mut hidden = Node::start(|config| {
        config.listen.clear();
        config.bootstrap = vec![address];
        config.relay_reservation = true;
    })
    .await;
    let through_relay = hidden
        .wait(|event| match event {
            NetworkEvent::NewListenAddress(address) => Some(address),
            _ => None,
        })
        .await;
    assert!(through_relay.to_string().contains("p2p-circuit"), "{through_relay}");

    let client = Node::start(|config| config.listen.clear()).await;
    let peer = hidden.peer();
    let (answer, ()) = tokio::join!(client.network.request(peer, vec![through_relay], b"ping".to_vec()), async {
        let reply = hidden
            .wait(|event| match event {
                NetworkEvent::Request { reply, .. } => Some(reply),
                _ => None,
            })
            .await;
        reply.send(b"pong".to_vec());
    });
    assert_eq!(answer.unwrap(), b"pong");
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_port_and_on_the_request_protocol_does_no_harm() {
    let server = Node::start(|_| {}).await;
    let socket = server.address().await;
    let port = socket.iter().find_map(|part| match part {
        libp2p::multiaddr::Protocol::Tcp(port) => Some(port),
        _ => None,
    });
    for _ in 0..20 {
        let mut raw = std::net::TcpStream::connect(("127.0.0.1", port.expect("tcp"))).unwrap();
        let noise: Vec<u8> = (0..4096).map(|_| rand::random()).collect();
        // The node may close before all is written.
        let _ = std::io::Write::write_all(&mut raw, &noise);
    }
    send_garbage(&server).await;

    let client = Node::peer_of(&server).await;
    client.network.join(TOPIC).await.unwrap();
    server.someone_on(TOPIC, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_of_one_machine_that_say_nothing_keep_nobody_else_out() {
    let server = Node::start(|config| {
        config.limits.connections_pending = 8;
        config.limits.connections_pending_per_address = 2;
    })
    .await;
    let port = server.address().await.iter().find_map(|part| match part {
        libp2p::multiaddr::Protocol::Tcp(port) => Some(port),
        _ => None,
    });
    let there = ([127, 0, 0, 1], port.expect("tcp")).into();
    let mut idle = Vec::new();
    for _ in 0..40 {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        // All of this network is this machine, on Linux; elsewhere only its first address.
        if socket.bind("127.0.0.2:0".parse().unwrap()).is_err() {
            return;
        }
        idle.push(socket.connect(there).await.unwrap());
    }
    // Whoever comes after them finds a place at once, not when they have timed out.
    let client = Node::peer_of(&server).await;
    assert_eq!(client.network.connected_peers().await, 1);
    drop(idle);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_holds_its_part_of_the_connections_and_no_more() {
    let server = Node::start(|config| config.limits.connections_per_address = 2).await;
    let (first, _second) = (Node::leaf_of(&server).await, Node::leaf_of(&server).await);
    until(async || server.network.connected_peers().await == 2).await;
    let third = Node::start(|config| config.listen.clear()).await;
    // Refused when the other side is known to be a peer: its own end may have been there for a moment.
    let _ = third.network.dial(server.address().await).await;
    until(async || third.network.connected_peers().await == 0).await;
    assert_eq!(server.network.connected_peers().await, 2);
    first.network.stop().await;
    until(async || {
        let _ = third.network.dial(server.address().await).await;
        server.network.connected_peers().await == 2 && third.network.connected_peers().await == 1
    })
    .await;
}

/// Speaks the request protocol's name, and then nothing that it knows.
async fn send_garbage(server: &Node) {
    let config = request_response::Config::default();
    let protocol = StreamProtocol::new("/veilcast/key-exchange/1");
    let mut swarm = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| {
            request_response::Behaviour::<Garbage>::new([(protocol, request_response::ProtocolSupport::Full)], config)
        })
        .unwrap()
        .build();
    let (peer, address) = (server.peer(), server.address().await);
    swarm.dial(DialOpts::peer_id(peer).addresses(vec![address]).build()).unwrap();
    let pieces: [&[u8]; 4] = [b"", b"\0\0", b"\xff\xff\xff\xff", b"\0\0\0\x10short"];
    for piece in pieces {
        swarm.behaviour_mut().send_request(&peer, piece.to_vec());
    }
    let mut failed = 0;
    timeout(PATIENCE, async {
        while failed < pieces.len() {
            if let SwarmEvent::Behaviour(request_response::Event::OutboundFailure { .. }) =
                swarm.select_next_some().await
            {
                failed += 1;
            }
        }
    })
    .await
    .expect("the server closes each stream");
}

#[derive(Clone, Default)]
struct Garbage;

impl request_response::Codec for Garbage {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, _: &mut T) -> std::io::Result<Vec<u8>>
    where
        T: futures::AsyncRead + Unpin + Send,
    {
        Ok(Vec::new())
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> std::io::Result<Vec<u8>>
    where
        T: futures::AsyncRead + Unpin + Send,
    {
        let mut byte = [0];
        io.read_exact(&mut byte).await?;
        Ok(byte.to_vec())
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, bytes: Vec<u8>) -> std::io::Result<()>
    where
        T: futures::AsyncWrite + Unpin + Send,
    {
        io.write_all(&bytes).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, _: &mut T, _: Vec<u8>) -> std::io::Result<()>
    where
        T: futures::AsyncWrite + Unpin + Send,
    {
        Ok(())
    }
}

#[tokio::test]
async fn a_relay_without_a_free_place_follows_a_waiting_topic_as_soon_as_one_is_free() {
    let relay = Node::start(|config| {
        config.role = Role::Relay;
        config.limits.topics = 1;
    })
    .await;
    let first = Node::leaf_of(&relay).await;
    first.network.join(TOPIC).await.expect("joins");
    relay.someone_on(TOPIC, 1).await;
    let (publisher, mut subscriber) = (Node::leaf_of(&relay).await, Node::leaf_of(&relay).await);
    for node in [&publisher, &subscriber] {
        node.network.join("topic/b").await.expect("joins");
    }
    relay.someone_on("topic/b", 2).await;
    first.network.stop().await;
    publisher.someone_on("topic/b", 1).await;
    publisher.network.publish("topic/b", good(7)).await.expect("there is room");
    assert_eq!(subscriber.frame().await, [7]);
}
