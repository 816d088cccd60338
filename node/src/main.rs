//! `veilcast`, by the machine's clock.

use std::process::ExitCode;
use std::sync::Arc;

use veilcast::time::SystemClock;

fn main() -> ExitCode {
    veilcast_node::program(Arc::new(SystemClock), std::env::args_os())
}
