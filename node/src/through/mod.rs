//! Commands on a data folder that a `veilcast run` works on: they ask it, by its control socket, for what they would otherwise do
//! themselves. Those that cannot say so.

#[cfg(unix)]
pub(crate) mod asked;
#[cfg(unix)]
mod asking;
pub(crate) mod class;
#[cfg(unix)]
pub(crate) mod frames;
#[cfg(unix)]
mod link;
#[cfg(unix)]
mod publish;

use serde_json::{Value, json};

use self::class::Class;
use crate::args::{
    ApiKeyCommand, Command, CreateArgs, GrantArgs, KeyCommand, Registry, RevokeArgs, RhythmArgs, Shared, SpendArgs,
    StreamCommand,
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

/// Does what the command says by asking whoever runs on its data folder. `None`: nobody does, or it needs nothing of what that holds.
#[cfg(unix)]
pub(crate) async fn run(
    command: &Command,
    shared: &Shared,
    output: Output<'_>,
    mut stop: Interrupt,
) -> Result<Option<Exit>, Failure> {
    let class = class::of(command);
    if class == Class::Own {
        return Ok(None);
    }
    let dir = DataDir::find(shared.data_dir.as_deref())?;
    let Some(mut link) = link::Link::find(&dir).await else { return Ok(None) };
    if let Class::Refused { why, instead } = class {
        return Err(ThroughError::Meanwhile { folder: dir.path().into(), why, instead }.into());
    }
    if let Some(registry) = registry(command) {
        same_registry(registry, &mut link).await?;
    }
    let asked = match (command, class) {
        (Command::Publish(args), _) => return publish::run(args, link, output, stop).await.map(Some),
        (_, Class::Command) => stop.or(asking::run(command, shared, &dir, link, output)).await,
        _ => stop.or(ask(command, &mut link, output)).await,
    };
    // Whoever has read enough is done.
    let cut_off = if matches!(command, Command::Subscribe(_)) { Exit::Done } else { Exit::Failed };
    asked.unwrap_or(Ok(cut_off)).map(Some)
}

/// There are no control sockets here.
#[cfg(not(unix))]
pub(crate) async fn run(_: &Command, _: &Shared, _: Output, _: Interrupt) -> Result<Option<Exit>, Failure> {
    Ok(None)
}

/// Says that the running one goes where it was told when it started.
#[cfg(unix)]
fn own_network(output: Output) {
    output.note("own_network", "it has joined the network already: --bootstrap and --listen do not count");
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

#[cfg(unix)]
async fn ask(command: &Command, link: &mut link::Link, output: Output<'_>) -> Result<Exit, Failure> {
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
        Command::Stream(StreamCommand::Grant(args)) => grant(args, link, output).await?,
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

/// The one that the command names.
const fn registry(command: &Command) -> Option<Registry> {
    match command {
        Command::Stream(command) => command.registry().given(),
        Command::Key(KeyCommand::Rekey(args)) => args.registry.given(),
        Command::Key(KeyCommand::Fetch(args)) => args.registry.given(),
        Command::Publish(args) => args.registry.given(),
        Command::Subscribe(args) => args.registry.given(),
        Command::Resend(args) => args.registry.given(),
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
async fn keys_of_applications(
    command: &ApiKeyCommand,
    link: &mut link::Link,
    output: Output<'_>,
) -> Result<(), Failure> {
    match command {
        ApiKeyCommand::Add(args) => {
            let verbs: Vec<&str> = args.verb.iter().map(|verb| verb.name()).collect();
            let streams: Vec<&str> = args.stream.iter().map(|stream| stream.as_str()).collect();
            let new = json!({
                "name": args.name.as_str(), "verbs": verbs, "streams": streams, "all_streams": args.all_streams,
            });
            let added = api_key::added(&link.post("/api-keys", &new).await?, output);
            if added.is_err() {
                // One that nobody has seen opens nothing for anybody, and would keep its name.
                let _ = link.delete(&format!("/api-keys/{}", args.name)).await;
            }
            added
        }
        ApiKeyCommand::List(_) => api_key::listed(&link.get("/api-keys").await?, output),
        ApiKeyCommand::Revoke(args) => {
            api_key::revoked(&link.delete(&format!("/api-keys/{}", args.name)).await?, output)
        }
    }
}

#[cfg(unix)]
async fn create(args: &CreateArgs, link: &mut link::Link, output: Output<'_>) -> Result<(), Failure> {
    let addresses = |users: &[veilcast::UserId]| users.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut new = json!({
        "path": args.path,
        "partitions": args.partitions,
        "public": args.public,
        "publishers": addresses(&args.publisher),
        "storage": addresses(&args.storage),
        "rotate_every": args.rhythm.rotate_every.map(crate::args::rhythm_text),
        "rekey_every": args.rhythm.rekey_every.map(crate::args::rhythm_text),
        "history": args.history.map(history::word),
    });
    let made = match link.post("/streams", &new).await {
        Err(told) if told.costs_gas() => {
            may_cost(&told, args.spend, output).await?;
            new["confirm"] = true.into();
            link.post("/streams", &new).await?
        }
        made => made?,
    };
    output.result(made["id"].as_str().unwrap_or_default(), &made)
}

#[cfg(unix)]
async fn grant(given: &GrantArgs, link: &mut link::Link, output: Output<'_>) -> Result<(), Failure> {
    let args = &given.period;
    let period = times::period(args.from, args.until, args.lasting, now());
    let mut new = json!({
        "user": args.user.to_string(),
        "permission": args.permission.name(),
        "from": period.start.map(veilcast::Timestamp::as_millis),
        "until": period.end.map(veilcast::Timestamp::as_millis),
    });
    let path = format!("/streams/{}/permissions", link::segment(args.stream.as_str()));
    let granted = match link.post(&path, &new).await {
        Err(told) if told.costs_gas() => {
            may_cost(&told, given.spend, output).await?;
            new["confirm"] = true.into();
            link.post(&path, &new).await?
        }
        granted => granted?,
    };
    match (granted["record"].as_str(), granted["grant"].as_str()) {
        (Some(record), Some(grant)) => output.result(format!("{record}\n{grant}"), &granted),
        _ => {
            let may = format!("{} may {} on {}", args.user, args.permission, args.stream);
            output.result(format!("{may} {}", stream::in_words(period)), &granted)
        }
    }
}

#[cfg(unix)]
async fn revoke(args: &RevokeArgs, link: &mut link::Link, output: Output<'_>) -> Result<(), Failure> {
    let what = args.permission.map_or_else(String::new, |permission| format!("?permission={permission}"));
    let path = format!("/streams/{}/permissions/{}{what}", link::segment(args.stream.as_str()), args.user);
    let revoked = match link.delete(&path).await {
        Err(told) if told.costs_gas() => {
            may_cost(&told, args.spend, output).await?;
            let mark = if path.contains('?') { '&' } else { '?' };
            link.delete(&format!("{path}{mark}confirm=true")).await?
        }
        revoked => revoked?,
    };
    let text = match revoked["record"].as_str() {
        Some(record) => record.to_owned(),
        None => {
            let permission = revoked["permission"].as_str().unwrap_or_default();
            format!("{} may no longer {permission} on {}", args.user, args.stream)
        }
    };
    output.result(text, &revoked)
}

/// Whether somebody runs on the data folder of these options, and goes by this registry.
///
/// # Errors
/// [`ThroughError::OtherRegistry`].
pub(crate) async fn somebody_runs_by(shared: &Shared, registry: Registry) -> Result<bool, Failure> {
    #[cfg(unix)]
    if let Some(mut link) = link::Link::find(&DataDir::find(shared.data_dir.as_deref())?).await {
        return same_registry(registry, &mut link).await.map(|()| true);
    }
    let _ = (shared, registry);
    Ok(false)
}

/// What was kept, as it is told.
pub(crate) struct Kept {
    pub(crate) said: Vec<String>,
    pub(crate) json: Value,
}

/// Has whoever runs on the data folder keep what is kept of a stream beside a contract.
#[cfg(unix)]
pub(crate) async fn keep(
    shared: &Shared,
    stream: &veilcast::StreamId,
    rhythm: &RhythmArgs,
    history: Option<veilcast::exchange::HistoryPolicy>,
) -> Result<Kept, Failure> {
    let dir = DataDir::find(shared.data_dir.as_deref())?;
    let gone = || ThroughError::Broken { what: "it has gone".into() };
    let link = link::Link::find(&dir).await.ok_or_else(gone)?;
    let mut line = vec!["veilcast".into(), "stream".into(), "set".into(), stream.to_string(), "--json".into()];
    let rhythms = [("--rotate-every", rhythm.rotate_every), ("--rekey-every", rhythm.rekey_every)];
    for (name, every) in rhythms {
        line.extend(every.into_iter().flat_map(|every| [name.to_owned(), crate::args::rhythm_text(every)]));
    }
    line.extend(history.into_iter().flat_map(|history| ["--history".to_owned(), history::word(history)]));
    let printed = asking::printed(line, shared, &dir, link).await?;
    let json: Value = serde_json::from_slice(&printed).unwrap_or_default();
    Ok(Kept { said: vec![format!("what is kept of {stream} counts in the veilcast that runs, from now on")], json })
}

/// There are no control sockets here.
#[cfg(not(unix))]
pub(crate) async fn keep(
    _: &Shared,
    _: &veilcast::StreamId,
    _: &RhythmArgs,
    _: Option<veilcast::exchange::HistoryPolicy>,
) -> Result<Kept, Failure> {
    Err(ThroughError::NothingRuns.into())
}

/// What it costs is shown; then somebody says yes, here or on the command line.
#[cfg(unix)]
async fn may_cost(told: &ThroughError, spend: SpendArgs, output: Output<'_>) -> Result<(), Failure> {
    if let ThroughError::Refused { message, .. } = told {
        output.note("quote", message.split(';').next().unwrap_or(message));
    }
    if !spend.yes && !crate::chain::agreed().await? {
        return Err(crate::chain::ChainFailure::Declined.into());
    }
    Ok(())
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
    #[error("a veilcast run works on the data folder {}, and this cannot be done meanwhile: {why}; {instead}", .folder.display())]
    Meanwhile { folder: std::path::PathBuf, why: &'static str, instead: &'static str },
    #[error(
        "--pre-agreed-only cannot be told to the veilcast that runs on this data folder, which asks for keys; leave it away, or stop it first"
    )]
    AgreedOnly,
    #[error("the veilcast that runs on this data folder goes by the contract {contract}; name it with --registry")]
    ByContract { contract: Registry },
    #[error(
        "the veilcast that runs on this data folder is stopping; run this again once it has stopped, or runs again"
    )]
    Stopping,
    #[error("this is not done by a veilcast that runs; stop it and run this again")]
    NotHere,
    #[error(
        "a key that is passed on is passed on by a veilcast that runs; start it (veilcast run), or change the key at once: veilcast key rekey"
    )]
    NothingRuns,
}

impl ThroughError {
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::OtherRegistry { .. } | Self::Options { .. } | Self::AgreedOnly | Self::ByContract { .. } => {
                Exit::Usage
            }
            Self::Refused { code, .. } if code == "not_permitted" => Exit::Refused,
            Self::Refused { code, .. } if code == "bad_request" || code == "one_transaction" => Exit::Usage,
            _ => Exit::Failed,
        }
    }

    /// Whether it would do it, once somebody says that what it costs may be spent.
    #[cfg(unix)]
    fn costs_gas(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code == "confirm")
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
        "confirm" => "say --yes to send it without being asked",
        "no_funds" => "send some coins to the address that veilcast identity show prints",
        "too_dear" => "wait until gas is cheaper, or ask another endpoint",
        "contract_refuses" => "check the stream id and that this identity may change it (veilcast identity show)",
        "pending" => "look for it with a block explorer before you do the same again",
        "one_transaction" => "name the contract with --registry, which does one after the other",
        "too_many_connections" => "wait until one of them has ended, or end one, and run this again",
        "stopping" => "run this again once it has stopped, or runs again",
        "no_command" => "see to it, or stop it and run this again",
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
