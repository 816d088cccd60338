//! A key policy in words and in JSON.

use serde_json::{Value, json};
use veilcast::publisher::{Every, KeyPolicy};

use crate::times;

/// One sentence part for each rhythm that there is; empty where the key never changes by itself.
pub(crate) fn in_words(policy: KeyPolicy) -> String {
    let part = |word: &str, every: Every| (!every.is_never()).then(|| format!("{word} every {}", words(every)));
    let parts = [part("rotates", policy.rotate_every), part("rekeys", policy.rekey_every)];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// `null` where the key never changes by itself.
pub(crate) fn in_json(policy: KeyPolicy) -> Value {
    let of = |every: Every| {
        let time = every.time.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
        (!every.is_never()).then(|| json!({ "messages": every.messages, "time_ms": time }))
    };
    json!({ "rotate_every": of(policy.rotate_every), "rekey_every": of(policy.rekey_every) })
}

fn words(every: Every) -> String {
    let messages =
        every.messages.map(|count| if count.get() == 1 { "message".into() } else { format!("{count} messages") });
    let time = every.time.map(times::show_span);
    messages.into_iter().chain(time).collect::<Vec<_>>().join(" or ")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_policy_reads_as_a_sentence() {
        let rotate_every = Every { time: Some(Duration::from_secs(5400)), ..Every::messages(1000) };
        let policy = KeyPolicy { rotate_every, rekey_every: Every::time(Duration::from_secs(86_400)) };
        assert_eq!(in_words(policy), "rotates every 1000 messages or 90m, rekeys every 1d");
        assert_eq!(in_words(KeyPolicy::default()), "");
        assert_eq!(
            in_words(KeyPolicy { rotate_every: Every::messages(1), ..policy }),
            "rotates every message, rekeys every 1d"
        );
    }
}
