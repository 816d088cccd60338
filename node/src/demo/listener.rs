//! What a subscriber heard, with the moment it heard it.

use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use veilcast::client::{Delivery, Subscription};
use veilcast::key_store::KeyId;
use veilcast::subscriber::Arrival;
use veilcast::{Event, Message, Refusal};

/// How long the story waits for anything before it says that it did not happen.
const PATIENCE: Duration = Duration::from_secs(5);

/// One delivery and its moment.
pub(super) struct Heard {
    pub(super) at: Instant,
    pub(super) what: Delivery,
}

/// Listens to a subscription in the background and remembers.
pub(super) struct Listener {
    heard: watch::Receiver<Vec<Heard>>,
    task: JoinHandle<()>,
}

impl Listener {
    pub(super) fn to(mut subscription: Subscription) -> Self {
        let (tell, heard) = watch::channel(Vec::new());
        let task = tokio::spawn(async move {
            while let Some(what) = subscription.next().await {
                tell.send_modify(|heard| heard.push(Heard { at: Instant::now(), what }));
            }
        });
        Self { heard, task }
    }

    /// What is found in what was heard, now or soon; `None` when it did not happen in time.
    pub(super) async fn wait<T>(&mut self, find: impl Fn(&[Heard]) -> Option<T>) -> Option<T> {
        let found = tokio::time::timeout(PATIENCE, self.heard.wait_for(|heard| find(heard).is_some())).await;
        found.ok()?.ok().and_then(|heard| find(&heard))
    }

    /// What is found in what was heard so far.
    pub(super) fn look<T>(&self, find: impl FnOnce(&[Heard]) -> T) -> T {
        find(&self.heard.borrow())
    }

    /// Returns once so many messages were read in all; `false` when none came for too long.
    pub(super) async fn read(&mut self, count: u64) -> bool {
        loop {
            let before = self.look(|heard| messages(heard).count());
            if before as u64 >= count {
                return true;
            }
            if self.wait(|heard| (messages(heard).count() > before).then_some(())).await.is_none() {
                return false;
            }
        }
    }

    /// Stops listening.
    pub(super) fn end(&self) {
        self.task.abort();
    }
}

/// The messages among what was heard.
pub(super) fn messages(heard: &[Heard]) -> impl Iterator<Item = &Message> {
    heard.iter().filter_map(|heard| match &heard.what {
        Delivery::Message(message) => Some(message),
        Delivery::Event(_) => None,
    })
}

/// When a key was first asked for.
pub(super) fn pending(heard: &[Heard], id: &KeyId) -> Option<Instant> {
    heard.iter().find_map(|heard| match &heard.what {
        Delivery::Event(Event::KeyPending { key_id, .. }) if key_id == id => Some(heard.at),
        _ => None,
    })
}

/// When and how a key came.
pub(super) fn arrived(heard: &[Heard], id: &KeyId) -> Option<(Instant, Arrival)> {
    heard.iter().find_map(|heard| match &heard.what {
        Delivery::Event(Event::KeyArrived { key_id, by, .. }) if key_id == id => Some((heard.at, *by)),
        _ => None,
    })
}

/// When and why a key was refused first, and when it was asked for.
pub(super) fn refused(heard: &[Heard]) -> Option<(Instant, Instant, Refusal)> {
    heard.iter().find_map(|at| match &at.what {
        Delivery::Event(Event::KeyRefused { key_id, refusal, .. }) => Some((pending(heard, key_id)?, at.at, *refusal)),
        _ => None,
    })
}
