//! An opened data folder: identity and store.

use std::sync::Arc;

use veilcast::Identity;
use veilcast::audit::AuditLog;
use veilcast::exchange::HistoryPolicies;
use veilcast::identity::KeystoreError;
use veilcast::key_store::{KeyStore, RecordStore, SledKeyStore, Unlock};
use veilcast::permission::{AccessList, Issuer, LocalRegistry, PermissionSource, SignedGrants};
use veilcast::publisher::GrantLedger;

use crate::args::{Kept, Registry, RegistryArgs, Shared};
use crate::chain::{self, ChainFailure};
use crate::data_dir::DataDir;
use crate::failure::Failure;
use crate::output::Output;
use crate::unlock::{self, UnlockError};

/// Identity and store of one data folder, held by this process alone until dropped.
pub(crate) struct Session {
    pub(crate) identity: Identity,
    pub(crate) store: Arc<SledKeyStore>,
}

/// The identity alone, which needs no store: another process may have it open.
pub(crate) fn identity(shared: &Shared) -> Result<Identity, Failure> {
    let dir = DataDir::find(shared.data_dir.as_deref())?;
    let unlock = unlock_identity(&dir, shared)?;
    load_identity(&dir, &unlock)
}

impl Session {
    /// Opens a folder that has an identity.
    pub(crate) fn open(shared: &Shared) -> Result<Self, Failure> {
        let dir = DataDir::find(shared.data_dir.as_deref())?;
        let unlock = unlock_identity(&dir, shared)?;
        Self::open_with(&dir, &unlock)
    }

    /// Opens a folder that has an identity with what opens it.
    pub(crate) fn open_with(dir: &DataDir, unlock: &Unlock) -> Result<Self, Failure> {
        // The identity first: a store would be made with whatever passphrase was typed, also a wrong one.
        let identity = load_identity(dir, unlock)?;
        // A key file is made together with the store, so that where there is only one of them the other was lost. An identity
        // under a passphrase may have come alone, from elsewhere.
        if matches!(unlock, Unlock::KeyFile(_)) && !dir.has_store() {
            return Err(Failure::StoreLost { folder: dir.path().into() });
        }
        let store = open_store(dir, unlock)?;
        Ok(Self { identity, store })
    }

    /// Makes an identity in a folder that has none. A key file that had to be made is said in plain words.
    pub(crate) fn create(shared: &Shared, output: Output) -> Result<Self, Failure> {
        let dir = DataDir::find(shared.data_dir.as_deref())?;
        if dir.identity().exists() {
            let path = dir.identity();
            return Err(veilcast::identity::KeystoreError::Exists { path }.into());
        }
        dir.create()?;
        let (fresh, known) = (!dir.key_file().exists(), dir.has_store());
        let unlock = unlock::find(&dir, shared.passphrase_file.as_deref())?;
        // The store first: it makes the key file, and a passphrase that is not the store's ends here.
        let store = open_store(&dir, &unlock)?;
        if known && !is_empty(&store)? {
            return Err(Failure::IdentityLost { folder: dir.path().into() });
        }
        if let (true, Unlock::KeyFile(path)) = (fresh, &unlock) {
            output.note("key_file_made", key_file_words(path));
        }
        let identity = Identity::generate(&mut rand::rng());
        identity.save_keystore(&dir.identity(), &unlock::identity_password(&unlock)?)?;
        Ok(Self { identity, store })
    }

    /// The streams and grants kept in the store.
    pub(crate) fn registry(&self) -> LocalRegistry {
        LocalRegistry::new(Arc::clone(&self.store) as Arc<dyn RecordStore>)
    }

    /// What owners signed, kept in the store.
    pub(crate) fn signed_grants(&self) -> Arc<SignedGrants> {
        Arc::new(SignedGrants::new(Arc::clone(&self.store) as Arc<dyn RecordStore>))
    }

    /// Signs for the streams of this identity.
    pub(crate) fn issuer(&self) -> Issuer {
        Issuer::new(self.identity.clone(), self.signed_grants())
    }

    /// Who decides about permissions.
    pub(crate) fn source(&self, args: &RegistryArgs) -> Result<Arc<dyn PermissionSource>, ChainFailure> {
        Ok(match args.named() {
            Registry::Kept(Kept::Local) => Arc::new(self.registry()),
            Registry::Kept(Kept::Grants) => self.signed_grants(),
            Registry::Chain(deployment) => Arc::new(chain::open(deployment, &args.chain)?),
        })
    }

    /// Whom this identity serves, of those whom a registry allows: the lists are the same beside any of them.
    pub(crate) fn access(&self) -> AccessList {
        let store = Arc::clone(&self.store) as Arc<dyn RecordStore>;
        AccessList::new(Arc::new(self.registry()), store, self.identity.user())
    }

    /// How far back the keys of streams are handed out.
    pub(crate) fn histories(&self) -> HistoryPolicies {
        HistoryPolicies::new(Arc::clone(&self.store) as Arc<dyn RecordStore>)
    }

    /// The account of what this identity gave and refused.
    pub(crate) fn audit(&self) -> AuditLog {
        AuditLog::new(Arc::clone(&self.store) as Arc<dyn RecordStore>, self.identity.user())
    }

    /// Who was given keys of this identity's.
    pub(crate) fn ledger(&self) -> GrantLedger {
        GrantLedger::new(Arc::clone(&self.store) as Arc<dyn RecordStore>, self.identity.user())
    }
}

/// What opens a folder that has an identity, asking for it where there is a terminal.
pub(crate) fn unlock_identity(dir: &DataDir, shared: &Shared) -> Result<Unlock, Failure> {
    must_have_identity(dir)?;
    Ok(unlock::find(dir, shared.passphrase_file.as_deref())?)
}

/// That there is none is said with what to do about it: making another one is of no use where there was one.
pub(crate) fn must_have_identity(dir: &DataDir) -> Result<(), Failure> {
    let folder = || dir.path().into();
    match dir.has_identity()? {
        true => Ok(()),
        false if dir.has_store() => Err(Failure::IdentityLost { folder: folder() }),
        false => Err(Failure::NoIdentity { folder: folder() }),
    }
}

fn load_identity(dir: &DataDir, unlock: &Unlock) -> Result<Identity, Failure> {
    // Nobody typed what a key file holds: if it does not fit, the file is what is wrong.
    let misfit = |failure: Failure| {
        let is_misfit = matches!(
            failure,
            Failure::Keystore(KeystoreError::WrongPassword { .. })
                | Failure::Unlock(UnlockError::NotText { .. } | UnlockError::TooLong { .. })
        );
        match unlock {
            Unlock::KeyFile(path) if is_misfit => Failure::KeyFileMisfit { path: path.clone() },
            _ => failure,
        }
    };
    let password = unlock::identity_password(unlock).map_err(|error| misfit(error.into()))?;
    Identity::load_keystore(&dir.identity(), &password).map_err(|error| misfit(error.into()))
}

/// Whether nothing was ever kept in it: then making an identity was interrupted, and may be done again.
fn is_empty(store: &Arc<SledKeyStore>) -> Result<bool, Failure> {
    let records = || Arc::clone(store) as Arc<dyn RecordStore>;
    let streams = LocalRegistry::new(records()).streams()?;
    Ok(streams.is_empty() && store.scopes()?.is_empty() && SignedGrants::new(records()).streams()?.is_empty())
}

fn open_store(dir: &DataDir, unlock: &Unlock) -> Result<Arc<SledKeyStore>, Failure> {
    Ok(Arc::new(SledKeyStore::open(&dir.store(), unlock)?))
}

fn key_file_words(path: &std::path::Path) -> String {
    format!(
        "No passphrase was given, so this folder is locked with a key file that only you can read: {}\n\
         Whoever has the folder with this file has your identity and keys; without the file they are lost, so keep a copy.\n\
         For a passphrase instead, make the identity with VEILCAST_PASSPHRASE or --passphrase-file set.",
        path.display()
    )
}
