//! What storage nodes were asked, and how it stands: sent, put off because the node asks for patience, being checked, or done.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{ReplayEffect, ReplayLimits, Step};
use crate::identity::UserId;
use crate::storage::{Filter, Place};
use crate::stream::StreamPart;
use crate::subscriber::StorageFault;
use crate::subscriber::history::check;
use crate::time::Timestamp;
use crate::wire::{MessageContent, RequestId, ResendPage, ResendRequest, Span, Verified};

/// The name of a call, through all its tries.
pub(super) type CallId = u64;

/// What is asked for: span, behind which place, and whose.
pub(super) type Wanted = (Span, Option<Place>, Filter);

/// A page whose messages were all checked.
#[derive(Debug)]
pub(super) struct Offer {
    pub(super) messages: Vec<Verified<MessageContent>>,
    pub(super) next: Option<Place>,
    /// When it was asked for, by the wall clock.
    pub(super) asked: Timestamp,
}

#[derive(Debug)]
struct Call {
    node: usize,
    request: ResendRequest,
    attempt: u32,
    state: State,
}

#[derive(Debug)]
enum State {
    Sent { until: Timestamp },
    PutOff { until: Timestamp },
    Checking(ResendPage),
    Done(Result<Offer, StorageFault>),
}

/// Every call that somebody waits for.
#[derive(Debug)]
pub(super) struct Calls {
    requester: UserId,
    limits: ReplayLimits,
    next: CallId,
    open: BTreeMap<CallId, Call>,
}

impl Calls {
    pub(super) fn new(requester: UserId, limits: ReplayLimits) -> Self {
        Self { requester, limits, next: 0, open: BTreeMap::new() }
    }

    pub(super) fn ask(
        &mut self,
        step: &mut Step<'_>,
        (node, name): (usize, UserId),
        part: &StreamPart,
        (span, after, filter): Wanted,
    ) -> CallId {
        let request = ResendRequest {
            id: RequestId([0; 16]),
            part: part.clone(),
            node: name,
            requester: self.requester,
            sent: step.now.clock,
            span,
            after,
            filter,
            proofs: Vec::new(),
        };
        let mut call = Call { node, request, attempt: 0, state: State::PutOff { until: step.now.steady } };
        call.send(step, &self.limits);
        self.next += 1;
        self.open.insert(self.next, call);
        self.next
    }

    /// The answer to a request. Its messages are yet to be checked.
    pub(super) fn page(&mut self, step: &mut Step<'_>, id: RequestId, answer: Result<ResendPage, StorageFault>) {
        let sent = |call: &&mut Call| call.request.id == id && matches!(call.state, State::Sent { .. });
        let Some(call) = self.open.values_mut().find(sent) else { return };
        call.state = match answer {
            Err(fault) => State::Done(Err(fault)),
            Ok(page) => call.answered(step, page, &self.limits),
        };
    }

    /// Its messages were checked; `None` where not each was signed by its author.
    pub(super) fn checked(&mut self, id: RequestId, messages: Option<Vec<Verified<MessageContent>>>) {
        let checking = |call: &&mut Call| call.request.id == id && matches!(call.state, State::Checking(_));
        let Some(call) = self.open.values_mut().find(checking) else { return };
        if let State::Checking(page) = &call.state {
            let asked = call.request.sent;
            call.state = State::Done(match messages {
                None => Err(StorageFault::Lied("a message that its author did not sign")),
                Some(messages) => {
                    let sound = check(&call.request, page, &messages);
                    sound.map(|()| Offer { messages, next: page.next, asked })
                }
            });
        }
    }

    /// Where the page that came says that there is more; before it is known whether that is true.
    pub(super) fn leads_on(&self, id: CallId) -> Option<Place> {
        match &self.open.get(&id)?.state {
            State::Checking(page) => page.next,
            State::Done(Ok(offer)) => offer.next,
            _ => None,
        }
    }

    pub(super) fn is_done(&self, id: CallId) -> bool {
        self.open.get(&id).is_none_or(|call| matches!(call.state, State::Done(_)))
    }

    /// The outcome of a call that is done.
    pub(super) fn take(&mut self, id: CallId) -> Result<Offer, StorageFault> {
        match self.open.remove(&id).map(|call| call.state) {
            Some(State::Done(outcome)) => outcome,
            _ => Err(StorageFault::Unreachable),
        }
    }

    /// Nobody waits for it any more.
    pub(super) fn forget(&mut self, id: CallId) {
        self.open.remove(&id);
    }

    pub(super) fn tick(&mut self, step: &mut Step<'_>) {
        for call in self.open.values_mut() {
            match call.state {
                State::Sent { until } if until <= step.now.steady => {
                    call.state = State::Done(Err(StorageFault::Unreachable));
                }
                State::PutOff { until } if until <= step.now.steady => call.send(step, &self.limits),
                _ => {}
            }
        }
    }

    pub(super) fn next_wake(&self) -> Option<Timestamp> {
        let due = |call: &Call| match call.state {
            State::Sent { until } | State::PutOff { until } => Some(until),
            _ => None,
        };
        self.open.values().filter_map(due).min()
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }
}

impl Call {
    fn send(&mut self, step: &mut Step<'_>, limits: &ReplayLimits) {
        self.attempt += 1;
        step.rng.fill_bytes(&mut self.request.id.0);
        self.request.sent = step.now.clock;
        self.state = State::Sent { until: step.now.steady.plus(limits.answer_timeout) };
        step.effects.push(ReplayEffect::Ask { node: self.node, request: self.request.clone() });
    }

    fn answered(&self, step: &mut Step<'_>, mut page: ResendPage, limits: &ReplayLimits) -> State {
        let messages: Vec<Bytes> = std::mem::take(&mut page.messages);
        // What needs no look at the messages comes before a thousand signatures.
        if let Err(fault) = check(&self.request, &page, &[]) {
            return State::Done(Err(fault));
        }
        let Some(refusal) = page.refusal else {
            step.effects.push(ReplayEffect::Check { id: self.request.id, messages });
            return State::Checking(page);
        };
        match refusal.retry_after().filter(|_| self.attempt < limits.tries) {
            Some(wait) => State::PutOff { until: step.now.steady.plus(wait.min(limits.longest_wait)) },
            None => State::Done(Err(StorageFault::Refused(refusal))),
        }
    }
}
