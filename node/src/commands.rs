//! One module per command. None holds protocol logic: they read arguments, call the SDK and print.

pub(crate) mod access;
pub(crate) mod api_key;
pub(crate) mod audit;
pub(crate) mod care;
pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod grant;
pub(crate) mod history;
pub(crate) mod identity;
pub(crate) mod key;
pub(crate) mod node;
pub(crate) mod partitions;
pub(crate) mod publish;
pub(crate) mod resend;
pub(crate) mod rhythm;
pub(crate) mod shell;
pub(crate) mod stream;
pub(crate) mod subscribe;

use std::path::PathBuf;
use std::time::Duration;

use veilcast::Timestamp;

use crate::args::{Cli, Command, GrantCommand, KeyCommand, LogFormat, PassphraseCommand, Shared, StreamCommand};
pub(crate) use crate::clock::now;
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::log;
use crate::output::Output;
use crate::times::When;
use crate::{daemon, through};

/// How long work that was under way may take to end.
const SHUTDOWN: Duration = Duration::from_secs(2);

/// Runs what the command line asks for.
pub(crate) fn run(cli: Cli, output: Output<'static>) -> Result<Exit, Failure> {
    let Cli { mut shared, mut command } = cli;
    let asks_a_registry = command.registry_mut().is_some();
    let config = match command {
        Command::Config(_) | Command::Demo(_) | Command::Completions(_) | Command::Man(_) => Config::default(),
        _ if asks_a_registry || shared.config.is_some() => Config::of(&shared)?,
        // A file in the data folder that cannot be used is no reason not to do what has no use for it.
        _ => Config::of(&shared).unwrap_or_default(),
    };
    start_log(&command, &config, &shared)?;
    shared.data_dir = shared.data_dir.or_else(|| config.data.folder.clone());
    shared.passphrase_file = passphrase_file(&shared, &config);
    if let Some(registry) = command.registry_mut() {
        registry.fill(config.registry.clone());
    }
    if through::somebody_runs(&shared)
        && let Some(exit) = in_runtime(|stop| through::run(&command, &shared, output, stop))?
    {
        return Ok(exit);
    }
    let folder = shared.clone();
    own(command, config, shared, output).map_err(|failure| failure.where_somebody_runs(&folder))
}

/// A daemon logs without being asked, and nothing but objects where it was told to print objects.
fn start_log(command: &Command, config: &Config, shared: &Shared) -> Result<(), log::LogError> {
    let (usual, format) = match command {
        Command::Run(_) if shared.json => (log::OF_DAEMON, LogFormat::Json),
        Command::Run(_) => (log::OF_DAEMON, shared.log_format),
        _ => (log::OF_COMMANDS, shared.log_format),
    };
    log::start(shared.verbose, config.log.filter.clone(), usual, format)
}

/// The environment wins over the file.
fn passphrase_file(shared: &Shared, config: &Config) -> Option<PathBuf> {
    let given = shared.passphrase_file.clone();
    given.or_else(|| config.data.passphrase_file.clone().filter(|_| std::env::var_os("VEILCAST_PASSPHRASE").is_none()))
}

/// Where nobody else runs on the data folder.
fn own(command: Command, config: Config, shared: Shared, output: Output<'static>) -> Result<Exit, Failure> {
    match command {
        Command::Run(mut args) => {
            args.fill(&config.network, config.gateway.listen, config.mqtt.listen);
            in_runtime(|stop| daemon::run(args, config, shared, output, stop))
        }
        Command::ApiKey(command) => api_key::run(&command, &shared, output),
        Command::Key(KeyCommand::Rekey(args)) => in_runtime(|stop| key::change::rekey(args, shared, output, stop)),
        Command::Config(command) => config::run(&command, &shared, output),
        Command::Identity(command) => identity::run(&command, &shared, output),
        Command::Stream(StreamCommand::Subscribers(args)) => {
            in_runtime(|stop| stream::subscribers::run(args, shared, output, stop))
        }
        Command::Stream(command) => stream::run(&command, &shared, output),
        Command::Grant(GrantCommand::Announce(args)) => {
            in_runtime(|stop| grant::announce::run(args, shared, output, stop))
        }
        Command::Grant(command) => grant::run(&command, &shared, output),
        Command::Access(command) => access::run(&command, &shared, output),
        Command::Audit(command) => audit::run(&command, &shared, output),
        Command::Key(KeyCommand::Fetch(args)) => in_runtime(|stop| key::fetch::run(args, shared, output, stop)),
        Command::Key(command) => key::run(&command, &shared, output),
        Command::Node(args) => in_runtime(|stop| node::run(args, shared, output, stop)),
        Command::Publish(args) => in_runtime(|stop| publish::run(args, shared, output, stop)),
        Command::Subscribe(args) => in_runtime(|stop| subscribe::run(args, shared, output, stop)),
        Command::Resend(args) => in_runtime(|stop| resend::run(args, shared, output, stop)),
        Command::Backup(args) => care::backup::run(&args, &shared, output),
        Command::Restore(args) => care::restore::run(&args, &shared, output),
        Command::Passphrase(PassphraseCommand::Change(args)) => care::passphrase::change(&args, &shared, output),
        Command::Fingerprint(args) => care::fingerprint::run(&args, &shared, output),
        Command::Completions(args) => shell::completions(&args, output),
        Command::Man(args) => shell::man(&args, output),
        Command::Demo(args) => in_runtime(|stop| demo::run(args, output, stop)),
    }
}

/// Runs a command that uses the network. Threads that still wait for a slow disk or pipe do not hold the exit up.
fn in_runtime<T, F>(command: impl FnOnce(Interrupt) -> F) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::Runtime)?;
    let outcome = runtime.block_on(async { command(Interrupt::install()).await });
    runtime.shutdown_timeout(SHUTDOWN);
    outcome
}

/// A span of the past: from the beginning and to the end of time where nothing else is said.
///
/// # Errors
/// [`Failure::Backwards`]: it ends before it begins.
pub(crate) fn past_span(from: Option<When>, to: Option<When>) -> Result<(Timestamp, Timestamp), Failure> {
    let now = now();
    let from = from.map_or(Timestamp::ZERO, |from| from.in_the_past(now));
    let to = to.map_or(Timestamp::from_millis(u64::MAX), |to| to.in_the_past(now));
    if to < from { Err(Failure::Backwards { from, to }) } else { Ok((from, to)) }
}
