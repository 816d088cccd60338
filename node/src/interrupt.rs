//! Ctrl-C, SIGTERM and, on Linux, a terminal that goes (SIGHUP): the first asks for a graceful end, the second does not ask.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::watch;

use crate::exit::Exit;

/// Signals are somebody else's business: a command's own, which ends gracefully.
static INSTALLED: AtomicBool = AtomicBool::new(false);
/// So many parts of the program are in something that a signal must not end.
static SURVIVING: AtomicUsize = AtomicUsize::new(0);

/// While this lives Ctrl-C does not end the process.
#[derive(Debug)]
pub(crate) struct Survive(());

/// Lets the process survive Ctrl-C as long as what is returned lives. Outside of it, Ctrl-C ends the process as ever.
pub(crate) fn survive() -> Survive {
    static LISTENER: std::sync::Once = std::sync::Once::new();
    SURVIVING.fetch_add(1, Ordering::SeqCst);
    LISTENER.call_once(|| {
        let (tell, ready) = std::sync::mpsc::channel();
        std::thread::spawn(move || listen(&tell));
        // Once it listens, or could not.
        let _ = ready.recv();
    });
    Survive(())
}

impl Drop for Survive {
    fn drop(&mut self) {
        SURVIVING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Once anybody listens to a signal, it ends nothing by itself any more, for the rest of the process.
#[cfg(unix)]
fn listen(ready: &std::sync::mpsc::Sender<()>) {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
    runtime.block_on(async {
        let Ok(mut interrupts) = signal(SignalKind::interrupt()) else { return };
        let _ = ready.send(());
        while interrupts.recv().await.is_some() {
            if SURVIVING.load(Ordering::SeqCst) == 0 && !INSTALLED.load(Ordering::SeqCst) {
                std::process::exit(Exit::Failed.code().into());
            }
        }
    });
}

#[cfg(not(unix))]
fn listen(_: &std::sync::mpsc::Sender<()>) {}

/// Tells every part of a command that the user wants to stop. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Starts to listen; from now on the signals no longer kill the process.
    pub(crate) fn install() -> Self {
        INSTALLED.store(true, Ordering::SeqCst);
        let (tell, heard) = watch::channel(false);
        tokio::spawn(async move {
            signal().await;
            tell.send_replace(true);
            signal().await;
            std::process::exit(Exit::Failed.code().into());
        });
        Self(heard)
    }

    /// Returns once the user wants to stop.
    pub(crate) async fn wait(&mut self) {
        if self.0.wait_for(|stop| *stop).await.is_err() {
            // The listener is gone, so nothing can be heard any more.
            std::future::pending::<()>().await;
        }
    }

    /// The work's outcome, or `None` if the user wants to stop first.
    pub(crate) async fn or<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            () = self.wait() => None,
            outcome = work => Some(outcome),
        }
    }
}

#[cfg(unix)]
async fn signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return ctrl_c().await };
    tokio::select! {
        () = ctrl_c() => {}
        _ = terminate.recv() => {}
        () = hangup() => {}
    }
}

/// Returns once the terminal went; never where whoever started the process had it survive that (nohup), or this cannot be known.
#[cfg(unix)]
async fn hangup() {
    use tokio::signal::unix::{SignalKind, signal};
    // To listen ends the ignoring, so that this is asked once, and before.
    static IGNORED: std::sync::LazyLock<bool> = std::sync::LazyLock::new(|| {
        let status = std::fs::read_to_string("/proc/self/status");
        status.ok().and_then(|status| ignores_hangup(&status)).unwrap_or(true)
    });
    match signal_unless(*IGNORED) {
        Some(mut hangups) => drop(hangups.recv().await),
        None => std::future::pending().await,
    }

    fn signal_unless(ignored: bool) -> Option<tokio::signal::unix::Signal> {
        if ignored { None } else { signal(SignalKind::hangup()).ok() }
    }
}

/// Whether a process with this `/proc/PID/status` ignores SIGHUP, the first bit of a mask in hexadecimal.
#[cfg(unix)]
fn ignores_hangup(status: &str) -> Option<bool> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
    Some(u64::from_str_radix(mask.trim(), 16).ok()? & 1 == 1)
}

#[cfg(not(unix))]
async fn signal() {
    ctrl_c().await;
}

async fn ctrl_c() {
    if tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::ignores_hangup;

    #[test]
    fn whether_a_hangup_is_ignored_is_read_of_the_processs_own_status() {
        assert_eq!(ignores_hangup("Name:\tx\nSigIgn:\t0000000000001001\n"), Some(true));
        assert_eq!(ignores_hangup("SigBlk:\t0000000000000001\nSigIgn:\t0000000000001000\n"), Some(false));
        assert_eq!(ignores_hangup("Name:\tx\n"), None);
    }
}
