//! Reading stored messages: storage nodes are asked page by page, what they send is checked, and fed to a subscription.
//!
//! One task for each replay. While a page is being checked the next one is asked for already. A node that is lost, lies or
//! leaves something out is left for the next one, which goes on at the place that was reached. When a node says that there is no
//! more, another is asked whether that is so. For history followed by live messages the task stands between the
//! network and the subscription: what comes live meanwhile is held back, bounded, and handed over behind the history; where
//! it was too much, storage is read once more instead. What is missing among live messages later on is asked for there as well
//! ([`GapFill`]), while the subscription waits for it.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use libp2p::PeerId;
use tokio::sync::mpsc;

use super::config::GapFill;
use super::depots::{self, Depot};
use super::shared::{Shared, blocking};
use super::subscribing::Feed;
use crate::identity::UserId;
use crate::permission::PermissionSource;
use crate::storage::{Filter, Place};
use crate::stream::{StreamId, StreamPart};
use crate::subscriber::{Event, History, Hole, StorageFault};
use crate::time::Timestamp;
use crate::wire::{MessageContent, Received, RequestId, ResendPage, ResendRequest, Span, Verified};

/// Tries at one node that asks for patience.
const TRIES: u32 = 20;
/// No node makes a reader wait longer than this between two of them.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Other nodes that are asked whether there is more, and for what one left out.
const SECOND_OPINIONS: usize = 2;
/// Pages that fill one hole at most.
const HOLE_PAGES: usize = 64;
/// What one node may lag behind another without having left anything out.
const LAG: Duration = Duration::from_secs(10);
/// Live messages held back while history is read. Beyond, they are read from storage.
const HELD_BACK: usize = 4096;
/// How long a neighbour that takes part in a partition is waited for.
const MEET: Duration = Duration::from_secs(2);
/// Times that storage is read once more because too much came live meanwhile.
const CATCH_UPS: usize = 16;

/// Gaps among live messages that storage nodes are asked about at a time; further ones are only reported.
const FILLS: usize = 16;
/// How long a message that is missing may be on its way before storage is asked for it.
const FILL_AFTER: Duration = Duration::from_millis(100);
/// Between two tries.
const FILL_AGAIN: Duration = Duration::from_secs(2);
/// Tries for one gap where all are to be filled.
const FULL_TRIES: u32 = 10;

/// Which stored messages are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    span: Span,
    filter: Filter,
}

impl Replay {
    /// The last `n` messages of each partition, at most 1,000,000.
    pub fn last(n: u64) -> Self {
        Self { span: Span::Last(n.clamp(1, 1_000_000)), filter: Filter::ALL }
    }

    /// All from a moment on, itself included.
    pub fn from(moment: Timestamp) -> Self {
        Self::range(moment, Timestamp::from_millis(u64::MAX))
    }

    /// From one moment to another, both included; nothing where the second is before the first.
    pub fn range(from: Timestamp, to: Timestamp) -> Self {
        Self { span: Span::Range { from, to: to.max(from) }, filter: Filter::ALL }
    }

    /// Only messages of this publisher.
    #[must_use]
    pub fn publisher(self, publisher: UserId) -> Self {
        Self { filter: Filter::publisher(publisher), ..self }
    }

    /// Only messages of this chain of a publisher. Not with [`Replay::last`], which nodes refuse for a chain.
    #[must_use]
    pub fn chain(self, publisher: UserId, chain: [u8; 16]) -> Self {
        Self { filter: Filter::chain(publisher, chain), ..self }
    }
}

/// Reads history alone into a subscription, which ends behind it.
pub(super) async fn history(shared: Arc<Shared>, plan: Plan) {
    let feed = plan.feed.clone();
    let mut replayer = Replayer::new(shared, plan);
    for part in replayer.plan.parts.clone() {
        let mut history = replayer.history_of(part);
        replayer.read(&mut history, true).await;
        replayer.messages += history.taken() - history.over();
    }
    replayer.say_end().await;
    let _ = feed.send(Feed::End).await;
}

/// Reads history, and hands over what comes live behind it, for ever.
pub(super) async fn then_live(shared: Arc<Shared>, plan: Plan, live: mpsc::Receiver<Feed>) {
    let mut replayer = Replayer::new(shared.clone(), plan);
    let mut held = Held { live, messages: VecDeque::new(), overflowed: false };
    let stream = replayer.plan.stream.clone();
    let looking = async { replayer.plan.depots = depots::find(&shared, &stream).await };
    held.while_reading(looking).await;
    let mut histories: Vec<History> =
        replayer.plan.parts.clone().into_iter().map(|part| replayer.history_of(part)).collect();
    for round in 0..CATCH_UPS {
        held.overflowed = false;
        if round == 1 {
            let joined = join_all(replayer.plan.parts.iter().map(|part| meet(&shared, part)));
            held.while_reading(async { drop(joined.await) }).await;
        }
        for history in &mut histories {
            let read = replayer.read(history, false);
            held.while_reading(read).await;
        }
        held.messages.retain(|message| histories.iter().all(|history| !history.covers(message.content())));
        // The first round began before it was certain that every live message comes here: read on from where it ended.
        if round > 0 && !held.overflowed {
            break;
        }
    }
    replayer.messages = histories.iter().map(History::taken).sum();
    replayer.say_end().await;
    let mut live = Live { shared, replayer: Arc::new(replayer), histories, fills: FuturesUnordered::new() };
    let held_back = live.pass(held.messages.into());
    if live.replayer.plan.feed.send(Feed::Messages(held_back)).await.is_ok() {
        live.run(held.live).await;
    }
}

/// What comes live behind the history, and what is missing of it.
struct Live {
    shared: Arc<Shared>,
    replayer: Arc<Replayer>,
    histories: Vec<History>,
    /// Gaps that storage nodes are asked about.
    fills: FuturesUnordered<BoxFuture<'static, Vec<Verified<MessageContent>>>>,
}

impl Live {
    async fn run(mut self, mut live: mpsc::Receiver<Feed>) {
        let feed = self.replayer.plan.feed.clone();
        loop {
            let fed = tokio::select! {
                fed = live.recv() => match fed {
                    Some(Feed::Messages(messages)) => Feed::Messages(self.pass(messages)),
                    Some(other) => other,
                    None => return,
                },
                Some(found) = self.fills.next(), if !self.fills.is_empty() => Feed::Messages(found),
                () = feed.closed() => return,
            };
            if feed.send(fed).await.is_err() {
                return;
            }
        }
    }

    /// Those that are live. An old recording played again is none, unless it goes on with a chain that was met.
    fn pass(&mut self, messages: Vec<Verified<MessageContent>>) -> Vec<Verified<MessageContent>> {
        let oldest = self.shared.now().minus(self.shared.config.intake.live_window);
        let mut passed = Vec::with_capacity(messages.len());
        for message in messages {
            let content = message.content();
            let Some(history) = self.histories.iter_mut().find(|history| *history.part() == content.part) else {
                continue;
            };
            if content.at.timestamp < oldest && !history.knows(content) {
                continue;
            }
            if let Some(hole) = history.live(content) {
                let part = content.part.clone();
                self.ask_for(part, hole);
            }
            passed.push(message);
        }
        passed
    }

    /// The subscription waits for what is missing; until then storage nodes are asked for it.
    fn ask_for(&mut self, part: StreamPart, hole: Hole) {
        let tries = match self.shared.config.gap_fill {
            GapFill::Off => return,
            GapFill::Light => 1,
            GapFill::Full => FULL_TRIES,
        };
        if self.fills.len() >= FILLS {
            return;
        }
        let replayer = self.replayer.clone();
        self.fills.push(Box::pin(async move {
            for attempt in 0..tries {
                // It may only have come by a longer way; and a storage node has to store it first.
                tokio::time::sleep(if attempt == 0 { FILL_AFTER } else { FILL_AGAIN }).await;
                let found = replayer.fill(&replayer.plan.depots, &part, &hole).await;
                if !found.is_empty() {
                    return found;
                }
            }
            Vec::new()
        }));
    }
}

/// Waits until somebody sends what is published from now on, for a while.
async fn meet(shared: &Shared, part: &StreamPart) {
    let _ = tokio::time::timeout(MEET, shared.network.wait_for_peers(&part.topic(), 1)).await;
}

/// What a replay is to do.
pub(super) struct Plan {
    pub(super) stream: StreamId,
    pub(super) parts: Vec<StreamPart>,
    pub(super) replay: Replay,
    pub(super) depots: Vec<Depot>,
    pub(super) feed: mpsc::Sender<Feed>,
}

/// Live messages that wait for the end of the history.
struct Held {
    live: mpsc::Receiver<Feed>,
    messages: VecDeque<Verified<MessageContent>>,
    overflowed: bool,
}

impl Held {
    /// Takes in what comes live while `work` goes on.
    async fn while_reading(&mut self, work: impl Future<Output = ()>) {
        tokio::pin!(work);
        loop {
            tokio::select! {
                () = &mut work => return,
                Some(Feed::Messages(messages)) = self.live.recv() => {
                    self.messages.extend(messages);
                    while self.messages.len() > HELD_BACK {
                        self.messages.pop_front();
                        self.overflowed = true;
                    }
                }
            }
        }
    }
}

/// How a node was left.
enum Left {
    /// It has no more.
    AtEnd,
    /// It cannot, does not want to, or did something wrong.
    Failed,
    /// Nobody reads any more, or everything that was wanted is there.
    Done,
}

struct Replayer {
    shared: Arc<Shared>,
    plan: Plan,
    messages: u64,
    complete: bool,
    /// Nodes that were left.
    left: HashSet<PeerId>,
}

impl Replayer {
    fn new(shared: Arc<Shared>, plan: Plan) -> Self {
        Self { shared, plan, messages: 0, complete: true, left: HashSet::new() }
    }

    fn history_of(&self, part: StreamPart) -> History {
        History::new(part, self.plan.replay.span, self.plan.replay.filter)
    }

    /// Reads a partition to its end at some node, and asks others whether that is the end.
    async fn read(&mut self, history: &mut History, counted: bool) {
        let mut ended: Option<(UserId, Timestamp)> = None;
        let mut opinions = 0;
        let depots: Vec<Depot> =
            self.plan.depots.iter().filter(|depot| !self.left.contains(&depot.peer)).cloned().collect();
        for depot in depots {
            if opinions > SECOND_OPINIONS {
                break;
            }
            opinions += usize::from(ended.is_some());
            let before = history.taken();
            match self.read_at(&depot, history, counted, ended).await {
                Left::AtEnd => ended = ended.or(Some((depot.node, self.shared.now()))),
                Left::Failed => {
                    self.left.insert(depot.peer);
                }
                Left::Done => return,
            }
            if let Some((node, _)) = ended
                && node != depot.node
                && history.taken() == before
            {
                // Two of one mind.
                break;
            }
        }
        self.complete &= ended.is_some();
    }

    /// Page after page, the next one asked for while this one is checked.
    async fn read_at(
        &mut self,
        depot: &Depot,
        history: &mut History,
        counted: bool,
        ended: Option<(UserId, Timestamp)>,
    ) -> Left {
        let mut answer = self.ask(depot, history.part(), history.wanted()).await;
        loop {
            let (asked, page) = match answer {
                Ok(answered) => answered,
                Err(fault) => return self.fault(depot.node, fault).await,
            };
            let (checked, next) = match goes_on(&asked, &page) {
                Some(wanted) => {
                    let ahead = self.ask(depot, &asked.part, wanted);
                    let (checked, next) = tokio::join!(self.check(&page), ahead);
                    (checked, Some(next))
                }
                None => (self.check(&page).await, None),
            };
            let messages = match checked {
                Ok(messages) => messages,
                Err(fault) => return self.fault(depot.node, fault).await,
            };
            let taken = match history.page(&asked, &page, messages) {
                Ok(taken) => taken,
                Err(fault) => return self.fault(depot.node, fault).await,
            };
            if let Some((node, at)) = ended {
                self.blame(node, at, &taken.messages).await;
            }
            let messages = self.filled(depot, history, taken.messages, &taken.holes).await;
            let messages = if counted { cut(messages, history) } else { messages };
            if !messages.is_empty() && self.plan.feed.send(Feed::Messages(messages)).await.is_err() {
                return Left::Done;
            }
            if counted && history.left() == Some(0) {
                return Left::Done;
            }
            match next {
                Some(next) => answer = next,
                None => return Left::AtEnd,
            }
        }
    }

    /// A node that said there was no more left out what another has, unless that came later.
    async fn blame(&self, node: UserId, at: Timestamp, messages: &[Verified<MessageContent>]) {
        let withheld = messages.iter().map(Verified::content).find(|content| content.at.timestamp < at.minus(LAG));
        if let Some(content) = withheld {
            let fault = StorageFault::Withheld { publisher: content.publisher };
            self.tell(Event::StorageFault { node, fault }).await;
        }
    }

    /// Puts in what other nodes have of that which is missing. What nobody has, the subscription reports as a gap.
    async fn filled(
        &mut self,
        depot: &Depot,
        history: &mut History,
        messages: Vec<Verified<MessageContent>>,
        holes: &[Hole],
    ) -> Vec<Verified<MessageContent>> {
        if holes.is_empty() {
            return messages;
        }
        let (mut filled, mut holes) = (Vec::new(), holes.iter().peekable());
        let others: Vec<Depot> = self.plan.depots.iter().filter(|other| other.peer != depot.peer).cloned().collect();
        let mut blamed = false;
        for (n, message) in messages.into_iter().enumerate() {
            while let Some(hole) = holes.next_if(|hole| hole.before == n) {
                let found = self.fill(&others, history.part(), hole).await;
                // A chain that is cut off at its beginning may be older than the node keeps anything.
                if let Some(first) = found.first().filter(|_| !blamed && hole.after.is_some()) {
                    blamed = true;
                    let fault = StorageFault::Withheld { publisher: first.content().publisher };
                    self.tell(Event::StorageFault { node: depot.node, fault }).await;
                }
                found.iter().for_each(|message| history.note(message.content()));
                filled.extend(found);
            }
            filled.push(message);
        }
        filled
    }

    async fn fill(&self, others: &[Depot], part: &StreamPart, hole: &Hole) -> Vec<Verified<MessageContent>> {
        let (span, after, filter) = hole.wanted(self.plan.replay.span);
        for depot in others.iter().take(SECOND_OPINIONS) {
            let mut missing = History::new(part.clone(), span, filter);
            let (mut found, mut wanted) = (Vec::new(), (span, after, filter));
            for _ in 0..HOLE_PAGES {
                let Ok((asked, page)) = self.ask(depot, part, wanted).await else { break };
                let Ok(messages) = self.check(&page).await else { break };
                let Ok(taken) = missing.page(&asked, &page, messages) else { break };
                found.extend(taken.messages);
                if !taken.more {
                    break;
                }
                wanted = missing.wanted();
            }
            found.retain(|message| message.content().at <= hole.until);
            if !found.is_empty() {
                return found;
            }
        }
        Vec::new()
    }

    async fn ask(
        &self,
        depot: &Depot,
        part: &StreamPart,
        (span, after, filter): (Span, Option<Place>, Filter),
    ) -> Result<(ResendRequest, ResendPage), StorageFault> {
        let (worker, stream) = (self.shared.clone(), self.plan.stream.clone());
        let proofs = blocking(move || worker.source.proofs(&stream, worker.user, worker.now()));
        let proofs = proofs.await.unwrap_or_default();
        for attempt in 1.. {
            let request = ResendRequest {
                id: RequestId(rand::random()),
                part: part.clone(),
                node: depot.node,
                requester: self.shared.user,
                sent: self.shared.now(),
                span,
                after,
                filter,
                proofs: proofs.clone(),
            };
            let page = self.send(depot, &request).await?;
            let wait = page.refusal.and_then(|refusal| refusal.retry_after());
            match wait.filter(|_| attempt < TRIES) {
                Some(wait) => tokio::time::sleep(wait.min(LONGEST_WAIT)).await,
                None => return Ok((request, page)),
            }
        }
        Err(StorageFault::Unreachable)
    }

    async fn send(&self, depot: &Depot, request: &ResendRequest) -> Result<ResendPage, StorageFault> {
        let signed = Verified::sign(request.clone(), &self.shared.identity);
        let envelope = signed.map_err(|_| StorageFault::Unreachable)?.envelope().to_vec();
        let asked = self.shared.network.request(depot.peer, depot.addresses.clone(), envelope);
        let answer = tokio::time::timeout(self.shared.config.requester.key_request_timeout, asked).await;
        let answer = answer.map_err(|_| StorageFault::Unreachable)?.map_err(|error| {
            tracing::debug!(node = %depot.node, %error, "a storage node was asked in vain");
            StorageFault::Unreachable
        })?;
        let page = blocking(move || Received::<ResendPage>::decode(&answer.into()).ok()?.verify().ok());
        let page = page.await.map_err(|_| StorageFault::Unreachable)?;
        Ok(page.ok_or(StorageFault::Lied("an answer that nobody signed"))?.into_content())
    }

    /// Decodes and checks every message, over the cores.
    async fn check(&self, page: &ResendPage) -> Result<Vec<Verified<MessageContent>>, StorageFault> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let share = page.messages.len().div_ceil(cores).max(1);
        let jobs: Vec<_> = page
            .messages
            .chunks(share)
            .map(|share| {
                blocking({
                    let share = share.to_vec();
                    move || share.iter().map(verified).collect::<Option<Vec<_>>>()
                })
            })
            .collect();
        let mut messages = Vec::with_capacity(page.messages.len());
        for job in join_all(jobs).await {
            let share = job.map_err(|_| StorageFault::Unreachable)?;
            messages.extend(share.ok_or(StorageFault::Lied("a message that its author did not sign"))?);
        }
        Ok(messages)
    }

    async fn fault(&self, node: UserId, fault: StorageFault) -> Left {
        self.tell(Event::StorageFault { node, fault }).await;
        if self.plan.feed.is_closed() { Left::Done } else { Left::Failed }
    }

    async fn say_end(&self) {
        self.tell(Event::HistoryEnd { messages: self.messages, complete: self.complete }).await;
    }

    async fn tell(&self, event: Event) {
        let _ = self.plan.feed.send(Feed::Tell(event)).await;
    }
}

/// What to ask for next, by the node's word alone: whether that was true is looked at before its answer counts.
fn goes_on(asked: &ResendRequest, page: &ResendPage) -> Option<(Span, Option<Place>, Filter)> {
    let next = page.next?;
    let span = match asked.span {
        Span::Last(_) => Span::Range { from: Timestamp::ZERO, to: Timestamp::from_millis(u64::MAX) },
        span => span,
    };
    Some((span, Some(next), asked.filter))
}

/// No more than were wanted: behind the last `n` others may have come meanwhile.
fn cut(mut messages: Vec<Verified<MessageContent>>, history: &History) -> Vec<Verified<MessageContent>> {
    let over = usize::try_from(history.over()).unwrap_or(usize::MAX);
    messages.truncate(messages.len().saturating_sub(over));
    messages
}

fn verified(envelope: &Bytes) -> Option<Verified<MessageContent>> {
    // A copy, so that no message keeps the whole page in memory.
    Received::decode(&Bytes::copy_from_slice(envelope)).ok()?.verify().ok()
}
