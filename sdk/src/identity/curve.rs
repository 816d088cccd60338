//! libsecp256k1's context: made once, blinded with this process's own randomness.

use std::sync::OnceLock;

use rand::TryRng;
use rand::rngs::SysRng;
use secp256k1::{All, Secp256k1};

/// The context every signature and recovery uses. Blinding hides the secret key from whoever can measure time or power;
/// doing it again for every signature, as later releases of the crate do, would more than double a signature's cost.
pub(super) fn curve() -> &'static Secp256k1<All> {
    static CURVE: OnceLock<Secp256k1<All>> = OnceLock::new();
    CURVE.get_or_init(|| {
        let mut curve = Secp256k1::new();
        let mut seed = [0; 32];
        // Blinding protects beyond need; a system without randomness fails where keys are made.
        if SysRng.try_fill_bytes(&mut seed).is_ok() {
            curve.seeded_randomize(&seed);
        }
        curve
    })
}
