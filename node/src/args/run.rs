//! Arguments of `veilcast run`.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use clap::Args;
use veilcast::client::Multiaddr;

use super::RegistryArgs;
use crate::config::{DEFAULT_DOOR, NetworkSection};

/// `veilcast run`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  veilcast config default > ~/.local/share/veilcast/veilcast.toml      every setting, its meaning and its default
  veilcast run
  veilcast run --config /etc/veilcast/veilcast.toml
  veilcast run --listen /ip4/0.0.0.0/tcp/4100 --gateway 127.0.0.1:7171
  veilcast api-key add shop --stream STREAM --verb publish              while it runs, or before
  veilcast run --mqtt 127.0.0.1:1883                                    MQTT as well: topic = stream, password = API key
  curl -H \"Authorization: Bearer $KEY\" -H 'Content-Type: application/json' -d '{\"price\": 42}' \\
       http://127.0.0.1:7171/streams/0xOWNER%2Fprices

It answers for the keys of every stream in the data folder and enforces the ends of grants until SIGTERM or Ctrl-C; then what is
under way is finished, everything is on disk, and the exit code is 0. Other commands on the same data folder go through it. What
is in no option here is in the config file: streams, storage, limits. /health tells that it lives, /ready that it works,
/openapi.json the rest.")]
pub(crate) struct RunArgs {
    /// Listen here; may be given more than once [default: port 4100, TCP and QUIC]
    #[arg(long, value_name = "ADDR", env = "VEILCAST_LISTEN", value_delimiter = ',')]
    pub(crate) listen: Vec<Multiaddr>,
    /// Join the network at this node; may be given more than once
    #[arg(long, value_name = "ADDR", env = "VEILCAST_BOOTSTRAP", value_delimiter = ',')]
    pub(crate) bootstrap: Vec<Multiaddr>,
    /// Let applications ask here over HTTP and WebSocket, or nowhere: none [default: 127.0.0.1:7171]
    #[arg(long, value_name = "IP:PORT", env = "VEILCAST_GATEWAY")]
    gateway: Option<Door>,
    /// Let devices publish and subscribe here over MQTT, such as 127.0.0.1:1883 [default: none]
    #[arg(long, value_name = "IP:PORT", env = "VEILCAST_MQTT")]
    mqtt: Option<Door>,
    #[command(flatten)]
    pub(crate) registry: RegistryArgs,
}

impl RunArgs {
    /// Takes from the config file what neither the command line nor the environment says.
    pub(crate) fn fill(&mut self, network: &NetworkSection, gateway: Option<Door>, mqtt: Option<Door>) {
        if self.listen.is_empty() {
            self.listen.clone_from(&network.listen);
        }
        if self.bootstrap.is_empty() {
            self.bootstrap.clone_from(&network.bootstrap);
        }
        self.gateway = self.gateway.or(gateway);
        self.mqtt = self.mqtt.or(mqtt);
    }

    /// Where applications ask; `None` for nowhere.
    pub(crate) fn door(&self) -> Option<SocketAddr> {
        self.gateway.map_or(Some(DEFAULT_DOOR), |Door(address)| address)
    }

    /// Where devices do, over MQTT; nowhere unless it is said, since that port is often somebody else's.
    pub(crate) fn mqtt(&self) -> Option<SocketAddr> {
        self.mqtt.and_then(|Door(address)| address)
    }
}

/// Where applications ask: an address, or nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Door(Option<SocketAddr>);

impl Door {
    pub(crate) const fn address(self) -> Option<SocketAddr> {
        self.0
    }
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(address) => address.fmt(f),
            None => f.write_str("none"),
        }
    }
}

impl FromStr for Door {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" {
            return Ok(Self(None));
        }
        let address =
            text.parse().map_err(|_| format!("{text:?} is no address with a port, such as 127.0.0.1:7171"))?;
        Ok(Self(Some(address)))
    }
}
