//! When frames are taken from their publishers: at once, unless there are many, which are worth a moment's wait.
//!
//! A small frame that leaves alone costs a waking of the swarm's task, a gossip message, a digest and a write at every hop; one
//! that leaves with others shares them. Frames that come slowly never wait: a topic that is quiet has no delay at all. While they
//! come fast, they are taken in beats of a millisecond or two, in which dozens meet in the outbox.

use std::time::{Duration, Instant};

/// Frames are counted for so long.
const WINDOW: Duration = Duration::from_millis(4);
/// So many in a window are fast: 4,000 a second.
const FAST: usize = 16;
/// The rest after frames were taken, while they come fast.
const REST: Duration = Duration::from_millis(1);
/// A frame is small if so many fit into a batch. Others gain nothing by waiting.
const SMALL: usize = 8;

/// Whether frames may be taken now.
pub(super) struct Pulse {
    /// Bytes of the largest frame that counts.
    small: usize,
    since: Instant,
    taken: usize,
    is_fast: bool,
    rest: Option<Instant>,
}

impl Pulse {
    /// Where frames are joined up to `batch` bytes.
    pub(super) fn new(batch: usize, now: Instant) -> Self {
        Self { small: batch / SMALL, since: now, taken: 0, is_fast: false, rest: None }
    }

    /// Notes the sizes of frames that were taken together.
    pub(super) fn took(&mut self, now: Instant, sizes: impl Iterator<Item = usize>) {
        let passed = now.saturating_duration_since(self.since);
        if passed >= WINDOW {
            // One window that was long over says nothing about now.
            self.is_fast = self.taken >= FAST && passed < 2 * WINDOW;
            (self.since, self.taken) = (now, 0);
        }
        let small = sizes.filter(|size| *size <= self.small).count();
        self.taken += small;
        self.rest = (self.is_fast && small > 0).then(|| now + REST);
    }

    /// When frames may be taken again; none: now.
    pub(super) fn rest(&mut self, now: Instant) -> Option<Instant> {
        self.rest = self.rest.filter(|until| *until > now);
        self.rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: usize = 400;

    /// So many frames a second for so long, each taken with those that wait for it; when one had to wait, and how many were
    /// taken at once.
    fn taken(pulse: &mut Pulse, start: Instant, per_second: u32, lasts: Duration) -> (Vec<Duration>, Vec<usize>) {
        let (mut held, mut beats, mut waiting) = (Vec::new(), Vec::new(), 0);
        for frame in 0..per_second * u32::try_from(lasts.as_millis()).unwrap() / 1000 {
            let after = Duration::from_secs(1) * frame / per_second;
            waiting += 1;
            match pulse.rest(start + after) {
                Some(_) => held.push(after),
                None => {
                    pulse.took(start + after, std::iter::repeat_n(SIZE, waiting));
                    beats.push(std::mem::take(&mut waiting));
                }
            }
        }
        (held, beats)
    }

    #[test]
    fn frames_that_come_slowly_never_wait() {
        let start = Instant::now();
        let mut pulse = Pulse::new(65_536, start);
        let (held, _) = taken(&mut pulse, start, 3000, Duration::from_secs(1));
        assert_eq!(held, Vec::<Duration>::new());
    }

    #[test]
    fn frames_that_come_fast_are_taken_in_beats_from_the_second_window_on() {
        let start = Instant::now();
        let mut pulse = Pulse::new(65_536, start);
        let (held, beats) = taken(&mut pulse, start, 20_000, 10 * WINDOW);
        assert!(held.first().is_some_and(|first| (WINDOW..2 * WINDOW).contains(first)), "{held:?}");
        assert_eq!(beats.last(), Some(&20), "{beats:?}");
    }

    #[test]
    fn the_first_frame_after_a_pause_leaves_at_once() {
        let start = Instant::now();
        let mut pulse = Pulse::new(65_536, start);
        taken(&mut pulse, start, 20_000, 4 * WINDOW);
        let later = start + 40 * WINDOW;
        assert_eq!(pulse.rest(later), None);
        pulse.took(later, [SIZE].into_iter());
        assert_eq!(pulse.rest(later), None);
    }

    #[test]
    fn large_frames_do_not_wait_for_each_other() {
        let start = Instant::now();
        let mut pulse = Pulse::new(65_536, start);
        for step in 0..1000 {
            let now = start + Duration::from_micros(100) * step;
            assert_eq!(pulse.rest(now), None);
            pulse.took(now, [60_000].into_iter());
        }
    }
}
