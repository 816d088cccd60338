//! The local registry, kept by an owner that publishes itself.

use std::sync::Arc;

use veilcast::key_store::MemoryKeyStore;
use veilcast::permission::{LocalRegistry, PermissionSource};
use veilcast::{Period, Permission, StreamId, Timestamp, UserId};

use crate::suite::Desk;
use crate::support::identity;

struct Local {
    registry: Arc<LocalRegistry>,
    stream: StreamId,
}

impl Desk for Local {
    const PUBLISHER: u8 = 1;

    async fn open(_: Timestamp) -> Self {
        let registry = Arc::new(LocalRegistry::new(Arc::new(MemoryKeyStore::default())));
        let stream = StreamId::of(identity(1).user(), "s").unwrap();
        registry.create_stream(&stream, 1, false).unwrap();
        Self { registry, stream }
    }

    fn stream(&self) -> &StreamId {
        &self.stream
    }

    fn source(&self) -> Arc<dyn PermissionSource> {
        self.registry.clone()
    }

    /// Knows of no stream; who owns one is in its name.
    fn readers_source(&self, _: UserId) -> Arc<dyn PermissionSource> {
        Arc::new(LocalRegistry::new(Arc::new(MemoryKeyStore::default())))
    }

    async fn grant(&self, user: UserId, permission: Permission, period: Period, now: Timestamp) {
        self.registry.grant(&self.stream, user, permission, period, now).unwrap();
    }

    async fn revoke(&self, user: UserId, now: Timestamp) {
        self.registry.revoke(&self.stream, user, Permission::Subscribe, now).unwrap();
    }

    async fn set_public(&self, public: bool, now: Timestamp) {
        self.registry.set_public(&self.stream, public, now).unwrap();
    }

    async fn pass(&self, _: Timestamp) {}
}

every_rule!(Local, begins later);
