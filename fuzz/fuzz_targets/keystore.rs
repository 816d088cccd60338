//! `veilcast_fuzz::keystore`, for libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    veilcast_fuzz::keystore(data);
});
