//! The doors for applications and devices: HTTP and WebSocket, and MQTT ([`mqtt`]), for programs in any language.
//!
//! ```text
//! listener ─▶ a seat in the crowd ─▶ guard (host, origin) ─▶ caller (API key) ─▶ the handlers of one part
//! ```
//! [`routes`] puts the HTTP door together from its parts; whoever adds one (metrics, a dashboard) adds a line there. The daemon serves
//! the very same router on its control socket, where whoever can open it may do everything. Nothing here decides about keys or
//! permissions: handlers read a request, call the client, and write an answer.

mod admin;
mod body;
mod caller;
mod contract_streams;
mod crowd;
mod dashboard;
mod error;
mod feed;
mod guard;
mod history;
mod journal;
mod keys;
mod known;
mod linger;
mod listener;
mod live;
mod meters;
mod metrics;
mod mqtt;
mod openapi;
mod params;
mod permissions;
mod publish;
mod readers;
mod routes;
mod slow;
mod socket;
mod spending;
mod status;
mod streams;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::from_fn_with_state;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use veilcast::client::Client;
use veilcast::key_store::SledKeyStore;
use veilcast::{Identity, StreamId};

pub(crate) use self::caller::Caller;
pub(crate) use self::crowd::{Bounds, Crowd};
pub(crate) use self::dashboard::Board;
pub(crate) use self::journal::Journal;
pub(crate) use self::keys::report;
pub(crate) use self::known::Known;
pub(crate) use self::listener::{Door, Limits};
pub(crate) use self::meters::Meters;
pub(crate) use self::mqtt::{Door as MqttDoor, Limits as MqttLimits};
pub(crate) use self::readers::Readers;
pub(crate) use self::status::Readiness;
use crate::api_key::ApiKeys;
use crate::args::Registry;
use crate::gateway::error::ApiError;
use crate::gateway::routes::Routes;

/// What the handlers work with. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Gateway(Arc<Shared>);

/// What all of them share.
pub(crate) struct Shared {
    pub(crate) client: Client,
    /// Who pays where a contract decides.
    pub(crate) identity: Identity,
    pub(crate) store: Arc<SledKeyStore>,
    pub(crate) store_folder: PathBuf,
    /// Who decides about permissions.
    pub(crate) registry: Registry,
    pub(crate) api_keys: ApiKeys,
    pub(crate) readiness: Readiness,
    /// What the dashboard saw last.
    pub(crate) board: Board,
    pub(crate) settings: Settings,
    /// What is told of requests.
    pub(crate) journal: Journal,
    /// What is counted of them.
    pub(crate) meters: Meters,
    /// Streams that were found.
    pub(crate) known: Known,
    /// What may wait for those who read.
    pub(crate) readers: Readers,
    /// Turns true when the node stops.
    pub(crate) stopping: watch::Receiver<bool>,
    /// What must be finished before it has stopped.
    pub(crate) work: TaskTracker,
}

/// Bounds of what a request may be, and what else the config file says.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Names it may be asked by, beside `localhost` and IP addresses.
    pub(crate) hosts: Vec<String>,
    /// Largest body, bytes.
    pub(crate) max_body: usize,
    /// How long a body may take.
    pub(crate) body_timeout: Duration,
    /// Streams that the config file names.
    pub(crate) streams: Vec<StreamId>,
}

impl std::ops::Deref for Gateway {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl Gateway {
    pub(crate) fn new(shared: Shared) -> Self {
        Self(Arc::new(shared))
    }

    /// The whole door.
    pub(crate) fn router(&self) -> Router {
        let (router, _) = routes().into_parts();
        router
            .fallback(|| async { ApiError::no_route() })
            .method_not_allowed_fallback(|| async { ApiError::no_method() })
            .layer(from_fn_with_state(self.clone(), guard::guard))
            .with_state(self.clone())
    }

    /// Returns when the node stops.
    pub(crate) async fn stops(&self) {
        let mut stopping = self.stopping.clone();
        // Whoever could tell is gone: it has stopped.
        let _ = stopping.wait_for(|stop| *stop).await;
    }

    /// Work that goes on although whoever asked has gone, and that a stop waits for.
    async fn finish<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Result<T, ApiError> {
        self.work.spawn(work).await.map_err(|_| ApiError::internal("work under way was cut off"))
    }

    /// Work that waits for the disk.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> T + Send + 'static,
    ) -> Result<T, ApiError> {
        let gateway = self.clone();
        self.finish(async move { tokio::task::spawn_blocking(move || work(&gateway)).await })
            .await?
            .map_err(|_| ApiError::internal("work for the disk was cut off"))
    }
}

/// The parts that the door is made of.
fn routes() -> Routes {
    Routes::default()
        .part(status::routes)
        .part(metrics::routes)
        .part(openapi::routes)
        .part(streams::routes)
        .part(publish::routes)
        .part(live::routes)
        .part(history::routes)
        .part(keys::routes)
        .part(permissions::routes)
        .part(admin::routes)
        .part(dashboard::routes)
}
