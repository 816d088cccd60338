//! What really was published, made, asked and handed out.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use veilcast::UserId;
use veilcast::key_store::{GroupKey, KeyId};
use veilcast::stream::StreamId;
use veilcast::wire::{MessageRef, RequestId};

use crate::grants::Question;

/// Publisher, chain, place: the full name of a message.
pub(crate) type MessageName = (UserId, [u8; 16], MessageRef);

pub(crate) struct MessageFact {
    pub(crate) stream: StreamId,
    pub(crate) payload: Bytes,
    /// `None` for plaintext.
    pub(crate) key_id: Option<KeyId>,
    /// In true time, as everything here.
    pub(crate) published: u64,
    pub(crate) envelope: Bytes,
}

pub(crate) struct KeyFact {
    pub(crate) publisher: UserId,
    pub(crate) stream: StreamId,
    pub(crate) key: GroupKey,
    /// When it first rode in a message.
    pub(crate) rode: Option<u64>,
}

/// The truth about everything but grants.
#[derive(Default)]
pub(crate) struct Facts {
    pub(crate) messages: BTreeMap<MessageName, MessageFact>,
    pub(crate) keys: BTreeMap<KeyId, KeyFact>,
    /// Requests that the one they name did make.
    pub(crate) asked: BTreeSet<(UserId, RequestId)>,
    /// When the unbroken time of each grant began, by its source's clock.
    began: BTreeMap<Question, u64>,
    /// Keys a publisher wrapped for somebody, by answer or push.
    pub(crate) handed: BTreeSet<(UserId, KeyId)>,
}

impl Facts {
    pub(crate) fn made(&mut self, publisher: UserId, stream: &StreamId, key: &GroupKey) {
        let fact = KeyFact { publisher, stream: stream.clone(), key: key.clone(), rode: None };
        self.keys.entry(key.id().clone()).or_insert(fact);
    }

    /// A grant was given; it goes on from the one before, or begins anew.
    pub(crate) fn begins(&mut self, question: &Question, goes_on: bool, said: u64) {
        let before = self.began.get(question).copied().filter(|_| goes_on);
        self.began.insert(question.clone(), before.map_or(said, |before| before.min(said)));
    }

    pub(crate) fn began(&self, question: &Question) -> Option<u64> {
        self.began.get(question).copied()
    }

    /// The key travels in a message, for everybody who holds the one that wraps it.
    pub(crate) fn rides(&mut self, key_id: &KeyId, now: u64) {
        if let Some(fact) = self.keys.get_mut(key_id) {
            fact.rode = fact.rode.or(Some(now));
        }
    }

    /// Whether this key id is of this publisher and stream.
    pub(crate) fn belongs(&self, publisher: UserId, stream: &StreamId, key_id: &KeyId) -> bool {
        self.keys.get(key_id).is_some_and(|fact| fact.publisher == publisher && &fact.stream == stream)
    }

    /// Whether this is, byte for byte, the key that its publisher made for the stream.
    pub(crate) fn is_true_key(&self, publisher: UserId, stream: &StreamId, key: &GroupKey) -> bool {
        self.belongs(publisher, stream, key.id()) && self.keys[key.id()].key.same_as(key)
    }

    /// Everybody this key was handed to.
    pub(crate) fn holders_of(&self, key_id: &KeyId) -> Vec<UserId> {
        self.handed.iter().filter(|(_, handed)| handed == key_id).map(|(user, _)| *user).collect()
    }
}
