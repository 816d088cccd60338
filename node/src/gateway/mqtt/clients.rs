//! Who is logged in: of each API key one of a name, whose place the next of that name takes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::super::crowd::{Seat, SeatNumber};

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
    seat: SeatNumber,
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

    /// Whether one has.
    pub(super) fn is_taken_over(&self) -> bool {
        self.over.is_cancelled()
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
    /// A place for a client that `sits` down on this seat, where another of its name has one instead of that one. Both happen at once:
    /// of any that come under one name at a time the last stays.
    ///
    /// # Errors
    /// It finds no seat.
    pub(super) fn enter<T, E>(
        &self,
        key: &str,
        client: &str,
        seat: &Seat,
        sits: impl FnOnce(Option<SeatNumber>) -> Result<T, E>,
    ) -> Result<(Place, T), E> {
        let mut known = self.lock();
        let number = known.next;
        known.next += 1;
        // It is told so before its seat is gone, which it would take for the reason.
        let before = known.by_key.get(key).and_then(|of_key| of_key.get(client)).map(|before| {
            before.over.cancel();
            before.seat
        });
        let sitting = sits(before)?;
        let over = CancellationToken::new();
        let taken = Taken { number, seat: seat.number(), over: over.clone() };
        known.by_key.entry(key.to_owned()).or_default().insert(client.to_owned(), taken);
        Ok((Place { clients: self.clone(), key: key.to_owned(), client: client.to_owned(), number, over }, sitting))
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::crowd::{Bounds, Crowd};
    use super::*;

    #[test]
    fn a_name_is_taken_over_by_the_next_of_that_key_only_and_free_once_it_left() {
        let (clients, crowd) = (Clients::default(), Crowd::new(Bounds::of(16, None)));
        let seats: Vec<Seat> = (0..6).map(|_| crowd.enter().unwrap()).collect();
        let at = |number| seats.iter().position(|seat| seat.number() == number);
        let enter = |key: &str, client: &str, seat: usize| {
            clients.enter(key, client, &seats[seat], |before| Ok::<_, ()>(before.and_then(at))).unwrap()
        };
        let ((one, none), (two, neither)) = (enter("shop", "a", 0), enter("shop", "b", 1));
        let (other, nor) = enter("till", "a", 2);
        assert_eq!((none, neither, nor), (None, None, None));
        let (again, before) = enter("shop", "a", 3);
        assert!(one.is_taken_over() && before == Some(0));
        // Whoever was taken over leaves the place to whoever has it now.
        drop(one);
        let (third, before) = enter("shop", "a", 4);
        assert!(again.is_taken_over() && before == Some(3));
        assert!(!third.is_taken_over() && !other.is_taken_over() && !two.is_taken_over());
        assert!(clients.enter("shop", "c", &seats[5], |_| Err::<(), _>("no seat")).is_err());
        drop((again, two, other, third));
        assert!(clients.lock().by_key.is_empty());
    }
}
