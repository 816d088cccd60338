//! Keys in the store: a record each, by name, sealed like every other.

use serde::{Deserialize, Serialize};
use veilcast::key_store::{RecordStore, StoreError};
use veilcast::{StreamId, Timestamp};

use super::{ApiKey, KeyName, Streams, Verb};

const TABLE: &str = "api_keys";
/// Most keys of a node: each request is compared with all of them.
const MOST: usize = 1024;

#[derive(Serialize, Deserialize)]
struct Record {
    version: u32,
    hash: String,
    verbs: Vec<String>,
    /// Without it, every one. Said in every record, so that one that lost it is for none.
    #[serde(deserialize_with = "Option::deserialize")]
    streams: Option<Vec<String>>,
    created: u64,
}

const VERSION: u32 = 1;

/// Keeps a key, durably.
///
/// # Errors
/// [`ApiKeyError::Exists`]: there is one of this name.
pub(crate) fn add(records: &dyn RecordStore, key: &ApiKey) -> Result<(), ApiKeyError> {
    if records.get(TABLE, key.name.as_str().as_bytes())?.is_some() {
        return Err(ApiKeyError::Exists { name: key.name.clone() });
    }
    if list(records)?.len() >= MOST {
        return Err(ApiKeyError::TooMany);
    }
    let streams = match &key.streams {
        Streams::Every => None,
        Streams::These(these) => Some(these.iter().map(ToString::to_string).collect()),
    };
    let verbs = key.verbs.iter().map(ToString::to_string).collect();
    let record =
        Record { version: VERSION, hash: hex::encode(key.hash), verbs, streams, created: key.created.as_millis() };
    let bytes = serde_json::to_vec(&record).map_err(|_| ApiKeyError::Damaged)?;
    Ok(records.write(TABLE, &[(key.name.as_str().as_bytes().to_vec(), Some(bytes))])?)
}

/// Every key, by name.
pub(crate) fn list(records: &dyn RecordStore) -> Result<Vec<ApiKey>, ApiKeyError> {
    let kept = records.scan(TABLE, b"", None, MOST)?;
    kept.iter().map(|(name, record)| read(name, record).ok_or(ApiKeyError::Damaged)).collect()
}

/// Removes a key, durably.
///
/// # Errors
/// [`ApiKeyError::None`]: there is none of this name.
pub(crate) fn revoke(records: &dyn RecordStore, name: &KeyName) -> Result<(), ApiKeyError> {
    if records.get(TABLE, name.as_str().as_bytes())?.is_none() {
        return Err(ApiKeyError::None { name: name.clone() });
    }
    Ok(records.write(TABLE, &[(name.as_str().as_bytes().to_vec(), None)])?)
}

fn read(name: &[u8], record: &[u8]) -> Option<ApiKey> {
    let record: Record = serde_json::from_slice(record).ok().filter(|record: &Record| record.version == VERSION)?;
    let mut hash = [0; 32];
    hex::decode_to_slice(&record.hash, &mut hash).ok()?;
    let streams = match record.streams {
        None => Streams::Every,
        Some(these) => Streams::These(these.iter().map(|id| StreamId::new(id).ok()).collect::<Option<_>>()?),
    };
    Some(ApiKey {
        name: std::str::from_utf8(name).ok()?.parse().ok()?,
        hash,
        verbs: record.verbs.iter().map(|verb| verb.parse::<Verb>().ok()).collect::<Option<_>>()?,
        streams,
        created: Timestamp::from_millis(record.created),
    })
}

/// Why there is no such key, or no further one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ApiKeyError {
    #[error(
        "there is an API key {name} already; choose another name, or revoke it first: veilcast api-key revoke {name}"
    )]
    Exists { name: KeyName },
    #[error("there is no API key {name}; see those there are with: veilcast api-key list")]
    None { name: KeyName },
    #[error("there are {MOST} API keys, the most there may be; revoke one first")]
    TooMany,
    #[error("{verb} is about the node as a whole; make a key for it alone, with --all-streams")]
    OfNode { verb: Verb },
    #[error("a record of an API key is damaged or of a newer version; restore the data folder from a backup")]
    Damaged,
    #[error(transparent)]
    Store(#[from] StoreError),
}

#[cfg(test)]
mod tests {
    use veilcast::key_store::MemoryKeyStore;

    use super::*;

    fn key(name: &str, streams: Streams) -> ApiKey {
        let verbs = vec![Verb::Publish, Verb::Keys];
        ApiKey::make(name.parse().unwrap(), verbs, streams, Timestamp::from_secs(7), &mut rand::rng()).0
    }

    #[test]
    fn keys_are_kept_by_name_listed_and_removed() {
        let store = MemoryKeyStore::default();
        let stream: StreamId = "a.eth/x".parse().unwrap();
        add(&store, &key("b", Streams::Every)).unwrap();
        add(&store, &key("a", Streams::These(vec![stream.clone()]))).unwrap();
        assert!(matches!(add(&store, &key("a", Streams::Every)), Err(ApiKeyError::Exists { .. })));
        let names =
            |store: &MemoryKeyStore| list(store).unwrap().iter().map(|key| key.name.to_string()).collect::<Vec<_>>();
        assert_eq!(names(&store), ["a", "b"]);
        assert_eq!(list(&store).unwrap()[0].streams, Streams::These(vec![stream]));
        let name = "a".parse().unwrap();
        revoke(&store, &name).unwrap();
        assert!(matches!(revoke(&store, &name), Err(ApiKeyError::None { .. })));
        assert_eq!(names(&store), ["b"]);
    }

    #[test]
    fn a_record_that_lost_its_streams_or_has_a_verb_that_nobody_knows_opens_nothing() {
        let whole = br#"{"version":1,"hash":"HASH","verbs":["publish"],"streams":null,"created":1}"#;
        let whole = String::from_utf8_lossy(whole).replace("HASH", &"00".repeat(32));
        assert!(read(b"a", whole.as_bytes()).is_some());
        for (part, instead) in [(",\"streams\":null", ""), ("publish", "rule"), ("\"version\":1", "\"version\":2")] {
            assert!(read(b"a", whole.replace(part, instead).as_bytes()).is_none(), "{part}");
        }
    }
}
