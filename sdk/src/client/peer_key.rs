//! The libp2p key of a client: made once for each identity and store, and kept there.
//!
//! Others know a device of a publisher by its peer id, and a device is its store: with a new peer id at every start they would
//! look for one that is gone, and not know what they have had from it already.

use libp2p::identity::Keypair;
use veilcast_key_store::Store;
use zeroize::{Zeroize, Zeroizing};

use super::error::ClientError;
use crate::identity::UserId;

const TABLE: &str = "peer";

/// The key kept for this identity. One that cannot be read gives way to a new one.
pub(super) fn load_or_make(store: &dyn Store, user: UserId) -> Result<Keypair, ClientError> {
    let kept = store.get(TABLE, user.as_bytes())?.map(Zeroizing::new);
    if let Some(keypair) = kept.and_then(|kept| Keypair::from_protobuf_encoding(&kept).ok()) {
        return Ok(keypair);
    }
    let made = Keypair::generate_ed25519();
    // A key of this kind always has an encoding; without one the next start makes another.
    if let Ok(encoded) = made.to_protobuf_encoding() {
        let mut change = [(user.as_bytes().to_vec(), Some(encoded))];
        let written = store.write(TABLE, &change);
        change[0].1.zeroize();
        written?;
    }
    Ok(made)
}

#[cfg(test)]
mod tests {
    use veilcast_key_store::{MemoryKeyStore, RecordStore};

    use super::*;

    #[test]
    fn a_store_keeps_one_peer_for_each_identity_and_makes_another_only_for_one_it_cannot_read() {
        let store = MemoryKeyStore::new();
        let (a, b) = (UserId::from_bytes([1; 20]), UserId::from_bytes([2; 20]));
        let peer = |user| load_or_make(&store, user).unwrap().public().to_peer_id();
        let first = peer(a);
        assert_eq!(peer(a), first);
        assert_ne!(peer(b), first);
        store.write(TABLE, &[(a.as_bytes().to_vec(), Some(b"nonsense".to_vec()))]).unwrap();
        let second = peer(a);
        assert_ne!(second, first);
        assert_eq!(peer(a), second);
    }
}
