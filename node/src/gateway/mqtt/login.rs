//! Letting a client in: the API key is its password, and its user name may be anything.

use rand::Rng;
use veilcast::Payload;

use super::super::Gateway;
use super::super::caller::Caller;
use super::super::crowd::Seat;
use super::super::publish::Destination;
use super::answer::Welcome;
use super::clients::{Clients, Place};
use super::content;
use super::no::{No, Reason};
use super::said::{Hello, Will};
use crate::api_key::Verb;

/// The longest keep-alive, seconds: whoever asks for none or a longer one is told this one, in version 5.
const KEEP_ALIVE: u16 = 600;

/// A client that was let in.
pub(super) struct Client {
    pub(super) caller: Caller,
    pub(super) place: Place,
    pub(super) will: Option<LastWill>,
    pub(super) welcome: Welcome,
}

/// What is published where the client goes without a word.
pub(super) struct LastWill {
    pub(super) to: Destination,
    pub(super) payload: Payload,
}

/// # Errors
/// Why it is not let in.
pub(super) fn admit(gateway: &Gateway, clients: &Clients, hello: Hello, seat: &Seat) -> Result<Client, No> {
    if hello.other_login {
        return Err(No::new(Reason::LoginMethod, "log in with an API key as the password"));
    }
    if hello.needs_name && hello.client_id.is_empty() {
        return Err(No::new(Reason::Nameless, "a client that wants its session kept needs a name"));
    }
    let password = hello.password.ok_or_else(|| No::new(Reason::Login, "an API key is needed, as the password"))?;
    let key = std::str::from_utf8(&password).ok().and_then(|text| gateway.api_keys.find(text));
    let key = key.ok_or_else(|| No::new(Reason::Login, "this API key is not known here"))?;
    let caller = Caller::with(key);
    let will = hello.will.map(|will| last_will(&caller, will)).transpose()?;
    let named = (!hello.client_id.is_empty()).then_some(hello.client_id);
    let made = named.is_none().then(name);
    let client_id = named.as_deref().or(made.as_deref()).unwrap_or_default();
    let key = caller.name().to_owned();
    let (place, caller) = clients.enter(&key, client_id, seat, |before| caller.sits(seat, before))?;
    let keep_alive = (!(1..=KEEP_ALIVE).contains(&hello.keep_alive)).then_some(KEEP_ALIVE);
    Ok(Client { caller, place, will, welcome: Welcome { client_id: made, keep_alive } })
}

/// A name for a client that brought none.
fn name() -> String {
    let mut bytes = [0u8; 8];
    rand::rng().fill_bytes(&mut bytes);
    format!("veilcast-{}", hex::encode(bytes))
}

fn last_will(caller: &Caller, will: Will) -> Result<LastWill, No> {
    if will.retain {
        return Err(No::new(Reason::Retain, "nothing is retained here"));
    }
    let stream = content::stream(&will.topic)?;
    caller.may(Verb::Publish, &stream)?;
    let to = content::destination(stream, &will.about)?;
    Ok(LastWill { to, payload: content::payload(will.payload.into(), &will.about)? })
}
