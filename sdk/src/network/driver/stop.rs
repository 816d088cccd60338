//! Stopping: what was queued goes out, then connections close and ports are free.

use std::time::{Duration, Instant};

use futures::StreamExt;
use libp2p::PeerId;

use super::{
    super::{Gate, listen},
    Driver,
};

/// Peers that do not drain get so long.
const DRAIN: Duration = Duration::from_secs(5);
/// What gossip took may still be on its way to the sockets; it does not tell. So long, when something was sent at all.
const LINGER: Duration = Duration::from_millis(150);
/// Peers get so long to see the connection close in good order.
const CLOSE: Duration = Duration::from_millis(500);
/// QUIC answers stragglers for a few round trips before it gives its socket up.
const DRAIN_QUIC: Duration = Duration::from_secs(3);

impl<G: Gate> Driver<G> {
    pub(super) async fn stop(mut self) {
        self.commands.close();
        self.outgoing.close();
        while let Ok(outgoing) = self.outgoing.try_recv() {
            self.outbox.push(outgoing);
        }
        let deadline = Instant::now() + DRAIN;
        self.send_outbox(Instant::now());
        while !self.outbox.is_empty() && Instant::now() < deadline {
            let pause = self.retry.unwrap_or(deadline).min(deadline);
            self.drive_until(pause).await;
            self.send_outbox(Instant::now());
        }
        if self.outbox.mark() > 0 && self.swarm.connected_peers().next().is_some() {
            self.drive_until(Instant::now() + LINGER).await;
        }
        self.close().await;
    }

    async fn close(mut self) {
        let peers: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        for peer in peers {
            // An error says that the peer is gone already.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let end = tokio::time::sleep(CLOSE);
        tokio::pin!(end);
        while self.swarm.connected_peers().next().is_some() {
            tokio::select! {
                _ = self.swarm.select_next_some() => {}
                () = &mut end => break,
            }
        }
        let addresses: Vec<_> = self.swarm.listeners().cloned().collect();
        drop(self);
        let end = Instant::now() + DRAIN_QUIC;
        while addresses.iter().any(listen::is_draining) && Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Lets the swarm work, without taking anything new in.
    async fn drive_until(&mut self, time: Instant) {
        let end = tokio::time::sleep_until(time.into());
        tokio::pin!(end);
        loop {
            tokio::select! {
                _ = self.swarm.select_next_some() => {}
                () = &mut end => return,
            }
        }
    }
}
