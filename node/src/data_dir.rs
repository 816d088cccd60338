//! The data folder: whose it is, where it lies and what lies in it.
//!
//! ```text
//! identity.json   your identity, an encrypted Ethereum keystore
//! store/          streams, grants and group keys, sealed
//! store.key       opens both where no passphrase does; readable by its owner only
//! node.key        the network key of `veilcast node`
//! control.sock    where `veilcast run` is asked by other commands, while it runs
//! veilcast.toml   the config file, if there is one; see `config`
//! messages/       what `veilcast node --store` keeps, sealed as it came
//! .handing-over/  files that pass through (`backup`, `key export`); a killed process leaves them to the next
//! placing/        files on their way to their places (`restore`, `passphrase change`); gone once they are there
//! replaced-*/     what a `restore --force` found
//! ```
//! `--data-dir` or `VEILCAST_DATA_DIR` names the folder. Else it is `veilcast` in `$XDG_DATA_HOME`, which the XDG rules
//! take from the environment only where it is an absolute path, and else `~/.local/share/veilcast`, on every system.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use veilcast::key_store::StoreError;
use veilcast::key_store::durable::Placing;

/// A data folder, which may not exist yet.
#[derive(Clone, Debug)]
pub(crate) struct DataDir(PathBuf);

impl DataDir {
    /// The folder that the command line, the environment or the XDG rules name. Files that were on their way to their places in it
    /// when a process died are put there.
    pub(crate) fn find(named: Option<&Path>) -> Result<Self, DataDirError> {
        let folder = match named {
            Some(path) if path.as_os_str().is_empty() => return Err(DataDirError::Empty),
            Some(path) => Some(path.to_path_buf()),
            None => by_xdg(std::env::var_os("XDG_DATA_HOME").map(PathBuf::from), std::env::home_dir()),
        };
        let folder = folder.ok_or(DataDirError::NoHome)?;
        Placing::finish(&folder).map_err(|source| DataDirError::Unfinished { folder: folder.clone(), source })?;
        Ok(Self(folder))
    }

    /// Makes the folder if it is not there, for its owner only.
    pub(crate) fn create(&self) -> Result<(), DataDirError> {
        let mut builder = fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.0).map_err(|source| DataDirError::Create { folder: self.0.clone(), source })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn identity(&self) -> PathBuf {
        self.0.join("identity.json")
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    pub(crate) fn key_file(&self) -> PathBuf {
        self.0.join("store.key")
    }

    pub(crate) fn node_key(&self) -> PathBuf {
        self.0.join("node.key")
    }

    pub(crate) fn control(&self) -> PathBuf {
        self.0.join("control.sock")
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.0.join("veilcast.toml")
    }

    /// A folder for files that pass through it, which goes with what is returned; a killed process leaves it to be
    /// [cleared](Self::clear_handing_over).
    pub(crate) fn passing(&self) -> io::Result<tempfile::TempDir> {
        fs::create_dir_all(self.handing_over())?;
        tempfile::tempdir_in(self.handing_over())
    }

    fn handing_over(&self) -> PathBuf {
        self.0.join(".handing-over")
    }

    /// Removes what killed processes left of files that pass through. Whoever holds the store may: nobody else has any under way.
    pub(crate) fn clear_handing_over(&self) -> io::Result<()> {
        match fs::remove_dir_all(self.handing_over()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    pub(crate) fn messages(&self) -> PathBuf {
        self.0.join("messages")
    }

    /// Whether something in it is locked already, with a passphrase unless the key file is there.
    pub(crate) fn in_use(&self) -> bool {
        self.identity().exists() || self.has_store()
    }

    /// Whether there is a store in it.
    pub(crate) fn has_store(&self) -> bool {
        self.store().join("header").exists()
    }

    /// Whether there is an identity in it; what stands in the way of looking is an error, not a no.
    pub(crate) fn has_identity(&self) -> Result<bool, DataDirError> {
        self.identity().try_exists().map_err(|source| DataDirError::Unreadable { folder: self.0.clone(), source })
    }
}

fn by_xdg(data_home: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    let data_home = data_home.filter(|path| path.is_absolute());
    let base = data_home.or_else(|| Some(home.filter(|path| path.is_absolute())?.join(".local/share")))?;
    Some(base.join("veilcast"))
}

/// Writes a new file that only its owner may read; an existing one is an error.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    // The name, too, must outlive a power failure. Elsewhere a folder cannot be opened, and need not be.
    match path.parent() {
        Some(folder) if cfg!(unix) => fs::File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

/// Why there is no data folder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum DataDirError {
    #[error("the data folder has an empty name; name one with --data-dir or VEILCAST_DATA_DIR")]
    Empty,
    #[error("there is no home folder to keep data in; name a folder with --data-dir or VEILCAST_DATA_DIR")]
    NoHome,
    #[error("a restore or change of passphrase of {} cannot be finished", .folder.display())]
    Unfinished { folder: PathBuf, source: StoreError },
    #[error("cannot look into the data folder {}: {source}; check that it is a folder and its permissions, or name another with --data-dir", .folder.display())]
    Unreadable { folder: PathBuf, source: io::Error },
    #[error("cannot make the data folder {}: {source}; name another with --data-dir", .folder.display())]
    Create { folder: PathBuf, source: io::Error },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_folder_follows_the_xdg_rules() {
        let home = || Some(PathBuf::from("/home/ada"));
        let found = |data: Option<&str>, home| by_xdg(data.map(PathBuf::from), home);
        assert_eq!(found(None, home()), Some("/home/ada/.local/share/veilcast".into()));
        assert_eq!(found(Some("/data"), home()), Some("/data/veilcast".into()));
        assert_eq!(found(Some("relative"), home()), Some("/home/ada/.local/share/veilcast".into()));
        assert_eq!(found(None, None), None);
    }

    #[cfg(unix)]
    #[test]
    fn the_folder_and_its_secrets_are_for_their_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let parent = tempfile::tempdir().unwrap();
        let dir = DataDir::find(Some(&parent.path().join("a/b"))).unwrap();
        dir.create().unwrap();
        write_private(&dir.node_key(), b"secret").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(dir.path()), mode(&dir.node_key())), (0o700, 0o600));
        assert!(write_private(&dir.node_key(), b"other").is_err(), "a secret is never overwritten");
    }

    #[test]
    fn what_a_killed_daemon_was_handing_over_goes_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir::find(Some(folder.path())).unwrap();
        dir.clear_handing_over().unwrap();
        std::fs::create_dir_all(dir.handing_over().join("one")).unwrap();
        std::fs::write(dir.handing_over().join("one/file"), b"sealed").unwrap();
        std::fs::write(dir.config(), b"").unwrap();
        dir.clear_handing_over().unwrap();
        assert!(!dir.handing_over().exists() && dir.config().exists());
    }
}
