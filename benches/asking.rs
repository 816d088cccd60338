//! Asking a publisher for keys, as bare nodes do: requests signed one by one, sent, and their answers checked.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use veilcast::client::{Keypair, Multiaddr, PeerId};
use veilcast::key_store::KeyId;
use veilcast::network::{self, Gate, Network, NetworkConfig, Verdict};
use veilcast::time::{Clock, SystemClock};
use veilcast::wire::{ALGORITHM_RSA_OAEP_SHA256, KeyAnswer, KeyRequest, Received, RequestId, Verified, Wanted};
use veilcast::{Identity, StreamId, UserId};

use crate::Outcome;

/// A node without rules.
struct TakesAll;

impl Gate for TakesAll {
    type Accepted = Bytes;

    fn admit_frame(&self, _: &str, frame: &[u8]) -> Result<Bytes, Verdict> {
        Ok(Bytes::copy_from_slice(frame))
    }

    fn is_topic(&self, _: &str) -> bool {
        true
    }

    fn admit_record(&self, _: &[u8], _: &[u8]) -> bool {
        true
    }
}

/// A node without rules, identity or keys.
///
/// # Errors
/// The network's.
pub async fn bare_node() -> Outcome<Network> {
    let (network, mut events) =
        network::spawn(NetworkConfig::new(Keypair::generate_ed25519()), Arc::new(TakesAll)).await?;
    tokio::spawn(async move { while events.recv().await.is_some() {} });
    Ok(network)
}

/// Where to ask, and for what.
#[derive(Clone, Debug)]
pub struct Counter {
    /// Whose keys.
    pub publisher: UserId,
    /// His node.
    pub peer: PeerId,
    /// Where that is.
    pub addresses: Vec<Multiaddr>,
    /// Of which stream.
    pub stream: StreamId,
    /// Which one.
    pub key: KeyId,
    /// The public half of an RSA pair that everybody here uses.
    pub public_key: Vec<u8>,
}

impl Counter {
    /// A request, signed.
    ///
    /// # Errors
    /// None: the request is valid.
    pub fn request(&self, who: &Identity) -> Outcome<Vec<u8>> {
        let request = KeyRequest {
            id: RequestId(rand::random()),
            stream: self.stream.clone(),
            publisher: self.publisher,
            requester: who.user(),
            sent: SystemClock.now(),
            algorithm: ALGORITHM_RSA_OAEP_SHA256,
            public_key: self.public_key.clone(),
            wanted: Wanted::Keys(vec![self.key.clone()]),
            proofs: Vec::new(),
        };
        Ok(Verified::sign(request, who)?.envelope().to_vec())
    }

    /// Sends a request, and tells how long the answer took. Its signature is not checked: that costs the machine as much as the
    /// publisher's part of it.
    ///
    /// # Errors
    /// There was no answer, or a refusal: whoever is honest must be given the key.
    pub async fn send(&self, network: &Network, request: Vec<u8>) -> Outcome<(Duration, Received<KeyAnswer>)> {
        let start = Instant::now();
        let answer = network.request(self.peer, self.addresses.clone(), request).await?;
        let took = start.elapsed();
        let answer = Received::<KeyAnswer>::decode(&answer.into())?;
        if answer.claims().granted.len() == 1 {
            Ok((took, answer))
        } else {
            Err("an honest request was refused".into())
        }
    }

    /// Asks: signs, sends, checks. How long the answer took.
    ///
    /// # Errors
    /// As [`Counter::send`], or the answer is not the publisher's.
    pub async fn ask(&self, network: &Network, who: &Identity) -> Outcome<Duration> {
        let (took, answer) = self.send(network, self.request(who)?).await?;
        answer.verify()?;
        Ok(took)
    }
}
