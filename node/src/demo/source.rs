//! What the demo publishes.

use veilcast::Payload;

use super::DemoError;
use super::measurements::Measurements;

/// Messages of a default run.
pub(crate) const DEFAULT_MESSAGES: u64 = 12;
/// Fewer would leave an act without a message.
const LEAST: u64 = 8;

/// Where the payloads come from.
pub(crate) enum Source {
    /// This machine, measured live.
    Measurements {
        /// How many.
        count: u64,
    },
    /// Lines of a file; where there are too few, measurements fill up.
    Lines(Vec<Vec<u8>>),
}

impl Source {
    /// How many messages the story has.
    pub(super) fn count(&self) -> u64 {
        match self {
            Self::Measurements { count } => (*count).max(LEAST),
            Self::Lines(lines) => (lines.len() as u64).max(LEAST),
        }
    }

    /// What is published, in words.
    pub(super) fn in_words(&self) -> String {
        match self {
            Self::Measurements { .. } => "this machine's live measurements".into(),
            Self::Lines(lines) if (lines.len() as u64) < LEAST => {
                format!("the {} lines of the input, filled up with measurements of this machine", lines.len())
            }
            Self::Lines(lines) => format!("{} lines of the input", lines.len()),
        }
    }

    /// The payload of message `index`, from 0.
    pub(super) fn payload(&self, index: u64, measurements: &mut Measurements) -> Result<(Vec<u8>, Payload), DemoError> {
        let line = match self {
            Self::Lines(lines) => usize::try_from(index).ok().and_then(|index| lines.get(index).cloned()),
            Self::Measurements { .. } => None,
        };
        let bytes = match line {
            Some(line) => line,
            None => measurements.read()?.into_bytes(),
        };
        let payload = Payload::json_text(bytes.clone()).unwrap_or_else(|_| Payload::binary(bytes.clone()));
        Ok((bytes, payload))
    }
}
