//! Frames on their way through the gate: checked on worker threads, judged in the order they came.

use std::{collections::VecDeque, num::NonZeroUsize, sync::Arc, thread};

use futures::{StreamExt, stream::FuturesOrdered};
use libp2p::{PeerId, gossipsub::MessageId};
use tokio::task::JoinHandle;

use super::{Gate, NetworkLimits, Verdict};

/// One job checks so many frames at most, so that small frames do not each pay for a thread's waking...
const JOB_FRAMES: usize = 32;
/// ...and large ones still spread over the cores.
const JOB_BYTES: usize = 64 * 1024;

/// A received message that nobody has looked at.
pub(super) struct Unchecked {
    pub(super) topic: String,
    pub(super) from: PeerId,
    pub(super) id: MessageId,
    /// The attempt byte, then the frame.
    pub(super) message: Vec<u8>,
}

/// The same, with the gate's answer.
pub(super) struct Checked<A> {
    pub(super) topic: String,
    pub(super) from: PeerId,
    pub(super) id: MessageId,
    pub(super) outcome: Result<A, Verdict>,
}

/// The bounded pipeline in front of one gate.
pub(super) struct Checks<G: Gate> {
    gate: Arc<G>,
    jobs: usize,
    max_frames: usize,
    max_bytes: usize,
    waiting: VecDeque<Unchecked>,
    running: FuturesOrdered<JoinHandle<Vec<Checked<G::Accepted>>>>,
    /// Frames and bytes of each running job, in the same order: a job that panics cannot tell any more.
    sizes: VecDeque<(usize, usize)>,
    frames: usize,
    bytes: usize,
}

impl<G: Gate> Checks<G> {
    pub(super) fn new(gate: Arc<G>, limits: &NetworkLimits) -> Self {
        // One job more than there are cores: a slow job at the head must not leave the others idle.
        let jobs = thread::available_parallelism().map_or(1, NonZeroUsize::get) + 1;
        Self {
            gate,
            jobs,
            max_frames: limits.unchecked_frames,
            max_bytes: limits.unchecked_bytes,
            waiting: VecDeque::new(),
            running: FuturesOrdered::new(),
            sizes: VecDeque::new(),
            frames: 0,
            bytes: 0,
        }
    }

    /// Time to stop reading: what is still on its way fits, but not much more.
    pub(super) fn is_crowded(&self) -> bool {
        self.frames >= self.max_frames || self.bytes >= self.max_bytes
    }

    /// Whether another frame may come in: the room beyond "crowded" is for those already on their way.
    pub(super) fn has_room(&self) -> bool {
        self.frames < 2 * self.max_frames && self.bytes < 2 * self.max_bytes
    }

    pub(super) fn push(&mut self, unchecked: Unchecked) {
        self.frames += 1;
        self.bytes += unchecked.message.len();
        self.waiting.push_back(unchecked);
    }

    /// Gives waiting frames to free workers.
    pub(super) fn start(&mut self) {
        while self.running.len() < self.jobs && !self.waiting.is_empty() {
            let job = self.next_job();
            self.sizes.push_back((job.len(), job.iter().map(|unchecked| unchecked.message.len()).sum()));
            let gate = self.gate.clone();
            self.running.push_back(tokio::task::spawn_blocking(move || check(&*gate, job)));
        }
    }

    fn next_job(&mut self) -> Vec<Unchecked> {
        // An even share per worker, so that a short queue is not left to one of them.
        let share = self.waiting.len().div_ceil(self.jobs).min(JOB_FRAMES);
        let mut bytes = 0;
        let mut job = Vec::with_capacity(share);
        while job.len() < share && (job.is_empty() || bytes < JOB_BYTES) {
            let Some(unchecked) = self.waiting.pop_front() else {
                break;
            };
            bytes += unchecked.message.len();
            job.push(unchecked);
        }
        job
    }

    /// The oldest job's answers. Waits for ever while there is none; safe to drop.
    pub(super) async fn next(&mut self) -> Vec<Checked<G::Accepted>> {
        let Some(done) = self.running.next().await else {
            return std::future::pending().await;
        };
        let (frames, bytes) = self.sizes.pop_front().unwrap_or_default();
        self.frames -= frames;
        self.bytes -= bytes;
        self.start();
        done.unwrap_or_else(|error| {
            // A gate that panics, or a runtime that shuts down: its frames stay unrelayed and age out.
            tracing::error!(%error, "a frame check did not finish");
            Vec::new()
        })
    }
}

fn check<G: Gate>(gate: &G, job: Vec<Unchecked>) -> Vec<Checked<G::Accepted>> {
    job.into_iter()
        .map(|Unchecked { topic, from, id, message }| {
            let outcome = match message.split_first() {
                Some((_attempt, frame)) => gate.admit_frame(&topic, frame),
                None => Err(Verdict::Reject),
            };
            Checked { topic, from, id, outcome }
        })
        .collect()
}
