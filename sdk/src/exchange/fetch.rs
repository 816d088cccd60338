//! The subscriber's side of history: all keys of a span of time, page by page.
//!
//! One [`Fetch`] asks one publisher for one span of one stream. It says what to ask and which answers count; it neither
//! sends nor stores. Where it stands is its [`Fetch::cursor`]: a fetch made with it goes on where another was interrupted.
//!
//! ```text
//!           ask                answered: a page              stored, more to come
//!  Ready ────────▶ Asking ───────────────────────▶ Storing ──────────────────────▶ Ready
//!    ▲                │                               │ stored, the last page
//!    └──── Wait ◀─────┘ silence, bad answer,          └────────────────────────▶ Over
//!                       asked to wait: bounded tries;   refused as a whole ─────▶ Over
//! ```

use std::collections::BTreeSet;
use std::time::Duration;

use rand_core::Rng;
use veilcast_key_store::{HistoryCursor, KeyId, TimeRange};

use super::requester::{AnswerFault, AskFailure, MAX_RETRY_AFTER, RequesterConfig, wait_after};
use crate::identity::UserId;
use crate::permission::Refusal;
use crate::stream::StreamId;
use crate::wire::{GrantedKey, KeyAnswer, KeyRange, Refused, RequestId, Verified};

/// Most pages of one fetch, some 16 million keys: no publisher can keep one going for ever.
const MAX_PAGES: u32 = 65_536;

/// Asks for the keys of a span of time.
#[derive(Debug)]
pub struct Fetch {
    me: UserId,
    publisher: UserId,
    stream: StreamId,
    range: TimeRange,
    after: Option<HistoryCursor>,
    config: RequesterConfig,
    phase: Phase,
    pages: u32,
    failures: u32,
}

#[derive(Debug)]
enum Phase {
    /// A request may be sent.
    Ready,
    /// Waits for the answer to this request.
    Asking(RequestId),
    /// Waits for the keys of a page to be stored.
    Storing { next: Option<HistoryCursor> },
    /// Nothing more is asked.
    Over,
}

/// What to do next.
#[derive(Debug)]
pub enum FetchStep {
    /// Ask for the next page: [`Fetch::ask`].
    Ask,
    /// Unwrap and store these keys, then say [`Fetch::stored`] or [`Fetch::did_not_open`].
    Keep(FetchedPage),
    /// A try failed: ask again after this pause.
    Wait {
        /// Why it failed.
        failure: AskFailure,
        /// How long until the next try.
        after: Duration,
    },
    /// Every page is here.
    Done,
    /// It ends early. What came until now counts, and the cursor says where to go on.
    Failed(FetchFailure),
}

/// A page that counts: keys that are still wrapped, and refusals.
#[derive(Clone, Debug)]
pub struct FetchedPage {
    /// The request it answers.
    pub request: RequestId,
    /// The transport key, wrapped; empty when no key is granted.
    pub encapsulated: Vec<u8>,
    /// Keys to unwrap.
    pub granted: Vec<GrantedKey>,
    /// Keys of the span that are not given.
    pub refused: Vec<Refused>,
}

/// Why a fetch ends before its span does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FetchFailure {
    /// The publisher gives nothing of it.
    #[error("{0}")]
    Refused(Refusal),
    /// The last try brought nothing.
    #[error("{0}")]
    GivenUp(AskFailure),
    /// More pages than one fetch may take.
    #[error("more than {MAX_PAGES} pages; ask again to go on")]
    TooLong,
}

impl Fetch {
    /// For the subscriber `me`: the keys of `publisher` on `stream` in use at any moment of `range`, from the place `after` on.
    pub fn new(
        me: UserId,
        publisher: UserId,
        stream: StreamId,
        range: TimeRange,
        after: Option<HistoryCursor>,
        config: RequesterConfig,
    ) -> Self {
        Self { me, publisher, stream, range, after, config, phase: Phase::Ready, pages: 0, failures: 0 }
    }

    /// Everything up to here was stored; `None` at the beginning.
    pub fn cursor(&self) -> Option<&HistoryCursor> {
        self.after.as_ref()
    }

    /// What to ask for now, under a fresh id. A request under way is given up: its answer does not count any more.
    pub fn ask<R: Rng + ?Sized>(&mut self, rng: &mut R) -> (RequestId, KeyRange) {
        let mut id = RequestId([0; 16]);
        rng.fill_bytes(&mut id.0);
        self.phase = Phase::Asking(id);
        (id, self.page())
    }

    fn page(&self) -> KeyRange {
        KeyRange { range: self.range, after: self.after.clone() }
    }

    /// An answer came whose signature is good. Decides whether it counts; a bogus one changes nothing.
    ///
    /// # Errors
    /// [`AnswerFault`]: ignored, the request stays pending.
    pub fn answered<R: Rng + ?Sized>(
        &mut self,
        answer: &Verified<KeyAnswer>,
        rng: &mut R,
    ) -> Result<FetchStep, AnswerFault> {
        let answer = answer.content();
        if !matches!(self.phase, Phase::Asking(id) if id == answer.id) {
            return Err(AnswerFault::NotPending);
        }
        if (answer.requester, answer.publisher, &answer.stream) != (self.me, self.publisher, &self.stream) {
            return Err(AnswerFault::Foreign);
        }
        if let Some(refusal) = answer.refusal {
            return Ok(self.refused(refusal, rng));
        }
        if !fits(&self.page(), answer) {
            return Err(AnswerFault::NotAsked);
        }
        self.phase = Phase::Storing { next: answer.next.clone() };
        let KeyAnswer { id: request, encapsulated, granted, refused, .. } = answer.clone();
        Ok(FetchStep::Keep(FetchedPage { request, encapsulated, granted, refused }))
    }

    fn refused<R: Rng + ?Sized>(&mut self, refusal: Refusal, rng: &mut R) -> FetchStep {
        match refusal.retry_after() {
            Some(wait) => self.back_off(AskFailure::AskedToWait, wait.min(MAX_RETRY_AFTER), rng),
            None => self.over(FetchStep::Failed(FetchFailure::Refused(refusal))),
        }
    }

    /// The page is durable: the cursor moves behind it.
    pub fn stored(&mut self) -> FetchStep {
        let Phase::Storing { next } = std::mem::replace(&mut self.phase, Phase::Ready) else { return FetchStep::Ask };
        (self.failures, self.pages) = (0, self.pages + 1);
        match next {
            None => self.over(FetchStep::Done),
            Some(next) => {
                self.after = Some(next);
                let too_long = self.pages >= MAX_PAGES;
                if too_long { self.over(FetchStep::Failed(FetchFailure::TooLong)) } else { FetchStep::Ask }
            }
        }
    }

    /// Keys of the page did not open: it is asked for again, after a pause.
    pub fn did_not_open<R: Rng + ?Sized>(&mut self, rng: &mut R) -> FetchStep {
        self.back_off(AskFailure::BadAnswer, Duration::ZERO, rng)
    }

    /// The try of this id brought nothing.
    pub fn failed<R: Rng + ?Sized>(&mut self, failure: AskFailure, rng: &mut R) -> FetchStep {
        self.back_off(failure, Duration::ZERO, rng)
    }

    fn back_off<R: Rng + ?Sized>(&mut self, failure: AskFailure, at_least: Duration, rng: &mut R) -> FetchStep {
        self.failures += 1;
        if self.failures >= self.config.max_tries {
            return self.over(FetchStep::Failed(FetchFailure::GivenUp(failure)));
        }
        self.phase = Phase::Ready;
        FetchStep::Wait { failure, after: at_least.max(wait_after(self.failures, &self.config, rng)) }
    }

    fn over(&mut self, last: FetchStep) -> FetchStep {
        self.phase = Phase::Over;
        last
    }
}

/// Whether an answer is a page that was asked for: keys in use in the span and behind where the page begins, none twice, none
/// behind where the next one begins, which is further on.
fn fits(asked: &KeyRange, answer: &KeyAnswer) -> bool {
    let goes_on = answer.next.as_ref().is_none_or(|next| asked.goes_on_at(next));
    let in_place = |granted: &GrantedKey| {
        asked.covers(granted) && answer.next.as_ref().is_none_or(|next| granted.place() <= *next)
    };
    let mut spoken_of: BTreeSet<&KeyId> = BTreeSet::new();
    goes_on
        && answer.granted.iter().all(|granted| in_place(granted) && spoken_of.insert(&granted.key_id))
        && answer.refused.iter().all(|refused| spoken_of.insert(&refused.key_id))
}

#[cfg(test)]
mod tests;
