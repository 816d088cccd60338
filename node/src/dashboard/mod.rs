//! The dashboard's page: files that are part of this binary, and the headers they go out with.
//!
//! A page without a build step: markup, one style sheet and a few modules of script, which ask the node as any application does, with
//! an API key (`gateway::dashboard` has the routes). The policy lets the browser load and ask nothing but this node, run no script
//! that stands in the markup, and put no text anywhere as markup.

/// A file of the page.
#[derive(Debug)]
pub(crate) struct File {
    name: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) text: &'static str,
}

/// The page itself.
pub(crate) const PAGE: File = File { name: "", kind: "text/html; charset=utf-8", text: include_str!("index.html") };

macro_rules! script {
    ($name:literal) => {
        File { name: $name, kind: "text/javascript; charset=utf-8", text: include_str!($name) }
    };
}

const FILES: [File; 10] = [
    File { name: "style.css", kind: "text/css; charset=utf-8", text: include_str!("style.css") },
    File { name: "icon.svg", kind: "image/svg+xml", text: include_str!("icon.svg") },
    script!("acts.js"),
    script!("api.js"),
    script!("app.js"),
    script!("chain.js"),
    script!("dom.js"),
    script!("figures.js"),
    script!("format.js"),
    script!("timeline.js"),
];

/// What is part of the page by this name.
pub(crate) fn find(name: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.name == name)
}

/// Headers of every file.
pub(crate) const HEADERS: [(&str, &str); 7] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    // For browsers that know no frame-ancestors.
    ("x-frame-options", "DENY"),
    // Another version of the node has another page.
    ("cache-control", "no-cache"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_the_files_name_is_part_of_the_page_and_nothing_is_elsewhere() {
        let named = |text: &str, before: &str| {
            let after = |rest: &str| rest.split(['"', '\'']).next().unwrap_or_default().to_owned();
            text.split(before).skip(1).map(after).collect::<Vec<_>>()
        };
        let mut all = named(PAGE.text, "\"dashboard/");
        assert_eq!(all.len(), 3);
        for file in &FILES {
            all.extend(named(file.text, "from './"));
        }
        for name in all {
            assert!(find(&name).is_some(), "{name}");
        }
        for file in FILES.iter().chain([&PAGE]) {
            let elsewhere = file.text.replace("http://www.w3.org/2000/svg", "");
            for part in ["http://", "https://", "url(", "@import", "localStorage"] {
                assert!(!elsewhere.contains(part), "{part} in {}", file.name);
            }
        }
    }

    #[test]
    fn no_script_and_no_style_stands_in_the_markup_and_no_text_becomes_markup() {
        assert!(!PAGE.text.contains("style=") && !PAGE.text.contains("<style"));
        let handles = |rest: &str| rest.trim_start_matches(|c: char| c.is_ascii_lowercase()).starts_with('=');
        assert!(!PAGE.text.split(" on").skip(1).any(handles), "an attribute that is a script");
        assert_eq!(PAGE.text.matches("<script").count(), PAGE.text.matches("<script type=\"module\" src=").count());
        let makes_markup = [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "DOMParser",
            "eval(",
            "new Function",
            "srcdoc",
        ];
        for file in &FILES {
            for part in makes_markup {
                assert!(!file.text.contains(part), "{part} in {}", file.name);
            }
        }
    }
}
