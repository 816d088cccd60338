//! The publisher's own state: where each chain stands, which key comes next and is sent ahead, and who must be shut out. Pure: no clock, no store, no network.

mod ahead;
mod chain;
mod ends;
mod ledger;
mod meter;
pub mod policy;
mod schedule;

pub use ahead::{Circle, KeyAhead, KeysAhead, LEAD};
pub use chain::{BackDated, Chain};
pub use ends::EndWatch;
pub use ledger::{Entry, Given, GivenBy, GivenKey, GrantLedger, Holder, LedgerLimits, Place};
pub use meter::{Due, Meter};
pub use policy::{Every, KeyPolicy};
pub use schedule::{KeySchedule, MessageStep, RekeyStep, WRAP_REPEATS};
