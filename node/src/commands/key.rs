//! `veilcast key`: the keys in the data folder. Their bytes go in, and out only sealed.

pub(crate) mod carry;
pub(crate) mod change;
pub(crate) mod fetch;
pub(crate) mod forget;
mod input;
pub(crate) mod list;

use serde_json::json;
use veilcast::StreamId;
use veilcast::key_ring::RingPrefix;
use veilcast::key_store::{GroupKey, KeyId};

pub(crate) use input::{KeyBytes, KeyInputError, parse as parse_key, read as read_key};

use crate::args::{KeyAddArgs, KeyCommand, RingKeyArgs, Shared};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::session::Session;
use crate::through::ThroughError;

pub(crate) fn run(command: &KeyCommand, shared: &Shared, output: Output) -> Result<Exit, Failure> {
    match command {
        KeyCommand::List(args) => list::run(args, &Session::open(shared)?, output)?,
        KeyCommand::Add(args) => {
            let bytes = input::read(args.key_file.as_deref())?;
            add(args, &bytes, &Session::open(shared)?, output)?;
        }
        KeyCommand::Rotate(_) => return Err(ThroughError::NothingRuns.into()),
        // They need the network, and are run where that is.
        KeyCommand::Fetch(_) | KeyCommand::Rekey(_) => {}
        KeyCommand::Use(args) => use_key(args, &Session::open(shared)?, output)?,
        KeyCommand::Remove(args) => remove(args, &Session::open(shared)?, output)?,
        KeyCommand::Export(args) => carry::export(args, shared, output)?,
        KeyCommand::Import(args) => carry::import(args, shared, output)?,
        KeyCommand::Forget(args) => {
            let session = Session::open(shared)?;
            let found = forget::look(args, &session)?;
            if !args.yes {
                found.ask()?;
            }
            found.forget(&session, output)?;
        }
    }
    Ok(Exit::Done)
}

/// Puts in a key of these bytes.
pub(crate) fn add(args: &KeyAddArgs, bytes: &KeyBytes, session: &Session, output: Output) -> Result<(), Failure> {
    let key = GroupKey::new(args.key_id.clone(), &bytes[..])?;
    match (&args.stream, &args.prefix) {
        (Some(stream), _) => add_to_stream(args, stream, &key, session, output),
        (None, Some(prefix)) => add_to_ring(args, prefix, &key, session, output),
        (None, None) => Err(KeyInputError::Nowhere.into()),
    }
}

fn add_to_ring(
    args: &KeyAddArgs,
    prefix: &RingPrefix,
    key: &GroupKey,
    session: &Session,
    output: Output,
) -> Result<(), Failure> {
    session.add_ring_key(prefix, key)?;
    if args.current {
        session.use_ring_key(prefix, key.id())?;
    }
    let text = format!("key {} for all streams under {prefix} is in, fingerprint {}", key.id(), key.fingerprint());
    let mut json = ring_json(prefix, key.id());
    json["fingerprint"] = key.fingerprint().into();
    json["current"] = args.current.into();
    output.result(text, &json)
}

/// Publishes with another key of a ring.
pub(crate) fn use_key(args: &RingKeyArgs, session: &Session, output: Output) -> Result<(), Failure> {
    session.use_ring_key(&args.prefix, &args.key_id)?;
    let text = format!("messages under {} are sealed with key {} from now on", args.prefix, args.key_id);
    output.result(text, &ring_json(&args.prefix, &args.key_id))
}

/// Takes a key out of a ring.
pub(crate) fn remove(args: &RingKeyArgs, session: &Session, output: Output) -> Result<(), Failure> {
    session.remove_ring_key(&args.prefix, &args.key_id)?;
    let text = format!("key {} is taken out of the ring of {}", args.key_id, args.prefix);
    output.result(text, &ring_json(&args.prefix, &args.key_id))
}

fn ring_json(prefix: &RingPrefix, key_id: &KeyId) -> serde_json::Value {
    json!({ "prefix": prefix.as_str(), "key_id": key_id.as_str() })
}

fn add_to_stream(
    args: &KeyAddArgs,
    stream: &StreamId,
    key: &GroupKey,
    session: &Session,
    output: Output,
) -> Result<(), Failure> {
    let me = session.identity.user();
    let publisher = args.publisher.unwrap_or(me);
    if args.current && publisher != me {
        return Err(KeyInputError::NotMine { publisher, me }.into());
    }
    session.add_key(key, publisher, stream)?;
    if args.current {
        session.use_key(key, stream)?;
    }
    let text = format!("key {} of {publisher} on {stream} is in, fingerprint {}", key.id(), key.fingerprint());
    let json = json!({
        "stream": stream.as_str(),
        "publisher": publisher.to_string(),
        "key_id": key.id().as_str(),
        "fingerprint": key.fingerprint(),
        "current": args.current,
    });
    output.result(text, &json)
}
