//! `veilcast_fuzz::store_place`, for libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    veilcast_fuzz::store_place(data);
});
