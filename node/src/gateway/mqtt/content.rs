//! From a topic and a payload of the protocol to a stream and a payload of ours.

use bytes::Bytes;
use veilcast::{Payload, StreamId};

use super::super::publish::{Destination, Where};
use super::no::{No, Reason};
use super::said::About;

/// The stream that a topic names: its id.
///
/// # Errors
/// No stream goes by that name.
pub(super) fn stream(topic: &str) -> Result<StreamId, No> {
    StreamId::new(topic).map_err(|error| No::new(Reason::Topic, format!("{error}; a topic is a stream, 0xOWNER/path")))
}

/// The stream that is subscribed to, one at a time.
///
/// # Errors
/// No stream goes by that name; or it is a pattern, or a share.
pub(super) fn filter(topic: &str) -> Result<StreamId, No> {
    if topic.starts_with("$share/") {
        return Err(No::new(Reason::Shared, "shared subscriptions are not supported"));
    }
    if topic.split('/').any(|level| level == "+" || level == "#") {
        return Err(No::new(Reason::Wildcard, "wildcards are not supported: name each stream"));
    }
    stream(topic)
}

/// Where a message goes: the parameters are those of the other doors, as user properties.
///
/// # Errors
/// They make no sense.
pub(super) fn destination(stream: StreamId, about: &About) -> Result<Destination, No> {
    let given = |name| about.user(name).map(str::to_owned);
    Ok(Destination::of(stream, Where::new(given("partition"), given("partitionKey"), given("timestamp")))?)
}

/// The payload, by its content type; where there is none it is JSON if it can be, else text, else bytes.
///
/// # Errors
/// It is not what is said of it.
pub(super) fn payload(bytes: Bytes, about: &About) -> Result<Payload, No> {
    let wrong = |why: String| No::new(Reason::PayloadFormat, why);
    let is_text = std::str::from_utf8(&bytes).is_ok();
    if about.is_text && !is_text {
        return Err(wrong("the payload is said to be UTF-8, and is not".into()));
    }
    let text = |bytes: Bytes| Payload::text(String::from_utf8_lossy(&bytes));
    let kind = about.content_type.as_deref().map(|kind| kind.split(';').next().unwrap_or_default().trim());
    match kind.map(str::to_ascii_lowercase).as_deref() {
        Some("application/json") => Payload::json_text(bytes).map_err(|error| wrong(error.to_string())),
        Some("text/plain") if is_text => Ok(text(bytes)),
        Some("text/plain") => Err(wrong("text is UTF-8; send other bytes as application/octet-stream".into())),
        Some("application/octet-stream") => Ok(Payload::binary(bytes)),
        Some(_) => {
            Err(wrong("the content type is application/json, text/plain or application/octet-stream, or none".into()))
        }
        None => Ok(match Payload::json_text(bytes.clone()) {
            Ok(json) => json,
            Err(_) if is_text => text(bytes),
            Err(_) => Payload::binary(bytes),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_a_stream_and_neither_a_pattern_nor_a_path() {
        let owner = "0x00000000000000000000000000000000000000aa";
        assert_eq!(filter(&format!("{owner}/a/b")).unwrap().as_str(), format!("{owner}/a/b"));
        for (topic, reason) in [
            ("#", Reason::Wildcard),
            ("+/x", Reason::Wildcard),
            (&format!("{owner}/#"), Reason::Wildcard),
            (&format!("$share/a/{owner}/x"), Reason::Shared),
            ("$SYS/broker", Reason::Topic),
            ("../../etc/passwd", Reason::Topic),
            ("", Reason::Topic),
            (&format!("/{owner}/x"), Reason::Topic),
            (&format!("{owner}/"), Reason::Topic),
        ] {
            assert_eq!(filter(topic).unwrap_err().reason(), reason, "{topic}");
        }
    }

    #[test]
    fn a_payload_is_what_its_content_type_says_or_else_what_it_can_be() {
        let about = |kind: Option<&str>, is_text| {
            let mut about = About::default();
            (about.content_type, about.is_text) = (kind.map(str::to_owned), is_text);
            about
        };
        let made = |bytes: &'static [u8], kind, is_text| payload(Bytes::from_static(bytes), &about(kind, is_text)).ok();
        let json = Payload::json_text("{\"a\": 1.10}").ok();
        assert_eq!(made(b"{\"a\": 1.10}", None, false), json);
        assert_eq!(made(b"{\"a\": 1.10}", Some("Application/JSON; charset=utf-8"), true), json);
        assert_eq!(made(b"{\"a\":", None, false), Some(Payload::text("{\"a\":")));
        assert_eq!(made(b"1", Some("text/plain"), false), Some(Payload::text("1")));
        assert_eq!(made(b"\xff", None, false), Some(Payload::binary(&b"\xff"[..])));
        assert_eq!(made(b"1", Some("application/octet-stream"), false), Some(Payload::binary(&b"1"[..])));
        for (bytes, kind, is_text) in [
            (&b"{\"a\":"[..], Some("application/json"), false),
            (b"\xff", Some("text/plain"), false),
            (b"\xff", None, true),
            (b"<a/>", Some("application/xml"), false),
        ] {
            assert_eq!(made(bytes, kind, is_text), None, "{kind:?}");
        }
    }
}
