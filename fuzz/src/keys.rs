//! Public keys from elsewhere, and everything that opens sealed bytes.

use veilcast::cipher::{MessageCipher, PublicKey, Recipient, TransportKey, WRAPPED_KEY_LEN, encapsulate, unwrap_next};
use veilcast::wire::RequestId;

use crate::bounded::bounded;
use crate::cast::{key, key_id, pair, rng, scope, subscriber};

/// An RSA public key: what is accepted is kept byte for byte, and can be used.
pub fn public_key(data: &[u8]) -> bool {
    let Ok(public) = bounded(data, || PublicKey::from_der(data)) else { return false };
    assert_eq!(public.as_der(), data);
    let scope = scope();
    let (_, encapsulated) = encapsulate(recipient(&scope), &public, &mut rng()).expect("what is accepted can be used");
    assert!((256..=512).contains(&encapsulated.len()));
    true
}

/// Whom the transport key of [`sealed`] is for.
pub(crate) fn recipient(scope: &veilcast::key_store::KeyScope) -> Recipient<'_> {
    Recipient { scope, subscriber: subscriber().user(), request: RequestId([5; 16]) }
}

/// The key everything is wrapped and sealed under, the key inside, and the payload.
pub(crate) const UNDER: (&str, u8) = ("k", 1);
pub(crate) const INSIDE: (&str, u8) = ("next", 2);
pub(crate) const HEADER: &[u8] = b"a header";
pub(crate) const PAYLOAD: &[u8] = b"a payload worth money";

/// Sealed bytes, by their first byte: a payload, a rotated key, or an RSA ciphertext with a key wrapped under what it
/// carries. They open to what was sealed, and to nothing else whatever happened to them.
pub fn sealed(data: &[u8]) -> bool {
    let Some((kind, data)) = data.split_first() else { return false };
    match kind % 3 {
        0 => payload(data),
        1 => rotated(data),
        _ => transported(data),
    }
}

fn payload(data: &[u8]) -> bool {
    let cipher = MessageCipher::new(&scope(), &key(UNDER.0, UNDER.1));
    let opened = bounded(data, || cipher.open(HEADER, data));
    opened.is_ok_and(|opened| {
        assert_eq!(opened, PAYLOAD);
        true
    })
}

fn rotated(data: &[u8]) -> bool {
    let opened = unwrap_next(&scope(), &key(UNDER.0, UNDER.1), &key_id(INSIDE.0), data);
    opened.is_ok_and(|opened| {
        assert!(opened.same_as(&key(INSIDE.0, INSIDE.1)));
        true
    })
}

fn transported(data: &[u8]) -> bool {
    let Some((encapsulated, wrapped)) = data.split_at_checked(data.len().saturating_sub(WRAPPED_KEY_LEN)) else {
        return false;
    };
    let scope = scope();
    let opened = TransportKey::decapsulate(recipient(&scope), pair(), encapsulated, &mut rng())
        .and_then(|transport| transport.unwrap(&key_id(INSIDE.0), wrapped));
    opened.is_ok_and(|opened| {
        assert!(opened.same_as(&key(INSIDE.0, INSIDE.1)));
        true
    })
}
