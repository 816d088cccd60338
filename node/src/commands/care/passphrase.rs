//! `veilcast passphrase change`: another passphrase for identity and store, both or neither.

use std::path::Path;

use serde_json::json;
use veilcast::Identity;
use veilcast::key_store::durable::{OldFiles, Placing};
use veilcast::key_store::{SledKeyStore, StoreError, Unlock};

use super::{CareError, IDENTITY, io_at};
use crate::args::{PassphraseChangeArgs, Shared};
use crate::data_dir::DataDir;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::session::{self, Session};
use crate::unlock::{self, Secret};

const VARIABLE: &str = "VEILCAST_NEW_PASSPHRASE";
const KEY_FILE: &str = "store.key";

pub(crate) fn change(args: &PassphraseChangeArgs, shared: &Shared, output: Output) -> Result<Exit, Failure> {
    let dir = DataDir::find(shared.data_dir.as_deref())?;
    let old = session::unlock_identity(&dir, shared)?;
    // Opens both, and makes the store where there is only an identity yet.
    let identity = Session::open_with(&dir, &old)?.identity;
    let new = chosen(args)?;
    // The store stays closed until both are in their places.
    place(&dir, &identity, new, output, |new, into| SledKeyStore::rewrap(&dir.store(), &old, new, into))
}

/// The same for whoever has the folder open, and goes on with it.
pub(crate) fn through(
    session: &Session,
    dir: &DataDir,
    old: &Unlock,
    new: Option<Secret>,
    output: Output,
) -> Result<Exit, Failure> {
    let rewrap = |new: &Unlock, into: &Path| session.store.rewrap_open(&dir.store(), old, new, into);
    place(dir, &session.identity, new, output, rewrap)
}

/// Puts the identity's keystore and the header of the store in their places; what `rewrap` returns is held until then.
fn place<T>(
    dir: &DataDir,
    identity: &Identity,
    new: Option<Secret>,
    output: Output,
    rewrap: impl FnOnce(&Unlock, &Path) -> Result<T, StoreError>,
) -> Result<Exit, Failure> {
    let placing = Placing::begin(dir.path())?;
    let files = placing.new_files();
    let is_key_file = new.is_none();
    let new = new.map_or_else(|| Unlock::KeyFile(files.join(KEY_FILE)), Unlock::Passphrase);
    let store = files.join("store");
    std::fs::create_dir(&store).map_err(io_at(&store))?;
    let _held = rewrap(&new, &store)?;
    identity.save_keystore(&files.join(IDENTITY), &unlock::identity_password(&new)?)?;
    placing.commit(&[IDENTITY, "store/header", KEY_FILE], OldFiles::Remove)?;

    let opens = match is_key_file {
        false => "the new passphrase",
        true => "a new key file, of which you should keep a copy",
    };
    let text = format!("{} opens with {opens}; backups open as before", dir.path().display());
    output.result(text, &json!({ "data_dir": dir.path(), "key_file": is_key_file }))?;
    Ok(Exit::Done)
}

/// The new passphrase; `None` for a key file.
pub(crate) fn chosen(args: &PassphraseChangeArgs) -> Result<Option<Secret>, Failure> {
    if args.key_file {
        return Ok(None);
    }
    let given = match unlock::explicit(args.new_passphrase_file.as_deref(), VARIABLE)? {
        None if unlock::at_a_terminal() => unlock::prompt_new("New passphrase: ")?,
        given => given,
    };
    Ok(Some(given.ok_or(CareError::NoNewPassphrase)?))
}
