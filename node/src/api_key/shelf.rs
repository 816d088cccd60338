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
    if records.scan(TABLE, b"", None, MOST)?.len() >= MOST {
        return Err(ApiKeyError::TooMany);
    }
    let streams = match &key.streams {
        Streams::Every => None,
        Streams::These(these) => Some(these.iter().map(ToString::to_string).collect()),
    };
    let verbs = key.verbs.iter().map(ToString::to_string).collect();
    let record =
        Record { version: VERSION, hash: hex::encode(key.hash), verbs, streams, created: key.created.as_millis() };
    let bytes = serde_json::to_vec(&record).map_err(|_| ApiKeyError::Unwritable)?;
    Ok(records.write(TABLE, &[(key.name.as_str().as_bytes().to_vec(), Some(bytes))])?)
}

/// What there is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    /// Every key that can be used, by name.
    pub(crate) keys: Vec<ApiKey>,
    /// What records are called that are damaged or of a newer version: they open nothing, and the others are as they were.
    pub(crate) damaged: Vec<String>,
}

/// Every key.
pub(crate) fn list(records: &dyn RecordStore) -> Result<Kept, ApiKeyError> {
    let mut kept = Kept::default();
    for (name, record) in records.scan(TABLE, b"", None, MOST)? {
        match read(&name, &record) {
            Some(key) => kept.keys.push(key),
            None => kept.damaged.push(called(&name)),
        }
    }
    Ok(kept)
}

/// What a record is called: by its name, or, where that is none, by its bytes in hex, as far as a name may be long.
fn called(name: &[u8]) -> String {
    let plain = std::str::from_utf8(name).ok().and_then(|text| text.parse::<KeyName>().ok());
    plain.map_or_else(|| format!("0x{}", hex::encode(&name[..name.len().min(31)])), |name| name.to_string())
}

/// Removes a key, durably.
///
/// # Errors
/// [`ApiKeyError::None`]: there is none of this name.
pub(crate) fn revoke(records: &dyn RecordStore, name: &KeyName) -> Result<(), ApiKeyError> {
    let all = records.scan(TABLE, b"", None, MOST)?;
    let Some((at, _)) = all.into_iter().find(|(at, _)| called(at) == name.as_str()) else {
        return Err(ApiKeyError::None { name: name.clone() });
    };
    Ok(records.write(TABLE, &[(at, None)])?)
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
    #[error("an API key cannot be written")]
    Unwritable,
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
        let names = |store: &MemoryKeyStore| {
            list(store).unwrap().keys.iter().map(|key| key.name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(names(&store), ["a", "b"]);
        assert_eq!(list(&store).unwrap().keys[0].streams, Streams::These(vec![stream]));
        let name = "a".parse().unwrap();
        revoke(&store, &name).unwrap();
        assert!(matches!(revoke(&store, &name), Err(ApiKeyError::None { .. })));
        assert_eq!(names(&store), ["b"]);
    }

    #[test]
    fn a_damaged_record_opens_nothing_costs_no_other_key_and_is_named_and_can_be_removed() {
        let store = MemoryKeyStore::default();
        add(&store, &key("good", Streams::Every)).unwrap();
        for name in [&b"bad"[..], b"\xff\x00"] {
            store.write(TABLE, &[(name.to_vec(), Some(b"{\"version\":1".to_vec()))]).unwrap();
        }
        let kept = list(&store).unwrap();
        assert_eq!((kept.keys.len(), kept.damaged), (1, vec!["bad".to_owned(), "0xff00".into()]));
        assert!(matches!(add(&store, &key("bad", Streams::Every)), Err(ApiKeyError::Exists { .. })));
        let running = super::super::ApiKeys::load(std::sync::Arc::new(store)).unwrap();
        assert_eq!((running.all().len(), running.damaged().len()), (1, 2));
        for name in ["bad", "0xff00"] {
            running.revoke(&name.parse().unwrap()).unwrap();
        }
        running.add(&key("bad", Streams::Every)).unwrap();
        assert_eq!((running.all().len(), running.damaged().len()), (2, 0));
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
