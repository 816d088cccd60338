//! `veilcast_fuzz::storage_record`, for libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    veilcast_fuzz::storage_record(data);
});
