//! Identities at rest: the Ethereum encrypted JSON keystore (Web3 Secret Storage, version 3).
//!
//! The file is the one every Ethereum wallet reads; ethers does the cryptography. What ethers would trip over in a damaged
//! file (short IVs, absurd scrypt costs) is refused before it sees it, and the file is readable by its owner only.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ethers_signers::{LocalWallet, WalletError};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{Identity, IdentityError, UserId};

/// Largest keystore file read, bytes; real ones have about 500.
const MAX_FILE: u64 = 64 * 1024;
/// Largest `n * r` of scrypt: 256 MiB of memory (`128 * n * r` bytes).
const MAX_SCRYPT_COST: u64 = 2 * 1024 * 1024;
/// Most rounds of PBKDF2.
const MAX_PBKDF2_ROUNDS: u64 = 10_000_000;

impl Identity {
    /// Writes an encrypted keystore to `path` with mode 0600. An existing file is not overwritten.
    ///
    /// Takes about a tenth of a second: scrypt, `n` = 8192.
    ///
    /// # Errors
    /// [`KeystoreError::Exists`], or [`KeystoreError::Io`] when the file cannot be written.
    pub fn save_keystore(&self, path: &Path, password: &str) -> Result<(), KeystoreError> {
        if path.exists() {
            return Err(KeystoreError::Exists { path: path.into() });
        }
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // ethers writes a file with the usual permissions, so it writes into a folder nobody else can enter.
        let private = tempfile::Builder::new().prefix(".identity-").tempdir_in(folder).map_err(io_at(path))?;
        let mut rng = ethers_core::rand::thread_rng();
        LocalWallet::encrypt_keystore(private.path(), &mut rng, *self.expose_secret(), password, Some("key"))
            .map_err(|source| KeystoreError::Wallet { path: path.into(), source })?;
        let json = fs::read(private.path().join("key")).map_err(io_at(path))?;
        let json = with_address(&json, self.user()).ok_or_else(|| KeystoreError::damaged(path, "no JSON object"))?;
        let mut whole = tempfile::NamedTempFile::new_in(private.path()).map_err(io_at(path))?;
        whole.write_all(&json).and_then(|()| whole.as_file().sync_all()).map_err(io_at(path))?;
        // In its place only when it is whole, and never over another: whatever happens, there is an identity or none.
        whole.persist_noclobber(path).map_err(|failed| match failed.error.kind() {
            io::ErrorKind::AlreadyExists => KeystoreError::Exists { path: path.into() },
            _ => io_at(path)(failed.error),
        })?;
        sync_folder(folder).map_err(io_at(path))
    }

    /// The identity of an ethers wallet; its chain id plays no part here.
    ///
    /// # Errors
    /// [`IdentityError`] cannot happen for a wallet that ethers made.
    pub fn from_wallet(wallet: &LocalWallet) -> Result<Self, IdentityError> {
        let secret = Zeroizing::new(<[u8; 32]>::from(wallet.signer().to_bytes()));
        Self::from_secret_bytes(&secret)
    }

    /// Opens an encrypted keystore.
    ///
    /// # Errors
    /// [`KeystoreError::WrongPassword`], or [`KeystoreError::Damaged`] which says what is wrong with the file.
    pub fn load_keystore(path: &Path, password: &str) -> Result<Self, KeystoreError> {
        let json = read_checked(path)?;
        let claimed = address_in(&json);
        let wallet = LocalWallet::decrypt_keystore(path, password).map_err(|source| refused(path, source))?;
        let identity = Self::from_wallet(&wallet).map_err(|_| KeystoreError::damaged(path, "not a secp256k1 key"))?;
        match claimed {
            Some(address) if address != identity.user() => {
                Err(KeystoreError::damaged(path, "the address does not belong to the key"))
            }
            _ => Ok(identity),
        }
    }

    /// The address written in a keystore, without its password; `None` where the file names none.
    ///
    /// # Errors
    /// [`KeystoreError::Damaged`] or [`KeystoreError::Io`].
    pub fn address_of_keystore(path: &Path) -> Result<Option<UserId>, KeystoreError> {
        Ok(address_in(&read_checked(path)?))
    }
}

fn refused(path: &Path, source: WalletError) -> KeystoreError {
    if source.to_string().contains("Mac Mismatch") {
        return KeystoreError::WrongPassword { path: path.into() };
    }
    KeystoreError::Wallet { path: path.into(), source }
}

fn with_address(json: &[u8], user: UserId) -> Option<Vec<u8>> {
    let mut value: Value = serde_json::from_slice(json).ok()?;
    value.as_object_mut()?.insert("address".into(), hex::encode(user.as_bytes()).into());
    serde_json::to_vec_pretty(&value).ok()
}

fn address_in(json: &Value) -> Option<UserId> {
    let text = json.get("address")?.as_str()?;
    format!("0x{}", text.strip_prefix("0x").unwrap_or(text)).to_lowercase().parse().ok()
}

/// A new name is on the disk only when its folder is.
fn sync_folder(folder: &Path) -> io::Result<()> {
    if !cfg!(unix) {
        return Ok(());
    }
    match fs::File::open(folder)?.sync_all() {
        // Some file systems of networks know nothing of the kind.
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        synced => synced,
    }
}

fn read_checked(path: &Path) -> Result<Value, KeystoreError> {
    let size = fs::metadata(path).map_err(io_at(path))?.len();
    if size > MAX_FILE {
        return Err(KeystoreError::damaged(path, "too large for a keystore"));
    }
    let bytes = fs::read(path).map_err(io_at(path))?;
    let json: Value = serde_json::from_slice(&bytes).map_err(|_| KeystoreError::damaged(path, "not JSON"))?;
    match shape_fault(&json) {
        Some(fault) => Err(KeystoreError::damaged(path, fault)),
        None => Ok(json),
    }
}

/// What is wrong with a keystore before any cryptography; `None` when nothing is.
fn shape_fault(json: &Value) -> Option<&'static str> {
    let hex_of = |value: &Value| value.as_str().and_then(|s| hex::decode(s).ok());
    let crypto = &json["crypto"];
    if json["version"] != 3 {
        return Some("not a version 3 keystore");
    }
    if crypto["cipher"] != "aes-128-ctr" {
        return Some("the cipher is not aes-128-ctr");
    }
    if hex_of(&crypto["cipherparams"]["iv"]).is_none_or(|iv| iv.len() != 16) {
        return Some("the IV has not 16 bytes");
    }
    if hex_of(&crypto["ciphertext"]).is_none_or(|text| text.len() != 32) {
        return Some("the ciphertext has not 32 bytes");
    }
    if hex_of(&crypto["mac"]).is_none_or(|mac| mac.len() != 32) {
        return Some("the MAC has not 32 bytes");
    }
    let params = &crypto["kdfparams"];
    let number = |name: &str| params[name].as_u64().unwrap_or(0);
    if number("dklen") != 32 {
        return Some("the derived key has not 32 bytes");
    }
    match crypto["kdf"].as_str() {
        Some("scrypt") => {
            let (n, r, p) = (number("n"), number("r"), number("p"));
            let right = n.is_power_of_two() && n > 1 && r > 0 && (1..=16).contains(&p);
            let fits = n.checked_mul(r).is_some_and(|cost| cost <= MAX_SCRYPT_COST);
            (!(right && fits)).then_some("scrypt parameters out of range")
        }
        Some("pbkdf2") => (!(1..=MAX_PBKDF2_ROUNDS).contains(&number("c"))).then_some("PBKDF2 parameters out of range"),
        _ => Some("the key derivation is neither scrypt nor pbkdf2"),
    }
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> KeystoreError {
    let path = path.to_path_buf();
    move |source| KeystoreError::Io { path, source }
}

/// Why an identity could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeystoreError {
    /// There is a file already; identities are never overwritten.
    #[error("{} exists already; an identity is never overwritten, name another file", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The password does not open it.
    #[error("wrong passphrase for the identity in {}", .path.display())]
    WrongPassword {
        /// The file.
        path: PathBuf,
    },
    /// Not a keystore, or a broken one.
    #[error("{} is not a usable keystore: {fault}; restore it from a copy", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: &'static str,
    },
    /// The file system failed.
    #[error("cannot read or write the identity in {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// ethers refused the file.
    #[error("the identity in {} cannot be opened", .path.display())]
    Wallet {
        /// The file.
        path: PathBuf,
        /// Why.
        source: WalletError,
    },
}

impl KeystoreError {
    fn damaged(path: &Path, fault: &'static str) -> Self {
        Self::Damaged { path: path.into(), fault }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved() -> (tempfile::TempDir, PathBuf, Identity) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity.json");
        let identity = Identity::from_secret_bytes(&[9; 32]).unwrap();
        identity.save_keystore(&path, "correct horse").unwrap();
        (folder, path, identity)
    }

    #[test]
    fn an_identity_survives_its_keystore_and_only_its_password_opens_it() {
        let (_folder, path, identity) = saved();
        assert_eq!(Identity::load_keystore(&path, "correct horse").unwrap().user(), identity.user());
        assert_eq!(Identity::address_of_keystore(&path).unwrap(), Some(identity.user()));
        assert!(matches!(Identity::load_keystore(&path, "wrong"), Err(KeystoreError::WrongPassword { .. })));
        assert!(matches!(identity.save_keystore(&path, "x"), Err(KeystoreError::Exists { .. })));
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&hex::encode([9; 32])), "the secret must not stand in the file");
    }

    #[test]
    fn an_ethers_wallet_and_its_identity_have_one_address() {
        use ethers_signers::Signer;
        let wallet = LocalWallet::new(&mut ethers_core::rand::thread_rng());
        let identity = Identity::from_wallet(&wallet).unwrap();
        assert_eq!(identity.user().as_bytes(), wallet.address().as_fixed_bytes());
    }

    #[cfg(unix)]
    #[test]
    fn a_keystore_is_readable_by_its_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let (_folder, path, _) = saved();
        assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_keystore_is_a_typed_error_and_never_a_panic() {
        let (_folder, path, _) = saved();
        let whole: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let damages: [(&str, Value); 7] = [
            ("/crypto/cipherparams/iv", "00".into()),
            ("/crypto/kdfparams/dklen", 1.into()),
            ("/crypto/kdfparams/n", (1u64 << 31).into()),
            ("/crypto/kdfparams/n", 3.into()),
            ("/crypto/ciphertext", "".into()),
            ("/crypto/cipher", "rot13".into()),
            ("/version", 1.into()),
        ];
        for (place, value) in damages {
            let mut damaged = whole.clone();
            *damaged.pointer_mut(place).unwrap() = value;
            fs::write(&path, damaged.to_string()).unwrap();
            let error = Identity::load_keystore(&path, "correct horse").unwrap_err();
            assert!(matches!(error, KeystoreError::Damaged { .. }), "{place}: {error}");
        }
        fs::write(&path, "not json").unwrap();
        assert!(matches!(Identity::load_keystore(&path, "x"), Err(KeystoreError::Damaged { .. })));
    }
}
