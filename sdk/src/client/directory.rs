//! Where publishers can be reached, as far as we were told.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use libp2p::{Multiaddr, PeerId};
use lru::LruCache;

use crate::exchange::Device;
use crate::identity::UserId;
use crate::time::Timestamp;
use crate::wire::{PublisherRecord, Verified};

const PUBLISHERS: NonZeroUsize = NonZeroUsize::new(4096).unwrap();
/// Anybody can sign records, under as many names as he likes.
const STRANGERS: NonZeroUsize = NonZeroUsize::new(512).unwrap();
/// Most devices of one publisher.
const DEVICES: usize = 8;

/// One device of a publisher: its peer and addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Contact {
    pub(super) peer: PeerId,
    pub(super) addresses: Vec<Multiaddr>,
}

impl Contact {
    /// Its name in the core.
    pub(super) fn device(&self) -> Device {
        Device::new(&self.peer.to_bytes())
    }
}

/// The newest valid record of each device of each publisher.
///
/// A record counts at once, whoever its author is. But strangers only push out strangers: those we looked for, or who may
/// publish where we look, are among the publishers. Of either kind the least recently used is dropped beyond the limit.
pub(super) struct Directory {
    /// Its own records lead nowhere.
    me: PeerId,
    publishers: LruCache<UserId, Vec<Known>>,
    strangers: LruCache<UserId, Vec<Known>>,
}

struct Known {
    peer: PeerId,
    record: PublisherRecord,
    /// It led nowhere. It stays until another of this device is there, or there are too many.
    doubted: bool,
}

impl Known {
    /// Greater is better.
    fn rank(&self) -> (bool, Timestamp) {
        (!self.doubted, self.record.issued)
    }

    fn contact(&self) -> Contact {
        let addresses = self.record.addresses.iter().filter_map(|bytes| Multiaddr::try_from(bytes.clone()).ok());
        Contact { peer: self.peer, addresses: addresses.collect() }
    }
}

impl Directory {
    pub(super) fn new(me: PeerId) -> Self {
        Self { me, publishers: LruCache::new(PUBLISHERS), strangers: LruCache::new(STRANGERS) }
    }

    /// This is no stranger: looked for by us, or allowed to publish.
    pub(super) fn know(&mut self, publisher: UserId) {
        if self.publishers.get(&publisher).is_none() {
            let devices = self.strangers.pop(&publisher).unwrap_or_default();
            self.publishers.put(publisher, devices);
        }
    }

    fn devices(&mut self, publisher: UserId) -> Option<&mut Vec<Known>> {
        self.publishers.get_mut(&publisher).or_else(|| self.strangers.get_mut(&publisher))
    }

    /// Takes a record in. Whether it told anything.
    pub(super) fn learn(&mut self, record: Verified<PublisherRecord>, now: Timestamp) -> bool {
        let record = record.into_content();
        let Ok(peer) = PeerId::from_bytes(&record.peer) else { return false };
        if peer == self.me || !record.holds_at(now) {
            return false;
        }
        let devices = match self.publishers.get_mut(&record.publisher) {
            Some(devices) => devices,
            None => self.strangers.get_or_insert_mut(record.publisher, Vec::new),
        };
        devices.retain(|known| now < known.record.expires);
        let fresh = Known { peer, record, doubted: false };
        let place = match devices.iter().position(|known| known.peer == peer) {
            Some(at) if is_better(&fresh, &devices[at]) => Some(at),
            Some(_) => return false,
            None if devices.len() < DEVICES => None,
            // The worst makes room for a better one.
            None => match (0..devices.len()).min_by_key(|at| devices[*at].rank()) {
                Some(at) if devices[at].rank() < fresh.rank() => Some(at),
                _ => return false,
            },
        };
        match place {
            Some(at) => devices[at] = fresh,
            None => devices.push(fresh),
        }
        true
    }

    /// The devices of a publisher, the best first: those not in doubt, and among them the latest to say where it is.
    pub(super) fn contacts(&mut self, publisher: UserId, now: Timestamp) -> Vec<Contact> {
        let Some(devices) = self.devices(publisher) else { return Vec::new() };
        devices.retain(|known| now < known.record.expires);
        devices.sort_by_key(|known| Reverse(known.rank()));
        // A record of the future counts again once a clock that jumped back is right.
        devices.iter().filter(|known| known.record.holds_at(now)).map(Known::contact).collect()
    }

    /// The device to ask: none of `not_at`, and of `rather_not` only the first, when there is no other.
    pub(super) fn pick(
        &mut self,
        publisher: UserId,
        now: Timestamp,
        not_at: &BTreeSet<Device>,
        rather_not: &[Device],
    ) -> Option<Contact> {
        let mut contacts = self.contacts(publisher, now);
        contacts.retain(|contact| !not_at.contains(&contact.device()));
        // Absent is less than any place in the list; among equals the best stays first.
        let failed = |contact: &Contact| rather_not.iter().position(|device| *device == contact.device());
        contacts.into_iter().min_by_key(failed)
    }

    /// The record led nowhere: any other of this device may replace it, but it stays until there is one.
    pub(super) fn doubt(&mut self, publisher: UserId, peer: &PeerId) {
        let devices = self.devices(publisher).into_iter().flatten();
        devices.filter(|known| known.peer == *peer).for_each(|known| known.doubted = true);
    }
}

fn is_better(fresh: &Known, known: &Known) -> bool {
    match known.doubted {
        true => fresh.record.issued != known.record.issued,
        false => fresh.record.issued > known.record.issued,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::identity::Identity;

    const NOW: Timestamp = Timestamp::from_secs(1_000_000);

    fn author() -> Identity {
        Identity::from_secret_bytes(&[1; 32]).unwrap()
    }

    fn peers(n: usize) -> Vec<PeerId> {
        (0..n).map(|_| PeerId::random()).collect()
    }

    fn after(secs: u64) -> Timestamp {
        NOW.plus(Duration::from_secs(secs))
    }

    fn record(peer: PeerId, issued: Timestamp, port: u16) -> Verified<PublisherRecord> {
        let address: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
        let record = PublisherRecord {
            publisher: author().user(),
            peer: peer.to_bytes(),
            addresses: vec![address.to_vec()],
            issued,
            expires: issued.plus(Duration::from_secs(100)),
            slot: 0,
        };
        Verified::sign(record, &author()).unwrap()
    }

    fn found(directory: &mut Directory, now: Timestamp) -> Vec<PeerId> {
        directory.contacts(author().user(), now).into_iter().map(|contact| contact.peer).collect()
    }

    fn picked(directory: &mut Directory, not_at: &[&PeerId], rather_not: &[&PeerId]) -> Option<PeerId> {
        let device = |peer: &&PeerId| Device::new(&peer.to_bytes());
        let (not_at, rather_not): (_, Vec<_>) =
            (not_at.iter().map(device).collect(), rather_not.iter().map(device).collect());
        directory.pick(author().user(), after(9), &not_at, &rather_not).map(|contact| contact.peer)
    }

    #[test]
    fn each_device_counts_by_its_newest_record_and_the_latest_comes_first_until_it_is_doubted_or_expires() {
        let (mut directory, peers) = (Directory::new(PeerId::random()), peers(2));
        assert!(directory.learn(record(peers[0], NOW, 1), after(9)));
        assert!(directory.learn(record(peers[1], after(1), 2), after(9)));
        assert!(!directory.learn(record(peers[1], NOW, 3), after(9)), "an old record takes no newer one's place");
        assert_eq!(found(&mut directory, after(9)), [peers[1], peers[0]]);
        directory.doubt(author().user(), &peers[1]);
        assert_eq!(found(&mut directory, after(9)), [peers[0], peers[1]]);
        assert!(!directory.learn(record(peers[1], after(1), 2), after(9)), "the same again is no news");
        assert!(directory.learn(record(peers[1], after(2), 4), after(9)));
        assert_eq!(found(&mut directory, after(9)), [peers[1], peers[0]]);
        assert_eq!(found(&mut directory, after(101)), [peers[1]]);
        assert!(found(&mut directory, after(102)).is_empty());
    }

    #[test]
    fn of_too_many_devices_the_oldest_gives_way_and_an_older_one_is_not_taken() {
        let (mut directory, peers) = (Directory::new(PeerId::random()), peers(DEVICES + 1));
        for (n, peer) in peers.iter().enumerate() {
            assert!(directory.learn(record(*peer, after(n as u64), 1), after(9)));
        }
        let held = found(&mut directory, after(9));
        assert_eq!(held.len(), DEVICES);
        assert!(!held.contains(&peers[0]));
        assert!(!directory.learn(record(peers[0], NOW, 1), after(9)));
    }

    #[test]
    fn a_device_that_has_not_got_the_key_is_never_picked_and_one_that_failed_only_when_there_is_no_other() {
        let (mut directory, peers) = (Directory::new(PeerId::random()), peers(2));
        directory.learn(record(peers[0], NOW, 1), after(9));
        directory.learn(record(peers[1], after(1), 2), after(9));
        assert_eq!(picked(&mut directory, &[], &[]), Some(peers[1]));
        assert_eq!(picked(&mut directory, &[&peers[1]], &[]), Some(peers[0]));
        assert_eq!(picked(&mut directory, &[&peers[1], &peers[0]], &[]), None);
        assert_eq!(picked(&mut directory, &[], &[&peers[1]]), Some(peers[0]));
        assert_eq!(picked(&mut directory, &[], &[&peers[1], &peers[0]]), Some(peers[1]), "the first to fail");
    }

    #[test]
    fn ones_own_record_and_one_without_a_peer_are_no_contacts() {
        let me = PeerId::random();
        let mut directory = Directory::new(me);
        assert!(!directory.learn(record(me, NOW, 1), NOW));
        let nobody = PublisherRecord { peer: vec![1; 38], ..record(me, NOW, 1).into_content() };
        assert!(!directory.learn(Verified::sign(nobody, &author()).unwrap(), NOW));
        assert!(found(&mut directory, NOW).is_empty());
    }

    #[test]
    fn ten_thousand_records_of_strangers_do_not_make_a_publisher_unreachable() {
        let mut directory = Directory::new(PeerId::random());
        let known = PeerId::random();
        assert!(directory.learn(record(known, NOW, 1), NOW));
        assert_eq!(found(&mut directory, NOW), [known], "a record counts before anybody vouches for its author");
        directory.know(author().user());
        let content = record(known, NOW, 1).into_content();
        for n in 0..10_000_u64 {
            let mut secret = [2; 32];
            secret[..8].copy_from_slice(&n.to_be_bytes());
            let stranger = Identity::from_secret_bytes(&secret).unwrap();
            let record = PublisherRecord { publisher: stranger.user(), ..content.clone() };
            assert!(directory.learn(Verified::sign(record, &stranger).unwrap(), NOW));
        }
        assert_eq!(found(&mut directory, NOW), [known]);
        assert_eq!(directory.strangers.len(), STRANGERS.get());
        assert!(directory.learn(record(known, after(1), 2), after(1)), "and its next record counts as well");
    }
}
