//! One module per command. None holds protocol logic: they read arguments, call the SDK and print.

pub(crate) mod access;
pub(crate) mod audit;
pub(crate) mod care;
pub(crate) mod config;
pub(crate) mod demo;
pub(crate) mod grant;
pub(crate) mod history;
pub(crate) mod identity;
pub(crate) mod key;
pub(crate) mod node;
pub(crate) mod publish;
pub(crate) mod resend;
pub(crate) mod rhythm;
pub(crate) mod stream;
pub(crate) mod subscribe;

use std::time::Duration;

use veilcast::Timestamp;
use veilcast::time::{Clock, SystemClock};

use crate::args::{Cli, Command, GrantCommand, KeyCommand, PassphraseCommand, StreamCommand};
use crate::config::Config;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::Output;

/// How long work that was under way may take to end.
const SHUTDOWN: Duration = Duration::from_secs(2);

/// Runs what the command line asks for.
pub(crate) fn run(cli: Cli, output: Output) -> Result<Exit, Failure> {
    let Cli { shared, mut command } = cli;
    if let Some(registry) = command.registry_mut() {
        registry.fill(Config::of(&shared)?.registry);
    }
    match command {
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
        Command::Demo(args) => in_runtime(|stop| demo::run(args, output, stop)),
    }
}

/// Runs a command that uses the network. Threads that still wait for a slow disk or pipe do not hold the exit up.
fn in_runtime<F>(command: impl FnOnce(Interrupt) -> F) -> Result<Exit, Failure>
where
    F: Future<Output = Result<Exit, Failure>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::Runtime)?;
    let outcome = runtime.block_on(async { command(Interrupt::install()).await });
    runtime.shutdown_timeout(SHUTDOWN);
    outcome
}

/// The present moment.
pub(crate) fn now() -> Timestamp {
    SystemClock.now()
}
