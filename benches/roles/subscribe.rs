//! A subscriber.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use veilcast::client::{Client, SlowReader, Subscription};
use veilcast::{Delivery, Event};

use super::arrivals::Arrivals;
use super::raw::RawNode;
use super::{Got, Kind, config, identity, stream};
use crate::child::{Command, Parent};
use crate::{Outcome, Usage};

/// A process rests when it uses less than a tenth of a core for so long.
const REST: Duration = Duration::from_millis(200);
/// It never rests where others are busy: then so much must do.
const REST_AT_MOST: u32 = 50;
/// What is expected and does not come for so long does not come.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a subscriber can be told. The first must be [`Reader::Subscribe`].
#[derive(Debug, Serialize, Deserialize)]
pub enum Reader {
    /// Subscribe, and wait for the first message; it is not counted, its time from here on is `p50`.
    Subscribe,
    /// Wait until so many messages came since the last account, or nothing more comes; then the account.
    Expect(u64),
    /// Wait for the first message under this key; then the account.
    Under(String),
}

/// What a subscriber is told at start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ReaderSetup {
    /// With or without work of ours.
    pub kind: Kind,
    /// Which identity it has.
    pub number: u32,
    /// Where the publisher is.
    pub address: String,
}

impl Command for Reader {
    const ROLE: &'static str = "subscriber";
    type Setup = ReaderSetup;
    type Greeting = ();
    type Answer = Got;
}

/// Where messages come from.
enum Source {
    Veilcast { client: Client, subscription: Option<Subscription> },
    Raw(Box<RawNode>),
}

impl Source {
    async fn start(setup: &ReaderSetup) -> Outcome<Self> {
        if setup.kind == Kind::Raw {
            return Ok(Self::Raw(Box::new(RawNode::start(Some(&setup.address)).await?)));
        }
        let mut config = config();
        // It has nothing else to do than to read.
        config.slow_reader = SlowReader::Wait;
        let builder = Client::builder(identity(setup.number)?).config(config);
        let client = builder.bootstrap(setup.address.parse()?).start().await?;
        client.connect(setup.address.parse()?).await?;
        Ok(Self::Veilcast { client, subscription: None })
    }

    async fn subscribe(&mut self) -> Outcome<()> {
        match self {
            Self::Veilcast { client, subscription } => *subscription = Some(client.subscribe(&stream()?).await?),
            Self::Raw(node) => node.subscribe()?,
        }
        Ok(())
    }

    /// Counts the next thing that comes, if it is a message. Safe to drop.
    async fn next(&mut self, arrivals: &mut Arrivals) -> Outcome<()> {
        match self {
            Self::Veilcast { subscription: None, .. } => std::future::pending().await,
            Self::Veilcast { subscription: Some(subscription), .. } => match subscription.next().await {
                Some(Delivery::Message(message)) => {
                    let key = message.key_id.as_ref().map(|key| key.as_str());
                    arrivals.arrived(&message.payload, key);
                }
                Some(Delivery::Event(Event::KeyRefused { refusal, .. })) => return Err(refusal.to_string().into()),
                Some(Delivery::Event(Event::Gap { .. })) => arrivals.gap(),
                Some(Delivery::Event(_)) => {}
                None => return Err("the subscription ended".into()),
            },
            Self::Raw(node) => {
                if let Some(payload) = node.turn().await {
                    arrivals.arrived(&payload, None);
                }
            }
        }
        Ok(())
    }

    /// Takes what comes until `enough`, or until nothing came for long.
    async fn until(&mut self, arrivals: &mut Arrivals, enough: impl Fn(&Arrivals) -> bool) -> Outcome<()> {
        while !enough(arrivals) {
            match tokio::time::timeout(PATIENCE, self.next(arrivals)).await {
                Ok(came) => came?,
                Err(_) => break,
            }
        }
        Ok(())
    }

    /// Until nothing is made ahead any more.
    async fn rest(&mut self) -> Outcome<()> {
        for _ in 0..REST_AT_MOST {
            let before = Usage::own()?.cpu;
            let _ = tokio::time::timeout(REST, self.next(&mut Arrivals::default())).await;
            if Usage::own()?.cpu - before < REST / 10 {
                break;
            }
        }
        Ok(())
    }
}

pub(super) async fn run(setup: ReaderSetup, mut parent: Parent<Reader>) -> Outcome<()> {
    let mut source = Source::start(&setup).await?;
    source.rest().await?;
    parent.greet(())?;
    let (mut arrivals, mut cpu) = (Arrivals::default(), Usage::own()?.cpu);
    loop {
        let command = tokio::select! {
            command = parent.hear() => command,
            came = source.next(&mut arrivals) => {
                came?;
                continue;
            }
        };
        let answer = match command {
            Reader::Subscribe => {
                let start = Instant::now();
                source.subscribe().await?;
                source.until(&mut arrivals, |arrivals| arrivals.count() > 0).await?;
                let took = start.elapsed().as_secs_f64() * 1e3;
                if arrivals.count() == 0 {
                    return Err("no message came".into());
                }
                cpu = Usage::own()?.cpu;
                Got { p50: took, ..arrivals.settle(0.0) }
            }
            Reader::Expect(count) => {
                source.until(&mut arrivals, |arrivals| arrivals.count() >= count).await?;
                let before = std::mem::replace(&mut cpu, Usage::own()?.cpu);
                arrivals.settle((cpu - before).as_secs_f64())
            }
            Reader::Under(key) => {
                source.until(&mut arrivals, |arrivals| arrivals.first_under(&key).is_some()).await?;
                let first_under = arrivals.first_under(&key);
                Got { first_under, ..arrivals.settle(0.0) }
            }
        };
        parent.answer(answer)?;
    }
}
