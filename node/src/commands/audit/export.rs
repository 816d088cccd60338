//! `veilcast audit export`.

use std::io::Write;

use veilcast::Timestamp;
use veilcast::audit::LoggedEntry;

use super::{AuditCommandError, Stopped, words};
use crate::args::{AuditExportArgs, AuditFormat};
use crate::commands::now;
use crate::failure::Failure;
use crate::output::{Output, failed_write, to_line};
use crate::session::Session;
use crate::words::counted;

pub(super) fn run(args: &AuditExportArgs, session: &Session, output: Output) -> Result<(), Failure> {
    if args.format == AuditFormat::Csv && output.is_json() {
        return Err(AuditCommandError::TwoForms.into());
    }
    let (log, now) = (session.audit(), now());
    let from = args.from.map_or(Timestamp::ZERO, |when| when.in_the_past(now));
    let to = args.to.map_or(Timestamp::from_millis(u64::MAX), |when| when.in_the_past(now));
    let is_wanted = |logged: &LoggedEntry| {
        (from..=to).contains(&logged.entry.at)
            && args.stream.as_ref().is_none_or(|stream| logged.entry.event.stream() == Some(stream))
    };
    let head = log.head().map_err(AuditCommandError::of)?.ok_or(AuditCommandError::NoLog)?;
    let mut out = output.out();
    let first = match args.format {
        AuditFormat::Jsonl => to_line(&words::head_in_json(&head)),
        AuditFormat::Csv => words::COLUMNS.join(","),
    };
    writeln!(out, "{first}").map_err(failed_write)?;
    let mut written = 0_u64;
    log.verify::<Stopped>(None, |logged| {
        if !is_wanted(logged) {
            return Ok(());
        }
        let line = match args.format {
            AuditFormat::Jsonl => to_line(&words::in_json(logged)),
            AuditFormat::Csv => words::in_csv(logged),
        };
        written += 1;
        writeln!(out, "{line}").map_err(|error| Stopped::Other(failed_write(error)))
    })?;
    out.flush().map_err(failed_write)?;
    output.note(
        "exported",
        format!("{}; the log up to entry {} is whole", counted(written, "entry", "entries"), head.content().sequence),
    );
    Ok(())
}
