//! What comes live while history is read: held back, bounded.

use std::collections::VecDeque;

use super::ReplayLimits;
use crate::stream::StreamPart;
use crate::subscriber::history::Hole;
use crate::subscriber::order::size_of;
use crate::wire::{MessageContent, Verified};

/// Live messages that wait for the end of the history.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) messages: VecDeque<Verified<MessageContent>>,
    bytes: usize,
    pub(super) overflowed: bool,
}

impl Held {
    pub(super) fn hold(&mut self, messages: Vec<Verified<MessageContent>>, limits: &ReplayLimits) {
        self.bytes += messages.iter().map(size_of).sum::<usize>();
        self.messages.extend(messages);
        while self.messages.len() > limits.held_back || self.bytes > limits.held_back_bytes {
            let Some(gone) = self.messages.pop_front() else { break };
            self.bytes -= size_of(&gone);
            self.overflowed = true;
        }
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&MessageContent) -> bool) {
        self.messages.retain(|message| keep(message.content()));
        self.bytes = self.messages.iter().map(size_of).sum();
    }

    pub(super) fn of_hole<'a>(
        &'a self,
        part: &'a StreamPart,
        hole: &'a Hole,
    ) -> impl Iterator<Item = Verified<MessageContent>> + 'a {
        let of_hole = move |message: &&Verified<MessageContent>| {
            let content = message.content();
            &content.part == part
                && (content.publisher, content.chain) == hole.chain
                && content.at <= hole.until
                && hole.after.is_none_or(|after| content.at > after)
        };
        self.messages.iter().filter(of_hole).cloned()
    }
}
