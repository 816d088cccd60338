//! One device of the publisher: carries out what its [`Fetch`] decides.

use std::sync::Arc;

use bytes::Bytes;
use libp2p::PeerId;
use rand::rngs::StdRng;
use tokio::sync::oneshot;

use super::span::Span;
use crate::client::asking::{Ask, Batch, Question, ask_at, open_and_store};
use crate::client::bookmarks::Mark;
use crate::client::error::ClientError;
use crate::client::stats::count;
use crate::exchange::{AskFailure, Fetch, FetchFailure, FetchStep, FetchedPage};
use crate::wire::{GrantedKey, KeyAnswer, Received, RequestId, Wanted};

/// A full page costs the publisher what two requests do, and is counted so: who asks faster is throttled.
const PAGE_COST: usize = 2;

/// Asks this device to the end of the span, if it can be.
///
/// # Errors
/// [`ClientError::Store`], [`ClientError::Stopped`]: no other device can be asked either.
pub(super) async fn ask(span: Arc<Span>, device: PeerId) -> Result<(PeerId, Result<(), FetchFailure>), ClientError> {
    let fetch = span.fetch(span.after(&device).await);
    let mut asking = Asking { span: &span, device, fetch, rng: rand::make_rng() };
    let mut step = FetchStep::Ask;
    loop {
        step = match step {
            FetchStep::Ask => asking.ask().await?,
            FetchStep::Keep(page) => asking.keep(page).await?,
            FetchStep::Wait { failure, after } => {
                span.wait(Some(device), failure, after).await;
                FetchStep::Ask
            }
            FetchStep::Done => return Ok((device, Ok(()))),
            FetchStep::Failed(failure) => return Ok((device, Err(failure))),
        }
    }
}

struct Asking<'a> {
    span: &'a Span,
    device: PeerId,
    fetch: Fetch,
    rng: StdRng,
}

impl Asking<'_> {
    /// One try for the next page.
    async fn ask(&mut self) -> Result<FetchStep, ClientError> {
        for _ in 0..PAGE_COST {
            self.leave().await?;
        }
        let (id, page) = self.fetch.ask(&mut self.rng);
        let (publisher, stream) = (self.span.publisher, self.span.stream.clone());
        let question = Question { id, publisher, stream, wanted: Wanted::Range(page) };
        Ok(match ask_at(&self.span.shared, question, self.device).await {
            Ok(envelope) => self.answered(id, &envelope),
            Err(failure) => {
                self.span.shared.meters.got_none(failure);
                self.fetch.failed(failure, &mut self.rng)
            }
        })
    }

    /// Waits until the limit of requests per second lets one more out.
    async fn leave(&self) -> Result<(), ClientError> {
        loop {
            let (asker, leave) = oneshot::channel();
            self.span.shared.asking.send(Ask::Leave(asker)).await.map_err(|_| ClientError::Stopped)?;
            match leave.await.map_err(|_| ClientError::Stopped)? {
                Ok(()) => return Ok(()),
                Err(wait) => tokio::time::sleep(wait).await,
            }
        }
    }

    fn answered(&mut self, id: RequestId, envelope: &Bytes) -> FetchStep {
        let verified = Received::<KeyAnswer>::decode(envelope)
            .ok()
            .filter(|received| received.claims().id == id)
            .and_then(|received| received.verify().ok());
        let step = verified.as_ref().and_then(|answer| self.fetch.answered(answer, &mut self.rng).ok());
        let (counters, meters) = (&self.span.shared.counters, &self.span.shared.meters);
        match verified.filter(|_| step.is_some()) {
            Some(answer) => meters.got(answer.content()),
            None => meters.got_none(AskFailure::BadAnswer),
        }
        count(if step.is_some() { &counters.key_answers_accepted } else { &counters.key_answers_ignored }, 1);
        step.unwrap_or_else(|| self.fetch.failed(AskFailure::BadAnswer, &mut self.rng))
    }

    /// Stores the keys of a page, then where to go on; a crash in between costs this page once more.
    async fn keep(&mut self, page: FetchedPage) -> Result<FetchStep, ClientError> {
        let (granted, refused) = (page.granted.len(), page.refused.len());
        let last = page.granted.iter().map(GrantedKey::place).max();
        let mut keys = 0;
        if granted > 0 {
            let batch = Batch {
                publisher: self.span.publisher,
                stream: self.span.stream.clone(),
                request: page.request,
                encapsulated: page.encapsulated,
                granted: page.granted,
            };
            let shared = self.span.shared.clone();
            let opened = self.span.shared.to_its_end(async move { open_and_store(&shared, batch).await }).await?;
            if opened.keys.len() + opened.conflicting < granted {
                return Ok(self.fetch.did_not_open(&mut self.rng));
            }
            keys = opened.keys.len();
        }
        let step = self.fetch.stored();
        let is_done = matches!(step, FetchStep::Done);
        // While other devices keep the fetch from its end, this one is asked again for what is newer than all it gave.
        let after = last.filter(|_| is_done).or_else(|| self.fetch.cursor().cloned());
        let change = |mark: &mut Mark| {
            mark.after = after;
            mark.keys += keys as u64;
            mark.refused += refused as u64;
            mark.done |= is_done;
        };
        self.span.keep(self.device, change).await?;
        Ok(step)
    }
}
