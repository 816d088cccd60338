//! What is kept of a stream in the data folder, whoever decides about permissions: when its key changes, and how far back keys
//! are handed out.

use serde_json::Value;
use veilcast::StreamId;
use veilcast::exchange::HistoryPolicy;
use veilcast::publisher::KeyPolicy;

use crate::args::RhythmArgs;
use crate::commands::{history, rhythm};
use crate::failure::Failure;
use crate::session::Session;

/// What changed.
pub(super) struct Kept {
    stream: StreamId,
    policy: Option<KeyPolicy>,
    history: Option<HistoryPolicy>,
}

/// Keeps what was given.
pub(super) fn keep(
    session: &Session,
    stream: &StreamId,
    rhythm: &RhythmArgs,
    history: Option<HistoryPolicy>,
) -> Result<Kept, Failure> {
    let mut policy = None;
    if rhythm.is_given() {
        let changed = rhythm.over(KeyPolicy::load(&*session.store, stream)?);
        session.set_key_policy(stream, changed)?;
        policy = Some(changed);
    }
    if let Some(history) = history {
        session.histories().set(stream, history)?;
    }
    Ok(Kept { stream: stream.clone(), policy, history })
}

impl Kept {
    /// In JSON, and a sentence for each.
    pub(super) fn told(&self, json: &mut Value) -> Vec<String> {
        let mut said = Vec::new();
        if let Some(policy) = self.policy {
            json["key_policy"] = rhythm::in_json(policy);
            said.push(match policy.is_never() {
                true => format!("the key of {} changes by hand, and when a grant ends", self.stream),
                false => format!("the key of {} {}", self.stream, rhythm::in_words(policy)),
            });
        }
        if let Some(policy) = self.history {
            json["history"] = history::word(policy).into();
            let what = history::in_words(policy);
            said.push(format!("of {} are handed out, from the next request on: {what}", self.stream));
        }
        said
    }
}

/// Who may read it from now on.
pub(super) fn who_may_read(stream: &StreamId, public: bool) -> String {
    let who = if public { "everybody" } else { "only who has a grant" };
    format!("{who} may read {stream} from the next message on")
}
