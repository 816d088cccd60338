//! How much reading may allocate.

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What reading may allocate however little came in: a list of a thousand parts, before the first is found wanting.
const ALWAYS: usize = 256 * 1024;
/// And for each byte: a few copies.
const PER_BYTE: usize = 16;

/// Reads `input`, and panics when that allocated out of proportion. Nothing else may be running in the process.
pub(crate) fn bounded<T>(input: &[u8], read: impl FnOnce() -> T) -> T {
    let region = Region::new(ALLOCATOR);
    let read = read();
    let (allocated, allowed) = (region.change().bytes_allocated, ALWAYS + PER_BYTE * input.len());
    assert!(allocated <= allowed, "{} bytes made it allocate {allocated}, more than {allowed}", input.len());
    read
}
