//! `veilcast key export` and `key import`: keys of some streams in one file.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use veilcast::key_ring::RingPrefix;
use veilcast::key_store::portable::{self, ImportedScope, PortableFile, Sealing};
use veilcast::key_store::{KeyOrigin, KeyScope, KeyStore, TimeRange, Unlock};
use veilcast::{StreamId, UserId};

use crate::args::{KeyExportArgs, KeyImportArgs, Shared};
use crate::commands::care::bar::Bar;
use crate::commands::care::{CareError, of_file, passphrases};
use crate::commands::past_span;
use crate::data_dir::DataDir;
use crate::failure::Failure;
use crate::output::Output;
use crate::session::{self, Session};
use crate::unlock::Secret;

pub(super) fn export(args: &KeyExportArgs, shared: &Shared, output: Output) -> Result<(), Failure> {
    let (session, folders) = open(shared)?;
    let mut scopes = Vec::new();
    for stream in &args.streams {
        let of_stream = scopes_of(&session, stream, args.publisher)?;
        if of_stream.is_empty() {
            return Err(CareError::NoKeys { stream: stream.clone() }.into());
        }
        scopes.extend(of_stream);
    }
    let (from, to) = past_span(args.from, args.to)?;
    let range = TimeRange { from: from.as_millis(), to: to.as_millis() };
    let passphrase = passphrases::for_new(&args.passphrase, folders.as_ref())?;
    let mut bar = Bar::new(output);
    let watch = &mut |progress| bar.show(progress);
    let sealing = Sealing::new(&passphrase);
    let summary = portable::export_keys(&*session.store, &scopes, range, &args.file, &sealing, args.force, watch)
        .map_err(of_file(&args.file))?;
    drop(bar);
    let keys = summary.keys;
    let text = format!("{}: {keys} keys, verified; whoever opens it reads what is under them", args.file.display());
    output.result(text, &json!({ "file": args.file, "keys": keys }))
}

pub(super) fn import(args: &KeyImportArgs, shared: &Shared, output: Output) -> Result<(), Failure> {
    let (session, folders) = open(shared)?;
    let passphrase = passphrases::for_file(&args.passphrase, &args.file, folders.as_ref())?;
    let mut file = PortableFile::open(&args.file, &passphrase).map_err(of_file(&args.file))?;
    let me = session.identity.user();
    let mine = |scope: &KeyScope| scope.publisher() == me.as_bytes();
    let origin = |scope: &KeyScope, origin| match origin {
        KeyOrigin::Made if !mine(scope) => KeyOrigin::Received,
        origin => origin,
    };
    let mut bar = Bar::new(output);
    let watch = &mut |progress| bar.show(progress);
    let imported = portable::import_keys(&*session.store, &mut file, origin, watch).map_err(of_file(&args.file))?;
    drop(bar);
    output.result(in_words(&imported), &in_json(&imported))
}

/// The keys of a stream, publisher by publisher; those of rings are no stream's.
pub(super) fn scopes_of(
    session: &Session,
    stream: &StreamId,
    publisher: Option<UserId>,
) -> Result<Vec<KeyScope>, Failure> {
    let wanted = |scope: &KeyScope| {
        scope.stream() == stream.as_str()
            && RingPrefix::of_scope(scope).is_none()
            && publisher.is_none_or(|publisher| publisher.as_bytes() == scope.publisher())
    };
    Ok(session.store.scopes()?.into_iter().filter(wanted).collect())
}

/// The folder, and its passphrase if it has one.
fn open(shared: &Shared) -> Result<(Session, Option<Secret>), Failure> {
    let dir = DataDir::find(shared.data_dir.as_deref())?;
    let unlock = session::unlock_identity(&dir, shared)?;
    let session = Session::open_with(&dir, &unlock)?;
    let folders = match unlock {
        Unlock::Passphrase(text) => Some(text),
        Unlock::KeyFile(_) => None,
    };
    Ok((session, folders))
}

fn in_words(imported: &BTreeMap<KeyScope, ImportedScope>) -> String {
    let mut lines = Vec::new();
    for (scope, told) in imported {
        let publisher = UserId::from_bytes(*scope.publisher());
        let (new, known) = (told.new, told.known);
        lines.push(format!("{}  published by {publisher}: {new} new, {known} known before", scope.stream()));
        if told.left_out > 0 {
            let ids: Vec<_> = told.left_out_ids.iter().map(ToString::to_string).collect();
            let more = if told.left_out > ids.len() as u64 { ", ..." } else { "" };
            let ids = ids.join(", ");
            lines.push(format!("  {} left out, another key is stored under the id: {ids}{more}", told.left_out));
        }
    }
    if lines.is_empty() { "there is no key in it".into() } else { lines.join("\n") }
}

fn in_json(imported: &BTreeMap<KeyScope, ImportedScope>) -> Value {
    let scopes: Vec<_> = imported
        .iter()
        .map(|(scope, told)| {
            json!({
                "stream": scope.stream(),
                "publisher": UserId::from_bytes(*scope.publisher()).to_string(),
                "new": told.new,
                "known": told.known,
                "left_out": told.left_out,
                "left_out_ids": told.left_out_ids.iter().map(ToString::to_string).collect::<Vec<_>>(),
            })
        })
        .collect();
    json!({ "new": imported.values().map(|told| told.new).sum::<u64>(), "scopes": scopes })
}
