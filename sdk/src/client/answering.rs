//! Answering other nodes: key requests as a publisher, pushes as a subscriber.

use std::sync::Arc;

use bytes::Bytes;
use libp2p::PeerId;
use veilcast_key_store::{KeyId, KeyScope, Store, StoredKey};

use super::shared::{Shared, lock};
use super::stats::count;
use super::{EXCHANGE, permitting, publishing, pushing, resending};
use crate::exchange::{AnswerError, Asker, Decision, Glance, HistoryPolicy, Page, Screened, answer, answer_page};
use crate::identity::Domain;
use crate::permission::{Grant, Period, Permission, PermissionSource, Refusal};
use crate::publisher::{Entry, Given, GivenBy, Place};
use crate::wire::{KeyAnswer, KeyRange, KeyRequest, Received, Verified, Wanted, kind_of};

/// How long a subscriber should wait when our own store failed.
const STORE_RETRY: std::time::Duration = std::time::Duration::from_secs(5);

/// The reply to one request of a peer; `None` for silence.
pub(super) async fn handle(shared: &Arc<Shared>, from: PeerId, envelope: Bytes) -> Option<Bytes> {
    match kind_of(&envelope) {
        Ok(kind) if kind == Domain::KeyPush.number() => pushing::receive(shared, from, &envelope).await,
        Ok(kind) if kind == Domain::ResendRequest.number() => resending::answer(shared, from, &envelope).await,
        // What is no envelope at all is looked at, and counted, as a request that is none.
        _ => shared.meters.answering(key_request(shared, from, &envelope)).await,
    }
}

async fn key_request(shared: &Arc<Shared>, from: PeerId, envelope: &Bytes) -> Option<Bytes> {
    match screen(shared, from, envelope) {
        Screened::Admitted(verified) => {
            count(&shared.counters.key_requests_received, 1);
            admitted(shared, from, verified.into_content()).await
        }
        Screened::Refused(received, refusal) => {
            count(&shared.counters.key_requests_received, 1);
            shared.audit.throttled(received.claims(), shared.now());
            let made = make(shared, received.claims().clone(), Asked::Settled(Err(refusal))).await?;
            Some(counted(shared, &made.answer))
        }
        Screened::Dropped(why) => {
            count(&shared.counters.key_requests_dropped, 1);
            shared.meters.turned(&why);
            tracing::debug!(target: EXCHANGE, %from, %why, "a key request gets no answer");
            None
        }
    }
}

/// Decoding and checking the signature take place while nobody holds the screen, as many at a time as there are workers.
fn screen(shared: &Shared, from: PeerId, envelope: &Bytes) -> Screened {
    let received = match Received::decode(envelope) {
        Ok(received) => received,
        Err(fault) => return Screened::Dropped(fault.into()),
    };
    let glance = lock(&shared.screen).glance(shared.now(), &from.to_bytes(), received);
    match glance {
        Glance::Settled(screened) => screened,
        Glance::Candidate(candidate) => {
            let checked = candidate.verify();
            lock(&shared.screen).admit(shared.now(), checked)
        }
    }
}

/// Answers a request that is signed, fresh and new.
async fn admitted(shared: &Arc<Shared>, from: PeerId, request: KeyRequest) -> Option<Bytes> {
    let (now, stream, requester) = (shared.now(), request.stream.clone(), request.requester);
    let place = Place { peer: from.to_bytes(), addresses: Vec::new(), public_key: request.public_key.clone() };
    let shown = permitting::show(shared, from, &request).await;
    // What was shown tells why.
    let denied = shown.refusal.unwrap_or(Refusal::Denied);
    let asked = match shared.source.waits_for_the_disk() {
        true => Asked::OnDisk { denied },
        false => Asked::Settled(told(shared.check(&stream, requester, Permission::Subscribe).await, denied)),
    };
    let Made { mut answer, looked_at } = make(shared, request.clone(), asked).await?;
    lock(&shared.screen).page_was_read(&request, looked_at);
    if answer.content().granted.is_empty() {
        shared.audit.answered(&request, answer.content(), None);
        return Some(counted(shared, &answer));
    }
    // The keys were read after the grant was checked. If it ended in between, a rekey may have come in between as well.
    let checked = shared.check(&stream, requester, Permission::Subscribe).await;
    match &checked {
        Ok(grant) => {
            shared.holders.note(given(answer.content(), place, grant.period));
            publishing::handed(shared, &stream, now).await;
        }
        Err(refusal) => answer = make(shared, request.clone(), Asked::Settled(Err(*refusal))).await?.answer,
    }
    shared.audit.answered(&request, answer.content(), checked.ok().map(|grant| grant.period));
    Some(counted(shared, &answer))
}

fn counted(shared: &Shared, answer: &Verified<KeyAnswer>) -> Bytes {
    count(&shared.counters.keys_granted, answer.content().granted.len());
    count(&shared.counters.keys_refused, answer.content().refused.len());
    shared.meters.answered(answer.content());
    let KeyAnswer { requester, stream, granted, refused, .. } = answer.content();
    tracing::debug!(target: EXCHANGE, %requester, %stream, granted = granted.len(), refused = refused.len(), "a key request was answered");
    answer.envelope().clone()
}

struct Made {
    answer: Verified<KeyAnswer>,
    /// Keys of the store that the page of a span took.
    looked_at: usize,
}

/// Whether the requester may subscribe.
enum Asked {
    Settled(Result<Grant, Refusal>),
    /// To be asked by the thread that makes the answer, which reads the disk anyway.
    OnDisk {
        /// What a denial is to be told as.
        denied: Refusal,
    },
}

impl Asked {
    fn settle(self, shared: &Shared, request: &KeyRequest) -> Result<Grant, Refusal> {
        match self {
            Self::Settled(checked) => checked,
            Self::OnDisk { denied } => {
                told(shared.check_here(&request.stream, request.requester, Permission::Subscribe), denied)
            }
        }
    }
}

fn told(checked: Result<Grant, Refusal>, denied: Refusal) -> Result<Grant, Refusal> {
    checked.map_err(|refusal| if refusal == Refusal::Denied { denied } else { refusal })
}

/// Looks the keys up, wraps and signs, on a thread that may wait.
async fn make(shared: &Arc<Shared>, request: KeyRequest, asked: Asked) -> Option<Made> {
    let worker = shared.clone();
    let made = shared
        .workers
        .run(move || {
            let grant = asked.settle(&worker, &request);
            let desk = grant.and_then(|grant| Desk::open(&worker, &request, grant));
            match &request.wanted {
                Wanted::Keys(ids) => {
                    let decide =
                        |id: &KeyId| (id.clone(), desk.as_ref().map_err(|no| *no).and_then(|desk| desk.key(id)));
                    let decisions: Vec<Decision> = ids.iter().map(decide).collect();
                    let answer = answer(&request, decisions, &worker.identity, worker.now(), &mut rand::rng())?;
                    Ok(Made { answer, looked_at: 0 })
                }
                Wanted::Range(range) => {
                    let page = desk.and_then(|desk| desk.page(range));
                    let looked_at = page.as_ref().map_or(0, |page| page.looked_at);
                    let answer = answer_page(&request, page, &worker.identity, worker.now(), &mut rand::rng())?;
                    Ok::<_, AnswerError>(Made { answer, looked_at })
                }
            }
        })
        .await;
    match made {
        Ok(Ok(made)) => Some(made),
        Ok(Err(error)) => {
            tracing::error!(%error, "a key answer could not be made");
            None
        }
        Err(_) => None,
    }
}

/// What an answer gave, for the ledger.
fn given(answer: &KeyAnswer, place: Place, grant: Period) -> Entry {
    let keys = answer.granted.iter().map(|key| (key.key_id.clone(), key.since)).collect();
    let (stream, user, at) = (answer.stream.clone(), answer.requester, answer.sent);
    Entry::Given(Given { stream, user, place, grant, keys, at, by: GivenBy::Answer })
}

/// What one asker may have of the keys of one stream.
struct Desk<'a> {
    store: &'a dyn Store,
    /// Ours, on the very stream asked for: whatever key is named, no other stream's is found.
    scope: KeyScope,
    policy: HistoryPolicy,
    asker: Asker,
}

impl<'a> Desk<'a> {
    fn open(shared: &'a Shared, request: &KeyRequest, grant: Grant) -> Result<Self, Refusal> {
        if shared.agreed_only(&request.stream) {
            return Err(Refusal::Policy);
        }
        let policy = shared.history.of(&request.stream).map_err(failed)?;
        let is_owner = request.stream.owner() == Some(request.requester) || request.requester == shared.user;
        let asker = Asker { grant, is_owner, now: shared.now() };
        Ok(Self { store: &*shared.store, scope: crate::scope(shared.user, &request.stream), policy, asker })
    }

    fn key(&self, id: &KeyId) -> Result<StoredKey, Refusal> {
        let stored = self.store.key(&self.scope, id).map_err(failed)?.ok_or(Refusal::UnknownKey)?;
        self.policy.allows(&stored, &self.asker).map(|()| stored)
    }

    fn page(&self, asked: &KeyRange) -> Result<Page, Refusal> {
        Page::read(self.store, &self.scope, asked, |stored| self.policy.allows(stored, &self.asker)).map_err(failed)
    }
}

/// A store that fails cannot tell: refuse, and say when to ask again.
fn failed(error: impl std::fmt::Display) -> Refusal {
    tracing::error!(%error, "the key store cannot be read");
    Refusal::Unavailable { retry_after: STORE_RETRY }
}
