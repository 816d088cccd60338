//! Messages that could not be read, counted by why.

/// Why a message could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unreadable {
    /// Its key was refused.
    KeyRefused,
    /// Its key could not be had after many tries.
    KeyUnavailable,
    /// Only agreed keys count, and its key is none of them.
    KeyNotAgreed,
    /// Its key does not open it.
    WrongKey,
    /// Too many messages waited for keys.
    TooManyParked,
}

impl Unreadable {
    /// Every reason.
    pub const ALL: [Self; 5] =
        [Self::KeyRefused, Self::KeyUnavailable, Self::KeyNotAgreed, Self::WrongKey, Self::TooManyParked];
}

/// How many of each.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Unread([u64; Unreadable::ALL.len()]);

impl Unread {
    pub(super) fn add(&mut self, why: Unreadable, messages: usize) {
        self.0[why as usize] += messages as u64;
    }

    pub(super) const fn of(&self, why: Unreadable) -> u64 {
        self.0[why as usize]
    }
}
