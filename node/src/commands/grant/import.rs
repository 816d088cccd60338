//! `veilcast grant import`: lines from the command line or stdin into the data folder.

use std::io::{self, IsTerminal, Read};

use serde_json::json;
use veilcast::permission::{GrantError, SignedGrants, from_line};

use super::words;
use crate::args::ImportArgs;
use crate::commands::now;
use crate::exit::Exit;
use crate::failure::{Failure, grant_hint};
use crate::output::Output;

/// More than any stream's grants are on stdin, bytes.
pub(crate) const MOST: u64 = 256 * 1024 * 1024;

/// The lines that are to be taken in: those of the command line, or of stdin.
pub(crate) fn lines(args: &ImportArgs) -> Result<Vec<String>, GrantInputError> {
    if args.lines.is_empty() { from_stdin() } else { Ok(args.lines.clone()) }
}

pub(super) fn run(lines: &[String], grants: &SignedGrants, output: Output) -> Result<(), Failure> {
    let (now, mut said, mut all) = (now(), Vec::new(), Vec::new());
    for (number, line) in lines.iter().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        match from_line(line).and_then(|envelope| grants.import(&envelope, now)) {
            Ok(what) => {
                said.push(words::statement(&what, now));
                all.push(words::statement_in_json(&what, now));
            }
            // What came later says more; nobody has to sort the lines.
            Err(GrantError::Outdated { known, .. }) => {
                output.note("outdated", format!("line {}: a newer stream record is here already, {known}", number + 1));
            }
            Err(error) => return Err(GrantInputError::Line { number: number + 1, error }.into()),
        }
    }
    if lines.iter().all(|line| line.trim().is_empty()) {
        return Err(GrantInputError::Empty.into());
    }
    let text = if said.is_empty() { "nothing new".into() } else { said.join("\n") };
    output.result(text, &json!({ "imported": all }))
}

pub(crate) fn from_stdin() -> Result<Vec<String>, GrantInputError> {
    if io::stdin().is_terminal() {
        return Err(GrantInputError::Empty);
    }
    let mut text = String::new();
    io::stdin().lock().take(MOST).read_to_string(&mut text).map_err(GrantInputError::Stdin)?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// Why lines are not taken in.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum GrantInputError {
    #[error("there is no line to take in; give lines on stdin, or after the command")]
    Empty,
    #[error("cannot read lines from stdin: {0}; give them after the command")]
    Stdin(io::Error),
    #[error("line {number}: {error}; {}", grant_hint(.error).unwrap_or("the lines before it were taken in"))]
    Line { number: usize, error: GrantError },
}

impl GrantInputError {
    /// Lines that are none are wrong usage; those that do not count are not.
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::Empty | Self::Line { error: GrantError::Line | GrantError::TooLong { .. }, .. } => Exit::Usage,
            _ => Exit::Failed,
        }
    }
}
