//! File descriptors: how many this process may have open. Connections, peers and the store's files all take some.

use std::io;

/// What a service has without being told otherwise; more is for whoever asks for it.
#[cfg(unix)]
const WANTED: u64 = 65_536;

/// Raises the soft limit as far as the hard one allows, and tells what it is then; `None` where there is none, or nobody knows.
#[cfg(unix)]
pub(crate) fn raise() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let current = limit.current?;
    let wanted = limit.maximum.map_or(WANTED, |most| most.min(WANTED));
    if wanted <= current {
        return Some(current);
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum }) {
        Ok(()) => Some(wanted),
        Err(error) => {
            tracing::debug!(%error, "the limit of file descriptors could not be raised");
            Some(current)
        }
    }
}

/// Nobody tells.
#[cfg(not(unix))]
pub(crate) fn raise() -> Option<u64> {
    None
}

/// Whether there are none left.
#[cfg(unix)]
pub(crate) fn are_used_up(error: &io::Error) -> bool {
    use rustix::io::Errno;
    Errno::from_io_error(error).is_some_and(|errno| errno == Errno::MFILE || errno == Errno::NFILE)
}

/// Nobody tells.
#[cfg(not(unix))]
pub(crate) fn are_used_up(_: &io::Error) -> bool {
    false
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_as_far_as_it_may_be_and_stays_there() {
        let limit = raise();
        let hard = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
        assert!(
            limit.is_none_or(|limit| limit >= hard.map_or(WANTED, |hard| hard.min(WANTED))),
            "{limit:?} of {hard:?}"
        );
        assert_eq!(raise(), limit);
    }
}
