//! `veilcast key forget`: keys whose time is over, removed for good.

use std::io::{self, BufRead, IsTerminal, Write};

use serde_json::json;
use veilcast::key_store::{Forgettable, KeyScope, forget, forgettable};
use veilcast::{StreamId, Timestamp};

use super::carry::scopes_of;
use crate::args::KeyForgetArgs;
use crate::commands::care::CareError;
use crate::commands::now;
use crate::failure::Failure;
use crate::output::Output;
use crate::session::Session;
use crate::times;
use crate::words::counted;

/// Keys that may go, and what stays beside them.
pub(crate) struct Found {
    stream: StreamId,
    scopes: Vec<KeyScope>,
    before: Timestamp,
    keys: Forgettable,
}

/// Looks for them; nothing is removed.
pub(crate) fn look(args: &KeyForgetArgs, session: &Session) -> Result<Found, Failure> {
    let scopes = scopes_of(session, &args.stream, args.publisher)?;
    if scopes.is_empty() {
        return Err(CareError::NoKeys { stream: args.stream.clone() }.into());
    }
    let before = args.before.in_the_past(now());
    let mut keys = Forgettable::default();
    for scope in &scopes {
        let of_scope = forgettable(&*session.store, scope, before.as_millis())?;
        keys.over += of_scope.over;
        keys.unended += of_scope.unended;
    }
    Ok(Found { stream: args.stream.clone(), scopes, before, keys })
}

impl Found {
    /// What somebody has to agree to; `None` where nothing would be removed.
    pub(crate) fn question(&self) -> Option<String> {
        let (over, stream, moment) = (self.keys.over, &self.stream, times::show(self.before));
        (over > 0).then(|| format!("Remove {} of {stream} whose period ended before {moment}, for good?", keys(over)))
    }

    /// Asks at the terminal.
    pub(super) fn ask(&self) -> Result<(), CareError> {
        self.question().map_or(Ok(()), |question| agreed(&question))
    }

    /// Removes them.
    pub(crate) fn forget(&self, session: &Session, output: Output) -> Result<(), Failure> {
        let (before, stream, moment) = (self.before.as_millis(), &self.stream, times::show(self.before));
        let (mut removed, unended) = (0, self.keys.unended);
        for scope in self.scopes.iter().filter(|_| self.keys.over > 0) {
            removed += forget(&*session.store, scope, before)?;
        }
        let mut text = match removed {
            0 => format!("no key of {stream} has a period that ended before {moment}"),
            1 => format!("1 key of {stream} is removed; backups and subscribers keep theirs"),
            _ => format!("{removed} keys of {stream} are removed; backups and subscribers keep theirs"),
        };
        if unended > 0 {
            text.push_str(&format!("\nof {} nobody told when the period ended: kept", keys(unended)));
        }
        let json = json!({ "stream": stream.as_str(), "before": before, "removed": removed, "unended": unended });
        output.result(text, &json)
    }
}

fn keys(number: u64) -> String {
    counted(number, "key", "keys")
}

/// Asks at the terminal; a script has to say `--yes`.
pub(crate) fn agreed(question: &str) -> Result<(), CareError> {
    if !(io::stdin().is_terminal() && io::stderr().is_terminal()) {
        return Err(CareError::NobodyToAsk);
    }
    let _ = write!(io::stderr(), "{question} [y/N] ");
    let mut answer = String::new();
    // Who cannot be heard has not agreed.
    let heard = io::stdin().lock().read_line(&mut answer).is_ok();
    if heard && matches!(answer.trim(), "y" | "Y" | "yes") { Ok(()) } else { Err(CareError::Declined) }
}
