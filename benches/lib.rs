//! What the benches have in common.
//!
//! A bench is a program: it measures a sentence a user would say and, in the same run, a limit that nothing can beat; prints both
//! with their ratio, and writes them to `target/bench/<bench>.json`, which `compare` reads.
//!
//! - [`Report`], [`Line`]: what was measured, where and when; [`Comparison`]: what changed since.
//! - [`in_turn`], [`Sample`], [`percentile`]: measuring.
//! - [`Child`], [`Command`]: real processes. A bench starts itself again with a role, and talks with it in lines.
//! - [`roles`]: what such processes do: publish, subscribe, ask for keys, or gossip with no work of ours.
//! - [`Counter`], [`bare_node`]: asking for keys.
//! - [`Desk`]: one publisher with one key.

mod asking;
mod child;
mod compare;
mod desk;
mod machine;
mod measure;
mod report;
pub mod roles;

pub use asking::{Counter, bare_node};
pub use child::{Child, Command, Parent};
pub use compare::{Change, Comparison, Verdict, read_reports};
pub use desk::Desk;
pub use machine::{Machine, Usage, cores, target_folder};
pub use measure::{Sample, in_turn, is_quick, percentile, quick_or, timed};
pub use report::{Better, Line, Report};

/// What a bench, and each part of it, comes to.
pub type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The `main` of every bench: a process that was started for a role takes it on, any other runs the bench.
///
/// # Errors
/// Those of the bench or the role.
pub fn run(bench: impl FnOnce() -> Outcome<()>) -> Outcome<()> {
    match child::role() {
        Some((role, arguments)) => roles::take_on(&role, &arguments),
        None => bench(),
    }
}
