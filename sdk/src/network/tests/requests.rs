use std::io;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, StreamExt, future::join_all};
use libp2p::{
    StreamProtocol, SwarmBuilder, noise, request_response,
    swarm::{SwarmEvent, dial_opts::DialOpts},
    tcp, yamux,
};

use super::*;
use crate::network::{Reply, RequestError};

async fn request(node: &mut Node) -> (Vec<u8>, Reply) {
    node.wait(|event| match event {
        NetworkEvent::Request { request, reply, .. } => Some((request, reply)),
        _ => None,
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_dials_and_brings_the_answer_back() {
    let mut server = Node::start(|_| {}).await;
    let client = Node::start(|config| config.listen.clear()).await;
    let address = server.address().await;
    let (answer, ()) = tokio::join!(client.network.request(server.peer(), vec![address], b"ping".to_vec()), async {
        let (request, reply) = request(&mut server).await;
        assert_eq!(request, b"ping");
        reply.send(b"pong".to_vec());
    });
    assert_eq!(answer.unwrap(), b"pong");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_reply_is_seen_at_once_as_a_closed_stream() {
    let mut server = Node::start(|_| {}).await;
    let client = Node::peer_of(&server).await;
    let (answer, ()) = tokio::join!(client.network.request(server.peer(), vec![], b"ping".to_vec()), async {
        drop(request(&mut server).await);
    });
    assert!(matches!(answer, Err(RequestError::Closed(peer)) if peer == server.peer()), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversized_request_is_refused_on_both_sides() {
    let mut server = Node::start(|config| config.limits.max_request = 10).await;
    let careful = Node::start(|config| config.limits.max_request = 10).await;
    let careless = Node::peer_of(&server).await;
    let sent = careful.network.request(server.peer(), vec![], vec![0; 11]).await;
    assert!(matches!(sent, Err(RequestError::TooLarge { size: 11, limit: 10 })));

    let sent = careless.network.request(server.peer(), vec![], vec![0; 11]).await;
    assert!(matches!(sent, Err(RequestError::Closed(_))), "{sent:?}");

    let (answer, ()) = tokio::join!(careless.network.request(server.peer(), vec![], vec![0; 10]), async {
        request(&mut server).await.1.send(vec![1]);
    });
    assert_eq!(answer.unwrap(), [1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_above_the_asker_s_limit_is_malformed() {
    let mut server = Node::start(|_| {}).await;
    let address = server.address().await;
    let client = Node::start(|config| config.limits.max_answer = 10).await;
    let (answer, ()) = tokio::join!(client.network.request(server.peer(), vec![address], vec![1]), async {
        request(&mut server).await.1.send(vec![0; 11]);
    });
    assert!(matches!(answer, Err(RequestError::Malformed { .. })), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_to_nobody_fails_promptly() {
    // What waits for the end of its time waits for longer than this test.
    let client = Node::start(|config| config.request_timeout = Duration::from_secs(3600)).await;
    let gone = Node::start(|_| {}).await;
    let (peer, address) = (gone.peer(), gone.address().await);
    gone.network.stop().await;
    for addresses in [vec![address], vec![]] {
        let asked = client.network.request(peer, addresses, vec![1]);
        let answer = tokio::time::timeout(Duration::from_secs(180), asked).await.unwrap();
        assert!(matches!(answer, Err(RequestError::Unreachable(whom)) if whom == peer), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_ends_in_a_timeout() {
    let mut server = Node::start(|_| {}).await;
    let address = server.address().await;
    let client = Node::start(|config| config.request_timeout = Duration::from_millis(300)).await;
    let (answer, _held) =
        tokio::join!(client.network.request(server.peer(), vec![address], vec![1]), request(&mut server));
    assert!(matches!(answer, Err(RequestError::Timeout(_))), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_requests_takes_only_the_slots_it_may() {
    const PER_PEER: usize = 4;
    let mut server = Node::start(|config| config.limits.inbound_requests_per_peer = PER_PEER).await;
    let flooder = Node::peer_of(&server).await;
    let other = Node::peer_of(&server).await;

    let peer = server.peer();
    let flood = join_all((0..200).map(|_| flooder.network.request(peer, vec![], b"flood".to_vec())));
    let serve = async {
        let mut held = Vec::new();
        while held.len() < PER_PEER {
            held.push(request(&mut server).await.1);
        }
        let (answer, ()) = tokio::join!(other.network.request(peer, vec![], b"other".to_vec()), async {
            let (request, reply) = request(&mut server).await;
            assert_eq!(request, b"other");
            reply.send(b"fine".to_vec());
        });
        assert_eq!(answer.unwrap(), b"fine");
        held.into_iter().for_each(|reply| reply.send(b"done".to_vec()));
        // Slots are free again: what is still on its way is answered, so that the flood ends.
        while let Some(event) = server.events.recv().await {
            if let NetworkEvent::Request { reply, .. } = event {
                reply.send(b"late".to_vec());
            }
        }
    };
    let answers = tokio::select! {
        answers = timeout(PATIENCE, flood) => answers.expect("the flood ends in time"),
        () = serve => unreachable!("the server runs on"),
    };
    assert_eq!(answers.iter().filter(|answer| answer.as_ref().is_ok_and(|answer| answer == b"done")).count(), PER_PEER);
    assert!(answers.iter().any(|answer| matches!(answer, Err(RequestError::Closed(_)))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_opens_requests_and_finishes_none_takes_no_more_than_its_share() {
    const PER_PEER: usize = 4;
    const OPENED: usize = 60;
    let mut server = Node::start(|config| {
        config.limits.inbound_requests_per_peer = PER_PEER;
        // Longer than anything here waits: nothing ends because its time is over.
        config.request_timeout = 10 * PATIENCE;
    })
    .await;
    let (server_peer, address) = (server.peer(), server.address().await);
    let protocol = [(StreamProtocol::new("/veilcast/key-exchange/1"), request_response::ProtocolSupport::Full)];
    let config = request_response::Config::default().with_request_timeout(10 * PATIENCE);
    let mut idler = SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| request_response::Behaviour::<Unfinished>::new(protocol, config))
        .unwrap()
        .build();
    idler.dial(DialOpts::peer_id(server_peer).addresses(vec![address.clone()]).build()).unwrap();
    for _ in 0..OPENED {
        idler.behaviour_mut().send_request(&server_peer, ());
    }
    let mut closed = 0;
    timeout(PATIENCE, async {
        while closed < OPENED - 2 * PER_PEER {
            if let SwarmEvent::Behaviour(request_response::Event::OutboundFailure { .. }) =
                idler.select_next_some().await
            {
                closed += 1;
            }
        }
    })
    .await
    .expect("all but its share are closed at once");

    // Its share is still taken, and costs nobody else anything: neither another peer, nor what is asked of this one.
    let other = Node::peer_of(&server).await;
    let (answer, ()) = tokio::join!(other.network.request(server_peer, vec![], b"other".to_vec()), async {
        request(&mut server).await.1.send(b"fine".to_vec());
    });
    assert_eq!(answer.unwrap(), b"fine");
    let idler_peer = *idler.local_peer_id();
    let asked = server.network.request(idler_peer, vec![], b"you".to_vec());
    let answering = async {
        loop {
            match idler.select_next_some().await {
                SwarmEvent::Behaviour(request_response::Event::Message {
                    message: request_response::Message::Request { channel, .. },
                    ..
                }) => idler.behaviour_mut().send_response(channel, ()).unwrap(),
                SwarmEvent::Behaviour(request_response::Event::OutboundFailure { error, .. }) => {
                    panic!("one of its share was closed: {error}")
                }
                _ => {}
            }
        }
    };
    let answer = tokio::select! {
        answer = timeout(PATIENCE, asked) => answer.expect("it answers in time"),
        () = answering => unreachable!("the idler runs on"),
    };
    assert_eq!(answer.unwrap(), b"");
}

/// Begins requests and never ends them. Answers what it is asked with nothing.
#[derive(Clone, Default)]
struct Unfinished;

impl request_response::Codec for Unfinished {
    type Protocol = StreamProtocol;
    type Request = ();
    type Response = ();

    async fn read_request<T: AsyncRead + Unpin + Send>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<()> {
        io.read_to_end(&mut Vec::new()).await.map(drop)
    }

    async fn read_response<T: AsyncRead + Unpin + Send>(&mut self, _: &StreamProtocol, _: &mut T) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, (): ()) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        // The length that is allowed, and never so many bytes: each of them tells whether the stream was closed.
        io.write_all(&0x1_0000_u32.to_be_bytes()).await?;
        loop {
            io.write_all(&[0]).await?;
            io.flush().await?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, (): ()) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        io.write_all(&[0; 4]).await
    }
}
