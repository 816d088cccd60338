//! The task that owns the swarm.
//!
//! Everything that happens to a node is a [`Turn`]: a call of a handle, a frame to send, news from the swarm, the gate's
//! answers, an application's answer, room for an event, or a time that came. One step waits for one turn and handles it;
//! nothing in handling waits.

use std::{
    collections::{HashMap, HashSet},
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, stream::FuturesUnordered};
use libp2p::{
    Multiaddr, PeerId, Swarm,
    core::transport::ListenerId,
    kad,
    request_response::OutboundRequestId,
    swarm::{ConnectionId, SwarmEvent},
};
use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    task::JoinHandle,
};

use super::{
    Gate, Network, NetworkConfig, NetworkError, NetworkEvent, NetworkLimits, Outgoing, RequestError, Requested, Role,
    behaviour::{Protocols, ProtocolsEvent},
    bootstrap::Bootstrap,
    checks::{Checked, Checks},
    crowd::{Counts, Crowd},
    deliveries::Deliveries,
    foreign::Foreign,
    handle::Command,
    inbound::{Answer, Inbound},
    mark::Hop,
    outbox::Outbox,
    pulse::Pulse,
    throttle::Flow,
};

mod commands;
mod connections;
pub(super) mod dht;
mod gossip;
mod requests;
mod start;
mod stop;

/// Starts a node. When this returns, it listens on every configured address.
///
/// # Errors
/// An address is in use or cannot be listened on, or the configuration contradicts itself.
pub async fn spawn<G: Gate>(
    config: NetworkConfig,
    gate: Arc<G>,
) -> Result<(Network, mpsc::Receiver<NetworkEvent<G::Accepted>>), NetworkError> {
    config.check()?;
    let limits = Arc::new(config.limits.clone());
    let (commands, command_receiver) = mpsc::channel(limits.commands);
    let (outgoing, outgoing_receiver) = mpsc::channel(limits.outgoing);
    let (events, event_receiver) = mpsc::channel(limits.events);
    let counts = Arc::new(watch::Sender::new(Counts::new()));

    let network = Network {
        peer: config.keypair.public().to_peer_id(),
        limits: limits.clone(),
        is_topic: Network::topic_check(gate.clone()),
        commands,
        outgoing,
        room: Arc::new(Semaphore::new(limits.send_buffer)),
        counts: counts.clone(),
    };
    let mailbox = (command_receiver, outgoing_receiver);
    let mut driver =
        Driver::new(&config, gate, mailbox, Deliveries::new(events, limits.events, config.patience), counts)?;
    driver.listen(&config.listen).await?;
    tokio::spawn(driver.run());
    Ok((network, event_receiver))
}

struct Driver<G: Gate> {
    swarm: Swarm<Protocols>,
    gate: Arc<G>,
    role: Role,
    limits: NetworkLimits,
    commands: mpsc::Receiver<Command>,

    outgoing: mpsc::Receiver<Outgoing>,
    outbox: Outbox,
    pulse: Pulse,
    /// When to try refused batches again, and how long to pause after the next refusal.
    retry: Option<Instant>,
    retry_pause: Duration,
    flushes: Vec<(u64, oneshot::Sender<()>)>,

    checks: Checks<G>,
    flow: Arc<Flow>,
    deliveries: Deliveries<G::Accepted>,

    /// Topics the application joined, and those followed for peers (relays only), with the mark that says so.
    joined: HashSet<String>,
    followed: HashMap<String, Hop>,
    /// Peers are on topics that are not followed for want of a place.
    short_of_places: bool,
    crowd: Crowd,

    bootstrap: Bootstrap,
    dials: HashMap<ConnectionId, (Multiaddr, oneshot::Sender<Result<(), NetworkError>>)>,
    /// Circuit listeners, by the relay they are at.
    reservations: HashMap<PeerId, ListenerId>,
    wants_reservations: bool,
    /// Where connected peers say that they can be reached.
    said: HashMap<PeerId, Vec<Multiaddr>>,

    asked: HashMap<OutboundRequestId, oneshot::Sender<Result<Vec<u8>, RequestError>>>,
    inbound: Inbound,
    requests: Option<mpsc::Sender<Requested>>,

    puts: HashMap<kad::QueryId, oneshot::Sender<Result<usize, NetworkError>>>,
    lookups: HashMap<kad::QueryId, dht::Lookup>,
    own_records: HashMap<kad::RecordKey, kad::Record>,
    /// The places of all others in the store.
    foreign: Foreign,
    record_checks: FuturesUnordered<JoinHandle<Option<kad::Record>>>,
    republish: Option<Instant>,
}

/// One thing that happened.
enum Turn<A> {
    Command(Option<Command>),
    Outgoing(Outgoing),
    Swarm(Box<SwarmEvent<ProtocolsEvent>>),
    Checked(Vec<Checked<A>>),
    Delivered,
    Answer(Answer),
    Record(Option<kad::Record>),
    Time,
}

impl<G: Gate> Driver<G> {
    fn new(
        config: &NetworkConfig,
        gate: Arc<G>,
        (commands, outgoing): (mpsc::Receiver<Command>, mpsc::Receiver<Outgoing>),
        deliveries: Deliveries<G::Accepted>,
        counts: Arc<watch::Sender<Counts>>,
    ) -> Result<Self, NetworkError> {
        let flow = Arc::new(Flow::default());
        let limits = config.limits.clone();
        let own = config.keypair.public().to_peer_id();
        Ok(Self {
            swarm: start::swarm(config, gate.clone(), flow.clone())?,
            role: config.role,
            commands,
            outgoing,
            outbox: Outbox::new(limits.batch.min(limits.max_frame), limits.batch_frames),
            pulse: Pulse::new(limits.batch.min(limits.max_frame), Instant::now()),
            retry: None,
            retry_pause: gossip::FIRST_RETRY,
            flushes: Vec::new(),
            checks: Checks::new(gate.clone(), &limits),
            gate,
            flow,
            deliveries,
            joined: HashSet::new(),
            followed: HashMap::new(),
            short_of_places: false,
            crowd: Crowd::new(counts, limits.topics_per_peer),
            bootstrap: Bootstrap::new(config.bootstrap.clone(), own, Instant::now()),
            dials: HashMap::new(),
            reservations: HashMap::new(),
            wants_reservations: config.relay_reservation,
            said: HashMap::new(),
            asked: HashMap::new(),
            inbound: Inbound::new(&limits),
            requests: config.requests.clone(),
            puts: HashMap::new(),
            lookups: HashMap::new(),
            own_records: HashMap::new(),
            foreign: Foreign::new(own, limits.records),
            record_checks: FuturesUnordered::new(),
            republish: None,
            limits,
        })
    }

    async fn run(mut self) {
        let stopped = loop {
            if let ControlFlow::Break(reply) = self.step().await {
                break reply;
            }
        };
        self.stop().await;
        // The sockets are closed by now: whoever waits for this may bind the ports again.
        if let Some(reply) = stopped {
            let _ = reply.send(());
        }
    }

    /// Waits for one turn and handles it. Breaks with whom to tell when the network is to stop.
    async fn step(&mut self) -> ControlFlow<Option<oneshot::Sender<()>>> {
        self.settle(Instant::now());
        let turn = self.turn().await;
        match turn {
            Turn::Command(None) => return ControlFlow::Break(None),
            Turn::Command(Some(Command::Stop { reply })) => return ControlFlow::Break(Some(reply)),
            Turn::Command(Some(command)) => self.on_command(command),
            Turn::Outgoing(outgoing) => self.on_outgoing(outgoing),
            Turn::Swarm(event) => self.on_swarm(*event),
            Turn::Checked(checked) => self.on_checked(checked),
            Turn::Answer(answer) => self.on_answer(answer),
            Turn::Record(record) => self.on_checked_record(record),
            Turn::Delivered | Turn::Time => {}
        }
        ControlFlow::Continue(())
    }

    async fn turn(&mut self) -> Turn<G::Accepted> {
        let now = Instant::now();
        let (next_time, rest) = (self.next_time(now), self.pulse.rest(now));
        tokio::select! {
            command = self.commands.recv() => Turn::Command(command),
            Some(outgoing) = self.outgoing.recv(), if rest.is_none() => Turn::Outgoing(outgoing),
            event = self.swarm.select_next_some() => Turn::Swarm(Box::new(event)),
            checked = self.checks.next() => Turn::Checked(checked),
            () = self.deliveries.advance() => Turn::Delivered,
            answer = self.inbound.next() => Turn::Answer(answer),
            Some(record) = self.record_checks.next() => Turn::Record(record.unwrap_or_default()),
            () = wait_until(next_time) => Turn::Time,
        }
    }

    /// Does what has become due or possible; called before every wait.
    fn settle(&mut self, now: Instant) {
        self.checks.start();
        self.send_outbox(now);
        self.dial_bootstrap(now);
        self.finish_lookups(now);
        self.republish_records(now);
        self.flow.set_paused(self.checks.is_crowded() || self.deliveries.is_crowded(now));
    }

    fn next_time(&mut self, now: Instant) -> Option<Instant> {
        [
            self.pulse.rest(now),
            self.retry,
            self.bootstrap.next_due(),
            self.lookups.values().filter_map(|lookup| lookup.finish_at).min(),
            self.republish,
            self.deliveries.patience_ends(now),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn on_swarm(&mut self, event: SwarmEvent<ProtocolsEvent>) {
        match event {
            SwarmEvent::Behaviour(ProtocolsEvent::Gossip(event)) => self.on_gossip(event),
            SwarmEvent::Behaviour(ProtocolsEvent::Requests(event) | ProtocolsEvent::Answers(event)) => {
                self.on_request_event(event);
            }
            SwarmEvent::Behaviour(ProtocolsEvent::Kad(event)) => self.on_dht(event),
            SwarmEvent::Behaviour(ProtocolsEvent::Identify(event)) => self.on_identify(event),
            SwarmEvent::Behaviour(ProtocolsEvent::Ping(event)) => self.on_ping(event),
            SwarmEvent::Behaviour(ProtocolsEvent::Mdns(event)) => self.on_mdns(event),
            SwarmEvent::Behaviour(event) => tracing::trace!(?event, "protocol event"),
            event => self.on_connection_event(event),
        }
    }
}

async fn wait_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time.into()).await,
        None => std::future::pending().await,
    }
}
