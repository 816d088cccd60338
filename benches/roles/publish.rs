//! A publisher.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use veilcast::client::{Client, KeyUpdateMethod, StreamOptions};
use veilcast::exchange::Rate;
use veilcast::key_store::{KeyStore, SledKeyStore};
use veilcast::{Payload, Period, Permission};

use super::fill;
use super::pace::Pace;
use super::raw::RawNode;
use super::{Kind, PATH, clock, config, identity, payload, stream};
use crate::child::{Command, Parent};
use crate::{Outcome, Usage};

/// How often a rekey's key is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// What a publisher can be told.
#[derive(Debug, Serialize, Deserialize)]
pub enum Publish {
    /// Wait until so many peers take part.
    Await(usize),
    /// Publish; answered when all is handed to the network.
    Messages(Pace),
    /// Change the key, and publish a message under it.
    Update {
        /// Rekey, or else rotate.
        rekey: bool,
    },
}

/// What a publisher is told at start.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PublisherSetup {
    /// With or without work of ours.
    pub kind: Kind,
    /// Subscribers who may read: those of the numbers 1 to this.
    pub subscribers: u32,
    /// Without limits on who asks how often, so that what is measured is the work.
    pub unthrottled: bool,
    /// Keys of the past that it has.
    pub keys: u64,
    /// The node through which it meets its subscribers, if not directly.
    pub through: Option<String>,
}

/// What a publisher did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sent {
    /// Messages.
    pub count: u64,
    /// How long it took, seconds.
    pub seconds: f64,
    /// Processor time of this process per message, microseconds.
    pub cpu: f64,
    /// The key that came with an update, or that messages went out under.
    pub key: String,
    /// When the update was called for, nanoseconds since 1970.
    pub called: u64,
    /// Subscribers who confirmed to hold the key when the update returned.
    pub pushed: usize,
}

impl Command for Publish {
    const ROLE: &'static str = "publisher";
    type Setup = PublisherSetup;
    /// Where it listens.
    type Greeting = String;
    type Answer = Sent;
}

pub(super) async fn run(setup: PublisherSetup, parent: Parent<Publish>) -> Outcome<()> {
    match setup.kind {
        Kind::Veilcast => veilcast(setup, parent).await,
        Kind::Raw => raw(parent).await,
    }
}

async fn veilcast(setup: PublisherSetup, mut parent: Parent<Publish>) -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let store = Arc::new(fill::open(folder.path())?);
    fill::fill(&*store, setup.keys)?;
    let client = client(store.clone(), &setup).await?;
    let address = client.addresses().await.first().ok_or("it does not listen")?.to_string();
    parent.greet(address)?;
    loop {
        let answer = match parent.hear().await {
            Publish::Await(peers) => {
                client.wait_for_peers(&stream()?.part(0)?, peers).await;
                Sent::default()
            }
            Publish::Messages(pace) => {
                let sent = messages(&client, pace).await?;
                let current = store.current(&veilcast::scope(client.user(), &stream()?))?;
                Sent { key: current.map(|stored| stored.key.id().to_string()).unwrap_or_default(), ..sent }
            }
            Publish::Update { rekey } => update(&client, &store, rekey).await?,
        };
        parent.answer(answer)?;
    }
}

/// On disk, as a publisher's keys are.
async fn client(store: Arc<SledKeyStore>, setup: &PublisherSetup) -> Outcome<Client> {
    let mut config = config();
    if setup.unthrottled {
        let any = Rate { per_second: 1_000_000, burst: 1_000_000 };
        (config.screen.per_peer, config.screen.per_subscriber, config.screen.total) = (any, any, any);
    }
    let mut builder = Client::builder(identity(0)?).store(store).config(config);
    if let Some(node) = &setup.through {
        builder = builder.bootstrap(node.parse()?);
    }
    let client = builder.listen("/ip4/127.0.0.1/tcp/0".parse()?).start().await?;
    let stream = client.create_stream(PATH, StreamOptions::default()).await?;
    for number in 1..=setup.subscribers {
        client.grant(&stream, identity(number)?.user(), Permission::Subscribe, Period::ALWAYS).await?;
    }
    Ok(client)
}

/// From a thread of its own, so that its waits are exact and disturb nobody.
async fn messages(client: &Client, pace: Pace) -> Outcome<Sent> {
    let (client, stream, runtime) = (client.clone(), stream()?, Handle::current());
    let (sender, sent) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let publish = || -> Outcome<Sent> {
            let before = (Usage::own()?.cpu, std::time::Instant::now());
            let mut count = 0;
            for due in pace.ticks() {
                let payload = Payload::binary(payload(due, count, pace.size));
                runtime.block_on(client.publish(&stream, payload))?;
                count += 1;
            }
            runtime.block_on(client.flush());
            let cpu = (Usage::own()?.cpu - before.0).as_secs_f64() * 1e6 / count.max(1) as f64;
            Ok(Sent { count, seconds: before.1.elapsed().as_secs_f64(), cpu, ..Sent::default() })
        };
        drop(sender.send(publish()));
    });
    sent.await?
}

/// Nothing else goes on than what shows the new key: on a machine that all subscribers share, a busy stream would be what is measured.
async fn update(client: &Client, store: &SledKeyStore, rekey: bool) -> Outcome<Sent> {
    let (stream, called) = (stream()?, clock());
    let publish = async || client.publish(&stream, Payload::binary(payload(clock(), 0, 256))).await;
    if !rekey {
        let report = client.update_encryption_key(&stream, KeyUpdateMethod::Rotate, None).await?;
        // The first carries the key, the second is under it.
        publish().await?;
        publish().await?;
        return Ok(Sent { key: report.key_id.to_string(), called, ..Sent::default() });
    }
    let scope = veilcast::scope(client.user(), &stream);
    let current = || Outcome::Ok(store.current(&scope)?.map(|stored| stored.key.id().clone()));
    let before = current()?;
    let under_the_new_key = async {
        while current()? == before {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        publish().await?;
        Outcome::Ok(())
    };
    let update = client.update_encryption_key(&stream, KeyUpdateMethod::Rekey, None);
    let (report, published) = tokio::join!(update, under_the_new_key);
    let (report, ()) = (report?, published?);
    Ok(Sent { key: report.key_id.to_string(), called, pushed: report.pushed.len(), ..Sent::default() })
}

async fn raw(mut parent: Parent<Publish>) -> Outcome<()> {
    let mut node = RawNode::start(None).await?;
    parent.greet(node.address().ok_or("it does not listen")?)?;
    loop {
        let command = tokio::select! {
            command = parent.hear() => command,
            _ = node.turn() => continue,
        };
        let answer = match command {
            Publish::Await(peers) => {
                while node.peers() < peers {
                    node.turn().await;
                }
                Sent::default()
            }
            Publish::Messages(pace) => {
                let (before, start) = (Usage::own()?.cpu, std::time::Instant::now());
                let count = node.publish(pace).await?;
                let cpu = (Usage::own()?.cpu - before).as_secs_f64() * 1e6 / count.max(1) as f64;
                Sent { count, seconds: start.elapsed().as_secs_f64(), cpu, ..Sent::default() }
            }
            Publish::Update { .. } => return Err("there is no key to change".into()),
        };
        parent.answer(answer)?;
    }
}
