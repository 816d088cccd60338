//! Looking behind the events: of those who hold something the contract is asked once more, every few minutes.
//!
//! An endpoint that keeps back the event of a revocation would keep its subscriber in for as long as nobody looks.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use super::Trouble;
use super::look::Looker;
use crate::identity::UserId;
use crate::permission::ethereum::index::{Held, Holders, Lack, SourceError};
use crate::stream::StreamId;

/// Entries read at one look, so that it does not hold up the events.
const AT_ONCE: usize = 256;

/// How far it is.
pub(super) struct Round {
    /// When the next one begins.
    due: Instant,
    /// Streams that are still to be looked through.
    streams: VecDeque<StreamId>,
    /// Of the first of them, the user that it came to.
    after: Option<UserId>,
}

impl Round {
    pub(super) fn in_a_while(pause: Duration) -> Self {
        Self { due: Instant::now() + pause, streams: VecDeque::new(), after: None }
    }
}

impl Looker {
    /// Goes on with the round, or begins one that is due. A stream of which the contract says something else is listed anew.
    ///
    /// # Errors
    /// [`Trouble`]; it goes on at the same place the next time.
    pub(super) async fn recheck(&mut self) -> Result<(), Trouble> {
        if self.round.streams.is_empty() {
            if Instant::now() < self.round.due {
                return Ok(());
            }
            let streams = self.shared.board().listed().into();
            self.round = Round { streams, ..Round::in_a_while(self.shared.config.recheck) };
        }
        let mut room = AT_ONCE;
        while room > 0
            && let Some(stream) = self.round.streams.front().cloned()
        {
            let (id, after) = (stream.clone(), self.round.after);
            let Holders { held, after } = self.with(move |index| index.holders(&id, after, room)).await?;
            room = room.saturating_sub(held.len().max(1));
            self.compare(&stream, held).await?;
            self.round.after = after;
            if after.is_none() {
                self.round.streams.pop_front();
            }
        }
        Ok(())
    }

    async fn compare(&self, stream: &StreamId, known: Vec<(UserId, Held)>) -> Result<(), Trouble> {
        let Some(cursor) = self.with(|index| Ok(index.cursor().copied())).await?.filter(|_| !known.is_empty()) else {
            return Ok(());
        };
        let (of, users) = (stream.clone(), known.iter().map(|(user, _)| *user).collect::<Vec<_>>());
        let reads = self.all(users.clone(), move |source, user: UserId| {
            let stream = of.clone();
            async move { Ok((user, source.held(&stream, user, cursor.number).await?)) }
        });
        let reads: Vec<(UserId, Held)> = reads.await?;
        if !self.is_part_now(&cursor).await? {
            return Err(SourceError::NoBlock { number: cursor.number }.into());
        }
        let known: BTreeMap<UserId, Held> = known.into_iter().collect();
        let other = reads.iter().filter(|(user, held)| known.get(user) != Some(held)).count();
        let id = stream.clone();
        self.with(move |index| index.supply(&id, &Lack::of(users), &BTreeMap::new(), &reads)).await?;
        if other > 0 {
            tracing::warn!(%stream, other, "the contract says something else than its events, which an endpoint may keep back");
            self.shared.board().unsettle(stream);
        }
        Ok(())
    }
}
