//! `veilcast passphrase change`: another passphrase for identity and store, both or neither.

use serde_json::json;
use veilcast::key_store::durable::{OldFiles, Placing};
use veilcast::key_store::{SledKeyStore, Unlock};

use super::{CareError, IDENTITY, io_at};
use crate::args::{PassphraseChangeArgs, Shared};
use crate::data_dir::DataDir;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::session::{self, Session};
use crate::unlock;

const VARIABLE: &str = "VEILCAST_NEW_PASSPHRASE";
const KEY_FILE: &str = "store.key";

pub(crate) fn change(args: &PassphraseChangeArgs, shared: &Shared, output: Output) -> Result<Exit, Failure> {
    let dir = DataDir::find(shared.data_dir.as_deref())?;
    let old = session::unlock_identity(&dir, shared)?;
    // Opens both, and makes the store where there is only an identity yet.
    let identity = Session::open_with(&dir, &old)?.identity;

    let placing = Placing::begin(dir.path())?;
    let files = placing.new_files();
    let new = chosen(args, &files.join(KEY_FILE))?;
    let store = files.join("store");
    std::fs::create_dir(&store).map_err(io_at(&store))?;
    // Held until both are in their places.
    let _closed = SledKeyStore::rewrap(&dir.store(), &old, &new, &store)?;
    identity.save_keystore(&files.join(IDENTITY), &unlock::identity_password(&new)?)?;
    placing.commit(&[IDENTITY, "store/header", KEY_FILE], OldFiles::Remove)?;

    let opens = match new {
        Unlock::Passphrase(_) => "the new passphrase",
        Unlock::KeyFile(_) => "a new key file, of which you should keep a copy",
    };
    let text = format!("{} opens with {opens}; backups open as before", dir.path().display());
    let json = json!({ "data_dir": dir.path(), "key_file": args.key_file });
    output.result(text, &json)?;
    Ok(Exit::Done)
}

fn chosen(args: &PassphraseChangeArgs, key_file: &std::path::Path) -> Result<Unlock, Failure> {
    if args.key_file {
        return Ok(Unlock::KeyFile(key_file.into()));
    }
    let given = match unlock::explicit(args.new_passphrase_file.as_deref(), VARIABLE)? {
        None if unlock::at_a_terminal() => unlock::prompt_new("New passphrase: ")?,
        given => given,
    };
    Ok(Unlock::Passphrase(given.ok_or(CareError::NoNewPassphrase)?))
}
