//! Veilcast: encrypted data streams that can be sold.
//!
//! Publishers make group keys and hand them to subscribers who may SUBSCRIBE; a libp2p network carries ciphertext only;
//! every key a publisher ever used stays answerable from its own store. An application needs [`Client`] and little else:
//!
//! ```no_run
//! # #[cfg(feature = "p2p")]
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use veilcast::client::{Client, Delivery, StreamOptions};
//! use veilcast::{Event, Identity, Payload, Period, Permission};
//!
//! // Whoever sells: makes a stream, lets somebody in, publishes. What is sent is encrypted; the key is made and kept meanwhile.
//! let seller = Client::builder(Identity::generate(&mut rand::rng())).listen("/ip4/0.0.0.0/tcp/4100".parse()?).start().await?;
//! let stream = seller.create_stream("prices/btc", StreamOptions::default()).await?;
//! # let buyer = Identity::generate(&mut rand::rng());
//! # let buyer_address = buyer.user();
//! seller.grant(&stream, buyer_address, Permission::Subscribe, Period::ALWAYS).await?;
//! seller.publish(&stream, Payload::json(&64_000)?).await?;
//!
//! // Whoever reads, on another machine: asks for each key by itself, once, and is told why where it is refused.
//! let reader = Client::builder(buyer).bootstrap("/ip4/203.0.113.7/tcp/4100".parse()?).start().await?;
//! let mut subscription = reader.subscribe(&stream).await?;
//! while let Some(delivery) = subscription.next().await {
//!     match delivery {
//!         Delivery::Message(message) => println!("{:?}", message.text()),
//!         Delivery::Event(Event::KeyRefused { refusal, .. }) => eprintln!("not for us: {refusal}"),
//!         Delivery::Event(event) => eprintln!("{event:?}"), // KeyPending, KeyArrived, Gap, ...
//!     }
//! }
//! reader.stop().await;
//! seller.stop().await;
//! # Ok(())
//! # }
//! ```
//!
//! The same as a program that runs on one machine is `examples/first_stream.rs`. Keys and records outlive the process where the
//! client is given a [store](key_store::SledKeyStore).
//!
//! The tree, from the pure core outwards:
//!
//! - [`identity`], [`stream`], [`time`]: who, what, when.
//! - [`wire`]: signed envelopes and the two types that carry trust, `Received` and `Verified`.
//! - [`cipher`]: every use of key bytes.
//! - [`key_ring`]: keys agreed on outside the network for all streams under a prefix.
//! - [`message`], [`publisher`], [`subscriber`], [`exchange`]: the protocol as state machines. They take an input and the
//!   time and return effects; they never wait, open, sleep, read a clock or own a random generator.
//! - [`permission`]: who may do what, until when.
//! - [`audit`]: what a publisher gave and refused, in a chain that shows what was done to it.
//! - [`metrics`]: the kinds of figures that Prometheus reads; what counts them are the shells.
//! - [`storage`]: sealed messages at rest, for those who come later.
//! - `network` and `client` (feature `p2p`): a thin tokio and libp2p shell that drives the core, and the `Client` that an
//!   application embeds.

#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod audit;
pub mod cipher;
#[cfg(feature = "p2p")]
pub mod client;
pub mod exchange;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod identity;
pub mod key_ring;
pub mod message;
pub mod metrics;
#[cfg(feature = "p2p")]
pub mod network;
pub mod permission;
pub mod publisher;
pub mod storage;
pub mod stream;
pub mod subscriber;
pub mod time;
pub mod wire;

#[cfg(feature = "p2p")]
pub use client::{Client, ClientError, Delivery, Metrics, Subscription};
pub use identity::{Identity, UserId};
pub use message::{Message, Payload};
pub use permission::{Grant, Period, Permission, Refusal};
pub use stream::{Partition, StreamId, StreamPart};
pub use subscriber::Event;
pub use time::Timestamp;
pub use veilcast_key_store as key_store;

/// The scope of the keys of one publisher on one stream.
pub fn scope(publisher: UserId, stream: &StreamId) -> veilcast_key_store::KeyScope {
    veilcast_key_store::KeyScope::new(*publisher.as_bytes(), stream.as_str())
}
