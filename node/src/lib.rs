//! The program `veilcast`: identities, streams, relays, publishers and subscribers from the command line.
//!
//! Its binary is [`program`] by the machine's clock. Whatever is to be tried over days in minutes runs the same program by another one,
//! in a binary of its own: no option and no variable of `veilcast` itself reaches the clock.

mod api_key;
mod args;
mod chain;
mod clock;
mod commands;
mod config;
mod connect;
mod daemon;
mod dashboard;
mod data_dir;
mod demo;
mod descriptors;
mod exit;
mod failure;
mod gateway;
mod interrupt;
mod lines;
mod log;
mod metrics;
mod output;
mod panics;
mod session;
mod through;
mod times;
mod unlock;
mod words;

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use veilcast::time::Clock;

use crate::args::Cli;
use crate::exit::Exit;
use crate::failure::{Failure, Told};
use crate::output::Output;

/// Does what these arguments ask for, of which the first is the program's name, and returns when it is done. All of the process goes by
/// the clock of the first call.
pub fn program(clock: Arc<dyn Clock>, arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    clock::go_by(clock);
    panics::quiet();
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    match Cli::try_parse_from(&arguments) {
        Ok(cli) => run(cli).into(),
        Err(error) => explain(&error, &arguments).into(),
    }
}

fn run(cli: Cli) -> Exit {
    let output = Output::new(cli.shared.json);
    let outcome = panics::caught(|| commands::run(cli, output)).unwrap_or(Err(Failure::Database));
    outcome.unwrap_or_else(|failure| {
        if !matches!(failure, Failure::OutputClosed) {
            output.failure(&failure.told());
        }
        failure.exit()
    })
}

/// Help and version are answers; anything else clap says is about wrong usage.
fn explain(error: &clap::Error, arguments: &[OsString]) -> Exit {
    let exit = if error.use_stderr() { Exit::Usage } else { Exit::Done };
    let wants_json = arguments.iter().any(|argument| argument == "--json");
    if wants_json && error.kind() == clap::error::ErrorKind::DisplayVersion {
        let version = serde_json::json!({ "name": "veilcast", "version": env!("CARGO_PKG_VERSION") });
        return Output::new(true).line(version).map_or_else(|failure| failure.exit(), |()| exit);
    }
    if !(wants_json && exit == Exit::Usage) {
        // Nobody reading it is no reason to fail, a disk that is full is one.
        let printed = error.print().and_then(|()| io::stdout().flush());
        let is_closed = |fault: &io::Error| fault.kind() == io::ErrorKind::BrokenPipe;
        return if printed.is_err_and(|fault| !is_closed(&fault)) && exit == Exit::Done { Exit::Failed } else { exit };
    }
    let text = error.render().to_string();
    // What is missing stands in lines of its own.
    let said: Vec<&str> = text.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
    let first = said.join(" ").trim_start_matches("error: ").to_owned();
    Output::new(true).failure(&Told { error: first, hint: "run the command with --help for how it is used".into() });
    exit
}
