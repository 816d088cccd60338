//! `veilcast backup`: the data folder into one file.

use std::fs;
use std::path::Path;

use serde_json::json;
use veilcast::Identity;
use veilcast::key_store::Unlock;
use veilcast::key_store::portable::{self, Attachment, Sealing};
use zeroize::Zeroizing;

use super::bar::Bar;
use super::{IDENTITY, NODE_KEY, io_at, of_file, passphrases};
use crate::args::{BackupArgs, Shared};
use crate::data_dir::DataDir;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::session::{self, Session};

pub(crate) fn run(args: &BackupArgs, shared: &Shared, output: Output) -> Result<Exit, Failure> {
    let dir = DataDir::find(shared.data_dir.as_deref())?;
    let unlock = session::unlock_identity(&dir, shared)?;
    let session = Session::open_with(&dir, &unlock)?;
    let folders = match &unlock {
        Unlock::Passphrase(text) => Some(text),
        Unlock::KeyFile(_) => None,
    };
    let passphrase = passphrases::for_new(&args.passphrase, folders)?;
    let mut files = vec![keystore(&session.identity, &dir, &passphrase)?];
    files.extend(attached(NODE_KEY, &dir.node_key())?);

    let mut bar = Bar::new(output);
    let watch = &mut |progress| bar.show(progress);
    let sealing = Sealing::new(&passphrase);
    let summary = portable::back_up(&session.store, &files, &args.file, &sealing, args.force, watch)
        .map_err(of_file(&args.file))?;
    drop(bar);

    let opens = if Some(&passphrase) == folders { "the passphrase of the data folder" } else { "its own passphrase" };
    let (user, keys, records) = (session.identity.user(), summary.keys, summary.records);
    let text = format!(
        "{}: {user} with {keys} keys and {records} records, verified; it opens with {opens}",
        args.file.display()
    );
    let json = json!({ "file": args.file, "address": user.to_string(), "keys": keys, "records": records });
    output.result(text, &json)?;
    Ok(Exit::Done)
}

/// The identity as the Ethereum keystore that it is at rest, with the passphrase of the backup, so that one passphrase opens all.
fn keystore(identity: &Identity, dir: &DataDir, passphrase: &str) -> Result<Attachment, Failure> {
    let folder = tempfile::tempdir_in(dir.path()).map_err(io_at(dir.path()))?;
    let path = folder.path().join(IDENTITY);
    identity.save_keystore(&path, passphrase)?;
    let contents = Zeroizing::new(fs::read(&path).map_err(io_at(&path))?);
    Ok(Attachment { name: IDENTITY.into(), contents })
}

fn attached(name: &str, path: &Path) -> Result<Option<Attachment>, Failure> {
    match fs::read(path) {
        Ok(contents) => Ok(Some(Attachment { name: name.into(), contents: Zeroizing::new(contents) })),
        Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(fault) => Err(io_at(path)(fault)),
    }
}
