//! What the fuzzers begin with: real encoded values, the frozen vectors, and some that are damaged in interesting ways.
//!
//! They are made by the code as it is, so they follow the wire format. `cargo run -p veilcast-fuzz --features store --example
//! seeds` writes them to the corpus; the replay test runs them as they are made.

mod made;
mod stored;
mod vectors;

/// One input of one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seed {
    /// Which target.
    pub target: &'static str,
    /// What it is; the name of its file.
    pub name: String,
    /// The input.
    pub bytes: Vec<u8>,
}

impl Seed {
    fn new(target: &'static str, name: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self { target, name: name.into(), bytes: bytes.into() }
    }
}

/// All seeds of all targets.
pub fn seeds() -> Vec<Seed> {
    [made::seeds(), vectors::seeds(), stored::seeds()].concat()
}
