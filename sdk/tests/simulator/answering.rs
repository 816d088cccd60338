//! A publisher answers key requests.

use std::time::Duration;

use bytes::Bytes;
use rand::RngExt;
use veilcast::exchange::{
    Asker, Checked, Decision, Dropped, Glance, HistoryPolicy, Page, Screened, answer, answer_page,
};
use veilcast::key_store::{KeyId, KeyStore, StoredKey};
use veilcast::wire::{KeyAnswer, KeyRange, KeyReceipt, KeyRequest, Received, Verified, Wanted};
use veilcast::{Grant, Refusal, Timestamp, scope};

use crate::env::{Env, subscribing};
use crate::network::{Body, Event, Place};
use crate::publisher::Publisher;

/// As in the shell.
const UNAVAILABLE: Refusal = Refusal::Unavailable { retry_after: Duration::from_secs(5) };

impl Publisher {
    pub(crate) fn request(&mut self, env: &mut Env, from: Place, bytes: &Bytes) {
        let (now, number, life) = (self.clock(env), self.number, self.life);
        let Some(office) = &mut self.office else { return };
        let glance = match Received::decode(bytes) {
            Ok(received) => office.screen.glance(now, format!("{from:?}").as_bytes(), received),
            Err(fault) => Glance::Settled(Screened::Dropped(fault.into())),
        };
        match glance {
            Glance::Settled(screened) => {
                if matches!(screened, Screened::Dropped(Dropped::Replayed)) {
                    let name = Received::<KeyRequest>::decode(bytes).map(|r| (r.claims().requester, r.claims().id));
                    let seen = name.as_ref().is_ok_and(|name| office.admitted.contains(name));
                    env.must(seen, "only what was admitted counts as replayed", || format!("{name:?} to {number}"));
                }
                self.screened(env, from, screened);
            }
            Glance::Candidate(candidate) => {
                // Many signatures are checked at a time, so what came first may be done last.
                let done = env.now + self.rng.random_range(0..4);
                env.net.at(done, Event::Checked(number, life, from, candidate.verify().into()));
            }
        }
    }

    /// A signature has been checked.
    pub(crate) fn checked(&mut self, env: &mut Env, life: usize, from: Place, checked: Checked) {
        let now = self.clock(env);
        let Some(office) = self.office.as_mut().filter(|_| self.life == life) else { return };
        let screened = office.screen.admit(now, checked);
        self.screened(env, from, screened);
    }

    fn screened(&mut self, env: &mut Env, from: Place, screened: Screened) {
        let (now, number) = (self.clock(env), self.number);
        let Some(office) = &mut self.office else { return };
        match screened {
            Screened::Admitted(verified) => {
                let request = verified.into_content();
                let name = (request.requester, request.id);
                let asked = env.facts.asked.contains(&name);
                env.must(asked, "only what a subscriber signed is its request", || format!("{name:?} to {number}"));
                let own = request.publisher == self.identity.user();
                env.must(own, "a request for another gets no answer", || format!("{name:?} to {number}"));
                let first = office.admitted.insert(name);
                env.must(first, "a replayed request gets no answer", || format!("{name:?} to {number}"));
                let off = now.since(request.sent).max(request.sent.since(now));
                let fresh = off <= self.limits.freshness;
                env.must(fresh, "a stale request gets no answer", || format!("{name:?} to {number} is {off:?} off"));
                let grant = office.may_subscribe(&request.stream, request.requester, now);
                let remembered = office.screen.remembered() as u64;
                env.figures.most_remembered = env.figures.most_remembered.max(remembered);
                self.must_not_refuse_wrongly(env, &request, &grant);
                let looked_at = self.respond(env, from, &request, grant);
                if let Some(office) = &mut self.office {
                    office.screen.page_was_read(&request, looked_at);
                }
            }
            Screened::Refused(received, refusal) => {
                self.respond(env, from, received.claims(), Err(refusal));
            }
            Screened::Dropped(why) => {
                env.figures.dropped_requests += 1;
                env.note(format_args!("publisher {number} drops a request: {why}"));
            }
        }
    }

    fn must_not_refuse_wrongly(&self, env: &mut Env, request: &KeyRequest, grant: &Result<Grant, Refusal>) {
        let may = env.may_subscribe(self.number, &request.stream, request.requester);
        let excused = !may || (self.disk.is_broken() && matches!(grant, Err(Refusal::Unavailable { .. })));
        env.must(grant.is_ok() || excused, "whoever may subscribe is not refused", || {
            format!("{request:?}: {grant:?}")
        });
    }

    /// Returns how many keys the page of a span took.
    fn respond(&mut self, env: &mut Env, from: Place, request: &KeyRequest, grant: Result<Grant, Refusal>) -> usize {
        let mut looked_at = 0;
        let now = self.clock(env);
        let asker = grant.and_then(|grant| self.asker(request, grant, now));
        let signed = match &request.wanted {
            Wanted::Keys(ids) => {
                let decide =
                    |id: &KeyId| -> Decision { (id.clone(), asker.and_then(|asker| self.find(request, id, &asker))) };
                answer(request, ids.iter().map(decide).collect(), &self.identity, now, &mut self.rng)
            }
            Wanted::Range(range) => {
                let page = asker.and_then(|asker| self.page(request, range, &asker));
                looked_at = page.as_ref().map_or(0, |page| page.looked_at);
                answer_page(request, page, &self.identity, now, &mut self.rng)
            }
        };
        let signed = signed.unwrap();
        self.account(env, from, request, &signed);
        env.send(self.place(), from, Body::Answer(request.id, signed.envelope().clone()));
        looked_at
    }

    fn account(&mut self, env: &mut Env, from: Place, request: &KeyRequest, signed: &Verified<KeyAnswer>) {
        let (answer, now) = (signed.content(), self.clock(env));
        env.figures.refusals += answer.refused.len() as u64;
        env.figures.keys_handed += answer.granted.len() as u64;
        for granted in &answer.granted {
            let (id, to, number) = (&granted.key_id, request.requester, self.number);
            let may = env.may_subscribe(number, &request.stream, to);
            env.must(may, "no key without a grant", || format!("publisher {number} gives {id} to {to}"));
            let own = env.facts.belongs(self.user(), &request.stream, id);
            env.must(own, "no key across streams", || format!("publisher {number} gives {id} to {to}"));
            self.within_policy(env, request, id);
            env.facts.handed.insert((to, id.clone()));
        }
        if !answer.granted.is_empty()
            && let Some(office) = &mut self.office
        {
            let holder = (from, request.public_key.clone());
            office.holders.insert((request.stream.clone(), request.requester), holder);
            let desk = office.desks.get_mut(&request.stream);
            desk.into_iter().for_each(|desk| desk.handed(&self.disk, &request.stream, now));
        }
    }

    /// How far back the asker may go, by the truth; clocks that were set leave no truth to go by.
    fn within_policy(&self, env: &mut Env, request: &KeyRequest, id: &KeyId) {
        if env.clocks.was_set(self.place()) {
            return;
        }
        let policy = self.rules[&request.stream].history;
        let question = subscribing(self.number, &request.stream, request.requester);
        let by_name = !env.is_public(self.number, &request.stream);
        // A grant holds from the second of its start on.
        let began = env.facts.began(&question).filter(|_| by_name).map(|began| began / 1000 * 1000);
        let began = began.map(|began| began.saturating_add_signed(-env.clocks.skew(self.place())));
        let allowed = self.used[&request.stream].allows(id, policy, began, env.now);
        env.must(allowed, "no key outside the history policy", || format!("{id} to {question:?} with {policy:?}"));
    }

    fn asker(&self, request: &KeyRequest, grant: Grant, now: Timestamp) -> Result<(HistoryPolicy, Asker), Refusal> {
        let Some(office) = &self.office else { return Err(UNAVAILABLE) };
        let policy = office.history.of(&request.stream).map_err(|_| UNAVAILABLE)?;
        Ok((policy, Asker { grant, is_owner: false, now }))
    }

    /// A key of ours on this very stream, as far back as the policy goes.
    fn find(&self, request: &KeyRequest, id: &KeyId, asker: &(HistoryPolicy, Asker)) -> Result<StoredKey, Refusal> {
        let found = self.disk.key(&scope(self.user(), &request.stream), id).map_err(|_| UNAVAILABLE)?;
        let stored = found.ok_or(Refusal::UnknownKey)?;
        asker.0.allows(&stored, &asker.1).map(|()| stored)
    }

    fn page(&self, request: &KeyRequest, range: &KeyRange, asker: &(HistoryPolicy, Asker)) -> Result<Page, Refusal> {
        let scope = scope(self.user(), &request.stream);
        let decide = |stored: &StoredKey| asker.0.allows(stored, &asker.1);
        Page::read(&*self.disk, &scope, range, decide).map_err(|_| UNAVAILABLE)
    }

    /// A push was confirmed, or somebody says so.
    pub(crate) fn receipt(&self, env: &mut Env, bytes: &Bytes) {
        let verified = Received::<KeyReceipt>::decode(bytes).ok().and_then(|received| received.verify().ok());
        match verified {
            Some(receipt) => env.note(format_args!("publisher {} has {:?}", self.number, receipt.content().id)),
            None => env.figures.refused_bytes += 1,
        }
    }
}
