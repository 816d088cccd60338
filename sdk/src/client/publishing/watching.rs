//! Who may read no longer: what the source tells a publisher, compared with who was given keys.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::super::agreeing::Sealing;
use super::super::error::ClientError;
use super::super::shared::Shared;
use super::super::updating;
use super::{StreamPublisher, UNKNOWN};
use crate::identity::UserId;
use crate::permission::{Grant, Permission, PermissionSource, Refusal, StreamInfo, Subscriber};
use crate::publisher::Holder;
use crate::stream::StreamId;
use crate::time::Timestamp;

/// How often it is looked who was given keys while a source cannot tell who subscribes.
const SUPPOSE_EVERY: Duration = Duration::from_secs(1);

/// The owner and this publisher, of whom no list need tell.
fn is_served_always(shared: &Shared, stream: &StreamId, user: UserId) -> bool {
    user == shared.user || stream.owner() == Some(user)
}

/// Whether the key in use may have to be replaced, messages or no messages.
pub(in crate::client) async fn is_watched(shared: &Shared, stream: &StreamId, publisher: &mut StreamPublisher) -> bool {
    // A key that was made before a ring decided is not in use, and no other takes its place.
    !publisher.pre_agreed
        && publisher.schedule.current().is_some()
        && matches!(publisher.sealing(shared, stream).await, Ok(Sealing::Own))
}

/// What is to be asked of the source about a stream.
#[derive(Clone, Copy)]
pub(in crate::client) struct Question {
    info: bool,
    subscribers: bool,
}

/// What the source told, asked at `begun` while its change number was `changes`.
pub(in crate::client) struct Told {
    begun: Instant,
    asked: Timestamp,
    changes: u64,
    info: Option<Result<Option<StreamInfo>, Refusal>>,
    subscribers: Option<Result<Vec<Subscriber>, Refusal>>,
}

/// Asks the source; nobody need hold the publisher meanwhile.
pub(in crate::client) async fn ask(shared: Arc<Shared>, stream: StreamId, question: Question) -> Told {
    let (begun, asked, changes) = (Instant::now(), shared.now(), shared.source.changes());
    let info = async { if question.info { Some(shared.stream_info(&stream).await) } else { None } };
    let subscribers = async { if question.subscribers { Some(shared.subscribers(&stream).await) } else { None } };
    let (info, subscribers) = tokio::join!(info, subscribers);
    Told { begun, asked, changes, info, subscribers }
}

/// A key of the stream was handed out at `now`. That is news to its end watch only if a clock was set back, so nobody waits for
/// a publisher that is busy.
pub(in crate::client) async fn handed(shared: &Arc<Shared>, stream: &StreamId, now: Timestamp) {
    let Ok(publisher) = shared.publisher(stream).await else { return };
    if let Ok(mut publisher) = publisher.try_lock() {
        publisher.ends.handed(now);
        publisher.save_ends(shared, stream).await;
        return;
    }
    let (noting, stream) = (shared.clone(), stream.clone());
    shared.spawn(async move {
        let mut publisher = publisher.lock().await;
        publisher.ends.handed(now);
        publisher.save_ends(&noting, &stream).await;
    });
}

impl StreamPublisher {
    /// Whose grants ended since the last rekey. Asks the source only when something changed.
    pub(in crate::client) async fn ended(&mut self, shared: &Shared, stream: &StreamId) -> &[UserId] {
        let (begun, now, changes) = (Instant::now(), shared.now(), shared.source.changes());
        self.ends.tick(now);
        if !self.ends.is_current(now, changes) {
            let subscribers = shared.subscribers(stream).await;
            self.learn(shared, stream, now, changes, subscribers).await;
            self.told = Some(begun);
        }
        self.ends.ended()
    }

    /// What is to be asked of the source without a message being published. Where it says that nothing changed it is not asked
    /// again, however long that is.
    pub(in crate::client) fn question(&mut self, shared: &Shared) -> Option<Question> {
        let (now, changes) = (shared.now(), shared.source.changes());
        self.ends.tick(now);
        let knows = |(info, _, of): &(StreamInfo, Timestamp, u64)| *of == changes && info.holds_at(now);
        let info = !self.info.as_ref().is_some_and(knows);
        let question = Question { info, subscribers: !self.ends.is_current(now, changes) };
        (question.info || question.subscribers).then_some(question)
    }

    /// Takes in what the source told, unless it was asked later and told more.
    pub(in crate::client) async fn take_in(&mut self, shared: &Shared, stream: &StreamId, told: Told) {
        if self.told.is_some_and(|last| told.begun < last) {
            return;
        }
        if let Some(Ok(known)) = told.info {
            self.info = Some((known.unwrap_or(UNKNOWN), told.asked, told.changes));
        }
        if let Some(subscribers) = told.subscribers {
            self.learn(shared, stream, shared.now(), told.changes, subscribers).await;
        }
        self.told = Some(told.begun);
    }

    async fn learn(
        &mut self,
        shared: &Shared,
        stream: &StreamId,
        now: Timestamp,
        changes: u64,
        subscribers: Result<Vec<Subscriber>, Refusal>,
    ) {
        match subscribers {
            Ok(subscribers) => {
                self.ends.learn(now, changes, Some(subscribers));
                self.supposed = None;
                self.compare(shared, stream, now).await;
            }
            Err(refusal) => {
                self.ends.learn(now, changes, None);
                self.suppose(shared, stream, now, refusal).await;
            }
        }
        self.save_ends(shared, stream).await;
    }

    /// Whether the key in use must be replaced because somebody may no longer have the next, by what is known.
    pub(in crate::client) fn must_rekey(&mut self, shared: &Shared) -> bool {
        let (now, changes) = (shared.now(), shared.source.changes());
        self.ends.tick(now);
        let Some((info, _, of)) = &self.info else { return !self.ends.ended().is_empty() };
        let info = info.clone().at(now);
        // What may have changed is not public.
        let public = info.public && *of == changes && !shared.config.always_encrypt;
        !public && self.is_out(&info)
    }

    fn is_out(&self, info: &StreamInfo) -> bool {
        !self.ends.ended().is_empty() || self.ends.is_blind() || self.ends.was_public(info.public_until)
    }

    /// Once after the start: who was given keys, and is on no list.
    async fn compare(&mut self, shared: &Shared, stream: &StreamId, now: Timestamp) {
        if self.compared {
            return;
        }
        match shared.holders.known(stream).await {
            Ok(holders) => {
                let listed = holders.iter().filter(|holder| !is_served_always(shared, stream, holder.user));
                self.ends.compare(now, listed.map(|holder| (holder.user, holder.last)));
                self.compared = true;
            }
            Err(error) => tracing::warn!(%stream, %error, "cannot tell yet who was given keys before the start"),
        }
    }

    /// The source cannot tell who subscribes: goes by what was known, and by who was given keys under which grants.
    async fn suppose(&mut self, shared: &Shared, stream: &StreamId, now: Timestamp, refusal: Refusal) {
        if self.supposed.is_some_and(|at| at.elapsed() < SUPPOSE_EVERY) {
            return;
        }
        if self.supposed.replace(Instant::now()).is_none() {
            tracing::warn!(%stream, %refusal, "cannot tell who subscribes; going by what is known and who was given keys");
        }
        match shared.holders.known(stream).await {
            Ok(holders) => {
                let of = |holder: Holder| Subscriber {
                    user: holder.user,
                    grant: Grant::new(Permission::Subscribe, holder.grant),
                };
                let listed = holders.into_iter().filter(|holder| !is_served_always(shared, stream, holder.user));
                self.ends.suppose(now, listed.map(of));
            }
            Err(error) => tracing::warn!(%stream, %error, "cannot tell who was given keys either"),
        }
    }

    /// Ends of grants after `now` that are known.
    pub(in crate::client) fn ends_to_come(&self, now: Timestamp) -> usize {
        self.ends.to_come(now)
    }

    /// Whether somebody holds the current key who may no longer have the next.
    pub(super) async fn is_somebody_out(&mut self, shared: &Shared, stream: &StreamId, info: &StreamInfo) -> bool {
        self.ended(shared, stream).await;
        self.is_out(info)
    }

    /// Notes that the key current since `now` shuts out everybody who had ended; returns the record of it.
    pub(in crate::client) fn shut_out(&mut self, now: Timestamp) -> Vec<u8> {
        let public_until = self.info.as_ref().and_then(|(info, ..)| info.clone().at(now).public_until);
        self.ends.rekeyed(now, public_until)
    }

    /// Whoever ended by `now` reads on until the next rekey; nothing changes when that cannot be stored.
    pub(in crate::client) async fn let_read_on(
        &mut self,
        shared: &Shared,
        stream: &StreamId,
        now: Timestamp,
    ) -> Result<(), ClientError> {
        let public_until = self.info(shared, stream).await?.at(now).public_until;
        let record = self.ends.tolerating(now, public_until);
        updating::save_ends(shared, stream, record.clone()).await?;
        self.ends.let_read_on(now, &record);
        Ok(())
    }

    /// Less is covered than was noted, because a clock was set back.
    async fn save_ends(&mut self, shared: &Shared, stream: &StreamId) {
        if let Some(record) = self.ends.unsaved()
            && let Err(error) = updating::save_ends(shared, stream, record).await
        {
            tracing::warn!(%stream, %error, "after a restart, an end before the clock was set back will count as shut out");
        }
    }
}
