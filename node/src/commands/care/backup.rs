//! `veilcast backup`: the data folder into one file.

use std::fs;
use std::path::Path;

use serde_json::json;
use veilcast::key_store::portable::{self, Attachment, Sealing, Summary, Watch};
use veilcast::{Identity, UserId};
use zeroize::Zeroizing;

use super::bar::Bar;
use super::{IDENTITY, NODE_KEY, io_at, of_file, passphrases};
use crate::args::{BackupArgs, Shared};
use crate::data_dir::DataDir;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::session::{self, Session};
use crate::unlock;
use crate::words::counted;

pub(crate) fn run(args: &BackupArgs, shared: &Shared, output: Output) -> Result<Exit, Failure> {
    let dir = DataDir::find(shared.data_dir.as_deref())?;
    let unlock = session::unlock_identity(&dir, shared)?;
    let session = Session::open_with(&dir, &unlock)?;
    let folders = unlock::folders(&unlock);
    let passphrase = passphrases::for_new(&args.passphrase, folders)?;
    let mut bar = Bar::new(output);
    let to = To { file: &args.file, passphrase: &passphrase, replace: args.force };
    let written = write(&session, &dir, &to, &mut |progress| bar.show(progress));
    drop(bar);
    if let Err(error) = dir.clear_handing_over() {
        output.note("left_behind", format!("{}: {error}; the next backup removes it", dir.path().display()));
    }
    let summary = written?;
    tell(&args.file, session.identity.user(), summary, Some(&passphrase) == folders, output)
}

/// A file that is to be written, and what opens it.
pub(crate) struct To<'a> {
    pub(crate) file: &'a Path,
    pub(crate) passphrase: &'a str,
    pub(crate) replace: bool,
}

/// Writes it.
pub(crate) fn write(session: &Session, dir: &DataDir, to: &To<'_>, watch: &mut Watch<'_>) -> Result<Summary, Failure> {
    let mut files = vec![keystore(&session.identity, dir, to.passphrase)?];
    files.extend(attached(NODE_KEY, &dir.node_key())?);
    let sealing = Sealing::new(to.passphrase);
    portable::back_up(&session.store, &files, to.file, &sealing, to.replace, watch).map_err(of_file(to.file))
}

/// Says what is in it.
pub(crate) fn tell(
    file: &Path,
    user: UserId,
    summary: Summary,
    is_folders: bool,
    output: Output,
) -> Result<Exit, Failure> {
    let opens = if is_folders { "the passphrase of the data folder" } else { "its own passphrase" };
    let Summary { keys, records, .. } = summary;
    let text = format!(
        "{}: {user} with {} and {}, verified; it opens with {opens}",
        file.display(),
        counted(keys, "key", "keys"),
        counted(records, "record", "records"),
    );
    let json = json!({ "file": file, "address": user.to_string(), "keys": keys, "records": records });
    output.result(text, &json)?;
    Ok(Exit::Done)
}

/// The identity as the Ethereum keystore that it is at rest, with the passphrase of the backup, so that one passphrase opens all.
fn keystore(identity: &Identity, dir: &DataDir, passphrase: &str) -> Result<Attachment, Failure> {
    let folder = dir.passing().map_err(io_at(dir.path()))?;
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
