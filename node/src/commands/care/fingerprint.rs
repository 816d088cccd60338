//! `veilcast fingerprint`: an address in words.

use serde_json::json;

use crate::args::{FingerprintArgs, Shared};
use crate::commands::identity;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

/// How many words stand on a line.
const LINE: usize = 4;

pub(crate) fn run(args: &FingerprintArgs, shared: &Shared, output: Output) -> Result<Exit, Failure> {
    let user = args.user.map_or_else(|| identity::address(shared), Ok)?;
    let words = user.words();
    let lines = words.chunks(LINE).map(|line| format!("  {}", line.join(" ")));
    let text = [user.to_string()].into_iter().chain(lines).collect::<Vec<_>>().join("\n");
    output.result(text, &json!({ "address": user.to_string(), "words": words }))?;
    Ok(Exit::Done)
}
