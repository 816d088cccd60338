//! `veilcast run`: store and network opened once, for as long as it runs; keys answered, ends enforced, messages stored, and a door
//! for applications.
//!
//! ```text
//! open the folder ─▶ bind the doors ─▶ start the client ─▶ "ready" ─▶ serve ─▶ SIGTERM ─▶ finish what is under way ─▶ stop
//! ```
//! It holds no protocol logic: the client does all of that by itself. Other commands on the data folder ask it by `control.sock`: over
//! the interface that applications use, or with their whole command line.

#[cfg(unix)]
mod commands;
#[cfg(unix)]
mod control;
mod open;
mod stop;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::json;
use tokio::net::TcpListener;
#[cfg(unix)]
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use veilcast::client::{ClientConfig, Multiaddr};
use veilcast::permission::ethereum::EthereumRegistry;

#[cfg(unix)]
use self::commands::{Folder, Host};
use self::open::Opened;
use crate::api_key::ApiKeys;
use crate::args::{RunArgs, Shared};
use crate::config::{Config, GatewaySection, MqttSection};
use crate::data_dir::DataDir;
use crate::descriptors;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::gateway::{
    self, Board, Bounds, Crowd, Door, Gateway, Limits, MqttDoor, MqttLimits, Readers, Readiness, Settings,
};
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::session::Session;
use crate::times;

pub(crate) async fn run(
    args: RunArgs,
    config: Config,
    shared: Shared,
    output: Output<'static>,
    mut stop: Interrupt,
) -> Result<Exit, Failure> {
    let dir = DataDir::find(shared.data_dir.as_deref())?;
    let session = Session::open(&shared)?;
    let api_keys = ApiKeys::load(session.store.clone())?;
    for name in api_keys.damaged() {
        let text = format!(
            "API key {name} is damaged or of a newer version, and opens nothing; remove it with: veilcast api-key revoke {name}"
        );
        output.note("api_key_damaged", text);
    }
    let limits = limits(&config.gateway, args.door().or(args.mqtt()).and(descriptors::raise()), output);
    let crowd = Crowd::new(limits.seats);
    let http = match args.door() {
        Some(address) => Some(open_door(address, limits, crowd.clone(), output).await?),
        None => None,
    };
    let mqtt = match args.mqtt() {
        Some(address) => Some(open_mqtt(address, mqtt_limits(&config.mqtt), crowd, output).await?),
        None => None,
    };
    let doors = Doors { http, mqtt };
    let store = session.store.clone();
    let Some(opened) = stop.or(open::open(session.clone(), &dir, &args, &config, output)).await else {
        return Ok(Exit::Done);
    };
    let Opened { client, contract } = opened?;
    let (tell_stop, stopping) = watch::channel(false);
    let gateway = Gateway::new(gateway::Shared {
        client: client.clone(),
        identity: session.identity.clone(),
        store,
        store_folder: dir.store(),
        registry: args.registry.named(),
        api_keys,
        readiness: Readiness::of(contract.clone()),
        board: Board::of(dir.path()),
        settings: Settings {
            hosts: config.gateway.hosts.clone(),
            max_body: ClientConfig::default().max_payload,
            body_timeout: config.gateway.body_timeout.unwrap_or(BODY),
            streams: config.streams.iter().map(|stream| &stream.id).chain(&config.storage.streams).cloned().collect(),
        },
        journal: gateway::Journal::default(),
        meters: gateway::Meters::default(),
        known: gateway::Known::default(),
        readers: Readers::default(),
        stopping,
        work: TaskTracker::new(),
    });
    let session = session.running(gateway.client.clone());
    let served = serve(&gateway, doors, (session, dir), contract.as_ref(), tell_stop, &mut stop, output).await;
    stop::all(&gateway, contract, output).await;
    served.map(|()| Exit::Done)
}

/// How long a body may take if nothing else is said.
const BODY: std::time::Duration = std::time::Duration::from_secs(30);

/// File descriptors for peers and the store.
const FOR_OTHERS: usize = 256;
/// Connections of applications that there are room for in any case.
const LEAST: usize = 16;

/// How many connections of applications there is room for beside peers and the store.
fn room(descriptors: u64) -> usize {
    let all = usize::try_from(descriptors).unwrap_or(usize::MAX);
    all.saturating_sub(FOR_OTHERS + Bounds::LOBBY).max(LEAST)
}

fn limits(section: &GatewaySection, descriptors: Option<u64>, output: Output) -> Limits {
    let usual = Limits::default();
    let wanted = section.max_connections.unwrap_or(usual.seats.most);
    let most = descriptors.map_or(wanted, |all| wanted.min(room(all)));
    if let Some(all) = descriptors.filter(|_| most < wanted) {
        let text = format!(
            "applications have {most} connections instead of {wanted}: this process may have {all} files open, and keeps {FOR_OTHERS} of them for \
             peers and the store; raise the limit (ulimit -n, LimitNOFILE)"
        );
        output.note("max_connections", text);
    }
    Limits {
        seats: Bounds::of(most, section.max_connections_per_key),
        head_timeout: section.head_timeout.unwrap_or(usual.head_timeout),
        write_timeout: section.write_timeout.unwrap_or(usual.write_timeout),
    }
}

fn mqtt_limits(section: &MqttSection) -> MqttLimits {
    let usual = MqttLimits::default();
    MqttLimits {
        connect_timeout: section.connect_timeout.unwrap_or(usual.connect_timeout),
        write_timeout: section.write_timeout.unwrap_or(usual.write_timeout),
    }
}

/// Where applications and devices ask.
struct Doors {
    http: Option<Door<TcpListener>>,
    mqtt: Option<MqttDoor>,
}

async fn open_mqtt(
    address: SocketAddr,
    limits: MqttLimits,
    crowd: Crowd,
    output: Output<'static>,
) -> Result<MqttDoor, DaemonError> {
    let door = MqttDoor::open(address, limits, crowd).await.map_err(|source| DaemonError::Mqtt { address, source })?;
    if !address.ip().is_loopback() {
        output.note("mqtt_in_the_clear", mqtt_in_the_clear(address));
    }
    Ok(door)
}

async fn open_door(
    address: SocketAddr,
    limits: Limits,
    crowd: Crowd,
    output: Output<'static>,
) -> Result<Door<TcpListener>, DaemonError> {
    let door = Door::open(address, limits, crowd).await.map_err(|source| DaemonError::Door { address, source })?;
    if !address.ip().is_loopback() {
        output.note("gateway_in_the_clear", in_the_clear(address));
    }
    Ok(door)
}

/// What is said of a gateway beyond this machine.
pub(crate) fn in_the_clear(address: SocketAddr) -> String {
    format!(
        "the gateway at {address} can be asked from other machines and speaks no TLS: API keys and messages pass in the clear unless \
         a proxy with TLS stands in front of it"
    )
}

/// What is said of MQTT beyond this machine.
pub(crate) fn mqtt_in_the_clear(address: SocketAddr) -> String {
    format!(
        "MQTT at {address} can be spoken from other machines, without TLS: API keys and messages pass in the clear unless a proxy \
         with TLS stands in front of it"
    )
}

/// Until somebody wants it to stop, or the message store fails. When this returns, answers under way are finished.
async fn serve(
    gateway: &Gateway,
    Doors { http, mqtt }: Doors,
    (session, dir): (Session, DataDir),
    contract: Option<&Arc<EthereumRegistry>>,
    tell_stop: watch::Sender<bool>,
    stop: &mut Interrupt,
    output: Output<'static>,
) -> Result<(), Failure> {
    let doors = TaskTracker::new();
    let local = http.as_ref().and_then(|door| door.listener.local_addr().ok());
    if let Some(door) = http {
        doors.spawn(door.serve(gateway.clone(), gateway.router()));
    }
    let devices = mqtt.as_ref().and_then(MqttDoor::address);
    if let Some(door) = mqtt {
        doors.spawn(door.serve(gateway.clone()));
    }
    if let Err(error) = dir.clear_handing_over() {
        tracing::warn!(%error, "what a daemon that was killed had under way is still there");
    }
    #[cfg(unix)]
    let control = control::open(&dir)?;
    #[cfg(unix)]
    doors.spawn({
        let folder = Folder { gateway: gateway.clone(), session, dir, runtime: Handle::current() };
        control.door.serve(gateway.clone(), Host::new(folder).router())
    });
    if let Some(contract) = contract {
        tokio::spawn(crate::chain::tell(Arc::downgrade(contract), output));
    }
    tell(gateway, local, devices, output).await;
    let outcome = tokio::select! {
        () = stop.wait() => Ok(()),
        error = gateway.client.storage_failed() => Err(Failure::StorageFailed(error)),
    };
    output.note("stopping", "stopping: finishing what is under way");
    tell_stop.send_replace(true);
    doors.close();
    doors.wait().await;
    outcome
}

/// Where it can be reached: on stdout an address a line for others' `--bootstrap`, and on stderr that it is ready. That nobody reads
/// either is no reason to stop.
async fn tell(gateway: &Gateway, door: Option<SocketAddr>, mqtt: Option<SocketAddr>, output: Output<'static>) {
    let addresses: Vec<String> = gateway.client.addresses().await.iter().map(Multiaddr::to_string).collect();
    let json = json!({ "peer_id": gateway.client.peer_id().to_string(), "addresses": addresses });
    let _ = output.result(addresses.join("\n"), &json);
    let asked = door.map_or_else(|| "no gateway".into(), |address| format!("the gateway is http://{address}"));
    let devices = mqtt.map_or_else(String::new, |address| format!("MQTT is mqtt://{address}; "));
    let text =
        format!("ready as {} since {}; {devices}{asked}", gateway.client.user(), times::show(crate::commands::now()));
    let json = json!({
        "event": "ready",
        "identity": gateway.client.user().to_string(),
        "addresses": addresses,
        "gateway": door.map(|address| format!("http://{address}")),
        "mqtt": mqtt.map(|address| format!("mqtt://{address}")),
    });
    output.event(text, &json);
}

/// Why it cannot run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum DaemonError {
    #[error(
        "cannot listen for applications at {address}: {source}; choose another address with --gateway (127.0.0.1:0 takes any free port), or none"
    )]
    Door { address: SocketAddr, source: io::Error },
    #[error(
        "cannot listen for MQTT at {address}: {source}; choose another address with --mqtt (127.0.0.1:0 takes any free port), or none"
    )]
    Mqtt { address: SocketAddr, source: io::Error },
    #[error("cannot make the control socket {}: {source}; check the data folder and its permissions", .path.display())]
    Control { path: PathBuf, source: io::Error },
    #[error("the path of the control socket {} is too long for this system; use a data folder with a shorter path", .path.display())]
    ControlPath { path: PathBuf },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn applications_leave_file_descriptors_for_peers_and_the_store() {
        assert_eq!(room(65_536), 65_536 - 272);
        assert_eq!(room(1024), 752);
        for few in [0, 64, 272, 288] {
            assert_eq!(room(few), 16, "{few}");
        }
    }
}
