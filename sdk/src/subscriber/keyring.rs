//! The keys a subscription holds ready, and those it was refused.

use std::num::NonZeroUsize;

use lru::LruCache;
use veilcast_key_store::{GroupKey, KeyId};

use super::unread::Unreadable;
use crate::cipher::{MessageCipher, unwrap_next};
use crate::identity::UserId;
use crate::stream::StreamId;
use crate::time::Timestamp;
use crate::wire::{Encryption, KeyUpdate, MessageContent, UpdateKind};

/// A key's full name within one stream.
pub(super) type KeyName = (UserId, KeyId);

/// What became of a message.
#[derive(Debug)]
pub(super) enum Opened {
    /// Readable.
    Plain(Vec<u8>),
    /// Its key is not here.
    Missing,
    /// Its key could not be had a short while ago.
    Refused(Unreadable),
    /// Its key is here and does not open it; `first` the first time this happens to the key.
    Wrong { first: bool },
}

#[derive(Debug)]
struct HeldKey {
    key: GroupKey,
    cipher: MessageCipher,
    found_wrong: bool,
}

/// A key that is not asked for until then.
#[derive(Debug)]
struct Refused {
    until: Timestamp,
    why: Unreadable,
}

#[derive(Debug)]
pub(super) struct Keyring {
    stream: StreamId,
    held: LruCache<KeyName, HeldKey>,
    refused: LruCache<KeyName, Refused>,
    /// Keys are agreed on outside the network, so none is taken from a message.
    agreed_only: bool,
}

impl Keyring {
    pub(super) fn new(stream: StreamId, capacity: NonZeroUsize) -> Self {
        Self { stream, held: LruCache::new(capacity), refused: LruCache::new(capacity), agreed_only: false }
    }

    pub(super) fn hold(&mut self, publisher: UserId, key: GroupKey) {
        let name = (publisher, key.id().clone());
        self.refused.pop(&name);
        let cipher = MessageCipher::new(&crate::scope(publisher, &self.stream), &key);
        self.held.put(name, HeldKey { key, cipher, found_wrong: false });
    }

    /// Everything is looked for again.
    pub(super) fn forget(&mut self, agreed_only: bool) {
        self.held.clear();
        self.refused.clear();
        self.agreed_only = agreed_only;
    }

    pub(super) fn holds(&self, name: &KeyName) -> bool {
        self.held.contains(name)
    }

    /// It is not asked for until then; where nobody said no, unless [`Self::try_again`] comes before.
    pub(super) fn refuse(&mut self, name: KeyName, why: Unreadable, until: Timestamp) {
        self.refused.put(name, Refused { until, why });
    }

    /// What could not be had may be asked for again.
    pub(super) fn try_again(&mut self) {
        let given_up = self.refused.iter().filter(|(_, refused)| refused.why == Unreadable::KeyUnavailable);
        let names: Vec<KeyName> = given_up.map(|(name, _)| name.clone()).collect();
        for name in names {
            self.refused.pop(&name);
        }
    }

    pub(super) fn is_refused(&mut self, now: Timestamp, name: &KeyName) -> bool {
        self.refusal(now, name).is_some()
    }

    fn refusal(&mut self, now: Timestamp, name: &KeyName) -> Option<Unreadable> {
        self.refused.get(name).filter(|refused| now < refused.until).map(|refused| refused.why)
    }

    pub(super) fn open(&mut self, now: Timestamp, content: &MessageContent) -> Opened {
        let Some(name) = key_of(content) else { return Opened::Plain(content.payload.to_vec()) };
        let Some(held) = self.held.get_mut(&name) else {
            return self.refusal(now, &name).map_or(Opened::Missing, Opened::Refused);
        };
        match held.cipher.open(content.header(), &content.payload) {
            Ok(payload) => Opened::Plain(payload),
            Err(_) => Opened::Wrong { first: !std::mem::replace(&mut held.found_wrong, true) },
        }
    }

    /// Takes the keys that ride in a message, wrapped by one held here. They are signed with it, so they count even before
    /// it opens. A wrap that does not open tells nothing: its key is asked for when a message needs it.
    pub(super) fn take_carried(&mut self, content: &MessageContent) -> Vec<GroupKey> {
        let updates = content.key_updates.iter().filter(|update| update.kind == UpdateKind::Rotate);
        updates.filter_map(|update| self.take_one(content.publisher, update)).collect()
    }

    fn take_one(&mut self, publisher: UserId, update: &KeyUpdate) -> Option<GroupKey> {
        if self.agreed_only || self.holds(&(publisher, update.key_id.clone())) {
            return None;
        }
        let by = &self.held.peek(&(publisher, update.wrapped_by.clone()))?.key;
        let scope = crate::scope(publisher, &self.stream);
        let key = unwrap_next(&scope, by, &update.key_id, &update.wrapped).ok()?;
        self.hold(publisher, key.clone());
        Some(key)
    }
}

/// The key a message is sealed with; `None` for plaintext.
pub(super) fn key_of(content: &MessageContent) -> Option<KeyName> {
    match &content.encryption {
        Encryption::None => None,
        Encryption::GroupKey(id) => Some((content.publisher, id.clone())),
    }
}
