//! What came for a subscription and waits, in its order, until there is room to take it in.

use std::collections::VecDeque;

use super::subscribing::Feed;
use crate::subscriber::{Event, size_of};
use crate::wire::{MessageContent, Verified};

/// One of it.
pub(super) enum Item {
    Message(Verified<MessageContent>),
    Tell(Event),
    End,
}

/// A frame of the network, or a page of history, taken apart.
#[derive(Default)]
pub(super) struct Incoming {
    items: VecDeque<Item>,
    /// Of the messages among them.
    bytes: usize,
}

impl Incoming {
    pub(super) fn push(&mut self, fed: Feed) {
        match fed {
            Feed::Messages(messages) => {
                self.bytes += messages.iter().map(size_of).sum::<usize>();
                self.items.extend(messages.into_iter().map(Item::Message));
            }
            Feed::Tell(event) => self.items.push_back(Item::Tell(event)),
            Feed::End => self.items.push_back(Item::End),
        }
    }

    pub(super) fn pop(&mut self) -> Option<Item> {
        let item = self.items.pop_front();
        if let Some(Item::Message(message)) = &item {
            self.bytes -= size_of(message);
        }
        item
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}
