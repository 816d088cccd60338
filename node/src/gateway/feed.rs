//! Messages and events of a subscription as lines of JSON, until it ends, the key is revoked or the node stops.

use futures::{Stream, StreamExt, future};
use veilcast::client::{Delivery, Subscription};

use super::Gateway;
use super::caller::Caller;
use super::readers::Share;
use crate::commands::subscribe::{events, print};

/// One thing to tell.
pub(super) enum Line {
    /// A message, and where it stands.
    Message { json: String, id: String },
    /// Something beside messages.
    Event(String),
}

impl Line {
    fn of(delivery: &Delivery, with_events: bool) -> Option<Self> {
        match delivery {
            Delivery::Message(message) => {
                let at =
                    format!("{}-{}-{}", message.part.number(), message.at.timestamp.as_millis(), message.at.sequence);
                Some(Self::Message { json: print::in_json(message), id: at })
            }
            Delivery::Event(event) => with_events.then(|| Self::Event(events::in_json(event).to_string())),
        }
    }

    pub(super) fn into_json(self) -> String {
        match self {
            Self::Message { json, .. } | Self::Event(json) => json,
        }
    }
}

/// A subscription, and its share of what may wait for those who read.
pub(super) struct Live {
    pub(super) subscription: Subscription,
    pub(super) share: Share,
}

/// What a subscription brings. While nobody takes it the subscription's share fills, and beyond that messages are lost with a gap
/// that is told.
pub(super) fn lines(live: Live, with_events: bool) -> impl Stream<Item = Line> + Send + 'static {
    let Live { subscription, share } = live;
    subscription.filter_map(move |delivery| {
        let _held = &share;
        future::ready(Line::of(&delivery, with_events))
    })
}

/// The same until the key is revoked, the node stops or the connection gives way.
pub(super) fn lines_until(
    live: Live,
    with_events: bool,
    gateway: Gateway,
    caller: Caller,
) -> impl Stream<Item = Line> + Send + 'static {
    lines(live, with_events).take_until(Box::pin(async move {
        caller.ends(&gateway).await;
    }))
}
