//! How many bytes may wait for those who read: a bound for each of them, out of one for all.
//!
//! Whoever reads slowly has what waits for him, and loses what comes beyond that, with a gap that he is told. While few read each
//! has up to [`EACH`]; the more there are the less is left for the next, and each has [`LEAST`] in any case, by which a message of any
//! size passes alone. A connection that may read many streams is two of them, and shares out what it has in the same way: half of what is
//! left of it for each further stream.

use std::sync::{Arc, Mutex, PoisonError};

use veilcast::client::ReadOptions;

/// For one that reads, bytes.
const EACH: usize = 4 << 20;
/// For one where many read, bytes.
const LEAST: usize = 256 << 10;
/// For one stream of many that one reads, bytes.
const LEAST_OF_ONE: usize = 64 << 10;
/// For all together, beside the least of each; bytes.
const ALL: usize = 256 << 20;

/// What is left for those to come. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Readers {
    left: Arc<Mutex<usize>>,
    /// What is left is for so many more.
    more: usize,
    least: usize,
    /// What it is made of, where it is a connection's.
    _of: Option<Arc<[Share; 2]>>,
}

/// What one of them has; it goes back when this is dropped.
pub(crate) struct Share {
    bytes: usize,
    from: Readers,
}

impl Default for Readers {
    fn default() -> Self {
        Self { left: Arc::new(Mutex::new(ALL)), more: 32, least: LEAST, _of: None }
    }
}

impl Readers {
    /// For one more.
    pub(crate) fn share(&self) -> Share {
        let bytes = self.change(|left| {
            let bytes = self.part(*left);
            *left -= bytes;
            bytes
        });
        Share { bytes, from: self.clone() }
    }

    /// For a connection: the first stream that it reads has what one reader has, and all together no more than two, beside the least
    /// for each.
    pub(super) fn of_one(&self) -> Self {
        let shares = [self.share(), self.share()];
        let left = shares.iter().map(Share::bytes).sum();
        Self { left: Arc::new(Mutex::new(left)), more: 2, least: LEAST_OF_ONE, _of: Some(Arc::new(shares)) }
    }

    /// Of what is left; nothing where that is too little to be shared out.
    fn part(&self, left: usize) -> usize {
        if left < self.least { 0 } else { (left / self.more).clamp(self.least, EACH) }
    }

    fn change<T>(&self, change: impl FnOnce(&mut usize) -> T) -> T {
        change(&mut self.left.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Share {
    /// What is to be read, within this.
    pub(crate) fn options(&self) -> ReadOptions {
        ReadOptions::default().untaken_bytes(self.bytes())
    }

    fn bytes(&self) -> usize {
        self.bytes.max(self.from.least)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.from.change(|left| *left += self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(share: &Share) -> usize {
        share.options().untaken_bytes.unwrap()
    }

    #[test]
    fn however_many_read_all_together_have_one_bound_beside_the_least_of_each_and_what_ends_is_free_again() {
        let readers = Readers::default();
        let shares: Vec<Share> = (0..2000).map(|_| readers.share()).collect();
        assert!(shares.iter().take(readers.more).all(|share| allowed(share) == EACH));
        assert!(shares.windows(2).all(|two| allowed(&two[0]) >= allowed(&two[1])));
        assert!(shares.iter().all(|share| allowed(share) >= LEAST));
        assert!(shares.iter().map(allowed).sum::<usize>() <= ALL + shares.len() * LEAST);
        drop(shares);
        assert_eq!(readers.change(|left| *left), ALL);
        assert_eq!(allowed(&readers.share()), EACH);
    }

    #[test]
    fn however_many_streams_a_connection_reads_it_has_what_two_readers_have_beside_the_least_for_each_of_them() {
        let readers = Readers::default();
        for (others, whole) in [(0, EACH), (2000, LEAST)] {
            let _others: Vec<Share> = (0..others).map(|_| readers.share()).collect();
            let one = readers.of_one();
            let shares: Vec<Share> = (0..64).map(|_| one.share()).collect();
            assert_eq!(shares[..3].iter().map(allowed).collect::<Vec<_>>(), [whole, whole / 2, whole / 4]);
            assert!(shares.iter().all(|share| allowed(share) >= LEAST_OF_ONE));
            assert!(shares.iter().map(allowed).sum::<usize>() <= 2 * whole + shares.len() * LEAST_OF_ONE);
        }
        let one = readers.of_one();
        let stream = one.share();
        drop(one);
        assert_eq!(readers.change(|left| *left), ALL - 2 * EACH, "a stream of it is still read");
        drop(stream);
        assert_eq!(readers.change(|left| *left), ALL);
    }
}
