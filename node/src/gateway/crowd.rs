//! Connections, bounded in all and for each API key: whatever one key opens, the others get in, and so does whoever only asks
//! whether the node lives.
//!
//! ```text
//! enter ─▶ a stranger's seat ─▶ shows a key ─▶ that key's seat ─▶ stays (a stream, a socket) ─▶ dropped: free again
//! ```
//! - Strangers have a few seats that no key takes. When all are taken the stranger longest there gives way.
//! - A key has its share, and may use a part of it for what stays open. Beyond its share its own idle connections give way.
//! - When keys have taken all of theirs, the key with the most gives way to one that has at least two less: what is idle first,
//!   then what was there longest.
//!
//! Whoever waits for [`Seat::given_up`] ends what it serves then; the seat is another's already.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::api_key::KeyName;

/// Whose a seat is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Holder {
    /// Of whoever can open the control socket.
    Owner,
    /// Of whoever has shown this key.
    Key(KeyName),
}

/// What is open on a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A question and its answer.
    Passing,
    /// What has no end of its own.
    Live,
}

/// How many seats there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Of all keys together; strangers may have those that are free, and always [`Bounds::LOBBY`].
    pub(crate) most: usize,
    /// Of one key.
    pub(crate) per_key: usize,
    /// Of one key, with something on them that stays.
    pub(crate) live_per_key: usize,
}

impl Bounds {
    /// Seats beside those of keys.
    pub(crate) const LOBBY: usize = 16;

    /// Of so many, half are one key's unless something else is said, and three quarters of those may stay.
    pub(crate) fn of(most: usize, per_key: Option<usize>) -> Self {
        let per_key = per_key.unwrap_or(most / 2).clamp(1, most.max(1));
        Self { most: most.max(1), per_key, live_per_key: (per_key * 3 / 4).max(1) }
    }
}

/// Why there is no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    /// For nobody who has not two less than whoever has the most.
    #[error("too many connections; try later")]
    House,
    /// For this key.
    #[error("this API key has {0} connections open, the most it may have")]
    Key(usize),
    /// For what stays, of this key.
    #[error("this API key has {0} streams and sockets open, the most it may have")]
    Live(usize),
    /// For whoever can open the control socket, whatever stays.
    #[error("{0} commands are under way on the control socket, the most there may be")]
    Owner(usize),
}

/// Those that there are. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Crowd {
    bounds: Bounds,
    seats: Arc<Mutex<Seats>>,
}

/// The place of one connection. It is free again when the last one of these, and of what is open on it, is dropped.
#[derive(Clone)]
pub(crate) struct Seat(Arc<Taken>);

/// Which seat it is; no other has the same, ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SeatNumber(u64);

struct Taken {
    crowd: Crowd,
    number: u64,
    marks: Marks,
}

/// What a seat and whoever serves it tell each other.
#[derive(Clone, Default)]
struct Marks {
    given_up: CancellationToken,
    shown: Arc<AtomicBool>,
    lingers: Arc<AtomicBool>,
}

/// Something open on a seat, by whoever has shown a key.
pub(crate) struct Stay {
    seat: Seat,
    kind: Kind,
}

impl Crowd {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { bounds, seats: Arc::default() }
    }

    /// A stranger's seat, another stranger's if need be; `None` where there is no other stranger.
    pub(crate) fn enter(&self) -> Option<Seat> {
        let marks = Marks::default();
        let number = self.lock().enter(&self.bounds, marks.given_up.clone())?;
        Some(Seat(Arc::new(Taken { crowd: self.clone(), number, marks })))
    }

    /// A seat for whoever has shown a key already.
    ///
    /// # Errors
    /// [`Full`].
    #[cfg(test)]
    fn seat(&self, holder: &Holder, kind: Kind) -> Result<Stay, Full> {
        let mut stay = self.enter().ok_or(Full::House)?.show(holder)?;
        if kind == Kind::Live {
            stay.live()?;
        }
        Ok(stay)
    }

    /// The stranger longest there gives way, for want of something else than seats.
    pub(super) fn make_room(&self) {
        self.lock().stranger_leaves();
    }

    fn lock(&self) -> MutexGuard<'_, Seats> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Whoever has it has shown this key, and has something open until what this returns is dropped.
    ///
    /// # Errors
    /// [`Full`]: the seat is a stranger's as before, or whose it was.
    pub(crate) fn show(&self, holder: &Holder) -> Result<Stay, Full> {
        self.show_instead(holder, None)
    }

    /// The same, where another of the holder's is given up for it first, whatever is open there: it comes in the place of that one.
    ///
    /// # Errors
    /// [`Full`]
    pub(super) fn show_instead(&self, holder: &Holder, of: Option<SeatNumber>) -> Result<Stay, Full> {
        let Taken { crowd, number, .. } = &*self.0;
        {
            let mut seats = crowd.lock();
            seats.gives_way(of.map(|SeatNumber(number)| number), holder);
            seats.show(&crowd.bounds, *number, holder)?;
        }
        self.0.marks.shown.store(true, Ordering::Relaxed);
        Ok(Stay { seat: self.clone(), kind: Kind::Passing })
    }

    /// Which it is.
    pub(super) fn number(&self) -> SeatNumber {
        SeatNumber(self.0.number)
    }

    /// Returns when it is to be given up.
    pub(crate) async fn given_up(&self) {
        self.0.marks.given_up.cancelled().await;
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.0.marks.given_up.is_cancelled()
    }

    /// Whoever is there may still be sending, and is to see what was said last.
    pub(super) fn linger(&self) {
        self.0.marks.lingers.store(true, Ordering::Relaxed);
    }

    pub(super) fn lingers(&self) -> bool {
        self.0.marks.lingers.load(Ordering::Relaxed)
    }

    /// Whether nobody has shown a key on it.
    pub(super) fn is_strangers(&self) -> bool {
        !self.0.marks.shown.load(Ordering::Relaxed)
    }
}

impl Stay {
    /// From now on it has no end of its own.
    ///
    /// # Errors
    /// [`Full::Live`], [`Full::Owner`], [`Full::House`].
    pub(crate) fn live(&mut self) -> Result<(), Full> {
        let Taken { crowd, number, .. } = &*self.seat.0;
        if self.kind == Kind::Passing {
            crowd.lock().live(&crowd.bounds, *number)?;
            self.kind = Kind::Live;
        }
        Ok(())
    }

    pub(crate) fn seat(&self) -> &Seat {
        &self.seat
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let Taken { crowd, number, .. } = &*self.seat.0;
        crowd.lock().ended(*number, self.kind);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.crowd.lock().taken.remove(&self.number);
    }
}

/// Seats by their numbers, which rise: who was there longest has the lowest.
#[derive(Default)]
struct Seats {
    next: u64,
    taken: BTreeMap<u64, Sitting>,
}

/// Whoever sits there.
struct Sitting {
    holder: Option<Holder>,
    /// What is open, and what of it stays.
    open: usize,
    live: usize,
    given_up: CancellationToken,
}

impl Seats {
    fn enter(&mut self, bounds: &Bounds, given_up: CancellationToken) -> Option<u64> {
        if self.taken.len() >= bounds.most + Bounds::LOBBY && !self.stranger_leaves() {
            return None;
        }
        let number = self.next;
        self.next += 1;
        self.taken.insert(number, Sitting { holder: None, open: 0, live: 0, given_up });
        Some(number)
    }

    fn show(&mut self, bounds: &Bounds, number: u64, holder: &Holder) -> Result<(), Full> {
        let sitting = self.taken.get(&number).ok_or(Full::House)?;
        if sitting.holder.as_ref() != Some(holder) {
            let others = |seats: &Self, of: &dyn Fn(&Holder) -> bool| {
                seats.taken.iter().filter(|(at, one)| **at != number && one.holder.as_ref().is_some_and(of)).count()
            };
            let own = others(self, &|other| other == holder);
            if own >= bounds.per_key && !self.leaves(number, holder, true) {
                return Err(match holder {
                    Holder::Owner => Full::Owner(bounds.per_key),
                    Holder::Key(_) => Full::Key(bounds.per_key),
                });
            }
            if others(self, &|_| true) >= bounds.most && !self.largest_gives_way(number, holder) {
                return Err(Full::House);
            }
        }
        let sitting = self.taken.get_mut(&number).ok_or(Full::House)?;
        sitting.holder = Some(holder.clone());
        sitting.open += 1;
        Ok(())
    }

    fn live(&mut self, bounds: &Bounds, number: u64) -> Result<(), Full> {
        let sitting = self.taken.get(&number).ok_or(Full::House)?;
        let of_it = |one: &&Sitting| one.live > 0 && one.holder == sitting.holder;
        if sitting.live == 0 && self.taken.values().filter(of_it).count() >= bounds.live_per_key {
            return Err(match sitting.holder {
                Some(Holder::Owner) => Full::Owner(bounds.live_per_key),
                _ => Full::Live(bounds.live_per_key),
            });
        }
        self.taken.get_mut(&number).ok_or(Full::House)?.live += 1;
        Ok(())
    }

    fn ended(&mut self, number: u64, kind: Kind) {
        if let Some(sitting) = self.taken.get_mut(&number) {
            sitting.open = sitting.open.saturating_sub(1);
            if kind == Kind::Live {
                sitting.live = sitting.live.saturating_sub(1);
            }
        }
    }

    fn stranger_leaves(&mut self) -> bool {
        let number = self.taken.iter().find(|(_, one)| one.holder.is_none()).map(|(number, _)| *number);
        self.give_up(number)
    }

    /// Whoever has the most gives way to this holder, where it has at least two less.
    fn largest_gives_way(&mut self, number: u64, holder: &Holder) -> bool {
        let mut counts: BTreeMap<&Holder, usize> = BTreeMap::new();
        for (_, one) in self.taken.iter().filter(|(at, _)| **at != number) {
            if let Some(of) = &one.holder {
                *counts.entry(of).or_default() += 1;
            }
        }
        let own = counts.get(holder).copied().unwrap_or_default();
        let largest = counts.into_iter().max_by_key(|(_, count)| *count).filter(|(_, count)| *count >= own + 2);
        let Some(largest) = largest.map(|(of, _)| of.clone()) else { return false };
        self.leaves(number, &largest, false)
    }

    /// One of this holder's seats is given up, not this one: an idle one, or else the first.
    fn leaves(&mut self, but: u64, holder: &Holder, idle_only: bool) -> bool {
        let of_it = self.taken.iter().filter(|(number, one)| **number != but && one.holder.as_ref() == Some(holder));
        let first = of_it.min_by_key(|(number, one)| (one.open > 0, **number));
        let number = first.filter(|(_, one)| one.open == 0 || !idle_only).map(|(number, _)| *number);
        self.give_up(number)
    }

    /// This seat is given up, where it is this holder's.
    fn gives_way(&mut self, number: Option<u64>, holder: &Holder) {
        let of_it = |number: &u64| self.taken.get(number).is_some_and(|one| one.holder.as_ref() == Some(holder));
        let number = number.filter(of_it);
        self.give_up(number);
    }

    fn give_up(&mut self, number: Option<u64>) -> bool {
        let leaving = number.and_then(|number| self.taken.remove(&number));
        leaving.inspect(|one| one.given_up.cancel()).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Holder {
        Holder::Key(name.parse().unwrap())
    }

    fn crowd(most: usize, per_key: usize) -> Crowd {
        Crowd::new(Bounds { most, per_key, live_per_key: per_key })
    }

    /// So many connections of a key with something open on each.
    fn busy(crowd: &Crowd, name: &str, count: usize) -> Vec<Stay> {
        (0..count).map(|_| crowd.seat(&key(name), Kind::Live).unwrap()).collect()
    }

    #[test]
    fn any_number_of_strangers_may_come_and_the_one_longest_there_gives_way_and_nobody_with_a_key() {
        let crowd = crowd(2, 2);
        let known = busy(&crowd, "a", 2);
        let strangers: Vec<Seat> = (0..Bounds::LOBBY + 5).map(|_| crowd.enter().unwrap()).collect();
        let gone = strangers.iter().filter(|seat| seat.is_given_up()).count();
        assert!(gone == 5 && strangers[..5].iter().all(Seat::is_given_up));
        assert!(!known.iter().any(|stay| stay.seat().is_given_up()));
        // Where keys leave seats free, strangers may have them.
        drop((known, strangers));
        let strangers: Vec<Seat> = (0..Bounds::LOBBY + 2).map(|_| crowd.enter().unwrap()).collect();
        assert!(!strangers.iter().any(Seat::is_given_up));
        crowd.make_room();
        assert!(strangers[0].is_given_up() && !strangers[1].is_given_up());
    }

    #[test]
    fn a_key_has_its_share_of_connections_and_a_part_of_it_for_what_stays_and_others_have_theirs() {
        assert_eq!(Bounds::of(1024, None), Bounds { most: 1024, per_key: 512, live_per_key: 384 });
        assert_eq!(Bounds::of(0, Some(0)), Bounds { most: 1, per_key: 1, live_per_key: 1 });
        assert_eq!(Bounds::of(8, Some(100)).per_key, 8);
        let crowd = Crowd::new(Bounds { most: 8, per_key: 4, live_per_key: 2 });
        let live = busy(&crowd, "a", 2);
        assert_eq!(crowd.seat(&key("a"), Kind::Live).err(), Some(Full::Live(2)));
        let asking: Vec<Stay> = (0..2).map(|_| crowd.seat(&key("a"), Kind::Passing).unwrap()).collect();
        assert_eq!(crowd.seat(&key("a"), Kind::Passing).err(), Some(Full::Key(4)));
        assert!(crowd.seat(&key("b"), Kind::Live).is_ok());
        drop(live);
        assert!(crowd.seat(&key("a"), Kind::Live).is_ok());
        drop(asking);
    }

    #[test]
    fn beyond_its_share_a_keys_own_idle_connections_give_way_first() {
        let crowd = crowd(8, 2);
        let _open = busy(&crowd, "a", 1);
        let idle = crowd.enter().unwrap();
        drop(idle.show(&key("a")).unwrap());
        assert!(!idle.is_strangers());
        let _next = crowd.seat(&key("a"), Kind::Passing).unwrap();
        assert!(idle.is_given_up());
        assert_eq!(idle.show(&key("a")).err(), Some(Full::House), "it is another's already");
        assert_eq!(crowd.seat(&key("a"), Kind::Passing).err(), Some(Full::Key(2)));
    }

    #[test]
    fn whoever_comes_in_the_place_of_another_of_its_key_gets_in_where_the_key_has_as_many_as_it_may_have() {
        let crowd = crowd(4, 2);
        let (own, theirs) = (busy(&crowd, "a", 2), busy(&crowd, "b", 2));
        let next = crowd.enter().unwrap();
        assert_eq!(next.show_instead(&key("a"), Some(theirs[0].seat().number())).err(), Some(Full::Key(2)));
        let mut stay = next.show_instead(&key("a"), Some(own[0].seat().number())).unwrap();
        stay.live().unwrap();
        assert!(own[0].seat().is_given_up() && !own[1].seat().is_given_up() && !theirs[0].seat().is_given_up());
        // That one has none any more, so that nobody can come in its place again.
        let another = crowd.enter().unwrap();
        assert_eq!(another.show_instead(&key("a"), Some(own[0].seat().number())).err(), Some(Full::Key(2)));
        drop(own);
        assert!(!stay.seat().is_given_up());
    }

    #[test]
    fn when_all_seats_are_taken_the_key_with_the_most_gives_way_until_nobody_has_two_more_than_another() {
        let crowd = crowd(4, 3);
        let (most, one) = (busy(&crowd, "a", 3), busy(&crowd, "b", 1));
        let late = busy(&crowd, "c", 1);
        assert!(most[0].seat().is_given_up() && !most[1].seat().is_given_up());
        assert_eq!(crowd.seat(&key("c"), Kind::Passing).err(), Some(Full::House), "it would have as many as a");
        assert_eq!(crowd.seat(&key("a"), Kind::Passing).err(), Some(Full::House));
        assert!(![&one[0], &late[0], &most[2]].iter().any(|stay| stay.seat().is_given_up()));
        drop(one);
        assert!(crowd.seat(&key("c"), Kind::Passing).is_ok());
    }

    #[test]
    fn a_connection_that_brings_requests_of_many_keys_is_the_last_ones_and_free_when_all_of_it_is_dropped() {
        let crowd = crowd(1, 1);
        let seat = crowd.enter().unwrap();
        drop(seat.show(&key("a")).unwrap());
        let open = seat.show(&key("b")).unwrap();
        assert!(crowd.seat(&key("a"), Kind::Passing).is_err());
        drop(seat);
        assert!(crowd.seat(&key("a"), Kind::Passing).is_err(), "something is still open there");
        drop(open);
        assert!(crowd.seat(&key("a"), Kind::Passing).is_ok());
        assert!(crowd.lock().taken.is_empty());
    }
}
