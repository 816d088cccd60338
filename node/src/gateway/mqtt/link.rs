//! One connection as the protocol sees it: bytes in, packets out, and what must be sent. It waits for nothing and reads no clock.
//!
//! Packets are taken apart and put together by `mqtt-protocol-core`, which keeps the state of both versions as well: packet ids, what
//! is acknowledged, the keep-alive, the largest packet that either side takes.

use std::collections::HashMap;
use std::time::Duration;

use mqtt_protocol_core::mqtt::common::Cursor;
use mqtt_protocol_core::mqtt::connection::ConnectionOptions;
use mqtt_protocol_core::mqtt::packet::{GenericPacketTrait, Packet};
use mqtt_protocol_core::mqtt::prelude::{Event, TimerKind};
use mqtt_protocol_core::mqtt::result_code::MqttError;
use mqtt_protocol_core::mqtt::{Connection, Version, role};
use tokio::time::Instant;

use super::heads::Heads;
use super::no::Reason;

/// What may wait to be sent before nothing more is done for a client, bytes; the last packet may go beyond.
const OUTGOING: usize = 64 * 1024;
/// What a client may send before it has logged in, bytes: its name, its key, and a small will.
const BEFORE_LOGIN: usize = 32 * 1024;
/// Messages with QoS 2 that a client may have on their way to here.
const INCOMING: u16 = 256;
/// Messages on their way to a client that it has not acknowledged: so many, or so many bytes, the last beyond that. Those of a client
/// that asks for a session are held until it does.
const UNACKNOWLEDGED: usize = 64;
const UNACKNOWLEDGED_BYTES: usize = 1 << 20;

/// The state of one connection.
pub(super) struct Link {
    core: Connection<role::Server>,
    heads: Heads,
    /// Why what came is refused from some packet on: nothing further is taken in.
    refused: Option<Reason>,
    /// Read, and understood up to `at`.
    inbox: Vec<u8>,
    at: usize,
    /// To be sent, and sent up to `sent`.
    outbox: Vec<u8>,
    sent: usize,
    /// When the client will have been silent for too long.
    silent_at: Option<Instant>,
    silence: Option<Duration>,
    /// Messages that it has not acknowledged, and their bytes.
    unacknowledged: HashMap<u16, usize>,
    welcome: bool,
    before_login: usize,
}

/// The connection cannot go on: what the client is told, if anything, is to be sent already.
#[derive(Debug, thiserror::Error)]
#[error("{why}")]
pub(super) struct Broken {
    pub(super) reason: Reason,
    why: String,
}

impl Broken {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self::because(Reason::Protocol, why)
    }

    fn because(reason: Reason, why: impl Into<String>) -> Self {
        Self { reason, why: why.into() }
    }
}

impl Link {
    /// For packets of so many bytes at most.
    pub(super) fn new(largest: usize) -> Self {
        let largest = u32::try_from(largest).unwrap_or(u32::MAX);
        let options = ConnectionOptions::new().maximum_packet_size_recv(largest).receive_maximum(INCOMING);
        Self {
            core: Connection::with_options(Version::Undetermined, options),
            heads: Heads::new(),
            refused: None,
            inbox: Vec::new(),
            at: 0,
            outbox: Vec::new(),
            sent: 0,
            silent_at: None,
            silence: None,
            unacknowledged: HashMap::new(),
            welcome: false,
            before_login: 0,
        }
    }

    /// Whether this is version 5, which is told why.
    pub(super) fn is_v5(&self) -> bool {
        self.core.get_protocol_version() == Version::V5_0
    }

    /// The client has logged in.
    pub(super) fn welcome(&mut self) {
        self.welcome = true;
    }

    /// Bytes that came.
    ///
    /// # Errors
    /// [`Broken`]: so many from somebody who has not logged in.
    pub(super) fn came(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        if !self.welcome {
            self.before_login += bytes.len();
            if self.before_login > BEFORE_LOGIN {
                return Err(Broken::new("it sends too much before it has logged in"));
            }
        }
        self.inbox.drain(..self.at);
        self.at = 0;
        if self.refused.is_none() {
            let looked = self.heads.came(bytes);
            self.refused = looked.err().map(|refused| refused.reason);
            self.inbox.extend_from_slice(looked.map_or_else(|refused| &bytes[..refused.at], |()| bytes));
        }
        Ok(())
    }

    /// The next packet of what came, if it is whole.
    ///
    /// # Errors
    /// [`Broken`]: it is none, or not at this point.
    pub(super) fn next(&mut self, now: Instant) -> Result<Option<Packet>, Broken> {
        while self.at < self.inbox.len() {
            let mut cursor = Cursor::new(&self.inbox[self.at..]);
            let events = self.core.recv(&mut cursor);
            self.at += usize::try_from(cursor.position()).unwrap_or(usize::MAX);
            if let Some(packet) = self.take(events, now)? {
                return Ok(Some(packet));
            }
        }
        match self.refused {
            Some(Reason::TooLarge) => {
                Err(Broken::because(Reason::TooLarge, "a packet is too large beside its payload"))
            }
            Some(reason) => Err(Broken::because(reason, "a packet has flags that its kind has not")),
            None => Ok(None),
        }
    }

    /// To be sent.
    ///
    /// # Errors
    /// [`Broken`]: not at this point, or it is larger than the client takes.
    pub(super) fn send(&mut self, packet: Packet, now: Instant) -> Result<(), Broken> {
        let events = self.core.send(packet);
        self.take(events, now).map(drop)
    }

    fn take(&mut self, events: Vec<Event>, now: Instant) -> Result<Option<Packet>, Broken> {
        let (mut received, mut broken) = (None, None);
        for event in events {
            match event {
                Event::NotifyPacketReceived(packet) => received = Some(packet),
                Event::RequestSendPacket { packet, .. } => self.outbox.extend(packet.to_continuous_buffer()),
                Event::RequestTimerReset { kind: TimerKind::PingreqRecv, duration_ms } => {
                    self.silence = Some(Duration::from_millis(duration_ms));
                    self.heard(now);
                }
                Event::RequestTimerCancel(TimerKind::PingreqRecv) => (self.silence, self.silent_at) = (None, None),
                Event::NotifyPacketIdReleased(id) => drop(self.unacknowledged.remove(&id)),
                Event::NotifyError(error) => broken = Some(Broken::new(said(error))),
                Event::RequestClose => broken = broken.or_else(|| Some(Broken::new("the protocol says so"))),
                // Those of a client.
                Event::RequestTimerReset { .. } | Event::RequestTimerCancel(_) => {}
            }
        }
        broken.map_or(Ok(received), Err)
    }

    /// The client is there; or could not have been heard.
    pub(super) fn heard(&mut self, now: Instant) {
        self.silent_at = self.silence.map(|silence| now + silence);
    }

    /// When it will have been silent for too long.
    pub(super) const fn silent_at(&self) -> Option<Instant> {
        self.silent_at
    }

    /// It was.
    pub(super) fn is_silent(&mut self, now: Instant) -> Broken {
        let events = self.core.notify_timer_fired(TimerKind::PingreqRecv);
        let _ = self.take(events, now);
        Broken::new("it was silent for longer than its keep-alive")
    }

    /// An id for a message of so many bytes that the client is to acknowledge.
    pub(super) fn packet_id(&mut self, bytes: usize) -> Option<u16> {
        let id = self.core.acquire_packet_id().ok()?;
        self.unacknowledged.insert(id, bytes);
        Some(id)
    }

    /// What was to have this id is not sent.
    pub(super) fn give_back(&mut self, id: u16, now: Instant) {
        let events = self.core.release_packet_id(id);
        let _ = self.take(events, now);
    }

    /// Whether the client may be sent one more that it is to acknowledge.
    pub(super) fn has_credit(&self) -> bool {
        let bytes: usize = self.unacknowledged.values().sum();
        let room = self.unacknowledged.len() < UNACKNOWLEDGED && bytes < UNACKNOWLEDGED_BYTES;
        room && self.core.get_receive_maximum_vacancy_for_send() != Some(0)
    }

    /// How many it has not acknowledged.
    pub(super) fn unacknowledged(&self) -> usize {
        self.unacknowledged.len()
    }

    /// The number of the packet that has begun to come and is not whole, once everything that came is understood.
    pub(super) const fn incomplete(&self) -> Option<u64> {
        self.heads.incomplete()
    }

    /// What is to be sent.
    pub(super) fn outgoing(&self) -> &[u8] {
        &self.outbox[self.sent..]
    }

    /// So much of it was.
    pub(super) fn went(&mut self, bytes: usize) {
        self.sent += bytes;
        if self.sent >= self.outbox.len() {
            self.outbox = Vec::new();
            self.sent = 0;
        }
    }

    /// Whether more may be done for the client: it takes what it gets.
    pub(super) fn has_room(&self) -> bool {
        self.outgoing().len() < OUTGOING
    }
}

/// What is wrong with what came. Nothing of it is repeated.
fn said(error: MqttError) -> String {
    format!("it breaks the protocol: {error}")
}
