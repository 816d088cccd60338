//! What the processes of a bench do.
//!
//! [`Publish`] and [`Reader`] tell the parties of one stream what to do, and a [`Group`] is a publisher with its subscribers: with all that Veilcast does ([`Kind::Veilcast`]), or in gossip alone
//! ([`Kind::Raw`]), which is the limit. Every payload begins with when it was due, by the machine's clock, which all processes
//! share.

mod arrivals;
pub mod fill;
mod group;
pub mod keep;
mod pace;
mod publish;
mod raw;
mod subscribe;

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use veilcast::client::ClientConfig;
use veilcast::{Identity, StreamId};

pub use arrivals::Got;
pub use fill::{Fill, FillSetup};
pub use group::{Group, Run, Runs};
pub use keep::{Keep, KeepSetup};
pub use pace::Pace;
pub use publish::{Publish, PublisherSetup, Sent};
pub use subscribe::{Reader, ReaderSetup};

use crate::Outcome;
use crate::child::{Command, Parent};

/// The shortest payload: when it was due, and its number.
pub const SHORTEST: usize = 24;
/// The path of the stream.
const PATH: &str = "bench";

/// With or without work of ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// The whole way: permission, key, seal, sign, gossip, verify, order, open.
    #[default]
    Veilcast,
    /// Gossipsub over TCP, Noise and Yamux, nothing else.
    Raw,
}

/// Runs a role to its end, which is that of the parent.
pub(crate) fn take_on(role: &str, setup: &str) -> Outcome<()> {
    match role {
        Publish::ROLE => run(publish::run, setup),
        Reader::ROLE => run(subscribe::run, setup),
        Fill::ROLE => run(fill::run, setup),
        Keep::ROLE => run(keep::run, setup),
        other => Err(format!("there is no role {other}").into()),
    }
}

fn run<C: Command, F: Future<Output = Outcome<()>>>(
    role: impl FnOnce(C::Setup, Parent<C>) -> F,
    setup: &str,
) -> Outcome<()> {
    let (setup, parent) = (serde_json::from_str(setup)?, Parent::new());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(role(setup, parent));
    if let Err(error) = &outcome {
        Parent::<C>::fail(&error.to_string());
    }
    outcome
}

/// The identity of this number: 0 is the publisher.
///
/// # Errors
/// None: every number makes a valid secret.
pub fn identity(number: u32) -> Outcome<Identity> {
    let mut secret = [1; 32];
    secret[..4].copy_from_slice(&number.to_be_bytes());
    Ok(Identity::from_secret_bytes(&secret)?)
}

/// The stream of the publisher.
///
/// # Errors
/// None: the path is valid.
pub fn stream() -> Outcome<StreamId> {
    Ok(StreamId::of(identity(0)?.user(), PATH)?)
}

/// As recommended, but for RSA-2048.
pub fn config() -> ClientConfig {
    let mut config = ClientConfig::default();
    config.rsa_bits = 2048;
    config
}

/// Nanoseconds since 1970.
pub fn clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// A payload of `size` bytes, or as short as it can be.
fn payload(due: u64, number: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![b'.'; size.max(SHORTEST)];
    bytes[..8].copy_from_slice(&due.to_be_bytes());
    bytes[8..16].copy_from_slice(&number.to_be_bytes());
    bytes[16..SHORTEST].fill(0);
    bytes
}

/// When it was due.
fn due(payload: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(*payload.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_says_when_it_was_due_and_none_is_too_short_to() {
        assert_eq!((due(&payload(7, 1, 100)), payload(7, 1, 100).len()), (Some(7), 100));
        assert_eq!((due(&payload(9, 2, 0)), payload(9, 2, 0).len()), (Some(9), SHORTEST));
        assert_eq!(due(b"short"), None);
    }

    #[test]
    fn every_number_is_another_identity() {
        assert_ne!(identity(0).unwrap().user(), identity(1).unwrap().user());
        assert_eq!(stream().unwrap().owner(), Some(identity(0).unwrap().user()));
    }
}
