//! Commands on a data folder that a `veilcast run` works on: they ask it, by its control socket, for what they would otherwise do
//! themselves. Those that cannot say so.

#[cfg(unix)]
mod link;
#[cfg(unix)]
mod publish;

use serde_json::{Value, json};

use crate::args::{
    ApiKeyCommand, Command, CreateArgs, KeyCommand, PeriodArgs, Registry, RevokeArgs, Shared, StreamCommand,
};
use crate::commands::key::{change, list};
use crate::commands::stream::{self, subscribers};
use crate::commands::{api_key, history, now};
use crate::data_dir::DataDir;
use crate::exit::Exit;
use crate::failure::{Failure, Told};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::times;

/// Does what the command says by asking whoever runs on its data folder. `None`: nobody does, or it is no command that could be asked
/// for.
#[cfg(unix)]
pub(crate) async fn run(
    command: &Command,
    shared: &Shared,
    output: Output,
    mut stop: Interrupt,
) -> Result<Option<Exit>, Failure> {
    if !may_go_through(command) {
        return Ok(None);
    }
    let Some(mut link) = link::Link::find(&DataDir::find(shared.data_dir.as_deref())?).await else { return Ok(None) };
    if let Command::Publish(args) = command {
        return publish::run(args, link, output, stop).await.map(Some);
    }
    let asked = stop.or(ask(command, &mut link, output)).await;
    asked.unwrap_or(Ok(Exit::Failed)).map(Some)
}

/// There are no control sockets here.
#[cfg(not(unix))]
pub(crate) async fn run(_: &Command, _: &Shared, _: Output, _: Interrupt) -> Result<Option<Exit>, Failure> {
    Ok(None)
}

/// Whether somebody runs on the data folder of these options.
pub(crate) fn somebody_runs(shared: &Shared) -> bool {
    #[cfg(unix)]
    if let Ok(dir) = DataDir::find(shared.data_dir.as_deref()) {
        return std::os::unix::net::UnixStream::connect(dir.control()).is_ok();
    }
    let _ = shared;
    false
}

fn may_go_through(command: &Command) -> bool {
    match command {
        Command::Publish(_) | Command::ApiKey(_) => true,
        Command::Key(command) => {
            matches!(command, KeyCommand::List(_) | KeyCommand::Rotate(_) | KeyCommand::Rekey(_))
        }
        // A contract is asked and changed without the store.
        Command::Stream(command) => {
            let by_contract = matches!(command.registry().given(), Some(Registry::Chain(_)));
            let can = matches!(
                command,
                StreamCommand::Create(_)
                    | StreamCommand::Grant(_)
                    | StreamCommand::Revoke(_)
                    | StreamCommand::Subscribers(_)
            );
            can && (!by_contract || matches!(command, StreamCommand::Subscribers(_)))
        }
        _ => false,
    }
}

#[cfg(unix)]
async fn ask(command: &Command, link: &mut link::Link, output: Output) -> Result<Exit, Failure> {
    if let Some(registry) = registry(command) {
        same_registry(registry, link).await?;
    }
    match command {
        Command::ApiKey(command) => keys_of_applications(command, link, output).await?,
        Command::Key(KeyCommand::List(args)) => {
            let path = match &args.stream {
                Some(stream) => format!("/streams/{}/keys?limit={KEYS}", link::segment(stream.as_str())),
                None => format!("/keys?limit={KEYS}"),
            };
            list::print(&link.get(&path).await?, output)?;
        }
        Command::Key(KeyCommand::Rotate(args)) => {
            let path = format!("/streams/{}/keys/rotate", link::segment(args.stream.as_str()));
            change::rotated(&link.post(&path, &json!({ "regardless": args.regardless })).await?, output)?;
        }
        Command::Key(KeyCommand::Rekey(args)) => {
            let path = format!("/streams/{}/keys/rekey", link::segment(args.stream.as_str()));
            change::rekeyed(&link.post(&path, &json!({})).await?, output)?;
        }
        Command::Stream(StreamCommand::Create(args)) => create(args, link, output).await?,
        Command::Stream(StreamCommand::Grant(args)) => grant(&args.period, link, output).await?,
        Command::Stream(StreamCommand::Revoke(args)) => revoke(args, link, output).await?,
        Command::Stream(StreamCommand::Subscribers(args)) => {
            let path = format!("/streams/{}/subscribers", link::segment(args.stream.as_str()));
            subscribers::print(&link.get(&path).await?, output)?;
        }
        _ => {}
    }
    Ok(Exit::Done)
}

/// Keys listed at most.
const KEYS: usize = 100_000;

const fn registry(command: &Command) -> Option<Registry> {
    match command {
        Command::Stream(command) => command.registry().given(),
        Command::Key(KeyCommand::Rekey(args)) => args.registry.given(),
        _ => None,
    }
}

/// Whoever names a registry means that one.
#[cfg(unix)]
async fn same_registry(named: Registry, link: &mut link::Link) -> Result<(), Failure> {
    let runs = link.get("/node").await?["registry"].as_str().unwrap_or_default().to_owned();
    match runs == named.to_string() {
        true => Ok(()),
        false => Err(ThroughError::OtherRegistry { runs, named }.into()),
    }
}

#[cfg(unix)]
async fn keys_of_applications(command: &ApiKeyCommand, link: &mut link::Link, output: Output) -> Result<(), Failure> {
    match command {
        ApiKeyCommand::Add(args) => {
            let verbs: Vec<&str> = args.verb.iter().map(|verb| verb.name()).collect();
            let streams: Vec<&str> = args.stream.iter().map(|stream| stream.as_str()).collect();
            let new = json!({
                "name": args.name.as_str(), "verbs": verbs, "streams": streams, "all_streams": args.all_streams,
            });
            api_key::added(&link.post("/api-keys", &new).await?, output)
        }
        ApiKeyCommand::List(_) => api_key::listed(&link.get("/api-keys").await?, output),
        ApiKeyCommand::Revoke(args) => {
            api_key::revoked(&link.delete(&format!("/api-keys/{}", args.name)).await?, output)
        }
    }
}

#[cfg(unix)]
async fn create(args: &CreateArgs, link: &mut link::Link, output: Output) -> Result<(), Failure> {
    let addresses = |users: &[veilcast::UserId]| users.iter().map(ToString::to_string).collect::<Vec<_>>();
    let new = json!({
        "path": args.path,
        "partitions": args.partitions,
        "public": args.public,
        "publishers": addresses(&args.publisher),
        "storage": addresses(&args.storage),
        "rotate_every": args.rhythm.rotate_every.map(crate::args::rhythm_text),
        "rekey_every": args.rhythm.rekey_every.map(crate::args::rhythm_text),
        "history": args.history.map(history::word),
    });
    let made = link.post("/streams", &new).await?;
    output.result(made["id"].as_str().unwrap_or_default(), &made)
}

#[cfg(unix)]
async fn grant(args: &PeriodArgs, link: &mut link::Link, output: Output) -> Result<(), Failure> {
    let period = times::period(args.from, args.until, args.lasting, now());
    let new = json!({
        "user": args.user.to_string(),
        "permission": args.permission.name(),
        "from": period.start.map(veilcast::Timestamp::as_millis),
        "until": period.end.map(veilcast::Timestamp::as_millis),
    });
    let path = format!("/streams/{}/permissions", link::segment(args.stream.as_str()));
    let granted = link.post(&path, &new).await?;
    match (granted["record"].as_str(), granted["grant"].as_str()) {
        (Some(record), Some(grant)) => output.result(format!("{record}\n{grant}"), &granted),
        _ => {
            let may = format!("{} may {} on {}", args.user, args.permission, args.stream);
            output.result(format!("{may} {}", stream::in_words(period)), &granted)
        }
    }
}

#[cfg(unix)]
async fn revoke(args: &RevokeArgs, link: &mut link::Link, output: Output) -> Result<(), Failure> {
    let what = args.permission.map_or_else(String::new, |permission| format!("?permission={permission}"));
    let path = format!("/streams/{}/permissions/{}{what}", link::segment(args.stream.as_str()), args.user);
    let revoked = link.delete(&path).await?;
    let text = match revoked["record"].as_str() {
        Some(record) => record.to_owned(),
        None => {
            let permission = revoked["permission"].as_str().unwrap_or_default();
            format!("{} may no longer {permission} on {}", args.user, args.stream)
        }
    };
    output.result(text, &revoked)
}

/// Why whoever runs there did not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ThroughError {
    #[error(
        "the veilcast that runs on this data folder does not answer: {what}; see to it, or stop it and run this again"
    )]
    Broken { what: String },
    #[error("the veilcast that ran on this data folder has stopped or is stopping; run this again once it has stopped")]
    Stopped,
    #[error(
        "the veilcast that runs on this data folder goes by the registry {runs}, not {named}; leave --registry away, or use another --data-dir"
    )]
    OtherRegistry { runs: String, named: Registry },
    #[error("{message}; {}", hint(.code))]
    Refused { code: String, message: String },
    #[error(
        "{options} cannot be told to the veilcast that runs on this data folder; leave them away, or set them with it stopped: veilcast stream set"
    )]
    Options { options: &'static str },
    #[error(
        "a key that is passed on is passed on by a veilcast that runs; start it (veilcast run), or change the key at once: veilcast key rekey"
    )]
    NothingRuns,
}

impl ThroughError {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::OtherRegistry { .. } | Self::Options { .. } => Exit::Usage,
            Self::Refused { code, .. } if code == "not_permitted" => Exit::Refused,
            Self::Refused { code, .. } if code == "bad_request" => Exit::Usage,
            _ => Exit::Failed,
        }
    }

    /// What an answer that is a no says.
    fn of(answer: &Value) -> Self {
        let text = |name: &str| answer[name].as_str().unwrap_or("unknown").to_owned();
        Self::Refused { code: text("code"), message: text("message") }
    }
}

fn hint(code: &str) -> &'static str {
    match code {
        "no_stream" => "see your streams with: veilcast stream show, make one with: veilcast stream create PATH",
        "no_grant" => "see who has one with: veilcast stream subscribers STREAM",
        "grant_ended" => "shut them out with: veilcast key rekey STREAM, or say --regardless",
        "stream_exists" => "choose another path",
        "not_permitted" => "check the stream id and which --data-dir is used; its owner can grant it",
        "api_key_exists" => "choose another name, or revoke it first: veilcast api-key revoke NAME",
        "no_api_key" => "see those there are with: veilcast api-key list",
        "bad_request" => "run the command with --help for how it is used",
        "on_chain" => "name the contract with --registry",
        _ => "see what the veilcast that runs there logs",
    }
}

/// What a command says that cannot be asked for, while somebody runs on its data folder.
pub(crate) fn told_in_use(folder: &std::path::Path) -> Told {
    Told {
        error: format!(
            "a veilcast run works on the data folder {}, and this cannot be done through it",
            folder.display()
        ),
        hint:
            "stop it (SIGTERM or Ctrl-C), run this again, and start it again; or give this one a --data-dir of its own"
                .into(),
    }
}
