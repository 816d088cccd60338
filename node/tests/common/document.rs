//! What the OpenAPI document says that a route may answer: every answer of a test is held against it.

use std::sync::OnceLock;

use serde_json::Value;

/// As the binary hands it out.
fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| serde_json::from_str(include_str!("../../openapi.json")).unwrap())
}

/// The method that curl uses with these arguments.
fn method<'a>(args: &[&'a str]) -> &'a str {
    let told = args.iter().position(|arg| *arg == "-X").map(|at| args[at + 1]);
    let has_body = args.iter().any(|arg| matches!(*arg, "-d" | "--data-binary"));
    told.unwrap_or(if has_body { "POST" } else { "GET" })
}

/// Whether this is a path of the route.
fn is_of(path: &str, route: &str) -> bool {
    let (path, route): (Vec<&str>, Vec<&str>) = (path.split('/').collect(), route.split('/').collect());
    let fits = |(part, named): (&&str, &&str)| part == named || (named.starts_with('{') && !part.is_empty());
    path.len() == route.len() && path.iter().zip(&route).all(fits)
}

/// The document names this status for what was asked. What is no route, or not with this method, is none of its business.
pub(super) fn names(path: &str, args: &[&str], status: u16) {
    // What comes at the end of redirections is another route's.
    if args.contains(&"-L") {
        return;
    }
    let (path, method) = (path.split('?').next().unwrap_or_default(), method(args));
    let routes = document()["paths"].as_object().unwrap();
    let mut found: Vec<_> = routes.iter().filter(|(route, _)| is_of(path, route)).collect();
    // One that is named to the letter comes before one with a part that may be anything.
    found.sort_by_key(|(route, _)| route.contains('{'));
    let Some((route, item)) = found.first() else { return };
    let Some(operation) = item.get(method.to_lowercase()) else { return };
    // Of one that was cut off, or never came, there is none.
    let is_told = status == 0 || operation["responses"][status.to_string()].is_object();
    assert!(is_told, "{method} {route} answered {status}, which openapi.json does not name");
}
