//! Who takes part. Each has a store of its own on disk, in one temporary folder, and they meet at the relay only.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use veilcast::client::{Client, ClientBuilder, ClientConfig, ClientError, Multiaddr, Relay, RelayBuilder, SlowReader};
use veilcast::key_store::{SledKeyStore, Unlock};
use veilcast::{Identity, UserId};

use super::DemoError;
use super::stage::Stage;
use super::tape::Tape;

/// Small enough to make six pairs in a moment; real subscribers use 3072 by default.
pub(super) const RSA_BITS: usize = 2048;
/// How long one node may take to stop.
const LEAVE: Duration = Duration::from_secs(2);

/// Somebody with an identity, and the folder that outlives the client.
pub(super) struct Actor {
    identity: Identity,
    client: Option<Client>,
    folder: PathBuf,
    meet: Multiaddr,
}

impl Actor {
    async fn start(folder: PathBuf, meet: Multiaddr) -> Result<Self, DemoError> {
        let identity = Identity::generate(&mut rand::rng());
        let client = Some(open(identity.clone(), &folder, meet.clone()).await?);
        Ok(Self { identity, client, folder, meet })
    }

    pub(super) fn user(&self) -> UserId {
        self.identity.user()
    }

    /// The running client; between the halves of a restart there is none.
    pub(super) fn client(&self) -> Result<&Client, DemoError> {
        self.client.as_ref().ok_or(DemoError::Client(ClientError::Stopped))
    }

    /// Stops the client, closes its store, and starts again from what is on disk.
    pub(super) async fn restart(&mut self) -> Result<(), DemoError> {
        self.leave().await;
        self.client = Some(open(self.identity.clone(), &self.folder, self.meet.clone()).await?);
        Ok(())
    }

    async fn leave(&mut self) {
        if let Some(client) = self.client.take() {
            let _ = tokio::time::timeout(LEAVE, client.stop()).await;
        }
    }
}

/// Opens the store and starts a client.
async fn open(identity: Identity, folder: &Path, meet: Multiaddr) -> Result<Client, DemoError> {
    let store = Arc::new(SledKeyStore::open(folder, &Unlock::KeyFile(folder.with_extension("key")))?);
    let mut config = ClientConfig::default();
    config.rsa_bits = RSA_BITS;
    config.slow_reader = SlowReader::Wait;
    let builder = Client::builder(identity).store(store).config(config).bootstrap(meet);
    let builder = loopback().into_iter().fold(builder, ClientBuilder::listen);
    Ok(builder.start().await?)
}

/// Any free port of this machine only.
fn loopback() -> Option<Multiaddr> {
    "/ip4/127.0.0.1/tcp/0".parse().ok()
}

/// Everybody.
pub(super) struct Cast {
    pub(super) relay: Relay,
    pub(super) tape: Tape,
    pub(super) publisher: Actor,
    /// Has a grant without an end.
    pub(super) reader: Actor,
    /// Has a grant whose end comes during the story.
    pub(super) guest: Actor,
    /// Has no grant.
    pub(super) stranger: Actor,
    /// Has a grant, and nothing in its store: it was not there when the messages came.
    pub(super) latecomer: Actor,
    folder: TempDir,
}

impl Cast {
    /// Starts the relay, then everybody else at once, and waits until all have met.
    pub(super) async fn start(stage: &Stage) -> Result<Self, DemoError> {
        let folder = tempfile::Builder::new().prefix("veilcast-demo-").tempdir().map_err(DemoError::Folder)?;
        let tape = Tape::default();
        let builder = loopback().into_iter().fold(Relay::builder(), RelayBuilder::listen);
        let relay = builder.tap(tape.record()).start().await?;
        let meet = relay.addresses().await.into_iter().next().ok_or(ClientError::Stopped)?;
        stage.says("relay", format!("{meet}  has no key at all"));
        let actor = |name: &str| Actor::start(folder.path().join(name), meet.clone());
        let (publisher, reader, guest, stranger, latecomer) = tokio::try_join!(
            actor("publisher"),
            actor("reader"),
            actor("guest"),
            actor("stranger"),
            actor("latecomer")
        )?;
        Ok(Self { relay, tape, publisher, reader, guest, stranger, latecomer, folder })
    }

    /// Stops everybody and removes the folder.
    pub(super) async fn leave(mut self) {
        tokio::join!(
            self.publisher.leave(),
            self.reader.leave(),
            self.guest.leave(),
            self.stranger.leave(),
            self.latecomer.leave()
        );
        let _ = tokio::time::timeout(LEAVE, self.relay.stop()).await;
        // What cannot be removed is in the system's temporary folder, which is its place.
        let _ = self.folder.close();
    }
}
