//! `compare OLD NEW [PERCENT]`: what changed between two runs of the benches; each is a report (`target/bench/NAME.json`) or a folder
//! of them. Ends with 1 when a line got worse by more than 10 percent, or what is given as PERCENT; with 2 when it cannot tell.

use std::path::Path;
use std::process::ExitCode;

use veilcast_benches::{Comparison, Outcome, read_reports};

fn compared() -> Outcome<Comparison> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (old, new, percent) = match arguments.as_slice() {
        [old, new] => (old, new, 10.0),
        [old, new, percent] => (old, new, percent.parse()?),
        _ => return Err("usage: compare OLD NEW [PERCENT]; each a report or a folder of reports".into()),
    };
    let (old, new) = (read_reports(Path::new(old))?, read_reports(Path::new(new))?);
    for report in old.iter().chain(&new).filter(|report| report.quick) {
        println!("{} of {} was a quick run, whose figures mean little", report.bench, report.date);
    }
    Ok(Comparison::of(&old, &new, percent / 100.0))
}

fn main() -> ExitCode {
    match compared() {
        Ok(comparison) => {
            comparison.changes.iter().for_each(|change| println!("{change}"));
            ExitCode::from(u8::from(comparison.is_worse()))
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}
