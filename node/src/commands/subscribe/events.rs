//! What happens beside the messages, in words and in JSON.

use serde_json::{Value, json};
use veilcast::subscriber::{Arrival, StorageFault};
use veilcast::{Event, Refusal, UserId};

use crate::times;
use crate::words::counted;

/// One sentence.
pub(crate) fn in_words(event: &Event) -> String {
    match event {
        Event::KeyPending { publisher, key_id } => format!("key {key_id}: asking {publisher}"),
        Event::KeyArrived { key_id, by, .. } => format!("key {key_id}: here, {}", arrival(*by).1),
        Event::KeyRefused { publisher, key_id, refusal, dropped } => {
            format!("key {key_id}: {publisher} refused it ({}){}", reason(refusal), lost(*dropped))
        }
        Event::KeyRetry { publisher, failure, after } => {
            format!("{publisher} was asked for keys, but {failure}; trying again in {after:?}")
        }
        Event::KeyUnavailable { publisher, key_id, failure, dropped } => {
            format!("key {key_id}: given up on {publisher} ({failure}){}", lost(*dropped))
        }
        Event::KeyNotAgreed { publisher, key_id, dropped } => {
            format!("key {key_id} of {publisher}: not among the keys agreed on, and not asked for{}", lost(*dropped))
        }
        Event::Unread { publisher, key_id, messages: unread, from, until } => format!(
            "key {key_id} of {publisher}: {} cannot be read, published {} to {}",
            messages(usize::try_from(*unread).unwrap_or(usize::MAX)),
            times::show(*from),
            times::show(*until)
        ),
        Event::WrongKey { publisher, key_id } => {
            format!(
                "key {key_id}: the one here does not open messages of {publisher}; compare fingerprints with: veilcast key list"
            )
        }
        Event::Gap { part, publisher, after, until } => format!(
            "gap: messages of {publisher} in partition {} after {}:{} up to {}:{} did not arrive",
            part.number(),
            after.timestamp,
            after.sequence,
            until.timestamp,
            until.sequence
        ),
        Event::ParkedDropped { publisher, dropped } => {
            format!("{} of {publisher} waited too long for a key and were dropped", messages(*dropped))
        }
        Event::NotAPublisher { publisher, refusal } => {
            let reason = reason(refusal);
            format!(
                "ignored messages of {publisher}, who may not publish here as far as --registry knows ({reason}); where the owner signs permissions: --registry grants"
            )
        }
        Event::StorageFault { node, fault } => format!("storage node {node}: {}", storage_fault(fault)),
        Event::HistoryEnd { messages, complete } => {
            let end = match complete {
                true => "a storage node was read to the end of what it has",
                false => "no storage node could be read to its end, there may be more",
            };
            format!("history: {}; {end}", counted(*messages, "stored message", "stored messages"))
        }
        other => format!("{other:?}"),
    }
}

/// One object with the event's name.
pub(crate) fn in_json(event: &Event) -> Value {
    match event {
        Event::KeyPending { publisher, key_id } => of("key_pending", *publisher, &json!({ "key_id": key_id.as_str() })),
        Event::KeyArrived { publisher, key_id, by } => {
            of("key_arrived", *publisher, &json!({ "key_id": key_id.as_str(), "by": arrival(*by).0 }))
        }
        Event::KeyRefused { publisher, key_id, refusal, dropped } => {
            let more = json!({ "key_id": key_id.as_str(), "refusal": in_json_refusal(refusal), "dropped": dropped });
            of("key_refused", *publisher, &more)
        }
        Event::KeyRetry { publisher, failure, after } => {
            let after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
            of("key_retry", *publisher, &json!({ "failure": failure.to_string(), "after_ms": after_ms }))
        }
        Event::KeyUnavailable { publisher, key_id, failure, dropped } => {
            let more = json!({ "key_id": key_id.as_str(), "failure": failure.to_string(), "dropped": dropped });
            of("key_unavailable", *publisher, &more)
        }
        Event::KeyNotAgreed { publisher, key_id, dropped } => {
            of("key_not_agreed", *publisher, &json!({ "key_id": key_id.as_str(), "dropped": dropped }))
        }
        Event::Unread { publisher, key_id, messages, from, until } => {
            let (from, until) = (from.as_millis(), until.as_millis());
            let more = json!({ "key_id": key_id.as_str(), "messages": messages, "from": from, "until": until });
            of("unread", *publisher, &more)
        }
        Event::WrongKey { publisher, key_id } => of("wrong_key", *publisher, &json!({ "key_id": key_id.as_str() })),
        Event::Gap { part, publisher, after, until } => {
            let at = |at: &veilcast::wire::MessageRef| json!([at.timestamp.as_millis(), at.sequence]);
            of("gap", *publisher, &json!({ "partition": part.number(), "after": at(after), "until": at(until) }))
        }
        Event::ParkedDropped { publisher, dropped } => of("parked_dropped", *publisher, &json!({ "dropped": dropped })),
        Event::NotAPublisher { publisher, refusal } => {
            of("not_a_publisher", *publisher, &json!({ "refusal": in_json_refusal(refusal) }))
        }
        Event::StorageFault { node, fault } => {
            json!({ "event": "storage_fault", "node": node.to_string(), "fault": storage_fault(fault) })
        }
        Event::HistoryEnd { messages, complete } => {
            json!({ "event": "history_end", "messages": messages, "read_to_end": complete })
        }
        other => json!({ "event": "other", "text": format!("{other:?}") }),
    }
}

fn storage_fault(fault: &StorageFault) -> String {
    match fault {
        StorageFault::Refused(Refusal::Unavailable { .. }) => {
            "cannot answer now: its store cannot be read, or it cannot tell who may read".into()
        }
        StorageFault::Refused(refusal) => format!("refused ({})", reason(refusal)),
        other => other.to_string(),
    }
}

/// At the end of a subscription: messages that could not be read, if any, whether an event told of them or not.
pub(crate) fn unread_in_all(messages: u64) -> Option<(String, Value)> {
    let text = format!("{} in all could not be read", counted(messages, "message", "messages"));
    (messages > 0).then(|| (text, json!({ "event": "unread_in_all", "messages": messages })))
}

/// A refusal in words, with times that people can read.
pub(crate) fn reason(refusal: &Refusal) -> String {
    match refusal {
        Refusal::NotYet { from } => format!("not yet: the grant begins {}", times::show(*from)),
        Refusal::Expired { since } => format!("expired: the grant ended {}", times::show(*since)),
        other => other.to_string(),
    }
}

/// A refusal with its name and its moment.
pub(crate) fn in_json_refusal(refusal: &Refusal) -> Value {
    let mut json = json!({ "name": refusal.name(), "text": reason(refusal) });
    match refusal {
        Refusal::NotYet { from } => json["from"] = from.as_millis().into(),
        Refusal::Expired { since } => json["since"] = since.as_millis().into(),
        _ => {}
    }
    if let Some(after) = refusal.retry_after() {
        json["retry_after_ms"] = u64::try_from(after.as_millis()).unwrap_or(u64::MAX).into();
    }
    json
}

fn of(event: &str, publisher: UserId, more: &Value) -> Value {
    let mut json = json!({ "event": event, "publisher": publisher.to_string() });
    if let (Some(json), Some(more)) = (json.as_object_mut(), more.as_object()) {
        json.extend(more.clone());
    }
    json
}

const fn arrival(by: Arrival) -> (&'static str, &'static str) {
    match by {
        Arrival::Answer => ("answer", "the publisher answered"),
        Arrival::Push => ("push", "the publisher handed out a new one"),
        Arrival::Rotate => ("rotate", "a message carried it"),
        Arrival::Store => ("store", "from the store"),
        _ => ("other", "by another way"),
    }
}

/// What that costs, as far as it is known by then: of stored messages the sum is told at the end.
fn lost(dropped: usize) -> String {
    if dropped == 0 { String::new() } else { format!("; {} cannot be read", messages(dropped)) }
}

fn messages(count: usize) -> String {
    if count == 1 { "1 message".into() } else { format!("{count} messages") }
}

#[cfg(test)]
mod tests {
    use veilcast::wire::MessageRef;
    use veilcast::{StreamId, Timestamp};

    use super::*;

    #[test]
    fn a_gap_says_in_which_partition_it_is() {
        let publisher = UserId::from_bytes([1; 20]);
        let part = StreamId::of(publisher, "prices").unwrap().part(7).unwrap();
        let at = |sequence| MessageRef { timestamp: Timestamp::from_millis(1_000), sequence };
        let gap = Event::Gap { part, publisher, after: at(2), until: at(4) };
        let told = json!({
            "event": "gap", "publisher": publisher.to_string(), "partition": 7, "after": [1_000, 2], "until": [1_000, 4],
        });
        assert_eq!(in_json(&gap), told);
        assert!(in_words(&gap).contains("in partition 7 after"), "{}", in_words(&gap));
    }
}
