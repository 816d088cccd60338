//! Figures for Prometheus: the SDK's, those of the doors, and the room that the store takes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use prometheus_client::metrics::gauge::ConstGauge;
use veilcast::client::Client;
use veilcast::metrics::Registry;

use crate::gateway::Meters;

/// Everything, as [`Metrics::CONTENT_TYPE`](veilcast::Metrics::CONTENT_TYPE) says.
pub(crate) async fn text(client: &Client, doors: &Meters, store: PathBuf) -> String {
    let mut registry = Registry::with_prefix("veilcast");
    // A folder that cannot be read has no figure, rather than a wrong one.
    if let Ok(Ok(bytes)) = tokio::task::spawn_blocking(move || size(&store)).await {
        registry.register("store_bytes", "Bytes on disk of the store of keys and grants", ConstGauge::new(bytes));
    }
    doors.register(&mut registry);
    client.metrics().encode_with(&registry).await
}

/// What the files of a folder take, those below it as well. A file that has gone meanwhile takes nothing.
fn size(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        bytes += match entry.metadata() {
            Ok(found) if found.is_dir() => size(&entry.path())?,
            Ok(found) => found.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
    }
    Ok(bytes)
}
