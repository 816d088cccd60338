//! A name for one of a publisher's devices.

use std::fmt;

/// Longest name kept, bytes; a peer id has at most 67.
const MAX_LEN: usize = 80;

/// One device of a publisher, under whatever name the shell knows it by: a peer id. The requester only compares.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Device(Box<[u8]>);

impl Device {
    /// The device of this name; what is longer than 80 bytes is cut.
    pub fn new(name: &[u8]) -> Self {
        Self(name.iter().copied().take(MAX_LEN).collect())
    }

    /// Its name.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({})", hex::encode(&self.0))
    }
}
