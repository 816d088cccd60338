//! Stream ids and partitions.
//!
//! A [`StreamId`] is `owner/path`: the owner is a lower-case address or an ENS name, so an id names who may decide about
//! it. A stream has 1 to 100 partitions; a [`StreamPart`] is one of them, `id#n`, and is one gossipsub topic.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::identity::UserId;

/// Most bytes a stream id may have.
pub const MAX_STREAM_ID_LEN: usize = 255;
/// Most partitions a stream may have.
pub const MAX_PARTITIONS: u32 = 100;
/// What every gossipsub topic of ours starts with; the rest is the stream part.
pub const TOPIC_PREFIX: &str = "/veilcast/1/";

/// `owner/path`, the name of a stream. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamId(Arc<str>);

impl StreamId {
    /// Parses and checks an id.
    ///
    /// # Errors
    /// [`StreamIdError`] names the rule that was broken.
    pub fn new(text: &str) -> Result<Self, StreamIdError> {
        if text.len() > MAX_STREAM_ID_LEN {
            return Err(StreamIdError::TooLong { got: text.len() });
        }
        if let Some(found) = text.chars().find(|c| !c.is_ascii_graphic() || *c == '#') {
            return Err(StreamIdError::Character { found });
        }
        let (owner, path) = text.split_once('/').ok_or_else(|| match check_owner(text) {
            Ok(()) => StreamIdError::NoPath,
            Err(_) => StreamIdError::NoOwner { path: text.into() },
        })?;
        check_owner(owner)?;
        if path.is_empty() {
            return Err(StreamIdError::NoPath);
        }
        Ok(Self(text.into()))
    }

    /// The stream that `owner` is to call `path`; one leading `/` of the path is allowed and dropped.
    ///
    /// Stricter than [`StreamId::new`], which also reads what others named before us: a segment that is empty, `.` or `..` would be part
    /// of the name for good, and whatever folds paths (a proxy, a shell, a browser) would make another stream of it.
    ///
    /// # Errors
    /// As [`StreamId::new`], and [`StreamIdError::Segment`].
    pub fn of(owner: UserId, path: &str) -> Result<Self, StreamIdError> {
        let path = path.strip_prefix('/').unwrap_or(path);
        if path.split('/').any(|segment| matches!(segment, "" | "." | "..")) {
            return Err(StreamIdError::Segment { path: path.into() });
        }
        Self::new(&format!("{owner}/{path}"))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The owner's address, where the id names one; `None` for an ENS name.
    pub fn owner(&self) -> Option<UserId> {
        self.0.split_once('/').and_then(|(owner, _)| owner.parse().ok())
    }

    /// Partition `number` of this stream.
    ///
    /// # Errors
    /// [`StreamIdError::Partition`] from 100 on.
    pub fn part(&self, number: u32) -> Result<StreamPart, StreamIdError> {
        if number >= MAX_PARTITIONS {
            return Err(StreamIdError::Partition { got: number.to_string() });
        }
        Ok(StreamPart { stream: self.clone(), number })
    }
}

fn check_owner(owner: &str) -> Result<(), StreamIdError> {
    if let Some(digits) = owner.strip_prefix("0x") {
        let lower_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        let right = digits.len() == 40 && digits.chars().all(lower_hex);
        return right.then_some(()).ok_or_else(|| StreamIdError::Owner { got: owner.into() });
    }
    let ens_char = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
    let labels = owner.split('.').collect::<Vec<_>>();
    let right = labels.len() >= 2 && labels.iter().all(|l| !l.is_empty() && l.chars().all(ens_char));
    right.then_some(()).ok_or_else(|| StreamIdError::Owner { got: owner.into() })
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for StreamId {
    type Err = StreamIdError;
    fn from_str(text: &str) -> Result<Self, StreamIdError> {
        Self::new(text)
    }
}

/// One partition of a stream, written `id#n`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamPart {
    stream: StreamId,
    number: u32,
}

impl StreamPart {
    /// The stream this is a part of.
    pub fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// Which partition, from 0.
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The gossipsub topic of this partition.
    pub fn topic(&self) -> String {
        format!("{TOPIC_PREFIX}{self}")
    }

    /// The partition that a topic carries; `None` when the topic is not one of ours.
    pub fn from_topic(topic: &str) -> Option<Self> {
        topic.strip_prefix(TOPIC_PREFIX)?.parse().ok()
    }
}

impl fmt::Display for StreamPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.stream, self.number)
    }
}

impl fmt::Debug for StreamPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for StreamPart {
    type Err = StreamIdError;
    /// `id#n`; the number is decimal, without sign or leading zeros, so that one part has one name.
    fn from_str(text: &str) -> Result<Self, StreamIdError> {
        let (id, number) = text.rsplit_once('#').ok_or(StreamIdError::NoPartition)?;
        let parsed = number.parse::<u32>().ok().filter(|n| n.to_string() == number);
        StreamId::new(id)?.part(parsed.ok_or_else(|| StreamIdError::Partition { got: number.into() })?)
    }
}

/// Which partition a message goes to: by number or by key, never both.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Partition {
    /// This one.
    Number(u32),
    /// The one this key maps to, the same for every publisher and for ever.
    Key(String),
}

impl Default for Partition {
    fn default() -> Self {
        Self::Number(0)
    }
}

impl Partition {
    /// The number, given how many partitions the stream has. A key maps to `SHA-256(key)[0..8] mod count`, big-endian.
    ///
    /// # Errors
    /// [`StreamIdError::PartitionRange`] when a number is not below `count`.
    pub fn number(&self, count: u32) -> Result<u32, StreamIdError> {
        match self {
            Self::Number(number) if *number < count => Ok(*number),
            Self::Number(number) => Err(StreamIdError::PartitionRange { got: *number, count }),
            Self::Key(key) => {
                let digest = Sha256::digest(key.as_bytes());
                let head = digest.iter().take(8).fold(0u64, |n, byte| (n << 8) | u64::from(*byte));
                Ok((head % u64::from(count.max(1))) as u32)
            }
        }
    }
}

/// Why a stream id, part or partition is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StreamIdError {
    /// Over the limit.
    #[error("a stream id has at most {MAX_STREAM_ID_LEN} bytes, this one has {got}")]
    TooLong {
        /// Its length in bytes.
        got: usize,
    },
    /// Not visible ASCII, or a `#`.
    #[error("a stream id is visible ASCII without '#', found {found:?}")]
    Character {
        /// The first wrong character.
        found: char,
    },
    /// Nothing after the owner.
    #[error("a stream id is owner/path, the path is missing")]
    NoPath,
    /// A path alone.
    #[error("a stream id is owner/path, the owner is missing before {path:?}")]
    NoOwner {
        /// What stood there.
        path: String,
    },
    /// A path that has no name somewhere between its slashes, or what a file system takes for a way elsewhere.
    #[error("{path:?} is no path of a stream: between its slashes stand names, none of them empty, '.' or '..'")]
    Segment {
        /// The path.
        path: String,
    },
    /// The part before the first `/`.
    #[error("the owner of a stream id is a lower-case address (0x and 40 hex digits) or an ENS name, not {got:?}")]
    Owner {
        /// What stood there.
        got: String,
    },
    /// `id#n` without `#n`.
    #[error("a stream part is id#n, the partition number is missing")]
    NoPartition,
    /// `#n` where n is not a number below 100.
    #[error("a partition is a number from 0 to 99, not {got:?}")]
    Partition {
        /// What stood there.
        got: String,
    },
    /// A number the stream does not have.
    #[error("the stream has {}, there is no partition {got}", partitions(*.count))]
    PartitionRange {
        /// The number asked for.
        got: u32,
        /// How many there are.
        count: u32,
    },
}

fn partitions(count: u32) -> String {
    match count {
        0 | 1 => "one partition, 0".into(),
        _ => format!("{count} partitions, 0 to {}", count - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: &str = "0x00000000000000000000000000000000000000aa";

    #[test]
    fn a_stream_id_is_a_lower_case_owner_and_a_path() {
        let id = StreamId::new(&format!("{OWNER}/prices/btc")).unwrap();
        assert_eq!(id.owner().unwrap().to_string(), OWNER);
        assert_eq!(StreamId::new("sensors.eth/roof").unwrap().owner(), None);
        for wrong in
            ["", "nopath", "0x1/p", "/p", "eth/p", &format!("{OWNER}/"), &format!("{}/p", OWNER.to_uppercase())]
        {
            assert!(StreamId::new(wrong).is_err(), "{wrong:?} must be refused");
        }
        assert!(matches!(StreamId::new(&format!("{OWNER}/a b")), Err(StreamIdError::Character { found: ' ' })));
        assert!(matches!(StreamId::new(&format!("{OWNER}/a#1")), Err(StreamIdError::Character { found: '#' })));
        assert!(matches!(StreamId::new(&format!("{OWNER}/{}", "x".repeat(300))), Err(StreamIdError::TooLong { .. })));
    }

    #[test]
    fn a_path_is_made_of_names_and_what_others_named_otherwise_is_still_read() {
        let owner: UserId = OWNER.parse().unwrap();
        for path in ["prices", "/prices", "sensors/roof", "a/.b/..c/..."] {
            let made = StreamId::of(owner, path).unwrap();
            assert_eq!(made.as_str(), format!("{OWNER}/{}", path.trim_start_matches('/')));
        }
        assert!(matches!(StreamId::of(owner, ""), Err(StreamIdError::Segment { .. })));
        for wrong in [".", "..", "a/../b", "../a", "a/..", "a//b", "a/", "//a", "/../a", "a/./b"] {
            assert!(matches!(StreamId::of(owner, wrong), Err(StreamIdError::Segment { .. })), "{wrong:?}");
            let read = StreamId::new(&format!("{OWNER}/{wrong}")).unwrap();
            assert!(read.as_str().ends_with(wrong), "whatever a contract has on record can be named");
        }
    }

    #[test]
    fn a_partition_that_is_none_is_told_beside_those_that_are() {
        let told = |count| Partition::Number(100).number(count).unwrap_err().to_string();
        assert_eq!(told(1), "the stream has one partition, 0, there is no partition 100");
        assert_eq!(told(3), "the stream has 3 partitions, 0 to 2, there is no partition 100");
    }

    #[test]
    fn a_topic_and_its_part_name_each_other_in_one_way_only() {
        let part = StreamId::new(&format!("{OWNER}/p")).unwrap().part(7).unwrap();
        assert_eq!(StreamPart::from_topic(&part.topic()), Some(part));
        for wrong in [format!("{OWNER}/p#07"), format!("{OWNER}/p#+7"), format!("{OWNER}/p#100"), format!("{OWNER}/p")]
        {
            assert!(wrong.parse::<StreamPart>().is_err(), "{wrong:?} must be refused");
        }
    }

    #[test]
    fn a_partition_key_always_maps_to_one_partition_and_a_number_must_exist() {
        let key = Partition::Key("sensor-7".into());
        assert_eq!(key.number(100), key.number(100));
        // Frozen: another implementation must map it the same way.
        assert_eq!(key.number(100), Ok(56));
        let used = (0..1000).map(|n| Partition::Key(n.to_string()).number(10).unwrap());
        assert_eq!(used.collect::<std::collections::BTreeSet<_>>().len(), 10);
        assert_eq!(Partition::Number(3).number(3), Err(StreamIdError::PartitionRange { got: 3, count: 3 }));
    }
}
