//! Results on stdout, everything else on stderr; text for people, JSON for programs.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write};

use serde::Serialize;
use serde_json::json;

use crate::failure::{Failure, Told};

/// How the user wants to be answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
}

impl Output {
    /// JSON, or text for people.
    pub(crate) const fn new(json: bool) -> Self {
        Self { json }
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
        let mut stdout = io::stdout().lock();
        writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(failed_write)
    }

    /// Something that happens beside the result: a sentence, or a JSON object with the event's name, on stderr.
    pub(crate) fn note(self, event: &str, text: impl Display) {
        self.event(&text, &json!({ "event": event, "text": text.to_string() }));
    }

    /// As [`Self::note`], with a JSON object of its own. Nobody reading stderr is no reason to stop.
    pub(crate) fn event(self, text: impl Display, json: &impl Serialize) {
        let line = if self.json { to_line(json) } else { text.to_string() };
        let _ = writeln!(io::stderr().lock(), "{line}");
    }

    /// Why the command failed, and what to do next.
    pub(crate) fn failure(self, told: &Told) {
        self.event(format!("error: {}\n  what to do next: {}", told.error, told.hint), told);
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
