//! Why a command failed, what its exit code is, and what to do next.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use veilcast::client::ClientError;
use veilcast::exchange::{FetchFailure, HistoryPolicyError};
use veilcast::identity::KeystoreError;
use veilcast::key_ring::RingError;
use veilcast::key_store::{KeyError, StoreError};
use veilcast::network::NetworkError;
use veilcast::permission::{AccessError, GrantError, RegistryError};
use veilcast::storage::StorageError;
use veilcast::stream::{StreamId, StreamIdError};
use veilcast::{Refusal, Timestamp, UserId};

use crate::api_key::ApiKeyError;
use crate::args::Shared;
use crate::chain::ChainFailure;
use crate::commands::audit::AuditCommandError;
use crate::commands::care::CareError;
use crate::commands::grant::GrantInputError;
use crate::commands::grant::announce::AnnounceError;
use crate::commands::key::KeyInputError;
use crate::commands::key::fetch::KeyFetchError;
use crate::commands::node::NodeKeyError;
use crate::commands::publish::PublishError;
use crate::commands::resend::ResendError;
use crate::commands::subscribe::SubscribeError;
use crate::config::ConfigError;
use crate::connect::ConnectError;
use crate::daemon::DaemonError;
use crate::data_dir::{DataDir, DataDirError};
use crate::demo::DemoError;
use crate::exit::Exit;
use crate::log::LogError;
use crate::through::{self, ThroughError};
use crate::times;
use crate::unlock::UnlockError;

/// Every way a command can fail.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum Failure {
    /// Whoever read our output has gone: not an error, there is just nobody left to tell.
    #[error("the output was closed")]
    OutputClosed,
    #[error("cannot write the output: {0}; see to the disk it goes to")]
    Output(io::Error),
    #[error("cannot start: {0}; see to the limits of this machine")]
    Runtime(io::Error),
    #[error("there is no identity in {}; make one with: veilcast identity new", .folder.display())]
    NoIdentity { folder: PathBuf },
    #[error(
        "the identity of the data folder {} is missing, and what is kept there belongs to it; put identity.json back, restore a backup with: veilcast restore FILE --force, or begin anew under another --data-dir",
        .folder.display()
    )]
    IdentityLost { folder: PathBuf },
    #[error(
        "the store of the data folder {} is missing, with its streams, grants and keys; put the folder store back, restore a backup with: veilcast restore FILE --force, or begin anew under another --data-dir",
        .folder.display()
    )]
    StoreLost { folder: PathBuf },
    #[error(
        "the key file {} does not open the identity beside it: it is damaged or of another data folder; put back a copy of the right one",
        .path.display()
    )]
    KeyFileMisfit { path: PathBuf },
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Unlock(#[from] UnlockError),
    #[error(transparent)]
    Keystore(#[from] KeystoreError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("{error}; {hint}")]
    InUse { error: StoreError, hint: &'static str },
    #[error(transparent)]
    Registry(#[from] RegistryError),
    #[error(transparent)]
    Grant(#[from] GrantError),
    #[error(transparent)]
    GrantInput(#[from] GrantInputError),
    #[error(
        "what was signed for a user is taken back all at once; leave --permission away, or name one grant with: veilcast grant revoke STREAM --serial N"
    )]
    RevokedTogether,
    #[error("storage nodes are named in records that a stream's owner signs; add --registry grants")]
    UnsignedStorage,
    #[error(
        "nothing is known here of {stream}, so that nobody may publish on it and nothing would be stored; say who decides: --registry grants, or a contract (a stream of your own is made with: veilcast stream create)"
    )]
    StoredUnknown { stream: StreamId },
    #[error(
        "the span of time ends ({}) before it begins ({}); check --from and --to; a span such as 30d is so long ago",
        shown(.to),
        shown(.from)
    )]
    Backwards { from: Timestamp, to: Timestamp },
    #[error("{stream} would be a stream of somebody else, you are {user}; name the path alone, such as prices")]
    NotYours { stream: StreamId, user: UserId },
    #[error("the database of this data folder cannot be read; see to the disk, and restore a backup if it is damaged")]
    Database,
    #[error("nothing is stored any more: {0}")]
    StorageFailed(Arc<StorageError>),
    #[error(transparent)]
    Announce(#[from] AnnounceError),
    #[error(transparent)]
    Access(#[from] AccessError),
    #[error(transparent)]
    Chain(#[from] ChainFailure),
    #[error(transparent)]
    StreamId(#[from] StreamIdError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Ring(#[from] RingError),
    #[error(transparent)]
    KeyInput(#[from] KeyInputError),
    #[error(transparent)]
    KeyFetch(#[from] KeyFetchError),
    #[error(transparent)]
    History(#[from] HistoryPolicyError),
    #[error(transparent)]
    NodeKey(#[from] NodeKeyError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Publish(#[from] PublishError),
    #[error(transparent)]
    Subscribe(#[from] SubscribeError),
    #[error(transparent)]
    Resend(#[from] ResendError),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Care(#[from] CareError),
    #[error(transparent)]
    Audit(#[from] AuditCommandError),
    #[error(transparent)]
    Demo(#[from] DemoError),
    #[error(transparent)]
    ApiKey(#[from] ApiKeyError),
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    #[error(transparent)]
    Through(#[from] ThroughError),
    #[error("a veilcast run works on the data folder {}", .folder.display())]
    SomebodyRuns { folder: PathBuf },
}

/// What to do about a data folder that something runs on, where it is to be changed.
pub(crate) const STOP_IT_FIRST: &str = "stop the veilcast that runs there (Ctrl-C), run this again, and start it again: it goes on with \
    its key, and shuts out before its first message whoever was taken back or denied";

impl Failure {
    /// The same, with something better to say where another process uses the data folder.
    pub(crate) fn where_in_use(self, hint: &'static str) -> Self {
        match self {
            Self::Store(error @ StoreError::InUse { .. }) => Self::InUse { error, hint },
            other => other,
        }
    }

    /// The same, where a `veilcast run` uses the data folder.
    pub(crate) fn where_somebody_runs(self, shared: &Shared) -> Self {
        let in_use = matches!(self, Self::Store(StoreError::InUse { .. }) | Self::InUse { .. });
        match DataDir::find(shared.data_dir.as_deref()) {
            Ok(dir) if in_use && through::somebody_runs(shared) => Self::SomebodyRuns { folder: dir.path().into() },
            _ => self,
        }
    }

    /// The exit code.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::OutputClosed => Exit::Done,
            Self::StreamId(_) | Self::Key(_) | Self::Log(_) | Self::Config(_) => Exit::Usage,
            Self::RevokedTogether | Self::UnsignedStorage | Self::StoredUnknown { .. } => Exit::Usage,
            Self::Backwards { .. } | Self::NotYours { .. } => Exit::Usage,
            Self::ApiKey(ApiKeyError::OfNode { .. }) => Exit::Usage,
            Self::KeyInput(error) => error.exit(),
            Self::Chain(error) => error.exit(),
            Self::Audit(AuditCommandError::TwoForms) => Exit::Usage,
            Self::Care(error) => error.exit(),
            Self::KeyFetch(error) => error.exit(),
            Self::Registry(RegistryError::Period(_)) | Self::Grant(GrantError::Period(_)) => Exit::Usage,
            Self::GrantInput(error) => error.exit(),
            Self::Client(ClientError::NotPermitted { refusal: Refusal::Unavailable { .. }, .. }) => Exit::Failed,
            Self::Client(ClientError::Refused { .. } | ClientError::NotPermitted { .. }) => Exit::Refused,
            Self::Client(ClientError::FetchFailed { failure: FetchFailure::Refused(_), .. }) => Exit::Refused,
            Self::Client(ClientError::StreamId(_) | ClientError::Backwards { .. }) => Exit::Usage,
            Self::Subscribe(error) => error.exit(),
            Self::Resend(error) => error.exit(),
            Self::Through(error) => error.exit(),
            _ => Exit::Failed,
        }
    }

    /// What happened, with its causes, and what to do next.
    pub(crate) fn told(&self) -> Told {
        if let Self::SomebodyRuns { folder } = self {
            return through::told_in_use(folder);
        }
        let whole = with_causes(self);
        if let Some(hint) = self.hint() {
            let error = whole.rsplit_once("; ").map_or(whole.as_str(), |(error, _)| error);
            return Told { error: error.into(), hint: hint.into() };
        }
        // Our errors say what to do next behind their last semicolon.
        match whole.rsplit_once("; ") {
            Some((error, hint)) => Told { error: error.into(), hint: hint.into() },
            None => Told { error: whole, hint: "run the command with --help for how it is used".into() },
        }
    }

    /// Where the command line offers a better way on than the library that failed could know.
    fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Keystore(error) => keystore_hint(error),
            Self::Store(error) => store_hint(error),
            Self::Registry(error) => registry_hint(error),
            Self::Grant(error) => grant_hint(error),
            Self::Access(error) => access_hint(error),
            Self::StreamId(error) => Some(stream_hint(error)),
            Self::Client(error) => client_hint(error),
            _ => None,
        }
    }
}

const fn keystore_hint(error: &KeystoreError) -> Option<&'static str> {
    match error {
        KeystoreError::Exists { .. } => {
            Some("see it with: veilcast identity show, or make another one under a --data-dir of its own")
        }
        KeystoreError::WrongPassword { .. } => {
            Some("give the passphrase it was made with: VEILCAST_PASSPHRASE, --passphrase-file, or type it")
        }
        KeystoreError::Io { .. } | KeystoreError::Wallet { .. } => Some("check the data folder and its permissions"),
        _ => None,
    }
}

const fn store_hint(error: &StoreError) -> Option<&'static str> {
    match error {
        StoreError::InUse { .. } => {
            Some("stop the veilcast that uses this data folder, or give this one a --data-dir of its own")
        }
        StoreError::WrongPassphrase => {
            Some("give the one it was made with: VEILCAST_PASSPHRASE, --passphrase-file, or type it")
        }
        _ => None,
    }
}

const fn registry_hint(error: &RegistryError) -> Option<&'static str> {
    match error {
        RegistryError::NoStream { .. } => Some(
            "see your streams with: veilcast stream show, make one with: veilcast stream create PATH, and say --registry grants where its owner signs permissions",
        ),
        RegistryError::StreamExists { .. } => {
            Some("see it with: veilcast stream show STREAM, change who may read it with: veilcast stream set")
        }
        RegistryError::NoGrant { .. } => Some("see who has one with: veilcast stream show STREAM"),
        RegistryError::Period(_) => Some("check --from, --until and --for, and the clock of this machine"),
        RegistryError::Store(error) => store_hint(error),
        _ => None,
    }
}

pub(crate) fn grant_hint(error: &GrantError) -> Option<&'static str> {
    match error {
        GrantError::Line | GrantError::TooLong { .. } | GrantError::Wire(_) | GrantError::Signature(_) => {
            Some("take the whole line over as veilcast grant issue printed it, and nothing else")
        }
        GrantError::EnsOwner { .. } => Some("sign for a stream that is named after your address"),
        GrantError::NotOwner { .. } => Some("ask the stream's owner to sign it (veilcast grant issue)"),
        GrantError::ForeignRegistry { .. } => Some("name that registry with --registry"),
        GrantError::Ended { .. } | GrantError::Revoked { .. } => Some("ask the stream's owner for another one"),
        GrantError::SerialTaken { .. } => {
            Some("ask the stream's owner for one of another number, issued on one device")
        }
        GrantError::Outdated { .. } | GrantError::RecordExpired { .. } => {
            Some("ask the stream's owner for the newest: veilcast grant show STREAM --lines")
        }
        GrantError::TooMany { what: "grants of one user", .. } => Some(
            "of one user's grants one that is over gives way: take one back (veilcast grant revoke STREAM --serial N), or wait for its end",
        ),
        GrantError::TooMany { what: "grants of one stream", .. } => Some(
            "those that have been over for a day give way by themselves: try again then, or sell on another stream too",
        ),
        GrantError::TooMany { .. } => {
            Some("those whose records expired a month ago give way by themselves; until then use another data folder")
        }
        GrantError::NoStream { .. } => Some("make it with: veilcast stream create PATH --registry grants"),
        GrantError::NoGrant { .. } => Some("see what was signed with: veilcast grant show STREAM"),
        GrantError::RevocationsFull => Some("wait until some of the grants taken back would have ended by themselves"),
        GrantError::Period(_) => Some("check --from, --until and --for, and the clock of this machine"),
        GrantError::Store(error) => store_hint(error),
        _ => None,
    }
}

const fn access_hint(error: &AccessError) -> Option<&'static str> {
    match error {
        AccessError::Exempt { .. } => Some("name somebody else"),
        AccessError::NotListed { .. } => Some("see who is with: veilcast access show STREAM"),
        AccessError::TooMany => Some("take some off with: veilcast access clear STREAM USER"),
        AccessError::Store(error) => store_hint(error),
        _ => None,
    }
}

const fn stream_hint(error: &StreamIdError) -> &'static str {
    match error {
        StreamIdError::Segment { .. } => "write names with a slash between them, such as prices or sensors/roof",
        StreamIdError::PartitionRange { .. } => "see how many it has with: veilcast stream show STREAM",
        _ => "a stream is owner/path, as veilcast stream show prints it",
    }
}

fn client_hint(error: &ClientError) -> Option<&'static str> {
    match error {
        ClientError::NotPermitted { refusal: Refusal::Unavailable { .. }, .. } => Some(
            "take in the stream's record (veilcast grant import) where its owner signs permissions; where a contract decides, try again, -v tells what it answers",
        ),
        ClientError::NotPermitted { .. } => {
            Some("check the stream id and which --data-dir is used (veilcast identity show); its owner can grant it")
        }
        ClientError::NoStream { .. } => Some(
            "check the stream id and --registry: a stream named after an ENS name is known to a contract only (--registry polygon, ...)",
        ),
        ClientError::FetchFailed { failure: FetchFailure::Refused(_), .. } => {
            Some("ask its owner for a grant: veilcast stream grant STREAM YOUR-ADDRESS")
        }
        ClientError::NoStorage { .. } => {
            Some("check that --bootstrap leads to a node that keeps it: veilcast node --store STREAM")
        }
        ClientError::FetchFailed { .. } => Some(
            "check that its publisher is running and that --bootstrap leads to it; run it again to go on where it was",
        ),
        ClientError::FetchIncomplete { .. } => {
            Some("what came is kept; run it again while those devices are running to go on there")
        }
        ClientError::Backwards { .. } => Some("check --from and --to; a span such as 30d is so long ago"),
        ClientError::PayloadTooLarge { .. } => Some("split it"),
        ClientError::NoAgreedKey { ring: Some(_), .. } => {
            Some("choose one of its keys with: veilcast key use --prefix PREFIX --key-id ID")
        }
        ClientError::NoAgreedKey { ring: None, .. } => {
            Some("put one in with: veilcast key add --current, for the stream or with --prefix")
        }
        ClientError::Network(NetworkError::AddressInUse { .. }) => {
            Some("choose another port with --listen (tcp/0 takes any free one), or stop what listens there")
        }
        ClientError::Network(NetworkError::Listen { .. }) => {
            Some("check --listen: it takes an address of this machine, such as /ip4/0.0.0.0/tcp/4100")
        }
        ClientError::Registry(error) => registry_hint(error),
        ClientError::Grant(error) => grant_hint(error),
        ClientError::Store(error) => store_hint(error),
        ClientError::StreamId(error) => Some(stream_hint(error)),
        _ => None,
    }
}

/// A moment as it can be typed again.
fn shown(moment: &Timestamp) -> String {
    times::show(*moment)
}

/// What a person or program is told about a failure.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Told {
    /// What happened.
    pub(crate) error: String,
    /// What to do next.
    pub(crate) hint: String,
}

/// The message, and those of its causes that it does not repeat itself.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.contains(&said) {
            text = match text.rsplit_once("; ") {
                Some((what, hint)) => format!("{what}: {said}; {hint}"),
                None => format!("{text}: {said}"),
            };
        }
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_next_stands_behind_the_last_semicolon() {
        let told = Failure::from(DataDirError::NoHome).told();
        assert_eq!(told.error, "there is no home folder to keep data in");
        assert_eq!(told.hint, "name a folder with --data-dir or VEILCAST_DATA_DIR");
    }

    #[test]
    fn causes_come_before_what_to_do_next() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot open it; try again")]
        struct Outer(#[source] io::Error);
        assert_eq!(with_causes(&Outer(io::Error::other("no disk"))), "cannot open it: no disk; try again");
    }
}
