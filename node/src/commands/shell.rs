//! `veilcast completions` and `veilcast man`: what a shell and `man` know about the command line, made from it.

use std::fs;
use std::io;
use std::path::Path;

use clap::CommandFactory;
use serde_json::json;

use crate::args::{Cli, CompletionsArgs, ManArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

pub(crate) fn completions(args: &CompletionsArgs, output: Output) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "veilcast", &mut script);
    let script = String::from_utf8_lossy(&script);
    output.result(script.trim_end(), &json!({ "shell": args.shell.to_string(), "script": script }))?;
    Ok(Exit::Done)
}

/// A page for each command, `veilcast-stream-create.1` and so on.
pub(crate) fn man(args: &ManArgs, output: Output) -> Result<Exit, Failure> {
    let folder = &args.folder;
    let failed =
        |error: io::Error| Failure::Output(io::Error::new(error.kind(), format!("{}: {error}", folder.display())));
    fs::create_dir_all(folder).map_err(failed)?;
    let pages = write(&with_full_names(Cli::command().disable_help_subcommand(true)), folder).map_err(failed)?;
    output.result(
        format!("{pages} pages in {}", folder.display()),
        &json!({ "folder": folder.display().to_string(), "pages": pages }),
    )?;
    Ok(Exit::Done)
}

/// Commands named as their pages are, and with the options that all of them take.
fn with_full_names(mut command: clap::Command) -> clap::Command {
    command.build();
    command
}

/// Returns how many there are.
fn write(command: &clap::Command, folder: &Path) -> io::Result<usize> {
    let below = command.get_subcommands().map(|command| write(command, folder)).sum::<io::Result<usize>>()?;
    let page = clap_mangen::Man::new(command.clone()).source(concat!("veilcast ", env!("CARGO_PKG_VERSION")));
    page.manual("Veilcast").generate_to(folder)?;
    Ok(below + 1)
}
