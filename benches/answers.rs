//! "A publisher answers thousands of key requests a second."
//!
//! A publisher in a process of its own, with its keys and the ledger of who was given them on disk; as many identities as there are requests in a second
//! ask through several nodes, their requests signed beforehand. Limits on how often somebody may ask are off: what is measured is
//! the work. The limit is what each answer cannot do without: a recovery, an RSA-2048 encryption and a signature, on all cores;
//! the nodes that ask run on the same ones.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::task::JoinSet;
use veilcast::cipher::{PublicKey, Recipient, RsaPair, encapsulate};
use veilcast::identity::Domain;
use veilcast::key_store::{KeyId, KeyScope};
use veilcast::network::Network;
use veilcast::wire::RequestId;
use veilcast_benches::roles::{Kind, Pace, Publish, PublisherSetup, identity, stream};
use veilcast_benches::{
    Better, Child, Counter, Line, Outcome, Report, Sample, bare_node, cores, in_turn, quick_or, run,
};

/// Nodes that ask, and requests that each has under way: as many as a publisher takes from one peer.
const NODES: usize = 8;
const UNDER_WAY: usize = 24;

/// What an answer cannot do without, seconds.
fn limit(pair: &RsaPair) -> Outcome<f64> {
    let (public, who, scope) =
        (PublicKey::from_der(pair.public().as_der())?, identity(1)?, KeyScope::new([1; 20], "bench"));
    let bytes = [7; 700];
    let signature = who.sign(Domain::KeyRequest, &bytes);
    let recipient = || Recipient { scope: &scope, subscriber: who.user(), request: RequestId([0; 16]) };
    let mut work = || {
        _ = black_box(signature.signer(Domain::KeyRequest, &bytes).is_ok());
        _ = black_box(encapsulate(recipient(), &public, &mut rand::rng()).is_ok());
        _ = black_box(who.sign(Domain::KeyAnswer, &bytes));
    };
    // One at a time: a longer stretch would count what others do on the same core.
    let [each] = in_turn(quick_or(50, 1000), 1, [&mut work]);
    Ok(each.median())
}

/// Answers per second to requests made before.
async fn measure(counter: &Counter, nodes: &[Network], identities: u32) -> Outcome<f64> {
    let requests: Vec<_> = (1..=identities).map(|n| counter.request(&identity(n)?)).collect::<Outcome<_>>()?;
    let (requests, next, start) = (Arc::new(requests), Arc::new(AtomicUsize::new(0)), Instant::now());
    let mut asking = JoinSet::new();
    for n in 0..NODES * UNDER_WAY {
        let (counter, node, requests, next) =
            (counter.clone(), nodes[n % NODES].clone(), requests.clone(), next.clone());
        asking.spawn(async move {
            while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
                counter.send(&node, request.clone()).await?;
            }
            Outcome::Ok(())
        });
    }
    while let Some(ended) = asking.join_next().await {
        ended??;
    }
    Ok(f64::from(identities) / start.elapsed().as_secs_f64())
}

async fn all(report: &mut Report) -> Outcome<()> {
    let pair = RsaPair::generate(2048, &mut rand::rng())?;
    let least = limit(&pair)?;
    let identities = quick_or(300, 10_000);
    let setup = PublisherSetup {
        kind: Kind::Veilcast,
        subscribers: identities,
        unthrottled: true,
        ..PublisherSetup::default()
    };
    let (mut publisher, address) = Child::<Publish>::start(&setup)?;
    let sent = publisher.ask(&Publish::Messages(Pace { per_second: Some(100.0), size: 64, seconds: 0.02 }))?;
    let address: veilcast::client::Multiaddr = address.parse()?;
    let peer = address.iter().find_map(|part| match part {
        libp2p::multiaddr::Protocol::P2p(peer) => Some(peer),
        _ => None,
    });
    let counter = Counter {
        publisher: identity(0)?.user(),
        peer: peer.ok_or("an address without a peer")?,
        addresses: vec![address],
        stream: stream()?,
        key: KeyId::new(&sent.key)?,
        public_key: pair.public().as_der().to_vec(),
    };
    let mut nodes = Vec::new();
    for _ in 0..NODES {
        let node = bare_node().await?;
        counter.ask(&node, &identity(1)?).await?;
        nodes.push(node);
    }
    let (mut rates, mut costs) = (Vec::new(), Vec::new());
    for _ in 0..quick_or(1, 3) {
        let before = publisher.usage()?.cpu;
        rates.push(measure(&counter, &nodes, identities).await?);
        costs.push((publisher.usage()?.cpu - before).as_secs_f64() / f64::from(identities));
    }
    let (most, costs) = (cores() as f64 / least, Sample::of(costs));
    let line = Line::rate("key requests answered, those who ask on the same cores", "1/s", &Sample::of(rates));
    report.line(line.limit(most, "the three operations on all cores"));
    let line = Line::cost("processor time per answer, publisher", "us", 1e6, &costs);
    report.line(line.limit(least * 1e6, "recover, encrypt, sign"));
    let line = Line::new("what all cores answer at that cost", Better::More, "1/s", cores() as f64 / costs.median());
    report.line(line.limit(most, "the three operations on all cores").target(5000.0));
    Ok(())
}

fn main() -> Outcome<()> {
    run(|| {
        let mut report = Report::begin("answers")?;
        tokio::runtime::Runtime::new()?.block_on(all(&mut report))?;
        report.save()
    })
}
