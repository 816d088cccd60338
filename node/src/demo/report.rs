//! Every expectation, whether it held, and its figure.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::stage::millis;

/// One thing that must hold.
struct Expectation {
    name: &'static str,
    words: &'static str,
    held: bool,
    figure: Value,
    shown: String,
}

/// What came of the demonstration.
#[derive(Default)]
pub(crate) struct Report {
    expectations: Vec<Expectation>,
    figures: Map<String, Value>,
    took: Duration,
}

impl Report {
    /// Notes whether something held. `shown` is the figure for people.
    pub(super) fn expect(
        &mut self,
        name: &'static str,
        words: &'static str,
        held: bool,
        figure: impl Into<Value>,
        shown: impl Into<String>,
    ) {
        self.expectations.push(Expectation { name, words, held, figure: figure.into(), shown: shown.into() });
    }

    /// Notes a figure beside the expectations.
    pub(super) fn figure(&mut self, name: &str, value: impl Into<Value>) {
        self.figures.insert(name.into(), value.into());
    }

    /// How long it took.
    pub(super) fn took(&mut self, took: Duration) {
        self.took = took;
    }

    /// Whether everything held.
    pub(crate) fn ok(&self) -> bool {
        !self.expectations.is_empty() && self.expectations.iter().all(|expectation| expectation.held)
    }

    /// The summary table.
    pub(crate) fn in_words(&self) -> String {
        let width = self.expectations.iter().map(|e| e.words.chars().count()).max().unwrap_or(0);
        let mut text = String::from("\nWhat was expected, and what came of it\n");
        for Expectation { words, held, shown, .. } in &self.expectations {
            let mark = if *held { "✔" } else { "✘" };
            let _ = writeln!(text, "  {mark} {words:<width$}  {shown}");
        }
        let held = self.expectations.iter().filter(|expectation| expectation.held).count();
        let all = self.expectations.len();
        let verdict = if self.ok() { "everything held" } else { "not everything held" };
        let _ = write!(text, "\n{verdict}: {held} of {all}, in {:.1} s", self.took.as_secs_f64());
        text
    }

    /// One object with every figure.
    pub(crate) fn in_json(&self) -> Value {
        let each = self.expectations.iter().map(|e| json!({ "name": e.name, "held": e.held, "figure": e.figure }));
        json!({
            "ok": self.ok(),
            "expectations": each.collect::<Vec<_>>(),
            "figures": self.figures,
            "took_ms": millis(self.took),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_ok_only_if_everything_held_and_something_was_expected() {
        let mut report = Report::default();
        assert!(!report.ok());
        report.expect("one", "the first thing", true, 1, "1");
        assert!(report.ok());
        report.expect("two", "the second thing", false, 2, "2");
        assert!(!report.ok());
        assert!(report.in_words().contains("✘ the second thing"));
        assert_eq!(report.in_json()["expectations"][1], json!({ "name": "two", "held": false, "figure": 2 }));
    }
}
