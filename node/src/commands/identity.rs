//! `veilcast identity`: who you are.

use serde_json::json;
use veilcast::{Identity, UserId};

use crate::args::{IdentityCommand, Shared};
use crate::data_dir::DataDir;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::session::{self, Session};

pub(crate) fn run(command: &IdentityCommand, shared: &Shared, output: Output) -> Result<Exit, Failure> {
    let user = match command {
        IdentityCommand::New => Session::create(shared, output)?.identity.user(),
        IdentityCommand::Show => address(shared)?,
    };
    let dir = DataDir::find(shared.data_dir.as_deref())?;
    let json = json!({ "address": user.to_string(), "checksummed": user.checksummed(), "data_dir": dir.path() });
    output.result(user, &json)?;
    Ok(Exit::Done)
}

/// An address is no secret: it stands in the keystore, and only where it does not the passphrase is needed.
pub(crate) fn address(shared: &Shared) -> Result<UserId, Failure> {
    let dir = DataDir::find(shared.data_dir.as_deref())?;
    session::must_have_identity(&dir)?;
    match Identity::address_of_keystore(&dir.identity())? {
        Some(user) => Ok(user),
        None => Ok(session::identity(shared)?.user()),
    }
}
