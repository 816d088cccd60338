//! Doing what was asked for.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use veilcast::Identity;
use veilcast::client::Client;
use veilcast::key_store::Unlock;
use veilcast::key_store::portable::{PortableFile, Progress};
use zeroize::Zeroizing;

use super::Folder;
use super::afar::{Out, Screen};
use super::request::Request;
use crate::args::{
    AuditCommand, Command, GrantCommand, Kept, KeyCommand, KeyForgetArgs, PassphraseCommand, Registry, StreamCommand,
};
use crate::commands::audit::KeptHead;
use crate::commands::care::backup::To;
use crate::commands::care::{self, of_file};
use crate::commands::{access, audit, grant, key, resend, stream, subscribe};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::lines::LineWriter;
use crate::output::Output;
use crate::panics;
use crate::through::ThroughError;
use crate::through::class::{self, Class};
use crate::through::frames::{Frame, MOST};
use crate::unlock::Secret;

/// On a thread that may wait.
pub(super) fn run(folder: &Folder, mut request: Request, screen: &Arc<Screen>) -> Exit {
    let output = Output::to(request.cli.shared.json, &**screen);
    let outcome = panics::caught(|| Job { folder, screen, output }.run(&mut request));
    outcome.unwrap_or(Err(Failure::Database)).unwrap_or_else(|failure| {
        if !matches!(failure, Failure::OutputClosed) {
            output.failure(&failure.told());
        }
        failure.exit()
    })
}

struct Job<'a> {
    folder: &'a Folder,
    screen: &'a Arc<Screen>,
    output: Output<'a>,
}

impl Job<'_> {
    fn run(&self, request: &mut Request) -> Result<Exit, Failure> {
        let Request { cli, asked, input } = request;
        // A command that names a contract is never handed over; this process's own environment may name one, which is not what was asked.
        if let Some(registry) = cli.command.registry_mut() {
            registry.settle(Registry::Kept(Kept::Local));
        }
        if class::of(&cli.command) != Class::Command {
            return Err(ThroughError::NotHere.into());
        }
        // What decides here is what it runs with; whoever asks has seen to it that he means the same.
        if let Some(registry) = cli.command.registry_mut() {
            registry.settle(self.folder.gateway.registry);
        }
        let (session, output) = (&self.folder.session, self.output);
        match &cli.command {
            Command::Stream(command) => self.stream(command),
            Command::Grant(GrantCommand::Announce(args)) => {
                self.over_the_network(|client| grant::announce::through(args, session, client, output))
            }
            Command::Grant(command) => grant::on(command, &lines(input)?, session, output),
            Command::Access(command) => access::on(command, session, output),
            Command::Audit(command) => {
                let file = match command {
                    AuditCommand::Verify(args) => args.since_head.clone(),
                    _ => None,
                };
                let kept = file.zip(asked.head.clone()).map(|(file, line)| KeptHead::new(file, line));
                audit::on(command, kept, session, output)
            }
            Command::Key(KeyCommand::Export(args)) => {
                self.may_take_keys(asked.opens_folder.as_deref())?;
                let scopes = key::carry::scopes(args, session)?;
                self.file(asked.passphrase.as_deref(), |to, watch| {
                    key::carry::write(args, &scopes, session, to, watch).map(drop)
                })
            }
            Command::Key(command) => self.key(command, asked.key.as_deref(), asked.passphrase.as_deref(), input),
            Command::Backup(_) => {
                self.may_take_keys(asked.opens_folder.as_deref())?;
                self.file(asked.passphrase.as_deref(), |to, watch| {
                    care::backup::write(session, &self.folder.dir, to, watch).map(drop)
                })
            }
            Command::Passphrase(PassphraseCommand::Change(_)) => {
                let old = self.may_take_keys(asked.opens_folder.as_deref())?;
                let new = asked.passphrase.clone().map(Zeroizing::new);
                care::passphrase::through(session, &self.folder.dir, &old, new, output)
            }
            Command::Subscribe(args) => self.over_the_network(|client| {
                subscribe::through(args, session, client, output, LineWriter::elsewhere(Out(self.screen.clone())))
            }),
            Command::Resend(args) => self.over_the_network(|client| {
                resend::through(args, session, client, output, LineWriter::elsewhere(Out(self.screen.clone())))
            }),
            _ => Err(ThroughError::NotHere.into()),
        }
    }

    fn stream(&self, command: &StreamCommand) -> Result<Exit, Failure> {
        match (self.folder.gateway.registry, command) {
            (Registry::Kept(kept), _) => stream::on(command, kept, &self.folder.session, self.output),
            (Registry::Chain(_), StreamCommand::Set(args)) => {
                stream::keep_beside_contract(args, &self.folder.session, self.output)
            }
            (contract @ Registry::Chain(_), _) => Err(ThroughError::ByContract { contract }.into()),
        }
    }

    fn key(
        &self,
        command: &KeyCommand,
        key: Option<&str>,
        passphrase: Option<&str>,
        input: &mut File,
    ) -> Result<Exit, Failure> {
        let (session, output) = (&self.folder.session, self.output);
        match command {
            KeyCommand::Add(args) => {
                key::add(args, &key::parse_key(key.unwrap_or_default().as_bytes())?, session, output)?;
            }
            KeyCommand::Use(args) => key::use_key(args, session, output)?,
            KeyCommand::Remove(args) => key::remove(args, session, output)?,
            KeyCommand::Import(args) => {
                let mut file =
                    PortableFile::from_reader(input, passphrase.unwrap_or_default()).map_err(of_file(&args.file))?;
                key::carry::take_in(&mut file, &args.file, session, &mut |progress| self.hint(progress))?
                    .tell(output)?;
            }
            KeyCommand::Forget(args) => self.forget(args)?,
            KeyCommand::Fetch(args) => {
                return self.over_the_network(|client| key::fetch::through(args, client, output));
            }
            _ => return Err(ThroughError::NotHere.into()),
        }
        Ok(Exit::Done)
    }

    /// Whoever asks agrees to it over there, and comes again.
    fn forget(&self, args: &KeyForgetArgs) -> Result<(), Failure> {
        let found = key::forget::look(args, &self.folder.session)?;
        match found.question() {
            Some(question) if !args.yes => {
                self.screen.send(&Frame::Ask(question.into()));
                Ok(())
            }
            _ => found.forget(&self.folder.session, self.output),
        }
    }

    /// Keys leave this folder for whoever knows what opens it, as they do where nobody runs on it: the socket alone is not enough.
    fn may_take_keys(&self, opens: Option<&str>) -> Result<Unlock, Failure> {
        let dir = &self.folder.dir;
        let opens: Secret = Zeroizing::new(opens.unwrap_or_default().to_owned());
        Identity::load_keystore(&dir.identity(), &opens)?;
        Ok(if dir.key_file().exists() { Unlock::KeyFile(dir.key_file()) } else { Unlock::Passphrase(opens) })
    }

    /// Writes a file for whoever asked, and hands him its bytes. The store's writers wait while it is written, and not while it is sent.
    fn file(
        &self,
        passphrase: Option<&str>,
        write: impl FnOnce(&To<'_>, &mut dyn FnMut(Progress)) -> Result<(), Failure>,
    ) -> Result<Exit, Failure> {
        let passphrase = passphrase.ok_or(ThroughError::NotHere)?;
        let fault = |source| care::io_at(self.folder.dir.path())(source);
        let made = self.folder.dir.passing().map_err(fault)?;
        let file = made.path().join("file");
        write(&To { file: &file, passphrase, replace: false }, &mut |progress| self.hint(progress))?;
        let mut written = File::open(&file).map_err(fault)?;
        let mut piece = vec![0; MOST];
        loop {
            match written.read(&mut piece).map_err(fault)? {
                0 => return Ok(Exit::Done),
                length => self.screen.file(&piece[..length]).map_err(crate::output::failed_write)?,
            }
        }
    }

    fn hint(&self, Progress { step, done, total, .. }: Progress) {
        self.screen.hint(&Frame::Progress { step: care::bar::number(step), done, total });
    }

    /// Until it is done, whoever asked has gone, or the node stops.
    fn over_the_network<'b, F>(&'b self, work: impl FnOnce(&'b Client) -> F) -> Result<Exit, Failure>
    where
        F: Future<Output = Result<Exit, Failure>> + 'b,
    {
        let Folder { gateway, runtime, .. } = self.folder;
        runtime.block_on(async {
            tokio::select! {
                outcome = work(&gateway.client) => outcome,
                () = self.screen.gone() => Err(Failure::OutputClosed),
                () = gateway.stops() => Err(ThroughError::Stopping.into()),
            }
        })
    }
}

/// The lines that came along.
fn lines(input: &mut File) -> Result<Vec<String>, Failure> {
    let mut text = String::new();
    input.take(grant::import::MOST).read_to_string(&mut text).map_err(grant::GrantInputError::Stdin)?;
    Ok(text.lines().map(str::to_owned).collect())
}
