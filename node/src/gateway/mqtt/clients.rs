//! Who is logged in: of each API key one of a name, whose place the next of that name takes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// Those that there are, by their keys' names. Two keys know nothing of each other's clients.
#[derive(Clone, Default)]
pub(super) struct Clients(Arc<Mutex<Known>>);

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
    /// A place for a client.
    pub(super) fn enter(&self, key: &str, client: &str) -> Place {
        let mut known = self.lock();
        let number = known.next;
        known.next += 1;
        let of_key = known.by_key.entry(key.to_owned()).or_default();
        let over = CancellationToken::new();
        if let Some(before) = of_key.insert(client.to_owned(), Taken { number, over: over.clone() }) {
            before.over.cancel();
        }
        Place { clients: self.clone(), key: key.to_owned(), client: client.to_owned(), number, over }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_taken_over_by_the_next_of_that_key_only_and_free_once_it_left() {
        let clients = Clients::default();
        let (one, two) = (clients.enter("shop", "a"), clients.enter("shop", "b"));
        let other = clients.enter("till", "a");
        let again = clients.enter("shop", "a");
        assert!(one.over.is_cancelled());
        // Whoever was taken over leaves the place to whoever has it now.
        drop(one);
        let third = clients.enter("shop", "a");
        assert!(again.over.is_cancelled());
        assert!(!third.over.is_cancelled() && !other.over.is_cancelled() && !two.over.is_cancelled());
        drop((again, two, other, third));
        assert!(clients.lock().by_key.is_empty());
    }
}
