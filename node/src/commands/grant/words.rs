//! Grants and stream records for people and programs.

use serde_json::{Value, json};
use veilcast::permission::Statement;
use veilcast::wire::{Revoked, SignedGrant, StreamRecord};
use veilcast::{Grant, Timestamp};

use crate::commands::stream::{in_words, state};
use crate::times;

pub(super) fn statement(what: &Statement, now: Timestamp) -> String {
    match what {
        Statement::Grant(one) => grant(one, None, now),
        Statement::Record(one) => record(one, now),
    }
}

pub(super) fn statement_in_json(what: &Statement, now: Timestamp) -> Value {
    match what {
        Statement::Grant(one) => grant_in_json(one, None, now),
        Statement::Record(one) => record_in_json(one, now),
    }
}

/// A grant as it stands beside this record.
pub(super) fn grant(grant: &SignedGrant, record: Option<&StreamRecord>, now: Timestamp) -> String {
    let SignedGrant { stream, user, permission, period, serial, .. } = grant;
    let taken_back = record.and_then(|record| record.revoked(grant));
    let back = taken_back.map(|at| format!("; taken back {}", times::show(at))).unwrap_or_default();
    let state = state(&counted(grant, record), now);
    format!("grant {serial}  {state:<8}  {user} may {permission} on {stream} {}{back}", in_words(*period))
}

pub(super) fn grant_in_json(grant: &SignedGrant, record: Option<&StreamRecord>, now: Timestamp) -> Value {
    json!({
        "kind": "grant",
        "stream": grant.stream.as_str(),
        "user": grant.user.to_string(),
        "permission": grant.permission.name(),
        "from": grant.period.start.map(Timestamp::as_millis),
        "until": grant.period.end.map(Timestamp::as_millis),
        "serial": grant.serial,
        "issued": grant.issued.as_millis(),
        "revoked": record.and_then(|record| record.revoked(grant)).map(Timestamp::as_millis),
        "state": state(&counted(grant, record), now),
    })
}

fn counted(grant: &SignedGrant, record: Option<&StreamRecord>) -> Grant {
    let revoked = record.and_then(|record| record.revoked(grant));
    Grant { revoked, ..Grant::new(grant.permission, grant.period) }
}

pub(super) fn record(record: &StreamRecord, now: Timestamp) -> String {
    let StreamRecord { stream, version, expires, .. } = record;
    let parts = if record.partitions == 1 { "1 partition".into() } else { format!("{} partitions", record.partitions) };
    let who = if record.public { "public, readable by everybody" } else { "encrypted, for subscribers" };
    let good = if record.holds_at(now) { "good until" } else { "EXPIRED" };
    let mut text = format!("{stream}  {parts}, {who}; record {version}, {good} {}", times::show(*expires));
    for user in &record.publishers {
        text += &format!("\n  {user} publishes");
    }
    for node in &record.storage {
        text += &format!("\n  {node} keeps its messages");
    }
    for revocation in &record.revocations {
        let at = times::show(revocation.at);
        text += &match revocation.what {
            Revoked::Serial(serial) => format!("\n  grant {serial} was taken back {at}"),
            Revoked::User { user, through } => {
                format!("\n  what {user} was granted up to number {through} was taken back {at}")
            }
        };
    }
    text
}

pub(super) fn record_in_json(record: &StreamRecord, now: Timestamp) -> Value {
    let revocation = |revocation: &veilcast::wire::Revocation| match revocation.what {
        Revoked::Serial(serial) => json!({ "serial": serial, "at": revocation.at.as_millis() }),
        Revoked::User { user, through } => {
            json!({ "user": user.to_string(), "through": through, "at": revocation.at.as_millis() })
        }
    };
    json!({
        "kind": "record",
        "id": record.stream.as_str(),
        "partitions": record.partitions,
        "public": record.public,
        "publishers": record.publishers.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "storage": record.storage.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "version": record.version,
        "issued": record.issued.as_millis(),
        "expires": record.expires.as_millis(),
        "expired": !record.holds_at(now),
        "revocations": record.revocations.iter().map(revocation).collect::<Vec<_>>(),
    })
}
