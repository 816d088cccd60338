//! What must hold of permissions and paid time, whoever decides about them: one suite, every source.
//!
//! A source takes part with a [`Desk`](suite::Desk) and one line, `every_rule!(ItsDesk);`.

#![cfg(feature = "p2p")]
#![allow(unreachable_pub, reason = "one test, of several files")]
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

#[macro_use]
mod suite;
#[cfg(feature = "ethereum")]
mod chain;
mod grants;
mod local;
#[path = "../support/mod.rs"]
mod support;
