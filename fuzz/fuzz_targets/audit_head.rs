//! `veilcast_fuzz::audit_head`, for libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    veilcast_fuzz::audit_head(data);
});
