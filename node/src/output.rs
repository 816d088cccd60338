//! Results on stdout, everything else on stderr; text for people, JSON for programs.

use std::fmt::Display;
use std::io::{self, BufWriter, ErrorKind, Write};

use serde::Serialize;
use serde_json::json;

use crate::failure::{Failure, Told};

/// How the user wants to be answered, and where he is.
#[derive(Clone, Copy)]
pub(crate) struct Output<'a> {
    json: bool,
    /// Somebody who asks this process for the command from another one; `None`: at this process's own streams.
    afar: Option<&'a dyn Afar>,
}

/// The streams of somebody elsewhere.
pub(crate) trait Afar: Send + Sync {
    /// Bytes for his stdout.
    ///
    /// # Errors
    /// `BrokenPipe` where he has gone.
    fn out(&self, bytes: &[u8]) -> io::Result<()>;
    /// Bytes for his stderr.
    fn err(&self, bytes: &[u8]);
}

impl Output<'static> {
    /// JSON, or text for people, on this process's streams.
    pub(crate) const fn new(json: bool) -> Self {
        Self { json, afar: None }
    }
}

impl<'a> Output<'a> {
    /// JSON, or text for people, to somebody elsewhere.
    pub(crate) const fn to(json: bool, afar: &'a dyn Afar) -> Self {
        Self { json, afar: Some(afar) }
    }

    /// Whether a bar may be drawn: for people at this process's own terminal.
    pub(crate) const fn draws(self) -> bool {
        !self.json && self.afar.is_none()
    }

    /// Whether the answers are JSON.
    pub(crate) const fn is_json(self) -> bool {
        self.json
    }

    /// The result of a command: text as it stands, or one JSON object on one line.
    pub(crate) fn result(self, text: impl Display, json: &impl Serialize) -> Result<(), Failure> {
        if self.json { self.line(to_line(json)) } else { self.line(text) }
    }

    /// One line on stdout.
    pub(crate) fn line(self, text: impl Display) -> Result<(), Failure> {
        let mut out = self.out();
        writeln!(out, "{text}").and_then(|()| out.flush()).map_err(failed_write)
    }

    /// Stdout, in full buffers; to be flushed at the end.
    pub(crate) fn out(self) -> BufWriter<Box<dyn Write + 'a>> {
        BufWriter::new(match self.afar {
            None => Box::new(io::stdout().lock()),
            Some(afar) => Box::new(Out(afar)),
        })
    }

    /// Something that happens beside the result: a sentence, or a JSON object with the event's name, on stderr.
    pub(crate) fn note(self, event: &str, text: impl Display) {
        self.event(&text, &json!({ "event": event, "text": text.to_string() }));
    }

    /// As [`Self::note`], with a JSON object of its own. Nobody reading stderr is no reason to stop.
    pub(crate) fn event(self, text: impl Display, json: &impl Serialize) {
        let line = if self.json { to_line(json) } else { text.to_string() };
        match self.afar {
            // At once: other processes may write to the same terminal.
            None => drop(io::stderr().lock().write_all((line + "\n").as_bytes())),
            Some(afar) => afar.err((line + "\n").as_bytes()),
        }
    }

    /// Why the command failed, and what to do next.
    pub(crate) fn failure(self, told: &Told) {
        self.event(format!("error: {}\n  what to do next: {}", told.error, told.hint), told);
    }
}

/// The stdout of somebody elsewhere.
struct Out<'a>(&'a dyn Afar);

impl Write for Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.out(bytes).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A closed pipe is the reader's way to say "enough".
pub(crate) fn failed_write(error: io::Error) -> Failure {
    if error.kind() == ErrorKind::BrokenPipe { Failure::OutputClosed } else { Failure::Output(error) }
}

/// One line of JSON. Our own types always have one; if ever not, the line says so.
pub(crate) fn to_line(json: &impl Serialize) -> String {
    serde_json::to_string(json).unwrap_or_else(|error| json!({ "error": error.to_string() }).to_string())
}
