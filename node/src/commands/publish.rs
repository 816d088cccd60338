//! `veilcast publish`: lines of stdin become encrypted messages.
//!
//! ```text
//! may I? ─▶ join the network ─▶ somebody listens ─▶ line by line ─▶ flush ─▶ linger
//! ```

mod linger;

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::sync::mpsc;
use veilcast::client::{Client, ClientConfig, ClientError, Multiaddr};
use veilcast::key_store::{KeyOrigin, KeyStore, SledKeyStore};
use veilcast::permission::RegistryError;
use veilcast::{Partition, Payload, Permission, Refusal, StreamPart};

use super::{now, rhythm};
use crate::args::{PublishArgs, Registry, Shared};
use crate::chain::{self, ChainFailure};
use crate::connect;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::lines::{self, LineError};
use crate::output::Output;
use crate::session::Session;

/// How long to wait for somebody to publish to, where a bootstrap node was named and nothing else was said.
const WAIT: Duration = Duration::from_secs(10);
/// An input that has another line gives it within this time.
const NEXT_LINE: Duration = Duration::from_millis(300);

pub(crate) async fn run(
    args: PublishArgs,
    shared: Shared,
    output: Output<'static>,
    mut stop: Interrupt,
) -> Result<Exit, Failure> {
    let session = Session::open(&shared)?;
    let part = destination(&session, &args).await?;
    let mut config = ClientConfig::default();
    config.keys = connect::keys(args.pre_agreed_only);
    let store = session.store.clone();
    let Some(started) = stop.or(connect::start_publisher(session, &args.network, &args.registry, config, output)).await
    else {
        output.note("interrupted", "interrupted; nothing was published");
        return Ok(Exit::Failed);
    };
    let client = started?;
    let lines = lines::read(std::io::stdin(), ClientConfig::default().max_payload);
    let mut publishing =
        Publishing { client: &client, store, args: &args, part, output, lines, in_hand: false, published: 0 };
    let outcome = stop.or(publishing.all()).await;
    let mut is_cut_short = false;
    if outcome.is_none() {
        output.note("stopping", "stopping");
        is_cut_short = publishing.is_cut_short().await;
        if is_cut_short {
            let text = format!("interrupted behind {}; what else stdin has was not published", publishing.count());
            output.note("interrupted", text);
        }
        let _ = tokio::time::timeout(Duration::from_secs(2), client.flush()).await;
    }
    let summary = publishing.summary();
    connect::leave(&client).await;
    outcome.unwrap_or(Ok(()))?;
    if output.is_json() {
        output.line(summary)?
    } else {
        output.note("done", summary)
    }
    // A script must see that there is more to publish.
    Ok(if is_cut_short { Exit::Failed } else { Exit::Done })
}

/// Where the messages go. Refusals come from here, before anything is sent or waited for.
async fn destination(session: &Session, args: &PublishArgs) -> Result<StreamPart, Failure> {
    let (user, stream, permission, now) = (session.identity.user(), &args.stream, Permission::Publish, now());
    let refused = |refusal| ClientError::NotPermitted { user, stream: stream.clone(), permission, refusal };
    let info = if let Registry::Chain(deployment) = args.registry.named() {
        let registry = chain::open(deployment, &args.registry.chain)?;
        let info = registry.stream_info(stream, now).await.map_err(ChainFailure::from)?;
        let info = info.ok_or_else(|| ChainFailure::NoStream { stream: stream.clone() })?;
        registry.ask(stream, user, permission, now).await.map_err(ChainFailure::from)?.map_err(refused)?;
        info
    } else {
        let source = session.source(&args.registry)?;
        source.check(stream, user, permission, now).await.map_err(refused)?;
        let info = source.stream_at(stream, now).await.map_err(refused)?;
        info.ok_or_else(|| RegistryError::NoStream { stream: stream.clone() })?
    };
    Ok(stream.part(partition(args).number(info.partitions)?)?)
}

fn partition(args: &PublishArgs) -> Partition {
    match &args.partition_key {
        Some(key) => Partition::Key(key.clone()),
        None => Partition::Number(args.partition.unwrap_or(0)),
    }
}

struct Publishing<'a> {
    client: &'a Client,
    store: Arc<SledKeyStore>,
    args: &'a PublishArgs,
    part: StreamPart,
    output: Output<'a>,
    /// Read ahead.
    lines: mpsc::Receiver<Result<Vec<u8>, LineError>>,
    /// One of them is being published.
    in_hand: bool,
    published: u64,
}

impl Publishing<'_> {
    async fn all(&mut self) -> Result<(), Failure> {
        self.set_policy().await?;
        self.wait_for_somebody().await?;
        let outcome = self.lines().await;
        self.client.flush().await;
        // What was sent before a bad line must stay readable too.
        self.linger().await;
        outcome
    }

    /// What was given counts from now on, and is kept; the rest is as it was kept before.
    async fn set_policy(&self) -> Result<(), ClientError> {
        let stream = &self.args.stream;
        let policy = self.args.rhythm.over(self.client.key_policy(stream).await?);
        if self.args.rhythm.is_given() {
            self.client.set_key_policy(stream, policy).await?;
        }
        if !policy.is_never() {
            self.output.note("key_policy", format!("the key {}", rhythm::in_words(policy)));
        }
        Ok(())
    }

    async fn wait_for_somebody(&self) -> Result<(), PublishError> {
        let limit = self.args.wait.or((!self.args.network.bootstrap.is_empty()).then_some(WAIT));
        let somebody = self.client.wait_for_peers(&self.part, 1);
        let Some(limit) = limit else {
            let at: Vec<String> = self.client.addresses().await.iter().map(Multiaddr::to_string).collect();
            self.output.note("waiting", format!("waiting for somebody to subscribe at {}", at.join(" or ")));
            somebody.await;
            return Ok(());
        };
        self.output.note("waiting", format!("waiting for somebody who listens to {} (at most {limit:?})", self.part));
        let nobody = |_| PublishError::Nobody { part: self.part.clone(), waited: limit };
        tokio::time::timeout(limit, somebody).await.map_err(nobody)
    }

    async fn lines(&mut self) -> Result<(), Failure> {
        self.output.note("publishing", format!("publishing lines of stdin as {} to {}", self.client.user(), self.part));
        while let Some(line) = self.lines.recv().await {
            let payload = payload(line.map_err(PublishError::Line)?);
            self.in_hand = true;
            self.line(payload).await?;
            self.in_hand = false;
            self.published += 1;
        }
        Ok(())
    }

    /// Whether stdin had more than was published. An input that is quiet for now, such as a log that is followed, had not.
    async fn is_cut_short(&mut self) -> bool {
        self.in_hand || matches!(tokio::time::timeout(NEXT_LINE, self.lines.recv()).await, Ok(Some(_)))
    }

    /// One message, as soon as the registry can be asked: that it cannot be for a while is not the end.
    async fn line(&self, payload: Payload) -> Result<(), ClientError> {
        loop {
            let part = Partition::Number(self.part.number());
            match self.client.publish_to(&self.args.stream, part, payload.clone(), None).await {
                Err(ClientError::NotPermitted { refusal: Refusal::Unavailable { retry_after }, .. }) => {
                    let text = format!(
                        "the registry cannot be asked whether you may publish; trying again in {retry_after:?}"
                    );
                    self.output.note("waiting_for_registry", text);
                    tokio::time::sleep(retry_after).await;
                }
                outcome => return outcome.map(drop),
            }
        }
    }

    async fn linger(&self) {
        if self.args.stay {
            self.output.note("staying", format!("{} published; answering key requests until Ctrl-C", self.count()));
            std::future::pending::<()>().await;
        }
        let text = format!("{} published; answering key requests a little longer (--stay: until Ctrl-C)", self.count());
        self.output.note("lingering", text);
        let must_be_asked = self.must_be_asked().await;
        linger::until_quiet(self.client, must_be_asked, self.args.linger).await;
    }

    /// Whether nobody has any of the keys that the messages are under, as far as it is known: then somebody will ask.
    async fn must_be_asked(&self) -> bool {
        let (scope, store) = (veilcast::scope(self.client.user(), &self.args.stream), self.store.clone());
        let current = tokio::task::spawn_blocking(move || store.current(&scope)).await;
        let is_exchanged =
            matches!(current, Ok(Ok(Some(key))) if key.origin != KeyOrigin::PreAgreed) && !self.args.pre_agreed_only;
        is_exchanged && self.client.holders(&self.args.stream).await.is_ok_and(|holders| holders.is_empty())
    }

    fn count(&self) -> String {
        if self.published == 1 { "1 message".into() } else { format!("{} messages", self.published) }
    }

    fn summary(&self) -> String {
        let stats = self.client.stats();
        let json = json!({
            "stream": self.part.stream().as_str(),
            "partition": self.part.number(),
            "published": self.published,
            "keys_rotated": stats.keys_rotated,
            "keys_rekeyed": stats.keys_rekeyed,
            "key_requests": stats.key_requests_received,
            "keys_granted": stats.keys_granted,
            "keys_refused": stats.keys_refused,
        });
        if self.output.is_json() {
            return crate::output::to_line(&json);
        }
        let (asked, granted, refused) = (stats.key_requests_received, stats.keys_granted, stats.keys_refused);
        let (rotated, rekeyed) = (stats.keys_rotated, stats.keys_rekeyed);
        format!(
            "{} published; rotated {rotated} times, rekeyed {rekeyed}; key requests: {asked}, keys granted: {granted}, refused: {refused}",
            self.count()
        )
    }
}

/// JSON goes as JSON, byte for byte; else it is text, or bytes where it is not even UTF-8.
fn payload(line: Vec<u8>) -> Payload {
    if let Ok(json) = Payload::json_text(line.clone()) {
        return json;
    }
    match String::from_utf8(line) {
        Ok(text) => Payload::text(text),
        Err(error) => Payload::binary(error.into_bytes()),
    }
}

/// Why publishing ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum PublishError {
    #[error(
        "nobody listens to {part} (waited {waited:?}), so nothing was sent; start a subscriber first, check the --bootstrap address, or wait longer with --wait"
    )]
    Nobody { part: StreamPart, waited: Duration },
    #[error(transparent)]
    Line(LineError),
}
