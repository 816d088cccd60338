//! Group keys to one subscriber: a fresh transport key, carried by RSA-OAEP, wraps each of them.
//!
//! One RSA operation serves a whole answer. The OAEP label and every wrap bind (publisher, stream, subscriber, request),
//! and each wrap its key id, so nothing can be moved to another answer.

use std::fmt;

use rand_core::CryptoRng;
use veilcast_key_store::{GroupKey, KeyId, KeyScope};
use zeroize::Zeroizing;

use super::context::Context;
use super::rsa_pair::{PublicKey, RsaError, RsaPair};
use super::seal::{OpenError, Sealer, open_key_bytes};
use crate::identity::UserId;
use crate::wire::RequestId;

/// For whom and for what a transport key is made.
#[derive(Clone, Debug)]
pub struct Recipient<'a> {
    /// Publisher and stream of the keys.
    pub scope: &'a KeyScope,
    /// Who is to read them.
    pub subscriber: UserId,
    /// The request answered, or the push's id.
    pub request: RequestId,
}

impl Recipient<'_> {
    /// `"veilcast/1/transport", publisher, stream, subscriber, request id`.
    fn context(&self) -> Context {
        Context::of("veilcast/1/transport").scope(self.scope).part(self.subscriber.as_bytes()).part(&self.request.0)
    }
}

/// Wraps and unwraps the keys of one answer or push.
pub struct TransportKey<'a> {
    sealer: Sealer,
    recipient: Recipient<'a>,
}

/// Makes a transport key and the RSA ciphertext that carries it.
///
/// # Errors
/// [`RsaError`] when the public key cannot be used.
pub fn encapsulate<'a, R: CryptoRng + ?Sized>(
    recipient: Recipient<'a>,
    public: &PublicKey,
    rng: &mut R,
) -> Result<(TransportKey<'a>, Vec<u8>), RsaError> {
    let mut secret = Zeroizing::new([0u8; 32]);
    rng.fill_bytes(secret.as_mut_slice());
    let context = recipient.context();
    let encapsulated = public.encrypt(context.bytes(), &secret, rng)?;
    Ok((TransportKey { sealer: Sealer::derive(&secret, &context), recipient }, encapsulated))
}

impl<'a> TransportKey<'a> {
    /// Recovers the transport key of an answer or push.
    ///
    /// # Errors
    /// [`OpenError`], the same for every cause.
    pub fn decapsulate<R: CryptoRng + ?Sized>(
        recipient: Recipient<'a>,
        pair: &RsaPair,
        encapsulated: &[u8],
        rng: &mut R,
    ) -> Result<Self, OpenError> {
        let context = recipient.context();
        let secret = pair.decrypt(context.bytes(), encapsulated, rng)?;
        Ok(Self { sealer: Sealer::derive(&secret, &context), recipient })
    }

    /// Wraps a group key; 80 bytes.
    pub fn wrap<R: CryptoRng + ?Sized>(&self, key: &GroupKey, rng: &mut R) -> Vec<u8> {
        self.sealer.seal(self.recipient.context().key(key.id()).bytes(), key.expose(), rng)
    }

    /// Opens a wrapped group key.
    ///
    /// # Errors
    /// [`OpenError`], the same for every cause.
    pub fn unwrap(&self, id: &KeyId, wrapped: &[u8]) -> Result<GroupKey, OpenError> {
        let bytes = open_key_bytes(&self.sealer, self.recipient.context().key(id).bytes(), wrapped)?;
        GroupKey::new(id.clone(), bytes.as_slice()).map_err(|_| OpenError)
    }
}

impl fmt::Debug for TransportKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TransportKey").field("recipient", &self.recipient).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn a_transported_key_opens_only_for_its_own_publisher_stream_subscriber_and_request() {
        let mut rng = StdRng::seed_from_u64(3);
        let pair = RsaPair::generate(MIN, &mut rng).unwrap();
        let key = GroupKey::new(KeyId::new("k").unwrap(), &[5; 32]).unwrap();
        let scope = KeyScope::new([1; 20], "s");
        let to = |scope, user, request| Recipient {
            scope,
            subscriber: UserId::from_bytes([user; 20]),
            request: RequestId([request; 16]),
        };
        let (transport, encapsulated) = encapsulate(to(&scope, 2, 3), pair.public(), &mut rng).unwrap();
        let wrapped = transport.wrap(&key, &mut rng);

        let opened = TransportKey::decapsulate(to(&scope, 2, 3), &pair, &encapsulated, &mut rng).unwrap();
        assert!(opened.unwrap(key.id(), &wrapped).unwrap().same_as(&key));
        assert!(opened.unwrap(&KeyId::new("other").unwrap(), &wrapped).is_err());

        let (stream, publisher) = (KeyScope::new([1; 20], "t"), KeyScope::new([9; 20], "s"));
        for foreign in [to(&stream, 2, 3), to(&publisher, 2, 3), to(&scope, 9, 3), to(&scope, 2, 9)] {
            assert!(TransportKey::decapsulate(foreign, &pair, &encapsulated, &mut rng).is_err());
        }
    }

    const MIN: usize = super::super::MIN_RSA_BITS;
}
