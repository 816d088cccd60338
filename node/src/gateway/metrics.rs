//! `/metrics`: figures for Prometheus.

use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use veilcast::Metrics;

use super::Gateway;
use super::caller::Caller;
use super::error::ApiError;
use super::routes::Routes;
use crate::api_key::Verb;
use crate::metrics::text;

pub(super) fn routes(routes: Routes) -> Routes {
    routes.get("/metrics", metrics)
}

async fn metrics(State(gateway): State<Gateway>, caller: Caller) -> Result<impl IntoResponse, ApiError> {
    // Own streams are in it by name, and how much is sold: not for everybody on this machine.
    caller.may_here(Verb::Metrics).or_else(|_| caller.may_here(Verb::Admin))?;
    let text = text(&gateway.client, &gateway.meters, gateway.store_folder.clone()).await;
    Ok(([(header::CONTENT_TYPE, Metrics::CONTENT_TYPE)], text))
}
