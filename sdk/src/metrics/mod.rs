//! Figures for [Prometheus](https://prometheus.io): what a node does, without saying anything about what it handles.
//!
//! ```no_run
//! # #[cfg(feature = "p2p")]
//! # async fn run(client: veilcast::Client) {
//! let text = client.metrics().encode().await; // answer to GET /metrics, of this type:
//! let content_type = veilcast::Metrics::CONTENT_TYPE;
//! # }
//! ```
//!
//! Every figure has a name that begins with `veilcast_`; `docs/METRICS.md` lists them all. No label grows with what peers send:
//! outcomes are closed sets, endpoints of a chain are numbers in the order of the configuration, and streams are
//! those that this node publishes, the first 256 of them by name. There is no address, key id or peer id in any of them.
//!
//! What a message touches on its way counts with one atomic addition; what is known elsewhere (peers, stored bytes) is looked
//! at when somebody asks.

#[cfg(any(feature = "p2p", feature = "ethereum"))]
mod counts;
#[cfg(any(feature = "p2p", feature = "ethereum"))]
mod label;

pub use prometheus_client::registry::Registry;

#[cfg(feature = "p2p")]
pub(crate) use counts::Labels;
#[cfg(any(feature = "p2p", feature = "ethereum"))]
pub(crate) use counts::{Counts, CountsFamily, SecondsFamily, seconds};
#[cfg(any(feature = "p2p", feature = "ethereum"))]
pub(crate) use label::{Label, label};
