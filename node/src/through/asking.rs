//! Handing a command line to a `veilcast run`, and being its terminal: what it prints is printed here, and every file is opened here.

use std::fs::File;
use std::io::{self, Read, Write};

use bytes::{Bytes, BytesMut};
use futures::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame as Piece;
use veilcast::key_store::Unlock;
use veilcast::key_store::portable::{Incoming, Kind, Summary};

use super::ThroughError;
use super::asked::Asked;
use super::frames::Frame;
use super::link::{Body, Link};
use crate::args::{
    AuditCommand, BackupArgs, Command, GrantCommand, KeyCommand, KeyExportArgs, KeyForgetArgs, KeyImportArgs,
    PassphraseChangeArgs, PassphraseCommand, Shared,
};
use crate::commands::care::backup::To;
use crate::commands::care::bar::{self, Bar};
use crate::commands::care::{backup, io_at, of_file, passphrase, passphrases};
use crate::commands::{audit, grant, key, now};
use crate::data_dir::DataDir;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, failed_write};
use crate::session;
use crate::unlock;

/// Bytes of a file in one piece.
const PIECE: usize = 64 * 1024;

pub(super) async fn run(
    command: &Command,
    shared: &Shared,
    dir: &DataDir,
    link: Link,
    output: Output<'_>,
) -> Result<Exit, Failure> {
    let mut asking = Asking { link, shared, dir, output, kept: None };
    let asked = Asked::of(std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect());
    match command {
        Command::Backup(args) => asking.backup(args, asked).await,
        Command::Passphrase(PassphraseCommand::Change(args)) => asking.passphrase(args, asked).await,
        Command::Key(KeyCommand::Export(args)) => asking.export(args, asked).await,
        Command::Key(KeyCommand::Import(args)) => asking.import(args, asked).await,
        Command::Key(KeyCommand::Forget(args)) => asking.forget(args).await,
        _ => asking.plain(command, asked).await,
    }
}

/// Has a command line done, and returns what it prints on stdout instead of printing it.
///
/// # Errors
/// What it prints on stderr is printed, and that it failed is an error beside it.
pub(super) async fn printed(
    line: Vec<String>,
    shared: &Shared,
    dir: &DataDir,
    link: Link,
) -> Result<BytesMut, Failure> {
    let mut asking = Asking { link, shared, dir, output: Output::new(true), kept: Some(BytesMut::new()) };
    let ended = asking.ask(&Asked::of(line), empty(), None).await?;
    match ended.exit {
        Exit::Done => Ok(asking.kept.unwrap_or_default()),
        _ => Err(ThroughError::Broken { what: "it failed".into() }.into()),
    }
}

/// How it ended over there.
struct Ended {
    exit: Exit,
    /// What has to be agreed to before it is done.
    question: Option<String>,
}

struct Asking<'a> {
    link: Link,
    shared: &'a Shared,
    dir: &'a DataDir,
    output: Output<'a>,
    /// Stdout, where it is not to be printed.
    kept: Option<BytesMut>,
}

impl Asking<'_> {
    /// With what the command reads beside its command line.
    async fn plain(&mut self, command: &Command, mut asked: Asked) -> Result<Exit, Failure> {
        let mut input = Bytes::new();
        match command {
            Command::Key(KeyCommand::Add(args)) => {
                let file = args.key_file.clone();
                let bytes = waiting(move || key::read_key(file.as_deref())).await?;
                asked.key = Some(hex::encode(&bytes[..]));
            }
            Command::Audit(AuditCommand::Verify(args)) => {
                asked.head = audit::kept_head(args)?.map(|kept| kept.line().to_owned());
            }
            Command::Grant(GrantCommand::Import(args)) if args.lines.is_empty() => {
                input = waiting(grant::import::from_stdin).await?.join("\n").into();
            }
            Command::Grant(GrantCommand::Import(args)) => input = args.lines.join("\n").into(),
            Command::Subscribe(args) => self.network(args.pre_agreed_only, args.network.is_given())?,
            Command::Resend(args) => self.network(args.pre_agreed_only, args.network.is_given())?,
            Command::Key(KeyCommand::Fetch(args)) => self.network(false, args.network.is_given())?,
            Command::Grant(GrantCommand::Announce(args)) => self.network(false, args.network.is_given())?,
            _ => {}
        }
        Ok(self
            .ask(&asked, Body::new(http_body_util::Full::new(input).map_err(|never| match never {})), None)
            .await?
            .exit)
    }

    /// What runs there has a network of its own, and asks for keys.
    fn network(&self, agreed_only: bool, named: bool) -> Result<(), ThroughError> {
        if agreed_only {
            return Err(ThroughError::AgreedOnly);
        }
        if named {
            super::own_network(self.output);
        }
        Ok(())
    }

    async fn backup(&mut self, args: &BackupArgs, asked: Asked) -> Result<Exit, Failure> {
        let unlock = session::unlock_identity(self.dir, self.shared)?;
        let identity = session::load_identity(self.dir, &unlock)?;
        let passphrase = passphrases::for_new(&args.passphrase, unlock::folders(&unlock))?;
        let is_folders = Some(&passphrase) == unlock::folders(&unlock);
        let to = To { file: &args.file, passphrase: &passphrase, replace: args.force };
        match self.carry(Kind::Backup, &to, &unlock, asked).await? {
            Err(exit) => Ok(exit),
            Ok(summary) => backup::tell(&args.file, identity.user(), summary, is_folders, self.output),
        }
    }

    async fn export(&mut self, args: &KeyExportArgs, asked: Asked) -> Result<Exit, Failure> {
        let unlock = session::unlock_identity(self.dir, self.shared)?;
        session::load_identity(self.dir, &unlock)?;
        let passphrase = passphrases::for_new(&args.passphrase, unlock::folders(&unlock))?;
        let to = To { file: &args.file, passphrase: &passphrase, replace: args.force };
        match self.carry(Kind::Keys, &to, &unlock, asked).await? {
            Err(exit) => Ok(exit),
            Ok(summary) => key::carry::told(&args.file, summary, self.output).map(|()| Exit::Done),
        }
    }

    /// Has a file with keys written over there, and puts it in its place here, checked; or how the command ended without it.
    async fn carry(
        &mut self,
        kind: Kind,
        to: &To<'_>,
        unlock: &Unlock,
        mut asked: Asked,
    ) -> Result<Result<Summary, Exit>, Failure> {
        asked.opens_folder = Some(unlock::identity_password(unlock)?.to_string());
        asked.passphrase = Some(to.passphrase.to_owned());
        let mut bar = Bar::new(self.output);
        let mut incoming = Incoming::begin(to.file, to.replace).map_err(of_file(to.file))?;
        let ended = self.ask(&asked, empty(), Some((&mut incoming, &mut bar))).await?;
        if ended.exit != Exit::Done {
            return Ok(Err(ended.exit));
        }
        let watch = &mut |progress| bar.show(progress);
        Ok(Ok(incoming.finish(kind, to.passphrase, watch).map_err(of_file(to.file))?))
    }

    async fn import(&mut self, args: &KeyImportArgs, mut asked: Asked) -> Result<Exit, Failure> {
        let given = unlock::given(self.shared.passphrase_file.as_deref())?;
        let passphrase = passphrases::for_file(&args.passphrase, &args.file, given.as_ref())?;
        asked.passphrase = Some(passphrase.to_string());
        let file = File::open(&args.file).map_err(io_at(&args.file))?;
        Ok(self.ask(&asked, whole(file), None).await?.exit)
    }

    async fn passphrase(&mut self, args: &PassphraseChangeArgs, mut asked: Asked) -> Result<Exit, Failure> {
        let old = session::unlock_identity(self.dir, self.shared)?;
        session::load_identity(self.dir, &old)?;
        asked.opens_folder = Some(unlock::identity_password(&old)?.to_string());
        asked.passphrase = passphrase::chosen(args)?.map(|new| new.to_string());
        Ok(self.ask(&asked, empty(), None).await?.exit)
    }

    /// Asks here whether the keys may go. The moment is the same, however long the answer takes.
    async fn forget(&mut self, args: &KeyForgetArgs) -> Result<Exit, Failure> {
        let before = args.before.in_the_past(now()).as_millis().to_string();
        let mut line = vec!["veilcast", "key", "forget", args.stream.as_str(), "--before", &before];
        let publisher = args.publisher.map(|publisher| publisher.to_string());
        if let Some(publisher) = &publisher {
            line.extend(["--publisher", publisher]);
        }
        if self.output.is_json() {
            line.push("--json");
        }
        if args.yes {
            line.push("--yes");
        }
        let words = |line: &[&str]| line.iter().map(|word| (*word).to_owned()).collect();
        let ended = self.ask(&Asked::of(words(&line)), empty(), None).await?;
        let Some(question) = ended.question else { return Ok(ended.exit) };
        waiting(move || key::forget::agreed(&question)).await?;
        line.push("--yes");
        Ok(self.ask(&Asked::of(words(&line)), empty(), None).await?.exit)
    }

    /// Prints what is printed over there, until it has ended. Where this is dropped, it ends over there as well, as far as it waits for
    /// the network.
    async fn ask(
        &mut self,
        asked: &Asked,
        input: Body,
        mut file: Option<(&mut Incoming, &mut Bar)>,
    ) -> Result<Ended, Failure> {
        let mut answer = self.link.command(asked, input).await?;
        let (mut came, mut question) = (BytesMut::new(), None);
        let broken = |what: &dyn std::fmt::Display| ThroughError::Broken { what: what.to_string() };
        loop {
            while let Some(frame) = Frame::take(&mut came).map_err(|error| broken(&error))? {
                match (frame, &mut file) {
                    (Frame::Out(bytes), _) if self.kept.is_some() => {
                        self.kept.iter_mut().for_each(|kept| kept.extend(&bytes))
                    }
                    (Frame::Out(bytes), _) => {
                        let print = move || {
                            let mut out = io::stdout().lock();
                            out.write_all(&bytes).and_then(|()| out.flush())
                        };
                        waiting(print).await.map_err(failed_write)?;
                    }
                    (Frame::Err(bytes), _) => drop(io::stderr().lock().write_all(&bytes)),
                    (Frame::File(bytes), Some((incoming, _))) => {
                        incoming.write_all(&bytes).map_err(Failure::Output)?;
                    }
                    (Frame::Progress { step, done, total }, Some((_, bar))) => {
                        bar.move_to(bar::step(step), done, total);
                    }
                    (Frame::File(_) | Frame::Progress { .. }, None) => {}
                    (Frame::Ask(text), _) => question = Some(String::from_utf8_lossy(&text).into_owned()),
                    (Frame::Exit(code), _) => return Ok(Ended { exit: Exit::of_code(code), question }),
                }
            }
            match answer.frame().await {
                Some(Ok(piece)) => came.extend(piece.into_data().ok()),
                Some(Err(_)) | None => return Err(broken(&"it ended before the command did").into()),
            }
        }
    }
}

/// What waits for a pipe or a person, on a thread of its own: Ctrl-C is heard meanwhile.
async fn waiting<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(failed) => match failed.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The process ends.
            Err(_) => std::future::pending().await,
        },
    }
}

fn empty() -> Body {
    Body::new(http_body_util::Empty::new().map_err(|never| match never {}))
}

/// A file, piece by piece.
fn whole(file: File) -> Body {
    let pieces = stream::unfold(Some(file), |file| async move {
        let mut file = file?;
        let mut piece = vec![0; PIECE];
        match file.read(&mut piece) {
            Ok(0) => None,
            Ok(length) => {
                piece.truncate(length);
                Some((Ok(Piece::data(Bytes::from(piece))), Some(file)))
            }
            Err(error) => Some((Err(error), None)),
        }
    });
    Body::new(StreamBody::new(pieces))
}
