//! Processes of a bench: it starts itself again with a role. Both talk in lines of JSON over stdin and stdout; each command gets one
//! answer, in order. A child whose parent is gone ends; a parent that lets go of a child ends it.

use std::io::{BufRead, BufReader, Write};
use std::marker::PhantomData;
use std::process::{ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Outcome, Usage};

/// The first argument of a process with a role.
const ROLE: &str = "--as";
/// How long an answer is waited for. A bench of a child that says nothing for so long has failed.
const PATIENCE: Duration = Duration::from_secs(120);

/// What a process with a role can be told.
pub trait Command: Serialize + DeserializeOwned + Send + 'static {
    /// What it is called on the command line.
    const ROLE: &'static str;
    /// What it is told at start.
    type Setup: Serialize + DeserializeOwned;
    /// What it says when it is ready.
    type Greeting: Serialize + DeserializeOwned;
    /// How it answers a command.
    type Answer: Serialize + DeserializeOwned;
}

#[derive(Serialize, Deserialize)]
enum Said<T> {
    Ready(T),
    Failed(String),
}

/// Role and setup of this process, if it was started for one.
pub(crate) fn role() -> Option<(String, String)> {
    let mut arguments = std::env::args().skip(1);
    (arguments.next()? == ROLE).then(|| Some((arguments.next()?, arguments.next()?)))?
}

/// A process that this one started. Dropping it ends the process.
#[derive(Debug)]
pub struct Child<C: Command> {
    process: std::process::Child,
    stdin: ChildStdin,
    lines: Receiver<String>,
    of: PhantomData<fn(C)>,
}

impl<C: Command> Child<C> {
    /// Starts a process in this role and waits until it is ready.
    ///
    /// # Errors
    /// It could not be started, or said that it failed.
    pub fn start(setup: &C::Setup) -> Outcome<(Self, C::Greeting)> {
        let mut started = Self::begin(setup)?;
        let greeting = started.hear()?;
        Ok((started, greeting))
    }

    /// Starts a process without waiting; its greeting is the first thing to hear.
    ///
    /// # Errors
    /// It could not be started.
    pub fn begin(setup: &C::Setup) -> Outcome<Self> {
        let mut process = std::process::Command::new(std::env::current_exe()?)
            .args([ROLE, C::ROLE, &serde_json::to_string(setup)?])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (stdin, stdout) = process.stdin.take().zip(process.stdout.take()).ok_or("a child without pipes")?;
        let (sender, lines) = channel();
        // Ends with the child's stdout.
        thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line))
        });
        Ok(Self { process, stdin, lines, of: PhantomData })
    }

    /// Tells a command without waiting for the answer.
    ///
    /// # Errors
    /// The child is gone.
    pub fn say(&mut self, command: &C) -> Outcome<()> {
        Ok(writeln!(self.stdin, "{}", serde_json::to_string(command)?)?)
    }

    /// The next answer.
    ///
    /// # Errors
    /// The child failed, is gone, or says nothing for two minutes.
    pub fn hear<T: DeserializeOwned>(&mut self) -> Outcome<T> {
        let line = self.lines.recv_timeout(PATIENCE).map_err(|error| format!("a {} said nothing: {error}", C::ROLE))?;
        match serde_json::from_str(&line).map_err(|error| format!("a {} said {line}: {error}", C::ROLE))? {
            Said::Ready(said) => Ok(serde_json::from_value::<T>(said)?),
            Said::Failed(why) => Err(format!("a {} failed: {why}", C::ROLE).into()),
        }
    }

    /// Tells a command and waits for the answer.
    ///
    /// # Errors
    /// As [`Child::hear`].
    pub fn ask(&mut self, command: &C) -> Outcome<C::Answer> {
        self.say(command)?;
        self.hear()
    }

    /// What it has used so far.
    ///
    /// # Errors
    /// It is gone.
    pub fn usage(&self) -> Outcome<Usage> {
        Usage::of(self.process.id())
    }
}

impl<C: Command> Drop for Child<C> {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The other end: the process that started this one.
#[derive(Debug)]
pub struct Parent<C: Command> {
    commands: tokio::sync::mpsc::UnboundedReceiver<C>,
}

impl<C: Command> Parent<C> {
    pub(crate) fn new() -> Self {
        let (sender, commands) = tokio::sync::mpsc::unbounded_channel();
        thread::spawn(move || {
            for line in std::io::stdin().lines().map_while(Result::ok) {
                match serde_json::from_str(&line) {
                    Ok(command) => drop(sender.send(command)),
                    Err(error) => Self::fail(&format!("{line}: {error}")),
                }
            }
            // Whoever measures here is gone.
            std::process::exit(0);
        });
        Self { commands }
    }

    /// The next command. Waits for ever where none comes: the process ends with its parent.
    pub async fn hear(&mut self) -> C {
        match self.commands.recv().await {
            Some(command) => command,
            None => std::future::pending().await,
        }
    }

    /// Says that this process is ready.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn greet(&self, greeting: C::Greeting) -> Outcome<()> {
        say(&Said::Ready(serde_json::to_value(greeting)?))
    }

    /// Answers the oldest command that has no answer.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn answer(&self, answer: C::Answer) -> Outcome<()> {
        say(&Said::Ready(serde_json::to_value(answer)?))
    }

    pub(crate) fn fail(why: &str) {
        // Where nobody listens there is nobody to tell.
        let _ = say(&Said::Failed(why.into()));
    }
}

fn say(said: &Said<Value>) -> Outcome<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(said)?)?;
    Ok(out.flush()?)
}
