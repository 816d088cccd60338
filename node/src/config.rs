//! The config file: what would otherwise be said on every command line.
//!
//! ```text
//! --config FILE ─▶ VEILCAST_CONFIG ─▶ veilcast.toml in the data folder, where it is there
//! ```
//! One section for each subject, one key for each option of the command line, under the option's own name. What the environment says
//! wins over the file, and what the command line says over both. A key that nobody knows is an error. Values are never repeated in
//! errors: an endpoint's URL may have a customer's key in it.

mod fault;
mod field;
mod registry;
mod sections;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use self::fault::{Fault, line_of};
pub(crate) use self::registry::{RegistrySection, host};
pub(crate) use self::sections::{
    DEFAULT_DOOR, DataSection, GatewaySection, LogSection, MqttSection, NetworkSection, StorageSection, StreamSection,
};
use crate::args::Shared;
use crate::data_dir::DataDir;
use crate::failure::Failure;

/// Every key there is, with what holds where the file does not say.
pub(crate) const DEFAULT: &str = include_str!("config/default.toml");

/// What a config file says.
#[derive(Clone, Debug, Default)]
pub(crate) struct Config {
    /// Where identity and store are.
    pub(crate) data: DataSection,
    /// Who decides about permissions.
    pub(crate) registry: RegistrySection,
    /// Whom to meet.
    pub(crate) network: NetworkSection,
    /// How keys of streams are kept.
    pub(crate) streams: Vec<StreamSection>,
    /// What is kept for those who come later.
    pub(crate) storage: StorageSection,
    /// Where applications ask.
    pub(crate) gateway: GatewaySection,
    /// Where devices ask.
    pub(crate) mqtt: MqttSection,
    /// What is logged.
    pub(crate) log: LogSection,
}

/// The same as it stands there, not yet understood.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    data: sections::WrittenData,
    #[serde(default)]
    registry: registry::Written,
    #[serde(default)]
    network: sections::WrittenNetwork,
    #[serde(default)]
    streams: Vec<toml::Spanned<sections::WrittenStream>>,
    #[serde(default)]
    storage: sections::WrittenStorage,
    #[serde(default)]
    gateway: sections::WrittenGateway,
    #[serde(default)]
    mqtt: sections::WrittenMqtt,
    #[serde(default)]
    log: sections::WrittenLog,
}

impl Config {
    /// What counts for this command line; without a file, nothing.
    pub(crate) fn of(shared: &Shared) -> Result<Self, Failure> {
        Ok(Self::file(shared)?.map_or_else(|| Ok(Self::default()), |file| Self::read(&file))?)
    }

    /// The file that counts. One that was named must be there.
    pub(crate) fn file(shared: &Shared) -> Result<Option<PathBuf>, Failure> {
        match &shared.config {
            Some(named) => Ok(Some(named.clone())),
            None => Ok(Some(DataDir::find(shared.data_dir.as_deref())?.config()).filter(|file| file.exists())),
        }
    }

    /// What a file says.
    pub(crate) fn read(file: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(file).map_err(|source| ConfigError::Read { file: file.into(), source })?;
        Self::parse(&text).map_err(|fault| ConfigError::Wrong {
            file: file.into(),
            line: line_of(&text, fault.at),
            what: fault.what,
        })
    }

    fn parse(text: &str) -> Result<Self, Fault> {
        let written: Written = toml::from_str(text).map_err(|error| Fault::of(error, text))?;
        Ok(Self {
            data: written.data.understood()?,
            registry: written.registry.understood()?,
            network: written.network.understood()?,
            streams: written.streams.into_iter().map(stream).collect::<Result<_, _>>()?,
            storage: written.storage.understood()?,
            gateway: written.gateway.understood()?,
            mqtt: written.mqtt.understood()?,
            log: written.log.understood()?,
        })
    }
}

fn stream(written: toml::Spanned<sections::WrittenStream>) -> Result<StreamSection, Fault> {
    let at = written.span().start;
    written.into_inner().understood(at)
}

/// Why a config file cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ConfigError {
    #[error(
        "cannot read the config file {}: {source}; check --config and VEILCAST_CONFIG, or write one with: veilcast config default", .file.display()
    )]
    Read { file: PathBuf, source: io::Error },
    #[error("{}, line {line}: {what}; see every key with: veilcast config default", .file.display())]
    Wrong { file: PathBuf, line: usize, what: String },
    #[error("there is no config file; write one with: veilcast config default > {}", .would_be.display())]
    None { would_be: PathBuf },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Kept, Registry};

    /// Any peer.
    fn libp2p_peer() -> String {
        veilcast::client::Keypair::generate_ed25519().public().to_peer_id().to_string()
    }

    fn wrong(text: &str) -> (usize, String) {
        let fault = Config::parse(text).unwrap_err();
        (line_of(text, fault.at), fault.what)
    }

    #[test]
    fn the_default_file_says_what_holds_without_one_and_every_key_of_it_can_be_used() {
        let plain = Config::parse(DEFAULT).unwrap().registry;
        assert_eq!((plain.name, plain.rpc.len(), plain.agree), (Some(Registry::Kept(Kept::Local)), 0, None));
        let all: String = DEFAULT
            .lines()
            .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line).to_owned() + "\n")
            .map(|line| line.replace("12D3KooW...", &libp2p_peer()))
            .filter(|line| !line.starts_with("name = \"local\""))
            .collect();
        let full = Config::parse(&all).unwrap();
        assert!(full.data.folder.is_some() && full.data.passphrase_file.is_some(), "{all}");
        assert_eq!((full.network.listen.len(), full.network.bootstrap.len()), (2, 1));
        assert_eq!((full.storage.streams.len(), full.storage.assigned_by.len()), (1, 1));
        assert_eq!(full.storage.max_size, Some(10_000_000_000));
        assert!(full.streams[0].history.is_some() && full.streams[0].rhythm.rekey_every.is_some());
        let usual = crate::gateway::Limits::default();
        assert_eq!(full.gateway.listen, DEFAULT_DOOR.to_string().parse().ok());
        assert_eq!(full.gateway.max_connections, Some(usual.seats.most));
        assert_eq!(full.gateway.max_connections_per_key, Some(usual.seats.per_key));
        assert_eq!(full.gateway.head_timeout, Some(usual.head_timeout));
        assert_eq!(full.gateway.write_timeout, Some(usual.write_timeout));
        let usual = crate::gateway::MqttLimits::default();
        assert_eq!(full.mqtt.listen, "127.0.0.1:1883".parse().ok());
        assert_eq!(full.mqtt.connect_timeout, Some(usual.connect_timeout));
        assert_eq!(full.mqtt.write_timeout, Some(usual.write_timeout));
        assert_eq!(full.log.filter.as_deref(), Some(crate::log::OF_DAEMON));
        let full = full.registry;
        assert!(matches!(full.name, Some(Registry::Chain(_))), "{all}");
        assert!(full.rpc.len() == 2 && full.agree.is_some(), "{all}");
        assert!(full.confirmations.is_some() && full.from_block.is_some(), "{all}");
        assert_eq!(full.chain_id, Some(137));
    }

    #[test]
    fn a_key_or_section_that_nobody_knows_is_named_with_its_line() {
        let (line, what) = wrong("[registry]\nname = \"local\"\nconfirmation = 3\n");
        assert!(line == 3 && what.contains("`confirmation`") && what.contains("`confirmations`"), "{line} {what}");
        let (line, what) = wrong("\n\n[registri]\n");
        assert!(line == 3 && what.contains("`registri`"), "{line} {what}");
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_named_by_its_key_and_line_and_never_repeated() {
        let secret = "https://example.org/KEY-OF-A-CUSTOMER";
        let cases = [
            (format!("registry = \"{secret}\""), 1, "a table"),
            (format!("[registry]\nname = \"{secret}\""), 2, "registry.name"),
            (format!("[registry]\n\nagree = \"{secret}\""), 3, "registry.agree"),
            ("[registry]\nagree = 0".into(), 2, "registry.agree"),
            ("[registry]\nchain_id = 0".into(), 2, "registry.chain_id"),
            (format!("[registry]\nchain_id = \"{secret}\""), 2, "registry.chain_id"),
            ("[registry]\nname = \"amoy\"\nchain_id = 137".into(), 3, "amoy is on chain 80002, not 137"),
            ("[registry]\nconfirmations = -1".into(), 2, "registry.confirmations"),
            (format!("[registry]\nfrom_block = [\"{secret}\"]"), 2, "registry.from_block"),
            (format!("[registry]\nrpc = {{ url = \"{secret}\" }}"), 2, "registry.rpc"),
            (format!("[registry]\nrpc = [\n  \"{secret}\",\n  5,\n]"), 2, "registry.rpc"),
            ("[registry]\nrpc = [\"ftp://KEY-OF-A-CUSTOMER@x\"]".into(), 2, "http:// or https://"),
            ("[registry]\nrpc = \"http://KEY-OF-A-CUSTOMER@x\"".into(), 2, "without user and password"),
            (format!("[registry]\nrpc = [\"{secret}\"]\nagree = 2"), 3, "registry.agree"),
            (format!("[registry]\nrpc = [\"{secret}\""), 2, ""),
            (format!("[registry]\nrpc = \"{secret}\" nonsense"), 2, ""),
            (format!("[registry]\nrpc = \"{secret}\"\nrpc = \"{secret}\""), 3, "duplicate"),
            (format!("[registry]\n{secret}\n"), 2, ""),
            (format!("[data]\nfolder = 5\npassphrase_file = \"{secret}\""), 2, "data.folder"),
            (format!("[network]\nlisten = [\"{secret}\"]"), 2, "network.listen"),
            ("[network]\n\nrelay = \"yes\"".into(), 3, "network.relay"),
            (format!("[[streams]]\nid = \"{secret}\""), 2, "streams.id"),
            ("\n[[streams]]\nhistory = \"all\"".into(), 2, "streams.id"),
            ("[[streams]]\nid = \"a.eth/x\"\n[[streams]]\nhistory = \"all\"".into(), 3, "no id"),
            ("[[streams]]\nid = \"a.eth/x\"\nrotate_every = \"0\"".into(), 3, "streams.rotate_every"),
            ("[[streams]]\nid = \"a.eth/x\"\nhistory = \"some\"".into(), 3, "streams.history"),
            ("[storage]\nmax_age = 30".into(), 2, "storage.max_age"),
            ("[storage]\nmax_size = \"much\"".into(), 2, "storage.max_size"),
            ("[storage]\nassigned_by = [\"bob\"]".into(), 2, "storage.assigned_by"),
            ("[gateway]\nlisten = \"localhost\"".into(), 2, "gateway.listen"),
            ("[gateway]\nhosts = [\"a/b\"]".into(), 2, "gateway.hosts"),
            ("[gateway]\nmax_connections = 1".into(), 2, "gateway.max_connections: expected a whole number from 4 on"),
            ("[gateway]\nwrite_timeout = \"0s\"".into(), 2, "gateway.write_timeout"),
            ("[gateway]\nmax_connections = 99999999999999999999".into(), 2, "max_connections: expected"),
            ("[gateway]\nport = 1".into(), 2, "`port`"),
            ("[mqtt]\nlisten = \"1883\"".into(), 2, "mqtt.listen"),
            ("[mqtt]\nconnect_timeout = 5".into(), 2, "mqtt.connect_timeout"),
            ("[log]\nfilter = \"veilcast=loud\"".into(), 2, "log.filter"),
        ];
        for (text, at, says) in cases {
            let (line, what) = wrong(&text);
            assert!(line == at && what.contains(says), "{text}\n{line}: {what}");
            assert!(!what.contains("CUSTOMER"), "{what}");
        }
    }
}
