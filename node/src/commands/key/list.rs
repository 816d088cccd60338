//! `veilcast key list`: names, periods and fingerprints.

use serde_json::{Value, json};
use veilcast::key_ring::RingPrefix;
use veilcast::key_store::{KeyOrigin, KeyScope, KeyStore, StoredKey, TimeRange};
use veilcast::{Timestamp, UserId};

use crate::args::KeyListArgs;
use crate::failure::Failure;
use crate::output::Output;
use crate::session::Session;
use crate::times;

/// How many keys are read at a time.
const PAGE: usize = 256;

pub(super) fn run(args: &KeyListArgs, session: &Session, output: Output) -> Result<(), Failure> {
    let wanted = |scope: &KeyScope| args.stream.as_ref().is_none_or(|stream| stream.as_str() == scope.stream());
    let mut json = Vec::new();
    let mut text = Vec::new();
    for scope in session.store.scopes()?.into_iter().filter(wanted) {
        let publisher = UserId::from_bytes(*scope.publisher());
        let current = session.store.current(&scope)?.map(|current| current.key.id().clone());
        let ring = RingPrefix::of_scope(&scope);
        text.push(match &ring {
            Some(prefix) => format!("{prefix}  and all streams under it, by anybody"),
            None => format!("{}  published by {publisher}", scope.stream()),
        });
        for stored in history(session, &scope)? {
            let is_current = current.as_ref() == Some(stored.key.id());
            text.push(line(&stored, is_current));
            json.push(described(&scope, ring.is_some(), &stored, is_current));
        }
    }
    if text.is_empty() {
        text.push("no keys yet; they come with the first message, or with: veilcast key add".into());
    }
    output.result(text.join("\n"), &json!({ "keys": json }))
}

fn history(session: &Session, scope: &KeyScope) -> Result<Vec<StoredKey>, Failure> {
    let mut found: Vec<StoredKey> = Vec::new();
    loop {
        let after = found.last().map(StoredKey::cursor);
        let page = session.store.history(scope, TimeRange::ALL, after.as_ref(), PAGE)?;
        if page.is_empty() {
            return Ok(found);
        }
        found.extend(page);
    }
}

fn line(stored: &StoredKey, current: bool) -> String {
    let shown = |millis| times::show(Timestamp::from_millis(millis));
    let until = stored.until.map_or_else(String::new, |until| format!(" until {}", shown(until)));
    let mark = if current { "  current" } else { "" };
    format!(
        "  {:<32}  {:<10}  fingerprint {}  from {}{until}{mark}",
        stored.key.id(),
        origin(stored.origin),
        stored.key.fingerprint(),
        shown(stored.since)
    )
}

fn described(scope: &KeyScope, ring: bool, stored: &StoredKey, current: bool) -> Value {
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
