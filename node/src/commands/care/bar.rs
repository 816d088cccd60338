//! A bar while a portable file is written or read, on a terminal only.

use indicatif::{ProgressBar, ProgressStyle};
use veilcast::key_store::portable::{Progress, Step};

use crate::output::Output;

/// Shows progress until dropped.
pub(crate) struct Bar {
    bar: ProgressBar,
    step: Option<Step>,
}

impl Bar {
    pub(crate) fn new(output: Output) -> Self {
        // indicatif draws on stderr, and not at all where that is no terminal.
        let bar = if output.is_json() { ProgressBar::hidden() } else { ProgressBar::new(1) };
        if let Ok(style) = ProgressStyle::with_template("{msg:12} {bar:30} {percent:>3} %") {
            bar.set_style(style);
        }
        Self { bar, step: None }
    }

    pub(crate) fn show(&mut self, progress: Progress) {
        if self.step != Some(progress.step) {
            self.step = Some(progress.step);
            self.bar.set_message(words(progress.step));
        }
        self.bar.set_length(progress.total.max(1));
        self.bar.set_position(progress.done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

const fn words(step: Step) -> &'static str {
    match step {
        Step::Writing => "writing",
        Step::Verifying => "verifying",
        _ => "taking in",
    }
}
