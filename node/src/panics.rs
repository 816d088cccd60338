//! Panics of the database, which become errors and are told as such.
//!
//! What lies damaged on a disk makes sled panic in places. Whoever calls it catches that and answers with an error that says what is
//! damaged; the words of the panic, with a file and line of the library, would only stand before it, also amid `--json`.

use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};

/// A panic of the database was kept quiet.
static QUIET: AtomicBool = AtomicBool::new(false);

/// From now on panics of the database print nothing; all others are told as ever.
pub(crate) fn quiet() {
    let usual = panic::take_hook();
    panic::set_hook(Box::new(move |panicked| {
        if panicked.location().is_some_and(|at| is_database(at.file())) {
            QUIET.store(true, Ordering::SeqCst);
        } else {
            usual(panicked);
        }
    }));
}

/// Runs `work`; `None` if a panic of the database got through, of which nobody was told yet. Any other goes on.
pub(crate) fn caught<T>(work: impl FnOnce() -> T) -> Option<T> {
    match panic::catch_unwind(AssertUnwindSafe(work)) {
        Ok(done) => Some(done),
        Err(_) if QUIET.load(Ordering::SeqCst) => None,
        Err(other) => panic::resume_unwind(other),
    }
}

/// Whether a source file is one of the crate sled, wherever it was compiled.
fn is_database(file: &str) -> bool {
    file.split(['/', '\\']).any(|part| {
        part == "sled"
            || part.strip_prefix("sled-").is_some_and(|version| version.starts_with(|c: char| c.is_ascii_digit()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_database_is_kept_quiet() {
        assert!(is_database("/somewhere/registry/src/index-1/sled-0.34.7/src/pagecache/mod.rs"));
        assert!(is_database("vendor\\sled\\src\\lib.rs"));
        for file in
            ["node/src/main.rs", "sdk/src/storage/sled_engine.rs", "key-store/src/sled_store.rs", "sled-ge/a.rs"]
        {
            assert!(!is_database(file), "{file}");
        }
    }
}
