//! `GET /dashboard`: a page for people, and what it asks for that no other route tells: [`overview`], [`timeline`], [`predict`]. Who looks
//! for it by the node's address alone is sent there, by a relative address: a proxy may have it under a path of its own.
//!
//! The page itself is for everybody who can ask; it shows nothing before somebody logs in with an API key, which its scripts send as a
//! header. There is no cookie, so no page of another site can act in anybody's name.

mod alerts;
mod figures;
mod overview;
mod predict;
mod prediction;
mod timeline;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Redirect, Response};

pub(crate) use self::overview::Board;
use super::error::ApiError;
use super::params::At;
use super::routes::Routes;
use crate::dashboard::{File, HEADERS, PAGE, find};

pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .get("/", || async { Redirect::to("dashboard") })
        .get("/dashboard", page)
        .get("/dashboard/", || async { Redirect::to("../dashboard") })
        .get("/dashboard/{file}", file)
        .get("/overview", overview::overview)
        .get("/streams/{id}/timeline", timeline::timeline)
        .get("/streams/{id}/predict", predict::predict)
}

async fn page() -> Response {
    answer(&PAGE)
}

async fn file(At(name): At<String>) -> Result<Response, ApiError> {
    find(&name).map(answer).ok_or_else(ApiError::no_route)
}

fn answer(file: &'static File) -> Response {
    let mut headers = HeaderMap::new();
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(file.kind));
    (headers, file.text).into_response()
}
