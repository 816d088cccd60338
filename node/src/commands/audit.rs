//! `veilcast audit`: the account of keys given and refused, checked and printed.

mod export;
mod file;
mod verify;
mod words;

use std::io;
use std::path::PathBuf;

use veilcast::audit::{AuditFault, AuditHead};

use crate::args::{AuditAnewArgs, AuditCommand, AuditVerifyArgs, Shared};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::session::Session;
use crate::words::counted;

pub(crate) fn run(command: &AuditCommand, shared: &Shared, output: Output) -> Result<Exit, Failure> {
    match command {
        AuditCommand::Verify(args) if args.export.is_some() => verify::export(args, output).map(|()| Exit::Done),
        AuditCommand::Verify(args) => {
            let kept = kept_head(args)?;
            on(command, kept, &Session::open(shared)?, output)
        }
        _ => on(command, None, &Session::open(shared)?, output),
    }
}

/// On an open data folder; `kept` is a head that the log is checked against.
pub(crate) fn on(
    command: &AuditCommand,
    kept: Option<KeptHead>,
    session: &Session,
    output: Output,
) -> Result<Exit, Failure> {
    match command {
        AuditCommand::Verify(args) => verify::log(args, kept.as_ref(), session, output)?,
        AuditCommand::Export(args) => export::run(args, session, output)?,
        AuditCommand::Head(_) => head(session, output)?,
        AuditCommand::BeginAnew(args) => begin_anew(args, session, output)?,
    }
    Ok(Exit::Done)
}

/// A head that was kept, and the file that it was read from.
pub(crate) struct KeptHead {
    file: PathBuf,
    line: String,
}

impl KeptHead {
    /// A line that somebody read from this file.
    pub(crate) const fn new(file: PathBuf, line: String) -> Self {
        Self { file, line }
    }

    /// The line, as it stands in the file.
    pub(crate) fn line(&self) -> &str {
        &self.line
    }

    fn read(&self) -> Result<AuditHead, AuditCommandError> {
        file::head_in(&self.file, &self.line)
    }
}

/// The head that the command line names.
pub(crate) fn kept_head(args: &AuditVerifyArgs) -> Result<Option<KeptHead>, Failure> {
    let read = |path: &PathBuf| Ok(KeptHead::new(path.clone(), file::first_line(path)?));
    args.since_head.as_ref().map(read).transpose()
}

fn head(session: &Session, output: Output) -> Result<(), Failure> {
    let head = session.audit().head().map_err(AuditCommandError::of)?.ok_or(AuditCommandError::NoLog)?;
    if !output.is_json() {
        output.note("head", words::of_head(head.content()));
    }
    output.result(hex::encode(head.envelope()), &words::head_in_json(&head))
}

/// One that is whole is removed only by whoever says so: there is no other account of who was given which key.
fn begin_anew(args: &AuditAnewArgs, session: &Session, output: Output) -> Result<(), Failure> {
    let log = session.audit();
    if !args.although_whole
        && let Ok(Some(report)) = log.verify::<AuditFault>(None, |_| Ok(()))
    {
        return Err(AuditCommandError::Whole { entries: report.entries }.into());
    }
    let pages = log.begin_anew()?;
    let text =
        format!("the audit log is removed, {pages} pages of it; another begins with the next key given or refused");
    output.result(text, &serde_json::json!({ "removed_pages": pages }))
}

/// Why the log is not whole, or was not looked at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum AuditCommandError {
    #[error(
        "{0}; keep the data folder as it is, and compare it with heads, exports and backups kept elsewhere (to go on: veilcast audit begin-anew)"
    )]
    Fault(AuditFault),
    #[error("{0}; ask for a head of this very log, or check without --since-head")]
    OtherHead(AuditFault),
    #[error(
        "the audit log is whole ({}), and nothing else tells who was given which key; it goes on by itself. To remove it all the same: --although-whole", counted(*.entries, "entry", "entries")
    )]
    Whole { entries: u64 },
    #[error("--json and --format csv ask for two forms at once; leave one of them away")]
    TwoForms,
    #[error("there is no audit log in this data folder; it begins with the first key given or refused")]
    NoLog,
    #[error("cannot read {}: {source}; check the path and its permissions", .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} begins with no head of an audit log; give a file from veilcast audit head, or an export in JSON lines", .path.display())]
    NoHead { path: PathBuf },
    #[error("line {line} of {} is no entry of an audit log; export it again as JSON lines, without --from, --to or --stream", .path.display())]
    Line { path: PathBuf, line: u64 },
    #[error(
        "entry {entry} was altered: its {field:?} (line {line}) says something else than its signed bytes; do not go by this file, and ask for another export"
    )]
    SaysOtherwise { entry: u64, line: u64, field: String },
    #[error("the head in {} was altered: its {field:?} says something else than its signed bytes; ask for another", .path.display())]
    HeadSaysOtherwise { path: PathBuf, field: String },
}

impl AuditCommandError {
    fn of(fault: AuditFault) -> Failure {
        match fault {
            AuditFault::Store(error) => error.into(),
            fault @ (AuditFault::OtherLog | AuditFault::Forgotten { .. } | AuditFault::Publisher { .. }) => {
                Self::OtherHead(fault).into()
            }
            fault => Self::Fault(fault).into(),
        }
    }
}

/// For the errors of what looks at entries while they are checked.
enum Stopped {
    Fault(AuditFault),
    Other(Failure),
}

impl From<AuditFault> for Stopped {
    fn from(fault: AuditFault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Stopped> for Failure {
    fn from(stopped: Stopped) -> Self {
        match stopped {
            Stopped::Fault(fault) => AuditCommandError::of(fault),
            Stopped::Other(failure) => failure,
        }
    }
}
