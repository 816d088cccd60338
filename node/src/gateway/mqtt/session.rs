//! One client, from its first byte to its last. One task owns all of it.
//!
//! ```text
//! CONNECT ─▶ let in ─▶ packets, messages, acknowledgements, as they come ─▶ DISCONNECT, or an end of ours
//! ```
//! One packet is dealt with at a time: while a message is being published nothing further is read, so that messages keep their order
//! and nothing piles up here.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::{Instant, timeout};

use super::super::Gateway;
use super::super::caller::{self, Caller};
use super::super::crowd::Seat;
use super::super::feed::Live;
use super::super::journal::{NOBODY, Peer, STRANGER};
use super::super::live;
use super::super::meters;
use super::answer::{Made, Tongue};
use super::clients::Place;
use super::line::{Line, Lost, at};
use super::link::{Broken, Link};
use super::login::{self, Client, LastWill};
use super::no::{No, Reason};
use super::said::{Delivery, Hello, Publish, Said, Subscribe};
use super::subscriptions::{self, Subscriptions, Taken};
use super::{Shared, content};
use crate::api_key::Verb;

/// How long a message that is being published when the connection ends is waited for, to acknowledge it.
const GRACE: Duration = Duration::from_secs(8);

/// Why a connection ends.
enum End {
    /// The client is gone, or broke the protocol and was told.
    Lost(Lost),
    /// It said goodbye.
    Bye { with_will: bool },
    /// It is told to go.
    Told(No),
}

impl From<Lost> for End {
    fn from(lost: Lost) -> Self {
        Self::Lost(lost)
    }
}

impl From<Broken> for End {
    fn from(broken: Broken) -> Self {
        Self::Lost(broken.into())
    }
}

impl From<No> for End {
    fn from(no: No) -> Self {
        Self::Told(no)
    }
}

/// What was under way.
enum Done {
    Published(Delivery, Result<(), No>),
    Subscribed(u16, Vec<Begun>),
}

/// A subscription, begun: its topic, whether its messages are acknowledged, and where they come from.
type Begun = Result<(String, bool, Live), No>;

/// One connection, to its end.
pub(super) async fn serve(stream: tokio::net::TcpStream, peer: SocketAddr, seat: Seat, door: Arc<Shared>) {
    let mut line = Line::new(stream, Link::new(door.limits.largest(&door.gateway)), door.limits.write_timeout);
    let met = tokio::select! {
        met = timeout(door.limits.connect_timeout, hello(&mut line)) => met,
        () = seat.given_up() => return,
        () = door.gateway.stops() => return,
    };
    let hello = match met {
        Ok(Ok(hello)) => hello,
        Ok(Err(lost)) => {
            refused(&door, NOBODY, peer, "MQTT login", &No::new(Reason::Protocol, lost.to_string()));
            return see_off(line, &seat).await;
        }
        Err(_) => {
            return refused(&door, NOBODY, peer, "MQTT login", &No::new(Reason::Protocol, "it did not log in in time"));
        }
    };
    let tongue = Tongue { v5: line.link.is_v5(), problems: hello.problems };
    let now = Instant::now();
    match login::admit(&door.gateway, &door.clients, hello, &seat) {
        Err(no) => {
            let who = if no.is_a_stranger() { STRANGER } else { NOBODY };
            refused(&door, who, peer, "MQTT login", &no);
            if let Ok(refused) = tongue.not_welcome(&no) {
                let _ = line.link.send(refused, now);
            }
            see_off(line, &seat).await;
        }
        Ok(Client { caller, place, will, welcome }) => {
            tracing::info!(who = caller.name(), %peer, "an MQTT client logged in");
            line.link.welcome();
            let sent = tongue.welcome(welcome).is_ok_and(|welcome| line.link.send(welcome, now).is_ok());
            let caller = Arc::new(caller);
            let (subscriptions, received) = (Subscriptions::default(), HashSet::new());
            let _counted = door.gateway.meters.client();
            let session = Session { line, tongue, door, caller, peer, busy: None, subscriptions, received, _counted };
            if sent { session.run(place, will).await } else { see_off(session.line, &seat).await }
        }
    }
}

/// The first packet.
async fn hello(line: &mut Line) -> Result<Hello, Lost> {
    loop {
        match line.link.next(Instant::now())?.map(Said::of) {
            Some(Said::Hello(hello)) => return Ok(hello),
            Some(_) => return Err(Broken::new("its first packet is no CONNECT").into()),
            None => line.turn(true).await?,
        }
    }
}

/// Tells the log what was refused, unless there was enough of that.
fn refused(door: &Shared, who: &str, peer: SocketAddr, what: &'static str, no: &No) {
    door.gateway.journal.refused(&door.gateway, who, Peer(Some(peer)), no.is_grave(), what, no.why());
}

/// What was said last arrives, unless the seat is another's already.
async fn see_off(line: Line, seat: &Seat) {
    tokio::select! {
        () = line.end() => {}
        () = seat.given_up() => {}
    }
}

struct Session {
    line: Line,
    tongue: Tongue,
    door: Arc<Shared>,
    caller: Arc<Caller>,
    peer: SocketAddr,
    /// Until this is done no further packet is dealt with.
    busy: Option<BoxFuture<'static, Done>>,
    subscriptions: Subscriptions,
    /// Messages with QoS 2 that were published, and of which the client has not said that it knows; the protocol's state bounds them.
    received: HashSet<u16>,
    _counted: meters::Client,
}

impl Session {
    async fn run(mut self, place: Place, will: Option<LastWill>) {
        let end = match self.talk(&place).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        let (who, peer) = (self.caller.name(), self.peer);
        match &end {
            End::Bye { .. } => tracing::info!(who, %peer, "an MQTT client left"),
            End::Lost(lost) => tracing::info!(who, %peer, why = %lost, "an MQTT client is gone"),
            End::Told(no) => tracing::info!(who, %peer, why = no.why(), "an MQTT client was told to go"),
        }
        let cut_off = cut_off(self.caller.clone(), self.door.clone()).boxed().shared();
        match &end {
            End::Told(no) => {
                tokio::select! {
                    biased;
                    () = self.finish() => {}
                    () = cut_off.clone() => {}
                }
                self.tell(no);
            }
            // Unless it was told already.
            End::Lost(Lost::Broken(broken)) => self.tell(&No::new(broken.reason, broken.to_string())),
            End::Lost(_) | End::Bye { .. } => {}
        }
        self.leave(&end, will);
        let Self { line, subscriptions, .. } = self;
        drop(subscriptions);
        drop(place);
        tokio::select! {
            biased;
            () = line.end() => {}
            () = cut_off => {}
        }
    }

    fn tell(&mut self, no: &No) {
        if let Some(bye) = self.tongue.bye(no) {
            let _ = self.line.link.send(bye, Instant::now());
        }
    }

    /// What is being published is acknowledged, if it takes no longer than it may.
    async fn finish(&mut self) {
        let Some(busy) = self.busy.take() else { return };
        if let Ok(done) = timeout(GRACE, busy).await {
            let _ = self.done(done);
        }
    }

    /// Publishes the will of a client that went without a word. A node that stops and a key that was revoked leave none.
    fn leave(&self, end: &End, will: Option<LastWill>) {
        let gateway = &self.door.gateway;
        let wanted = !matches!(end, End::Bye { with_will: false });
        let stops = *gateway.stopping.borrow();
        if let Some(will) = will.filter(|_| wanted && !stops && self.caller.still_may(gateway).is_ok()) {
            let (door, who, peer) = (self.door.clone(), self.caller.name().to_owned(), self.peer);
            self.door.gateway.work.spawn(async move {
                if let Err(error) = will.to.publish(&door.gateway, will.payload).await {
                    refused(&door, &who, peer, "MQTT will", &error.into());
                }
            });
        }
    }

    /// Until there is a reason to end.
    async fn talk(&mut self, place: &Place) -> Result<std::convert::Infallible, End> {
        let (door, caller) = (self.door.clone(), self.caller.clone());
        let (mut stuck, mut slow) = (Stuck::default(), Slow::default());
        let ends = caller.ends(&door.gateway);
        tokio::pin!(ends);
        loop {
            while self.busy.is_none() && self.line.link.has_room() {
                let Some(packet) = self.line.link.next(Instant::now())? else { break };
                self.hear(Said::of(packet))?;
            }
            let (credit, room) = (self.line.link.has_credit(), self.line.link.has_room());
            let stuck_until = stuck.until(&self.line.link, Instant::now(), door.limits.write_timeout);
            let reads = self.busy.is_none() && room;
            let slow_until =
                slow.until(self.line.link.incomplete().filter(|_| reads), door.gateway.settings.body_timeout);
            let silent_at = self.line.link.silent_at();
            let Self { line, busy, subscriptions, .. } = self;
            tokio::select! {
                done = finished(busy) => self.done(done)?,
                turned = line.turn(reads) => turned?,
                taken = subscriptions.next(credit), if room => {
                    let taken = taken.ok_or_else(stopping)?;
                    self.deliver(&taken);
                }
                () = at(silent_at) => self.is_silent(reads)?,
                () = at(stuck_until) => {
                    self.is_stuck(reads)?;
                    stuck = Stuck::default();
                }
                () = at(slow_until) => self.is_slow()?,
                // Whoever takes a place takes the seat as well.
                end = ends.as_mut() => return Err(if place.is_taken_over() { taken_over() } else { ended(end) }.into()),
                () = place.taken_over() => return Err(taken_over().into()),
            }
        }
    }

    /// A client that was not listened to was not silent, and neither was one of whom something lies here.
    fn is_silent(&mut self, listened: bool) -> Result<(), End> {
        let now = Instant::now();
        if listened && !self.line.read()? {
            return Err(self.line.link.is_silent(now).into());
        }
        self.line.link.heard(now);
        Ok(())
    }

    /// The same of its acknowledgements.
    fn is_stuck(&mut self, listened: bool) -> Result<(), End> {
        if listened && !self.line.read()? {
            return Err(No::new(Reason::Quota, "the client acknowledges nothing of what is sent to it").into());
        }
        Ok(())
    }

    /// Whatever lies here of a packet that takes too long may be the rest of it, and nothing else is waited for.
    fn is_slow(&mut self) -> Result<(), End> {
        let began = self.line.link.incomplete();
        while self.line.read()? {
            if self.line.link.incomplete() != began {
                return Ok(());
            }
        }
        Err(No::new(Reason::Quota, "a packet took too long").into())
    }

    fn hear(&mut self, said: Said) -> Result<(), End> {
        let protocol = |why: &str| Err(No::new(Reason::Protocol, why).into());
        match said {
            Said::Publish(publish) => self.publish(publish),
            Said::Release { id } => {
                let known = self.received.remove(&id);
                self.answer(|tongue| tongue.completed(id, known))
            }
            Said::Subscribe(subscribe) => self.subscribe(subscribe),
            Said::Unsubscribe { id, filters } => {
                let found: Vec<bool> = filters.iter().map(|topic| self.subscriptions.remove(topic)).collect();
                self.answer(|tongue| tongue.unsubscribed(id, &found))
            }
            Said::Ping => self.answer(|tongue| Ok(tongue.pong())),
            Said::Bye { with_will } => Err(End::Bye { with_will }),
            Said::Nothing => Ok(()),
            Said::Hello(_) => protocol("a client logs in once"),
            Said::Unexpected => protocol("this packet has no place here"),
        }
    }

    fn publish(&mut self, publish: Publish) -> Result<(), End> {
        if publish.retain {
            return Err(No::new(Reason::Retain, "nothing is retained here").into());
        }
        let delivery = publish.delivery;
        let begun = self.begin(publish);
        match begun {
            Ok(published) => self.busy = Some(Box::pin(async move { Done::Published(delivery, published.await) })),
            Err(no) => self.published(delivery, Err(no))?,
        }
        Ok(())
    }

    fn begin(&self, publish: Publish) -> Result<BoxFuture<'static, Result<(), No>>, No> {
        let gateway: Gateway = self.door.gateway.clone();
        self.caller.still_may(&gateway)?;
        let stream = content::stream(&publish.topic)?;
        self.caller.may(Verb::Publish, &stream)?;
        let to = content::destination(stream, &publish.about)?;
        let payload = content::payload(publish.payload, &publish.about)?;
        Ok(Box::pin(async move { to.publish(&gateway, payload).await.map(drop).map_err(No::from) }))
    }

    /// Says what became of a message. Where nobody can be told, the connection ends: a client must not believe that it went.
    fn published(&mut self, delivery: Delivery, outcome: Result<(), No>) -> Result<(), End> {
        let no = outcome.err();
        match &no {
            Some(no) => refused(&self.door, self.caller.name(), self.peer, "MQTT publish", no),
            None => self.door.gateway.meters.published(),
        }
        match (delivery, no) {
            (Delivery::AtMostOnce, None) => Ok(()),
            (Delivery::AtMostOnce, Some(no)) => Err(no.into()),
            (_, Some(no)) if !self.tongue.v5 => Err(no.into()),
            (Delivery::AtLeast(id), no) => self.answer(|tongue| tongue.published(id, no.as_ref())),
            (Delivery::Exactly(id), no) => {
                if no.is_none() {
                    self.received.insert(id);
                }
                self.answer(|tongue| tongue.received(id, no.as_ref()))
            }
        }
    }

    fn subscribe(&mut self, subscribe: Subscribe) -> Result<(), End> {
        if subscribe.numbered {
            return Err(No::new(Reason::Identifier, "subscription identifiers are not supported").into());
        }
        if subscribe.filters.len() > subscriptions::MOST {
            return Err(No::new(Reason::Quota, "too many topics in one packet").into());
        }
        self.caller.still_may(&self.door.gateway).map_err(No::from)?;
        let mut room = self.subscriptions.room();
        let wanted = subscribe.filters.into_iter().map(|filter| {
            if filter.no_local {
                return Err(No::new(
                    Reason::CannotBe,
                    "a client gets its own messages, too: no local is not supported",
                ));
            }
            let stream = content::filter(&filter.topic)?;
            self.caller.may(Verb::Subscribe, &stream)?;
            if !self.subscriptions.has(&filter.topic) {
                room = room.checked_sub(1).ok_or_else(|| No::new(Reason::Quota, "too many subscriptions at once"))?;
            }
            Ok((filter, stream))
        });
        let wanted: Vec<Result<_, No>> = wanted.collect();
        let (gateway, about, id) = (self.door.gateway.clone(), subscribe.about, subscribe.id);
        let readers = self.subscriptions.readers(&gateway.readers);
        self.busy = Some(Box::pin(async move {
            let mut begun = Vec::with_capacity(wanted.len());
            for one in wanted {
                begun.push(match one {
                    Err(no) => Err(no),
                    Ok((filter, stream)) => {
                        live::subscription(&gateway, &readers, &stream, about.user("partitions"), None)
                            .await
                            .map(|feed| (filter.topic, filter.acknowledged, feed))
                            .map_err(No::from)
                    }
                });
            }
            Done::Subscribed(id, begun)
        }));
        Ok(())
    }

    fn done(&mut self, done: Done) -> Result<(), End> {
        self.busy = None;
        // Meanwhile it could not be heard.
        self.line.link.heard(Instant::now());
        match done {
            Done::Published(delivery, outcome) => self.published(delivery, outcome),
            Done::Subscribed(id, begun) => {
                let subscriptions = &mut self.subscriptions;
                let added =
                    begun.into_iter().map(|one| one.and_then(|(topic, ack, feed)| subscriptions.add(topic, ack, feed)));
                let answers: Vec<Result<bool, No>> = added.collect();
                for no in answers.iter().filter_map(|answer| answer.as_ref().err()) {
                    refused(&self.door, self.caller.name(), self.peer, "MQTT subscribe", no);
                }
                self.answer(|tongue| tongue.subscribed(id, &answers))
            }
        }
    }

    /// One that is larger than the client takes is not sent (version 5, section 3.1.2.11.4).
    fn deliver(&mut self, taken: &Taken) {
        let (link, now) = (&mut self.line.link, Instant::now());
        let id = if taken.acknowledged { link.packet_id(taken.message.payload.len()) } else { None };
        let made = self.tongue.message(&taken.topic, id, &taken.message);
        let sent = made.is_ok_and(|message| link.send(message, now).is_ok());
        if sent {
            self.door.gateway.meters.delivered();
        } else {
            let no = No::new(Reason::CannotBe, "a message is larger than it takes, and is not sent to it");
            refused(&self.door, self.caller.name(), self.peer, "MQTT message", &no);
            let link = &mut self.line.link;
            if let Some(id) = id {
                link.give_back(id, now);
            }
        }
    }

    /// A reason in words goes first where a client takes small packets only.
    fn answer(&mut self, make: impl Fn(Tongue) -> Made) -> Result<(), End> {
        let (link, now) = (&mut self.line.link, Instant::now());
        let mut say = |tongue| make(tongue).is_ok_and(|answer| link.send(answer, now).is_ok());
        if say(self.tongue) || say(Tongue { problems: false, ..self.tongue }) {
            return Ok(());
        }
        Err(Broken::new("an answer is larger than it takes").into())
    }
}

fn ended(end: caller::End) -> No {
    match end {
        caller::End::Stopping => stopping(),
        caller::End::Revoked => No::new(Reason::NotAuthorized, "this API key was revoked"),
        caller::End::GivesWay => No::new(Reason::Busy, "too many connections; others have fewer"),
    }
}

fn taken_over() -> No {
    No::new(Reason::TakenOver, "another client came under the same name")
}

/// Returns where a connection may hold up its end no longer: its seat is another's, and many others leave like that.
async fn cut_off(caller: Arc<Caller>, door: Arc<Shared>) {
    caller.gives_way().await;
    if let Ok(_leaves) = door.leaving.try_acquire() {
        std::future::pending().await
    }
}

fn stopping() -> No {
    No::new(Reason::Stopping, "this node stops")
}

/// Whether a client that has as much to acknowledge as there may be acknowledges anything.
#[derive(Default)]
struct Stuck(Option<(usize, Instant)>);

impl Stuck {
    fn until(&mut self, link: &Link, now: Instant, patience: Duration) -> Option<Instant> {
        let many = link.unacknowledged();
        self.0 = match self.0 {
            _ if link.has_credit() => None,
            Some((before, since)) if before == many => Some((before, since)),
            _ => Some((many, now)),
        };
        self.0.map(|(_, since)| since + patience)
    }
}

/// Since when a packet, by its number, comes that is not whole.
#[derive(Default)]
struct Slow(Option<(u64, Instant)>);

impl Slow {
    fn until(&mut self, incomplete: Option<u64>, patience: Duration) -> Option<Instant> {
        let same = |number| self.0.filter(|(before, _)| *before == number);
        self.0 = incomplete.map(|number| same(number).unwrap_or_else(|| (number, Instant::now())));
        self.0.map(|(_, since)| since + patience)
    }
}

async fn finished(busy: &mut Option<BoxFuture<'static, Done>>) -> Done {
    match busy {
        Some(busy) => busy.await,
        None => std::future::pending().await,
    }
}
