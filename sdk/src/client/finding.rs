//! Finding a publisher's devices: those that told us where they are, and those in the DHT.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::join_all;
use libp2p::PeerId;
use lru::LruCache;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};

use super::directory::Contact;
use super::shared::{Shared, lock};
use crate::exchange::Device;
use crate::identity::UserId;
use crate::wire::{PublisherRecord, Verified};

/// Publishers looked up in the DHT at a time; each takes a query per slot. More wait, and beyond the second number none.
const AT_ONCE: usize = 12;
const LOOKUPS: usize = 1024;
/// One lookup.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
/// A publisher that nobody knows is looked for so long, with such pauses: a node that has just come is told in a moment.
const PATIENCE: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// A refusal waits so long for a lookup that is under way.
const ELSEWHERE: Duration = Duration::from_millis(500);
/// Devices of a publisher whose keys are asked for are looked up so often, and sooner where a key was not found.
const LOOKED_UP: Duration = Duration::from_secs(600);
const LOOKED_UP_IN_VAIN: Duration = Duration::from_secs(10);
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(4096).unwrap();

/// Lookups under way, and those that were.
pub(super) struct Finder {
    /// Each channel closes when its lookup ends.
    under_way: Mutex<HashMap<UserId, watch::Receiver<()>>>,
    finished: Mutex<LruCache<UserId, Instant>>,
    permits: Semaphore,
    /// Changes whenever a record told anything.
    learned: watch::Sender<()>,
}

impl Default for Finder {
    fn default() -> Self {
        Self {
            under_way: Mutex::default(),
            finished: Mutex::new(LruCache::new(REMEMBERED)),
            permits: Semaphore::new(AT_ONCE),
            learned: watch::Sender::new(()),
        }
    }
}

impl Finder {
    fn looked_up_within(&self, publisher: UserId, span: Duration) -> bool {
        lock(&self.finished).peek(&publisher).is_some_and(|at| at.elapsed() < span)
    }

    fn looks_for(&self, publisher: UserId) -> Option<watch::Receiver<()>> {
        // One that ended without saying so is over all the same.
        lock(&self.under_way).get(&publisher).filter(|done| done.has_changed().is_ok()).cloned()
    }
}

/// Whom to ask, of a publisher's devices.
#[derive(Debug, Default)]
pub(super) struct Wish {
    /// None of these.
    pub(super) not_at: BTreeSet<Device>,
    /// These only when there is no other, the first first.
    pub(super) rather_not: Vec<Device>,
}

/// Takes a record in, and tells whoever looks for it.
pub(super) fn learn(shared: &Shared, record: Verified<PublisherRecord>) {
    if lock(&shared.directory).learn(record, shared.now()) {
        shared.finder.learned.send_replace(());
    }
}

fn pick(shared: &Shared, publisher: UserId, wish: &Wish) -> Option<Contact> {
    lock(&shared.directory).pick(publisher, shared.now(), &wish.not_at, &wish.rather_not)
}

/// A device to ask. One that is known is found at once; while others of the publisher may be unknown here, the DHT is asked
/// for them in the background.
pub(super) async fn find(shared: &Arc<Shared>, publisher: UserId, wish: &Wish) -> Option<Contact> {
    lock(&shared.directory).know(publisher);
    if !wish.not_at.is_empty() {
        return find_another(shared, publisher, wish).await;
    }
    if let Some(contact) = pick(shared, publisher, wish) {
        if !shared.finder.looked_up_within(publisher, LOOKED_UP) {
            look_up(shared, publisher);
        }
        return Some(contact);
    }
    let until = Instant::now() + PATIENCE;
    loop {
        let found = first_found(shared, publisher, wish, look_up(shared, publisher)).await;
        if found.is_some() || Instant::now() >= until {
            return found;
        }
        let (_told_later, never) = watch::channel(());
        if let Ok(found) = timeout(LOOK_AGAIN, first_found(shared, publisher, wish, never)).await {
            return found;
        }
    }
}

/// One that is known, or that a lookup finds which is under way already. Nobody waits for more before he is refused.
async fn find_another(shared: &Arc<Shared>, publisher: UserId, wish: &Wish) -> Option<Contact> {
    let found = pick(shared, publisher, wish);
    match shared.finder.looks_for(publisher) {
        Some(lookup) if found.is_none() => {
            timeout(ELSEWHERE, first_found(shared, publisher, wish, lookup)).await.ok().flatten()
        }
        _ => found,
    }
}

/// The first that is learned of, from whomever, until the lookup ends.
async fn first_found(
    shared: &Shared,
    publisher: UserId,
    wish: &Wish,
    mut lookup: watch::Receiver<()>,
) -> Option<Contact> {
    let mut learned = shared.finder.learned.subscribe();
    loop {
        let found = pick(shared, publisher, wish);
        if found.is_some() {
            return found;
        }
        tokio::select! {
            _ = learned.changed() => {}
            _ = lookup.changed() => return pick(shared, publisher, wish),
        }
    }
}

/// Where this device is known to be; one that is not known is looked for in the DHT.
pub(super) async fn find_device(shared: &Arc<Shared>, publisher: UserId, device: PeerId) -> Option<Contact> {
    let known = || {
        let contacts = lock(&shared.directory).contacts(publisher, shared.now());
        contacts.into_iter().find(|contact| contact.peer == device)
    };
    if let Some(contact) = known() {
        return Some(contact);
    }
    look_again(shared, publisher).await;
    known()
}

/// Whether the publisher may have a device beside these. Where none is known, one is looked for, for the next time.
pub(super) fn may_be_elsewhere(shared: &Arc<Shared>, publisher: UserId, tried: &BTreeSet<Device>) -> bool {
    let wish = Wish { not_at: tried.clone(), ..Wish::default() };
    if pick(shared, publisher, &wish).is_some() || shared.finder.looks_for(publisher).is_some() {
        return true;
    }
    if !shared.finder.looked_up_within(publisher, LOOKED_UP_IN_VAIN) {
        look_up(shared, publisher);
    }
    false
}

/// Waits for the DHT's word on where a publisher's devices are.
pub(super) async fn look_again(shared: &Arc<Shared>, publisher: UserId) {
    let mut lookup = look_up(shared, publisher);
    while lookup.changed().await.is_ok() {}
}

/// Looks a publisher up in the DHT, unless that is under way. The channel closes when it is done.
pub(super) fn look_up(shared: &Arc<Shared>, publisher: UserId) -> watch::Receiver<()> {
    if let Some(lookup) = shared.finder.looks_for(publisher) {
        return lookup;
    }
    lock(&shared.directory).know(publisher);
    let (running, lookup) = watch::channel(());
    let mut under_way = lock(&shared.finder.under_way);
    if under_way.len() >= LOOKUPS {
        return lookup;
    }
    under_way.insert(publisher, lookup.clone());
    drop(under_way);
    let worker = shared.clone();
    shared.spawn(async move {
        let _ = timeout(LOOKUP_TIMEOUT, search(&worker, publisher)).await;
        lock(&worker.finder.finished).put(publisher, Instant::now());
        lock(&worker.finder.under_way).remove(&publisher);
        drop(running);
    });
    lookup
}

async fn search(shared: &Shared, publisher: UserId) {
    let _permit = shared.finder.permits.acquire().await;
    let slots = PublisherRecord::slots();
    join_all(slots.map(|slot| async move {
        for record in in_slot(shared, publisher, slot).await {
            learn(shared, record);
        }
    }))
    .await;
}

/// What the DHT holds in one slot.
pub(super) async fn in_slot(shared: &Shared, publisher: UserId, slot: u8) -> Vec<Verified<PublisherRecord>> {
    let key = PublisherRecord::dht_key(publisher, slot);
    let found = shared.network.get_record(key.clone()).await.unwrap_or_default();
    found.iter().filter_map(|value| shared.gate.record(&key, value)).collect()
}
