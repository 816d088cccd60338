//! `veilcast stream show`: streams and grants as they stand now.

use std::fmt::Write;

use serde_json::{Value, json};
use veilcast::exchange::HistoryPolicy;
use veilcast::permission::{LocalRegistry, StreamInfo};
use veilcast::publisher::{Holder, KeyPolicy};
use veilcast::{Grant, Refusal, StreamId, Timestamp, UserId};

use super::{in_words, known};
use crate::commands::{history, now, rhythm};
use crate::failure::Failure;
use crate::output::Output;
use crate::session::Session;
use crate::times;

/// One stream with its grants, and who holds keys of it.
pub(super) fn one(
    stream: &StreamId,
    session: &Session,
    registry: &LocalRegistry,
    output: Output,
) -> Result<(), Failure> {
    let (now, holders) = (now(), session.holders(stream)?);
    let info = known(registry, stream)?;
    let grants = registry.grants(stream)?;
    let policy = KeyPolicy::load(&*session.store, stream)?;
    let history = session.histories().of(stream)?;
    let mut json = described(stream, &info, history);
    json["grants"] = grants.iter().map(|(user, grant)| grant_json(*user, grant, now)).collect();
    json["key_policy"] = rhythm::in_json(policy);
    json["holders"] = holders.iter().map(holder_json).collect();
    let mut text = headline(stream, &info);
    if !policy.is_never() {
        let _ = write!(text, "\n  the key {}", rhythm::in_words(policy));
    }
    let _ = write!(text, "\n  history: {}", history::in_words(history));
    for (user, grant) in &grants {
        let line = format!("  {user}  {:<9}  {:<8}", grant.permission.name(), state(grant, now));
        let _ = write!(text, "\n{line}  {}", when(grant));
    }
    if grants.is_empty() {
        text.push_str("\n  no grants yet; give one with: veilcast stream grant STREAM USER");
    }
    for holder in &holders {
        let (last, first) = (times::show(holder.last), times::show(holder.first));
        let _ = write!(
            text,
            "\n  {}  holds keys up to {}, given {last}, the first {first}",
            holder.user, holder.newest_key
        );
    }
    output.result(text, &json)
}

/// All streams on record.
pub(super) fn all(session: &Session, registry: &LocalRegistry, output: Output) -> Result<(), Failure> {
    let (streams, histories) = (registry.streams()?, session.histories());
    let described = |(id, info): &(StreamId, StreamInfo)| Ok(described(id, info, histories.of(id)?));
    let json = json!({ "streams": streams.iter().map(described).collect::<Result<Vec<_>, Failure>>()? });
    let lines = streams.iter().map(|(id, info)| headline(id, info)).collect::<Vec<_>>();
    let text = match lines.is_empty() {
        true => "no streams yet; make one with: veilcast stream create PATH".into(),
        false => lines.join("\n"),
    };
    output.result(text, &json)
}

fn described(stream: &StreamId, info: &StreamInfo, history: HistoryPolicy) -> Value {
    let (id, history) = (stream.as_str(), history::word(history));
    json!({ "id": id, "partitions": info.partitions, "public": info.public, "history": history })
}

pub(super) fn headline(stream: &StreamId, info: &StreamInfo) -> String {
    let parts = if info.partitions == 1 { "1 partition".into() } else { format!("{} partitions", info.partitions) };
    let who = if info.public { "public, readable by everybody" } else { "encrypted, for subscribers" };
    format!("{stream}  {parts}, {who}")
}

fn grant_json(user: UserId, grant: &Grant, now: Timestamp) -> Value {
    json!({
        "user": user.to_string(),
        "permission": grant.permission.name(),
        "from": grant.period.start.map(Timestamp::as_millis),
        "until": grant.period.end.map(Timestamp::as_millis),
        "revoked": grant.revoked.map(Timestamp::as_millis),
        "state": state(grant, now),
    })
}

fn holder_json(holder: &Holder) -> Value {
    json!({
        "user": holder.user.to_string(),
        "newest_key": holder.newest_key.as_str(),
        "first": holder.first.as_millis(),
        "last": holder.last.as_millis(),
        "grant": {
            "from": holder.grant.start.map(Timestamp::as_millis),
            "until": holder.grant.end.map(Timestamp::as_millis),
        },
    })
}

pub(crate) fn state(grant: &Grant, now: Timestamp) -> &'static str {
    match grant.holds_at(now) {
        Ok(()) => "active",
        Err(_) if grant.revoked.is_some() => "revoked",
        Err(Refusal::NotYet { .. }) => "not_yet",
        Err(_) => "expired",
    }
}

fn when(grant: &Grant) -> String {
    match grant.revoked {
        Some(moment) => format!("{}; revoked {}", in_words(grant.period), times::show(moment)),
        None => in_words(grant.period),
    }
}
