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

/// A client's settings.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClientConfig {
    /// Largest payload published, bytes: 1 MiB.
    pub max_payload: usize,
    /// Size of the subscriber's RSA pair, bits: 3072.
    pub rsa_bits: usize,
    /// Make the RSA pair at start, so that the first key request need not wait for it.
    pub rsa_ahead: bool,
    /// Encrypt even what is public.
    pub always_encrypt: bool,
    /// Where group keys come from.
    pub keys: KeySource,
    /// Rekey when a subscriber's grant ended: before the next message, or by itself when the window below is over.
    pub rekey_on_end: bool,
    /// Grants that end within so long of each other are shut out by one rekey, if no message comes first: 1 s.
    pub end_window: Duration,
    /// Messages queued for a subscription's application; their bytes are bounded by [`IntakeLimits::untaken_bytes`].
    pub subscription_queue: usize,
    /// What happens when that queue is full.
    pub slow_reader: SlowReader,
    /// Give subscriptions of this client what it publishes itself, too: for one client that serves many applications. Keys that come
    /// inside messages of this identity's other devices are then asked for instead of kept.
    pub hear_own: bool,
    /// How long a record that says where this publisher is reachable stays valid.
    pub record_lifetime: Duration,
    /// How often the DHT is asked for a newer record of a stream that is published to or stored and that another owns, where
    /// its owner signs permissions: 5 s.
    pub stream_record_refresh: Duration,
    /// How long a pushed key may take to be confirmed.
    pub push_timeout: Duration,
    /// Look for peers on the local network.
    pub mdns: bool,
    /// Ask bootstrap nodes for a relayed address, for a publisher that cannot be dialed from outside.
    pub relay_reservation: bool,
    /// Asking for keys.
    pub requester: RequesterConfig,
    /// Answering for keys.
    pub screen: ScreenLimits,
    /// How much the [audit log](crate::audit) keeps of what was given and refused; `None` writes none.
    pub audit: Option<AuditLimits>,
    /// What becomes of gaps among live messages.
    pub gap_fill: GapFill,
    /// Answering readers, as a storage node.
    pub resend: ResendLimits,
    /// Holding messages.
    pub intake: IntakeLimits,
    /// Network bounds.
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

    /// No more bytes than this: for one program that reads for many, some of whom may be slow. A message that is larger still
    /// passes, alone.
    #[must_use]
    pub fn untaken_bytes(self, bytes: usize) -> Self {
        Self { untaken_bytes: Some(bytes), ..self }
    }

    pub(super) fn limits(&self, configured: IntakeLimits) -> IntakeLimits {
        self.untaken_bytes.map_or(configured, |bytes| configured.within(bytes))
    }
}

/// A new stream's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamOptions {
    /// 1 to 100.
    pub partitions: u32,
    /// Readable by everybody.
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
