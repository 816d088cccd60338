//! `veilcast_fuzz::resend_page`, for libFuzzer.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    veilcast_fuzz::resend_page(data);
});
