//! Reading stored messages: carries out what a [`Replayer`] decides.
//!
//! One task for each replay. It sends requests, has the signatures of what comes back checked over the cores, and feeds a
//! subscription; for history followed by live messages it stands between the network and the subscription. While the
//! subscription has no room nothing further is taken in, so a slow application slows its storage nodes down.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::{BoxFuture, join_all};
use futures::stream::FuturesUnordered;
use rand::rngs::StdRng;
use tokio::time::Instant;

use super::bounded;
use super::depots::{self, Depot};
use super::resending;
use super::shared::{Shared, blocking};
use super::subscribing::Feed;
use crate::network::RequestError;
use crate::permission::PermissionSource;
use crate::stream::{StreamId, StreamPart};
use crate::subscriber::{Moment, Replay, ReplayEffect, ReplayLimits, Replayer, StorageFault};
use crate::time::{Timestamp, millis};
use crate::wire::{MessageContent, Received, RequestId, ResendPage, ResendRequest, Verified};

/// How long a neighbour that takes part in a partition is waited for.
const MEET: Duration = Duration::from_secs(2);

/// What a replay is to do.
pub(super) struct Plan {
    pub(super) stream: StreamId,
    pub(super) parts: Vec<StreamPart>,
    pub(super) replay: Replay,
    /// Where storage nodes were looked for already.
    pub(super) depots: Option<Vec<Depot>>,
    pub(super) feed: bounded::Sender<Feed>,
    /// Most bytes of live messages that are held back.
    pub(super) held_back: usize,
}

/// Reads history alone into a subscription, which ends behind it.
pub(super) async fn history(shared: Arc<Shared>, plan: Plan) {
    let (nobody, live) = bounded::channel(1, 1);
    drop(nobody);
    Replaying::new(shared, plan, false).run(live).await;
}

/// Reads history, and hands over what comes live behind it, for ever.
pub(super) async fn then_live(shared: Arc<Shared>, plan: Plan, live: bounded::Receiver<Feed>) {
    Replaying::new(shared, plan, true).run(live).await;
}

/// Something that was waited for.
enum Came {
    Depots(Vec<Depot>),
    Page(RequestId, Result<ResendPage, StorageFault>),
    Checked(RequestId, Option<Vec<Verified<MessageContent>>>),
    Met,
}

struct Replaying {
    shared: Arc<Shared>,
    core: Replayer,
    stream: StreamId,
    parts: Vec<StreamPart>,
    /// By their numbers.
    depots: BTreeMap<usize, Depot>,
    /// How many were found so far, and how many before the last look.
    numbered: usize,
    last_look: Option<usize>,
    feed: bounded::Sender<Feed>,
    /// What the subscription is yet to take.
    ready: VecDeque<Feed>,
    work: FuturesUnordered<BoxFuture<'static, Came>>,
    rng: StdRng,
    began: Instant,
    ended: bool,
}

impl Replaying {
    fn new(shared: Arc<Shared>, plan: Plan, goes_live: bool) -> Self {
        let Plan { stream, parts, replay, depots, feed, held_back } = plan;
        let limits = limits(&shared, held_back);
        let core = Replayer::new(replay, parts.clone(), shared.user, goes_live, limits);
        let (worker, of) = (shared.clone(), stream.clone());
        let looking = async move {
            Came::Depots(match depots {
                Some(depots) => depots,
                None => depots::find(&worker, &of).await,
            })
        };
        Self {
            shared,
            core,
            stream,
            parts,
            depots: BTreeMap::new(),
            numbered: 0,
            last_look: None,
            feed,
            ready: VecDeque::new(),
            work: FuturesUnordered::from_iter([Box::pin(looking) as BoxFuture<'static, Came>]),
            rng: rand::make_rng(),
            began: Instant::now(),
            ended: false,
        }
    }

    async fn run(mut self, mut live: bounded::Receiver<Feed>) {
        let feed = self.feed.clone();
        let mut lives = true;
        loop {
            let over = self.ended || (self.core.is_live() && !lives);
            if over && self.ready.is_empty() {
                return;
            }
            let (has_room, pause) = (self.ready.is_empty(), self.pause());
            let next_bytes = self.ready.front().map_or(0, Feed::bytes);
            tokio::select! {
                permit = feed.reserve(next_bytes), if !has_room => match (permit, self.ready.pop_front()) {
                    (Ok(permit), Some(fed)) => permit.send(fed),
                    _ => return,
                },
                // Held back until the history is over; from then on the network waits for the subscription.
                fed = live.recv(), if lives && (has_room || !self.core.is_live()) => match fed {
                    Some(Feed::Messages(messages)) => {
                        let effects = self.core.live(self.now(), messages, &mut self.rng);
                        self.carry_out(effects);
                    }
                    Some(other) => self.ready.push_back(other),
                    None => lives = false,
                },
                Some(came) = self.work.next(), if has_room && !self.work.is_empty() => self.came(came),
                () = tokio::time::sleep(pause), if has_room => {
                    let effects = self.core.tick(self.now(), &mut self.rng);
                    self.carry_out(effects);
                }
                () = feed.closed() => return,
            }
        }
    }

    fn now(&self) -> Moment {
        Moment { steady: Timestamp::from_millis(millis(self.began.elapsed())), clock: self.shared.now() }
    }

    fn pause(&self) -> Duration {
        let wake = self.core.next_wake().map(|at| at.since(self.now().steady).max(Duration::from_millis(1)));
        wake.unwrap_or(Duration::from_secs(3600))
    }

    fn came(&mut self, came: Came) {
        let now = self.now();
        let effects = match came {
            Came::Depots(depots) => {
                let names = depots.iter().map(|depot| depot.node).collect();
                self.number(depots);
                self.core.found(now, names, &mut self.rng)
            }
            Came::Page(id, answer) => self.core.page(now, id, answer, &mut self.rng),
            Came::Checked(id, messages) => self.core.checked(now, id, messages, &mut self.rng),
            Came::Met => self.core.met(now, &mut self.rng),
        };
        self.carry_out(effects);
    }

    /// Those of the look before may still be being asked; older ones are forgotten.
    fn number(&mut self, depots: Vec<Depot>) {
        if let Some(first_of_last) = self.last_look.replace(self.numbered) {
            self.depots.retain(|number, _| *number >= first_of_last);
        }
        for depot in depots {
            self.depots.insert(self.numbered, depot);
            self.numbered += 1;
        }
    }

    fn carry_out(&mut self, effects: Vec<ReplayEffect>) {
        for effect in effects {
            match effect {
                ReplayEffect::Ask { node, request } => {
                    let Some(depot) = self.depots.get(&node).cloned() else { continue };
                    self.work.push(Box::pin(ask(self.shared.clone(), depot, self.stream.clone(), request)));
                }
                ReplayEffect::Check { id, messages } => {
                    self.work.push(Box::pin(async move { Came::Checked(id, check(&messages).await) }));
                }
                ReplayEffect::Feed(messages) => self.ready.push_back(Feed::Messages(messages)),
                ReplayEffect::Tell(event) => self.ready.push_back(Feed::Tell(event)),
                ReplayEffect::Look => {
                    let (shared, stream) = (self.shared.clone(), self.stream.clone());
                    self.work.push(Box::pin(async move { Came::Depots(depots::find(&shared, &stream).await) }));
                }
                ReplayEffect::Meet => self.work.push(Box::pin(meet(self.shared.clone(), self.parts.clone()))),
                ReplayEffect::End => {
                    self.ready.push_back(Feed::End);
                    self.ended = true;
                }
            }
        }
    }
}

fn limits(shared: &Shared, held_back: usize) -> ReplayLimits {
    let usual = ReplayLimits::default();
    ReplayLimits {
        answer_timeout: shared.config.requester.key_request_timeout,
        live_window: shared.config.intake.live_window,
        fill_tries: shared.config.gap_fill.tries(),
        held_back_bytes: usual.held_back_bytes.min(held_back),
        ..usual
    }
}

/// Waits until somebody sends what is published from now on, for a while.
async fn meet(shared: Arc<Shared>, parts: Vec<StreamPart>) -> Came {
    let one = |part: StreamPart| {
        let shared = &shared;
        async move { drop(tokio::time::timeout(MEET, shared.network.wait_for_peers(&part.topic(), 1)).await) }
    };
    join_all(parts.into_iter().map(one)).await;
    Came::Met
}

async fn ask(shared: Arc<Shared>, depot: Depot, stream: StreamId, mut request: ResendRequest) -> Came {
    let id = request.id;
    let (worker, now) = (shared.clone(), shared.now());
    let proofs = blocking(move || worker.source.proofs(&stream, worker.user, now));
    request.proofs = proofs.await.unwrap_or_default();
    Came::Page(id, send(&shared, depot, request).await)
}

async fn send(shared: &Arc<Shared>, depot: Depot, request: ResendRequest) -> Result<ResendPage, StorageFault> {
    let signed = Verified::sign(request, &shared.identity);
    let envelope = signed.map_err(|_| StorageFault::Unreachable)?.envelope().to_vec();
    let answer: Bytes = if depot.peer == shared.network.local_peer() {
        // This client keeps the stream itself.
        resending::answer(shared, depot.peer, &envelope.into()).await.ok_or(StorageFault::Unreachable)?
    } else {
        let answer = shared.network.request(depot.peer, depot.addresses.clone(), envelope).await.map_err(|error| {
            tracing::debug!(node = %depot.node, %error, "a storage node was asked in vain");
            match error {
                RequestError::Closed(_) => StorageFault::Silent,
                _ => StorageFault::Unreachable,
            }
        });
        answer?.into()
    };
    let page = blocking(move || Received::<ResendPage>::decode(&answer).ok()?.verify().ok());
    let page = page.await.map_err(|_| StorageFault::Unreachable)?;
    let page = page.ok_or(StorageFault::Lied("an answer that nobody signed"))?.into_content();
    if page.node == depot.node {
        shared.answered.note(&depot);
    }
    Ok(page)
}

/// Decodes and checks every message, over the cores.
async fn check(messages: &[Bytes]) -> Option<Vec<Verified<MessageContent>>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let share = messages.len().div_ceil(cores).max(1);
    let jobs: Vec<_> = messages
        .chunks(share)
        .map(|share| {
            let share = share.to_vec();
            blocking(move || share.iter().map(verified).collect::<Option<Vec<_>>>())
        })
        .collect();
    let mut checked = Vec::with_capacity(messages.len());
    for job in join_all(jobs).await {
        checked.extend(job.ok()??);
    }
    Some(checked)
}

fn verified(envelope: &Bytes) -> Option<Verified<MessageContent>> {
    // A copy, so that no message keeps the whole page in memory.
    Received::decode(&Bytes::copy_from_slice(envelope)).ok()?.verify().ok()
}
