//! "The keys of a long past are here in seconds."
//!
//! A publisher with a long history on disk, in a process of its own; a subscriber with a store on disk fetches all of it, page
//! by page, each on disk before the next is asked for. Without limits on who asks how often, which is the work, and with the
//! recommended ones, which is what a stranger gets. The limit is the subscriber's store alone: the same keys, the same pages.

use std::sync::Arc;

use veilcast::Timestamp;
use veilcast::client::Client;
use veilcast::key_store::KeyStore;
use veilcast::wire::MAX_KEYS_PER_ANSWER;
use veilcast_benches::roles::{Kind, Publish, PublisherSetup, config, fill, identity, stream};
use veilcast_benches::{Child, Line, Outcome, Report, Sample, quick_or, run, timed};

/// Keys per second of a whole fetch by this subscriber.
async fn fetch(address: &str, number: u32, keys: u64, unthrottled: bool) -> Outcome<f64> {
    let folder = tempfile::tempdir()?;
    let mut config = config();
    if unthrottled {
        config.requester.max_key_requests_per_second = 1_000_000;
    }
    let builder = Client::builder(identity(number)?).store(Arc::new(fill::open(folder.path())?)).config(config);
    let client = builder.bootstrap(address.parse()?).start().await?;
    client.connect(address.parse()?).await?;
    let always = Timestamp::ZERO..=Timestamp::from_millis(u64::MAX);
    let start = std::time::Instant::now();
    let fetched = client.fetch_keys(&stream()?, identity(0)?.user(), always)?.finish().await?;
    let rate = keys as f64 / start.elapsed().as_secs_f64();
    client.stop().await;
    if fetched.keys == keys { Ok(rate) } else { Err(format!("{} of {keys} keys came", fetched.keys).into()) }
}

/// The same keys put into a store, a page with one sync, keys per second.
fn stored(keys: u64) -> Outcome<f64> {
    let (folder, scope) = (tempfile::tempdir()?, fill::scope()?);
    let (store, keys) = (fill::open(folder.path())?, (0..keys).map(fill::key).collect::<Outcome<Vec<_>>>()?);
    let add = || keys.chunks(MAX_KEYS_PER_ANSWER).try_for_each(|page| store.add_all(&scope, page).map(drop));
    let (took, added) = timed(add);
    added?;
    Ok(keys.len() as f64 / took.as_secs_f64())
}

fn main() -> Outcome<()> {
    run(|| {
        let mut report = Report::begin("fetch")?;
        let runtime = tokio::runtime::Runtime::new()?;
        let rounds = quick_or(1, 3);
        for (name, keys, unthrottled) in
            [("without limits", 50_000, true), ("with the recommended limits", 20_000, false)]
        {
            let keys = quick_or(600, keys);
            let setup = PublisherSetup { kind: Kind::Veilcast, subscribers: rounds, unthrottled, keys, through: None };
            let (_publisher, address) = Child::<Publish>::start(&setup)?;
            let (mut rates, mut limits) = (Vec::new(), Vec::new());
            for number in 1..=rounds {
                limits.push(stored(keys)?);
                rates.push(runtime.block_on(fetch(&address, number, keys, unthrottled))?);
            }
            let line = Line::rate(format!("historical keys fetched, {name}"), "1/s", &Sample::of(rates));
            report.line(line.limit(Sample::of(limits).median(), "storing them"));
        }
        report.save()
    })
}
