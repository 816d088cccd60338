//! Work that computes for long or waits for the disk and comes in great numbers: as many threads as there are cores take one piece
//! after the other from a queue. Where a thread is woken for each piece, waking costs as much as the work.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use super::error::ClientError;
use super::shared::{counted_work, lock};

type Job = Box<dyn FnOnce() + Send>;

/// The queue. Whoever hands work in bounds it: there is as much as there are callers that wait.
pub(super) struct Workers {
    queue: Mutex<Queue>,
    most: usize,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// Threads that take from the queue.
    at_work: usize,
}

impl Workers {
    pub(super) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self { queue: Mutex::default(), most: cores }
    }

    /// Runs work once its turn has come. Dropping the future leaves out work that was not begun; begun, it counts as the client's own
    /// until it is done.
    ///
    /// # Errors
    /// [`ClientError::Stopped`]: the runtime ends.
    pub(super) async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ClientError> {
        let (done, outcome) = oneshot::channel();
        let job = counted_work(move || {
            if !done.is_closed() {
                // Who waited may be gone.
                let _ = done.send(catch_unwind(AssertUnwindSafe(work)));
            }
        });
        self.hand_in(Box::new(job));
        match outcome.await {
            Ok(Ok(outcome)) => Ok(outcome),
            // A bug here is not the caller's stopped client.
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => Err(ClientError::Stopped),
        }
    }

    fn hand_in(self: &Arc<Self>, job: Job) {
        let mut queue = lock(&self.queue);
        queue.jobs.push_back(job);
        if queue.at_work < self.most {
            queue.at_work += 1;
            drop(queue);
            let workers = self.clone();
            tokio::task::spawn_blocking(move || workers.work());
        }
    }

    fn work(&self) {
        while let Some(job) = self.next() {
            job();
        }
    }

    /// `None` ends the thread that asks.
    fn next(&self) -> Option<Job> {
        let mut queue = lock(&self.queue);
        let job = queue.jobs.pop_front();
        if job.is_none() {
            queue.at_work -= 1;
        }
        job
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn all_work_is_done_by_no_more_threads_than_there_are_cores() {
        let (workers, running, most) =
            (Arc::new(Workers::new()), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let work = |n: usize| {
            let (workers, running, most) = (workers.clone(), running.clone(), most.clone());
            tokio::spawn(async move {
                let done = workers.run(move || {
                    most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::yield_now();
                    running.fetch_sub(1, Ordering::SeqCst);
                    n
                });
                done.await.unwrap()
            })
        };
        let all: Vec<_> = (0..200).map(work).collect();
        for (n, done) in all.into_iter().enumerate() {
            assert_eq!(done.await.unwrap(), n);
        }
        assert!(most.load(Ordering::SeqCst) <= workers.most);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn work_that_nobody_waits_for_any_more_is_left_out_and_a_panic_is_its_callers() {
        let workers = Arc::new(Workers { queue: Mutex::default(), most: 1 });
        let (gate, began) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
        let (held, here) = (gate.clone(), began.clone());
        let first = workers.clone();
        let first = tokio::spawn(async move {
            let wait = move || {
                here.wait();
                held.wait();
            };
            first.run(wait).await
        });
        tokio::task::spawn_blocking(move || began.wait()).await.unwrap();
        let done = Arc::new(AtomicUsize::new(0));
        let count = done.clone();
        let mut dropped = Box::pin(workers.run(move || count.fetch_add(1, Ordering::SeqCst)));
        assert!(futures::poll!(&mut dropped).is_pending());
        drop(dropped);
        let falls = workers.clone();
        let falls = tokio::spawn(async move { falls.run(|| -> () { panic!("on purpose") }).await });
        tokio::task::spawn_blocking(move || gate.wait()).await.unwrap();
        first.await.unwrap().unwrap();
        assert!(falls.await.unwrap_err().is_panic());
        assert_eq!(workers.run(|| 7).await.unwrap(), 7, "the thread goes on");
        assert_eq!(done.load(Ordering::SeqCst), 0);
    }
}
