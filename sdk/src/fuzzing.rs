//! The decoder of what a message store has on disk, as the fuzz target sees it. It says whether the bytes are what it decodes,
//! and panics when what it read is not what it would write.

/// A block of stored messages.
pub fn stored_block(data: &[u8]) -> bool {
    crate::storage::reads_block(data)
}
