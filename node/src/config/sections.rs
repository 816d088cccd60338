//! The sections of `veilcast run`, and where the data folder is.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::{Spanned, Value};
use veilcast::client::Multiaddr;
use veilcast::exchange::HistoryPolicy;
use veilcast::{StreamId, UserId};

use super::fault::Fault;
use super::field::read;
use crate::args::{Door, RhythmArgs, parse_history, parse_rhythm, parse_size};
use crate::times::parse_span;

const SPAN: &str = "a span in quotes, such as \"30s\" or \"30d\"";
const ADDRESS: &str = "an address to listen at or to meet, such as \"/ip4/0.0.0.0/tcp/4100\"";
const STREAM: &str = "a stream, \"owner/path\"";

/// `[data]`
#[derive(Clone, Debug, Default)]
pub(crate) struct DataSection {
    /// `--data-dir`
    pub(crate) folder: Option<PathBuf>,
    /// `--passphrase-file`
    pub(crate) passphrase_file: Option<PathBuf>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenData {
    folder: Option<Spanned<Value>>,
    passphrase_file: Option<Spanned<Value>>,
}

impl WrittenData {
    pub(super) fn understood(self) -> Result<DataSection, Fault> {
        let path = |text: &str| (!text.is_empty()).then(|| PathBuf::from(text));
        Ok(DataSection {
            folder: read("data", "folder", self.folder, |field| field.parsed("a folder in quotes", path))?,
            passphrase_file: read("data", "passphrase_file", self.passphrase_file, |field| {
                field.parsed("a file in quotes", path)
            })?,
        })
    }
}

/// `[network]`
#[derive(Clone, Debug, Default)]
pub(crate) struct NetworkSection {
    /// `--listen`
    pub(crate) listen: Vec<Multiaddr>,
    /// `--bootstrap`
    pub(crate) bootstrap: Vec<Multiaddr>,
    /// Whether it is a meeting point for others as well.
    pub(crate) relay: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenNetwork {
    listen: Option<Spanned<Value>>,
    bootstrap: Option<Spanned<Value>>,
    relay: Option<Spanned<Value>>,
}

impl WrittenNetwork {
    pub(super) fn understood(self) -> Result<NetworkSection, Fault> {
        let address = |text: &str| text.parse().ok();
        Ok(NetworkSection {
            listen: read("network", "listen", self.listen, |field| field.list(ADDRESS, address))?.unwrap_or_default(),
            bootstrap: read("network", "bootstrap", self.bootstrap, |field| field.list(ADDRESS, address))?
                .unwrap_or_default(),
            relay: read("network", "relay", self.relay, |field| field.flag())?.unwrap_or_default(),
        })
    }
}

/// One of `[[streams]]`: how keys of a stream that is published on are kept.
#[derive(Clone, Debug)]
pub(crate) struct StreamSection {
    /// Which.
    pub(crate) id: StreamId,
    /// `--rotate-every` and `--rekey-every`
    pub(crate) rhythm: RhythmArgs,
    /// `--history`
    pub(crate) history: Option<HistoryPolicy>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenStream {
    id: Option<Spanned<Value>>,
    rotate_every: Option<Spanned<Value>>,
    rekey_every: Option<Spanned<Value>>,
    history: Option<Spanned<Value>>,
}

impl WrittenStream {
    /// What stands at this byte.
    pub(super) fn understood(self, at: usize) -> Result<StreamSection, Fault> {
        let id = read("streams", "id", self.id, |field| field.parsed(STREAM, |text| text.parse().ok()))?;
        let rhythm = |key, value| {
            let expected = "a number of messages, a span or both in quotes, such as \"1000,10m\", or \"never\"";
            read("streams", key, value, |field| field.parsed(expected, |text| parse_rhythm(text).ok()))
        };
        Ok(StreamSection {
            id: id.ok_or_else(|| Fault::new(at, format!("streams.id: expected {STREAM}; this one has no id")))?,
            rhythm: RhythmArgs {
                rotate_every: rhythm("rotate_every", self.rotate_every)?,
                rekey_every: rhythm("rekey_every", self.rekey_every)?,
            },
            history: read("streams", "history", self.history, |field| {
                let expected = "\"all\", \"since-grant-start\", \"window:SPAN\" or \"none\"";
                field.parsed(expected, |text| parse_history(text).ok())
            })?,
        })
    }
}

/// `[storage]`
#[derive(Clone, Debug, Default)]
pub(crate) struct StorageSection {
    /// `veilcast node --store`
    pub(crate) streams: Vec<StreamId>,
    /// `veilcast node --store-assigned`
    pub(crate) assigned_by: Vec<UserId>,
    /// `veilcast node --store-age`
    pub(crate) max_age: Option<Duration>,
    /// `veilcast node --store-size`, bytes
    pub(crate) max_size: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenStorage {
    streams: Option<Spanned<Value>>,
    assigned_by: Option<Spanned<Value>>,
    max_age: Option<Spanned<Value>>,
    max_size: Option<Spanned<Value>>,
}

impl WrittenStorage {
    pub(super) fn understood(self) -> Result<StorageSection, Fault> {
        Ok(StorageSection {
            streams: read("storage", "streams", self.streams, |field| field.list(STREAM, |text| text.parse().ok()))?
                .unwrap_or_default(),
            assigned_by: read("storage", "assigned_by", self.assigned_by, |field| {
                field.list("an owner's address, \"0x...\"", |text| text.parse().ok())
            })?
            .unwrap_or_default(),
            max_age: read("storage", "max_age", self.max_age, |field| {
                field.parsed(SPAN, |text| parse_span(text).ok())
            })?,
            max_size: read("storage", "max_size", self.max_size, |field| {
                field.parsed("a size in quotes, such as \"10GB\"", |text| parse_size(text).ok())
            })?,
        })
    }
}

/// `[gateway]`
#[derive(Clone, Debug, Default)]
pub(crate) struct GatewaySection {
    /// `--gateway`
    pub(crate) listen: Option<Door>,
    /// Names beside `localhost` and IP addresses by which it may be asked.
    pub(crate) hosts: Vec<String>,
    /// Connections at a time.
    pub(crate) max_connections: Option<usize>,
    /// Of one API key.
    pub(crate) max_connections_per_key: Option<usize>,
    /// How long a request's head, and the pause before it, may take.
    pub(crate) head_timeout: Option<Duration>,
    /// How long a request's body may take.
    pub(crate) body_timeout: Option<Duration>,
    /// How long a client may take nothing.
    pub(crate) write_timeout: Option<Duration>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenGateway {
    listen: Option<Spanned<Value>>,
    hosts: Option<Spanned<Value>>,
    max_connections: Option<Spanned<Value>>,
    max_connections_per_key: Option<Spanned<Value>>,
    head_timeout: Option<Spanned<Value>>,
    body_timeout: Option<Spanned<Value>>,
    write_timeout: Option<Spanned<Value>>,
}

impl WrittenGateway {
    pub(super) fn understood(self) -> Result<GatewaySection, Fault> {
        let host = |text: &str| {
            let plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
            (!text.is_empty() && text.chars().all(plain)).then(|| text.to_ascii_lowercase())
        };
        let span = |key, value| read("gateway", key, value, |field| field.parsed(SPAN, |text| parse_span(text).ok()));
        Ok(GatewaySection {
            listen: read("gateway", "listen", self.listen, |field| {
                field.parsed("an address and port in quotes, such as \"127.0.0.1:7171\", or \"none\"", |text| {
                    text.parse().ok()
                })
            })?,
            hosts: read("gateway", "hosts", self.hosts, |field| field.list("a host name without port", host))?
                .unwrap_or_default(),
            max_connections: read("gateway", "max_connections", self.max_connections, |field| field.number(4))?,
            max_connections_per_key: read(
                "gateway",
                "max_connections_per_key",
                self.max_connections_per_key,
                |field| field.number(1),
            )?,
            head_timeout: span("head_timeout", self.head_timeout)?,
            body_timeout: span("body_timeout", self.body_timeout)?,
            write_timeout: span("write_timeout", self.write_timeout)?,
        })
    }
}

/// `[mqtt]`
#[derive(Clone, Debug, Default)]
pub(crate) struct MqttSection {
    /// `--mqtt`
    pub(crate) listen: Option<Door>,
    /// How long a client's first packet may take.
    pub(crate) connect_timeout: Option<Duration>,
    /// How long a client may take, or acknowledge, nothing.
    pub(crate) write_timeout: Option<Duration>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenMqtt {
    listen: Option<Spanned<Value>>,
    connect_timeout: Option<Spanned<Value>>,
    write_timeout: Option<Spanned<Value>>,
}

impl WrittenMqtt {
    pub(super) fn understood(self) -> Result<MqttSection, Fault> {
        let span = |key, value| read("mqtt", key, value, |field| field.parsed(SPAN, |text| parse_span(text).ok()));
        Ok(MqttSection {
            listen: read("mqtt", "listen", self.listen, |field| {
                field.parsed("an address and port in quotes, such as \"127.0.0.1:1883\", or \"none\"", |text| {
                    text.parse().ok()
                })
            })?,
            connect_timeout: span("connect_timeout", self.connect_timeout)?,
            write_timeout: span("write_timeout", self.write_timeout)?,
        })
    }
}

/// `[log]`
#[derive(Clone, Debug, Default)]
pub(crate) struct LogSection {
    /// `VEILCAST_LOG`
    pub(crate) filter: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenLog {
    filter: Option<Spanned<Value>>,
}

impl WrittenLog {
    pub(super) fn understood(self) -> Result<LogSection, Fault> {
        let filter = |text: &str| crate::log::is_filter(text).then(|| text.to_owned());
        let expected = "a level or target=level in quotes, such as \"info\" or \"veilcast=debug\"";
        Ok(LogSection { filter: read("log", "filter", self.filter, |field| field.parsed(expected, filter))? })
    }
}

/// Where the gateway listens if nothing else is said.
pub(crate) const DEFAULT_DOOR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7171);
