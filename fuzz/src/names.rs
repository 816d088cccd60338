//! Names that users type and peers send.

use veilcast::key_store::KeyId;
use veilcast::{Permission, StreamId, StreamPart, UserId};

use crate::bounded::bounded;

/// A stream id, a partition, a topic, a user, a key id or a permission: what is accepted prints as it was written, an
/// address in lower case.
pub fn names(data: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(data) else { return false };
    let read = || (text.parse::<StreamId>(), text.parse::<StreamPart>(), text.parse::<UserId>(), text.parse::<KeyId>());
    let (stream, part, user, key) = bounded(data, read);
    if let Ok(stream) = &stream {
        assert_eq!(stream.as_str(), text);
        assert!(stream.owner().is_none_or(|owner| text.starts_with(&owner.to_string())));
    }
    if let Ok(part) = &part {
        assert_eq!(part.to_string(), text);
        assert_eq!(part.stream().part(part.number()).as_ref(), Ok(part));
        assert_eq!(StreamPart::from_topic(&part.topic()).as_ref(), Some(part));
    }
    if let Ok(user) = &user {
        assert_eq!(user.to_string(), text.to_lowercase());
    }
    if let Ok(key) = &key {
        assert_eq!(key.as_str(), text);
    }
    let permission = text.parse::<Permission>();
    if let Ok(permission) = &permission {
        assert_eq!(permission.name(), text);
    }
    let topic = StreamPart::from_topic(text);
    if let Some(part) = &topic {
        assert_eq!(part.topic(), text);
    }
    stream.is_ok() || part.is_ok() || user.is_ok() || key.is_ok() || permission.is_ok() || topic.is_some()
}
