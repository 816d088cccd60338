//! `veilcast key list`: names, periods and fingerprints.

use serde_json::{Value, json};
use veilcast::key_ring::RingPrefix;
use veilcast::key_store::{KeyOrigin, KeyScope, KeyStore, SledKeyStore, StoreError, StoredKey, TimeRange};
use veilcast::{StreamId, Timestamp, UserId};

use crate::args::KeyListArgs;
use crate::failure::Failure;
use crate::output::Output;
use crate::session::Session;
use crate::times;

/// How many keys are read at a time.
const PAGE: usize = 256;

pub(super) fn run(args: &KeyListArgs, session: &Session, output: Output) -> Result<(), Failure> {
    print(&in_json(&session.store, args.stream.as_ref(), usize::MAX)?, output)
}

/// For people a line each, under whose they are.
pub(crate) fn print(json: &Value, output: Output) -> Result<(), Failure> {
    let mut text: Vec<String> = Vec::new();
    let mut under = None;
    for key in json["keys"].as_array().into_iter().flatten() {
        let of = (&key["stream"], &key["prefix"], &key["publisher"]);
        if under.replace(of) != Some(of) {
            text.push(match key["prefix"].as_str() {
                Some(prefix) => format!("{prefix}  and all streams under it, by anybody"),
                None => format!("{}  published by {}", word(&key["stream"]), word(&key["publisher"])),
            });
        }
        text.push(line(key));
    }
    if text.is_empty() {
        text.push("no keys yet; they come with the first message, or with: veilcast key add".into());
    }
    if json["more"] == true {
        text.push("  and more".into());
    }
    output.result(text.join("\n"), json)
}

/// The keys of a stream, or all there are; at most so many.
pub(crate) fn in_json(store: &SledKeyStore, stream: Option<&StreamId>, limit: usize) -> Result<Value, StoreError> {
    let wanted = |scope: &KeyScope| stream.is_none_or(|stream| stream.as_str() == scope.stream());
    let mut keys = Vec::new();
    for scope in store.scopes()?.into_iter().filter(wanted) {
        let current = store.current(&scope)?.map(|current| current.key.id().clone());
        let is_ring = RingPrefix::of_scope(&scope).is_some();
        let mut after = None;
        loop {
            let page = store.history(&scope, TimeRange::ALL, after.as_ref(), PAGE)?;
            after = page.last().map(StoredKey::cursor);
            for stored in &page {
                if keys.len() >= limit {
                    return Ok(json!({ "keys": keys, "more": true }));
                }
                keys.push(described(&scope, is_ring, stored, current.as_ref() == Some(stored.key.id())));
            }
            if page.is_empty() {
                break;
            }
        }
    }
    Ok(json!({ "keys": keys }))
}

fn line(key: &Value) -> String {
    let shown = |name: &str| key[name].as_u64().map(|millis| times::show(Timestamp::from_millis(millis)));
    let until = shown("until").map_or_else(String::new, |until| format!(" until {until}"));
    let mark = if key["current"] == true { "  current" } else { "" };
    format!(
        "  {:<32}  {:<10}  fingerprint {}  from {}{until}{mark}",
        word(&key["key_id"]),
        word(&key["origin"]),
        word(&key["fingerprint"]),
        shown("since").unwrap_or_default()
    )
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// A key, without its bytes.
pub(crate) fn described(scope: &KeyScope, ring: bool, stored: &StoredKey, current: bool) -> Value {
    let publisher = UserId::from_bytes(*scope.publisher()).to_string();
    json!({
        "stream": (!ring).then_some(scope.stream()),
        "prefix": ring.then_some(scope.stream()),
        "publisher": (!ring).then_some(publisher),
        "key_id": stored.key.id().as_str(),
        "fingerprint": stored.key.fingerprint(),
        "origin": origin(stored.origin),
        "since": stored.since,
        "until": stored.until,
        "current": current,
    })
}

const fn origin(origin: KeyOrigin) -> &'static str {
    match origin {
        KeyOrigin::Made => "made",
        KeyOrigin::Received => "received",
        KeyOrigin::PreAgreed => "pre_agreed",
    }
}
