//! Rotate: the next group key wrapped in the current one.

use rand_core::CryptoRng;
use veilcast_key_store::{GroupKey, KeyId, KeyScope};

use super::context::Context;
use super::seal::{OpenError, SEAL_OVERHEAD, Sealer, open_key_bytes};

/// Bytes of a wrapped group key: `iv 16 | ciphertext 32 | tag 32`.
pub const WRAPPED_KEY_LEN: usize = 32 + SEAL_OVERHEAD;

/// Wraps `next` under `current` for one (publisher, stream).
///
/// Derivation context `"veilcast/1/rotate", publisher, stream, current key id`; associated data
/// `"veilcast/1/rotate", publisher, stream, next key id`.
pub fn wrap_next<R: CryptoRng + ?Sized>(scope: &KeyScope, current: &GroupKey, next: &GroupKey, rng: &mut R) -> Vec<u8> {
    sealer(scope, current).seal(associated(scope, next.id()).bytes(), next.expose(), rng)
}

/// Opens what [`wrap_next`] made, for the same (publisher, stream) and key ids only.
///
/// # Errors
/// [`OpenError`], the same for every cause.
pub fn unwrap_next(scope: &KeyScope, current: &GroupKey, next: &KeyId, wrapped: &[u8]) -> Result<GroupKey, OpenError> {
    let bytes = open_key_bytes(&sealer(scope, current), associated(scope, next).bytes(), wrapped)?;
    GroupKey::new(next.clone(), bytes.as_slice()).map_err(|_| OpenError)
}

fn sealer(scope: &KeyScope, current: &GroupKey) -> Sealer {
    Sealer::derive(current.expose(), &Context::of("veilcast/1/rotate").scope(scope).key(current.id()))
}

fn associated(scope: &KeyScope, next: &KeyId) -> Context {
    Context::of("veilcast/1/rotate").scope(scope).key(next)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    fn key(id: &str, byte: u8) -> GroupKey {
        GroupKey::new(KeyId::new(id).unwrap(), &[byte; 32]).unwrap()
    }

    #[test]
    fn a_wrapped_key_opens_only_under_its_own_stream_publisher_and_key_ids() {
        let scope = KeyScope::new([1; 20], "s");
        let wrapped = wrap_next(&scope, &key("old", 1), &key("new", 2), &mut StdRng::seed_from_u64(1));
        assert_eq!(wrapped.len(), WRAPPED_KEY_LEN);
        let new = KeyId::new("new").unwrap();
        assert!(unwrap_next(&scope, &key("old", 1), &new, &wrapped).unwrap().same_as(&key("new", 2)));

        for foreign in [KeyScope::new([1; 20], "t"), KeyScope::new([2; 20], "s")] {
            assert!(unwrap_next(&foreign, &key("old", 1), &new, &wrapped).is_err());
        }
        assert!(unwrap_next(&scope, &key("old", 1), &KeyId::new("other").unwrap(), &wrapped).is_err());
        assert!(unwrap_next(&scope, &key("older", 1), &new, &wrapped).is_err());
        assert!(unwrap_next(&scope, &key("old", 3), &new, &wrapped).is_err());
    }
}
