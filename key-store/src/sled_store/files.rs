//! The few things we ask of the file system.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use sha2::{Digest, Sha256};

use crate::StoreError;

pub(crate) const HEADER: &str = "header";
pub(crate) const STATE: &str = "state";
pub(crate) const SLED: &str = "sled";
pub(crate) const SCRATCH: &str = "scratch";
const LOCK: &str = "lock";

/// How long sled's last threads may take to let go of its file.
const RELEASE_LIMIT: Duration = Duration::from_secs(10);

/// Holds a store's folder for this process; released when dropped, or by the system if the process dies.
///
/// Dropping unlocks rather than merely closes: a child process that another thread is just starting holds a copy of the
/// descriptor until its `exec`, and the lock would last as long.
#[derive(Debug)]
pub struct StoreLock(File);

impl Drop for StoreLock {
    fn drop(&mut self) {
        // Closing the file is what remains if this fails.
        let _ = self.0.unlock();
    }
}

impl StoreLock {
    /// Takes the folder, which must exist.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when somebody has it; [`StoreError::Io`].
    pub fn take(dir: &Path) -> Result<Self, StoreError> {
        let path = dir.join(LOCK);
        let name = || format!("open the lock file {}", path.display());
        let file = private().write(true).create(true).truncate(false).open(&path).map_err(StoreError::io(name()))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse { dir: dir.to_owned() }),
            Err(TryLockError::Error(fault)) => Err(StoreError::io(name())(fault)),
        }
    }
}

/// Waits until nobody in this process holds sled's file. sled finishes its last writes and truncations on threads of its
/// own, each of which keeps the file open and thereby locked; once the lock is free, the file has come to rest.
///
/// # Errors
/// The disk failed, or sled holds the file for longer than 10 s.
pub fn wait_for_rest(sled: &Path) -> io::Result<()> {
    let started = Instant::now();
    let mut pause = Duration::from_micros(50);
    loop {
        let file = match File::open(sled.join("db")) {
            Ok(file) => file,
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(fault) => return Err(fault),
        };
        match file.try_lock() {
            Ok(()) => return file.unlock(),
            Err(TryLockError::Error(fault)) => return Err(fault),
            Err(TryLockError::WouldBlock) if started.elapsed() > RELEASE_LIMIT => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "sled did not let go of its file"));
            }
            Err(TryLockError::WouldBlock) => std::thread::sleep(pause),
        }
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

/// Options for files that only their owner may read.
pub(crate) fn private() -> OpenOptions {
    let mut options = OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
}

pub(crate) fn create_private_dir(dir: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir)
}

/// The file has either its old or its new contents, whatever happens in between, and the new ones once this returns.
pub(crate) fn replace(dir: &Path, name: &str, contents: &[u8]) -> io::Result<()> {
    let tmp = dir.join(format!("{name}.tmp"));
    let mut file = private().write(true).create(true).truncate(true).open(&tmp)?;
    file.write_all(contents)?;
    file.sync_all()?;
    fs::rename(&tmp, dir.join(name))?;
    sync_dir(dir)
}

/// Makes names in a directory durable: a file's own sync does not.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    // Elsewhere a directory cannot be opened as a file, and renames are durable without it.
    if cfg!(unix) { File::open(dir)?.sync_all() } else { Ok(()) }
}

/// Syncs every file and directory below `dir`.
pub(crate) fn sync_tree(dir: &Path) -> io::Result<()> {
    for path in files_below(dir)? {
        File::open(dir.join(path))?.sync_all()?;
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_dir(&entry.path())?;
        }
    }
    sync_dir(dir)
}

/// How many bytes lie below a directory, and what they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Measure {
    pub(crate) len: u64,
    pub(crate) digest: [u8; 32],
}

pub(crate) fn measure(dir: &Path) -> io::Result<Measure> {
    let mut digest = Sha256::new_with_prefix(b"veilcast key-store files v1");
    let mut total = 0;
    let mut buffer = vec![0; 256 * 1024];
    for path in files_below(dir)? {
        let name = path.to_string_lossy();
        let mut file = File::open(dir.join(&path))?;
        let len = file.metadata()?.len();
        digest.update((name.len() as u64).to_be_bytes());
        digest.update(name.as_bytes());
        digest.update(len.to_be_bytes());
        loop {
            let got = file.read(&mut buffer)?;
            if got == 0 {
                break;
            }
            digest.update(&buffer[..got]);
        }
        total += len;
    }
    Ok(Measure { len: total, digest: digest.finalize().into() })
}

pub(crate) fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    create_private_dir(to)?;
    for path in files_below(from)? {
        let target = to.join(&path);
        if let Some(parent) = target.parent() {
            create_private_dir(parent)?;
        }
        fs::copy(from.join(&path), target)?;
    }
    Ok(())
}

pub(crate) fn remove_tree(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

pub(crate) fn len(path: &Path) -> io::Result<u64> {
    match fs::metadata(path) {
        Ok(found) => Ok(found.len()),
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(fault) => Err(fault),
    }
}

/// Relative paths of all files, ordered. sled keeps one level of directories, so there is no deep tree to guard against.
fn files_below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut pending = vec![PathBuf::new()];
    while let Some(below) = pending.pop() {
        for entry in fs::read_dir(dir.join(&below))? {
            let entry = entry?;
            let path = below.join(entry.file_name());
            if entry.file_type()?.is_dir() { pending.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_lock_is_free_though_a_child_being_started_still_has_a_copy_of_its_descriptor() {
        let dir = tempfile::tempdir().unwrap();
        let lock = StoreLock::take(dir.path()).unwrap();
        let _childs_copy = lock.0.try_clone().unwrap();
        assert!(matches!(StoreLock::take(dir.path()), Err(StoreError::InUse { .. })));
        drop(lock);
        StoreLock::take(dir.path()).unwrap();
    }
}
