//! Before anything else: requests that a page of another site made some browser send, and a line in the log for each.
//!
//! An API key is needed for everything that matters, and no page can make a browser add one. This is the second wall: a name that
//! was rebound to this machine shows in `Host`, a page's origin in `Origin` and `Sec-Fetch-Site`. No answer has a CORS header, so
//! no page of another origin reads one.

use std::net::IpAddr;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Gateway;
use super::error::ApiError;
use super::journal::Entry;
use super::listener::Control;

pub(super) async fn guard(State(gateway): State<Gateway>, mut request: Request, next: Next) -> Response {
    let entry = Entry::of(&mut request).await;
    let checked = match request.extensions().get::<Control>() {
        Some(_) => Ok(()),
        None if is_link_to_the_page(&request) => check_host(request.headers(), &gateway.settings.hosts).map(drop),
        None => check(request.headers(), &gateway.settings.hosts),
    };
    let mut response = match checked {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.into_response(),
    };
    entry.close(&gateway, &response);
    // Secrets and plaintext are in answers: no cache keeps one, and no browser takes one for a page.
    let headers = response.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.entry(header::X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
    response
}

/// Somebody followed a link to the dashboard: the page itself holds nothing, and no other can frame it.
fn is_link_to_the_page(request: &Request) -> bool {
    let is = |name, value| request.headers().get(name).is_some_and(|found| found == value);
    let page = request
        .extensions()
        .get::<MatchedPath>()
        .is_some_and(|path| matches!(path.as_str(), "/" | "/dashboard" | "/dashboard/"));
    page && request.method() == Method::GET && is("sec-fetch-mode", "navigate") && is("sec-fetch-dest", "document")
}

fn refused(message: &str) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, "cross_site", message)
}

/// The name it is asked by, which must be its own.
fn check_host<'a>(headers: &'a HeaderMap, names: &[String]) -> Result<&'a str, ApiError> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.ok_or_else(|| ApiError::bad("the Host header is missing"))?;
    match is_ours(host, names) {
        true => Ok(host),
        false => Err(refused("this node does not go by that name; see hosts in [gateway] of the config file")),
    }
}

fn check(headers: &HeaderMap, names: &[String]) -> Result<(), ApiError> {
    let host = check_host(headers, names)?;
    if headers.get_all(header::ORIGIN).iter().any(|origin| !is_same(origin.to_str().unwrap_or_default(), host)) {
        return Err(refused("requests of pages of other sites are refused"));
    }
    let site = headers.get("sec-fetch-site").map(|site| site.to_str().unwrap_or_default());
    if site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
        return Err(refused("requests of pages of other sites are refused"));
    }
    Ok(())
}

/// An address cannot be rebound, a name can.
fn is_ours(host: &str, names: &[String]) -> bool {
    let name = without_port(host);
    let bare = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    bare.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

fn is_same(origin: &str, host: &str) -> bool {
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(pairs: &[(&'static str, &'static str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        check(&headers, &["node.example".into()]).is_ok()
    }

    #[test]
    fn it_is_asked_by_an_address_localhost_or_a_name_of_its_own_and_no_other() {
        for host in ["127.0.0.1:7171", "[::1]:7171", "[::1]", "localhost", "LOCALHOST:1", "node.example:443"] {
            assert!(checked(&[("host", host)]), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:7171", "127.0.0.1.evil.example", "", "node.example.evil"] {
            assert!(!checked(&[("host", host)]), "{host}");
        }
        assert!(!checked(&[]));
    }

    #[test]
    fn a_page_of_another_site_is_refused_and_one_of_this_node_is_not() {
        let host = ("host", "127.0.0.1:7171");
        assert!(checked(&[host, ("origin", "http://127.0.0.1:7171"), ("sec-fetch-site", "same-origin")]));
        for origin in ["http://evil.example", "null", "http://127.0.0.1:8080", "http://127.0.0.1:7171.evil.example"] {
            assert!(!checked(&[host, ("origin", origin)]), "{origin}");
        }
        assert!(!checked(&[host, ("sec-fetch-site", "cross-site")]));
        assert!(!checked(&[host, ("origin", "http://127.0.0.1:7171"), ("origin", "http://evil.example")]));
    }
}
