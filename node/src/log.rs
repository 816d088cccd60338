//! Log lines on stderr, as text or as JSON objects. Quiet unless asked: what a user must know is said by the commands themselves. Only a
//! daemon, whom nobody watches, tells by itself whom it refused.
//!
//! Targets are module paths of the SDK, from `veilcast::client` and `veilcast::network` to single files of theirs; asking for and
//! answering with keys is all under `veilcast::exchange`.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::args::LogFormat;

/// The variable a filter is read from.
const VARIABLE: &str = "VEILCAST_LOG";

/// Frames of a WebSocket have plaintext in them, so their library says nothing below warnings, whatever is asked for.
const MUTED: &str = "tungstenite=warn";

/// Nothing.
pub(crate) const OF_COMMANDS: &str = "off";

/// Whether this can be a filter.
pub(crate) fn is_filter(text: &str) -> bool {
    EnvFilter::builder().parse(text).is_ok()
}

/// What `veilcast run` logs if nothing else is said: whom its gateway refused, and what failed.
pub(crate) const OF_DAEMON: &str = "veilcast=error,veilcast_node::gateway=warn";

/// Starts logging: `-v` wins over the variable, which wins over the config file, which wins over what is usual.
pub(crate) fn start(verbose: u8, file: Option<String>, usual: &str, format: LogFormat) -> Result<(), LogError> {
    let named = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty());
    let filter = match (verbose, named.or(file)) {
        (0, text) => text.unwrap_or_else(|| usual.into()),
        (level, _) => by_count(level).into(),
    };
    let filter = EnvFilter::builder().parse(&filter).map_err(|fault| LogError { filter, fault: fault.to_string() })?;
    let filter = match MUTED.parse() {
        Ok(muted) => filter.add_directive(muted),
        Err(_) => filter,
    };
    write(filter, format);
    Ok(())
}

/// One line for each event, whatever is in it.
fn write(filter: EnvFilter, format: LogFormat) {
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(io::stderr().is_terminal()).init(),
        LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).with_span_list(false).init(),
    }
}

fn by_count(verbose: u8) -> &'static str {
    match verbose {
        0 | 1 => "veilcast=info",
        2 => "veilcast=debug",
        _ => "trace",
    }
}

/// The variable holds no filter.
#[derive(Debug, thiserror::Error)]
#[error(
    "{VARIABLE}={filter} is no log filter: {fault}; write a level (info, debug) or target=level, as in veilcast=debug"
)]
pub(crate) struct LogError {
    filter: String,
    fault: String,
}
