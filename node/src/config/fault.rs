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

    /// As the parser found it in this text; of what stands there only the key is repeated.
    pub(super) fn of(error: toml::de::Error, text: &str) -> Self {
        let at = error.span().map_or(0, |span| span.start);
        let fault = Self::without_key(&error, at);
        match key_at(text, at) {
            Some(key) if !fault.what.contains(&format!("`{key}`")) => {
                Self { what: format!("{key}: {}", fault.what), ..fault }
            }
            _ => fault,
        }
    }

    fn without_key(error: &toml::de::Error, at: usize) -> Self {
        let what = match error.message().rsplit_once(", expected ") {
            Some((found, expected)) if found.starts_with("invalid ") => {
                format!("expected {}", in_words(expected))
            }
            _ => error.message().to_owned(),
        };
        Self { at, what }
    }
}

/// The key whose value is there, where it stands in the same line.
fn key_at(text: &str, at: usize) -> Option<&str> {
    let before = text.get(..at)?.rsplit('\n').next()?;
    let (key, _) = before.split_once('=')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    Some(key.trim()).filter(|key| !key.is_empty() && key.chars().all(plain))
}

/// Our own types mean tables to whoever writes the file.
fn in_words(expected: &str) -> String {
    if expected.starts_with("struct Written") { "a table".into() } else { expected.into() }
}

/// In which line a byte is, counted from 1.
pub(super) fn line_of(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}
