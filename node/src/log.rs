//! Log lines on stderr. Quiet unless asked: what a user must know is said by the commands themselves.

use std::io;

use tracing_subscriber::EnvFilter;

/// The variable a filter is read from.
const VARIABLE: &str = "VEILCAST_LOG";

/// Starts logging: `-v` wins over the variable, which wins over silence.
pub(crate) fn start(verbose: u8) -> Result<(), LogError> {
    let named = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty());
    let filter = match (verbose, named) {
        (0, Some(text)) => text,
        (level, _) => by_count(level).into(),
    };
    let filter = EnvFilter::builder().parse(&filter).map_err(|fault| LogError { filter, fault: fault.to_string() })?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    Ok(())
}

fn by_count(verbose: u8) -> &'static str {
    match verbose {
        0 => "off",
        1 => "veilcast=info",
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
