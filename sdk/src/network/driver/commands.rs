//! What handles ask for.

use super::{
    super::{Gate, handle::Command},
    Driver,
};

/// Callers waiting for a flush at once; beyond, the oldest is told early.
const MAX_FLUSHES: usize = 256;

impl<G: Gate> Driver<G> {
    pub(super) fn on_command(&mut self, command: Command) {
        // A caller that is gone needs no answer: failing to send one is fine everywhere here.
        match command {
            Command::Join { topic, reply } => drop(reply.send(self.join(&topic))),
            Command::Leave { topic, reply } => {
                self.leave(&topic);
                let _ = reply.send(());
            }
            Command::Flush { reply } => {
                self.take_outgoing();
                if self.flushes.len() >= MAX_FLUSHES {
                    self.flushes.remove(0);
                }
                self.flushes.push((self.outbox.mark(), reply));
            }
            Command::Addresses { reply } => drop(reply.send(self.addresses())),
            Command::AddressesOf { peers, reply } => {
                let of_peer = |peer| self.said.get(peer).cloned().unwrap_or_default();
                let _ = reply.send(peers.iter().map(of_peer).collect());
            }
            Command::ConnectedPeers { reply } => {
                let _ = reply.send(self.swarm.connected_peers().count());
            }
            Command::Dial { address, reply } => self.dial(address, reply),
            Command::Put { key, value, expires_in, reply } => self.put_record(key, value, expires_in, reply),
            Command::Forget { key, reply } => {
                self.forget_record(key);
                let _ = reply.send(());
            }
            Command::Get { key, reply } => self.get_record(key, reply),
            Command::Request(asked) => self.ask(asked),
            Command::Stop { reply } => drop(reply),
        }
    }
}
