//! An opened data folder: identity and store.

use std::sync::Arc;

use tokio::runtime::Handle;
use veilcast::audit::AuditLog;
use veilcast::client::{Client, KeyUpdateMethod};
use veilcast::exchange::HistoryPolicies;
use veilcast::identity::KeystoreError;
use veilcast::key_ring::{self, RingPrefix};
use veilcast::key_store::{GroupKey, KeyId, KeyOrigin, KeyStore, RecordStore, SledKeyStore, Unlock};
use veilcast::permission::{AccessList, Issuer, LocalRegistry, PermissionSource, SignedGrants};
use veilcast::publisher::{GrantLedger, Holder, KeyPolicy};
use veilcast::{Identity, StreamId, UserId};

use crate::args::{Kept, Registry, RegistryArgs, Shared};
use crate::chain::{self, ChainFailure};
use crate::commands::now;
use crate::data_dir::DataDir;
use crate::failure::Failure;
use crate::output::Output;
use crate::unlock::{self, UnlockError};

/// Identity and store of one data folder, held by this process alone until dropped.
///
/// Where a client runs on the store, everything that it has in memory is changed through it, so that it counts at once; that waits,
/// and is for threads that may.
#[derive(Clone)]
pub(crate) struct Session {
    pub(crate) identity: Identity,
    pub(crate) store: Arc<SledKeyStore>,
    /// What runs on it, and where.
    running: Option<(Client, Handle)>,
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
        Ok(Self { identity, store, running: None })
    }

    /// The same folder, once a client runs on it in this runtime.
    pub(crate) fn running(self, client: Client) -> Self {
        Self { running: Some((client, Handle::current())), ..self }
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
        Ok(Self { identity, store, running: None })
    }

    fn records(&self) -> Arc<dyn RecordStore> {
        self.store.clone()
    }

    fn client(&self) -> Option<&Client> {
        self.running.as_ref().map(|(client, _)| client)
    }

    /// The outcome of what the client that runs does; `None` where none does.
    fn by_client<'a, T, F>(&'a self, work: impl FnOnce(&'a Client) -> F) -> Option<T>
    where
        F: Future<Output = T> + 'a,
    {
        self.running.as_ref().map(|(client, runtime)| runtime.block_on(work(client)))
    }

    /// The streams and grants kept in the store.
    pub(crate) fn registry(&self) -> Arc<LocalRegistry> {
        let own = || Arc::new(LocalRegistry::new(self.records()));
        self.client().map_or_else(own, |client| client.registry().clone())
    }

    /// What owners signed, kept in the store.
    pub(crate) fn signed_grants(&self) -> Arc<SignedGrants> {
        let own = || Arc::new(SignedGrants::new(self.records()));
        self.client().map_or_else(own, |client| client.signed_grants().clone())
    }

    /// Signs for the streams of this identity.
    pub(crate) fn issuer(&self) -> Arc<Issuer> {
        let own = || Arc::new(Issuer::new(self.identity.clone(), self.signed_grants()));
        self.client().map_or_else(own, |client| client.issuer().clone())
    }

    /// Who decides about permissions.
    pub(crate) fn source(&self, args: &RegistryArgs) -> Result<Arc<dyn PermissionSource>, ChainFailure> {
        Ok(match args.named() {
            Registry::Kept(Kept::Local) => self.registry(),
            Registry::Kept(Kept::Grants) => self.signed_grants(),
            Registry::Chain(deployment) => Arc::new(chain::open(deployment, &args.chain)?),
        })
    }

    /// Whom this identity serves, of those whom a registry allows: the lists are the same beside any of them.
    pub(crate) fn access(&self) -> Arc<AccessList> {
        let own = || Arc::new(AccessList::new(self.registry(), self.records(), self.identity.user()));
        self.client().map_or_else(own, |client| client.access_list().clone())
    }

    /// How far back the keys of streams are handed out.
    pub(crate) fn histories(&self) -> HistoryPolicies {
        HistoryPolicies::new(self.records())
    }

    /// When the key of a stream changes by itself.
    pub(crate) fn set_key_policy(&self, stream: &StreamId, policy: KeyPolicy) -> Result<(), Failure> {
        match self.by_client(|client| client.set_key_policy(stream, policy)) {
            Some(set) => Ok(set?),
            None => Ok(policy.save(&*self.store, stream)?),
        }
    }

    /// Puts in a key agreed on beforehand; whoever reads under it here is told.
    pub(crate) fn add_key(&self, key: &GroupKey, publisher: UserId, stream: &StreamId) -> Result<(), Failure> {
        if let Some(added) = self.by_client(|client| client.add_encryption_key(key, publisher, stream)) {
            return Ok(added?);
        }
        let since = now().as_millis();
        Ok(self.store.add(&veilcast::scope(publisher, stream), key, since, None, KeyOrigin::PreAgreed)?)
    }

    /// Publishes with a key that was put in, from the next message on.
    pub(crate) fn use_key(&self, key: &GroupKey, stream: &StreamId) -> Result<(), Failure> {
        let by = |client| Client::update_encryption_key(client, stream, KeyUpdateMethod::Rekey, Some(key.clone()));
        if let Some(used) = self.by_client(by) {
            return Ok(used.map(drop)?);
        }
        let scope = veilcast::scope(self.identity.user(), stream);
        Ok(self.store.make_current(&scope, key, now().as_millis())?)
    }

    /// Puts a key into a ring.
    pub(crate) fn add_ring_key(&self, prefix: &RingPrefix, key: &GroupKey) -> Result<(), Failure> {
        match self.by_client(|client| client.add_ring_key(prefix, key)) {
            Some(added) => Ok(added?),
            None => Ok(key_ring::add(&*self.store, prefix, key, now().as_millis())?),
        }
    }

    /// Publishes with another key of a ring.
    pub(crate) fn use_ring_key(&self, prefix: &RingPrefix, key: &KeyId) -> Result<(), Failure> {
        match self.by_client(|client| client.use_ring_key(prefix, key)) {
            Some(used) => Ok(used?),
            None => Ok(key_ring::make_current(&*self.store, prefix, key, now().as_millis())?),
        }
    }

    /// Takes a key out of a ring.
    pub(crate) fn remove_ring_key(&self, prefix: &RingPrefix, key: &KeyId) -> Result<(), Failure> {
        match self.by_client(|client| client.remove_ring_key(prefix, key)) {
            Some(removed) => Ok(removed?),
            None => Ok(key_ring::remove(&*self.store, prefix, key)?),
        }
    }

    /// The account of what this identity gave and refused.
    pub(crate) fn audit(&self) -> Arc<AuditLog> {
        let own = || Arc::new(AuditLog::new(self.records(), self.identity.user()));
        self.by_client(Client::audit_log).unwrap_or_else(own)
    }

    /// Who was given keys of this identity's, also if he was refused since.
    pub(crate) fn recipients(&self, stream: &StreamId) -> Result<Vec<Holder>, Failure> {
        match self.by_client(|client| client.recipients(stream)) {
            Some(recipients) => Ok(recipients?),
            None => Ok(GrantLedger::new(self.records(), self.identity.user()).recipients(stream)?),
        }
    }

    /// Who holds keys of this identity's.
    pub(crate) fn holders(&self, stream: &StreamId) -> Result<Vec<Holder>, Failure> {
        match self.by_client(|client| client.holders(stream)) {
            Some(holders) => Ok(holders?),
            None => Ok(GrantLedger::new(self.records(), self.identity.user()).holders(stream)?),
        }
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

/// The identity of a folder, with what opens it.
pub(crate) fn load_identity(dir: &DataDir, unlock: &Unlock) -> Result<Identity, Failure> {
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
