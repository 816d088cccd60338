//! `1000`, `10m`, `1000,10m` or `never`: after how much use a key changes.

use std::num::NonZeroU64;

use clap::Args;
use veilcast::publisher::{Every, KeyPolicy};

use crate::times::{TimeError, parse_span};

/// `--rotate-every` and `--rekey-every`, of the commands that set a stream's policy.
#[derive(Clone, Copy, Debug, Default, Args)]
pub(crate) struct RhythmArgs {
    /// Pass a new key on inside a message after N messages, a span, or both (1000,10m): cheap, nobody is checked again
    #[arg(long, value_name = "N|SPAN", value_parser = parse_rhythm)]
    pub(crate) rotate_every: Option<Every>,
    /// Hand a new key to those who still may read after N messages, a span, or both; "never" ends either
    #[arg(long, value_name = "N|SPAN", value_parser = parse_rhythm)]
    pub(crate) rekey_every: Option<Every>,
}

impl RhythmArgs {
    /// Whether any was given.
    pub(crate) const fn is_given(&self) -> bool {
        self.rotate_every.is_some() || self.rekey_every.is_some()
    }

    /// `policy`, except for what was given.
    pub(crate) fn over(&self, policy: KeyPolicy) -> KeyPolicy {
        KeyPolicy {
            rotate_every: self.rotate_every.unwrap_or(policy.rotate_every),
            rekey_every: self.rekey_every.unwrap_or(policy.rekey_every),
        }
    }
}

/// As it is typed.
pub(crate) fn in_text(every: Every) -> String {
    let time = every.time.map(crate::times::show_span);
    let parts: Vec<String> = every.messages.map(|count| count.to_string()).into_iter().chain(time).collect();
    if parts.is_empty() { "never".into() } else { parts.join(",") }
}

pub(crate) fn parse_rhythm(text: &str) -> Result<Every, RhythmError> {
    if text == "never" {
        return Ok(Every::NEVER);
    }
    let mut every = Every::NEVER;
    for part in text.split(',') {
        let twice = if part.bytes().all(|byte| byte.is_ascii_digit()) {
            let count = part.parse::<NonZeroU64>().map_err(|_| RhythmError::Count { got: part.into() })?;
            every.messages.replace(count).is_some()
        } else {
            every.time.replace(parse_span(part).map_err(RhythmError::Span)?).is_some()
        };
        if twice {
            return Err(RhythmError::Twice { got: text.into() });
        }
    }
    Ok(every)
}

/// Why text is no rhythm.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum RhythmError {
    #[error("{got:?} is no number of messages from 1 on; write for example 1000, 10m, 1000,10m or never")]
    Count { got: String },
    #[error("{0}, or a number of messages, or both (1000,10m), or never")]
    Span(TimeError),
    #[error("{got:?} names two numbers or two spans; one of each at most, such as 1000,10m")]
    Twice { got: String },
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_rhythm_is_a_number_of_messages_a_span_both_or_never() {
        let minutes = Duration::from_secs(600);
        assert_eq!(parse_rhythm("1000"), Ok(Every::messages(1000)));
        assert_eq!(parse_rhythm("10m"), Ok(Every::time(minutes)));
        assert_eq!(parse_rhythm("10m,1000"), Ok(Every { time: Some(minutes), ..Every::messages(1000) }));
        assert_eq!(parse_rhythm("never"), Ok(Every::NEVER));
        for text in ["1000", "10m", "1000,10m", "never"] {
            assert_eq!(in_text(parse_rhythm(text).unwrap()), text);
        }
        for wrong in ["0", "", "-1", "1,2", "1m,2h", "10 parsecs", "99999999999999999999"] {
            assert!(parse_rhythm(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_was_not_given_stays() {
        let kept = KeyPolicy { rotate_every: Every::messages(1), rekey_every: Every::messages(2) };
        let given = RhythmArgs { rotate_every: Some(Every::NEVER), rekey_every: None };
        assert_eq!(given.over(kept), KeyPolicy { rotate_every: Every::NEVER, rekey_every: Every::messages(2) });
        assert!(given.is_given() && !RhythmArgs::default().is_given());
    }
}
