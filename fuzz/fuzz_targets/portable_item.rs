//! `veilcast_fuzz::portable_item`, for libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    veilcast_fuzz::portable_item(data);
});
