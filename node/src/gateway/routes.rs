//! A router, and a list of what is in it: a test compares that with the OpenAPI document.

use axum::Router;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodFilter, on};

use super::Gateway;

/// Routes of the door. Every one is added here and nowhere else, so that the list is whole.
#[derive(Default)]
pub(super) struct Routes {
    router: Router<Gateway>,
    listed: Vec<(Method, &'static str)>,
}

impl Routes {
    pub(super) fn part(self, part: impl FnOnce(Self) -> Self) -> Self {
        part(self)
    }

    pub(super) fn get<T: 'static>(self, path: &'static str, handler: impl Handler<T, Gateway>) -> Self {
        self.add(Method::GET, MethodFilter::GET, path, handler)
    }

    pub(super) fn post<T: 'static>(self, path: &'static str, handler: impl Handler<T, Gateway>) -> Self {
        self.add(Method::POST, MethodFilter::POST, path, handler)
    }

    pub(super) fn delete<T: 'static>(self, path: &'static str, handler: impl Handler<T, Gateway>) -> Self {
        self.add(Method::DELETE, MethodFilter::DELETE, path, handler)
    }

    fn add<T: 'static>(
        mut self,
        method: Method,
        filter: MethodFilter,
        path: &'static str,
        handler: impl Handler<T, Gateway>,
    ) -> Self {
        self.router = self.router.route(path, on(filter, handler));
        self.listed.push((method, path));
        self
    }

    /// The router, and what is in it.
    pub(super) fn into_parts(self) -> (Router<Gateway>, Vec<(Method, &'static str)>) {
        (self.router, self.listed)
    }
}
