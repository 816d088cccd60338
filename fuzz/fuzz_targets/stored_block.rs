//! `veilcast_fuzz::stored_block`, for libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    veilcast_fuzz::stored_block(data);
});
