//! Fills a store, so that the process that measures it has not held its keys in memory.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use veilcast::key_store::{GroupKey, KeyId, KeyOrigin, KeyScope, KeyStore, SledKeyStore, StoredKey, Unlock};

use super::{PATH, identity};
use crate::Outcome;
use crate::child::{Command, Parent};

/// Keys added with one wait for the disk.
const AT_ONCE: u64 = 4096;
/// How long each key was in use, milliseconds.
const PERIOD: u64 = 1000;

/// How many keys to add; answered when they are on disk and the store is closed.
#[derive(Debug, Serialize, Deserialize)]
pub struct Fill(pub u64);

/// What it is told at start.
#[derive(Debug, Serialize, Deserialize)]
pub struct FillSetup {
    /// Where the store is.
    pub folder: PathBuf,
}

impl Command for Fill {
    const ROLE: &'static str = "filler";
    type Setup = FillSetup;
    type Greeting = ();
    type Answer = ();
}

pub(super) async fn run(setup: FillSetup, mut parent: Parent<Fill>) -> Outcome<()> {
    parent.greet(())?;
    loop {
        let Fill(count) = parent.hear().await;
        fill(&open(&setup.folder)?, count)?;
        parent.answer(())?;
    }
}

/// Opens the store in this folder.
///
/// # Errors
/// The store's.
pub fn open(folder: &std::path::Path) -> Outcome<SledKeyStore> {
    Ok(SledKeyStore::open(&folder.join("store"), &Unlock::KeyFile(folder.join("key")))?)
}

/// Adds the keys 0 to `count`.
///
/// # Errors
/// The store's.
pub fn fill(store: &dyn KeyStore, count: u64) -> Outcome<()> {
    let scope = scope()?;
    for first in (0..count).step_by(AT_ONCE as usize) {
        let keys = (first..count.min(first + AT_ONCE)).map(key).collect::<Outcome<Vec<_>>>()?;
        store.add_all(&scope, &keys)?;
    }
    Ok(())
}

/// Whose keys they are.
///
/// # Errors
/// None: the path is valid.
pub fn scope() -> Outcome<KeyScope> {
    Ok(KeyScope::new(*identity(0)?.user().as_bytes(), &format!("{}/{PATH}", identity(0)?.user())))
}

/// The id of the key of this number; ids of neighbours are far apart, as those of real keys are.
///
/// # Errors
/// None: every number makes a valid id.
pub fn id(number: u64) -> Outcome<KeyId> {
    Ok(KeyId::new(&format!("{:016x}{number:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15)))?)
}

/// The key of this number.
///
/// # Errors
/// None: every number makes a valid key.
pub fn key(number: u64) -> Outcome<StoredKey> {
    let mut secret = [7; 32];
    secret[..8].copy_from_slice(&number.to_be_bytes());
    let key = GroupKey::new(id(number)?, &secret)?;
    let (since, until) = (number * PERIOD, Some((number + 1) * PERIOD));
    Ok(StoredKey { key, since, until, origin: KeyOrigin::Received })
}
