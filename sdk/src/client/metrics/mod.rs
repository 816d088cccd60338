//! A client's figures, for Prometheus; what they are is in [`metrics`](crate::metrics).

mod labels;
mod meters;
mod snapshot;

use std::sync::Arc;

use prometheus_client::encoding::text::{encode_eof, encode_registry};

pub(super) use labels::{Lost, Sifted};
pub(super) use meters::{Meters, Parking, frames};

use super::Client;
use super::shared::Shared;
use crate::metrics::Registry;

/// The figures of one client. Cheap to clone; holds the client's handle and nothing else.
#[derive(Clone)]
pub struct Metrics {
    shared: Arc<Shared>,
}

impl Metrics {
    /// The type of what [`Self::encode`] returns: OpenMetrics 1.0 text.
    pub const CONTENT_TYPE: &'static str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

    /// Everything, as OpenMetrics 1.0 text. What is not counted but looked at (peers, stored messages, ends to come) is looked
    /// at now, and left out where that takes longer than five seconds. Dropping the future changes nothing.
    pub async fn encode(&self) -> String {
        self.encode_with(&Registry::default()).await
    }

    /// The same, with figures of the program's own behind it. Their names must be others than ours.
    pub async fn encode_with(&self, more: &Registry) -> String {
        let mut text = String::new();
        let snapshot = snapshot::take(&self.shared).await;
        self.shared.meters.write(&mut text);
        // A String takes everything.
        let _ = encode_registry(&mut text, &snapshot);
        let _ = encode_registry(&mut text, more);
        let _ = encode_eof(&mut text);
        text
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics { .. }")
    }
}

impl Client {
    /// What this client counts, for Prometheus.
    pub fn metrics(&self) -> Metrics {
        Metrics { shared: self.shared.clone() }
    }
}
