//! `veilcast audit verify`.

use serde_json::json;
use veilcast::StreamId;
use veilcast::audit::{AuditCheck, AuditEvent, AuditReport, LoggedEntry};

use super::file::Export;
use super::{AuditCommandError, KeptHead, Stopped, kept_head, words};
use crate::args::AuditVerifyArgs;
use crate::failure::Failure;
use crate::output::Output;
use crate::session::Session;
use crate::words::counted;

/// An export in a file, which takes no data folder.
pub(super) fn export(args: &AuditVerifyArgs, output: Output) -> Result<(), Failure> {
    let kept = kept_head(args)?.map(|kept| kept.read()).transpose()?;
    let Some(path) = &args.export else { return Ok(()) };
    let (mut export, mut count) = (Export::open(path)?, Count::of(args));
    let mut check = AuditCheck::new(export.head(), kept.as_ref()).map_err(AuditCommandError::of)?;
    while let Some(entry) = export.next()? {
        check.take(&entry).map_err(AuditCommandError::of)?;
        count.take(&entry);
    }
    told(&check.finish().map_err(AuditCommandError::of)?, &count, output)
}

/// The log of a data folder.
pub(super) fn log(
    args: &AuditVerifyArgs,
    kept: Option<&KeptHead>,
    session: &Session,
    output: Output,
) -> Result<(), Failure> {
    let kept = kept.map(KeptHead::read).transpose()?;
    let mut count = Count::of(args);
    let report = session.audit().verify::<Stopped>(kept.as_ref(), |entry| {
        count.take(entry);
        Ok(())
    })?;
    match report {
        Some(report) => told(&report, &count, output),
        None => output.result("there is no audit log yet", &json!({ "whole": true, "entries": 0 })),
    }
}

/// What the entries looked at say, as far as they are of the stream.
struct Count<'a> {
    stream: Option<&'a StreamId>,
    keys_given: u64,
    keys_refused: u64,
}

impl<'a> Count<'a> {
    fn of(args: &'a AuditVerifyArgs) -> Self {
        Self { stream: args.stream.as_ref(), keys_given: 0, keys_refused: 0 }
    }

    fn take(&mut self, logged: &LoggedEntry) {
        let event = &logged.entry.event;
        if self.stream.is_some_and(|stream| event.stream() != Some(stream)) {
            return;
        }
        match event {
            AuditEvent::Given { keys, .. } => self.keys_given += keys.len() as u64,
            // A span that was refused as a whole names no key.
            AuditEvent::Refused { count, .. } => self.keys_refused += (*count).max(1),
            _ => {}
        }
    }
}

fn told(report: &AuditReport, count: &Count<'_>, output: Output) -> Result<(), Failure> {
    let AuditReport { head, first, entries, not_written, .. } = report;
    let (given, refused) = (count.keys_given, count.keys_refused);
    let of = count.stream.map_or_else(String::new, |stream| format!(" of {stream}"));
    let mut lines = vec![
        format!("the audit log is whole: {}, {first} to {}", counted(*entries, "entry", "entries"), head.sequence),
        format!("{}{of} given and {refused} refused, each counted where it is listed", counted(given, "key", "keys")),
        words::of_head(head),
    ];
    if *not_written > 0 {
        lines.push(format!("not written, by the log's own account: {}", counted(*not_written, "entry", "entries")));
    }
    let json = json!({
        "whole": true,
        "first": first,
        "entries": entries,
        "not_written": not_written,
        "stream": count.stream.map(StreamId::as_str),
        "keys_given": given,
        "keys_refused": refused,
        "head": words::head_fields(head),
    });
    output.result(lines.join("\n"), &json)
}
