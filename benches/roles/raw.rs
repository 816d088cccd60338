//! Gossip and nothing else: the protocols a message cannot do without, set up as Veilcast does, and no work of ours.

use std::time::Duration;

use futures::StreamExt;
use libp2p::gossipsub::{self, IdentTopic, MessageAuthenticity, MessageId, PublishError, ValidationMode};
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, Swarm, SwarmBuilder, noise, tcp, yamux};

use super::pace::Pace;
use super::payload;
use crate::Outcome;

const TOPIC: &str = "bench";
/// The largest message.
const LARGEST: usize = 2 * 1024 * 1024;
/// Messages sent in a row before other tasks have their turn.
const IN_A_ROW: u64 = 32;
/// The pause when every queue is full.
const FULL: Duration = Duration::from_millis(1);
/// Where a payload says how often it was tried: gossip takes no message twice.
const ATTEMPT: usize = 16;

/// A node that gossips.
pub(super) struct RawNode {
    swarm: Swarm<gossipsub::Behaviour>,
    peers: usize,
}

fn gossip() -> Outcome<gossipsub::Behaviour> {
    let config = gossipsub::ConfigBuilder::default()
        .validation_mode(ValidationMode::Anonymous)
        // Named by what is in it, without a digest of it.
        .message_id_fn(|message| MessageId::new(message.data.get(..=ATTEMPT).unwrap_or(&message.data)))
        .max_transmit_size(LARGEST)
        .flood_publish(true)
        .publish_queue_duration(Duration::from_secs(60))
        .history_length(3)
        .history_gossip(3)
        .build()?;
    Ok(gossipsub::Behaviour::new(MessageAuthenticity::Anonymous, config)?)
}

impl RawNode {
    /// Listens, or else connects to this address and takes part.
    pub(super) async fn start(connect: Option<&str>) -> Outcome<Self> {
        let behaviour = gossip()?;
        let mut swarm = SwarmBuilder::with_new_identity()
            .with_tokio()
            .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)?
            .with_behaviour(|_| Ok(behaviour))?
            .with_swarm_config(|swarm| swarm.with_idle_connection_timeout(Duration::from_secs(300)))
            .build();
        match connect {
            Some(address) => swarm.dial(address.parse::<Multiaddr>()?)?,
            None => drop(swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?),
        }
        let mut node = Self { swarm, peers: 0 };
        while connect.is_none() && node.address().is_none() {
            node.turn().await;
        }
        Ok(node)
    }

    pub(super) fn address(&self) -> Option<String> {
        Some(format!("{}/p2p/{}", self.swarm.listeners().next()?, self.swarm.local_peer_id()))
    }

    pub(super) fn peers(&self) -> usize {
        self.peers
    }

    pub(super) fn subscribe(&mut self) -> Outcome<()> {
        self.swarm.behaviour_mut().subscribe(&IdentTopic::new(TOPIC))?;
        Ok(())
    }

    /// The next thing that happens; a message, if it is one. Safe to drop.
    pub(super) async fn turn(&mut self) -> Option<Vec<u8>> {
        match self.swarm.select_next_some().await {
            SwarmEvent::Behaviour(gossipsub::Event::Message { message, .. }) => Some(message.data),
            SwarmEvent::Behaviour(gossipsub::Event::Subscribed { .. }) => {
                self.peers += 1;
                None
            }
            _ => None,
        }
    }

    pub(super) async fn publish(&mut self, pace: Pace) -> Outcome<u64> {
        let mut count = 0;
        if pace.per_second.is_none() {
            for due in pace.ticks() {
                self.send(payload(due, count, pace.size)).await?;
                count += 1;
                if count % IN_A_ROW == 0 {
                    tokio::task::yield_now().await;
                    self.catch_up(Duration::ZERO).await;
                }
            }
            return Ok(count);
        }
        let (sender, mut ticks) = tokio::sync::mpsc::unbounded_channel();
        std::thread::spawn(move || pace.ticks().try_for_each(|due| sender.send(due)));
        loop {
            tokio::select! {
                due = ticks.recv() => match due {
                    Some(due) => self.send(payload(due, count, pace.size)).await?,
                    None => return Ok(count),
                },
                _ = self.turn() => continue,
            }
            count += 1;
        }
    }

    async fn send(&mut self, mut payload: Vec<u8>) -> Outcome<()> {
        loop {
            match self.swarm.behaviour_mut().publish(IdentTopic::new(TOPIC), payload.clone()) {
                Ok(_) => return Ok(()),
                Err(PublishError::AllQueuesFull(_)) => self.catch_up(FULL).await,
                Err(error) => return Err(error.into()),
            }
            payload[ATTEMPT] = payload[ATTEMPT].wrapping_add(1);
        }
    }

    async fn catch_up(&mut self, at_most: Duration) {
        let everything = async {
            loop {
                self.turn().await;
            }
        };
        // There is always more to come.
        let _ = tokio::time::timeout(at_most, everything).await;
    }
}
