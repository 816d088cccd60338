//! Whose messages a subscription takes in: those of authors who may publish.

use std::time::Duration;

use futures::FutureExt;

use super::super::checks::Checked;
use super::super::metrics::Lost;
use super::super::subscribing::Delivery;
use super::{MAX_READY, Reading};
use crate::identity::UserId;
use crate::permission::{Permission, Refusal};
use crate::subscriber::{Event, IntakeEffect};
use crate::wire::{MessageContent, Verified};

/// How long a publisher without permission is not reported again.
const REPORT_AGAIN: Duration = Duration::from_secs(10);
/// Publishers without permission remembered for that.
const REPORTED: usize = 1024;

impl Reading {
    /// Signature checked already; now the permission to publish, then order and key.
    pub(super) fn messages(&mut self, messages: Vec<Verified<MessageContent>>) {
        messages.into_iter().for_each(|message| self.message(message));
    }

    pub(super) fn message(&mut self, message: Verified<MessageContent>) {
        let publisher = message.content().publisher;
        let waits = self.unchecked.waits_for(publisher);
        match self.shared.checked(&self.stream, publisher, Permission::Publish).filter(|_| !waits) {
            Some(Ok(_)) => self.take_in(message),
            Some(Err(refusal)) => self.report_intruder(publisher, refusal, 1),
            None => self.hold(message),
        }
    }

    /// The end: no answer is waited for any more.
    pub(super) fn last_message(&mut self, message: Verified<MessageContent>) {
        let publisher = message.content().publisher;
        let check = || self.shared.check(&self.stream, publisher, Permission::Publish).now_or_never();
        if !self.unchecked.waits_for(publisher) && matches!(check(), Some(Ok(_))) {
            self.take_in(message);
        }
    }

    /// It is not known yet whether its author may publish. A source that need not wait for its answer lets it through here.
    pub(super) fn hold(&mut self, message: Verified<MessageContent>) {
        let stranger = self.checks.is_stranger(message.content().publisher);
        if let Some(publisher) = self.unchecked.push(self.shared.now(), message, stranger) {
            self.shared.meters.lost(Lost::TooManyParked, 1);
            self.carry_out(vec![IntakeEffect::Notify(Event::ParkedDropped { publisher, dropped: 1 })]);
        }
        self.check_due();
    }

    pub(super) fn check_due(&mut self) {
        while self.checks.has_room() {
            let strangers = self.checks.has_room_for_strangers();
            let Some(author) = self.unchecked.begin_next(self.shared.now(), strangers) else { return };
            if let Some(checked) = self.checks.begin(author) {
                self.checked(checked);
            }
        }
    }

    pub(super) fn checked(&mut self, (publisher, answer): Checked) {
        let refusal = match answer {
            Ok(_) => return self.unchecked.take(publisher).into_iter().for_each(|message| self.take_in(message)),
            Err(refusal) => refusal,
        };
        let dropped = match refusal.retry_after() {
            Some(after) => self.unchecked.put_off(self.shared.now(), publisher, after),
            None => self.unchecked.take(publisher).len(),
        };
        if dropped > 0 {
            self.report_intruder(publisher, refusal, dropped);
        }
    }

    pub(super) fn report_intruder(&mut self, publisher: UserId, refusal: Refusal, messages: usize) {
        self.shared.meters.lost(Lost::NotAPublisher, messages);
        let now = self.shared.now();
        self.reported.retain(|_, until| now < *until);
        if self.reported.len() < REPORTED && !self.reported.contains_key(&publisher) && self.ready.len() < MAX_READY {
            self.reported.insert(publisher, now.plus(REPORT_AGAIN));
            self.ready.push_back(Delivery::Event(Event::NotAPublisher { publisher, refusal }));
        }
    }
}
