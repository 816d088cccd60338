//! `veilcast stream`: your streams, and who may do what on them until when.

mod show;

use serde_json::json;
use veilcast::permission::{LocalRegistry, RegistryError};
use veilcast::publisher::KeyPolicy;
use veilcast::{Period, StreamId};

use super::{history, now, rhythm};
use crate::args::{CreateArgs, GrantArgs, RevokeArgs, SetArgs, Shared, StreamCommand};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::session::Session;
use crate::times;

pub(crate) fn run(command: &StreamCommand, shared: &Shared, output: Output) -> Result<Exit, Failure> {
    if let StreamCommand::Create(args) = command {
        return create(args, shared, output);
    }
    let session = Session::open(shared)?;
    let registry = session.registry();
    match command {
        StreamCommand::Create(_) => {}
        StreamCommand::Grant(args) => grant(args, &registry, output)?,
        StreamCommand::Revoke(args) => revoke(args, &registry, output)?,
        StreamCommand::Set(args) => set(args, &session, &registry, output)?,
        StreamCommand::Show(args) => match &args.stream {
            Some(stream) => show::one(stream, &session, &registry, output)?,
            None => show::all(&session, &registry, output)?,
        },
    }
    Ok(Exit::Done)
}

fn create(args: &CreateArgs, shared: &Shared, output: Output) -> Result<Exit, Failure> {
    let session = Session::open(shared)?;
    let stream = StreamId::of(session.identity.user(), &args.path)?;
    session.registry().create_stream(&stream, args.partitions, args.public)?;
    let policy = args.rhythm.over(KeyPolicy::load(&*session.store, &stream)?);
    if args.rhythm.is_given() {
        policy.save(&*session.store, &stream)?;
    }
    if let Some(history) = args.history {
        session.histories().set(&stream, history)?;
    }
    let mut json = json!({ "id": stream.as_str(), "partitions": args.partitions, "public": args.public });
    json["history"] = history::word(session.histories().of(&stream)?).into();
    json["key_policy"] = rhythm::in_json(policy);
    output.result(&stream, &json)?;
    Ok(Exit::Done)
}

fn grant(args: &GrantArgs, registry: &LocalRegistry, output: Output) -> Result<(), Failure> {
    let now = now();
    let period = times::period(args.from, args.until, args.lasting, now);
    registry.grant(&args.stream, args.user, args.permission, period, now)?;
    let text = format!("{} may {} on {} {}", args.user, args.permission, args.stream, in_words(period));
    let json = json!({
        "stream": args.stream.as_str(),
        "user": args.user.to_string(),
        "permission": args.permission.name(),
        "from": period.start.map(|moment| moment.as_millis()),
        "until": period.end.map(|moment| moment.as_millis()),
    });
    output.result(text, &json)
}

fn revoke(args: &RevokeArgs, registry: &LocalRegistry, output: Output) -> Result<(), Failure> {
    let now = now();
    known(registry, &args.stream)?;
    registry.revoke(&args.stream, args.user, args.permission, now)?;
    let text = format!("{} may no longer {} on {}", args.user, args.permission, args.stream);
    let json = json!({
        "stream": args.stream.as_str(),
        "user": args.user.to_string(),
        "permission": args.permission.name(),
        "revoked": now.as_millis(),
    });
    output.result(text, &json)
}

fn set(args: &SetArgs, session: &Session, registry: &LocalRegistry, output: Output) -> Result<(), Failure> {
    // On a stream of somebody else, which is on record with him, there is still how far back keys of our own are handed out.
    let history_only = !(args.public || args.private || args.rhythm.is_given());
    if !history_only || args.stream.owner() == Some(session.identity.user()) {
        known(registry, &args.stream)?;
    }
    let (mut json, mut said) = (json!({ "id": args.stream.as_str() }), Vec::new());
    if args.public || args.private {
        registry.set_public(&args.stream, args.public, now())?;
        json["public"] = args.public.into();
        let who = if args.public { "everybody" } else { "only who has a grant" };
        said.push(format!("{who} may read {} from the next message on", args.stream));
    }
    if args.rhythm.is_given() {
        let policy = args.rhythm.over(KeyPolicy::load(&*session.store, &args.stream)?);
        policy.save(&*session.store, &args.stream)?;
        json["key_policy"] = rhythm::in_json(policy);
        said.push(match policy.is_never() {
            true => format!("the key of {} changes by hand, and when a grant ends", args.stream),
            false => format!("the key of {} {}", args.stream, rhythm::in_words(policy)),
        });
    }
    if let Some(policy) = args.history {
        session.histories().set(&args.stream, policy)?;
        json["history"] = history::word(policy).into();
        let what = history::in_words(policy);
        said.push(format!("of {} are handed out, from the next request on: {what}", args.stream));
    }
    output.result(said.join("\n"), &json)
}

/// A grant on a stream that is not on record cannot exist; the stream is what was mistyped.
fn known(registry: &LocalRegistry, stream: &StreamId) -> Result<veilcast::permission::StreamInfo, Failure> {
    let info = registry.stream_info(stream)?;
    Ok(info.ok_or_else(|| RegistryError::NoStream { stream: stream.clone() })?)
}

/// A period in words: `from .. until ..`.
fn in_words(period: Period) -> String {
    match (period.start.map(times::show), period.end.map(times::show)) {
        (None, None) => "from now on, without an end".into(),
        (None, Some(end)) => format!("until {end}"),
        (Some(start), None) => format!("from {start} on, without an end"),
        (Some(start), Some(end)) => format!("from {start} until {end}"),
    }
}
