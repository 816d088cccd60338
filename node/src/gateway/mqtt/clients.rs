//! Who is logged in: so many with each API key, and one of each name, whose place the next of that name takes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// Those that there are, by their keys' names. Two keys know nothing of each other's clients.
#[derive(Clone)]
pub(super) struct Clients {
    most: usize,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    next: u64,
    by_key: HashMap<String, HashMap<String, Taken>>,
}

struct Taken {
    number: u64,
    over: CancellationToken,
}

/// The place of one client; free again when it is dropped.
pub(super) struct Place {
    clients: Clients,
    key: String,
    client: String,
    number: u64,
    over: CancellationToken,
}

impl Place {
    /// Returns once another client has come under the same name.
    pub(super) async fn taken_over(&self) {
        self.over.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut known = self.clients.lock();
        let Some(of_key) = known.by_key.get_mut(&self.key) else { return };
        if of_key.get(&self.client).is_some_and(|taken| taken.number == self.number) {
            of_key.remove(&self.client);
        }
        if of_key.is_empty() {
            known.by_key.remove(&self.key);
        }
    }
}

impl Clients {
    /// At most so many with each key.
    pub(super) fn new(most: usize) -> Self {
        Self { most, known: Arc::default() }
    }

    /// A place for a client; `None` where its key has as many as there may be.
    pub(super) fn enter(&self, key: &str, client: &str) -> Option<Place> {
        let mut known = self.lock();
        let number = known.next;
        known.next += 1;
        let of_key = known.by_key.entry(key.to_owned()).or_default();
        if of_key.len() >= self.most && !of_key.contains_key(client) {
            return None;
        }
        let over = CancellationToken::new();
        if let Some(before) = of_key.insert(client.to_owned(), Taken { number, over: over.clone() }) {
            before.over.cancel();
        }
        Some(Place { clients: self.clone(), key: key.to_owned(), client: client.to_owned(), number, over })
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_so_many_places_and_a_name_is_taken_over_by_the_next_of_that_key_only() {
        let clients = Clients::new(2);
        let (one, two) = (clients.enter("shop", "a").unwrap(), clients.enter("shop", "b").unwrap());
        assert!(clients.enter("shop", "c").is_none());
        let other = clients.enter("till", "a").unwrap();
        let again = clients.enter("shop", "a").unwrap();
        assert!(one.over.is_cancelled());
        assert!(!again.over.is_cancelled() && !other.over.is_cancelled() && !two.over.is_cancelled());
        // Whoever was taken over leaves no place free.
        drop(one);
        assert!(clients.enter("shop", "c").is_none());
        drop(again);
        assert!(clients.enter("shop", "c").is_some());
        drop((two, other));
        assert!(clients.lock().by_key.is_empty());
    }
}
