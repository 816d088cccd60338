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
        let bar = if output.draws() { ProgressBar::new(1) } else { ProgressBar::hidden() };
        if let Ok(style) = ProgressStyle::with_template("{msg:12} {bar:30} {percent:>3} %") {
            bar.set_style(style);
        }
        Self { bar, step: None }
    }

    pub(crate) fn show(&mut self, progress: Progress) {
        self.move_to(progress.step, progress.done, progress.total);
    }

    /// The same, as somebody elsewhere tells it.
    pub(crate) fn move_to(&mut self, step: Step, done: u64, total: u64) {
        if self.step != Some(step) {
            self.step = Some(step);
            self.bar.set_message(words(step));
        }
        self.bar.set_length(total.max(1));
        self.bar.set_position(done);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// As a number, and back.
pub(crate) const fn number(step: Step) -> u8 {
    match step {
        Step::Writing => 0,
        Step::Verifying => 1,
        _ => 2,
    }
}

pub(crate) const fn step(number: u8) -> Step {
    match number {
        0 => Step::Writing,
        1 => Step::Verifying,
        _ => Step::TakingIn,
    }
}

const fn words(step: Step) -> &'static str {
    match step {
        Step::Writing => "writing",
        Step::Verifying => "verifying",
        _ => "taking in",
    }
}
