//! `veilcast grant show`: what a line says, or what there is of a stream.

use bytes::Bytes;
use veilcast::permission::{GrantError, Statement, from_line, to_line};
use veilcast::wire::{SignedGrant, StreamRecord};
use veilcast::{StreamId, UserId};

use super::{newest, words};
use crate::args::GrantShowArgs;
use crate::commands::now;
use crate::failure::Failure;
use crate::output::Output;
use crate::session::Session;

pub(super) fn run(args: &GrantShowArgs, session: &Session, output: Output) -> Result<(), Failure> {
    let id = StreamId::new(&args.what)?;
    if args.lines { lines(&id, args.user, session, output) } else { stream(&id, args.user, session, output) }
}

/// Whether it is a line, and not a stream's id.
pub(crate) fn is_line(what: &str) -> bool {
    what.trim_start().starts_with("veilcast-")
}

/// A line by itself: whether it was taken back is in the records of others.
pub(super) fn line(text: &str, output: Output) -> Result<(), Failure> {
    let (what, now) = (Statement::read(&from_line(text)?)?, now());
    output.result(words::statement(&what, now), &words::statement_in_json(&what, now))
}

pub(super) fn stream(
    stream: &StreamId,
    user: Option<UserId>,
    session: &Session,
    output: Output,
) -> Result<(), Failure> {
    let now = now();
    let (record, grants) = known(stream, user, session)?;
    let record = record.map(|(record, _)| record);
    let mut lines: Vec<String> = record.iter().map(|record| words::record(record, now)).collect();
    lines.extend(grants.iter().map(|(grant, _)| "  ".to_owned() + &words::grant(grant, record.as_ref(), now)));
    let mut json = record.as_ref().map_or_else(
        || serde_json::json!({ "id": stream.as_str(), "version": null }),
        |record| words::record_in_json(record, now),
    );
    json["grants"] = grants.iter().map(|(grant, _)| words::grant_in_json(grant, record.as_ref(), now)).collect();
    output.result(lines.join("\n"), &json)
}

/// What others need: the record, and the grants that are not over.
fn lines(stream: &StreamId, user: Option<UserId>, session: &Session, output: Output) -> Result<(), Failure> {
    let now = now();
    let (record, grants) = known(stream, user, session)?;
    let is_over = |grant: &SignedGrant| {
        let revoked = record.as_ref().and_then(|(record, _)| record.revoked(grant));
        revoked.is_some() || matches!(grant.period.refusal_at(now), Some(veilcast::Refusal::Expired { .. }))
    };
    let of_grants = grants.iter().filter(|(grant, _)| !is_over(grant)).map(|(_, envelope)| envelope);
    let envelopes: Vec<&Bytes> = record.iter().map(|(_, envelope)| envelope).chain(of_grants).collect();
    let lines = envelopes.into_iter().map(to_line).collect::<Result<Vec<_>, _>>()?;
    output.result(lines.join("\n"), &serde_json::json!({ "id": stream.as_str(), "lines": lines }))
}

type Known = (Option<(StreamRecord, Bytes)>, Vec<(SignedGrant, Bytes)>);

/// The newest record, and the grants by their numbers; an error where there is neither.
fn known(stream: &StreamId, user: Option<UserId>, session: &Session) -> Result<Known, Failure> {
    let signed = session.signed_grants();
    let mut grants = signed.grants(stream)?;
    let record = match newest(&signed, &session.issuer(), stream) {
        Ok(record) => Some(record),
        Err(Failure::Grant(GrantError::NoStream { .. })) if !grants.is_empty() => None,
        Err(failure) => return Err(failure),
    };
    grants.retain(|(grant, _)| user.is_none_or(|user| grant.user == user));
    grants.sort_by_key(|(grant, _)| grant.serial);
    Ok((record, grants))
}
