//! Identities at rest.

use std::io::Write as _;

use veilcast::Identity;

/// An Ethereum JSON keystore: read without its password, and opened with one where that costs little. What opens is the key
/// of the address it names. (The format's MAC leaves the IV out, so a file without an address may open to another key.)
pub fn keystore(data: &[u8]) -> bool {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(data).expect("it is written");
    let Ok(address) = Identity::address_of_keystore(file.path()) else { return false };
    if is_cheap(data)
        && let Ok(identity) = Identity::load_keystore(file.path(), PASSWORD)
    {
        assert!(address.is_none_or(|address| address == identity.user()));
    }
    true
}

pub(crate) const PASSWORD: &str = "tulip";

/// Whether its key derivation takes less than a millisecond or so.
fn is_cheap(data: &[u8]) -> bool {
    let json: serde_json::Value = serde_json::from_slice(data).unwrap_or_default();
    let params = &json["crypto"]["kdfparams"];
    let number = |name: &str| params[name].as_u64();
    match (number("n"), number("r"), number("p"), number("c")) {
        (Some(n), Some(r), Some(p), None) => n.saturating_mul(r).saturating_mul(p) <= 1 << 10,
        (None, None, None, Some(c)) => c <= 1 << 10,
        _ => false,
    }
}
