//! A storage node's host: what the shell does around store, screen and answer.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use bytes::Bytes;
use rand::RngExt;
use rand::rngs::StdRng;
use veilcast::exchange::{Glance, Rate, Screened};
use veilcast::identity::{Domain, Identity};
use veilcast::message::{Draft, Payload, compose};
use veilcast::permission::PermissionCache;
use veilcast::storage::{
    Admission, MemoryMessageStore, MessageStore, ResendLimits, ResendScreen, StorageLimits, answer, read,
};
use veilcast::stream::StreamPart;
use veilcast::wire::{
    Content, Frame, MessageContent, MessageRef, Received, RequestId, ResendPage, ResendRequest, Verified,
};
use veilcast::{Permission, Refusal, Timestamp, UserId};

use super::dishonest::Mode;
use super::plan::DepotPlan;
use super::{Archive, Happening};
use crate::access::check;
use crate::env::Env;
use crate::facts::MessageName;
use crate::forging::forged;
use crate::grants::Source;
use crate::network::Event;

/// A storage node: what outlives a crash, and the process if it runs.
pub(super) struct Depot {
    pub(super) number: usize,
    pub(super) identity: Identity,
    pub(super) plan: DepotPlan,
    store: MemoryMessageStore,
    /// What is durable, and since when.
    pub(super) stored: BTreeMap<MessageName, u64>,
    pub(super) life: usize,
    pub(super) up_since: u64,
    run: Option<Running>,
    /// An answer it gave, to be given again.
    pub(super) before: Option<ResendPage>,
}

struct Running {
    screen: ResendScreen,
    cache: PermissionCache,
    /// Not durable yet, and when it is.
    waiting: Vec<(u64, Verified<MessageContent>)>,
}

impl Depot {
    pub(super) fn new(number: usize, plan: DepotPlan, rng: &mut StdRng) -> Self {
        let store = MemoryMessageStore::new(StorageLimits::default());
        let identity = Identity::generate(rng);
        Self { number, identity, plan, store, stored: BTreeMap::new(), life: 0, up_since: 0, run: None, before: None }
    }

    pub(super) fn is_up(&self) -> bool {
        self.run.is_some()
    }

    pub(super) fn start(&mut self, now: u64) {
        if self.run.is_some() {
            return;
        }
        self.life += 1;
        self.up_since = now;
        let limits = self.limits();
        let screen = ResendScreen::new(self.identity.user(), limits, Timestamp::from_millis(now));
        self.run = Some(Running { screen, cache: PermissionCache::default(), waiting: Vec::new() });
    }

    pub(super) fn crash(&mut self) {
        self.run = None;
    }

    fn limits(&self) -> ResendLimits {
        let mut limits = ResendLimits::default();
        (limits.replay_capacity, limits.rate_capacity) = (nonzero(1_024), nonzero(64));
        limits.page = self.plan.page;
        if self.plan.tight {
            limits.per_requester = Rate { per_second: 4, burst: 3 };
            limits.at_once = 1;
        }
        limits
    }
}

impl Archive {
    /// Verified before it is stored: its signature, and that its author may publish.
    pub(super) fn heard(&mut self, env: &mut Env, depot: usize, part: &StreamPart, frame: &Bytes) {
        let (depot, now) = (&mut self.depots[depot], Timestamp::from_millis(env.now));
        let Some(run) = &mut depot.run else { return };
        let received = Frame::decode(frame).map(|parts| parts.messages).unwrap_or_default();
        for message in received.into_iter().filter(|message| &message.claims().part == part) {
            let Ok(message) = message.verify() else { continue };
            let author = message.content().publisher;
            if check(&self.registry, &mut run.cache, part.stream(), author, Permission::Publish, now).is_err() {
                continue;
            }
            run.waiting.push((env.now + depot.plan.lag, message));
            env.net.at(env.now + depot.plan.lag, Event::Archive(Happening::Store(depot.number, depot.life)));
        }
    }

    pub(super) fn store(&mut self, env: &mut Env, depot: usize, life: usize) {
        let depot = &mut self.depots[depot];
        let Some(run) = depot.run.as_mut().filter(|_| depot.life == life) else { return };
        let due = run.waiting.extract_if(.., |(at, _)| *at <= env.now).map(|(_, message)| message);
        let due: Vec<Verified<MessageContent>> = due.collect();
        depot.store.append(Timestamp::from_millis(env.now), &due).unwrap();
        for message in &due {
            let content = message.content();
            let name = (content.publisher, content.chain, content.at);
            let known = env.facts.messages.get(&name).is_some_and(|fact| fact.envelope == *message.envelope());
            env.must(known, "only what was published is stored", || format!("{content:?} at {}", depot.number));
            depot.stored.entry(name).or_insert(env.now);
        }
    }

    pub(super) fn asked(&mut self, env: &mut Env, depot: usize, reader: usize, id: RequestId, request: &Bytes) {
        let Some((request, page)) = self.page_for(env, depot, reader, request) else {
            return;
        };
        let count = page.as_ref().map(|page| page.messages.len());
        env.note(format_args!("depot {depot} {:?} answers {count:?}", self.depots[depot].plan.mode));
        let honest = answer(&request, page, &self.depots[depot].identity, Timestamp::from_millis(env.now)).unwrap();
        let bytes = self.say(env, depot, &request, honest);
        // It may die before the answer is out.
        let delay = 1 + self.rng.random_range(0..10) + self.weather.delay(&mut self.rng);
        let broken = self.weather.broken;
        let answer = (!self.roll(broken)).then_some(bytes);
        let answered = Happening::Answered { reader, id, by: (depot, self.depots[depot].life), answer };
        env.net.at(env.now + delay, Event::Archive(answered));
    }

    /// Screened, then permitted, then read. `None`: silence.
    fn page_for(
        &mut self,
        env: &mut Env,
        number: usize,
        reader: usize,
        request: &Bytes,
    ) -> Option<(ResendRequest, Result<veilcast::storage::Page, Refusal>)> {
        let (depot, now) = (&mut self.depots[number], Timestamp::from_millis(env.now));
        let run = depot.run.as_mut()?;
        let received = Received::<ResendRequest>::decode(request).ok()?;
        let settled = match run.screen.glance(now, &reader.to_be_bytes(), received) {
            Glance::Settled(settled) => Err(settled),
            Glance::Candidate(candidate) => match run.screen.admit(now, candidate.verify()) {
                Admission::Page(ticket) => Ok(ticket),
                Admission::Settled(settled) => Err(settled),
            },
        };
        let ticket = match settled {
            Ok(ticket) => ticket,
            Err(Screened::Refused(received, refusal)) => return Some((received.claims().clone(), Err(refusal))),
            Err(_) => return None,
        };
        let request = ticket.request().clone();
        let stream = request.part.stream().clone();
        let permitted = check(&self.registry, &mut run.cache, &stream, request.requester, Permission::Subscribe, now);
        let page = permitted.map(|_| read(&depot.store, &request, depot.plan.page).unwrap());
        run.screen.done(ticket, page.as_ref().map_or(0, |page| page.looked_at));
        if page.is_ok() {
            let question = (Source::Depots, stream, request.requester, Permission::Subscribe);
            let may = env.grants.holds(&question, &env.clocks, env.now);
            env.must(may, "nothing stored is served without a grant", || format!("{request:?} at {number}"));
        }
        Some((request, page))
    }

    /// What must not be stored: a message signed by another than it names, one by somebody who may not publish, and bytes.
    pub(super) fn intrude(&mut self, env: &mut Env, depot: usize) {
        let stranger = Identity::generate(&mut self.rng);
        let Some(victim) = env.facts.messages.values().next_back().map(|fact| fact.envelope.clone()) else { return };
        let mut content = Received::<MessageContent>::decode(&victim).unwrap().claims().clone();
        let part = content.part.clone();
        content.at.sequence += 1;
        let forged = forged(Domain::Message, content.encode(), &stranger);
        let at = MessageRef { timestamp: Timestamp::from_millis(env.now), sequence: 0 };
        let draft = Draft { part: part.clone(), chain: [7; 16], at, previous: None, key_updates: Vec::new() };
        let own = compose(draft, &Payload::text("x"), None, &stranger, &mut self.rng).unwrap();
        for envelope in [forged, own.envelope().clone()] {
            self.heard(env, depot, &part, &Frame::of_message(envelope));
        }
        self.heard(env, depot, &part, &Bytes::from_static(b"nothing"));
    }

    /// What a dishonest node makes of its answer.
    fn say(&mut self, env: &Env, depot: usize, asked: &ResendRequest, honest: Verified<ResendPage>) -> Bytes {
        let depot = &mut self.depots[depot];
        if matches!(depot.plan.mode, Mode::Honest) || honest.content().refusal.is_some() {
            return honest.envelope().clone();
        }
        let said =
            depot.plan.mode.says(&mut self.rng, env, asked, honest.content(), depot.before.as_ref(), &depot.store);
        depot.before = Some(honest.content().clone());
        match said {
            None => honest.envelope().clone(),
            Some(said) => said.sign(&depot.identity, &mut self.rng),
        }
    }

    pub(super) fn name_of(&self, depot: usize) -> UserId {
        self.depots[depot].identity.user()
    }
}

fn nonzero(n: usize) -> NonZeroUsize {
    NonZeroUsize::new(n).unwrap()
}
