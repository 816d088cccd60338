//! `soak`: a node for a day of mixed load, in ten minutes or more. What it does and checks is told in
//! `docs/OPERATIONS.md`, "A day in ten minutes".

mod book;
mod cast;
mod clock;
mod heap;
mod load;
mod mqtt;
mod program;
mod run;
mod verdict;
mod watch;
mod web;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use veilcast_benches::{Machine, Outcome};

use crate::program::Place;
use crate::run::Run;
use crate::verdict::Verdict;

/// A node for a day of mixed load, with restarts: does its memory stay flat, its audit log whole, and does everybody read what they
/// paid for and nothing else?
#[derive(Clone, Debug, Parser)]
struct Arguments {
    /// How long it goes on at least, minutes
    #[arg(long, default_value_t = 10)]
    minutes: u64,
    /// How long it goes on at least by its own clock, hours
    #[arg(long, default_value_t = 24)]
    hours: u64,
    /// Rounds of load, each followed by a leap of the clock
    #[arg(long, default_value_t = 144)]
    rounds: usize,
    /// Messages of each partition in a round
    #[arg(long, default_value_t = 30)]
    messages: usize,
    /// What decides about grants, ends and changes of keys
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Leave data folder, logs and backup in this new folder
    #[arg(long)]
    keep: Option<PathBuf>,
}

fn main() -> ExitCode {
    if let Some(exit) = program::as_veilcast() {
        return exit;
    }
    match soak(Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("FAULT the run broke off: {error}");
            ExitCode::FAILURE
        }
    }
}

fn soak(arguments: Arguments) -> Outcome<bool> {
    let passing = tempfile::tempdir()?;
    let folder = arguments.keep.clone().unwrap_or_else(|| passing.path().join("soak"));
    std::fs::create_dir_all(&folder)?;
    let place = Place { folder };
    println!("{}; seed {}", Machine::now()?, arguments.seed);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let (findings, book) = runtime.block_on(async { Run::prepare(arguments, place.clone()).await?.play().await })?;
    let verdict = Verdict::of(&findings, &book, &place)?;
    let (hours, minutes) = (findings.leapt / 3600, findings.leapt / 60 % 60);
    println!("{} rounds, {hours}:{minutes:02} simulated in {} s", findings.rounds, findings.real.as_secs());
    verdict.print();
    println!("{}", if verdict.is_good() { "all held" } else { "NOT all held" });
    Ok(verdict.is_good())
}
