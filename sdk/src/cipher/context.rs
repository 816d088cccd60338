//! What a ciphertext belongs to, as bytes without ambiguity.

use veilcast_key_store::{KeyId, KeyScope};

/// HKDF info and associated data: every part is preceded by its length, so that no two contexts encode alike.
#[derive(Default)]
pub(super) struct Context(Vec<u8>);

impl Context {
    /// Starts with the tag of a purpose.
    pub(super) fn of(tag: &str) -> Self {
        Self::default().part(tag.as_bytes())
    }

    /// `u32 length, big-endian | bytes`.
    pub(super) fn part(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        self.0.extend_from_slice(bytes);
        self
    }

    /// Publisher and stream.
    pub(super) fn scope(self, scope: &KeyScope) -> Self {
        self.part(scope.publisher()).part(scope.stream().as_bytes())
    }

    /// A key id.
    pub(super) fn key(self, id: &KeyId) -> Self {
        self.part(id.as_str().as_bytes())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}
