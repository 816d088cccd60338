//! A storage node over a store that was filled before.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use veilcast::client::{Client, StreamOptions};
use veilcast::storage::{SledMessageStore, StorageLimits};

use super::{PATH, config, identity, stream};
use crate::Outcome;
use crate::child::{Command, Parent};

/// Nothing can be said to it: it serves until its parent is gone.
#[derive(Debug, Serialize, Deserialize)]
pub enum Keep {}

/// What it is told at start.
#[derive(Debug, Serialize, Deserialize)]
pub struct KeepSetup {
    /// Where the store is.
    pub folder: PathBuf,
    /// Its page cache, MiB.
    pub cache_mib: u64,
}

impl Command for Keep {
    const ROLE: &'static str = "keeper";
    type Setup = KeepSetup;
    /// Where it listens.
    type Greeting = String;
    type Answer = ();
}

pub(super) async fn run(setup: KeepSetup, mut parent: Parent<Keep>) -> Outcome<()> {
    let (store, mut config) = (Arc::new(open(&setup.folder, setup.cache_mib)?), config());
    config.rsa_ahead = false;
    let builder = Client::builder(identity(0)?).config(config).listen("/ip4/127.0.0.1/tcp/0".parse()?);
    let node = builder.storage(store, [stream()?]).start().await?;
    node.create_stream(PATH, StreamOptions::default()).await?;
    parent.greet(node.addresses().await.first().ok_or("it listens")?.to_string())?;
    match parent.hear().await {}
}

/// Opens the messages in this folder.
///
/// # Errors
/// The store's.
pub fn open(folder: &Path, cache_mib: u64) -> Outcome<SledMessageStore> {
    let limits = StorageLimits::default().max_bytes(u64::MAX).cache_bytes(cache_mib << 20);
    Ok(SledMessageStore::open(folder, limits)?)
}
