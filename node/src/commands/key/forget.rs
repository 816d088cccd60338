//! `veilcast key forget`: keys whose time is over, removed for good.

use std::io::{self, BufRead, IsTerminal, Write};

use serde_json::json;
use veilcast::key_store::{Forgettable, forget, forgettable};

use super::carry::scopes_of;
use crate::args::{KeyForgetArgs, Shared};
use crate::commands::care::CareError;
use crate::commands::now;
use crate::failure::Failure;
use crate::output::Output;
use crate::session::Session;
use crate::times;

pub(super) fn run(args: &KeyForgetArgs, shared: &Shared, output: Output) -> Result<(), Failure> {
    let session = Session::open(shared)?;
    let scopes = scopes_of(&session, &args.stream, args.publisher)?;
    if scopes.is_empty() {
        return Err(CareError::NoKeys { stream: args.stream.clone() }.into());
    }
    let before = args.before.in_the_past(now());
    let mut found = Forgettable::default();
    for scope in &scopes {
        let of_scope = forgettable(&*session.store, scope, before.as_millis())?;
        found.over += of_scope.over;
        found.unended += of_scope.unended;
    }
    let (stream, moment) = (&args.stream, times::show(before));
    if found.over > 0 && !args.yes {
        let question = format!("Remove {} keys of {stream} whose period ended before {moment}, for good?", found.over);
        agreed(&question)?;
    }
    let mut removed = 0;
    for scope in scopes.iter().filter(|_| found.over > 0) {
        removed += forget(&*session.store, scope, before.as_millis())?;
    }
    let mut text = match removed {
        0 => format!("no key of {stream} has a period that ended before {moment}"),
        _ => format!("{removed} keys of {stream} are removed; backups and subscribers keep theirs"),
    };
    if found.unended > 0 {
        text.push_str(&format!("\n{} keys stay, of which nobody told when their period ended", found.unended));
    }
    let json = json!({
        "stream": stream.as_str(), "before": before.as_millis(), "removed": removed, "unended": found.unended,
    });
    output.result(text, &json)
}

/// Asks at the terminal; a script has to say `--yes`.
fn agreed(question: &str) -> Result<(), CareError> {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(CareError::NobodyToAsk);
    }
    let _ = write!(io::stderr(), "{question} [y/N] ");
    let mut answer = String::new();
    // Who cannot be heard has not agreed.
    let heard = io::stdin().lock().read_line(&mut answer).is_ok();
    if heard && matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(CareError::Declined) }
}
