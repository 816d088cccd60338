//! One look at the chain: is what was read still part of it, what is new, and what does it come to.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;
use veilcast_key_store::RecordStore;

use super::recheck::Round;
use super::{Shared, Trouble};
use crate::identity::UserId;
use crate::permission::Answer;
use crate::permission::ethereum::index::{
    Block, Held, Index, IndexError, IndexLimits, Lack, LogSource, SourceError, Survey, Touched,
};
use crate::stream::StreamId;

/// Calls under way at once.
const CALLS: usize = 16;

/// Looks at a chain and keeps its index.
pub(super) struct Looker {
    pub(super) source: Arc<dyn LogSource>,
    index: Arc<Mutex<Index>>,
    pub(super) shared: Arc<Shared>,
    /// Blocks asked for at a time.
    width: u64,
    pub(super) round: Round,
}

/// What the index is opened with, once it is known of which chain it is.
pub(super) struct Opener {
    pub(super) source: Arc<dyn LogSource>,
    pub(super) records: Arc<dyn RecordStore>,
    pub(super) contract: UserId,
    pub(super) limits: IndexLimits,
    pub(super) shared: Arc<Shared>,
}

impl Opener {
    /// # Errors
    /// [`Trouble`]; it may be called again.
    pub(super) async fn open(&self) -> Result<Looker, Trouble> {
        let chain_id = in_time(self.shared.config.deadline, self.source.chain_id()).await?;
        let (records, contract, limits) = (self.records.clone(), self.contract, self.limits);
        let opened = tokio::task::spawn_blocking(move || Index::open(records, chain_id, contract, limits)).await;
        let index = opened.map_err(|error| SourceError::Unavailable { text: error.to_string() })??;
        let at = index.cursor().map_or(index.start().saturating_sub(1), |cursor| cursor.number);
        self.shared.board().open(index.start(), at, index.followed());
        let width = self.shared.config.max_range.max(1);
        let (source, shared) = (self.source.clone(), self.shared.clone());
        let round = Round::in_a_while(shared.config.recheck);
        Ok(Looker { source, index: Arc::new(Mutex::new(index)), shared, width, round })
    }
}

impl Looker {
    /// Reads all there is and settles the lists; returns what concerns one stream only. Dropping the future leaves the index as it
    /// is after some whole step.
    ///
    /// # Errors
    /// [`Trouble`]; it may be called again.
    pub(super) async fn look(&mut self) -> Result<Option<Trouble>, Trouble> {
        self.follow().await?;
        let head = self.call(|source| source.head()).await?;
        self.find_fork(&head).await?;
        self.read_up_to(&head).await?;
        // What events tell counts, also where it could not be looked behind them.
        let rechecked = self.recheck().await;
        let full = self.settle().await?;
        Ok(full.or(rechecked.err()))
    }

    /// Writes down how far it got, and lets go of the store.
    pub(super) async fn close(self) {
        if let Err(error) = self.with(Index::save).await {
            tracing::warn!(%error, "some blocks will be read again");
        }
        // Work that was called off ends by itself, and holds the store until then.
        while Arc::strong_count(&self.index) > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Tells the index which streams somebody asked about.
    async fn follow(&self) -> Result<(), Trouble> {
        let (new, left) = self.shared.board().wishes();
        for stream in left {
            self.with(move |index| index.unfollow(&stream)).await?;
        }
        for stream in new {
            let id = stream.clone();
            self.with(move |index| index.follow(&id)).await?;
            self.shared.board().followed(&stream);
        }
        Ok(())
    }

    /// Steps back where the chain no longer has the last block read.
    async fn find_fork(&self, head: &Block) -> Result<(), Trouble> {
        let marks = self.with(|index| Ok(index.marks())).await?;
        let Some(cursor) = marks.first().copied() else { return Ok(()) };
        for (place, mark) in marks.iter().enumerate().filter(|(_, mark)| mark.number <= head.number) {
            if !self.is_part(mark, head).await? {
                continue;
            }
            return match place {
                0 => Ok(()),
                // All it knows is as we do: it is behind, and has not yet said otherwise.
                _ if head.number < cursor.number && self.is_newest_known(&marks, place, head) => {
                    Err(Trouble::Behind { head: head.number, at: cursor.number })
                }
                _ => self.step_back(Some(*mark)).await,
            };
        }
        if head.number < marks.last().map_or(0, |mark| mark.number) {
            return Err(Trouble::Behind { head: head.number, at: cursor.number });
        }
        self.step_back(None).await
    }

    /// Whether no mark that the endpoint could know was found missing before this one.
    fn is_newest_known(&self, marks: &[Block], place: usize, head: &Block) -> bool {
        place.checked_sub(1).is_none_or(|newer| marks[newer].number > head.number)
    }

    async fn is_part(&self, mark: &Block, head: &Block) -> Result<bool, Trouble> {
        if mark.number == head.number {
            return Ok(mark.hash == head.hash);
        }
        let number = mark.number;
        let found = self.call(|source| source.block(number)).await?;
        let found = found.ok_or(SourceError::NoBlock { number })?;
        Ok(found.hash == mark.hash)
    }

    async fn step_back(&self, to: Option<Block>) -> Result<(), Trouble> {
        tracing::info!(to = to.map(|block| block.number), "the chain was reorganised");
        let touched = self.with(move |index| index.step_back(to.as_ref())).await?;
        self.note(touched).await
    }

    async fn read_up_to(&mut self, head: &Block) -> Result<(), Trouble> {
        let number = head.number;
        self.shared.board().progress.head = number;
        let mut next = self.with(move |index| Ok(index.first(number))).await?;
        while let Some(from) = next.filter(|from| *from <= number) {
            let (width, to) = (self.width, Index::last(from, number, self.width));
            let span = match self.call(|source| source.span(from, to)).await {
                Ok(span) => span,
                // Too many blocks, or too many events in them: each kind of node says it in its own words.
                Err(trouble) if width > 1 && is_too_much(&trouble) => {
                    tracing::debug!(%trouble, from, to, "asking for fewer blocks");
                    self.width = (to - from).min(width - 1).div_ceil(2).max(1);
                    continue;
                }
                Err(trouble) => return Err(trouble),
            };
            if span.tip.number != to {
                return Err(SourceError::NoBlock { number: to }.into());
            }
            self.is_still_here(head).await?;
            let touched = self.with(move |index| index.advance(span.tip, number, &span.events)).await?;
            self.note(touched).await?;
            self.width = self.width.saturating_mul(2).min(self.shared.config.max_range.max(1));
            next = to.checked_add(1);
        }
        Ok(())
    }

    /// That the blocks just read continue the last one before them: the chain may have been reorganised meanwhile.
    async fn is_still_here(&self, head: &Block) -> Result<(), Trouble> {
        let Some(cursor) = self.with(|index| Ok(index.cursor().copied())).await? else { return Ok(()) };
        // What is final was read while it was final already.
        if cursor.number >= head.number.saturating_sub(super::super::index::REORG_WINDOW)
            && !self.is_part_now(&cursor).await?
        {
            return Err(SourceError::NoBlock { number: cursor.number }.into());
        }
        Ok(())
    }

    pub(super) async fn is_part_now(&self, mark: &Block) -> Result<bool, Trouble> {
        let number = mark.number;
        Ok(self.call(|source| source.block(number)).await?.is_some_and(|found| found.hash == mark.hash))
    }

    async fn note(&self, touched: Touched) -> Result<(), Trouble> {
        let cursor = self.with(|index| Ok(index.cursor().copied())).await?;
        let mut board = self.shared.board();
        board.note(&touched, cursor.as_ref());
        board.progress.at = cursor.map_or(board.progress.from.saturating_sub(1), |cursor| cursor.number);
        Ok(())
    }

    /// Makes the lists of the streams that something happened to.
    async fn settle(&self) -> Result<Option<Trouble>, Trouble> {
        let unsettled = self.shared.board().unsettled();
        let mut full = None;
        for stream in unsettled {
            if !self.settle_one(&stream).await? {
                full = Some(Trouble::Full { stream });
            }
        }
        Ok(full)
    }

    /// `false` where there is no room for the list.
    async fn settle_one(&self, stream: &StreamId) -> Result<bool, Trouble> {
        loop {
            let id = stream.clone();
            match self.with(move |index| index.survey(&id)).await? {
                Survey::Whole(listing) => {
                    self.shared.board().settle(stream, listing);
                    return Ok(true);
                }
                Survey::Full => return Ok(false),
                Survey::Lacks(lack) => self.fetch(stream, lack).await?,
            }
        }
    }

    async fn fetch(&self, stream: &StreamId, lack: Lack) -> Result<(), Trouble> {
        let Some(cursor) = self.with(|index| Ok(index.cursor().copied())).await? else { return Ok(()) };
        let times = self.all(lack.blocks.iter().copied().collect(), |source, number: u64| async move {
            let found = source.block(number).await?;
            Ok((number, found.ok_or(SourceError::NoBlock { number })?.time))
        });
        let times: BTreeMap<u64, u64> = times.await?.into_iter().collect();
        let of = stream.clone();
        let reads = self.all(lack.users.clone(), move |source, user: UserId| {
            let stream = of.clone();
            async move { Ok((user, source.held(&stream, user, cursor.number).await?)) }
        });
        let reads: Vec<(UserId, Held)> = reads.await?;
        if !self.is_part_now(&cursor).await? {
            return Err(SourceError::NoBlock { number: cursor.number }.into());
        }
        let id = stream.clone();
        self.with(move |index| index.supply(&id, &lack, &times, &reads)).await
    }

    /// One call for each of these, some at a time.
    pub(super) async fn all<A, T, F, Fut>(&self, asks: Vec<A>, call: F) -> Result<Vec<T>, Trouble>
    where
        T: Send + 'static,
        F: Fn(Arc<dyn LogSource>, A) -> Fut,
        Fut: Future<Output = Result<T, SourceError>> + Send + 'static,
    {
        let after = self.shared.config.deadline;
        let (mut calls, mut answers) = (JoinSet::new(), Vec::with_capacity(asks.len()));
        let mut asks = asks.into_iter();
        loop {
            while calls.len() < CALLS
                && let Some(ask) = asks.next()
            {
                let call = call(self.source.clone(), ask);
                calls.spawn(tokio::time::timeout(after, call));
            }
            let Some(answer) = calls.join_next().await else { return Ok(answers) };
            let answer = answer.map_err(|error| SourceError::Unavailable { text: error.to_string() })?;
            answers.push(answer.map_err(|_| Trouble::Deadline { after })??);
        }
    }

    async fn call<'a, T>(
        &'a self,
        call: impl FnOnce(&'a dyn LogSource) -> Answer<'a, Result<T, SourceError>>,
    ) -> Result<T, Trouble> {
        in_time(self.shared.config.deadline, call(&*self.source)).await
    }

    /// Works on the index, off the async workers: it waits for the disk.
    pub(super) async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Index) -> Result<T, IndexError> + Send + 'static,
    ) -> Result<T, Trouble> {
        let index = self.index.clone();
        let work = tokio::task::spawn_blocking(move || {
            // A panic within left a whole state on disk, and the state in memory is that of the last whole step.
            work(&mut index.lock().unwrap_or_else(PoisonError::into_inner))
        });
        let done = work.await.map_err(|error| SourceError::Unavailable { text: error.to_string() })?;
        Ok(done?)
    }
}

fn is_too_much(trouble: &Trouble) -> bool {
    matches!(trouble, Trouble::Source(SourceError::TooMuch { .. }) | Trouble::Deadline { .. })
}

async fn in_time<T>(after: Duration, answer: Answer<'_, Result<T, SourceError>>) -> Result<T, Trouble> {
    let answer = tokio::time::timeout(after, answer).await;
    Ok(answer.map_err(|_| Trouble::Deadline { after })??)
}
