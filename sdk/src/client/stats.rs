//! Counters.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// What a client did since it started.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats { $($(#[$doc])* pub $name: u64),+ }

        #[derive(Debug, Default)]
        pub(super) struct Counters { $(pub(super) $name: AtomicU64),+ }

        impl Counters {
            pub(super) fn snapshot(&self) -> Stats {
                Stats { $($name: self.$name.load(Ordering::Relaxed)),+ }
            }
        }
    };
}

counters! {
    /// Messages published.
    messages_published,
    /// Messages handed to the application.
    messages_delivered,
    /// Messages from others that arrived, verified.
    messages_received,
    /// Messages lost because an application did not take them in time.
    messages_lost,
    /// Messages that could not be read, in all subscriptions: their keys were refused, could not be had or do not open them, or too many
    /// waited for keys.
    messages_unread,
    /// Events lost because an application did not take them in time.
    events_lost,
    /// Keys that were rotated to, by policy or by hand.
    keys_rotated,
    /// Keys that were rekeyed to: by policy, for a grant that ended, or by hand.
    keys_rekeyed,
    /// Keys that were made, and sent, before an end of paid time that was known.
    keys_ahead,
    /// Rekeys for a grant that ended that failed, and are tried again.
    rekeys_failed,
    /// Key requests sent.
    key_requests_sent,
    /// Key requests that arrived from others and were looked at.
    key_requests_received,
    /// Key requests that got no answer: malformed, stale, replayed, forged or flooding.
    key_requests_dropped,
    /// Keys given out.
    keys_granted,
    /// Keys refused.
    keys_refused,
    /// Entries written into the audit log.
    audit_entries,
    /// Times that it could not be written.
    audit_failures,
    /// Answers to our requests that counted.
    key_answers_accepted,
    /// Answers that did not count.
    key_answers_ignored,
    /// Keys pushed at rekeys, and confirmed.
    pushes_confirmed,
    /// Pushed keys taken in.
    pushes_accepted,
}

pub(super) fn count(counter: &AtomicU64, by: usize) {
    counter.fetch_add(by as u64, Ordering::Relaxed);
}
