//! `veilcast key export` and `key import`: keys of some streams in one file.

use std::collections::BTreeMap;
use std::io::{Read, Seek};
use std::path::Path;

use serde_json::{Value, json};
use veilcast::key_ring::RingPrefix;
use veilcast::key_store::portable::{self, ImportedScope, PortableFile, Sealing, Summary, Watch};
use veilcast::key_store::{KeyOrigin, KeyScope, KeyStore, TimeRange, Unlock};
use veilcast::{StreamId, UserId};

use crate::args::{KeyExportArgs, KeyImportArgs, Shared};
use crate::commands::care::backup::To;
use crate::commands::care::bar::Bar;
use crate::commands::care::{CareError, of_file, passphrases};
use crate::commands::past_span;
use crate::data_dir::DataDir;
use crate::failure::Failure;
use crate::output::Output;
use crate::session::{self, Session};
use crate::unlock;
use crate::words::counted;

pub(super) fn export(args: &KeyExportArgs, shared: &Shared, output: Output) -> Result<(), Failure> {
    let (session, unlock) = open(shared)?;
    let scopes = scopes(args, &session)?;
    let passphrase = passphrases::for_new(&args.passphrase, unlock::folders(&unlock))?;
    let mut bar = Bar::new(output);
    let to = To { file: &args.file, passphrase: &passphrase, replace: args.force };
    let summary = write(args, &scopes, &session, &to, &mut |progress| bar.show(progress))?;
    drop(bar);
    told(&args.file, summary, output)
}

/// Those whose keys are asked for.
pub(crate) fn scopes(args: &KeyExportArgs, session: &Session) -> Result<Vec<KeyScope>, Failure> {
    let mut scopes = Vec::new();
    for stream in &args.streams {
        let of_stream = scopes_of(session, stream, args.publisher)?;
        if of_stream.is_empty() {
            return Err(CareError::NoKeys { stream: stream.clone() }.into());
        }
        scopes.extend(of_stream);
    }
    let (from, to) = past_span(args.from, args.to)?;
    if is_empty(session, &scopes, TimeRange { from: from.as_millis(), to: to.as_millis() })? {
        return Err(CareError::NoKeysThen { from, to }.into());
    }
    Ok(scopes)
}

/// Writes their keys of the span that is asked for.
pub(crate) fn write(
    args: &KeyExportArgs,
    scopes: &[KeyScope],
    session: &Session,
    to: &To<'_>,
    watch: &mut Watch<'_>,
) -> Result<Summary, Failure> {
    let (from, until) = past_span(args.from, args.to)?;
    let range = TimeRange { from: from.as_millis(), to: until.as_millis() };
    let sealing = Sealing::new(to.passphrase);
    portable::export_keys(&*session.store, scopes, range, to.file, &sealing, to.replace, watch)
        .map_err(of_file(to.file))
}

/// Says what is in the file.
pub(crate) fn told(file: &Path, summary: Summary, output: Output) -> Result<(), Failure> {
    let keys = summary.keys;
    let counted = counted(keys, "key", "keys");
    let text = format!("{}: {counted}, verified; whoever opens it reads what is under them", file.display());
    output.result(text, &json!({ "file": file, "keys": keys }))
}

pub(super) fn import(args: &KeyImportArgs, shared: &Shared, output: Output) -> Result<(), Failure> {
    let (session, unlock) = open(shared)?;
    let passphrase = passphrases::for_file(&args.passphrase, &args.file, unlock::folders(&unlock))?;
    let mut file = PortableFile::open(&args.file, &passphrase).map_err(of_file(&args.file))?;
    let mut bar = Bar::new(output);
    let told = take_in(&mut file, &args.file, &session, &mut |progress| bar.show(progress))?;
    drop(bar);
    told.tell(output)
}

/// What was taken in.
pub(crate) struct Imported(BTreeMap<KeyScope, ImportedScope>);

impl Imported {
    /// Says it.
    pub(crate) fn tell(&self, output: Output) -> Result<(), Failure> {
        output.result(in_words(&self.0), &in_json(&self.0))
    }
}

/// Takes in the keys of a file, which somebody calls by this path.
pub(crate) fn take_in<R: Read + Seek>(
    file: &mut PortableFile<R>,
    path: &Path,
    session: &Session,
    watch: &mut Watch<'_>,
) -> Result<Imported, Failure> {
    let me = session.identity.user();
    let mine = |scope: &KeyScope| scope.publisher() == me.as_bytes();
    let origin = |scope: &KeyScope, origin| match origin {
        KeyOrigin::Made if !mine(scope) => KeyOrigin::Received,
        origin => origin,
    };
    portable::import_keys(&*session.store, file, origin, watch).map(Imported).map_err(of_file(path))
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

/// Whether none of them has a key that was in use then.
fn is_empty(session: &Session, scopes: &[KeyScope], range: TimeRange) -> Result<bool, Failure> {
    for scope in scopes {
        if !session.store.history(scope, range, None, 1)?.is_empty() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The folder, and what opens it.
fn open(shared: &Shared) -> Result<(Session, Unlock), Failure> {
    let dir = DataDir::find(shared.data_dir.as_deref())?;
    let unlock = session::unlock_identity(&dir, shared)?;
    Ok((Session::open_with(&dir, &unlock)?, unlock))
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
