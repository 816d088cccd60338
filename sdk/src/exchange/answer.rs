//! Making the publisher's signed answer, once permission and keys are known.

use rand_core::CryptoRng;
use veilcast_key_store::{KeyId, KeyScope, StoredKey};

use super::page::Page;
use crate::cipher::{PublicKey, Recipient, encapsulate};
use crate::identity::{Identity, UserId};
use crate::permission::Refusal;
use crate::stream::StreamId;
use crate::time::Timestamp;
use crate::wire::{
    ALGORITHM_RSA_OAEP_SHA256, GrantedKey, KeyAnswer, KeyPush, KeyRequest, Refused, RequestId, Verified, WireError,
};

/// What was decided about one key of a request.
pub type Decision = (KeyId, Result<StoredKey, Refusal>);

/// Why an answer could not be made; a local fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// The answer names another publisher than the identity, or is none that a receiver would take.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The public key cannot be used.
    #[error(transparent)]
    Rsa(#[from] crate::cipher::RsaError),
}

/// Answers `request` with `decisions`, one for each key asked. Keys that were granted are wrapped for the request's public
/// key; a key that is not acceptable turns every grant into a refusal.
///
/// # Errors
/// [`AnswerError`] when `identity` is not the publisher asked.
pub fn answer<R: CryptoRng + ?Sized>(
    request: &KeyRequest,
    decisions: Vec<Decision>,
    identity: &Identity,
    now: Timestamp,
    rng: &mut R,
) -> Result<Verified<KeyAnswer>, AnswerError> {
    let (granted, refused) = split(decisions);
    let content = match wrap_for(request, &granted, rng) {
        Ok((encapsulated, granted)) => KeyAnswer { encapsulated, granted, refused, ..silence(request, now) },
        Err(refusal) => {
            let unable = granted.iter().map(|stored| Refused { key_id: stored.key.id().clone(), refusal });
            KeyAnswer { refused: refused.into_iter().chain(unable).collect(), ..silence(request, now) }
        }
    };
    Ok(Verified::sign(content, identity)?)
}

/// Answers a `request` for a span of time with a page of it, or refuses the span. A public key that is not acceptable refuses
/// it too, whatever the page would say.
///
/// # Errors
/// [`AnswerError`] when `identity` is not the publisher asked.
pub fn answer_page<R: CryptoRng + ?Sized>(
    request: &KeyRequest,
    page: Result<Page, Refusal>,
    identity: &Identity,
    now: Timestamp,
    rng: &mut R,
) -> Result<Verified<KeyAnswer>, AnswerError> {
    let wrapped = page.and_then(|page| {
        acceptable(request).ok_or(Refusal::UnacceptableAlgorithm)?;
        let (granted, refused) = split(page.decisions);
        let (encapsulated, granted) = wrap_for(request, &granted, rng)?;
        Ok(KeyAnswer { encapsulated, granted, refused, next: page.next, ..silence(request, now) })
    });
    let refused = |refusal| KeyAnswer { refusal: Some(refusal), ..silence(request, now) };
    Ok(Verified::sign(wrapped.unwrap_or_else(refused), identity)?)
}

/// An answer to `request` that says nothing yet.
fn silence(request: &KeyRequest, now: Timestamp) -> KeyAnswer {
    KeyAnswer {
        id: request.id,
        stream: request.stream.clone(),
        publisher: request.publisher,
        requester: request.requester,
        sent: now,
        algorithm: ALGORITHM_RSA_OAEP_SHA256,
        encapsulated: Vec::new(),
        granted: Vec::new(),
        refused: Vec::new(),
        next: None,
        refusal: None,
    }
}

fn split(decisions: Vec<Decision>) -> (Vec<StoredKey>, Vec<Refused>) {
    let (mut granted, mut refused) = (Vec::new(), Vec::new());
    for (key_id, decision) in decisions {
        match decision {
            Ok(stored) => granted.push(stored),
            Err(refusal) => refused.push(Refused { key_id, refusal }),
        }
    }
    (granted, refused)
}

type Wrapped = (Vec<u8>, Vec<GrantedKey>);

fn wrap_for<R: CryptoRng + ?Sized>(request: &KeyRequest, keys: &[StoredKey], rng: &mut R) -> Result<Wrapped, Refusal> {
    if keys.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let public = acceptable(request).ok_or(Refusal::UnacceptableAlgorithm)?;
    let scope = crate::scope(request.publisher, &request.stream);
    let recipient = Recipient { scope: &scope, subscriber: request.requester, request: request.id };
    wrap(recipient, keys, &public, rng).map_err(|_| Refusal::UnacceptableAlgorithm)
}

fn acceptable(request: &KeyRequest) -> Option<PublicKey> {
    (request.algorithm == ALGORITHM_RSA_OAEP_SHA256).then(|| PublicKey::from_der(&request.public_key).ok())?
}

fn wrap<R: CryptoRng + ?Sized>(
    recipient: Recipient<'_>,
    keys: &[StoredKey],
    public: &PublicKey,
    rng: &mut R,
) -> Result<Wrapped, crate::cipher::RsaError> {
    let (transport, encapsulated) = encapsulate(recipient, public, rng)?;
    let granted = keys.iter().map(|stored| GrantedKey {
        key_id: stored.key.id().clone(),
        wrapped: transport.wrap(&stored.key, rng),
        since: Timestamp::from_millis(stored.since),
        until: stored.until.map(Timestamp::from_millis),
    });
    let granted = granted.collect();
    Ok((encapsulated, granted))
}

/// A rekeyed key for one subscriber, unasked.
///
/// # Errors
/// [`AnswerError::Rsa`] when the public key on record cannot be used.
pub fn push<R: CryptoRng + ?Sized>(
    stream: &StreamId,
    subscriber: UserId,
    public: &PublicKey,
    key: &StoredKey,
    identity: &Identity,
    now: Timestamp,
    rng: &mut R,
) -> Result<Verified<KeyPush>, AnswerError> {
    let mut id = RequestId([0; 16]);
    rng.fill_bytes(&mut id.0);
    let scope: KeyScope = crate::scope(identity.user(), stream);
    let recipient = Recipient { scope: &scope, subscriber, request: id };
    let (encapsulated, granted) = wrap(recipient, std::slice::from_ref(key), public, rng)?;
    let content = KeyPush {
        id,
        stream: stream.clone(),
        publisher: identity.user(),
        subscriber,
        sent: now,
        algorithm: ALGORITHM_RSA_OAEP_SHA256,
        encapsulated,
        granted,
    };
    Ok(Verified::sign(content, identity)?)
}
