//! The clock of the process. It is told once, by whoever calls the program, and from nowhere else.

use std::sync::{Arc, OnceLock};

use veilcast::Timestamp;
use veilcast::time::{Clock, SystemClock};

static CLOCK: OnceLock<Arc<dyn Clock>> = OnceLock::new();

/// Goes by this one, unless there is one already.
pub(crate) fn go_by(clock: Arc<dyn Clock>) {
    CLOCK.get_or_init(|| clock);
}

/// The one that all of the process goes by: the machine's where nothing else was told.
pub(crate) fn clock() -> Arc<dyn Clock> {
    CLOCK.get().cloned().unwrap_or_else(|| Arc::new(SystemClock))
}

/// The present moment.
pub(crate) fn now() -> Timestamp {
    clock().now()
}
