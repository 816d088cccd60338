//! A store, or some of its keys, in one file under one passphrase: for another disk, another machine, a drawer.
//!
//! - A **backup** ([`back_up`], [`restore`]) holds all of a store: every key with its period and origin, which one is current,
//!   and every small record (grants, registries, policies, ledgers). Files that belong to it, such as an identity's keystore,
//!   go along as [`Attachment`]s. A restored store has a data key of its own.
//! - An **export** ([`export_keys`], [`import_keys`]) holds keys of chosen streams and periods, and nothing else.
//!
//! ```text
//! head | chunk | chunk | ...        head: header.rs, chunks: sealed.rs, what stands in them: item.rs
//! ```
//! # What holds
//! - Without the passphrase a file tells its length, and no more. A guess costs what [`Sealing::cost`] says.
//! - Damage, truncation, a wrong passphrase and a newer version are told apart, and a file is read to its end and found whole
//!   before anything is changed.
//! - A file is written under another name, synced, read back and compared, and only then takes its own name.
//! - Memory is bounded, however large the store.
//!
//! ```
//! use veilcast_key_store::portable::{self, PortableFile, Sealing};
//! use veilcast_key_store::{GroupKey, KdfCost, KeyScope, KeyStore, SledKeyStore, Unlock};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let tmp = tempfile::tempdir()?;
//! # let (dir, other_dir, path) = (tmp.path().join("keys"), tmp.path().join("other"), tmp.path().join("backup"));
//! let store = SledKeyStore::open(&dir, &Unlock::passphrase("of the store"))?;
//! let scope = KeyScope::new([0x11; 20], "0x1111111111111111111111111111111111111111/prices");
//! store.make_current(&scope, &GroupKey::generate(&mut rand::rng()), 1_000)?;
//! portable::back_up(&store, &[], &path, &Sealing::new("of the backup"), false, &mut |_| {})?;
//!
//! let mut file = PortableFile::open(&path, "of the backup")?;
//! portable::restore(&mut file, &other_dir, &Unlock::passphrase("new"), &Default::default(), &mut |_| {})?;
//! let restored = SledKeyStore::open(&other_dir, &Unlock::passphrase("new"))?;
//! assert!(restored.current(&scope)?.is_some());
//! # Ok(())
//! # }
//! ```

mod backup;
mod error;
mod file;
mod header;
mod item;
mod keys;
mod sealed;

use std::fmt;

pub use self::{
    backup::{back_up, restore},
    error::PortableError,
    file::{Incoming, PortableFile},
    item::{Attachment, MAX_FILE_LEN, Summary},
    keys::{ImportedScope, export_keys, import_keys},
};
use crate::KdfCost;

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::{header::reads as reads_header, item::reads as reads_item};

/// How many files may go along with a store.
pub const MAX_FILES: usize = 16;

/// What a portable file is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Kind {
    /// All of a store, and the files that belong to it.
    Backup,
    /// Some keys.
    Keys,
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::Backup => 1,
            Self::Keys => 2,
        }
    }

    const fn of_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Backup),
            2 => Some(Self::Keys),
            _ => None,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Backup => "a backup of a whole store",
            Self::Keys => "an export of keys",
        })
    }
}

/// What a new portable file is sealed with.
#[derive(Clone, Copy)]
pub struct Sealing<'a> {
    /// Opens it. The file may be copied and guessed at for years: a long one.
    pub passphrase: &'a str,
    /// What a guess costs; at most 1 GiB of memory and 4 GiB of memory times passes.
    pub cost: KdfCost,
}

impl<'a> Sealing<'a> {
    /// With the recommended cost: about a tenth of a second and 64 MiB.
    pub fn new(passphrase: &'a str) -> Self {
        Self { passphrase, cost: KdfCost::default() }
    }
}

impl fmt::Debug for Sealing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealing").field("cost", &self.cost).finish_non_exhaustive()
    }
}

/// How far a long work is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Progress {
    /// What is being done.
    pub step: Step,
    /// How much of it is done.
    pub done: u64,
    /// How much there is: records when writing, bytes of the file when reading.
    pub total: u64,
}

/// What is being done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Step {
    /// A portable file is being written.
    Writing,
    /// It is being read to its end, and nothing is changed.
    Verifying,
    /// What stands in it is put into a store.
    TakingIn,
}

/// Is told about progress, every few hundred items.
pub type Watch<'a> = dyn FnMut(Progress) + 'a;
