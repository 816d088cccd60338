//! `veilcast stream`: your streams, and who may do what on them until when.

mod chain;
mod settings;
mod show;
pub(crate) mod subscribers;

use serde_json::json;
use veilcast::permission::{LocalRegistry, RegistryError, StreamSettings};
use veilcast::publisher::KeyPolicy;
use veilcast::stream::StreamIdError;
use veilcast::wire::Revoked;
use veilcast::{Period, Permission, StreamId, UserId};

pub(crate) use self::show::state;
use super::{grant, history, now, rhythm};
use crate::args::{CreateArgs, Kept, PeriodArgs, Registry, RevokeArgs, SetArgs, Shared, ShowArgs, StreamCommand};
use crate::exit::Exit;
use crate::failure::{Failure, STOP_IT_FIRST};
use crate::output::Output;
use crate::session::Session;
use crate::times;

pub(crate) fn run(command: &StreamCommand, shared: &Shared, output: Output) -> Result<Exit, Failure> {
    let registry = command.registry().named();
    let kept = match registry {
        Registry::Kept(kept) => kept,
        Registry::Chain(_) if names_storage(command) => return Err(Failure::UnsignedStorage),
        Registry::Chain(deployment) => {
            return super::in_runtime(|stop| chain::run(command, deployment, shared, output, stop));
        }
    };
    on(command, kept, &Session::open(shared).map_err(|failure| failure.where_in_use(STOP_IT_FIRST))?, output)
}

/// On an open data folder, where what is kept in it decides.
pub(crate) fn on(command: &StreamCommand, kept: Kept, session: &Session, output: Output) -> Result<Exit, Failure> {
    if names_storage(command) && kept != Kept::Grants {
        return Err(Failure::UnsignedStorage);
    }
    match command {
        StreamCommand::Create(args) => create(args, kept, session, output)?,
        StreamCommand::Grant(args) => match kept {
            Kept::Local => grant_here(&args.period, &session.registry(), output)?,
            Kept::Grants => grant::issue(&args.period, session, output)?,
        },
        StreamCommand::Revoke(args) => revoke(args, kept, session, output)?,
        StreamCommand::Set(args) => set(args, kept, session, output)?,
        StreamCommand::Show(args) => show(args, kept, session, output)?,
        // It may have to wait for its registry, so it is run elsewhere.
        StreamCommand::Subscribers(_) => {}
    }
    Ok(Exit::Done)
}

fn names_storage(command: &StreamCommand) -> bool {
    match command {
        StreamCommand::Create(args) => !args.storage.is_empty(),
        StreamCommand::Set(args) => !(args.storage.is_empty() && args.no_storage.is_empty()),
        _ => false,
    }
}

fn create(args: &CreateArgs, kept: Kept, session: &Session, output: Output) -> Result<(), Failure> {
    let stream = own(session.identity.user(), &args.path)?;
    match kept {
        Kept::Local => create_here(args, &stream, &session.registry())?,
        Kept::Grants => create_signed(args, &stream, session)?,
    }
    settings::keep(session, &stream, &args.rhythm, args.history)?;
    let mut json = json!({ "id": stream.as_str(), "partitions": args.partitions, "public": args.public });
    json["history"] = history::word(session.histories().of(&stream)?).into();
    json["key_policy"] = rhythm::in_json(KeyPolicy::load(&*session.store, &stream)?);
    output.result(&stream, &json)
}

/// The stream that is to be made: a path of one's own, or its whole id. What only looks like a path would be part of its name for
/// good.
pub(crate) fn own(user: UserId, path: &str) -> Result<StreamId, Failure> {
    let whole = path.split_once('/').filter(|(owner, _)| owner.starts_with("0x"));
    match whole.map(|(owner, path)| (owner.parse::<UserId>(), path)) {
        Some((Ok(owner), path)) if owner == user => named(user, path),
        Some((Ok(_), _)) => Err(Failure::NotYours { stream: path.parse()?, user }),
        _ => named(user, path),
    }
}

fn named(user: UserId, path: &str) -> Result<StreamId, Failure> {
    // Whoever types a slash in front means a file.
    if path.starts_with('/') {
        return Err(StreamIdError::Segment { path: path.into() }.into());
    }
    Ok(StreamId::of(user, path)?)
}

fn create_here(args: &CreateArgs, stream: &StreamId, registry: &LocalRegistry) -> Result<(), Failure> {
    registry.create_stream(stream, args.partitions, args.public)?;
    publishers_here(stream, &args.publisher, &[], registry)
}

/// As in the local registry, making it again with other settings is an error.
fn create_signed(args: &CreateArgs, stream: &StreamId, session: &Session) -> Result<(), Failure> {
    let (partitions, public) = (args.partitions, args.public);
    let (publishers, storage) = (args.publisher.clone(), args.storage.clone());
    let settings = StreamSettings { partitions, public, publishers, storage };
    let once = |known: Option<StreamSettings>| match known {
        Some(known) if known != settings => Err(RegistryError::StreamExists { stream: stream.clone() }.into()),
        _ => Ok(settings.clone()),
    };
    grant::set_up(stream, once, session).map(drop)
}

fn publishers_here(
    stream: &StreamId,
    added: &[UserId],
    removed: &[UserId],
    registry: &LocalRegistry,
) -> Result<(), Failure> {
    for user in added {
        registry.grant(stream, *user, Permission::Publish, Period::ALWAYS, now())?;
    }
    for user in removed {
        registry.revoke(stream, *user, Permission::Publish, now())?;
    }
    Ok(())
}

fn grant_here(args: &PeriodArgs, registry: &LocalRegistry, output: Output) -> Result<(), Failure> {
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

fn revoke(args: &RevokeArgs, kept: Kept, session: &Session, output: Output) -> Result<(), Failure> {
    match (kept, args.permission) {
        (Kept::Local, permission) => {
            revoke_here(args, permission.unwrap_or(Permission::Subscribe), &session.registry(), output)
        }
        (Kept::Grants, None) => {
            let everything = Revoked::User { user: args.user, through: u64::MAX };
            grant::revoke(&args.stream, &everything, session, output)
        }
        (Kept::Grants, Some(_)) => Err(Failure::RevokedTogether),
    }
}

fn revoke_here(
    args: &RevokeArgs,
    permission: Permission,
    registry: &LocalRegistry,
    output: Output,
) -> Result<(), Failure> {
    let now = now();
    known(registry, &args.stream)?;
    registry.revoke(&args.stream, args.user, permission, now)?;
    let text = format!("{} may no longer {permission} on {}", args.user, args.stream);
    let json = json!({
        "stream": args.stream.as_str(),
        "user": args.user.to_string(),
        "permission": permission.name(),
        "revoked": now.as_millis(),
    });
    output.result(text, &json)
}

fn show(args: &ShowArgs, kept: Kept, session: &Session, output: Output) -> Result<(), Failure> {
    match (kept, &args.stream) {
        (Kept::Local, Some(stream)) => show::one(stream, session, &session.registry(), output),
        (Kept::Local, None) => show::all(session, &session.registry(), output),
        (Kept::Grants, Some(stream)) => grant::show_stream(stream, session, output),
        (Kept::Grants, None) => grant::show_streams(session, output),
    }
}

fn set(args: &SetArgs, kept: Kept, session: &Session, output: Output) -> Result<(), Failure> {
    let names_storage = !(args.storage.is_empty() && args.no_storage.is_empty());
    let names_publishers = !(args.publisher.is_empty() && args.no_publisher.is_empty());
    let who = args.public || args.private || names_publishers || names_storage;
    // On a stream of somebody else, which is on record with him, there is still how far back keys of our own are handed out.
    let history_only = !(who || args.rhythm.is_given());
    let is_mine = args.stream.owner() == Some(session.identity.user());
    match kept {
        Kept::Local if is_mine || !history_only => {
            known(&session.registry(), &args.stream)?;
            set_here(args, &session.registry())?;
        }
        Kept::Grants if who => set_signed(args, session)?,
        Kept::Grants if !history_only => grant::must_be_known(&args.stream, session)?,
        _ => {}
    }
    let (mut json, mut said) = (json!({ "id": args.stream.as_str() }), Vec::new());
    if args.public || args.private {
        json["public"] = args.public.into();
        said.push(settings::who_may_read(&args.stream, args.public));
    }
    said.extend(args.publisher.iter().map(|user| format!("{user} may publish on {}", args.stream)));
    said.extend(args.no_publisher.iter().map(|user| format!("{user} may no longer publish on {}", args.stream)));
    said.extend(args.storage.iter().map(|node| format!("{node} is to keep the messages of {}", args.stream)));
    said.extend(
        args.no_storage.iter().map(|node| format!("{node} is no longer to keep the messages of {}", args.stream)),
    );
    said.extend(settings::keep(session, &args.stream, &args.rhythm, args.history)?.told(&mut json));
    output.result(said.join("\n"), &json)
}

/// What is kept of a stream here where a contract decides about permissions: those are changed by whoever asks the contract.
pub(crate) fn keep_beside_contract(args: &SetArgs, session: &Session, output: Output) -> Result<Exit, Failure> {
    let mut json = json!({ "id": args.stream.as_str() });
    let said = settings::keep(session, &args.stream, &args.rhythm, args.history)?.told(&mut json);
    output.result(said.join("\n"), &json)?;
    Ok(Exit::Done)
}

fn set_here(args: &SetArgs, registry: &LocalRegistry) -> Result<(), Failure> {
    publishers_here(&args.stream, &args.publisher, &args.no_publisher, registry)?;
    if args.public || args.private {
        registry.set_public(&args.stream, args.public, now())?;
    }
    Ok(())
}

fn set_signed(args: &SetArgs, session: &Session) -> Result<(), Failure> {
    let change = |known: Option<StreamSettings>| {
        let no_stream = || veilcast::permission::GrantError::NoStream { stream: args.stream.clone() };
        let mut settings = known.ok_or_else(no_stream)?;
        settings.public = if args.public || args.private { args.public } else { settings.public };
        settings.publishers.retain(|user| !args.no_publisher.contains(user) && !args.publisher.contains(user));
        settings.publishers.extend(&args.publisher);
        settings.storage.retain(|node| !args.no_storage.contains(node) && !args.storage.contains(node));
        settings.storage.extend(&args.storage);
        Ok(settings)
    };
    grant::set_up(&args.stream, change, session).map(drop)
}

/// A grant on a stream that is not on record cannot exist; the stream is what was mistyped.
fn known(registry: &LocalRegistry, stream: &StreamId) -> Result<veilcast::permission::StreamInfo, Failure> {
    let info = registry.stream_info(stream)?;
    Ok(info.ok_or_else(|| RegistryError::NoStream { stream: stream.clone() })?)
}

/// A period in words: `from .. until ..`.
pub(crate) fn in_words(period: Period) -> String {
    match (period.start.map(times::show), period.end.map(times::show)) {
        (None, None) => "from now on, without an end".into(),
        (None, Some(end)) => format!("until {end}"),
        (Some(start), None) => format!("from {start} on, without an end"),
        (Some(start), Some(end)) => format!("from {start} until {end}"),
    }
}
