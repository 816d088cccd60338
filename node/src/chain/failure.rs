//! Why something with a contract did not work, and what to do next.

use std::io;
use std::sync::Arc;

use veilcast::StreamId;
use veilcast::permission::ethereum::{ChainError, Deployment, RegistrySetupError, Trouble, WriteError};

use crate::exit::Exit;
use crate::words::counted;

/// Why, and behind the last semicolon what to do next.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ChainFailure {
    #[error(
        "nobody can be asked about the contract of {deployment}; name an endpoint with --rpc URL, VEILCAST_RPC or rpc in the config file"
    )]
    NoEndpoint { deployment: Deployment },
    #[error(
        "{deployment} is on chain {known}, not {given}; leave --chain-id, VEILCAST_CHAIN_ID or chain_id away, or name another registry"
    )]
    OtherChain { deployment: Deployment, known: u64, given: u64 },
    #[error("{0}; check --rpc, VEILCAST_RPC, --agree, and [registry] of the config file")]
    Setup(RegistrySetupError),
    #[error("{0}; check --rpc and --registry, or name another endpoint beside it")]
    Chain(#[from] ChainError),
    #[error("{error}; {}", write_hint(.error))]
    Write {
        #[source]
        error: WriteError,
    },
    #[error("a transaction costs gas and there is no terminal to ask at; say --yes to send it without being asked")]
    NobodyToAsk,
    #[error("nothing was sent; run the command again if you change your mind")]
    Declined,
    #[error("cannot ask: {0}; say --yes to send it without being asked")]
    Terminal(io::Error),
    #[error(
        "the registry knows no stream {stream}; check the id and --registry, or make it with: veilcast stream create PATH --registry ..."
    )]
    NoStream { stream: StreamId },
    #[error("the stream {stream} exists already with {}; choose another path", counted(u64::from(*.partitions), "partition", "partitions"))]
    Exists { stream: StreamId, partitions: u32 },
    #[error("{trouble}; {}", events_hint(.trouble))]
    Events { trouble: Arc<Trouble> },
    #[error("a contract keeps no list of streams; name one: veilcast stream show STREAM")]
    NoList,
}

impl From<WriteError> for ChainFailure {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Chain(error) => Self::Chain(error),
            error => Self::Write { error },
        }
    }
}

impl ChainFailure {
    pub(crate) const fn exit(&self) -> Exit {
        match self {
            Self::NoEndpoint { .. } | Self::OtherChain { .. } | Self::Setup(_) | Self::NobodyToAsk | Self::NoList => {
                Exit::Usage
            }
            Self::Write { error: WriteError::Period(_) | WriteError::StartsLater { .. } } => Exit::Usage,
            Self::Write { error: WriteError::Everybody | WriteError::Stream(_) } => Exit::Usage,
            _ => Exit::Failed,
        }
    }
}

const fn write_hint(error: &WriteError) -> &'static str {
    match error {
        WriteError::Period(_) => "check --from, --until and --for, and the clock of this machine",
        WriteError::StartsLater { .. } => "leave --from away and give it when it is to begin",
        WriteError::Everybody => "see: veilcast stream set --help",
        WriteError::Stream(_) => "a stream is owner/path",
        WriteError::Reverted { .. } => {
            "check the stream id and that this identity may change it (veilcast identity show)"
        }
        WriteError::TooDear { .. } => "wait until gas is cheaper, or ask another endpoint",
        WriteError::Funds { .. } => "send some coins to the address that veilcast identity show prints",
        WriteError::Unsettled { .. } | WriteError::Pending { .. } => {
            "look for it with a block explorer before you do the same again"
        }
        _ => "try another endpoint",
    }
}

const fn events_hint(trouble: &Trouble) -> &'static str {
    match trouble {
        Trouble::Index(_) => "restore the data folder from a backup, or use another one",
        Trouble::Full { .. } => "use a data folder of its own for this registry",
        _ => "run the command again, it goes on where it was; or name another endpoint with --rpc",
    }
}
