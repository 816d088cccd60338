//! For tests of other modules: envelopes with anything in them.

pub(crate) use super::envelope::envelope_of;
