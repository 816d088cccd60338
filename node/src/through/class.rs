//! What becomes of each command while a `veilcast run` works on its data folder. Every one is named: a new command does not build
//! before somebody decided.

use crate::args::{
    AuditCommand, Command, GrantCommand, IdentityCommand, KeyCommand, PassphraseCommand, Registry, StreamCommand,
};
use crate::commands::grant::show::is_line;

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// It needs nothing that the running one holds.
    Own,
    /// The running one is asked over its HTTP interface, as applications ask it.
    Interface,
    /// The running one is handed the command line, and does it on its own open store.
    Command,
    /// It cannot be done meanwhile: why, and what to do instead.
    Refused { why: &'static str, instead: &'static str },
}

/// Of this command.
pub(crate) fn of(command: &Command) -> Class {
    match command {
        Command::Demo(_)
        | Command::Config(_)
        | Command::Fingerprint(_)
        | Command::Completions(_)
        | Command::Man(_)
        | Command::Identity(IdentityCommand::Show) => Class::Own,
        Command::Identity(IdentityCommand::New) => Class::Refused {
            why: "there is an identity in it already",
            instead: "see it with: veilcast identity show, or make another one under a --data-dir of its own",
        },
        Command::Stream(command) => of_stream(command),
        Command::Grant(command) => match command {
            GrantCommand::Show(args) if is_line(&args.what) => Class::Own,
            GrantCommand::Issue(_)
            | GrantCommand::Show(_)
            | GrantCommand::Import(_)
            | GrantCommand::Revoke(_)
            | GrantCommand::Announce(_) => Class::Command,
        },
        Command::Audit(AuditCommand::Verify(args)) if args.export.is_some() => Class::Own,
        Command::Access(_) | Command::Audit(_) | Command::Subscribe(_) | Command::Resend(_) | Command::Backup(_) => {
            Class::Command
        }
        Command::Passphrase(PassphraseCommand::Change(_)) => Class::Command,
        Command::Key(command) => match command {
            KeyCommand::List(_) | KeyCommand::Rotate(_) | KeyCommand::Rekey(_) => Class::Interface,
            KeyCommand::Add(_)
            | KeyCommand::Fetch(_)
            | KeyCommand::Use(_)
            | KeyCommand::Remove(_)
            | KeyCommand::Export(_)
            | KeyCommand::Import(_)
            | KeyCommand::Forget(_) => Class::Command,
        },
        Command::ApiKey(_) | Command::Publish(_) => Class::Interface,
        Command::Run(_) => Class::Refused {
            why: "of two that run on one store each would miss what the other does",
            instead: "stop it (SIGTERM or Ctrl-C) first, or give this one a --data-dir of its own",
        },
        Command::Node(args) if args.store.is_empty() && args.store_assigned.is_empty() => Class::Own,
        Command::Node(_) => Class::Refused {
            why: "the messages of a data folder are kept by one process",
            instead: "let it keep them: streams in [storage] of its config file; or give this one a --data-dir of its own",
        },
        Command::Restore(_) => Class::Refused {
            why: "its store would be taken away under it",
            instead: "stop it (SIGTERM or Ctrl-C) first, or restore into another --data-dir",
        },
    }
}

/// A contract is asked and changed without the store.
fn of_stream(command: &StreamCommand) -> Class {
    let by_contract = matches!(command.registry().given(), Some(Registry::Chain(_)));
    match command {
        StreamCommand::Subscribers(_) => Class::Interface,
        _ if by_contract => Class::Own,
        StreamCommand::Create(_) | StreamCommand::Grant(_) | StreamCommand::Revoke(_) => Class::Interface,
        StreamCommand::Set(_) | StreamCommand::Show(_) => Class::Command,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::args::Cli;

    /// A command line of every command there is, and what becomes of it.
    const LINES: [(&str, &str, &str); 50] = [
        ("demo", "", "own"),
        ("identity new", "", "refused"),
        ("identity show", "", "own"),
        ("stream create", "prices", "interface"),
        ("stream grant", "STREAM USER", "interface"),
        ("stream revoke", "STREAM USER", "interface"),
        ("stream show", "", "command"),
        ("stream set", "STREAM --history none", "command"),
        ("stream subscribers", "STREAM", "interface"),
        ("grant issue", "STREAM USER", "command"),
        ("grant show", "STREAM", "command"),
        ("grant import", "", "command"),
        ("grant revoke", "STREAM USER", "command"),
        ("grant announce", "", "command"),
        ("access allow", "STREAM USER", "command"),
        ("access deny", "STREAM USER", "command"),
        ("access clear", "STREAM", "command"),
        ("access show", "STREAM", "command"),
        ("audit verify", "", "command"),
        ("audit export", "", "command"),
        ("audit head", "", "command"),
        ("audit begin-anew", "--yes", "command"),
        ("run", "", "refused"),
        ("api-key add", "shop --stream STREAM --verb publish", "interface"),
        ("api-key list", "", "interface"),
        ("api-key revoke", "shop", "interface"),
        ("node", "", "own"),
        ("publish", "STREAM", "interface"),
        ("subscribe", "STREAM", "command"),
        ("resend", "STREAM --last 1", "command"),
        ("key list", "", "interface"),
        ("key add", "STREAM --key-id k", "command"),
        ("key fetch", "STREAM", "command"),
        ("key rotate", "STREAM", "interface"),
        ("key rekey", "STREAM", "interface"),
        ("key use", "--prefix STREAM --key-id k", "command"),
        ("key remove", "--prefix STREAM --key-id k", "command"),
        ("key export", "STREAM file", "command"),
        ("key import", "file", "command"),
        ("key forget", "STREAM --before 1d", "command"),
        ("backup", "file", "command"),
        ("restore", "file", "refused"),
        ("passphrase change", "", "command"),
        ("fingerprint", "", "own"),
        ("config check", "", "own"),
        ("config default", "", "own"),
        ("completions", "bash", "own"),
        ("man", "folder", "own"),
        // And where it depends on what is said.
        ("node", "--store STREAM", "refused"),
        ("stream set", "STREAM --public --registry polygon", "own"),
    ];

    fn class(name: &str, rest: &str) -> Class {
        const USER: &str = "0x00000000000000000000000000000000000000bb";
        let line = format!("veilcast {name} {rest}").replace("STREAM", &format!("{USER}/prices")).replace("USER", USER);
        of(&Cli::try_parse_from(line.split_whitespace()).unwrap_or_else(|error| panic!("{line}: {error}")).command)
    }

    fn leaves(command: &clap::Command, path: &str, found: &mut BTreeSet<String>) {
        let below: Vec<_> = command.get_subcommands().filter(|below| below.get_name() != "help").collect();
        if below.is_empty() {
            found.insert(path.trim_start().to_owned());
        }
        for below in below {
            leaves(below, &format!("{path} {}", below.get_name()), found);
        }
    }

    #[test]
    fn every_command_is_done_by_whoever_runs_there_or_needs_nothing_of_it_or_is_refused_with_a_reason() {
        for (name, rest, expected) in LINES {
            let found = match class(name, rest) {
                Class::Own => "own",
                Class::Interface => "interface",
                Class::Command => "command",
                Class::Refused { why, instead } => {
                    assert!(!why.is_empty() && !instead.is_empty());
                    "refused"
                }
            };
            assert_eq!(found, expected, "{name} {rest}");
        }
        let mut all = BTreeSet::new();
        leaves(&Cli::command(), "", &mut all);
        assert_eq!(LINES.iter().map(|(name, ..)| (*name).to_owned()).collect::<BTreeSet<_>>(), all);
    }
}
