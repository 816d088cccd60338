//! The node's network key, kept in the data folder so that its addresses stay the same.

use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use veilcast::client::Keypair;
use zeroize::Zeroizing;

use crate::data_dir::write_private;

/// Most bytes of the file; an Ed25519 key has 68.
const MOST: u64 = 4096;

/// A network key, and the lock that keeps a second node from using it.
pub(super) struct HeldKeypair {
    pub(super) keypair: Keypair,
    _lock: File,
}

/// Reads the key, or makes one the first time: libp2p's own protobuf encoding, mode 0600.
pub(super) fn load_or_make(path: &Path) -> Result<HeldKeypair, NodeKeyError> {
    let fault = |source| NodeKeyError::Io { path: path.into(), source };
    if !path.exists() {
        let made = Keypair::generate_ed25519().to_protobuf_encoding().map(Zeroizing::new);
        let bytes = made.map_err(|_| NodeKeyError::Damaged { path: path.into() })?;
        match write_private(path, &bytes) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            done => done.map_err(fault)?,
        }
    }
    let file = File::open(path).map_err(fault)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(NodeKeyError::InUse { path: path.into() }),
        Err(TryLockError::Error(source)) => return Err(fault(source)),
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(MOST as usize));
    (&file).take(MOST).read_to_end(&mut bytes).map_err(fault)?;
    let keypair = Keypair::from_protobuf_encoding(&bytes).map_err(|_| NodeKeyError::Damaged { path: path.into() })?;
    Ok(HeldKeypair { keypair, _lock: file })
}

/// Why the node has no network key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum NodeKeyError {
    #[error("another veilcast node runs with {}; stop it, or give this one a --data-dir of its own", .path.display())]
    InUse { path: PathBuf },
    #[error("{} holds no network key; restore it, or remove it for a new one (the node's addresses change)", .path.display())]
    Damaged { path: PathBuf },
    #[error("cannot read or write {}: {source}; check the data folder and its permissions", .path.display())]
    Io { path: PathBuf, source: io::Error },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_network_key_stays_the_same_and_serves_one_node_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        let first = load_or_make(&path).unwrap();
        assert!(matches!(load_or_make(&path), Err(NodeKeyError::InUse { .. })));
        let peer = first.keypair.public().to_peer_id();
        drop(first);
        assert_eq!(load_or_make(&path).unwrap().keypair.public().to_peer_id(), peer);
    }

    #[test]
    fn a_damaged_network_key_is_an_error_and_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        std::fs::write(&path, "not a key").unwrap();
        assert!(matches!(load_or_make(&path), Err(NodeKeyError::Damaged { .. })));
        assert_eq!(std::fs::read(&path).unwrap(), b"not a key");
    }
}
