//! How many bytes may wait for those who read: a bound for each of them, out of one for all.
//!
//! Whoever reads slowly has what waits for him, and loses what comes beyond that, with a gap that he is told. While few read each
//! has up to [`EACH`]; the more there are the less is left for the next, and each has [`LEAST`] in any case, by which a message of any
//! size passes alone.

use std::sync::{Arc, Mutex, PoisonError};

use veilcast::client::ReadOptions;

/// For one that reads, bytes.
const EACH: usize = 4 << 20;
/// For one where many read, bytes.
const LEAST: usize = 256 << 10;
/// For all together, beside the least of each; bytes.
const ALL: usize = 256 << 20;
/// What is left is for so many more.
const MORE: usize = 32;

/// What is left for those to come. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Readers(Arc<Mutex<usize>>);

/// What one of them has; it goes back when this is dropped.
pub(crate) struct Share {
    bytes: usize,
    from: Readers,
}

impl Default for Readers {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(ALL)))
    }
}

impl Readers {
    /// For one more.
    pub(crate) fn share(&self) -> Share {
        let bytes = self.change(|left| {
            let bytes = part(*left);
            *left -= bytes;
            bytes
        });
        Share { bytes, from: self.clone() }
    }

    fn change<T>(&self, change: impl FnOnce(&mut usize) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Share {
    /// What is to be read, within this.
    pub(crate) fn options(&self) -> ReadOptions {
        ReadOptions::default().untaken_bytes(self.bytes.max(LEAST))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.from.change(|left| *left += self.bytes);
    }
}

/// Of what is left; nothing where that is too little to be shared out.
fn part(left: usize) -> usize {
    if left < LEAST { 0 } else { (left / MORE).clamp(LEAST, EACH) }
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
        assert!(shares.iter().take(MORE).all(|share| allowed(share) == EACH));
        assert!(shares.windows(2).all(|two| allowed(&two[0]) >= allowed(&two[1])));
        assert!(shares.iter().all(|share| allowed(share) >= LEAST));
        assert!(shares.iter().map(allowed).sum::<usize>() <= ALL + shares.len() * LEAST);
        drop(shares);
        assert_eq!(readers.change(|left| *left), ALL);
        assert_eq!(allowed(&readers.share()), EACH);
    }
}
