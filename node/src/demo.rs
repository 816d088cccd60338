//! The demonstration: real nodes over loopback TCP, in a temporary folder, telling the whole story of a sold stream.
//!
//! ```text
//! cast.rs          who takes part: relay, publisher, reader, guest (paid time ends), stranger, latecomer
//! script.rs        what happens, act by act, and what is expected of each
//! listener.rs      what a subscriber heard, with the moment it heard it
//! tape.rs          every frame the relay passed on, searched for plaintext at the end
//! measurements.rs  what is published: this machine's CPU, memory and network
//! stage.rs         showing it as it happens
//! report.rs        every expectation, whether it held, and its figure
//! ```

mod cast;
mod listener;
mod measurements;
mod report;
mod script;
mod source;
mod stage;
mod tape;

use std::io;
use std::path::PathBuf;

use veilcast::client::ClientError;
use veilcast::key_store::StoreError;

use self::cast::Cast;
use self::report::Report;
use self::stage::Stage;
use crate::lines::LineError;
use crate::output::Output;

pub(crate) use self::source::{DEFAULT_MESSAGES, Source};

/// A demonstration with its nodes running.
pub(crate) struct Performance {
    cast: Cast,
    source: Source,
    stage: Stage,
}

impl Performance {
    /// Starts the nodes.
    pub(crate) async fn set_up(source: Source, output: Output<'static>) -> Result<Self, DemoError> {
        let stage = Stage::open(output);
        let cast = Cast::start(&stage).await?;
        Ok(Self { cast, source, stage })
    }

    /// Plays the story. Expectations that do not hold are in the report; errors are for what keeps it from being played.
    pub(crate) async fn play(&mut self) -> Result<Report, DemoError> {
        script::play(&mut self.cast, &mut self.source, &self.stage).await
    }

    /// Stops the nodes and removes the temporary folder.
    pub(crate) async fn clean_up(self) {
        self.cast.leave().await;
    }
}

/// Why the demonstration could not be played.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum DemoError {
    #[error("cannot make a temporary folder: {0}; see to the disk, or set TMPDIR to a folder with room")]
    Folder(io::Error),
    #[error("cannot read {}: {source}; check the path", .path.display())]
    Input { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Line(LineError),
    #[error("this machine's measurements cannot be read: {0}; give lines to publish with --input")]
    Measurements(String),
    #[error("the demo could not go on: {0}; run it with -v and report what it says")]
    Client(#[from] ClientError),
    #[error(transparent)]
    Store(#[from] StoreError),
}
