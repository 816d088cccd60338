//! Real sockets on loopback. Nothing here sleeps and hopes: every wait is for an event, and fails after [`PATIENCE`].

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use libp2p::{Multiaddr, PeerId, identity::Keypair};
use tokio::{sync::mpsc, time::timeout};

use super::{Gate, Network, NetworkConfig, NetworkEvent, Role, Verdict, spawn};

mod frames;
mod lifecycle;
mod records;
mod requests;

const PATIENCE: Duration = Duration::from_secs(180);
const TOPIC: &str = "topic/a";

/// Frames are any number of `A` + 4 bytes (good) or `R` (bad). Records are good if they start with `A`.
#[derive(Default)]
struct TestGate {
    /// How long one frame takes.
    work: Duration,
    frames: AtomicUsize,
    rejected: AtomicUsize,
    records: AtomicUsize,
    records_refused: AtomicUsize,
}

impl Gate for TestGate {
    type Accepted = Vec<u32>;

    fn admit_frame(&self, _: &str, frame: &[u8]) -> Result<Vec<u32>, Verdict> {
        std::thread::sleep(self.work);
        self.frames.fetch_add(1, Ordering::SeqCst);
        let numbers = frame.chunks(5).map(|frame| match frame {
            [b'A', number @ ..] => number.try_into().map(u32::from_be_bytes).map_err(|_| Verdict::Reject),
            _ => Err(Verdict::Reject),
        });
        let numbers: Result<Vec<u32>, Verdict> = numbers.collect();
        numbers.inspect_err(|_| {
            self.rejected.fetch_add(1, Ordering::SeqCst);
        })
    }

    fn is_topic(&self, topic: &str) -> bool {
        topic.starts_with("topic/")
    }

    fn admit_record(&self, _: &[u8], value: &[u8]) -> bool {
        self.records.fetch_add(1, Ordering::SeqCst);
        let good = value.starts_with(b"A");
        if !good {
            self.records_refused.fetch_add(1, Ordering::SeqCst);
        }
        good
    }
}

fn good(number: u32) -> Bytes {
    let mut frame = vec![b'A'];
    frame.extend(number.to_be_bytes());
    frame.into()
}

struct Node {
    network: Network,
    events: mpsc::Receiver<NetworkEvent<Vec<u32>>>,
    gate: Arc<TestGate>,
}

impl Node {
    async fn start(change: impl FnOnce(&mut NetworkConfig)) -> Self {
        Self::start_with(TestGate::default(), change).await
    }

    async fn start_with(gate: TestGate, change: impl FnOnce(&mut NetworkConfig)) -> Self {
        let mut config = NetworkConfig::new(Keypair::generate_ed25519());
        config.listen = vec![loopback()];
        config.request_timeout = Duration::from_secs(10);
        change(&mut config);
        let gate = Arc::new(gate);
        let (network, events) = spawn(config, gate.clone()).await.expect("a free port");
        Self { network, events, gate }
    }

    async fn relay() -> Self {
        Self::start(|config| config.role = Role::Relay).await
    }

    async fn peer_of(relay: &Node) -> Self {
        Self::dialing(relay, |_| {}).await
    }

    /// A peer that nobody can dial: whatever it gets and sends goes through the relay.
    async fn leaf_of(relay: &Node) -> Self {
        Self::dialing(relay, |config| config.listen.clear()).await
    }

    async fn dialing(relay: &Node, change: impl FnOnce(&mut NetworkConfig)) -> Self {
        let address = relay.address().await;
        let node = Self::start(change).await;
        node.network.dial(address).await.expect("the relay listens");
        node
    }

    async fn address(&self) -> Multiaddr {
        self.network.listen_addresses().await.into_iter().next().expect("it listens")
    }

    fn peer(&self) -> PeerId {
        self.network.local_peer()
    }

    /// The first event that `pick` likes; others are dropped.
    async fn wait<T>(&mut self, mut pick: impl FnMut(NetworkEvent<Vec<u32>>) -> Option<T>) -> T {
        timeout(PATIENCE, async {
            loop {
                let event = self.events.recv().await.expect("the network runs");
                if let Some(found) = pick(event) {
                    return found;
                }
            }
        })
        .await
        .expect("the event comes in time")
    }

    async fn frame(&mut self) -> Vec<u32> {
        self.wait(|event| match event {
            NetworkEvent::Frame { accepted, .. } => Some(accepted),
            _ => None,
        })
        .await
    }

    async fn someone_on(&self, topic: &str, at_least: usize) {
        timeout(PATIENCE, self.network.wait_for_peers(topic, at_least)).await.expect("peers subscribe in time");
    }
}

fn loopback() -> Multiaddr {
    "/ip4/127.0.0.1/tcp/0".parse().expect("an address")
}

/// Waits until something that no event tells is so.
async fn until(mut so: impl AsyncFnMut() -> bool) {
    timeout(PATIENCE, async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("it becomes so in time");
}
