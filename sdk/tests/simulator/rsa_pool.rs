//! RSA pairs are dear to make: a few, once per process, from fixed seeds.

use std::sync::LazyLock;

use rand::SeedableRng;
use rand::rngs::StdRng;
use veilcast::cipher::{MIN_RSA_BITS, RsaPair};

const PAIRS: u64 = 8;

static POOL: LazyLock<Vec<RsaPair>> = LazyLock::new(|| {
    (0..PAIRS).map(|n| RsaPair::generate(MIN_RSA_BITS, &mut StdRng::seed_from_u64(n)).unwrap()).collect()
});

/// The first pair is the hostile peer's; nobody else gets it.
pub(crate) fn hostile() -> &'static RsaPair {
    &POOL[0]
}

/// A subscriber's pair in one of its lives: two lives in a row never share one.
pub(crate) fn of_subscriber(number: usize, life: usize) -> &'static RsaPair {
    &POOL[1 + (number + life) % (POOL.len() - 1)]
}
