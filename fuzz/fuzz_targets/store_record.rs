//! `veilcast_fuzz::store_record`, for libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    veilcast_fuzz::store_record(data);
});
