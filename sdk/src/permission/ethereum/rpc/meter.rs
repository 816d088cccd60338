//! What is counted of calls: by the number of the endpoint in the order it was given, never by its address.

use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Unit;

use super::{Outcome, RpcFault};
use crate::metrics::{Counts, CountsFamily, Registry, SecondsFamily, label, seconds};

label! {
    /// How a call ended.
    Ended as "outcome" {
        Answered = "answered",
        Reverted = "reverted",
        TimedOut = "timed_out",
        Unreachable = "unreachable",
        HttpStatus = "http_status",
        TooLarge = "too_large",
        Malformed = "malformed",
        NodeError = "node_error",
        Other = "other",
    }
}

impl<T> From<&Result<Outcome<T>, RpcFault>> for Ended {
    fn from(ended: &Result<Outcome<T>, RpcFault>) -> Self {
        match ended {
            Ok(Ok(_)) => Self::Answered,
            Ok(Err(_)) | Err(RpcFault::Reverted { .. }) => Self::Reverted,
            Err(RpcFault::Deadline { .. }) => Self::TimedOut,
            Err(RpcFault::Unreachable { .. }) => Self::Unreachable,
            Err(RpcFault::Status { .. }) => Self::HttpStatus,
            Err(RpcFault::TooLarge { .. }) => Self::TooLarge,
            Err(RpcFault::Malformed { .. }) => Self::Malformed,
            Err(RpcFault::Node { .. }) => Self::NodeError,
            // What is found out about an answer later is no matter of the call.
            Err(_) => Self::Other,
        }
    }
}

/// The calls to all endpoints.
#[derive(Debug)]
pub(super) struct Meter {
    calls: CountsFamily,
    seconds: SecondsFamily,
}

impl Default for Meter {
    fn default() -> Self {
        Self { calls: CountsFamily::default(), seconds: SecondsFamily::new_with_constructor(seconds) }
    }
}

impl Meter {
    /// Of the endpoint of this number, 0 first.
    pub(super) fn of(&self, number: usize) -> EndpointMeter {
        let fixed = vec![("endpoint", number.to_string().into())];
        EndpointMeter { calls: Counts::of(&self.calls, &fixed), seconds: self.seconds.get_or_create_owned(&fixed) }
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        let calls = "Calls to endpoints of the chain, by their number in the order given (0 first) and outcome";
        registry.register("chain_calls", calls, self.calls.clone());
        let seconds = "Time that a call took, with waiting for its turn";
        registry.register_with_unit("chain_call", seconds, Unit::Seconds, self.seconds.clone());
    }
}

/// The calls to one endpoint.
#[derive(Debug)]
pub(super) struct EndpointMeter {
    calls: Counts<Ended>,
    seconds: Histogram,
}

impl EndpointMeter {
    /// A call ended so, after this time.
    pub(super) fn ended<T>(&self, ended: &Result<Outcome<T>, RpcFault>, took: Duration) {
        self.calls.add(ended.into(), 1);
        self.seconds.observe(took.as_secs_f64());
    }
}
