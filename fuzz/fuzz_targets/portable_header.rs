//! `veilcast_fuzz::portable_header`, for libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    veilcast_fuzz::portable_header(data);
});
