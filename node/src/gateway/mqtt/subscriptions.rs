//! What a client has subscribed to. While nobody takes a message their own bounded queues fill, and beyond that messages are lost.

use std::future::poll_fn;
use std::task::{Context, Poll};

use futures::StreamExt;
use veilcast::Message;
use veilcast::client::Delivery;

use super::super::feed::Live;
use super::super::readers::Readers;
use super::no::{No, Reason};

/// Most that a client may have: each has queues of its own.
pub(super) const MOST: usize = 64;

/// All of a client.
#[derive(Default)]
pub(super) struct Subscriptions {
    /// What may wait for the client, whatever it reads; nothing is set aside for one that never reads.
    readers: Option<Readers>,
    all: Vec<One>,
    /// Whose turn it is.
    turn: usize,
}

struct One {
    topic: String,
    acknowledged: bool,
    feed: Live,
}

/// A message for a client.
pub(super) struct Taken {
    /// As it was subscribed to.
    pub(super) topic: String,
    pub(super) acknowledged: bool,
    pub(super) message: Message,
}

impl Subscriptions {
    /// What may wait for one more of these.
    pub(super) fn readers(&mut self, all: &Readers) -> Readers {
        self.readers.get_or_insert_with(|| all.of_one()).clone()
    }

    /// # Errors
    /// There are as many as there may be.
    pub(super) fn add(&mut self, topic: String, acknowledged: bool, feed: Live) -> Result<bool, No> {
        self.remove(&topic);
        if self.all.len() >= MOST {
            return Err(No::new(Reason::Quota, format!("a client has at most {MOST} subscriptions")));
        }
        self.all.push(One { topic, acknowledged, feed });
        Ok(acknowledged)
    }

    /// Whether there was one.
    pub(super) fn remove(&mut self, topic: &str) -> bool {
        let before = self.all.len();
        self.all.retain(|one| one.topic != topic);
        self.all.len() < before
    }

    /// Whether there is one, whose place another of that topic takes.
    pub(super) fn has(&self, topic: &str) -> bool {
        self.all.iter().any(|one| one.topic == topic)
    }

    /// How many more there may be.
    pub(super) fn room(&self) -> usize {
        MOST - self.all.len()
    }

    /// The next message, of each in turn; of those that are acknowledged where there is `credit` only. `None` once the node stops.
    /// Dropping the future loses nothing.
    pub(super) async fn next(&mut self, credit: bool) -> Option<Taken> {
        poll_fn(|context| self.poll(context, credit)).await
    }

    fn poll(&mut self, context: &mut Context<'_>, credit: bool) -> Poll<Option<Taken>> {
        let many = self.all.len();
        for step in 0..many {
            let at = (self.turn + step) % many;
            let one = &mut self.all[at];
            if one.acknowledged && !credit {
                continue;
            }
            while let Poll::Ready(delivery) = one.feed.subscription.poll_next_unpin(context) {
                match delivery {
                    None => return Poll::Ready(None),
                    Some(Delivery::Event(event)) => tracing::debug!(?event, "beside the messages"),
                    Some(Delivery::Message(message)) => {
                        self.turn = at + 1;
                        let (topic, acknowledged) = (one.topic.clone(), one.acknowledged);
                        return Poll::Ready(Some(Taken { topic, acknowledged, message }));
                    }
                }
            }
        }
        Poll::Pending
    }
}
