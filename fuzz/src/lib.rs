//! The fuzz targets: one function for each decoder of bytes that come from a peer, a file or a user.
//!
//! A target says whether the bytes were taken for what they claim to be, and panics when a property does not hold: what
//! was read is written as it was read, what was signed is what is read, and reading allocates no more than the order of
//! what came in. `fuzz_targets/` hands them to libFuzzer; `tests/replay.rs` runs them on the committed corpus and on the
//! [`seeds`] in every ordinary test run, without libFuzzer.

mod bounded;
mod cast;
#[cfg(feature = "keystore")]
mod identities;
mod intake;
mod keys;
mod names;
mod registry;
mod screen;
pub mod seeds;
mod statements;

#[cfg(feature = "keystore")]
pub use identities::keystore;
pub use intake::intake;
pub use keys::{public_key, sealed};
pub use names::names;
pub use registry::registry;
pub use screen::screen;
pub use statements::{
    answer, audit_head, envelope, frame, message, push, receipt, record, request, resend_page, resend_request,
    signed_grant, storage_record, stream_record,
};
#[cfg(feature = "store")]
pub use veilcast::fuzzing::stored_block;
#[cfg(feature = "store")]
pub use veilcast_key_store::fuzzing::{
    header as store_header, place as store_place, portable_header, portable_item, record as store_record,
    state as store_state,
};

/// Tries some bytes: whether they were taken.
pub type Target = fn(&[u8]) -> bool;

/// All of them but those of what stores have on disk, which the stores' own tests replay.
pub const TARGETS: &[(&str, Target)] = &[
    ("frame", frame),
    ("envelope", envelope),
    ("message", message),
    ("record", record),
    ("stream_record", stream_record),
    ("signed_grant", signed_grant),
    ("resend_request", resend_request),
    ("resend_page", resend_page),
    ("storage_record", storage_record),
    ("audit_head", audit_head),
    ("request", request),
    ("answer", answer),
    ("push", push),
    ("receipt", receipt),
    ("public_key", public_key),
    ("sealed", sealed),
    #[cfg(feature = "keystore")]
    ("keystore", keystore),
    ("names", names),
    ("registry", registry),
    ("intake", intake),
    ("screen", screen),
];
