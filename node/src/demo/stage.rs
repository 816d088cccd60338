//! Showing the story as it happens: elapsed time, who, what. Silent where JSON is wanted.

use std::time::{Duration, Instant};

use crate::output::Output;

/// Longest payload shown.
const SHOWN: usize = 130;

/// Where the story is told.
pub(super) struct Stage {
    output: Output<'static>,
    opened: Instant,
}

impl Stage {
    pub(super) fn open(output: Output<'static>) -> Self {
        Self { output, opened: Instant::now() }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.opened.elapsed()
    }

    /// A new act begins.
    pub(super) fn act(&self, title: &str) {
        self.show(format!("\n{title}"));
    }

    /// Somebody does or sees something.
    pub(super) fn says(&self, who: &str, what: impl AsRef<str>) {
        self.show(format!("{:>7.3} s  {who:<10}  {}", self.elapsed().as_secs_f64(), what.as_ref()));
    }

    /// Nobody watching is no reason to stop: the exit code still tells.
    fn show(&self, line: String) {
        if !self.output.is_json() {
            let _ = self.output.line(line);
        }
    }
}

/// A payload as it can be shown: cut short, and with nothing in it that a terminal would obey.
pub(super) fn shown(payload: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(payload).chars().flat_map(char::escape_debug).collect();
    let text = text.replace("\\\"", "\"");
    if text.chars().count() <= SHOWN { text } else { text.chars().take(SHOWN).chain("...".chars()).collect() }
}

/// Milliseconds with one decimal.
pub(super) fn millis(span: Duration) -> f64 {
    (span.as_secs_f64() * 10_000.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_shown_short_and_without_control_characters() {
        assert_eq!(shown(b"{\"a\":1}"), "{\"a\":1}");
        assert_eq!(shown(b"\x1b[2Jx"), "\\u{1b}[2Jx");
        assert!(shown(&[b'x'; 500]).ends_with("x..."));
    }
}
