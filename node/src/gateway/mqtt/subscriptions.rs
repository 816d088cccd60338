//! What a client has subscribed to. While nobody takes a message their own bounded queues fill, and beyond that messages are lost.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::task::{Context, Poll};

use futures::StreamExt;
use futures::stream::{SelectAll, select_all};
use veilcast::client::{Delivery, Subscription};
use veilcast::{Message, StreamId};

use super::super::Gateway;
use super::super::error::ApiError;
use super::super::params::partition;
use super::no::{No, Reason};

/// Most that a client may have: each has queues of its own.
pub(super) const MOST: usize = 64;

/// All of a client.
#[derive(Default)]
pub(super) struct Subscriptions {
    all: Vec<One>,
    /// Whose turn it is.
    turn: usize,
}

struct One {
    topic: String,
    acknowledged: bool,
    feed: SelectAll<Subscription>,
}

/// A message for a client.
pub(super) struct Taken {
    /// As it was subscribed to.
    pub(super) topic: String,
    pub(super) acknowledged: bool,
    pub(super) message: Message,
}

impl Subscriptions {
    /// # Errors
    /// There are as many as there may be.
    pub(super) fn add(&mut self, topic: String, acknowledged: bool, feed: SelectAll<Subscription>) -> Result<bool, No> {
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
            while let Poll::Ready(delivery) = one.feed.poll_next_unpin(context) {
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

/// Live messages of a stream, or of some of its partitions: numbers, separated by commas.
pub(super) async fn begin(
    gateway: &Gateway,
    stream: &StreamId,
    partitions: Option<&str>,
) -> Result<SelectAll<Subscription>, ApiError> {
    let client = &gateway.client;
    let Some(partitions) = partitions else {
        return Ok(select_all([client.subscribe(stream).await?]));
    };
    let numbers: BTreeSet<u32> = partitions.split(',').map(partition).collect::<Result<_, _>>()?;
    let mut all = SelectAll::new();
    for number in numbers {
        all.push(client.subscribe_part(&stream.part(number)?).await?);
    }
    Ok(all)
}
