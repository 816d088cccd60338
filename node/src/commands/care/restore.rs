//! `veilcast restore`: a data folder out of one file, all of it or nothing.

use std::fs;
use std::path::Path;

use serde_json::json;
use veilcast::key_store::durable::{OldFiles, Placing, StoreLock};
use veilcast::key_store::portable::{self, Attachment, PortableFile, Summary};
use veilcast::key_store::{StoreConfig, Unlock};
use veilcast::{Identity, UserId};

use super::bar::Bar;
use super::{CareError, IDENTITY, NODE_KEY, io_at, of_file, passphrases};
use crate::args::{RestoreArgs, Shared};
use crate::commands::now;
use crate::data_dir::{DataDir, write_private};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::unlock::{self, Secret};
use crate::words::counted;

/// What a restored folder has in place of what was there; each name as in [`DataDir`].
const PLACES: [&str; 3] = ["store.key", "store", IDENTITY];

pub(crate) fn run(args: &RestoreArgs, shared: &Shared, output: Output) -> Result<Exit, Failure> {
    let dir = DataDir::find(shared.data_dir.as_deref())?;
    let found = occupied(&dir);
    if !found.is_empty() && !args.force {
        return Err(CareError::Occupied { folder: dir.path().into(), found: found.join(", ") }.into());
    }
    let given = if args.key_file { None } else { unlock::given(shared.passphrase_file.as_deref())? };
    let passphrase = passphrases::for_file(&args.passphrase, &args.file, given.as_ref())?;
    let mut backup = PortableFile::open(&args.file, &passphrase).map_err(of_file(&args.file))?;

    let is_new = !dir.path().exists();
    dir.create()?;
    let restored = restore(args, &dir, &mut backup, &passphrase, given, output);
    if restored.is_err() && is_new {
        // Of a folder that has anything in it, nothing is removed.
        let _ = fs::remove_dir(dir.path());
    }
    restored.map(|()| Exit::Done)
}

/// All of it into its place, or nothing.
fn restore(
    args: &RestoreArgs,
    dir: &DataDir,
    backup: &mut PortableFile,
    passphrase: &Secret,
    given: Option<Secret>,
    output: Output,
) -> Result<(), Failure> {
    // Until everything is in its place: nobody may have the store open that goes away.
    let _old_store = dir.store().exists().then(|| StoreLock::take(&dir.store())).transpose()?;
    let placing = Placing::begin(dir.path())?;
    let new = placing.new_files();
    let unlock = match args.key_file {
        true => Unlock::KeyFile(new.join(PLACES[0])),
        false => Unlock::Passphrase(new_passphrase(given, passphrase)?),
    };
    let mut bar = Bar::new(output);
    let watch = &mut |progress| bar.show(progress);
    let (summary, files) = portable::restore(backup, &new.join("store"), &unlock, &StoreConfig::default(), watch)
        .map_err(of_file(&args.file))?;
    drop(bar);

    let user = place_identity(&files, &args.file, passphrase, &unlock, &new)?;
    let mut places = PLACES.to_vec();
    if let Some(node_key) = files.iter().find(|file| file.name == NODE_KEY) {
        write_private(&new.join(NODE_KEY), &node_key.contents).map_err(io_at(&new))?;
        places.push(NODE_KEY);
    }
    let keep = format!("replaced-{}", now().as_millis());
    placing.commit(&places, OldFiles::Keep(&keep))?;
    tell(dir, user, summary, &unlock, Some(keep).filter(|keep| dir.path().join(keep).exists()), output)
}

/// What stands in the places of what is to be restored.
fn occupied(dir: &DataDir) -> Vec<&'static str> {
    let places = PLACES.into_iter().chain([NODE_KEY]);
    places.filter(|name| dir.path().join(name).symlink_metadata().is_ok()).collect()
}

/// The one that was given for the folder, or the backup's; where there is a terminal, it is asked for.
fn new_passphrase(given: Option<Secret>, backups: &Secret) -> Result<Secret, Failure> {
    if let Some(given) = given {
        return Ok(given);
    }
    let typed = match unlock::at_a_terminal() {
        true => unlock::prompt_new("New passphrase of the data folder (empty: that of the backup): ")?,
        false => None,
    };
    Ok(typed.unwrap_or_else(|| backups.clone()))
}

/// Locks the identity with what opens the new folder.
fn place_identity(
    files: &[Attachment],
    backup: &Path,
    passphrase: &str,
    unlock: &Unlock,
    new: &Path,
) -> Result<UserId, Failure> {
    let keystore = files.iter().find(|file| file.name == IDENTITY);
    let keystore = keystore.ok_or_else(|| CareError::NoIdentity { file: backup.into() })?;
    let folder = tempfile::tempdir_in(new).map_err(io_at(new))?;
    let path = folder.path().join(IDENTITY);
    write_private(&path, &keystore.contents).map_err(io_at(&path))?;
    let identity = Identity::load_keystore(&path, passphrase).map_err(|_| CareError::ForeignIdentity)?;
    identity.save_keystore(&new.join(IDENTITY), &unlock::identity_password(unlock)?)?;
    Ok(identity.user())
}

fn tell(
    dir: &DataDir,
    user: UserId,
    summary: Summary,
    unlock: &Unlock,
    kept: Option<String>,
    output: Output,
) -> Result<(), Failure> {
    let (keys, records) = (summary.keys, summary.records);
    let opens = match unlock {
        Unlock::Passphrase(_) => "a passphrase",
        Unlock::KeyFile(_) => "its key file, of which you should keep a copy",
    };
    let folder = dir.path().display();
    let has = format!("{} and {}", counted(keys, "key", "keys"), counted(records, "record", "records"));
    let mut text = format!("{folder}: {user} with {has}; it opens with {opens}");
    if let Some(kept) = &kept {
        text.push_str(&format!("\nwhat was there before is in {}", dir.path().join(kept).display()));
    }
    let kept = kept.map(|kept| dir.path().join(kept));
    let json = json!({
        "data_dir": dir.path(), "address": user.to_string(), "keys": keys, "records": records, "kept": kept,
    });
    output.result(text, &json)
}
