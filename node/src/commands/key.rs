//! `veilcast key`: the keys in the data folder. Their bytes go in, and out only sealed.

mod carry;
pub(crate) mod change;
pub(crate) mod fetch;
mod forget;
mod input;
pub(crate) mod list;

use serde_json::json;
use veilcast::StreamId;
use veilcast::key_ring::{self, RingPrefix};
use veilcast::key_store::{GroupKey, KeyId, KeyOrigin, KeyStore};

pub(crate) use input::KeyInputError;

use super::now;
use crate::args::{KeyAddArgs, KeyCommand, RingKeyArgs, Shared};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::session::Session;
use crate::through::ThroughError;

pub(crate) fn run(command: &KeyCommand, shared: &Shared, output: Output) -> Result<Exit, Failure> {
    match command {
        KeyCommand::List(args) => list::run(args, &Session::open(shared)?, output)?,
        KeyCommand::Add(args) => add(args, shared, output)?,
        KeyCommand::Rotate(_) => return Err(ThroughError::NothingRuns.into()),
        // They need the network, and are run where that is.
        KeyCommand::Fetch(_) | KeyCommand::Rekey(_) => {}
        KeyCommand::Use(args) => use_key(args, &Session::open(shared)?, output)?,
        KeyCommand::Remove(args) => remove(args, &Session::open(shared)?, output)?,
        KeyCommand::Export(args) => carry::export(args, shared, output)?,
        KeyCommand::Import(args) => carry::import(args, shared, output)?,
        KeyCommand::Forget(args) => forget::run(args, shared, output)?,
    }
    Ok(Exit::Done)
}

fn add(args: &KeyAddArgs, shared: &Shared, output: Output) -> Result<(), Failure> {
    let bytes = input::read(args.key_file.as_deref())?;
    let key = GroupKey::new(args.key_id.clone(), &bytes[..])?;
    let session = Session::open(shared)?;
    match (&args.stream, &args.prefix) {
        (Some(stream), _) => add_to_stream(args, stream, &key, &session, output),
        (None, Some(prefix)) => add_to_ring(args, prefix, &key, &session, output),
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
    let now = now().as_millis();
    key_ring::add(&*session.store, prefix, key, now)?;
    if args.current {
        key_ring::make_current(&*session.store, prefix, key.id(), now)?;
    }
    let text = format!("key {} for all streams under {prefix} is in, fingerprint {}", key.id(), key.fingerprint());
    let mut json = ring_json(prefix, key.id());
    json["fingerprint"] = key.fingerprint().into();
    json["current"] = args.current.into();
    output.result(text, &json)
}

fn use_key(args: &RingKeyArgs, session: &Session, output: Output) -> Result<(), Failure> {
    key_ring::make_current(&*session.store, &args.prefix, &args.key_id, now().as_millis())?;
    let text = format!("messages under {} are sealed with key {} from now on", args.prefix, args.key_id);
    output.result(text, &ring_json(&args.prefix, &args.key_id))
}

fn remove(args: &RingKeyArgs, session: &Session, output: Output) -> Result<(), Failure> {
    key_ring::remove(&*session.store, &args.prefix, &args.key_id)?;
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
    let scope = veilcast::scope(publisher, stream);
    let since = now().as_millis();
    session.store.add(&scope, key, since, None, KeyOrigin::PreAgreed)?;
    if args.current {
        session.store.make_current(&scope, key, since)?;
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
