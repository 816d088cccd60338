//! What happened, as a hash; and as text when one seed is looked at.

use std::fmt;
use std::hash::{DefaultHasher, Hasher};

/// Two runs of one seed must leave the same trace.
pub(crate) struct Trace {
    hash: DefaultHasher,
    line: String,
    loud: bool,
}

impl Trace {
    pub(crate) fn new(loud: bool) -> Self {
        // Its keys are fixed, unlike a `RandomState`'s.
        Self { hash: DefaultHasher::new(), line: String::new(), loud }
    }

    pub(crate) fn note(&mut self, now: u64, what: fmt::Arguments<'_>) {
        use fmt::Write as _;
        self.line.clear();
        let _ = write!(self.line, "{now} {what}");
        self.hash.write(self.line.as_bytes());
        if self.loud {
            println!("{}", self.line);
        }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.hash.write(bytes);
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash.finish()
    }
}
