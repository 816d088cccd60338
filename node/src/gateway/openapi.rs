//! `/openapi.json`: what this door understands, for programs.

use axum::http::header;
use axum::response::IntoResponse;

use super::routes::Routes;

/// As it stands in the sources, beside this crate's manifest.
const DOCUMENT: &str = include_str!("../../openapi.json");

pub(super) fn routes(routes: Routes) -> Routes {
    routes.get("/openapi.json", document)
}

async fn document() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn document() -> Value {
        serde_json::from_str(DOCUMENT).unwrap()
    }

    #[test]
    fn every_route_is_in_the_document_and_every_operation_of_the_document_is_a_route() {
        let (_, listed) = super::super::routes().into_parts();
        let real: BTreeSet<String> = listed.iter().map(|(method, path)| format!("{method} {path}")).collect();
        assert_eq!(real.len(), listed.len(), "one handler for each");
        let document = document();
        let mut told = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for method in item.as_object().unwrap().keys().filter(|key| *key != "parameters") {
                told.insert(format!("{} {path}", method.to_uppercase()));
            }
        }
        assert_eq!(real, told);
    }

    #[test]
    fn every_operation_names_what_any_of_its_kind_may_be_refused_with() {
        for (path, item) in document()["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap().iter().filter(|(key, _)| *key != "parameters") {
                // Another site's page, no Host at all, no seat.
                let mut any = vec![400, 403, 503];
                // An API key that is unknown, or has all of its connections; what went wrong inside.
                any.extend(
                    (operation["security"] != serde_json::json!([])).then_some([401, 429, 500]).into_iter().flatten(),
                );
                // Too slow, too large, of another kind.
                any.extend(operation.get("requestBody").map(|_| [408, 413, 415]).into_iter().flatten());
                for status in any {
                    assert!(operation["responses"][status.to_string()].is_object(), "{method} {path}: {status}");
                }
            }
        }
    }

    #[test]
    fn what_the_document_refers_to_is_in_it_and_path_parameters_are_declared() {
        fn walk(document: &Value, at: &Value) {
            match at {
                Value::Object(map) => {
                    if let Some(Value::String(to)) = map.get("$ref") {
                        let found = document.pointer(to.strip_prefix('#').unwrap());
                        assert!(found.is_some(), "{to}");
                    }
                    map.values().for_each(|value| walk(document, value));
                }
                Value::Array(list) => list.iter().for_each(|value| walk(document, value)),
                _ => {}
            }
        }
        let document = document();
        assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
        walk(&document, &document);
        let resolved = |parameter: &Value| match parameter.get("$ref") {
            Some(to) => document.pointer(to.as_str().unwrap().trim_start_matches('#')).unwrap().clone(),
            None => parameter.clone(),
        };
        for (path, item) in document["paths"].as_object().unwrap() {
            let shared = item["parameters"].as_array().cloned().unwrap_or_default();
            for (method, operation) in item.as_object().unwrap().iter().filter(|(key, _)| *key != "parameters") {
                let own = operation["parameters"].as_array().cloned().unwrap_or_default();
                let declared: BTreeSet<String> = shared
                    .iter()
                    .chain(&own)
                    .map(resolved)
                    .filter(|parameter| parameter["in"] == "path")
                    .map(|parameter| parameter["name"].as_str().unwrap().to_owned())
                    .collect();
                let needed: BTreeSet<String> = path
                    .split('/')
                    .filter_map(|part| Some(part.strip_prefix('{')?.strip_suffix('}')?.into()))
                    .collect();
                assert_eq!(needed, declared, "{method} {path}");
                assert!(!operation["responses"].as_object().unwrap().is_empty(), "{method} {path}");
            }
        }
    }
}
