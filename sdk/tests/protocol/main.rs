//! What the pure core promises, proved from outside and without a network.
//!
//! - `vectors`: the frozen bytes of docs/PROTOCOL.md.
//! - `cipher`, `messages`: sections G and M of what must hold, one test for each sentence.
//! - `damage`: every flipped bit, and properties over damaged input.
//! - `fresh`: what was recorded and is played again.
//! - `secrets`: nothing that holds a secret prints it.

#![allow(clippy::unwrap_used, reason = "a failed test is what it is for, in helpers as well")]

mod cipher;
mod damage;
mod fresh;
mod messages;
mod secrets;
mod support;
mod vectors;
