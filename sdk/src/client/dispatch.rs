//! What the network hears, routed: messages to subscriptions, records to the directory, requests to their answers.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::bounded::NoRoom;
use super::config::SlowReader;
use super::gate::Admitted;
use super::metrics::Lost;
use super::shared::{Reader, Shared};
use super::stats::count;
use super::subscribing::Feed;
use super::{announcing, answering, finding};
use crate::network::{NetworkEvent, Requested};
use crate::stream::StreamPart;
use crate::wire::{MessageContent, Verified};

pub(super) async fn run(shared: Arc<Shared>, mut events: mpsc::Receiver<NetworkEvent<Admitted>>) {
    while let Some(event) = events.recv().await {
        match event {
            NetworkEvent::Frame { accepted, .. } => frame(&shared, accepted).await,
            NetworkEvent::PeerJoined { topic, .. } => {
                announcing::peer_joined(&shared, &topic);
                if let Some(storage) = &shared.storage {
                    storage.owners.hear(&topic);
                }
            }
            NetworkEvent::Connected { .. } | NetworkEvent::NewListenAddress(_) => {
                announcing::soon(&shared);
                shared.depots_soon.notify_one();
            }
            _ => {}
        }
    }
}

/// Requests go a way of their own: they are answered also while frames wait, for a disk or for an application.
pub(super) async fn answer(shared: Arc<Shared>, mut requests: mpsc::Receiver<Requested>) {
    while let Some(Requested { from, request, reply }) = requests.recv().await {
        // The network bounds how many are under way, in total and per peer.
        let answering = shared.clone();
        shared.spawn(async move {
            if let Some(answer) = answering::handle(&answering, from, request.into()).await {
                reply.send(answer.to_vec());
            }
        });
    }
}

async fn frame(shared: &Shared, admitted: Admitted) {
    for record in admitted.records {
        finding::learn(shared, record);
    }
    if admitted.messages.is_empty() {
        return;
    }
    count(&shared.counters.messages_received, admitted.messages.len());
    if let Some(storage) = &shared.storage {
        storage.offer(admitted.part.stream(), admitted.messages.clone()).await;
    }
    to_readers(shared, &admitted.part, &admitted.messages).await;
}

/// Whoever subscribes to this partition here is given these messages.
pub(super) async fn to_readers(shared: &Shared, part: &StreamPart, messages: &[Verified<MessageContent>]) {
    for reader in shared.readers_of(part.stream()).into_iter().filter(|reader| reader.reads(part)) {
        hand_over(shared, &reader, messages.to_vec()).await;
    }
}

async fn hand_over(shared: &Shared, reader: &Reader, messages: Vec<Verified<MessageContent>>) {
    let (n, feed) = (messages.len(), Feed::Messages(messages));
    let room = match shared.config.slow_reader {
        SlowReader::Wait => reader.messages.reserve(feed.bytes()).await,
        SlowReader::Lose => reader.messages.try_reserve(feed.bytes()),
    };
    match room {
        Ok(room) => room.send(feed),
        // The chain reference of the next message shows the reader what is missing.
        Err(NoRoom::Full) => {
            count(&shared.counters.messages_lost, n);
            shared.meters.lost(Lost::SlowReader, n);
        }
        Err(NoRoom::Closed) => {}
    }
}
