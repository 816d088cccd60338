//! What the benches have in common: one identity, one stream, one key, one message.

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::StdRng;
use veilcast::cipher::MessageCipher;
use veilcast::key_store::{GroupKey, KeyId};
use veilcast::message::{Draft, compose};
use veilcast::wire::{MessageContent, MessageRef, Received};
use veilcast::{Identity, Payload, StreamId, Timestamp};

/// A publisher with a derived key, ready to seal.
#[derive(Debug)]
pub struct Desk {
    /// Who signs.
    pub identity: Identity,
    /// The stream.
    pub stream: StreamId,
    /// The group key.
    pub key: GroupKey,
    cipher: MessageCipher,
    rng: StdRng,
}

impl Desk {
    /// Always the same one.
    ///
    /// # Panics
    /// Never: the constants are valid.
    pub fn new() -> Self {
        let identity = Identity::from_secret_bytes(&[1; 32]).expect("a valid secret");
        let stream = StreamId::of(identity.user(), "bench").expect("a valid path");
        let key = GroupKey::new(KeyId::new("bench").expect("a valid id"), &[2; 32]).expect("32 bytes");
        let cipher = MessageCipher::new(&veilcast::scope(identity.user(), &stream), &key);
        Self { identity, stream, key, cipher, rng: StdRng::seed_from_u64(1) }
    }

    /// Seals and signs one message of `payload`, as publishing does.
    ///
    /// # Panics
    /// Never: the draft is valid.
    pub fn seal_and_sign(&mut self, payload: &Payload) -> Bytes {
        let draft = Draft {
            part: self.stream.part(0).expect("partition 0"),
            chain: [3; 16],
            at: MessageRef { timestamp: Timestamp::from_millis(1_700_000_000_000), sequence: 7 },
            previous: None,
            key_updates: Vec::new(),
        };
        let sealed = compose(draft, payload, Some((self.key.id(), &self.cipher)), &self.identity, &mut self.rng);
        sealed.expect("a valid draft").envelope().clone()
    }

    /// Decodes, verifies and opens a message, as subscribing does. The length of the plaintext.
    ///
    /// # Panics
    /// When the envelope is not one that [`Desk::seal_and_sign`] made.
    pub fn verify_and_open(&self, envelope: &Bytes) -> usize {
        let verified = Received::<MessageContent>::decode(envelope).expect("well-formed").verify().expect("signed");
        self.cipher.open(verified.content().header(), &verified.content().payload).expect("sealed here").len()
    }
}

impl Default for Desk {
    fn default() -> Self {
        Self::new()
    }
}
