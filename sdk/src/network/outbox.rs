//! Frames on their way to gossipsub: kept in order per topic, joined while they wait.
//!
//! Nothing is delayed to be joined. A batch grows only because the task was busy, or because every peer's send queue was
//! full; in that case it stays at the head of its topic and is tried again.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use tokio::sync::OwnedSemaphorePermit;

use super::Outgoing;

/// A batch that no peer takes for so long is given up: whoever is left is not draining.
const GIVE_UP_AFTER: Duration = Duration::from_secs(30);

/// What became of an attempt to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// Taken, or nobody there to take it.
    Done,
    /// Every queue was full: try again later.
    Full,
}

/// Batches per topic, in the order their frames came.
pub(super) struct Outbox {
    limit: usize,
    frames_per_batch: usize,
    topics: HashMap<String, VecDeque<Batch>>,
    frames_taken: u64,
}

struct Batch {
    /// The attempt byte, then the frames.
    message: Vec<u8>,
    frames: usize,
    /// The first frame's place among all that were ever taken.
    first: u64,
    refused_since: Option<Instant>,
    /// Gives the publishers their room back when the batch is gone.
    room: OwnedSemaphorePermit,
}

impl Outbox {
    /// Joins up to `limit` bytes and `frames_per_batch` frames.
    pub(super) fn new(limit: usize, frames_per_batch: usize) -> Self {
        Self { limit, frames_per_batch, topics: HashMap::new(), frames_taken: 0 }
    }

    pub(super) fn push(&mut self, Outgoing { topic, frame, room }: Outgoing) {
        let first = self.frames_taken;
        self.frames_taken += 1;
        let batches = self.topics.entry(topic).or_default();
        if let Some(last) = batches.back_mut()
            && last.refused_since.is_none()
            && last.frames < self.frames_per_batch
            && last.message.len() + frame.len() <= self.limit
        {
            last.message.extend_from_slice(&frame);
            last.frames += 1;
            last.room.merge(room);
            return;
        }
        let mut message = Vec::with_capacity(1 + frame.len());
        message.push(0);
        message.extend_from_slice(&frame);
        batches.push_back(Batch { message, frames: 1, first, refused_since: None, room });
    }

    /// Sends what can be sent. Returns true when something is left to be tried again.
    pub(super) fn hand_over(&mut self, now: Instant, mut send: impl FnMut(&str, Vec<u8>) -> Sent) -> bool {
        self.topics.retain(|topic, batches| {
            while let Some(batch) = batches.front_mut() {
                match send(topic, batch.message.clone()) {
                    Sent::Done => {}
                    Sent::Full if now - *batch.refused_since.get_or_insert(now) < GIVE_UP_AFTER => {
                        batch.message[0] = batch.message[0].wrapping_add(1);
                        return true;
                    }
                    Sent::Full => {
                        tracing::warn!(topic, "no peer drains its queue, a batch is given up")
                    }
                }
                batches.pop_front();
            }
            false
        });
        !self.topics.is_empty()
    }

    /// How many frames were taken so far: a mark for [`Self::has_sent`].
    pub(super) fn mark(&self) -> u64 {
        self.frames_taken
    }

    /// Whether every frame before the mark was sent.
    pub(super) fn has_sent(&self, mark: u64) -> bool {
        self.topics.values().filter_map(|batches| batches.front()).all(|batch| batch.first >= mark)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use tokio::sync::Semaphore;

    use super::*;

    fn frames<const N: usize>(frames: [(&str, &'static [u8]); N]) -> [Outgoing; N] {
        let room = Arc::new(Semaphore::new(N));
        frames.map(|(topic, frame)| Outgoing {
            topic: topic.into(),
            frame: Bytes::from_static(frame),
            room: room.clone().try_acquire_owned().expect("there is one for each"),
        })
    }

    #[test]
    fn frames_of_a_topic_are_joined_in_order_up_to_the_limit() {
        let mut outbox = Outbox::new(5, 9);
        for frame in frames([("t", b"ab"), ("t", b"cd"), ("t", b"efghijk"), ("t", b"l")]) {
            outbox.push(frame);
        }
        let mut sent = Vec::new();
        assert!(!outbox.hand_over(Instant::now(), |_, message| {
            sent.push(message);
            Sent::Done
        }));
        assert_eq!(sent, [&b"\0abcd"[..], b"\0efghijk", b"\0l"]);
    }

    #[test]
    fn no_batch_has_more_frames_than_receivers_take_however_small_they_are() {
        let mut outbox = Outbox::new(100, 2);
        for frame in frames([("t", b"a"), ("t", b"b"), ("t", b"c")]) {
            outbox.push(frame);
        }
        let mut sent = Vec::new();
        outbox.hand_over(Instant::now(), |_, message| {
            sent.push(message);
            Sent::Done
        });
        assert_eq!(sent, [&b"\0ab"[..], b"\0c"]);
    }

    #[test]
    fn a_refused_batch_is_sent_again_as_a_new_message_and_before_later_frames() {
        let mut outbox = Outbox::new(100, 9);
        let [first, second] = frames([("t", b"a"), ("t", b"b")]);
        outbox.push(first);
        let mark = outbox.mark();
        assert!(outbox.hand_over(Instant::now(), |_, _| Sent::Full));
        outbox.push(second);
        assert!(!outbox.has_sent(mark));

        let mut sent = Vec::new();
        assert!(!outbox.hand_over(Instant::now(), |_, message| {
            sent.push(message);
            Sent::Done
        }));
        assert_eq!(sent, [b"\x01a", b"\0b"]);
        assert!(outbox.has_sent(mark) && outbox.is_empty());
    }

    #[test]
    fn a_full_topic_does_not_hold_up_another() {
        let mut outbox = Outbox::new(100, 9);
        for frame in frames([("full", b"a"), ("free", b"b")]) {
            outbox.push(frame);
        }
        let left = outbox.hand_over(Instant::now(), |topic, _| if topic == "full" { Sent::Full } else { Sent::Done });
        assert!(left && !outbox.has_sent(1));
    }

    #[test]
    fn a_batch_nobody_takes_is_given_up_in_the_end() {
        let mut outbox = Outbox::new(100, 9);
        for frame in frames([("t", b"a")]) {
            outbox.push(frame);
        }
        let start = Instant::now();
        assert!(outbox.hand_over(start, |_, _| Sent::Full));
        assert!(!outbox.hand_over(start + GIVE_UP_AFTER, |_, _| Sent::Full));
    }
}
