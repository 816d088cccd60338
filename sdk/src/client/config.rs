//! What a client is told at start. `Default` is the recommended deployment.

mod check;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::audit::AuditLimits;
use crate::cipher::DEFAULT_RSA_BITS;
use crate::exchange::{HistoryPolicy, RequesterConfig, ScreenLimits};
use crate::network::NetworkLimits;
use crate::publisher::KeyPolicy;
use crate::storage::ResendLimits;
use crate::subscriber::IntakeLimits;

/// What happens when an application does not take its messages in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum SlowReader {
    /// Messages beyond the queue are lost, and reported as a gap. Nobody else notices.
    #[default]
    Lose,
    /// The whole client stops reading until there is room: for programs with one subscription and no other work. A relay in
    /// between does not wait for ever: beyond its queue it drops, and the reader sees a gap.
    Wait,
}

/// What becomes of gaps among the live messages of a subscription, where the stream has a storage node. Without one they are
/// reported after [`IntakeLimits::gap_wait`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum GapFill {
    /// They are reported after [`IntakeLimits::gap_wait`], and no storage node is asked.
    Off,
    /// Storage nodes are asked once; what has not come after 3 s is reported as a gap.
    #[default]
    Light,
    /// Storage nodes are asked again and again, for up to 30 s, and the messages behind the gap wait so long.
    Full,
}

impl GapFill {
    /// Tries to fill one gap.
    pub(super) const fn tries(self) -> u32 {
        match self {
            Self::Off => 0,
            Self::Light => 1,
            Self::Full => 10,
        }
    }

    /// How long a gap is waited for where there is a storage node.
    pub(super) fn wait(self, limits: &IntakeLimits) -> Duration {
        match self {
            Self::Off => limits.gap_wait,
            Self::Light => limits.gap_wait.max(Duration::from_secs(3)),
            Self::Full => limits.gap_wait.max(Duration::from_secs(30)),
        }
    }
}

/// Where group keys come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum KeySource {
    /// Publishers make them and hand them out, except on streams that a [key ring](crate::key_ring) covers: there its keys
    /// alone count.
    #[default]
    Exchange,
    /// Only keys agreed on outside the network count, on every stream. None is made, asked for, pushed, answered with or
    /// taken from a message; where no agreed key fits, nothing is published or read.
    PreAgreedOnly,
}

/// A client's settings. Each field says its default.
///
/// ```
/// use veilcast::client::ClientConfig;
///
/// let mut config = ClientConfig::default(); // others cannot write all fields: more may come
/// config.rsa_bits = 2048;
/// config.intake.parked = 1_000;
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientConfig {
    /// Largest payload published, bytes: 1 MiB.
    pub max_payload: usize,
    /// Size of the subscriber's RSA pair, bits: 3072.
    pub rsa_bits: usize,
    /// Make the RSA pair at start, so that the first key request need not wait for it: yes.
    pub rsa_ahead: bool,
    /// Encrypt even what is public: no.
    pub always_encrypt: bool,
    /// Where group keys come from: [`KeySource::Exchange`].
    pub keys: KeySource,
    /// Rekey when a subscriber's grant ended: before the next message, or by itself when the window below is over: yes.
    pub rekey_on_end: bool,
    /// Grants that end within so long of each other are shut out by one rekey, if no message comes first: 1 s.
    pub end_window: Duration,
    /// Messages queued for a subscription's application: 4096. Their bytes are bounded by [`IntakeLimits::untaken_bytes`].
    pub subscription_queue: usize,
    /// What happens when that queue is full: [`SlowReader::Lose`].
    pub slow_reader: SlowReader,
    /// Give subscriptions of this client what it publishes itself, too: for one client that serves many applications. Keys that come
    /// inside messages of this identity's other devices are then asked for instead of kept. No.
    pub hear_own: bool,
    /// How long a record that says where this publisher is reachable stays valid: 1 h. It is made anew before that.
    pub record_lifetime: Duration,
    /// How often the DHT is asked for a newer record of a stream that is published to or stored and that another owns, where
    /// its owner signs permissions: 5 s.
    pub stream_record_refresh: Duration,
    /// How long a pushed key may take to be confirmed: 5 s. Who has not confirmed it asks for it.
    pub push_timeout: Duration,
    /// Look for peers on the local network: no.
    pub mdns: bool,
    /// Ask bootstrap nodes for a relayed address, for a publisher that cannot be dialed from outside: no.
    pub relay_reservation: bool,
    /// How this client asks for keys: how long it waits, how often it tries.
    pub requester: RequesterConfig,
    /// Which key requests of others it looks at, and how many.
    pub screen: ScreenLimits,
    /// How much the [audit log](crate::audit) keeps of what was given and refused: a million entries, 256 MiB. `None` writes none.
    pub audit: Option<AuditLimits>,
    /// What becomes of gaps among live messages: [`GapFill::Light`].
    pub gap_fill: GapFill,
    /// Which requests of readers it looks at as a storage node, and how many.
    pub resend: ResendLimits,
    /// How many messages a subscription holds back, and for how long.
    pub intake: IntakeLimits,
    /// Bounds on connections, queues and frames.
    pub network: NetworkLimits,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            max_payload: 1 << 20,
            rsa_bits: DEFAULT_RSA_BITS,
            rsa_ahead: true,
            always_encrypt: false,
            keys: KeySource::default(),
            rekey_on_end: true,
            end_window: Duration::from_secs(1),
            subscription_queue: 4096,
            slow_reader: SlowReader::default(),
            hear_own: false,
            record_lifetime: Duration::from_secs(3600),
            stream_record_refresh: Duration::from_secs(5),
            push_timeout: Duration::from_secs(5),
            mdns: false,
            relay_reservation: false,
            requester: RequesterConfig::default(),
            screen: ScreenLimits::default(),
            audit: Some(AuditLimits::default()),
            gap_fill: GapFill::default(),
            resend: ResendLimits::default(),
            intake: IntakeLimits::default(),
            network: NetworkLimits::default(),
        }
    }
}

/// What of a stream is read, and how much of it may wait. `Default` is all, as [configured](ClientConfig::intake).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadOptions {
    /// Partitions by their numbers; `None`: all there are.
    pub partitions: Option<BTreeSet<u32>>,
    /// Most bytes of messages that wait for the application. For keys, and for messages before them, no more wait either, or 4 MiB
    /// where this is less. Never more than configured.
    pub untaken_bytes: Option<usize>,
}

impl ReadOptions {
    /// These partitions only.
    #[must_use]
    pub fn partitions(self, numbers: impl IntoIterator<Item = u32>) -> Self {
        Self { partitions: Some(numbers.into_iter().collect()), ..self }
    }

    /// At most this many bytes wait for the application. For a program that reads for many others, some of them slow. A larger
    /// message passes, one at a time.
    #[must_use]
    pub fn untaken_bytes(self, bytes: usize) -> Self {
        Self { untaken_bytes: Some(bytes), ..self }
    }

    pub(super) fn limits(&self, configured: IntakeLimits) -> IntakeLimits {
        self.untaken_bytes.map_or(configured, |bytes| configured.within(bytes))
    }
}

/// A new stream's settings. Say what differs: `StreamOptions { partitions: 3, ..StreamOptions::default() }`; so it may get more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamOptions {
    /// How many partitions it has, 1 to 100: 1.
    pub partitions: u32,
    /// Readable by everybody: no.
    pub public: bool,
    /// How far back its keys are handed out; without it as it was set before, and for a new stream all of them.
    pub history: Option<HistoryPolicy>,
    /// When its key changes by itself; without it as it was set before, and for a new stream never, except for grants that end.
    pub key_policy: Option<KeyPolicy>,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self { partitions: 1, public: false, history: None, key_policy: None }
    }
}
