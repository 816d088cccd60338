//! Ctrl-C and SIGTERM: the first asks for a graceful end, the second does not ask.

use tokio::sync::watch;

use crate::exit::Exit;

/// Tells every part of a command that the user wants to stop. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Interrupt(watch::Receiver<bool>);

impl Interrupt {
    /// Starts to listen; from now on the signals no longer kill the process.
    pub(crate) fn install() -> Self {
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
    }
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
