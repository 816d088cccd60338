//! What an owner signed, that is never on the network: publisher and readers are handed its lines.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use veilcast::key_store::MemoryKeyStore;
use veilcast::permission::{Issuer, PermissionSource, SignedGrants, StreamSettings};
use veilcast::{Period, Permission, StreamId, Timestamp, UserId};

use crate::suite::Desk;
use crate::support::identity;

struct Signed {
    issuer: Issuer,
    stream: StreamId,
    publisher: Arc<SignedGrants>,
    readers: Mutex<HashMap<UserId, Arc<SignedGrants>>>,
}

fn empty() -> Arc<SignedGrants> {
    Arc::new(SignedGrants::new(Arc::new(MemoryKeyStore::default())))
}

impl Signed {
    fn set_up(&self, public: bool, now: Timestamp) {
        let publishers = vec![identity(Self::PUBLISHER).user()];
        let settings = StreamSettings { partitions: 1, public, publishers, storage: Vec::new() };
        let record = self.issuer.set_up(&self.stream, &settings, now).unwrap();
        self.publisher.import(record.envelope(), now).unwrap();
    }

    fn reader(&self, user: UserId) -> Arc<SignedGrants> {
        self.readers.lock().unwrap().entry(user).or_insert_with(empty).clone()
    }

    fn hand_over(&self, user: UserId, envelope: &Bytes, now: Timestamp) {
        for holder in [&self.publisher, &self.reader(user)] {
            holder.import(envelope, now).unwrap();
        }
    }
}

impl Desk for Signed {
    const PUBLISHER: u8 = 7;

    async fn open(now: Timestamp) -> Self {
        let stream = StreamId::of(identity(1).user(), "s").unwrap();
        let issuer = Issuer::new(identity(1), empty());
        let signed = Self { issuer, stream, publisher: empty(), readers: Mutex::default() };
        signed.set_up(false, now);
        signed
    }

    fn stream(&self) -> &StreamId {
        &self.stream
    }

    fn source(&self) -> Arc<dyn PermissionSource> {
        self.publisher.clone()
    }

    fn readers_source(&self, user: UserId) -> Arc<dyn PermissionSource> {
        let reader = self.reader(user);
        let (record, envelope) = self.publisher.record(&self.stream).unwrap().unwrap();
        reader.import(&envelope, record.issued).unwrap();
        reader
    }

    async fn grant(&self, user: UserId, permission: Permission, period: Period, now: Timestamp) {
        let grant = self.issuer.issue(&self.stream, user, permission, period, now).unwrap();
        self.hand_over(user, grant.envelope(), now);
    }

    async fn revoke(&self, user: UserId, now: Timestamp) {
        let record = self.issuer.revoke_user(&self.stream, user, now).unwrap();
        self.publisher.import(record.envelope(), now).unwrap();
    }

    async fn set_public(&self, public: bool, now: Timestamp) {
        self.set_up(public, now);
    }

    async fn pass(&self, _: Timestamp) {}
}

every_rule!(Signed, begins later);
