//! From an opened data folder to a running client that has met the network.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use veilcast::client::{Client, ClientBuilder, ClientConfig, ClientError, KeySource, Multiaddr};
use veilcast::permission::ethereum::EthereumRegistry;

use crate::args::{Kept, NetworkArgs, Registry, RegistryArgs};
use crate::chain;
use crate::clock::clock;
use crate::failure::Failure;
use crate::output::Output;
use crate::session::Session;

/// How long one bootstrap node may take to answer.
const MEET: Duration = Duration::from_secs(10);
/// How long leaving politely may take.
const LEAVE: Duration = Duration::from_secs(3);

/// Whether keys are exchanged, or only those agreed on beforehand count.
pub(crate) const fn keys(pre_agreed_only: bool) -> KeySource {
    if pre_agreed_only { KeySource::PreAgreedOnly } else { KeySource::Exchange }
}

/// A running client, and the contract it follows.
pub(crate) struct Connected {
    client: Client,
    followed: Option<Arc<EthereumRegistry>>,
}

impl Deref for Connected {
    type Target = Client;
    fn deref(&self) -> &Client {
        &self.client
    }
}

/// Starts a client that reads, and connects it. Of several bootstrap nodes one has to answer; the others are tried again later.
pub(crate) async fn start(
    session: Session,
    args: &NetworkArgs,
    registry: &RegistryArgs,
    config: ClientConfig,
    output: Output<'_>,
) -> Result<Connected, Failure> {
    let asked = match registry.named() {
        Registry::Chain(deployment) => Some(Arc::new(chain::open(deployment, &registry.chain)?)),
        Registry::Kept(_) => None,
    };
    connected(session, args, registry, asked, config, output).await
}

/// The same for one that publishes: it must learn whose time ends, and who is taken back.
pub(crate) async fn start_publisher(
    session: Session,
    args: &NetworkArgs,
    registry: &RegistryArgs,
    config: ClientConfig,
    output: Output<'static>,
) -> Result<Connected, Failure> {
    let followed = followed(&session, registry)?;
    if let Some(registry) = &followed {
        tokio::spawn(chain::tell(Arc::downgrade(registry), output));
    }
    let connected = connected(session, args, registry, followed.clone(), config, output).await?;
    Ok(Connected { followed, ..connected })
}

/// A contract that decides, followed.
fn followed(session: &Session, registry: &RegistryArgs) -> Result<Option<Arc<EthereumRegistry>>, Failure> {
    match registry.named() {
        Registry::Chain(deployment) => Ok(Some(chain::follow(deployment, &registry.chain, session.store.clone())?)),
        Registry::Kept(_) => Ok(None),
    }
}

/// The same, not yet started, and the contract that it follows.
pub(crate) fn publisher(
    session: Session,
    registry: &RegistryArgs,
) -> Result<(ClientBuilder, Option<Arc<EthereumRegistry>>), Failure> {
    let followed = followed(&session, registry)?;
    Ok((set_up(session, registry, followed.clone()), followed))
}

async fn connected(
    session: Session,
    args: &NetworkArgs,
    registry: &RegistryArgs,
    asked: Option<Arc<EthereumRegistry>>,
    config: ClientConfig,
    output: Output<'_>,
) -> Result<Connected, Failure> {
    join(set_up(session, registry, asked).config(config), args, output).await
}

/// A client of a data folder, for which the registry decides.
fn set_up(session: Session, registry: &RegistryArgs, asked: Option<Arc<EthereumRegistry>>) -> ClientBuilder {
    let builder = Client::builder(session.identity).store(session.store).clock(clock());
    match (registry.named(), asked) {
        (_, Some(asked)) => builder.permissions(asked),
        (Registry::Kept(Kept::Grants), None) => builder.signed_grants(),
        _ => builder,
    }
}

/// The same for a node, which listens and joins where it is told.
pub(crate) fn node(session: Session, registry: &RegistryArgs) -> Result<ClientBuilder, Failure> {
    let asked = match registry.named() {
        Registry::Chain(deployment) => Some(Arc::new(chain::open(deployment, &registry.chain)?)),
        Registry::Kept(_) => None,
    };
    Ok(set_up(session, registry, asked))
}

/// Starts what was set up, and connects it.
pub(crate) async fn join(
    mut builder: ClientBuilder,
    args: &NetworkArgs,
    output: Output<'_>,
) -> Result<Connected, Failure> {
    for address in listen_on(args) {
        builder = builder.listen(address);
    }
    for address in &args.bootstrap {
        builder = builder.bootstrap(address.clone());
    }
    let client = builder.start().await?;
    if let Err(error) = meet(&client, &args.bootstrap, output).await {
        let _ = tokio::time::timeout(LEAVE, client.stop()).await;
        return Err(error.into());
    }
    Ok(Connected { client, followed: None })
}

/// Stops a client, without waiting for a peer that does not let go, and notes how far a contract's events were read.
pub(crate) async fn leave(connected: &Connected) {
    stop(&connected.client, connected.followed.as_deref()).await;
}

/// The same of a client and the contract that it follows.
pub(crate) async fn stop(client: &Client, followed: Option<&EthereumRegistry>) {
    let _ = tokio::time::timeout(LEAVE, client.stop()).await;
    if let Some(registry) = followed {
        let _ = tokio::time::timeout(LEAVE, registry.stop()).await;
    }
}

/// Where to listen; a publisher must be reachable to hand out keys, so any free port where nothing else was said.
fn listen_on(args: &NetworkArgs) -> Vec<Multiaddr> {
    let any = || "/ip4/0.0.0.0/tcp/0".parse().ok().into_iter().collect();
    if args.listen.is_empty() { any() } else { args.listen.clone() }
}

/// One of them is enough; those that did not answer are mentioned beside it, and tried again in the background.
async fn meet(client: &Client, bootstrap: &[Multiaddr], output: Output<'_>) -> Result<(), ConnectError> {
    let mut faults = Vec::new();
    for address in bootstrap {
        match tokio::time::timeout(MEET, client.connect(address.clone())).await {
            Ok(Ok(())) => {}
            Ok(Err(source)) => faults.push(ConnectError::Failed { source }),
            Err(_) => faults.push(ConnectError::Silent { address: address.clone(), waited: MEET.as_secs() }),
        }
    }
    if faults.len() < bootstrap.len() {
        faults.iter().for_each(|fault| output.note("bootstrap_failed", fault));
        return Ok(());
    }
    faults.into_iter().next_back().map_or(Ok(()), Err)
}

/// For a node, which runs on while nobody answers: says which of the nodes that it is to join do not. They are tried again in
/// the background.
pub(crate) async fn tell_absent<F>(bootstrap: &[Multiaddr], connect: impl Fn(Multiaddr) -> F, output: Output<'_>)
where
    F: Future<Output = Result<(), ClientError>>,
{
    for address in bootstrap {
        let fault = match tokio::time::timeout(MEET, connect(address.clone())).await {
            Ok(Ok(())) => continue,
            Ok(Err(source)) => ConnectError::Failed { source },
            Err(_) => ConnectError::Silent { address: address.clone(), waited: MEET.as_secs() },
        };
        output.note("bootstrap_failed", format!("{fault}; it is tried again"));
    }
}

/// Nobody to join the network at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ConnectError {
    #[error("{source}; check the --bootstrap address, and that the node it names is running")]
    Failed { source: ClientError },
    #[error(
        "{address} did not answer within {waited} s; check the --bootstrap address, and that the node it names is running"
    )]
    Silent { address: Multiaddr, waited: u64 },
}
