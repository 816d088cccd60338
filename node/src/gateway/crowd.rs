//! Connections, bounded: when the house is full, whoever has shown no API key gives way, the longest there first. So thousands of
//! idle connections keep nobody out who has a key.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

/// Those that there are.
#[derive(Clone)]
pub(super) struct Crowd {
    most: usize,
    seats: Arc<Mutex<Seats>>,
}

#[derive(Default)]
struct Seats {
    next: u64,
    taken: BTreeMap<u64, Marks>,
}

/// What is known of whoever sits there.
#[derive(Clone, Default)]
struct Marks {
    given_up: CancellationToken,
    trusted: Arc<AtomicBool>,
}

/// The place of one connection, and of what is open on it. It is free again when the last one of these is dropped.
#[derive(Clone)]
pub(super) struct Seat(Arc<Taken>);

struct Taken {
    crowd: Crowd,
    number: u64,
    marks: Marks,
}

impl Seat {
    /// Whoever has it has shown a key.
    pub(super) fn trust(&self) {
        self.0.marks.trusted.store(true, Ordering::Relaxed);
    }

    /// Returns when it is to be given up.
    pub(super) async fn given_up(&self) {
        self.0.marks.given_up.cancelled().await;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.crowd.lock().taken.remove(&self.number);
    }
}

impl Crowd {
    pub(super) fn new(most: usize) -> Self {
        Self { most, seats: Arc::default() }
    }

    /// A seat, somebody else's if need be; `None` where all have shown a key.
    pub(super) fn enter(&self) -> Option<Seat> {
        let mut seats = self.lock();
        if seats.taken.len() >= self.most {
            let stranger = |(_, marks): &(&u64, &Marks)| !marks.trusted.load(Ordering::Relaxed);
            let number = seats.taken.iter().find(stranger).map(|(number, _)| *number)?;
            if let Some(marks) = seats.taken.remove(&number) {
                marks.given_up.cancel();
            }
        }
        let (number, marks) = (seats.next, Marks::default());
        seats.next += 1;
        seats.taken.insert(number, marks.clone());
        Some(Seat(Arc::new(Taken { crowd: self.clone(), number, marks })))
    }

    fn lock(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_the_house_is_full_the_stranger_longest_there_gives_way_and_nobody_with_a_key() {
        let crowd = Crowd::new(2);
        let (known, stranger) = (crowd.enter().unwrap(), crowd.enter().unwrap());
        known.trust();
        let late = crowd.enter().unwrap();
        assert!(stranger.0.marks.given_up.is_cancelled() && !known.0.marks.given_up.is_cancelled());
        late.trust();
        assert!(crowd.enter().is_none());
        // The seat of whoever gave way was another's when he left.
        drop(stranger);
        assert!(crowd.enter().is_none());
        let open = known.clone();
        drop(known);
        assert!(crowd.enter().is_none(), "something is still open there");
        drop(open);
        assert!(crowd.enter().is_some());
    }
}
