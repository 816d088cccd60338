//! A stream's settings in the owner's own hand, and which grants are void before their end.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use sha2::{Digest, Sha256};

use super::{SignedGrant, owned_stream, owner_of, registry, serial};
use crate::identity::{Domain, UserId};
use crate::stream::{MAX_PARTITIONS, StreamId};
use crate::time::Timestamp;
use crate::wire::{Content, WireError, few_fields, user};

/// Most publishers a record names; more are given grants.
pub(super) const MAX_PUBLISHERS: usize = 64;
/// Most storage nodes a record names: as many as have a place in the DHT by the stream alone.
pub(super) const MAX_STORAGE: usize = 8;
/// Most revocations in a record.
pub(super) const MAX_REVOCATIONS: usize = 256;
/// Longest time from issue to expiry.
const MAX_LIFETIME: Duration = Duration::from_secs(366 * 24 * 3600);

/// "This is my stream as of now": of two records the one with the higher version counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamRecord {
    /// The stream; the address in its id signs.
    pub stream: StreamId,
    /// The registry it is for: in another it counts for nothing.
    pub registry: String,
    /// How many partitions it has, 1 to 100.
    pub partitions: u32,
    /// Anybody may subscribe.
    pub public: bool,
    /// When it last stopped being public.
    pub public_until: Option<Timestamp>,
    /// Who may publish beside the owner, without a grant; at most 64.
    pub publishers: Vec<UserId>,
    /// Rises with every record of the stream, from 1.
    pub version: u64,
    /// When it was made.
    pub issued: Timestamp,
    /// From when on it says nothing any more: who has no newer one cannot tell.
    pub expires: Timestamp,
    /// Grants that are void before their end; at most 256.
    pub revocations: Vec<Revocation>,
    /// Who is to keep its messages; at most 8.
    pub storage: Vec<UserId>,
}

/// Grants taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Which.
    pub what: Revoked,
    /// Since when.
    pub at: Timestamp,
}

/// Which grants of a stream are taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "the wire has these two")]
pub enum Revoked {
    /// The one of this serial.
    Serial(u64),
    /// All of this user up to this serial: what it is granted later counts again.
    User {
        /// Whose.
        user: UserId,
        /// The last one that is void.
        through: u64,
    },
}

impl Revoked {
    /// Whether it takes this grant of the same stream back.
    pub fn covers(&self, grant: &SignedGrant) -> bool {
        match self {
            Self::Serial(serial) => grant.serial == *serial,
            Self::User { user, through } => grant.user == *user && grant.serial <= *through,
        }
    }
}

impl StreamRecord {
    /// Most publishers it names.
    pub const MAX_PUBLISHERS: usize = MAX_PUBLISHERS;
    /// Most storage nodes it names.
    pub const MAX_STORAGE: usize = MAX_STORAGE;
    /// Most revocations it lists.
    pub const MAX_REVOCATIONS: usize = MAX_REVOCATIONS;
    /// So many revocations that its owner should know: those of grants without an end never leave it.
    pub const REVOCATIONS_NEARLY_FULL: usize = 200;
    /// Longest time from issue to expiry.
    pub const MAX_LIFETIME: Duration = MAX_LIFETIME;

    /// The DHT key of a stream's record: `SHA-256("veilcast/1/stream-record" | stream id)`.
    pub fn dht_key(stream: &StreamId) -> Vec<u8> {
        let mut hash = Sha256::new();
        hash.update(Domain::StreamRecord.tag());
        hash.update(stream.as_str());
        hash.finalize().to_vec()
    }

    /// Since when a grant of this stream is void; `None` when it was not taken back. Of several moments the earliest.
    pub fn revoked(&self, grant: &SignedGrant) -> Option<Timestamp> {
        let of_it = self.revocations.iter().filter(|revocation| revocation.what.covers(grant));
        of_it.map(|revocation| revocation.at).min()
    }

    /// Whether it still says something at `now`. One from the future does: its version tells which is newer, not a clock.
    pub fn holds_at(&self, now: Timestamp) -> bool {
        now < self.expires
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct RecordProto {
    #[prost(string, tag = "1")]
    stream: String,
    #[prost(string, tag = "2")]
    registry: String,
    #[prost(uint32, tag = "3")]
    partitions: u32,
    #[prost(uint32, tag = "4")]
    public: u32,
    #[prost(uint64, optional, tag = "5")]
    public_until: Option<u64>,
    #[prost(bytes = "vec", repeated, tag = "6")]
    publishers: Vec<Vec<u8>>,
    #[prost(uint64, tag = "7")]
    version: u64,
    #[prost(uint64, tag = "8")]
    issued: u64,
    #[prost(uint64, tag = "9")]
    expires: u64,
    #[prost(message, repeated, tag = "10")]
    revocations: Vec<RevocationProto>,
    #[prost(bytes = "vec", repeated, tag = "11")]
    storage: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RevocationProto {
    /// Empty where one serial is taken back.
    #[prost(bytes = "vec", tag = "1")]
    user: Vec<u8>,
    #[prost(uint64, tag = "2")]
    serial: u64,
    #[prost(uint64, tag = "3")]
    at: u64,
}

impl From<&Revocation> for RevocationProto {
    fn from(revocation: &Revocation) -> Self {
        let (user, serial) = match revocation.what {
            Revoked::Serial(serial) => (Vec::new(), serial),
            Revoked::User { user, through } => (user.as_bytes().to_vec(), through),
        };
        Self { user, serial, at: revocation.at.as_millis() }
    }
}

fn revocation(proto: &RevocationProto) -> Result<Revocation, WireError> {
    let serial = serial(proto.serial)?;
    let what = if proto.user.is_empty() {
        Revoked::Serial(serial)
    } else {
        let user = user(&proto.user, "the user of a revocation is an address of 20 bytes")?;
        Revoked::User { user, through: serial }
    };
    Ok(Revocation { what, at: Timestamp::from_millis(proto.at) })
}

fn publishers(all: &[Vec<u8>]) -> Result<Vec<UserId>, WireError> {
    if all.len() > MAX_PUBLISHERS {
        return Err(WireError::Field("a stream record names at most 64 publishers"));
    }
    let rule = "a publisher of a stream record is an address of 20 bytes";
    each_once(all, rule, "a stream record names each publisher once")
}

fn storage(all: &[Vec<u8>]) -> Result<Vec<UserId>, WireError> {
    if all.len() > MAX_STORAGE {
        return Err(WireError::Field("a stream record names at most 8 storage nodes"));
    }
    let rule = "a storage node of a stream record is an address of 20 bytes";
    each_once(all, rule, "a stream record names each storage node once")
}

fn each_once(all: &[Vec<u8>], rule: &'static str, once: &'static str) -> Result<Vec<UserId>, WireError> {
    let users = all.iter().map(|bytes| user(bytes, rule)).collect::<Result<Vec<_>, _>>()?;
    let is_once = users.iter().collect::<HashSet<_>>().len() == users.len();
    if is_once { Ok(users) } else { Err(WireError::Field(once)) }
}

impl Content for StreamRecord {
    const DOMAIN: Domain = Domain::StreamRecord;

    fn encode(&self) -> Vec<u8> {
        RecordProto {
            stream: self.stream.as_str().into(),
            registry: self.registry.clone(),
            partitions: self.partitions,
            public: self.public.into(),
            public_until: self.public_until.map(Timestamp::as_millis),
            publishers: self.publishers.iter().map(|user| user.as_bytes().to_vec()).collect(),
            version: self.version,
            issued: self.issued.as_millis(),
            expires: self.expires.as_millis(),
            revocations: self.revocations.iter().map(RevocationProto::from).collect(),
            storage: self.storage.iter().map(|user| user.as_bytes().to_vec()).collect(),
        }
        .encode_to_vec()
    }

    fn decode(content: &Bytes) -> Result<Self, WireError> {
        few_fields(content)?;
        let proto = RecordProto::decode(content.clone()).map_err(|_| WireError::Malformed)?;
        if proto.partitions == 0 || proto.partitions > MAX_PARTITIONS {
            return Err(WireError::Field("a stream has 1 to 100 partitions"));
        }
        if proto.version == 0 {
            return Err(WireError::Field("the versions of a stream record begin with 1"));
        }
        let (issued, expires) = (Timestamp::from_millis(proto.issued), Timestamp::from_millis(proto.expires));
        if expires <= issued || expires.since(issued) > MAX_LIFETIME {
            return Err(WireError::Field("a stream record lives more than 0 and at most 366 days"));
        }
        if proto.revocations.len() > MAX_REVOCATIONS {
            return Err(WireError::Field("a stream record lists at most 256 revocations"));
        }
        Ok(Self {
            stream: owned_stream(&proto.stream)?,
            registry: registry(proto.registry)?,
            partitions: proto.partitions,
            public: match proto.public {
                0 => false,
                1 => true,
                _ => return Err(WireError::Field("a stream is public, 1, or not, 0")),
            },
            public_until: proto.public_until.map(Timestamp::from_millis),
            publishers: publishers(&proto.publishers)?,
            version: proto.version,
            issued,
            expires,
            revocations: proto.revocations.iter().map(revocation).collect::<Result<_, _>>()?,
            storage: storage(&proto.storage)?,
        })
    }

    fn signer(&self) -> UserId {
        owner_of(&self.stream)
    }
}
