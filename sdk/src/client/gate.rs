//! The protocol's check on frames and records, before anything is relayed, stored or handed up.
//!
//! Runs on worker threads: every message of a frame is decoded and its signature recovered here, once. The same messages
//! in another wrapping (joined otherwise, sent again later) are recognised by what was verified before, and go no further.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use lru::LruCache;
use sha2::{Digest, Sha256};

use super::metrics::Sifted;
use crate::identity::{Domain, UserId};
use crate::metrics::Counts;
use crate::network::{Gate, Verdict};
use crate::stream::StreamId;
use crate::stream::StreamPart;
use crate::time::{Clock, Timestamp};
use crate::wire::{
    Frame, FrameParts, MessageContent, MessageRef, OWNERS_REGISTRY, PublisherRecord, Received, StorageRecord,
    StreamRecord, Verified, kind_of,
};

/// A frame whose every signature is good and whose messages belong to its topic.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) part: StreamPart,
    pub(crate) messages: Vec<Verified<MessageContent>>,
    pub(crate) records: Vec<Verified<PublisherRecord>>,
    /// The frame as it came, for a relay's tap.
    pub(crate) frame: Option<Bytes>,
}

/// Publisher records in one frame: nobody needs to say more often where he is.
const MAX_RECORDS: usize = 8;
/// Messages and records recognised when they come again.
const SEEN: NonZeroUsize = NonZeroUsize::new(65_536).unwrap();

pub(crate) struct ProtocolGate {
    clock: Arc<dyn Clock>,
    keep_frames: bool,
    sifted: Counts<Sifted>,
    seen: Mutex<LruCache<Seen, ()>>,
}

/// What was verified: only its author can have put it here.
#[derive(PartialEq, Eq, Hash)]
enum Seen {
    Message(UserId, [u8; 16], MessageRef),
    Record(UserId, Timestamp, [u8; 16]),
}

impl From<&MessageContent> for Seen {
    fn from(message: &MessageContent) -> Self {
        Self::Message(message.publisher, message.chain, message.at)
    }
}

impl From<&PublisherRecord> for Seen {
    fn from(record: &PublisherRecord) -> Self {
        // Two devices of one publisher may speak in the same millisecond.
        let mut device = [0; 16];
        let digest = Sha256::digest(&record.peer);
        device.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        Self::Record(record.publisher, record.issued, device)
    }
}

impl ProtocolGate {
    pub(crate) fn new(clock: Arc<dyn Clock>, keep_frames: bool, sifted: Counts<Sifted>) -> Self {
        Self { clock, keep_frames, sifted, seen: Mutex::new(LruCache::new(SEEN)) }
    }

    /// Whether a frame brings nothing that was not verified here before.
    fn is_stale(&self, parts: &FrameParts) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        parts.messages.iter().all(|message| seen.contains(&message.claims().into()))
            && parts.records.iter().all(|record| seen.contains(&record.claims().into()))
    }

    fn remember(&self, admitted: &Admitted) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        for message in &admitted.messages {
            seen.put(message.content().into(), ());
        }
        for record in &admitted.records {
            seen.put(record.content().into(), ());
        }
    }

    /// Whether a stream record may be under a DHT key.
    fn admits_stream(&self, key: &[u8], value: &Bytes) -> bool {
        let Ok(received) = Received::<StreamRecord>::decode(value) else { return false };
        let claims = received.claims();
        let belongs = StreamRecord::dht_key(&claims.stream) == key && claims.registry == OWNERS_REGISTRY;
        belongs && claims.holds_at(self.clock.now()) && received.verify().is_ok()
    }

    /// The record under a DHT key, if it belongs there and holds now.
    pub(crate) fn record(&self, key: &[u8], value: &[u8]) -> Option<Verified<PublisherRecord>> {
        let received = Received::<PublisherRecord>::decode(&Bytes::copy_from_slice(value)).ok()?;
        let claims = received.claims();
        let belongs =
            PublisherRecord::dht_key(claims.publisher, claims.slot) == key && claims.holds_at(self.clock.now());
        if belongs { received.verify().ok() } else { None }
    }
}

impl ProtocolGate {
    fn admit(&self, topic: &str, frame: &[u8]) -> Result<Admitted, Verdict> {
        let part = StreamPart::from_topic(topic).ok_or(Verdict::Reject)?;
        let parts = Frame::read(frame).map_err(|_| Verdict::Reject)?;
        let foreign = parts.messages.iter().any(|message| message.claims().part != part);
        if foreign || parts.records.len() > MAX_RECORDS {
            return Err(Verdict::Reject);
        }
        if parts.messages.len() + parts.records.len() > 0 && self.is_stale(&parts) {
            return Err(Verdict::Ignore);
        }
        let FrameParts { messages, records } = parts;
        let messages = messages.into_iter().map(verified).collect::<Result<Vec<_>, _>>()?;
        let mut records = records.into_iter().map(verified).collect::<Result<Vec<_>, _>>()?;
        let now = self.clock.now();
        let before = records.len();
        records.retain(|record| record.content().holds_at(now));
        // A frame of nothing but expired records is worth no bandwidth; it may have been honest when it was sent.
        if messages.is_empty() && records.is_empty() {
            return Err(if before > 0 { Verdict::Ignore } else { Verdict::Reject });
        }
        let admitted =
            Admitted { part, messages, records, frame: self.keep_frames.then(|| Bytes::copy_from_slice(frame)) };
        self.remember(&admitted);
        Ok(admitted)
    }

    /// The storage record under a DHT key, if it belongs there and holds now.
    fn storage_record(&self, key: &[u8], value: &Bytes) -> Option<Verified<StorageRecord>> {
        let received = Received::<StorageRecord>::decode(value).ok()?;
        let claims = received.claims();
        if claims.belongs_under(key) && claims.holds_at(self.clock.now()) { received.verify().ok() } else { None }
    }

    /// The same, of this stream.
    pub(crate) fn storage_record_of(&self, stream: &StreamId, key: &[u8], value: &[u8]) -> Option<StorageRecord> {
        let record = self.storage_record(key, &Bytes::copy_from_slice(value))?.into_content();
        (record.stream == *stream).then_some(record)
    }
}

impl Gate for ProtocolGate {
    type Accepted = Admitted;

    fn admit_frame(&self, topic: &str, frame: &[u8]) -> Result<Admitted, Verdict> {
        let verdict = self.admit(topic, frame);
        self.sifted.add(Sifted::from(&verdict), 1);
        verdict
    }

    fn is_topic(&self, topic: &str) -> bool {
        StreamPart::from_topic(topic).is_some()
    }

    fn admit_record(&self, key: &[u8], value: &[u8]) -> bool {
        let bytes = Bytes::copy_from_slice(value);
        match kind_of(&bytes) {
            Ok(kind) if kind == Domain::StreamRecord.number() => self.admits_stream(key, &bytes),
            Ok(kind) if kind == Domain::StorageRecord.number() => self.storage_record(key, &bytes).is_some(),
            _ => self.record(key, value).is_some(),
        }
    }

    fn supersedes(&self, value: &[u8], stored: &[u8]) -> bool {
        let (value, stored) = (Bytes::copy_from_slice(value), Bytes::copy_from_slice(stored));
        let now = self.clock.now();
        if let Ok(of_stream) = Received::<StreamRecord>::decode(&stored) {
            let version = |bytes| Received::<StreamRecord>::decode(bytes).map(|record| record.claims().version);
            let holds = of_stream.claims().holds_at(now);
            // Of two of one version the first stays, as it does with whoever goes by them.
            return !holds || value == stored || version(&value).is_ok_and(|new| new > of_stream.claims().version);
        }
        // The others go by their date. What lies under one key is of one kind.
        match issued(&stored, now).filter(|(_, holds)| *holds) {
            Some((stored, _)) => issued(&value, now).is_some_and(|(value, _)| value >= stored),
            None => true,
        }
    }
}

/// When the record of a publisher or storage node was made, and whether it holds at `now`.
fn issued(envelope: &Bytes, now: Timestamp) -> Option<(Timestamp, bool)> {
    if let Ok(record) = Received::<PublisherRecord>::decode(envelope) {
        return Some((record.claims().issued, record.claims().holds_at(now)));
    }
    let record = Received::<StorageRecord>::decode(envelope).ok()?;
    Some((record.claims().issued, record.claims().holds_at(now)))
}

fn verified<T: crate::wire::Content>(received: Received<T>) -> Result<Verified<T>, Verdict> {
    received.verify().map_err(|_| Verdict::Reject)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::metrics::frames;
    use crate::identity::Identity;
    use crate::message::{Draft, Payload, compose};
    use crate::stream::StreamId;
    use crate::time::ManualClock;

    const NOW: Timestamp = Timestamp::from_secs(1_000_000);

    fn gate() -> ProtocolGate {
        ProtocolGate::new(Arc::new(ManualClock::at(NOW)), false, frames().1)
    }

    fn author() -> Identity {
        Identity::from_secret_bytes(&[1; 32]).unwrap()
    }

    fn part() -> StreamPart {
        StreamId::of(author().user(), "s").unwrap().part(0).unwrap()
    }

    fn message(sequence: u32) -> Bytes {
        let at = MessageRef { timestamp: NOW, sequence };
        let draft = Draft { part: part(), chain: [1; 16], at, previous: None, key_updates: Vec::new() };
        let signed = compose(draft, &Payload::text("x"), None, &author(), &mut rand::rng()).unwrap();
        Frame::of_message(signed.envelope().clone())
    }

    fn record(issued: Timestamp, expires: Timestamp, slot: u8) -> Verified<PublisherRecord> {
        let record = PublisherRecord {
            publisher: author().user(),
            peer: vec![1; 38],
            addresses: Vec::new(),
            issued,
            expires,
            slot,
        };
        Verified::sign(record, &author()).unwrap()
    }

    #[test]
    fn a_frame_that_brings_nothing_new_goes_no_further_however_it_is_wrapped() {
        let (gate, topic) = (gate(), part().topic());
        let joined = [message(0), message(1)].concat();
        assert_eq!(gate.admit_frame(&topic, &joined).unwrap().messages.len(), 2);
        assert_eq!(gate.admit_frame(&topic, &message(1)).unwrap_err(), Verdict::Ignore);
        assert_eq!(gate.admit_frame(&topic, &[message(1), message(0)].concat()).unwrap_err(), Verdict::Ignore);
        assert_eq!(gate.admit_frame(&topic, &[message(1), message(2)].concat()).unwrap().messages.len(), 2);
    }

    #[test]
    fn a_message_on_another_topic_and_a_forged_one_are_rejected() {
        let (gate, other) = (gate(), StreamId::of(author().user(), "t").unwrap().part(0).unwrap());
        assert_eq!(gate.admit_frame(&other.topic(), &message(0)).unwrap_err(), Verdict::Reject);
        let mut forged = message(0).to_vec();
        let last = forged.len() - 1;
        forged[last] ^= 1;
        assert_eq!(gate.admit_frame(&part().topic(), &forged).unwrap_err(), Verdict::Reject);
        assert_eq!(gate.admit_frame(&part().topic(), b"").unwrap_err(), Verdict::Reject);
        assert!(gate.admit_frame(&part().topic(), &message(0)).is_ok(), "the forgery left no mark");
    }

    #[test]
    fn a_dht_record_counts_under_the_key_of_its_publisher_and_slot_while_it_holds() {
        let (gate, hour) = (gate(), std::time::Duration::from_secs(3600));
        let key_of = |slot| PublisherRecord::dht_key(author().user(), slot);
        for slot in PublisherRecord::slots() {
            let holds = record(NOW, NOW.plus(hour), slot);
            let admitted =
                PublisherRecord::slots().filter(|other| gate.admit_record(&key_of(*other), holds.envelope()));
            assert_eq!(admitted.collect::<Vec<_>>(), [slot], "a copy in another slot would push another device out");
            assert!(!gate.admit_record(&key_of(PublisherRecord::slots().end), holds.envelope()));
            assert!(!gate.admit_record(b"elsewhere", holds.envelope()));
            let expired = record(NOW.minus(hour), NOW, slot);
            assert!(!gate.admit_record(&key_of(slot), expired.envelope()));
        }
    }

    fn stream_record(version: u64, registry: &str) -> Verified<StreamRecord> {
        let record = StreamRecord {
            stream: part().stream().clone(),
            registry: registry.into(),
            partitions: 1,
            public: version == 2,
            public_until: None,
            publishers: Vec::new(),
            version,
            issued: NOW,
            expires: NOW.plus(std::time::Duration::from_secs(60)),
            revocations: Vec::new(),
            storage: Vec::new(),
        };
        Verified::sign(record, &author()).unwrap()
    }

    #[test]
    fn a_stream_record_counts_under_its_streams_key_and_gives_way_to_a_higher_version_only() {
        let (clock, key) = (Arc::new(ManualClock::at(NOW)), StreamRecord::dht_key(part().stream()));
        let gate = ProtocolGate::new(clock.clone(), false, frames().1);
        let [one, two, foreign] = [(1, "owner"), (2, "owner"), (3, "eip155:1:0x0")].map(|(v, r)| stream_record(v, r));
        assert!(gate.admit_record(&key, one.envelope()));
        assert!(!gate.admit_record(b"elsewhere", one.envelope()));
        assert!(!gate.admit_record(&key, foreign.envelope()), "for another registry");
        let mut forged = one.envelope().to_vec();
        let last = forged.len() - 2;
        forged[last] ^= 1;
        assert!(!gate.admit_record(&key, &forged));

        assert!(gate.supersedes(two.envelope(), one.envelope()));
        assert!(!gate.supersedes(one.envelope(), two.envelope()), "played again");
        let twin = StreamRecord { partitions: 2, ..one.content().clone() };
        let twin = Verified::sign(twin, &author()).unwrap();
        assert!(!gate.supersedes(twin.envelope(), one.envelope()), "of two of one version the first");
        assert!(gate.supersedes(one.envelope(), one.envelope()), "it is put again to stay");
        clock.advance(std::time::Duration::from_secs(60));
        assert!(!gate.admit_record(&key, one.envelope()));
        assert!(gate.supersedes(one.envelope(), two.envelope()), "what expired holds no place");
    }

    #[test]
    fn records_that_two_devices_made_in_the_same_moment_both_pass() {
        let (gate, topic) = (gate(), part().topic());
        let first = record(NOW, NOW.plus(std::time::Duration::from_secs(60)), 0);
        let second = PublisherRecord { peer: vec![2; 38], ..first.content().clone() };
        let second = Verified::sign(second, &author()).unwrap();
        for record in [&first, &second] {
            let frame = Frame::of_record(record.envelope().clone());
            assert_eq!(gate.admit_frame(&topic, &frame).unwrap().records.len(), 1);
            assert_eq!(gate.admit_frame(&topic, &frame).unwrap_err(), Verdict::Ignore);
        }
    }
}
