//! Keys of a subscription: looked for in the store, asked for together, heard of, and kept where a message carried them.

use std::time::Duration;

use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;
use veilcast_key_store::{GroupKey, KeyId, KeyOrigin};

use super::super::asking::Ask;
use super::super::shared::blocking;
use super::super::subscribing::KeyNews;
use super::Reading;
use crate::exchange::{AskFailure, Bucket, Rate};
use crate::identity::UserId;
use crate::key_ring::Looked;
use crate::subscriber::{Arrival, Event, IntakeEffect};
use crate::time::Timestamp;

/// How long a key that is not among those agreed on is not reported again.
const NOT_AGREED_AGAIN: Duration = Duration::from_secs(60);
/// Carried keys stored of one publisher.
const KEPT: Rate = Rate { per_second: 100, burst: 1000 };
/// How long a publisher that asks to be asked later may hold up the past of others.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause before a key that could not be asked for, because too much was being asked, is asked for again.
const ASK_AGAIN: Duration = Duration::from_millis(50);

impl Reading {
    pub(super) fn news(&mut self, news: KeyNews) {
        let now = self.shared.now();
        let effects = match news {
            // Asked for, or sent, before it was agreed that only agreed keys count here.
            KeyNews::Arrived { by: Arrival::Answer | Arrival::Push | Arrival::Rotate, .. } if self.is_agreed_only() => {
                return;
            }
            KeyNews::RingChanged => {
                let only = self.is_agreed_only();
                self.intake.look_again(now, only)
            }
            KeyNews::Arrived { publisher, key, by } => self.intake.key_arrived(now, publisher, key, by),
            KeyNews::Refused { publisher, key_id, refusal, until } => {
                self.intake.key_refused(now, publisher, &key_id, refusal, until)
            }
            KeyNews::Unavailable { publisher, key_id, failure } => {
                self.intake.key_unavailable(now, publisher, &key_id, failure)
            }
            KeyNews::Retrying { publisher, failure, after } => {
                let mut effects = vec![IntakeEffect::Notify(Event::KeyRetry { publisher, failure, after })];
                let is_there = failure.is_ours() || (failure == AskFailure::AskedToWait && after <= PATIENCE);
                if !is_there {
                    effects.extend(self.intake.publisher_away(now, publisher));
                }
                effects
            }
        };
        self.carry_out(effects);
    }

    pub(super) fn is_agreed_only(&self) -> bool {
        self.shared.agreed_only(&self.stream)
    }

    /// The store first; a key that is there causes no request.
    pub(super) fn need(&mut self, publisher: UserId, key_id: KeyId) -> Vec<IntakeEffect> {
        let now = self.shared.now();
        match self.shared.look_for_key(publisher, &self.stream, &key_id) {
            Looked::Found(key) => self.intake.key_arrived(now, publisher, key, Arrival::Store),
            Looked::NotAgreed => self.intake.key_not_agreed(now, publisher, &key_id, now.plus(NOT_AGREED_AGAIN)),
            Looked::Absent => {
                self.unasked.entry(publisher).or_default().push(key_id.clone());
                vec![IntakeEffect::Notify(Event::KeyPending { publisher, key_id })]
            }
        }
    }

    /// Never waits: the task that asks must always be able to tell this one its news.
    pub(super) fn ask(&mut self) {
        while self.ask_again <= Instant::now()
            && let Some((publisher, key_ids)) = self.unasked.pop_first()
        {
            let want = Ask::Want { publisher, stream: self.stream.clone(), key_ids };
            if let Err(TrySendError::Full(Ask::Want { key_ids, .. })) = self.shared.asking.try_send(want) {
                self.unasked.insert(publisher, key_ids);
                self.ask_again = Instant::now() + ASK_AGAIN;
            }
        }
    }

    pub(super) fn keep(&mut self, publisher: UserId, key: GroupKey, since: Timestamp) {
        let told = Ask::Arrived { publisher, stream: self.stream.clone(), key_id: key.id().clone() };
        let _ = self.shared.asking.try_send(told);
        if self.shared.config.hear_own && publisher == self.shared.user {
            // One of our own is stored by the publisher that made it, as made here; as received it would be handed out less far back.
            return;
        }
        // More than this, per second or at a time, is a publisher making trouble: a key that is not kept is asked for when it is
        // needed.
        let now = self.shared.now();
        if self.kept.get_or_insert_mut(publisher, || Bucket::full(KEPT, now)).take(now).is_err() {
            return;
        }
        let Ok(permit) = self.shared.keeping.clone().try_acquire_owned() else { return };
        let (store, scope) = (self.shared.store.clone(), crate::scope(publisher, &self.stream));
        self.shared.tasks.spawn(async move {
            let _permit = permit;
            let added = blocking(move || store.add(&scope, &key, since.as_millis(), None, KeyOrigin::Received)).await;
            if let Ok(Err(error)) = added {
                tracing::warn!(%error, "a rotated key could not be stored");
            }
        });
    }
}
