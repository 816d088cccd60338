//! Setting a client up.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::AtomicU8;
use std::sync::{Arc, Mutex};

use libp2p::Multiaddr;
use libp2p::identity::Keypair;
use tokio::sync::{Notify, OnceCell, Semaphore, mpsc, watch};
use tokio_util::task::TaskTracker;
use veilcast_key_store::{MemoryKeyStore, Store};

use super::asking::{self, KEYS_MAILBOX};
use super::assigning::{self, Owners};
use super::auditing::{self, Auditor};
use super::config::{ClientConfig, KeySource, SlowReader};
use super::directory::Directory;
use super::error::ClientError;
use super::gate::ProtocolGate;
use super::holders::{self, Holders};
use super::metrics::{self, Meters};
use super::shared::{Shared, blocking, make_rsa_pair};
use super::showing;
use super::storing::{self, Storage};
use super::updating::HAND_OUTS;
use super::workers::Workers;
use super::{Client, announcing, carrying, depots, dispatch, enforcing, peer_key, permitting};
use crate::audit::AuditLog;
use crate::exchange::{HistoryPolicies, Screen};
use crate::identity::{Identity, UserId};
use crate::network::{self, NetworkConfig, Role};
use crate::permission::{AccessList, Issuer, LocalRegistry, PermissionSource, SignedGrants};
use crate::publisher::GrantLedger;
use crate::storage::{MessageStore, ResendScreen};
use crate::stream::StreamId;
use crate::time::{Clock, SystemClock};

/// Rotated keys being stored at a time.
const KEEPING: usize = 64;
/// Who decides about permissions.
enum Permissions {
    Local,
    Signed,
    By(Arc<dyn PermissionSource>),
}

/// Sets a client up; [`ClientBuilder::start`] starts it.
#[must_use = "there is no client before it is started"]
pub struct ClientBuilder {
    identity: Identity,
    store: Option<Arc<dyn Store>>,
    permissions: Permissions,
    clock: Arc<dyn Clock>,
    keypair: Option<Keypair>,
    listen: Vec<Multiaddr>,
    bootstrap: Vec<Multiaddr>,
    role: Role,
    storage: Option<(Arc<dyn MessageStore>, BTreeSet<StreamId>)>,
    assigned_by: BTreeSet<UserId>,
    config: ClientConfig,
}

impl ClientBuilder {
    pub(super) fn new(identity: Identity) -> Self {
        Self {
            identity,
            store: None,
            permissions: Permissions::Local,
            clock: Arc::new(SystemClock),
            keypair: None,
            listen: Vec::new(),
            bootstrap: Vec::new(),
            role: Role::Peer,
            storage: None,
            assigned_by: BTreeSet::new(),
            config: ClientConfig::default(),
        }
    }

    /// Where keys and records are kept. Without one they live in memory and are gone with the process. Of one identity, one
    /// client at a time uses a store.
    pub fn store(mut self, store: Arc<dyn Store>) -> Self {
        self.store = Some(store);
        self
    }

    /// Who decides about permissions. Without one the local registry in the store does.
    pub fn permissions(mut self, source: Arc<dyn PermissionSource>) -> Self {
        self.permissions = Permissions::By(source);
        self
    }

    /// Lets what streams' owners signed decide about permissions: grants and stream records in the store, and those that
    /// subscribers show. The records of this identity's own streams are made anew before they expire, while it runs.
    pub fn signed_grants(mut self) -> Self {
        self.permissions = Permissions::Signed;
        self
    }

    /// Where the time is read. Without one the machine's clock.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// The libp2p key. Without one the store keeps one for this identity, so that the peer id survives restarts.
    pub fn keypair(mut self, keypair: Keypair) -> Self {
        self.keypair = Some(keypair);
        self
    }

    /// Listens on this address; may be called several times. Without any the client only dials out.
    pub fn listen(mut self, address: Multiaddr) -> Self {
        self.listen.push(address);
        self
    }

    /// Stays connected to this node; may be called several times.
    pub fn bootstrap(mut self, address: Multiaddr) -> Self {
        self.bootstrap.push(address);
        self
    }

    /// Is a meeting point as well: follows every topic its neighbours take part in, and relays circuits.
    pub fn relay(mut self) -> Self {
        self.role = Role::Relay;
        self
    }

    /// Keeps the messages of these streams, sealed as they are, and gives them to whoever may subscribe. Before a message is
    /// stored its signature and its publisher's permission are checked; who may read is asked of the permission source each
    /// time. One store is for one client at a time.
    pub fn storage(mut self, store: Arc<dyn MessageStore>, streams: impl IntoIterator<Item = StreamId>) -> Self {
        self.storage = Some((store, streams.into_iter().collect()));
        self
    }

    /// Keeps as well, in the store given to [`storage`](Self::storage), each stream of these owners whose record names this
    /// identity ([`StreamSettings::storage`](crate::permission::StreamSettings::storage)), as long as it does. Records come by
    /// [`Client::import_grant`], along with a reader's request, and from the DHT once a neighbour takes part in a stream. Only
    /// with [`signed_grants`](Self::signed_grants).
    pub fn assigned_by(mut self, owners: impl IntoIterator<Item = UserId>) -> Self {
        self.assigned_by.extend(owners);
        self
    }

    /// Settings other than the recommended ones.
    pub fn config(mut self, config: ClientConfig) -> Self {
        self.config = config;
        self
    }

    /// Starts the node. It listens when this returns; connecting to bootstrap nodes goes on in the background.
    ///
    /// # Errors
    /// [`ClientError::Config`] for settings that make no sense (owners who assign streams without a store or signed grants among
    /// them), [`ClientError::Network`] (an address in use), [`ClientError::Rsa`] for a size out of range,
    /// [`ClientError::Store`] when the peer's key can be neither read nor kept.
    pub async fn start(self) -> Result<Client, ClientError> {
        self.config.check()?;
        self.check_assigned()?;
        let store = self.store.unwrap_or_else(|| Arc::new(MemoryKeyStore::default()));
        let user = self.identity.user();
        let keypair = match self.keypair {
            Some(keypair) => keypair,
            None => {
                let store = store.clone();
                blocking(move || peer_key::load_or_make(&*store, user)).await??
            }
        };
        let mut network = NetworkConfig::new(keypair);
        network.listen = self.listen;
        network.bootstrap = self.bootstrap;
        network.role = self.role;
        network.mdns = self.config.mdns;
        network.relay_reservation = self.config.relay_reservation;
        network.request_timeout = self.config.requester.key_request_timeout;
        network.limits = self.config.network.clone();
        if self.config.slow_reader == SlowReader::Wait {
            network.patience = None;
        }
        let (requests, requested) = mpsc::channel(self.config.network.events.max(1));
        network.requests = Some(requests);
        let (frames, sifted) = metrics::frames();
        let gate = Arc::new(ProtocolGate::new(self.clock.clone(), false, sifted));
        let (network, events) = network::spawn(network, gate.clone()).await?;

        let registry = Arc::new(LocalRegistry::new(store.clone()));
        let grants = Arc::new(SignedGrants::new(store.clone()));
        let by_grants = matches!(self.permissions, Permissions::Signed);
        let source: Arc<dyn PermissionSource> = match self.permissions {
            Permissions::Local => registry.clone(),
            Permissions::Signed => grants.clone(),
            Permissions::By(source) => source,
        };
        let (now, peer) = (self.clock.now(), network.local_peer());
        let (asking, asked) = mpsc::channel(KEYS_MAILBOX);
        let (holders, writer) = Holders::new(GrantLedger::new(store.clone(), user));
        let log = AuditLog::with_limits(store.clone(), user, self.config.audit.unwrap_or_default());
        let (audit, orders) = Auditor::new(log, self.config.audit.is_some(), now);
        let issuer = Arc::new(Issuer::new(self.identity.clone(), grants.clone()));
        let source = Arc::new(AccessList::new(source, store.clone(), user));
        let meters = Meters::new(&*source, &frames);
        let owners = Owners::new(self.assigned_by);
        let storage = self.storage.map(|(store, streams)| {
            let limits = &self.config.resend;
            Storage::new(store, streams, owners, ResendScreen::new(user, *limits, now), limits)
        });
        let shared = Arc::new(Shared {
            storage,
            depots_soon: Notify::new(),
            answered: Default::default(),
            identity: self.identity,
            issuer,
            by_grants,
            user,
            screen: Mutex::new(Screen::new(user, self.config.screen, now)),
            history: HistoryPolicies::new(store.clone()),
            pushes: Mutex::default(),
            clock: self.clock,
            network,
            gate,
            store,
            registry,
            source,
            grants,
            access: Default::default(),
            directory: Mutex::new(Directory::new(peer)),
            finder: Default::default(),
            slot: AtomicU8::new(announcing::preferred_slot(peer)),
            holders,
            audit,
            publishers: Mutex::new(HashMap::new()),
            readers: Mutex::new(Vec::new()),
            asking,
            rsa: Arc::new(OnceCell::new()),
            counters: Default::default(),
            meters,
            stopping: watch::Sender::new(false),
            announce_soon: Notify::new(),
            tasks: TaskTracker::new(),
            workers: Arc::new(Workers::new()),
            handing: Arc::new(Semaphore::new(HAND_OUTS)),
            keeping: Arc::new(Semaphore::new(KEEPING)),
            joined: Mutex::default(),
            rings_changed: Default::default(),
            peers_joined: Notify::new(),
            config: self.config,
        });
        shared.tasks.spawn(holders::run(writer, shared.network.clone()));
        shared.tasks.spawn(auditing::run(shared.clone(), orders));
        shared.spawn(asking::run(shared.clone(), asked));
        shared.spawn(dispatch::run(shared.clone(), events));
        shared.spawn(dispatch::answer(shared.clone(), requested));
        shared.spawn(announcing::run(shared.clone()));
        shared.spawn(announcing::greet(shared.clone()));
        if let Some(storage) = &shared.storage {
            storing::start(&shared, storage.assign(BTreeSet::new()));
            shared.spawn(storing::evict(shared.clone()));
            shared.spawn(depots::announce(shared.clone()));
            shared.spawn(assigning::follow(shared.clone()));
        }
        if by_grants {
            shared.spawn(permitting::renew(shared.clone()));
            shared.spawn(carrying::announce(shared.clone()));
            shared.spawn(carrying::look(shared.clone()));
            shared.spawn(showing::run(shared.clone()));
        }
        if shared.config.rekey_on_end {
            shared.spawn(enforcing::run(shared.clone()));
        }
        if shared.config.rsa_ahead && shared.config.keys == KeySource::Exchange {
            let (cell, bits) = (shared.rsa.clone(), shared.config.rsa_bits);
            // Whoever needs the pair gets the error; here there is nobody to tell.
            tokio::spawn(async move { make_rsa_pair(&cell, bits).await.map(drop) });
        }
        Ok(Client { shared })
    }

    fn check_assigned(&self) -> Result<(), ClientError> {
        let is_signed = matches!(self.permissions, Permissions::Signed);
        if self.assigned_by.is_empty() || (self.storage.is_some() && is_signed) {
            return Ok(());
        }
        let text = "streams are assigned by signed records: that needs a message store and signed grants";
        Err(ClientError::Config(text.into()))
    }
}
