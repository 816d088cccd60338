//! What stands in the log, and its bytes, which are never changed: the chain covers them.

use prost::Message as _;
use veilcast_key_store::KeyId;

use super::hash;
use crate::identity::UserId;
use crate::permission::{Period, Refusal};
use crate::stream::StreamId;
use crate::time::Timestamp;
use crate::wire::{RefusalProto, read_refusal};

/// How keys were handed out, or asked for in vain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Handed {
    /// In an answer to a request that named them.
    ToIds,
    /// In an answer to a request for a span of time.
    ToSpan,
    /// Pushed at a rekey, and confirmed.
    Push,
    /// Pushed at a rekey, and not confirmed: it may have arrived all the same.
    PushUnconfirmed,
}

impl Handed {
    const fn number(self) -> u32 {
        match self {
            Self::ToIds => 1,
            Self::ToSpan => 2,
            Self::Push => 3,
            Self::PushUnconfirmed => 4,
        }
    }

    fn read(number: u32) -> Option<Self> {
        [Self::ToIds, Self::ToSpan, Self::Push, Self::PushUnconfirmed].into_iter().find(|way| way.number() == number)
    }

    /// Its name in text and exports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ToIds => "answer",
            Self::ToSpan => "span",
            Self::Push => "push",
            Self::PushUnconfirmed => "push_unconfirmed",
        }
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuditEvent {
    /// Keys were given.
    Given {
        /// Of which stream.
        stream: StreamId,
        /// To whom.
        user: UserId,
        /// Which.
        keys: Vec<KeyId>,
        /// How.
        by: Handed,
        /// Under which grant.
        grant: Period,
        /// SHA-256 of the public key they were wrapped for, DER SubjectPublicKeyInfo.
        public_key: [u8; 32],
    },
    /// Keys were refused.
    Refused {
        /// Of which stream.
        stream: StreamId,
        /// To whom.
        user: UserId,
        /// Which, at most the first eight; none where a span was refused as a whole.
        keys: Vec<KeyId>,
        /// How many in all.
        count: u64,
        /// How they would have been handed out.
        by: Handed,
        /// Why not.
        refusal: Refusal,
        /// SHA-256 of the public key in the request.
        public_key: [u8; 32],
    },
    /// Keys that stand in the log already were given again.
    GivenAgain {
        /// Of which stream.
        stream: StreamId,
        /// To whom.
        user: UserId,
        /// How often, and when.
        repeats: Repeats,
    },
    /// Refused again, for the reason of an entry before.
    RefusedAgain {
        /// Of which stream.
        stream: StreamId,
        /// To whom.
        user: UserId,
        /// Why, the last time.
        refusal: Refusal,
        /// How often, and when.
        repeats: Repeats,
    },
    /// What is neither listed nor counted by name: refusals beyond the rate at which they are, and repeats of more users and
    /// streams than are counted apart.
    Unlisted {
        /// How often, and when.
        repeats: Repeats,
    },
    /// Requests refused as too many, of whoever they were: some of them before anybody looked who signed them.
    Throttled {
        /// How often, and when.
        repeats: Repeats,
    },
    /// Entries that should stand here and were not written: the queue was full, or the disk failed.
    NotWritten {
        /// How many.
        entries: u64,
    },
}

/// Something that was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "how often, of how many, from when to when")]
pub struct Repeats {
    /// Requests or pushes.
    pub times: u64,
    /// Keys in all of them.
    pub keys: u64,
    /// The first of them, ms since the epoch.
    pub since: Timestamp,
    /// The last.
    pub until: Timestamp,
}

impl AuditEvent {
    /// Its name in text and exports.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Given { .. } => "given",
            Self::Refused { .. } => "refused",
            Self::GivenAgain { .. } => "given_again",
            Self::RefusedAgain { .. } => "refused_again",
            Self::Unlisted { .. } => "unlisted",
            Self::Throttled { .. } => "throttled",
            Self::NotWritten { .. } => "not_written",
        }
    }

    /// Of which stream, where it is of one.
    pub const fn stream(&self) -> Option<&StreamId> {
        match self {
            Self::Given { stream, .. }
            | Self::Refused { stream, .. }
            | Self::GivenAgain { stream, .. }
            | Self::RefusedAgain { stream, .. } => Some(stream),
            Self::Unlisted { .. } | Self::Throttled { .. } | Self::NotWritten { .. } => None,
        }
    }

    /// Whose, where it is of one user.
    pub const fn user(&self) -> Option<UserId> {
        match self {
            Self::Given { user, .. }
            | Self::Refused { user, .. }
            | Self::GivenAgain { user, .. }
            | Self::RefusedAgain { user, .. } => Some(*user),
            Self::Unlisted { .. } | Self::Throttled { .. } | Self::NotWritten { .. } => None,
        }
    }

    /// How many entries it stands for: itself, or those that it says were not written.
    pub const fn stands_for(&self) -> u64 {
        match self {
            Self::NotWritten { entries } => *entries,
            _ => 1,
        }
    }

    const fn number(&self) -> u32 {
        match self {
            Self::Given { .. } => 1,
            Self::Refused { .. } => 2,
            Self::GivenAgain { .. } => 3,
            Self::RefusedAgain { .. } => 4,
            Self::Unlisted { .. } => 5,
            Self::Throttled { .. } => 6,
            Self::NotWritten { .. } => 7,
        }
    }
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditEntry {
    /// Its place: the first entry of a log is 1.
    pub sequence: u64,
    /// When it happened by the publisher's clock, ms since the epoch.
    pub at: Timestamp,
    /// What.
    pub event: AuditEvent,
}

/// An entry as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoggedEntry {
    /// What it says.
    pub entry: AuditEntry,
    /// Its exact bytes.
    pub content: Vec<u8>,
    /// The hash written with it, over these bytes and the hash before.
    pub hash: [u8; 32],
}

impl LoggedEntry {
    /// From an export: what the bytes say, and the hash beside them. Nothing is checked yet but that they say something.
    pub fn read(content: Vec<u8>, hash: [u8; 32]) -> Option<Self> {
        Some(Self { entry: AuditEntry::decode(&content)?, content, hash })
    }

    pub(super) fn behind(before: &[u8; 32], entry: AuditEntry) -> Self {
        let content = entry.encode();
        let hash = hash::of_entry(before, &content);
        Self { entry, content, hash }
    }
}

const VERSION: u32 = 1;

#[derive(Clone, PartialEq, prost::Message)]
struct EntryProto {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(uint64, tag = "2")]
    sequence: u64,
    #[prost(uint64, tag = "3")]
    at: u64,
    #[prost(uint32, tag = "4")]
    what: u32,
    #[prost(string, tag = "5")]
    stream: String,
    #[prost(bytes = "vec", tag = "6")]
    user: Vec<u8>,
    #[prost(string, repeated, tag = "7")]
    keys: Vec<String>,
    #[prost(uint64, tag = "8")]
    count: u64,
    #[prost(uint32, tag = "9")]
    by: u32,
    #[prost(uint64, optional, tag = "10")]
    grant_start: Option<u64>,
    #[prost(uint64, optional, tag = "11")]
    grant_end: Option<u64>,
    #[prost(bytes = "vec", tag = "12")]
    public_key: Vec<u8>,
    #[prost(message, optional, tag = "13")]
    refusal: Option<RefusalProto>,
    #[prost(uint64, tag = "14")]
    times: u64,
    #[prost(uint64, tag = "15")]
    since: u64,
    #[prost(uint64, tag = "16")]
    until: u64,
}

impl AuditEntry {
    pub(super) fn encode(&self) -> Vec<u8> {
        let base = EntryProto {
            version: VERSION,
            sequence: self.sequence,
            at: self.at.as_millis(),
            what: self.event.number(),
            stream: self.event.stream().map_or_else(String::new, |stream| stream.as_str().into()),
            user: self.event.user().map_or_else(Vec::new, |user| user.as_bytes().to_vec()),
            ..EntryProto::default()
        };
        let proto = match &self.event {
            AuditEvent::Given { keys, by, grant, public_key, .. } => EntryProto {
                keys: names(keys),
                count: keys.len() as u64,
                by: by.number(),
                grant_start: grant.start.map(Timestamp::as_millis),
                grant_end: grant.end.map(Timestamp::as_millis),
                public_key: public_key.to_vec(),
                ..base
            },
            AuditEvent::Refused { keys, count, by, refusal, public_key, .. } => EntryProto {
                keys: names(keys),
                count: *count,
                by: by.number(),
                public_key: public_key.to_vec(),
                refusal: Some((*refusal).into()),
                ..base
            },
            AuditEvent::RefusedAgain { refusal, repeats, .. } => {
                repeated(EntryProto { refusal: Some((*refusal).into()), ..base }, repeats)
            }
            AuditEvent::GivenAgain { repeats, .. }
            | AuditEvent::Unlisted { repeats }
            | AuditEvent::Throttled { repeats } => repeated(base, repeats),
            AuditEvent::NotWritten { entries } => EntryProto { count: *entries, ..base },
        };
        proto.encode_to_vec()
    }

    /// `None` for what no version of this program known here has written.
    pub(super) fn decode(content: &[u8]) -> Option<Self> {
        let proto = EntryProto::decode(content).ok().filter(|proto| proto.version == VERSION)?;
        Some(Self { sequence: proto.sequence, at: Timestamp::from_millis(proto.at), event: proto.event()? })
    }
}

impl EntryProto {
    fn event(&self) -> Option<AuditEvent> {
        Some(match self.what {
            1 => AuditEvent::Given {
                stream: self.stream()?,
                user: self.user()?,
                keys: self.keys()?,
                by: Handed::read(self.by)?,
                grant: Period {
                    start: self.grant_start.map(Timestamp::from_millis),
                    end: self.grant_end.map(Timestamp::from_millis),
                },
                public_key: self.public_key.as_slice().try_into().ok()?,
            },
            2 => AuditEvent::Refused {
                stream: self.stream()?,
                user: self.user()?,
                keys: self.keys()?,
                count: self.count,
                by: Handed::read(self.by)?,
                refusal: self.refusal()?,
                public_key: self.public_key.as_slice().try_into().ok()?,
            },
            3 => AuditEvent::GivenAgain { stream: self.stream()?, user: self.user()?, repeats: self.repeats() },
            4 => AuditEvent::RefusedAgain {
                stream: self.stream()?,
                user: self.user()?,
                refusal: self.refusal()?,
                repeats: self.repeats(),
            },
            5 => AuditEvent::Unlisted { repeats: self.repeats() },
            6 => AuditEvent::Throttled { repeats: self.repeats() },
            7 => AuditEvent::NotWritten { entries: self.count },
            _ => return None,
        })
    }

    fn stream(&self) -> Option<StreamId> {
        StreamId::new(&self.stream).ok()
    }

    fn user(&self) -> Option<UserId> {
        UserId::try_from(self.user.as_slice()).ok()
    }

    fn keys(&self) -> Option<Vec<KeyId>> {
        self.keys.iter().map(|id| KeyId::new(id).ok()).collect()
    }

    fn refusal(&self) -> Option<Refusal> {
        read_refusal(self.refusal.as_ref()?).ok()
    }

    fn repeats(&self) -> Repeats {
        Repeats {
            times: self.times,
            keys: self.count,
            since: Timestamp::from_millis(self.since),
            until: Timestamp::from_millis(self.until),
        }
    }
}

fn names(keys: &[KeyId]) -> Vec<String> {
    keys.iter().map(|id| id.as_str().into()).collect()
}

fn repeated(proto: EntryProto, repeats: &Repeats) -> EntryProto {
    EntryProto {
        times: repeats.times,
        count: repeats.keys,
        since: repeats.since.as_millis(),
        until: repeats.until.as_millis(),
        ..proto
    }
}
