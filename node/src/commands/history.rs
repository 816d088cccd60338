//! How far back keys are handed out, in words and as it is typed.

use veilcast::exchange::HistoryPolicy;

use crate::times;

/// As it is typed, and in JSON.
pub(crate) fn word(policy: HistoryPolicy) -> String {
    match policy {
        HistoryPolicy::Window(span) => format!("window:{}", times::show_span(span)),
        other => other.to_string(),
    }
}

/// For people: what is handed out.
pub(crate) fn in_words(policy: HistoryPolicy) -> String {
    match policy {
        HistoryPolicy::All => "all keys".into(),
        HistoryPolicy::SinceGrantStart => "keys in use since the asker's grant began".into(),
        HistoryPolicy::Window(span) => format!("keys in use in the last {}", times::show_span(span)),
        HistoryPolicy::None => "the current key only".into(),
        other => other.to_string(),
    }
}
