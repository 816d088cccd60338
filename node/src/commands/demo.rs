//! `veilcast demo`: the whole story on this machine.

use std::io::{self, Read};
use std::path::Path;

use crate::args::DemoArgs;
use crate::demo::{DEFAULT_MESSAGES, DemoError, Performance, Source};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::lines;
use crate::output::Output;

/// Largest line of `--input`; the same limit messages have.
const MAX_LINE: usize = 1 << 20;
/// Most lines taken of `--input` where `--messages` says nothing else.
const MOST_LINES: u64 = 10_000;

pub(crate) async fn run(args: DemoArgs, output: Output<'static>, mut stop: Interrupt) -> Result<Exit, Failure> {
    // Interrupted is not done: the exit code promises that everything held.
    let Some(source) = stop.or(source(&args, output)).await else { return Ok(Exit::Failed) };
    let source = source?;
    let Some(performance) = stop.or(Performance::set_up(source, output)).await else { return Ok(Exit::Failed) };
    let mut performance = performance?;
    let played = stop.or(performance.play()).await;
    // Whatever happened: nodes stop and the temporary folder goes.
    performance.clean_up().await;
    let Some(report) = played else {
        output.note("stopping", "stopped; the temporary folder is removed");
        return Ok(Exit::Failed);
    };
    let report = report?;
    let exit = if report.ok() { Exit::Done } else { Exit::Failed };
    match output.result(report.in_words(), &report.in_json()) {
        // Nobody reads the report, but the exit code still tells.
        Ok(()) | Err(Failure::OutputClosed) => Ok(exit),
        Err(failure) => Err(failure),
    }
}

async fn source(args: &DemoArgs, output: Output<'static>) -> Result<Source, DemoError> {
    let Some(path) = &args.input else {
        return Ok(Source::Measurements { count: args.messages.unwrap_or(DEFAULT_MESSAGES) });
    };
    let input: Box<dyn Read + Send> = match path == Path::new("-") {
        true => Box::new(io::stdin()),
        false => {
            let fault = |source| DemoError::Input { path: path.clone(), source };
            Box::new(std::fs::File::open(path).map_err(fault)?)
        }
    };
    let mut taken = Vec::new();
    let mut lines = lines::read(input, MAX_LINE);
    while let Some(line) = lines.recv().await {
        if taken.len() as u64 == args.messages.unwrap_or(MOST_LINES) {
            output.note("input_cut", format!("the input has more lines; the first {} are published", taken.len()));
            break;
        }
        taken.push(line.map_err(DemoError::Line)?);
    }
    Ok(Source::Lines(taken))
}
