//! What opens a store: a passphrase or a key file.

use std::{
    fmt,
    fs::File,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use argon2::{Algorithm, Argon2, Params, Version};
use rand_core::Rng;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::{
    files,
    seal::{DATA_KEY_LEN, DataKey},
};
use crate::StoreError;

const KEY_FILE_LEN: usize = 32;
const KEY_FILE_TAG: &[u8] = b"veilcast key-store key file v1";
/// No honest header asks for more; a made-up one must not cost the machine its memory.
const MAX_MEMORY_KIB: u32 = 4 * 1024 * 1024;
const MAX_PASSES: u32 = 1024;
const MAX_LANES: u32 = 64;

/// What opens a store.
#[derive(Clone)]
pub enum Unlock {
    /// Something a person knows; stretched with Argon2id.
    Passphrase(Zeroizing<String>),
    /// A file with 32 random bytes in hex, readable by its owner only. Made along with a new store if it is not there.
    KeyFile(PathBuf),
}

impl Unlock {
    /// A passphrase, wiped when dropped.
    pub fn passphrase(text: impl Into<String>) -> Self {
        Self::Passphrase(Zeroizing::new(text.into()))
    }
}

impl fmt::Debug for Unlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passphrase(_) => f.debug_tuple("Passphrase").finish_non_exhaustive(),
            Self::KeyFile(path) => f.debug_tuple("KeyFile").field(path).finish(),
        }
    }
}

/// What one guess at a passphrase costs: the defaults take about a tenth of a second and 64 MiB.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KdfCost {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// How many times to go over it.
    pub passes: u32,
    /// Lanes, which could be filled in parallel.
    pub lanes: u32,
}

impl Default for KdfCost {
    fn default() -> Self {
        Self { memory_kib: 64 * 1024, passes: 3, lanes: 1 }
    }
}

impl KdfCost {
    fn params(self) -> Result<Params, StoreError> {
        if self.memory_kib > MAX_MEMORY_KIB || self.passes > MAX_PASSES || self.lanes > MAX_LANES {
            let rule = format!("at most {MAX_MEMORY_KIB} KiB, {MAX_PASSES} passes and {MAX_LANES} lanes");
            return Err(StoreError::KdfCost { rule });
        }
        Params::new(self.memory_kib, self.passes, self.lanes, Some(DATA_KEY_LEN))
            .map_err(|fault| StoreError::KdfCost { rule: fault.to_string() })
    }
}

/// The key that wraps the data key.
pub(crate) fn from_passphrase(text: &str, salt: &[u8], cost: KdfCost) -> Result<DataKey, StoreError> {
    let params = cost.params()?;
    let mut key: DataKey = Box::default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into(text.as_bytes(), salt, &mut key[..])
        .map_err(|fault| StoreError::KdfCost { rule: fault.to_string() })?;
    Ok(key)
}

/// The key that wraps the data key, from a file that exists.
pub(super) fn from_key_file(path: &Path, salt: &[u8]) -> Result<DataKey, StoreError> {
    let secret = read_key_file(path)?;
    let mut digest = Sha256::new_with_prefix(KEY_FILE_TAG).chain_update(salt).chain_update(&secret[..]);
    let mut key: DataKey = Box::default();
    digest.finalize_into_reset((&mut **key).into());
    Ok(key)
}

/// For a new store: the file is made unless it is there already, and is durable before anything depends on it.
pub(super) fn make_key_file(path: &Path) -> Result<(), StoreError> {
    let action = || format!("make the key file {}", path.display());
    let mut file = match files::private().write(true).create_new(true).open(path) {
        Ok(file) => file,
        Err(fault) if fault.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
        Err(fault) => return Err(StoreError::io(action())(fault)),
    };
    let mut secret = Zeroizing::new([0; KEY_FILE_LEN]);
    rand::rng().fill_bytes(&mut secret[..]);
    let mut text = Zeroizing::new([0; 2 * KEY_FILE_LEN + 1]);
    hex::encode_to_slice(&secret[..], &mut text[..2 * KEY_FILE_LEN]).expect("two characters a byte");
    text[2 * KEY_FILE_LEN] = b'\n';
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    file.write_all(&text[..])
        .and_then(|()| file.sync_all())
        .and_then(|()| files::sync_dir(parent))
        .map_err(StoreError::io(action()))
}

fn read_key_file(path: &Path) -> Result<Zeroizing<[u8; KEY_FILE_LEN]>, StoreError> {
    let action = || format!("read the key file {}", path.display());
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => {
            return Err(StoreError::KeyFileMissing { path: path.to_owned() });
        }
        Err(fault) => return Err(StoreError::io(action())(fault)),
    };
    check_permissions(path, &file)?;
    // One byte more than the longest good file, so that a longer one shows.
    let mut text = Zeroizing::new(Vec::with_capacity(2 * KEY_FILE_LEN + 3));
    (&mut file).take(2 * KEY_FILE_LEN as u64 + 3).read_to_end(&mut text).map_err(StoreError::io(action()))?;
    let mut secret = Zeroizing::new([0; KEY_FILE_LEN]);
    hex::decode_to_slice(text.trim_ascii_end(), &mut secret[..])
        .map_err(|_| StoreError::KeyFileFormat { path: path.to_owned() })?;
    Ok(secret)
}

#[cfg(unix)]
fn check_permissions(path: &Path, file: &File) -> Result<(), StoreError> {
    use std::os::unix::fs::PermissionsExt;

    let found = file.metadata().map_err(StoreError::io(format!("read the key file {}", path.display())))?;
    match found.permissions().mode() & 0o7777 {
        mode if mode & 0o077 != 0 => Err(StoreError::KeyFilePermissions { path: path.to_owned(), mode }),
        _ => Ok(()),
    }
}

#[cfg(not(unix))]
fn check_permissions(_: &Path, _: &File) -> Result<(), StoreError> {
    Ok(()) // There are no mode bits to read; the directory's access list decides.
}
