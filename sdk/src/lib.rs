//! Veilcast: encrypted data streams that can be sold.
//!
//! Publishers make group keys and hand them to subscribers who may SUBSCRIBE; a libp2p network carries ciphertext only;
//! every key a publisher ever used stays answerable from its own store.
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
