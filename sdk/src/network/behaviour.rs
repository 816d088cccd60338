//! The protocols a node speaks, and how each is set up.

use std::{io, sync::Arc, time::Duration};

use libp2p::{
    PeerId, StreamProtocol,
    connection_limits::{self, ConnectionLimits},
    dcutr, gossipsub, identify,
    identity::Keypair,
    kad, mdns, ping, relay, request_response,
    swarm::{NetworkBehaviour, behaviour::toggle::Toggle},
};
use sha2::{Digest, Sha256};

use super::{
    Gate, NetworkConfig, NetworkLimits, Role,
    codec::Codec,
    driver::dht::MAX_OWN_RECORDS,
    mark::Hop,
    per_address::PerAddress,
    throttle::{Flow, Throttled},
};

/// What peers of this network call themselves.
pub(super) const IDENTIFY: &str = "/veilcast/1";
/// The DHT of this network; not that of any other.
pub(super) const KAD: StreamProtocol = StreamProtocol::new("/veilcast/kad/1");
const REQUESTS: StreamProtocol = StreamProtocol::new("/veilcast/key-exchange/1");

/// Room for gossip's own fields around a frame: the topic's name and a few tags.
const GOSSIP_OVERHEAD: usize = 4096;
/// The longest topic name.
pub(super) const MAX_TOPIC: usize = 512;
/// The topic itself, and two marks while one is changed for another.
const NAMES_PER_TOPIC: usize = 3;
const MESSAGE_ID: usize = 20;
/// Whoever queues longer than this has stalled; the frame is worth nothing to it any more.
const LONGEST_IN_QUEUE: Duration = Duration::from_secs(60);
/// A relay pushes to every subscriber it has. With the usual dozen, all others would wait for the next heartbeat's gossip.
const RELAY_MESH: usize = 4096;
/// No query of ours needs longer: beyond, nobody who knows the answer is reachable.
const DHT_PATIENCE: Duration = Duration::from_secs(10);
/// No record outlives this here, whatever its sender asked for.
const LONGEST_RECORD: Duration = Duration::from_secs(24 * 60 * 60);
const REPUBLISH: Duration = Duration::from_secs(15 * 60);
/// A circuit may carry so much: a page of keys both ways, with room.
const CIRCUIT_BYTES: u64 = 8 * 1024 * 1024;
const CIRCUITS: usize = 256;

/// Only names that the gate knows as topics, and a bounded number of them per peer.
pub(super) type TopicFilter = gossipsub::MaxCountSubscriptionFilter<
    gossipsub::CallbackSubscriptionFilter<Box<dyn FnMut(&gossipsub::TopicHash) -> bool + Send>>,
>;
pub(super) type Gossip = gossipsub::Behaviour<gossipsub::IdentityTransform, TopicFilter>;

/// Everything together; the limits come first so that they refuse first.
#[derive(NetworkBehaviour)]
pub(super) struct Protocols {
    limits: connection_limits::Behaviour,
    per_address: PerAddress,
    pub(super) gossip: Throttled<Gossip>,
    pub(super) kad: kad::Behaviour<kad::store::MemoryStore>,
    /// Ours to peers, and theirs to us: apart, so that neither takes the other's room on a connection.
    pub(super) requests: request_response::Behaviour<Codec>,
    pub(super) answers: request_response::Behaviour<Codec>,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    relay_client: relay::client::Behaviour,
    relay_server: Toggle<relay::Behaviour>,
    dcutr: dcutr::Behaviour,
    mdns: Toggle<mdns::tokio::Behaviour>,
}

impl Protocols {
    pub(super) fn new<G: Gate>(
        config: &NetworkConfig,
        gate: Arc<G>,
        flow: Arc<Flow>,
        relay_client: relay::client::Behaviour,
    ) -> io::Result<Self> {
        let NetworkConfig { keypair, limits, .. } = config;
        let own = keypair.public().to_peer_id();
        let relay_server = (config.role == Role::Relay).then(|| relay::Behaviour::new(own, relay_server()));
        let mdns = config.mdns.then(|| mdns::tokio::Behaviour::new(mdns::Config::default(), own)).transpose()?;
        Ok(Self {
            limits: connection_limits::Behaviour::new(connection_limits(limits)),
            per_address: PerAddress::new(limits.connections_pending_per_address, limits.connections_per_address),
            gossip: Throttled::new(gossip(config, gate).map_err(io::Error::other)?, flow),
            kad: dht(own, limits, !config.listen.is_empty()),
            requests: requests(config, request_response::ProtocolSupport::Outbound, limits.outbound_requests),
            answers: requests(config, request_response::ProtocolSupport::Inbound, inbound_streams(limits)),
            identify: identify(keypair),
            ping: ping::Behaviour::default(),
            relay_client,
            relay_server: relay_server.into(),
            dcutr: dcutr::Behaviour::new(own),
            mdns: mdns.into(),
        })
    }
}

fn connection_limits(limits: &NetworkLimits) -> ConnectionLimits {
    ConnectionLimits::default()
        .with_max_established(Some(limits.connections))
        .with_max_established_incoming(Some(limits.connections_incoming))
        .with_max_established_per_peer(Some(limits.connections_per_peer))
        .with_max_pending_incoming(Some(limits.connections_pending))
        .with_max_pending_outgoing(Some(limits.connections_pending))
}

fn gossip<G: Gate>(config: &NetworkConfig, gate: Arc<G>) -> Result<Gossip, String> {
    let limits = &config.limits;
    let mut builder = gossipsub::ConfigBuilder::default();
    builder
        .validation_mode(gossipsub::ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(|message| gossipsub::MessageId::new(&Sha256::digest(&message.data)[..MESSAGE_ID]))
        .max_transmit_size(limits.max_frame + GOSSIP_OVERHEAD)
        .flood_publish(true)
        .connection_handler_queue_len(limits.send_queue)
        .publish_queue_duration(LONGEST_IN_QUEUE)
        .forward_queue_duration(LONGEST_IN_QUEUE)
        // Every message is kept for so many heartbeats: memory in proportion to the traffic of three seconds.
        .history_length(3)
        .history_gossip(3)
        // Whoever leaves a topic and comes back should not wait long for the mesh to take it again.
        .unsubscribe_backoff(Duration::from_secs(1));
    if config.role == Role::Relay {
        builder.mesh_n_high(RELAY_MESH);
    }
    let is_relay = config.role == Role::Relay;
    let is_topic: Box<dyn FnMut(&gossipsub::TopicHash) -> bool + Send> =
        Box::new(move |name| is_known(name.as_str(), is_relay, |topic| gate.is_topic(topic)));
    let filter = gossipsub::MaxCountSubscriptionFilter {
        filter: gossipsub::CallbackSubscriptionFilter(is_topic),
        max_subscribed_topics: NAMES_PER_TOPIC * limits.topics_per_peer,
        max_subscriptions_per_request: 2 * NAMES_PER_TOPIC * limits.topics_per_peer,
    };
    let mut gossip = Gossip::new_with_subscription_filter(
        gossipsub::MessageAuthenticity::Anonymous,
        builder.build().map_err(|error| error.to_string())?,
        filter,
    )?;
    gossip.with_peer_score(peer_score(), gossipsub::PeerScoreThresholds::default())?;
    Ok(gossip)
}

/// A topic, or to a relay the mark of another that follows one.
fn is_known(name: &str, is_relay: bool, is_topic: impl Fn(&str) -> bool) -> bool {
    let topic = match Hop::of(name) {
        Some((topic, _)) if is_relay => topic,
        Some(_) => return false,
        None => name,
    };
    topic.len() <= MAX_TOPIC && is_topic(topic)
}

/// Rejected frames and protocol abuse lower a peer's score. Sharing an address or being slow is no fault.
fn peer_score() -> gossipsub::PeerScoreParams {
    gossipsub::PeerScoreParams {
        ip_colocation_factor_weight: 0.0,
        slow_peer_weight: 0.0,
        retain_score: Duration::from_secs(10 * 60),
        ..Default::default()
    }
}

/// Five rejected frames within seconds and a peer is no longer listened to, until its score has decayed: after a few
/// seconds for five, after most of a minute for fifty.
/// How much a topic carries says nothing about a peer, so deliveries do not count, neither for nor against.
pub(super) fn topic_score() -> gossipsub::TopicScoreParams {
    gossipsub::TopicScoreParams {
        topic_weight: 1.0,
        time_in_mesh_weight: 0.0,
        first_message_deliveries_weight: 0.0,
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        invalid_message_deliveries_weight: -4.0,
        invalid_message_deliveries_decay: 0.95,
        ..Default::default()
    }
}

fn dht(own: PeerId, limits: &NetworkLimits, serve: bool) -> kad::Behaviour<kad::store::MemoryStore> {
    let store = kad::store::MemoryStoreConfig {
        // Strangers fill at most their part: a node's own record always has its place.
        max_records: limits.records.saturating_add(MAX_OWN_RECORDS),
        max_value_bytes: limits.max_record,
        // Provider records are not used here, and not stored for others.
        max_providers_per_key: 1,
        max_provided_keys: 1,
    };
    let mut config = kad::Config::new(KAD);
    config
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_query_timeout(DHT_PATIENCE)
        .set_record_ttl(Some(LONGEST_RECORD))
        .set_publication_interval(Some(REPUBLISH))
        // Authors republish, and replicas of replicas would only spread what is about to expire.
        .set_replication_interval(None)
        .set_provider_publication_interval(None)
        .set_max_packet_size(limits.max_record + GOSSIP_OVERHEAD);
    let mut dht = kad::Behaviour::with_config(own, kad::store::MemoryStore::with_config(own, store), config);
    // Not left to be guessed from external addresses: a loopback or local network has none.
    dht.set_mode(Some(if serve { kad::Mode::Server } else { kad::Mode::Client }));
    dht
}

/// Streams of requests that peers may have open on one connection, those not read whole yet among them. An answer that is
/// still being sent does not count as a request any more, so there is room for as many again.
fn inbound_streams(limits: &NetworkLimits) -> usize {
    limits.inbound_requests_per_peer.saturating_mul(2)
}

fn requests(
    config: &NetworkConfig,
    ways: request_response::ProtocolSupport,
    streams: usize,
) -> request_response::Behaviour<Codec> {
    let limits = &config.limits;
    request_response::Behaviour::with_codec(
        Codec { max_request: limits.max_request, max_answer: limits.max_answer },
        [(REQUESTS, ways)],
        request_response::Config::default()
            .with_request_timeout(config.request_timeout)
            .with_max_concurrent_streams(streams),
    )
}

fn identify(keypair: &Keypair) -> identify::Behaviour {
    identify::Behaviour::new(
        identify::Config::new(IDENTIFY.into(), keypair.public())
            .with_agent_version(concat!("veilcast/", env!("CARGO_PKG_VERSION")).into())
            .with_push_listen_addr_updates(true),
    )
}

fn relay_server() -> relay::Config {
    relay::Config { max_circuits: CIRCUITS, max_circuit_bytes: CIRCUIT_BYTES, ..Default::default() }
}
