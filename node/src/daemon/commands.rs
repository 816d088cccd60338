//! Commands that other processes of the owner ask for over the control socket: the very functions of the command line, on the store that
//! is open here, printing to whoever asked. Files that a command line names are read and written over there.
//!
//! ```text
//! POST /command ─▶ a thread of its own ─▶ frames: stdout, stderr, a file's bytes, progress, exit code
//! ```
//! What looks at the store or changes it goes to its end, and a stop of the node waits for it; what waits for the network ends with
//! whoever asked. Nothing of a command line is logged but the command's name: there may be secrets beside it.

mod afar;
mod request;
mod work;

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{FromRequestParts, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use futures::StreamExt;
use serde_json::json;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use self::afar::Screen;
use self::request::Request;
use crate::data_dir::DataDir;
use crate::gateway::{Caller, Gateway};
use crate::session::Session;
use crate::through::asked::PATH;
use crate::through::frames::Frame;

/// Frames on their way to whoever asked; the command waits beyond.
const AHEAD: usize = 16;

/// What commands are done with.
#[derive(Clone)]
pub(super) struct Host(Arc<Folder>);

/// The data folder that this process runs on.
pub(super) struct Folder {
    pub(super) gateway: Gateway,
    pub(super) session: Session,
    pub(super) dir: DataDir,
    pub(super) runtime: Handle,
}

impl Host {
    pub(super) fn new(folder: Folder) -> Self {
        Self(Arc::new(folder))
    }

    /// The whole interface of the node, and commands beside it.
    pub(super) fn router(&self) -> Router {
        self.0.gateway.router().route(PATH, post(command).with_state(self.clone()))
    }
}

async fn command(State(Host(folder)): State<Host>, request: axum::extract::Request) -> Response {
    let (mut parts, body) = request.into_parts();
    // A seat of its own for as long as it goes on: nobody who comes later ends it, and there are so many and no more.
    let caller = match Caller::from_request_parts(&mut parts, &folder.gateway).await {
        Ok(mut caller) => caller.stays().map(|()| caller),
        Err(refused) => Err(refused),
    };
    let caller = match caller {
        Ok(caller) => caller,
        Err(refused) => return refused.into_response(),
    };
    let read = tokio::select! {
        read = Request::read(body, &folder.dir) => read,
        () = folder.gateway.stops() => Err(NoRequest::Stopping),
    };
    let request = match read {
        Ok(request) => request,
        Err(refused) => return refused.into_response(),
    };
    tracing::info!(command = request.name(), "asked for a command");
    let (frames, sent) = mpsc::channel(AHEAD);
    let worker = folder.clone();
    folder.gateway.work.spawn(async move {
        // One that panicked has told nobody how it ended, and its asker takes that for a failure.
        let _ = tokio::task::spawn_blocking(move || {
            let screen = Arc::new(Screen::new(frames));
            let exit = work::run(&worker, request, &screen);
            screen.send(&Frame::Exit(exit.code()));
        })
        .await;
    });
    let frames = futures::stream::unfold((sent, caller), |(mut sent, caller)| async move {
        Some((sent.recv().await?, (sent, caller)))
    });
    let body = Body::from_stream(frames.map(Ok::<Bytes, std::convert::Infallible>));
    ([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response()
}

/// Why a request is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoRequest {
    #[error("it is another version ({}); start it again with this one", crate::through::asked::version())]
    Version,
    #[error("what was asked for makes no sense to it")]
    Malformed,
    #[error("what was asked for is too large")]
    TooLarge,
    #[error("what was asked for did not come whole")]
    Broken,
    #[error("it is stopping")]
    Stopping,
    #[error("its disk failed: {0}")]
    Disk(std::io::Error),
}

impl IntoResponse for NoRequest {
    fn into_response(self) -> Response {
        let (status, code) = match self {
            Self::Disk(_) => (StatusCode::INTERNAL_SERVER_ERROR, "no_command"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "no_command"),
            Self::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
            _ => (StatusCode::BAD_REQUEST, "no_command"),
        };
        (status, axum::Json(json!({ "code": code, "message": self.to_string() }))).into_response()
    }
}
