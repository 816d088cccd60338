//! `veilcast_fuzz::public_key`, for libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    veilcast_fuzz::public_key(data);
});
