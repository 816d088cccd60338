//! `veilcast_fuzz::store_state`, for libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    veilcast_fuzz::store_state(data);
});
