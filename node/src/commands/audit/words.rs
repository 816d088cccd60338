//! Entries and heads in JSON, in a table, and in words.

use serde_json::{Value, json};
use veilcast::audit::{AuditEntry, AuditEvent, AuditHead, LoggedEntry, Repeats};
use veilcast::key_store::KeyId;
use veilcast::wire::Verified;
use veilcast::{Period, Refusal, StreamId, Timestamp};

use crate::times;

/// The columns of the table.
pub(super) const COLUMNS: [&str; 16] = [
    "sequence",
    "at",
    "what",
    "stream",
    "user",
    "keys",
    "count",
    "by",
    "grant_start",
    "grant_end",
    "refusal",
    "times",
    "since",
    "until",
    "public_key_sha256",
    "hash",
];

/// For people.
pub(super) fn of_head(head: &AuditHead) -> String {
    let signed = times::show(head.at);
    let dropped = match head.pruned {
        0 => String::new(),
        pruned => format!(", entries up to {pruned} dropped for age"),
    };
    format!("head of the audit log of {}: entry {}, signed {signed}{dropped}", head.publisher, head.sequence)
}

/// A head with its envelope, which is what counts.
pub(super) fn head_in_json(head: &Verified<AuditHead>) -> Value {
    let mut json = head_fields(head.content());
    json["head"] = hex::encode(head.envelope()).into();
    json
}

pub(super) fn head_fields(head: &AuditHead) -> Value {
    json!({
        "publisher": head.publisher.to_string(),
        "log": hex::encode(head.log),
        "at": head.at.as_millis(),
        "sequence": head.sequence,
        "hash": hex::encode(head.hash),
        "pruned": head.pruned,
    })
}

/// An entry with its exact bytes, which are what counts.
pub(super) fn in_json(logged: &LoggedEntry) -> Value {
    let LoggedEntry { entry: AuditEntry { sequence, at, event, .. }, content, hash, .. } = logged;
    let mut json = json!({ "sequence": sequence, "at": at.as_millis(), "what": event.name() });
    let mut put = |name: &str, value: Value| json[name] = value;
    if let Some(stream) = event.stream() {
        put("stream", stream.as_str().into());
    }
    if let Some(user) = event.user() {
        put("user", user.to_string().into());
    }
    let parts = Parts::of(event);
    if let Some((keys, count)) = parts.keys {
        put("keys", keys.iter().map(KeyId::as_str).collect());
        put("count", count.into());
    }
    if let Some(by) = parts.by {
        put("by", by.into());
    }
    if let Some(Period { start, end }) = parts.grant {
        put("grant", json!({ "start": start.map(Timestamp::as_millis), "end": end.map(Timestamp::as_millis) }));
    }
    if let Some(refusal) = parts.refusal {
        put("refusal", json!({ "reason": refusal.name(), "text": refusal.to_string() }));
    }
    if let Some(Repeats { times, keys, since, until }) = parts.repeats {
        let (since, until) = (since.as_millis(), until.as_millis());
        put("repeats", json!({ "times": times, "keys": keys, "since": since, "until": until }));
    }
    if let Some(entries) = parts.not_written {
        put("entries", entries.into());
    }
    if let Some(public_key) = parts.public_key {
        put("public_key_sha256", hex::encode(public_key).into());
    }
    put("content", hex::encode(content).into());
    put("hash", hex::encode(hash).into());
    json
}

/// A line of the table, in the order of [`COLUMNS`].
pub(super) fn in_csv(logged: &LoggedEntry) -> String {
    let LoggedEntry { entry: AuditEntry { sequence, at, event, .. }, hash, .. } = logged;
    let Parts { keys, by, grant, refusal, repeats, not_written, public_key } = Parts::of(event);
    let moment = |moment: Option<Timestamp>| moment.map_or_else(String::new, times::show);
    let ids = |(keys, _): (&[KeyId], u64)| keys.iter().map(KeyId::as_str).collect::<Vec<_>>().join(" ");
    let count = keys.map(|(_, count)| count).or(repeats.map(|repeats| repeats.keys)).or(not_written);
    let cells = [
        sequence.to_string(),
        times::show(*at),
        event.name().into(),
        event.stream().map_or_else(String::new, StreamId::to_string),
        event.user().map_or_else(String::new, |user| user.to_string()),
        keys.map_or_else(String::new, ids),
        count.map_or_else(String::new, |count| count.to_string()),
        by.unwrap_or_default().into(),
        moment(grant.and_then(|grant| grant.start)),
        moment(grant.and_then(|grant| grant.end)),
        refusal.map_or_else(String::new, |refusal| refusal.name().into()),
        repeats.map_or_else(String::new, |repeats| repeats.times.to_string()),
        moment(repeats.map(|repeats| repeats.since)),
        moment(repeats.map(|repeats| repeats.until)),
        public_key.map_or_else(String::new, hex::encode),
        hex::encode(hash),
    ];
    cells.map(|cell| quoted(&cell)).join(",")
}

/// RFC 4180; and what a spreadsheet would take for a formula is text, for subscribers choose the key ids that they ask for.
fn quoted(cell: &str) -> String {
    let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let guard = if is_formula { "'" } else { "" };
    if is_formula || cell.contains([',', '"', '\n', '\r']) {
        format!("\"{guard}{}\"", cell.replace('"', "\"\""))
    } else {
        cell.into()
    }
}

/// What some entries have and others have not.
#[derive(Default)]
struct Parts<'a> {
    keys: Option<(&'a [KeyId], u64)>,
    by: Option<&'static str>,
    grant: Option<Period>,
    refusal: Option<Refusal>,
    repeats: Option<Repeats>,
    not_written: Option<u64>,
    public_key: Option<[u8; 32]>,
}

impl<'a> Parts<'a> {
    fn of(event: &'a AuditEvent) -> Self {
        let none = Self::default();
        match event {
            AuditEvent::Given { keys, by, grant, public_key, .. } => Self {
                keys: Some((keys, keys.len() as u64)),
                by: Some(by.name()),
                grant: Some(*grant),
                public_key: Some(*public_key),
                ..none
            },
            AuditEvent::Refused { keys, count, by, refusal, public_key, .. } => Self {
                keys: Some((keys, *count)),
                by: Some(by.name()),
                refusal: Some(*refusal),
                public_key: Some(*public_key),
                ..none
            },
            AuditEvent::RefusedAgain { refusal, repeats, .. } => {
                Self { refusal: Some(*refusal), repeats: Some(*repeats), ..none }
            }
            AuditEvent::GivenAgain { repeats, .. }
            | AuditEvent::Unlisted { repeats }
            | AuditEvent::Throttled { repeats } => Self { repeats: Some(*repeats), ..none },
            AuditEvent::NotWritten { entries } => Self { not_written: Some(*entries), ..none },
            _ => none,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_that_a_spreadsheet_would_take_for_a_formula_or_for_more_than_one_is_quoted() {
        assert_eq!(quoted("key-1 key-2"), "key-1 key-2");
        assert_eq!(quoted("a,b"), "\"a,b\"");
        assert_eq!(quoted("say \"x\""), "\"say \"\"x\"\"\"");
        assert_eq!(quoted("=1+1"), "\"'=1+1\"");
        assert_eq!(quoted("@x"), "\"'@x\"");
    }
}
