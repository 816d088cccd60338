//! Every frame the relay passed on, and the search for plaintext in them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use veilcast::wire::Frame;

/// Frames the relay may be ahead of the tape; beyond, copies would be lost and the count of messages would show it.
const AHEAD: usize = 16_384;
/// Shorter payloads stand in any random bytes by chance, so finding one proves nothing.
const WINDOW: usize = 8;

/// What the relay could see.
#[derive(Clone, Default)]
pub(super) struct Tape(Arc<Mutex<Vec<Vec<u8>>>>);

/// What the search found.
pub(super) struct Search {
    pub(super) frames: usize,
    pub(super) bytes: usize,
    pub(super) messages: usize,
    pub(super) searched: usize,
    pub(super) too_short: usize,
    pub(super) found: usize,
}

impl Tape {
    /// Records everything that goes into the relay's tap.
    pub(super) fn record<B>(&self) -> mpsc::Sender<(String, B)>
    where
        B: AsRef<[u8]> + Send + 'static,
    {
        let (tap, mut frames) = mpsc::channel::<(String, B)>(AHEAD);
        let tape = self.clone();
        tokio::spawn(async move {
            while let Some((_, frame)) = frames.recv().await {
                tape.frames().push(frame.as_ref().to_vec());
            }
        });
        tap
    }

    /// How many messages passed so far.
    pub(super) fn messages(&self) -> usize {
        self.frames().iter().map(|frame| messages_in(frame)).sum()
    }

    /// The frame that carried the message of this envelope, if it passed.
    pub(super) fn frame_with(&self, envelope: &[u8]) -> Option<Vec<u8>> {
        self.frames().iter().find(|frame| frame.windows(envelope.len()).any(|at| at == envelope)).cloned()
    }

    /// Looks for every payload in every frame.
    pub(super) fn search(&self, payloads: &[Vec<u8>]) -> Search {
        let mut by_start: HashMap<&[u8], Vec<&[u8]>> = HashMap::new();
        for payload in payloads.iter().filter(|payload| payload.len() >= WINDOW) {
            by_start.entry(&payload[..WINDOW]).or_default().push(payload);
        }
        let searched = by_start.values().map(Vec::len).sum();
        let frames = self.frames();
        Search {
            frames: frames.len(),
            bytes: frames.iter().map(Vec::len).sum(),
            messages: frames.iter().map(|frame| messages_in(frame)).sum(),
            searched,
            too_short: payloads.len() - searched,
            found: frames.iter().map(|frame| hits(frame, &by_start)).sum(),
        }
    }

    fn frames(&self) -> std::sync::MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn messages_in(frame: &[u8]) -> usize {
    Frame::decode(&frame.to_vec().into()).map_or(0, |parts| parts.messages.len())
}

fn hits(frame: &[u8], by_start: &HashMap<&[u8], Vec<&[u8]>>) -> usize {
    let starts = frame.windows(WINDOW).enumerate();
    let candidates = starts.filter_map(|(at, start)| by_start.get(start).map(|payloads| (at, payloads)));
    candidates.map(|(at, payloads)| payloads.iter().filter(|payload| frame[at..].starts_with(payload)).count()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_in_a_frame_is_found_wherever_it_stands() {
        let tape = Tape::default();
        tape.frames().push(b"....the quick fox...".to_vec());
        let payloads = ["the quick fox", "the quick cat", "short"].map(|text| text.as_bytes().to_vec());
        let search = tape.search(&payloads);
        assert_eq!((search.searched, search.too_short, search.found), (2, 1, 1));
        assert_eq!((search.frames, search.bytes), (1, 20));
    }
}
