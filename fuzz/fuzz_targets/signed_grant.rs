//! `veilcast_fuzz::signed_grant`, for libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    veilcast_fuzz::signed_grant(data);
});
