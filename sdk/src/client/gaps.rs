//! What is missing among live messages: storage nodes are asked for it while the subscription waits.
//!
//! Nothing is looked for before a message names one before it that never came. Then storage nodes of the stream are found, and the
//! missing part of the chain is read as any history is: checked, from several nodes, each of which may lie or be away. The
//! subscription waits longer for what is missing only where there is a storage node to ask, and never longer than
//! [`GapFill`] says.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::bounded;
use super::config::GapFill;
use super::depots::{self, Depot};
use super::replaying::{self, Plan};
use super::shared::Shared;
use super::subscribing::Feed;
use crate::stream::StreamId;
use crate::subscriber::{Missing, Replay};
use crate::wire::{MessageContent, Verified};

/// Gaps that storage nodes are asked about at a time; further ones are only reported.
const FILLS: usize = 16;
/// How long a message that is missing may be on its way before storage is asked for it.
const FILL_AFTER: Duration = Duration::from_millis(100);
/// Between two tries.
const FILL_AGAIN: Duration = Duration::from_secs(2);
/// Messages that one gap may have to be filled, and their bytes.
const MOST: usize = 10_000;
const MOST_BYTES: usize = 16 << 20;
/// Storage nodes are looked for no more often.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// Pages waiting to be taken.
const PAGES: usize = 4;
const PAGES_BYTES: usize = 4 << 20;

/// What came of it.
pub(super) enum Filled {
    /// Storage nodes were looked for. There are some: gaps may be waited for so long.
    Wait(Duration),
    /// What was missing, as far as some node has it.
    Messages(Vec<Verified<MessageContent>>),
    /// Nothing to do.
    Nothing,
}

enum Came {
    Depots(Vec<Depot>),
    Read(Vec<Verified<MessageContent>>),
}

/// The gaps of one subscription.
pub(super) struct Gaps {
    shared: Arc<Shared>,
    stream: StreamId,
    strategy: GapFill,
    /// Most bytes of messages that fill one.
    most: usize,
    /// Those that are looked into; dropping the sender ends it.
    open: Vec<(Missing, oneshot::Sender<()>)>,
    /// `None` until they were looked for.
    depots: watch::Sender<Option<Vec<Depot>>>,
    looked: Option<Instant>,
    work: FuturesUnordered<BoxFuture<'static, Came>>,
}

impl Gaps {
    pub(super) fn new(shared: Arc<Shared>, stream: StreamId, strategy: GapFill, most: usize) -> Self {
        let depots = watch::Sender::new(None);
        let (open, most) = (Vec::new(), most.min(MOST_BYTES));
        Self { shared, stream, strategy, most, open, depots, looked: None, work: FuturesUnordered::new() }
    }

    /// Whether [`Gaps::next`] will bring anything.
    pub(super) fn any_under_way(&self) -> bool {
        !self.work.is_empty()
    }

    /// What is missing just now; what was missing before and is no more is looked into no further.
    pub(super) fn note(&mut self, missing: Vec<Missing>) {
        let tries = self.strategy.tries();
        if tries == 0 {
            return;
        }
        self.open.retain(|(gap, _)| missing.contains(gap));
        for gap in missing {
            if self.open.len() >= FILLS {
                return;
            }
            if self.open.iter().all(|(open, _)| *open != gap) {
                self.look();
                let (keep, dropped) = oneshot::channel();
                let filling = fill(
                    self.shared.clone(),
                    self.stream.clone(),
                    self.depots.subscribe(),
                    gap.clone(),
                    tries,
                    self.most,
                );
                self.open.push((gap, keep));
                self.work.push(Box::pin(async move {
                    tokio::select! {
                        found = filling => Came::Read(found),
                        _ = dropped => Came::Read(Vec::new()),
                    }
                }));
            }
        }
    }

    /// The next that comes of it. Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Filled {
        match self.work.next().await {
            None => Filled::Nothing,
            Some(Came::Read(found)) if found.is_empty() => Filled::Nothing,
            Some(Came::Read(found)) => Filled::Messages(found),
            Some(Came::Depots(depots)) => {
                let any = !depots.is_empty();
                self.depots.send_replace(Some(depots));
                let wait = self.strategy.wait(&self.shared.config.intake);
                if any { Filled::Wait(wait) } else { Filled::Nothing }
            }
        }
    }

    fn look(&mut self) {
        if self.looked.is_none_or(|at| at.elapsed() >= LOOK_AGAIN) {
            self.looked = Some(Instant::now());
            let (shared, stream) = (self.shared.clone(), self.stream.clone());
            self.work.push(Box::pin(async move { Came::Depots(depots::find(&shared, &stream).await) }));
        }
    }
}

/// Tries until something was found.
async fn fill(
    shared: Arc<Shared>,
    stream: StreamId,
    mut depots: watch::Receiver<Option<Vec<Depot>>>,
    gap: Missing,
    tries: u32,
    most: usize,
) -> Vec<Verified<MessageContent>> {
    for attempt in 0..tries {
        // It may only have come by a longer way; and a storage node has to store it first.
        tokio::time::sleep(if attempt == 0 { FILL_AFTER } else { FILL_AGAIN }).await;
        let Ok(known) = depots.wait_for(Option::is_some).await.map(|known| known.clone()) else { break };
        let Some(known) = known.filter(|known| !known.is_empty()) else { break };
        let found = read(&shared, &stream, known, &gap, most).await;
        if !found.is_empty() {
            return found;
        }
    }
    Vec::new()
}

/// The missing part of the chain, in order.
async fn read(
    shared: &Arc<Shared>,
    stream: &StreamId,
    depots: Vec<Depot>,
    gap: &Missing,
    most: usize,
) -> Vec<Verified<MessageContent>> {
    let (publisher, chain) = gap.chain;
    let replay = Replay::range(gap.after.timestamp, gap.until.timestamp).chain(publisher, chain);
    let (feed, mut fed) = bounded::channel(PAGES, most.min(PAGES_BYTES));
    let (parts, depots) = (vec![gap.part.clone()], Some(depots));
    let plan = Plan { stream: stream.clone(), parts, replay, depots, feed, held_back: most };
    let reading = replaying::history(shared.clone(), plan);
    let taking = async {
        let (mut found, mut bytes): (Vec<Verified<MessageContent>>, _) = (Vec::new(), 0);
        while let Some(fed) = fed.recv().await {
            bytes += fed.bytes();
            match fed {
                Feed::Messages(messages) => found.extend(messages),
                // Nobody is to be blamed for what may have been stored by nobody.
                Feed::Tell(_) => {}
                Feed::End => break,
            }
            if found.len() >= MOST || bytes >= most {
                break;
            }
        }
        found.retain(|message| message.content().at > gap.after && message.content().at <= gap.until);
        found
    };
    tokio::pin!(reading);
    tokio::select! {
        found = taking => found,
        () = async { reading.await; std::future::pending().await } => Vec::new(),
    }
}
