//! `veilcast grant`: permissions in a stream owner's own hand, as lines of text that anybody can check.

pub(crate) mod announce;
pub(crate) mod import;
pub(crate) mod show;
mod words;

use serde_json::json;
use veilcast::StreamId;
use veilcast::permission::{GrantError, Issuer, SignedGrants, StreamSettings, to_line};
use veilcast::wire::{Revoked, StreamRecord};

pub(crate) use self::import::GrantInputError;
use super::now;
use crate::args::{GrantCommand, GrantRevokeArgs, PeriodArgs, Shared};
use crate::exit::Exit;
use crate::failure::{Failure, STOP_IT_FIRST};
use crate::output::Output;
use crate::session::Session;
use crate::times;

/// What to do where a publisher runs on the folder.
const IMPORT_MEANWHILE: &str = "stop what runs there, run this again and start it again, or let it find out by itself: it takes grants in \
    from whoever asks for a key, and looks every 5 s for records that their owner left with: veilcast grant announce";

pub(crate) fn run(command: &GrantCommand, shared: &Shared, output: Output) -> Result<Exit, Failure> {
    let in_use = match command {
        GrantCommand::Import(_) => IMPORT_MEANWHILE,
        _ => STOP_IT_FIRST,
    };
    if let GrantCommand::Show(args) = command
        && show::is_line(&args.what)
    {
        // Whoever has a line can look at it: that takes no data folder.
        return show::line(&args.what, output).map(|()| Exit::Done);
    }
    let session = Session::open(shared).map_err(|failure| failure.where_in_use(in_use))?;
    let lines = match command {
        GrantCommand::Import(args) => import::lines(args)?,
        _ => Vec::new(),
    };
    on(command, &lines, &session, output)
}

/// On an open data folder; these lines are to be taken in.
pub(crate) fn on(command: &GrantCommand, lines: &[String], session: &Session, output: Output) -> Result<Exit, Failure> {
    match command {
        GrantCommand::Issue(args) => issue(&args.period, session, output)?,
        GrantCommand::Show(args) => show::run(args, session, output)?,
        GrantCommand::Import(_) => import::run(lines, &session.signed_grants(), output)?,
        // It needs the network, so it is run elsewhere.
        GrantCommand::Announce(_) => {}
        GrantCommand::Revoke(GrantRevokeArgs { stream, user, serial }) => match (user, serial) {
            (Some(user), _) => revoke(stream, &Revoked::User { user: *user, through: u64::MAX }, session, output)?,
            (None, serial) => revoke(stream, &Revoked::Serial(serial.unwrap_or_default()), session, output)?,
        },
    }
    Ok(Exit::Done)
}

/// Signs a grant, and prints with it the record that its holder needs to tell publishers by.
pub(crate) fn issue(args: &PeriodArgs, session: &Session, output: Output) -> Result<(), Failure> {
    let (issuer, now) = (session.issuer(), now());
    let period = times::period(args.from, args.until, args.lasting, now);
    let grant = issuer.issue(&args.stream, args.user, args.permission, period, now)?;
    let record = newest(&session.signed_grants(), &issuer, &args.stream)?;
    let (grant_line, record_line) = (to_line(grant.envelope())?, to_line(&record.1)?);
    let mut json = words::grant_in_json(grant.content(), None, now);
    json["grant"] = grant_line.clone().into();
    json["record"] = record_line.clone().into();
    output.note("issued", words::grant(grant.content(), None, now));
    output.result(format!("{record_line}\n{grant_line}"), &json)
}

/// Takes grants back; whose moment and what for is in the record that is printed.
pub(crate) fn revoke(stream: &StreamId, what: &Revoked, session: &Session, output: Output) -> Result<(), Failure> {
    let (issuer, now) = (session.issuer(), now());
    let record = match what {
        Revoked::User { user, .. } => issuer.revoke_user(stream, *user, now)?,
        Revoked::Serial(serial) => issuer.revoke_serial(stream, *serial, now)?,
    };
    let line = to_line(record.envelope())?;
    let said = match what {
        Revoked::User { user, .. } => format!("everything signed for {user} on {stream} so far is taken back"),
        Revoked::Serial(serial) => format!("grant {serial} on {stream} is taken back"),
    };
    output.note("revoked", said + " for whoever has the new record");
    let taken = record.content().revocations.len();
    if taken >= StreamRecord::REVOCATIONS_NEARLY_FULL {
        output.note("revocations_nearly_full", nearly_full(taken));
    }
    let mut json = words::record_in_json(record.content(), now);
    json["record"] = line.clone().into();
    output.result(line, &json)
}

fn nearly_full(taken: usize) -> String {
    let most = StreamRecord::MAX_REVOCATIONS;
    format!(
        "{taken} of the {most} places for what is taken back on this stream are in use. A grant with an end frees its place a day after \
         that; one without never does. Sign grants with --for, and take those of one user back together (veilcast grant revoke STREAM \
         0xUSER); when all are in use nothing more can be taken back, and a new stream is needed"
    )
}

/// Makes a stream of this identity by a signed record, or changes it. What is not named stays as it was.
pub(crate) fn set_up(
    stream: &StreamId,
    change: impl FnOnce(Option<StreamSettings>) -> Result<StreamSettings, Failure>,
    session: &Session,
) -> Result<StreamRecord, Failure> {
    let known = session.signed_grants().record(stream)?.map(|(record, _)| settings(record));
    Ok(session.issuer().set_up(stream, &change(known)?, now())?.into_content())
}

/// A stream that there is no record of cannot have been meant.
pub(crate) fn must_be_known(stream: &StreamId, session: &Session) -> Result<(), Failure> {
    let known = session.signed_grants().record(stream)?;
    Ok(known.map(drop).ok_or_else(|| GrantError::NoStream { stream: stream.clone() })?)
}

fn settings(record: StreamRecord) -> StreamSettings {
    let StreamRecord { partitions, public, publishers, storage, .. } = record;
    StreamSettings { partitions, public, publishers, storage }
}

/// The newest record of a stream; one of this identity's own is made anew if it is time.
fn newest(grants: &SignedGrants, issuer: &Issuer, stream: &StreamId) -> Result<(StreamRecord, bytes::Bytes), Failure> {
    match issuer.renew(stream, now()) {
        Ok(_) | Err(GrantError::NotOwner { .. } | GrantError::EnsOwner { .. } | GrantError::NoStream { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(grants.record(stream)?.ok_or_else(|| GrantError::NoStream { stream: stream.clone() })?)
}

/// What `stream show` tells of a stream that is set up by a record.
pub(crate) fn show_stream(stream: &StreamId, session: &Session, output: Output) -> Result<(), Failure> {
    show::stream(stream, None, session, output)
}

/// What `stream show` tells of all of them.
pub(crate) fn show_streams(session: &Session, output: Output) -> Result<(), Failure> {
    let (grants, now) = (session.signed_grants(), now());
    let (mut lines, mut all) = (Vec::new(), Vec::new());
    for stream in grants.streams()? {
        if let Some((record, _)) = grants.record(&stream)? {
            lines.push(words::record(&record, now));
            all.push(words::record_in_json(&record, now));
        }
    }
    if lines.is_empty() {
        lines.push("no stream records yet; make one with: veilcast stream create PATH --registry grants".into());
    }
    output.result(lines.join("\n"), &json!({ "streams": all }))
}
