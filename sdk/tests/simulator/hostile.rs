//! Hostile peers: they hear everything, and say what they like to whom they like.

use std::collections::BTreeMap;

use rand::RngExt;
use rand::rngs::StdRng;
use veilcast::identity::Identity;

use crate::ambush::Trap;
use crate::network::{Body, Packet, Place, flip_bits};
use crate::world::World;

/// What a hostile peer does at one moment of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mischief {
    /// Something heard before, to whom it was for.
    Replay,
    /// Every frame heard so far, to one subscriber.
    ReplayChains,
    /// A request heard before, at once or much later.
    ReplayRequest,
    /// An answer or push heard before, to somebody else or on another call.
    Redirect,
    /// Something heard before, with bits flipped.
    Damage,
    /// Many requests at once.
    Flood,
    /// A message of its own, well signed.
    Intrude,
    /// Statements in the name of others, signed by itself.
    ForgeMessage,
    ForgeRequest,
    ForgePush,
    /// Asks in its own name for keys it heard of.
    Ask,
    /// A subscriber's modified client: asks for every key it heard of, refused or not.
    AskAsInsider,
    /// The same, by spans of time instead of names.
    AskAsHistorian,
    /// The same, for keys of the other stream.
    AskAcross,
    /// Asks under the id of somebody else's request.
    StealId,
    /// Bytes that are nothing.
    Garbage,
    /// A request for more keys, and a frame of more messages, than anybody may send.
    Oversize,
    /// Lies in wait for the next request.
    Lurk(Trap),
}

impl Mischief {
    const ALL: [Self; 21] = [
        Self::Replay,
        Self::ReplayChains,
        Self::ReplayRequest,
        Self::Redirect,
        Self::Damage,
        Self::Flood,
        Self::Intrude,
        Self::ForgeMessage,
        Self::ForgeRequest,
        Self::ForgePush,
        Self::Ask,
        Self::AskAsInsider,
        Self::AskAsHistorian,
        Self::AskAcross,
        Self::StealId,
        Self::Garbage,
        Self::Oversize,
        Self::Lurk(Trap::Forge),
        Self::Lurk(Trap::Stranger),
        Self::Lurk(Trap::Unasked),
        Self::Lurk(Trap::Repeat),
    ];

    pub(crate) fn any(rng: &mut StdRng) -> Self {
        Self::ALL[rng.random_range(0..Self::ALL.len())]
    }
}

/// The hostile peer.
pub(crate) struct Hostile {
    pub(crate) identity: Identity,
    pub(crate) traps: Vec<Trap>,
}

impl Hostile {
    pub(crate) fn new(rng: &mut StdRng) -> Self {
        Self { identity: Identity::generate(rng), traps: Vec::new() }
    }
}

impl World {
    pub(crate) fn mischief(&mut self, mischief: Mischief) {
        self.env.figures.mischief += 1;
        match mischief {
            Mischief::Replay => self.replay(|_| true, false),
            Mischief::Damage => self.replay(|_| true, true),
            Mischief::ReplayRequest => self.replay_request(),
            Mischief::ReplayChains => self.replay_chains(),
            Mischief::Redirect => self.redirect(),
            Mischief::Flood => self.flood(),
            Mischief::Intrude => self.intrude(),
            Mischief::ForgeMessage => self.forge_message(),
            Mischief::ForgeRequest => self.forge_request(),
            Mischief::ForgePush => self.forge_push(),
            Mischief::Ask => self.ask_as_stranger(),
            Mischief::AskAsInsider => self.ask_as_insider(false),
            Mischief::AskAsHistorian => self.ask_as_historian(),
            Mischief::AskAcross => self.ask_as_insider(true),
            Mischief::StealId => self.steal_id(),
            Mischief::Garbage => self.garbage(),
            Mischief::Oversize => self.oversize(),
            Mischief::Lurk(trap) => self.hostile.traps.push(trap),
        }
    }

    /// Something of this kind that was heard; the oldest as often as any other.
    pub(crate) fn heard(&mut self, kind: impl Fn(&Body) -> bool) -> Option<Packet> {
        let all: Vec<usize> = (0..self.env.net.tape.len()).filter(|n| kind(&self.env.net.tape[*n].body)).collect();
        let last = all.len().checked_sub(1)?;
        let chosen = if self.env.rng.random_bool(0.3) { 0 } else { self.env.rng.random_range(0..=last) };
        Some(self.env.net.tape[all[chosen]].clone())
    }

    pub(crate) fn say(&mut self, to: Place, body: Body) {
        self.env.send(Place::Hostile, to, body);
    }

    fn replay(&mut self, kind: impl Fn(&Body) -> bool, damaged: bool) {
        for _ in 0..3 {
            let Some(mut packet) = self.heard(&kind) else { return };
            if damaged {
                flip_bits(packet.body.bytes_mut(), &mut self.env.rng);
            }
            self.say(packet.to, packet.body);
        }
    }

    /// To whom it was for, and to somebody else.
    fn replay_request(&mut self) {
        self.replay(|body| matches!(body, Body::Request(_)), false);
        let Some(packet) = self.heard(|body| matches!(body, Body::Request(_))) else { return };
        let other = self.env.rng.random_range(0..self.publishers.len());
        self.say(Place::Publisher(other), packet.body);
    }

    fn replay_chains(&mut self) {
        let to = self.some_subscriber();
        let framed = |packet: &Packet| match &packet.body {
            Body::Frame(part, bytes) => Some((bytes.clone(), part.clone())),
            _ => None,
        };
        let frames: BTreeMap<_, _> = self.env.net.tape.iter().filter_map(framed).collect();
        for (bytes, part) in frames {
            self.say(to, Body::Frame(part, bytes));
        }
    }

    /// On a call that is open now, if there is one; else to any subscriber.
    fn redirect(&mut self) {
        let Some(packet) = self.heard(|body| matches!(body, Body::Answer(..) | Body::Push(_))) else { return };
        let number = self.env.rng.random_range(0..self.subscribers.len());
        let open = self.subscribers[number].run.as_ref().and_then(|run| run.log.last);
        let body = match (packet.body, open) {
            (Body::Answer(_, bytes), Some(call)) => Body::Answer(call, bytes),
            (body, _) => body,
        };
        self.say(Place::Subscriber(number), body);
    }

    fn some_subscriber(&mut self) -> Place {
        Place::Subscriber(self.env.rng.random_range(0..self.subscribers.len()))
    }
}
