//! The control socket: `control.sock` in the data folder, for whoever owns the folder, and nobody else.
//!
//! The socket is made in a folder that only its owner can enter, is given its mode there, and takes its place by a rename: there is no
//! moment at which another user could connect. One that a killed process left behind is replaced by the same rename; no other process
//! can be serving it, for this one holds the store's lock.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::UnixListener;

use super::DaemonError;
use crate::data_dir::DataDir;
use crate::gateway::{Bounds, Crowd, Door, Limits};

/// The owner's own commands; one of them may wait for lines on its stdin, or for whoever reads its stdout, for as long as it likes.
const LIMITS: Limits =
    Limits { seats: Bounds { most: 64, per_key: 64, live_per_key: 64 }, head_timeout: A_WEEK, write_timeout: A_WEEK };
const A_WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// A socket in its place, and the name to take away at the end.
pub(super) struct Placed {
    pub(super) door: Door<UnixListener>,
    _name: Name,
}

struct Name(PathBuf);

impl Drop for Name {
    fn drop(&mut self) {
        // A socket that nobody listens on is taken for none anyway.
        let _ = fs::remove_file(&self.0);
    }
}

pub(super) fn open(dir: &DataDir) -> Result<Placed, DaemonError> {
    let path = dir.control();
    let listener = place(dir).map_err(|source| match source.kind() {
        io::ErrorKind::InvalidInput => DaemonError::ControlPath { path: path.clone() },
        _ => DaemonError::Control { path: path.clone(), source },
    })?;
    let crowd = Crowd::new(LIMITS.seats);
    Ok(Placed { door: Door { listener, limits: LIMITS, crowd, control: true }, _name: Name(path) })
}

fn place(dir: &DataDir) -> io::Result<UnixListener> {
    // The name it is made under is shorter: whether others can name it shows here.
    SocketAddr::from_pathname(dir.control())?;
    let making = dir.path().join(".ctl");
    match fs::remove_dir_all(&making) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::DirBuilder::new().mode(0o700).create(&making)?;
    let made = making.join("s");
    let listener = UnixListener::bind(&made)?;
    fs::set_permissions(&made, fs::Permissions::from_mode(0o600))?;
    fs::rename(&made, dir.control())?;
    fs::remove_dir(&making)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_is_for_its_owner_only_replaces_one_left_behind_and_goes_with_its_door() {
        let folder = tempfile::tempdir().unwrap();
        let dir = DataDir::find(Some(folder.path())).unwrap();
        let left = std::os::unix::net::UnixListener::bind(dir.control()).unwrap();
        drop(left);
        let placed = open(&dir).unwrap();
        let mode = fs::metadata(dir.control()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        tokio::net::UnixStream::connect(dir.control()).await.unwrap();
        drop(placed);
        assert!(!dir.control().exists() && !dir.path().join(".ctl").exists());
    }

    #[tokio::test]
    async fn a_path_too_long_for_a_socket_is_an_error_that_says_so() {
        let folder = tempfile::tempdir().unwrap();
        // The last of these is too long for the name it has in the end, and not for the one it is made under.
        let room = 107 - folder.path().as_os_str().len() - "//.ctl/s".len();
        for long in [120, room] {
            let dir = DataDir::find(Some(&folder.path().join("x".repeat(long)))).unwrap();
            dir.create().unwrap();
            assert!(matches!(open(&dir), Err(DaemonError::ControlPath { .. })), "{long}");
        }
    }
}
