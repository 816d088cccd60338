//! Every use of key bytes, in one place.
//!
//! Nothing outside this module encrypts, decrypts, wraps or derives. It makes its own IVs, binds every ciphertext to what
//! it belongs to, and answers every failure to open with one opaque error.
//!
//! - [`MessageCipher`]: payloads, AES-256-CTR then HMAC-SHA-256, keys derived from a group key by HKDF.
//! - [`wrap_next`] and [`unwrap_next`]: the next group key under the current one (rotate).
//! - [`RsaPair`], [`encapsulate`] and [`TransportKey`]: group keys under a transport key, which RSA-OAEP carries to one
//!   subscriber (answers and rekey). One RSA operation serves every key of an answer.

mod context;
mod rsa_pair;
mod seal;
mod transport;
mod wrap;

pub use rsa_pair::{DEFAULT_RSA_BITS, MAX_RSA_BITS, MIN_RSA_BITS, PublicKey, RsaError, RsaPair};
pub use seal::{MessageCipher, OpenError, SEAL_OVERHEAD};
pub use transport::{Recipient, TransportKey, encapsulate};
pub use wrap::{WRAPPED_KEY_LEN, unwrap_next, wrap_next};

pub(crate) use rsa_pair::{MAX_ENCAPSULATED_LEN, MAX_PUBLIC_KEY_LEN};
