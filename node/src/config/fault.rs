//! What is wrong with a config file, and where.

/// What is wrong at which byte.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: usize,
    pub(super) what: String,
}

impl Fault {
    pub(super) fn new(at: usize, what: impl Into<String>) -> Self {
        Self { at, what: what.into() }
    }

    /// As the parser found it; of what stands there only the key is repeated.
    pub(super) fn of(error: toml::de::Error) -> Self {
        let at = error.span().map_or(0, |span| span.start);
        let what = match error.message().rsplit_once(", expected ") {
            Some((found, expected)) if found.starts_with("invalid ") => {
                format!("expected {}", in_words(expected))
            }
            _ => error.message().to_owned(),
        };
        Self { at, what }
    }
}

/// Our own types mean tables to whoever writes the file.
fn in_words(expected: &str) -> String {
    if expected.starts_with("struct Written") { "a table".into() } else { expected.into() }
}

/// In which line a byte is, counted from 1.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}
