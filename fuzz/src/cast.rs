//! Who and what the targets know: the same in every run, so that a corpus keeps its meaning.

use std::sync::OnceLock;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use veilcast::cipher::RsaPair;
use veilcast::key_store::{GroupKey, KeyId, KeyScope};
use veilcast::{Identity, StreamId, Timestamp};

pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_900_000_000);

pub(crate) fn identity(byte: u8) -> Identity {
    Identity::from_secret_bytes(&[byte; 32]).expect("below the order of the curve")
}

pub(crate) fn publisher() -> Identity {
    identity(0x11)
}

pub(crate) fn subscriber() -> Identity {
    identity(0x22)
}

pub(crate) fn stream() -> StreamId {
    StreamId::of(publisher().user(), "prices").expect("a valid path")
}

pub(crate) fn scope() -> KeyScope {
    veilcast::scope(publisher().user(), &stream())
}

pub(crate) fn key_id(text: &str) -> KeyId {
    KeyId::new(text).expect("visible ASCII")
}

pub(crate) fn key(id: &str, byte: u8) -> GroupKey {
    GroupKey::new(key_id(id), &[byte; 32]).expect("32 bytes")
}

pub(crate) fn rng() -> StdRng {
    StdRng::seed_from_u64(1)
}

/// The subscriber's RSA pair.
pub(crate) fn pair() -> &'static RsaPair {
    static PAIR: OnceLock<RsaPair> = OnceLock::new();
    PAIR.get_or_init(|| RsaPair::generate(2048, &mut rng()).expect("an acceptable size"))
}
