//! What a command asks a `veilcast run` for: its own command line, and what only the asking process can read.
//!
//! ```text
//! length 4, big-endian | JSON | the lines or the file that the command reads, to the end
//! ```

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The route, on the control socket alone.
pub(crate) const PATH: &str = "/command";
/// Most bytes of the JSON.
pub(crate) const MOST_HEAD: usize = 8 << 20;
/// Most bytes of what follows.
pub(crate) const MOST_INPUT: u64 = 1 << 30;

/// The JSON. It may hold secrets: it is never shown, and wiped.
#[derive(Default, Deserialize, Serialize, Zeroize, ZeroizeOnDrop)]
#[serde(deny_unknown_fields)]
pub(crate) struct Asked {
    /// Of the program that asks: the command line is understood by the same one alone.
    pub(crate) version: String,
    /// The command line. No file in it is opened by whoever is asked.
    pub(crate) line: Vec<String>,
    /// What opens the data folder, for what lets keys out of it.
    pub(crate) opens_folder: Option<String>,
    /// What opens the file, or is to open the folder from now on.
    pub(crate) passphrase: Option<String>,
    /// A key to be put in, hex digits.
    pub(crate) key: Option<String>,
    /// A head of the audit log that was kept.
    pub(crate) head: Option<String>,
}

impl Asked {
    /// A command line, without any secret yet.
    pub(crate) fn of(line: Vec<String>) -> Self {
        let mut asked = Self::default();
        (asked.version, asked.line) = (version(), line);
        asked
    }

    /// On the wire, before what follows.
    pub(crate) fn encode(&self) -> Bytes {
        let mut json = serde_json::to_vec(self).unwrap_or_default();
        let mut wire = BytesMut::with_capacity(4 + json.len());
        wire.put_u32(u32::try_from(json.len()).unwrap_or(u32::MAX));
        wire.put_slice(&json);
        json.zeroize();
        wire.freeze()
    }
}

/// Of this program.
pub(crate) fn version() -> String {
    env!("CARGO_PKG_VERSION").into()
}
