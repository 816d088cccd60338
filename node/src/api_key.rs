//! API keys: what lets an application ask this node, for which streams and what.
//!
//! A key is 32 random bytes as text. It is kept as its SHA-256 alone: a hash without salt or stretching is right for it, since
//! 256 random bits cannot be guessed or tabled, as a password could. It is compared with every key there is, each in constant time.

mod kept;
mod shelf;

use std::fmt;
use std::str::FromStr;

use rand::Rng;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use veilcast::{StreamId, Timestamp};
use zeroize::Zeroizing;

pub(crate) use kept::ApiKeys;
pub(crate) use shelf::{ApiKeyError, add, list, revoke};

/// What every key begins with, so that people and scanners of leaked secrets know one when they see it.
const PREFIX: &str = "veilcast_";

/// What a key allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Verb {
    Publish,
    Subscribe,
    History,
    Keys,
    Permissions,
    Metrics,
    Admin,
}

impl Verb {
    pub(crate) const ALL: [Self; 7] =
        [Self::Publish, Self::Subscribe, Self::History, Self::Keys, Self::Permissions, Self::Metrics, Self::Admin];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::History => "history",
            Self::Keys => "keys",
            Self::Permissions => "permissions",
            Self::Metrics => "metrics",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Verb {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.into_iter().find(|verb| verb.name() == text);
        found.ok_or_else(|| format!("a verb is {}, not {text:?}", Self::ALL.map(Self::name).join(", ")))
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a key is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KeyName(String);

impl KeyName {
    /// Most characters.
    const LONGEST: usize = 64;

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if (1..=Self::LONGEST).contains(&text.len()) && text.chars().all(plain) {
            return Ok(Self(text.into()));
        }
        Err(format!("a name has 1 to {} letters, digits, dots, dashes and underscores", Self::LONGEST))
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The streams a key is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Streams {
    Every,
    These(Vec<StreamId>),
}

impl Streams {
    /// Whether a key for these can do what it is for.
    ///
    /// # Errors
    /// [`ApiKeyError::OfNode`]: a verb that is about the node as a whole, on single streams.
    pub(crate) fn must_suit(&self, verbs: &[Verb]) -> Result<(), ApiKeyError> {
        let of_node = verbs.iter().find(|verb| matches!(verb, Verb::Admin | Verb::Metrics));
        match (self, of_node) {
            (Self::These(_), Some(verb)) => Err(ApiKeyError::OfNode { verb: *verb }),
            _ => Ok(()),
        }
    }
}

/// A key as it is kept.
#[derive(Clone, Debug)]
pub(crate) struct ApiKey {
    pub(crate) name: KeyName,
    hash: [u8; 32],
    pub(crate) verbs: Vec<Verb>,
    pub(crate) streams: Streams,
    pub(crate) created: Timestamp,
}

impl ApiKey {
    /// Makes a key, and its text, which is nowhere else.
    pub(crate) fn make(
        name: KeyName,
        verbs: Vec<Verb>,
        streams: Streams,
        now: Timestamp,
        rng: &mut impl Rng,
    ) -> (Self, Zeroizing<String>) {
        let mut bytes = Zeroizing::new([0u8; 32]);
        rng.fill_bytes(&mut bytes[..]);
        let digits = Zeroizing::new(hex::encode(&bytes[..]));
        let text = Zeroizing::new(format!("{PREFIX}{}", *digits));
        (Self { name, hash: hash(&text), verbs, streams, created: now }, text)
    }

    /// Whether it allows this, on a stream or, where none is named, on the node.
    pub(crate) fn allows(&self, verb: Verb, stream: Option<&StreamId>) -> bool {
        self.verbs.contains(&verb) && stream.map_or(self.streams == Streams::Every, |stream| self.covers(stream))
    }

    /// Whether it is for this stream.
    pub(crate) fn covers(&self, stream: &StreamId) -> bool {
        match &self.streams {
            Streams::Every => true,
            Streams::These(these) => these.contains(stream),
        }
    }

    fn opens(&self, shown: &[u8; 32]) -> bool {
        self.hash.ct_eq(shown).into()
    }
}

fn hash(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(verbs: &[Verb], streams: Streams) -> (ApiKey, Zeroizing<String>) {
        let name = "shop".parse().unwrap();
        ApiKey::make(name, verbs.to_vec(), streams, Timestamp::from_secs(1), &mut rand::rng())
    }

    #[test]
    fn a_key_opens_by_its_whole_text_only_and_is_kept_as_a_hash() {
        let (kept, text) = key(&[Verb::Publish], Streams::Every);
        assert!(kept.opens(&hash(&text)));
        assert!(!kept.opens(&hash(&text[..text.len() - 1])) && !kept.opens(&hash("")));
        assert!(text.starts_with(PREFIX) && text.len() == PREFIX.len() + 64);
        assert!(!format!("{kept:?}").contains(&text[PREFIX.len()..]));
        assert_ne!(*key(&[Verb::Publish], Streams::Every).1, *text);
    }

    #[test]
    fn a_key_allows_its_verbs_on_its_streams_and_nothing_on_the_node_unless_it_is_for_every_stream() {
        let [mine, other]: [StreamId; 2] = ["a.eth/x", "a.eth/y"].map(|id| id.parse().unwrap());
        let (kept, _) = key(&[Verb::Publish, Verb::Admin], Streams::These(vec![mine.clone()]));
        assert!(kept.allows(Verb::Publish, Some(&mine)));
        assert!(!kept.allows(Verb::Publish, Some(&other)) && !kept.allows(Verb::Subscribe, Some(&mine)));
        assert!(!kept.allows(Verb::Admin, None));
        let (every, _) = key(&[Verb::Admin], Streams::Every);
        assert!(every.allows(Verb::Admin, None) && !every.allows(Verb::Publish, Some(&mine)));
    }

    #[test]
    fn names_are_plain() {
        for wrong in ["", "a b", "a/b", "ä", &"x".repeat(65)] {
            assert!(wrong.parse::<KeyName>().is_err(), "{wrong:?}");
        }
        assert_eq!("till-1.b_2".parse::<KeyName>().unwrap().as_str(), "till-1.b_2");
    }
}
