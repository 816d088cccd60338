//! A message as a line.

use serde::Serialize;
use serde_json::value::RawValue;
use veilcast::Message;
use veilcast::wire::ContentType;

use crate::output::Output;

/// The payload as it is, or a JSON object around it.
pub(crate) fn line(message: &Message, output: Output) -> Vec<u8> {
    if output.is_json() { in_json(message).into_bytes() } else { message.payload.to_vec() }
}

/// One object on one line.
pub(crate) fn in_json(message: &Message) -> String {
    crate::output::to_line(&Line::of(message))
}

#[derive(Serialize)]
struct Line {
    stream: String,
    partition: u32,
    publisher: String,
    timestamp: u64,
    sequence: u32,
    key_id: Option<String>,
    content_type: &'static str,
    payload: Box<RawValue>,
}

impl Line {
    fn of(message: &Message) -> Self {
        let (content_type, payload) = payload(message);
        Self {
            stream: message.part.stream().to_string(),
            partition: message.part.number(),
            publisher: message.publisher.to_string(),
            timestamp: message.at.timestamp.as_millis(),
            sequence: message.at.sequence,
            key_id: message.key_id.as_ref().map(ToString::to_string),
            content_type,
            payload,
        }
    }
}

/// JSON stands as it is, every digit of it; text is a string; bytes are a string of hex digits.
fn payload(message: &Message) -> (&'static str, Box<RawValue>) {
    let as_string = |text: &str| serde_json::value::to_raw_value(text).unwrap_or_default();
    match (message.content_type, message.text()) {
        (ContentType::Json, Some(text)) => match raw(text) {
            Some(json) => ("json", json),
            // Whoever published it says it is JSON; it is not.
            None => ("text", as_string(text)),
        },
        (ContentType::Text, Some(text)) => ("text", as_string(text)),
        _ => ("binary", as_string(&hex::encode(&message.payload))),
    }
}

/// Line ends in JSON stand between its parts only, where a space means the same and keeps it on one line.
fn raw(text: &str) -> Option<Box<RawValue>> {
    RawValue::from_string(text.replace(['\n', '\r'], " ")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_every_digit_and_stays_on_one_line() {
        let kept = raw("{\"b\": 1.10,\n\"a\": 123456789012345678901234567890}").unwrap();
        assert_eq!(kept.get(), "{\"b\": 1.10, \"a\": 123456789012345678901234567890}");
        assert!(raw("not json").is_none());
    }
}
