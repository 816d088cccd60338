//! `GET /overview`: the node and its streams at a glance, as far as an API key shows them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use veilcast::StreamId;
use veilcast::client::Multiaddr;

use super::super::caller::Caller;
use super::super::error::ApiError;
use super::super::known::{named_here, with_keys};
use super::super::{Gateway, Shared};
use super::alerts::{Disk, Facts, alerts};
use super::figures::Figures;
use crate::api_key::Verb;
use crate::args::{Kept, Registry};
use crate::commands::now;

/// How long what was looked at is told to everybody who asks, and how long what costs more to look at.
const FRESH: Duration = Duration::from_millis(400);
const STREAMS_FRESH: Duration = Duration::from_secs(3);
/// And what a contract said of a stream: each costs several calls of an endpoint that may count them.
const ON_CHAIN_FRESH: Duration = Duration::from_secs(60);
/// Most streams that are told.
const STREAMS: usize = 500;
/// Streams asked about at a time.
const AT_A_TIME: usize = 16;

/// What was seen last, for everybody who looks.
pub(crate) struct Board {
    folder: PathBuf,
    last: Mutex<Last>,
}

#[derive(Default)]
struct Last {
    facts: Facts,
    seen: Option<(Instant, Arc<Seen>)>,
    streams: Option<(Instant, Streams)>,
}

struct Seen {
    node: Value,
    alerts: Vec<Value>,
    figures: Figures,
}

/// Every stream there is, and what was asked about those that somebody looked at.
struct Streams {
    all: Vec<StreamId>,
    asked: BTreeMap<StreamId, Known>,
    begun: Instant,
}

impl Streams {
    /// What was told may be told again for so long; what nobody could tell, or was not there, is asked about anew.
    fn still_known(self, fresh: Duration) -> Option<(BTreeMap<StreamId, Known>, Instant)> {
        let Self { mut asked, begun, .. } = self;
        asked.retain(|_, known| known.partitions.is_some());
        (begun.elapsed() < fresh).then_some((asked, begun))
    }
}

/// A stream; what is not told by anybody now is `None`.
#[derive(Clone)]
struct Known {
    partitions: Option<u32>,
    public: Option<bool>,
    /// Nobody can tell about it now.
    untold: bool,
}

/// What one API key shows.
struct Shown {
    streams: Vec<(StreamId, Known)>,
    /// There are more than are told.
    more: bool,
}

impl Board {
    /// Of a node with this data folder.
    pub(crate) fn of(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), last: Mutex::default() }
    }
}

pub(super) async fn overview(State(gateway): State<Gateway>, caller: Caller) -> Result<Json<Value>, ApiError> {
    let (seen, shown) = look(&gateway, &caller).await?;
    let everything = caller.may_here(Verb::Admin).is_ok();
    let streams: Vec<Value> =
        shown.streams.iter().map(|(id, known)| in_json(id, known, &caller, &seen.figures)).collect();
    Ok(Json(json!({
        "now": now().as_millis(),
        "identity": gateway.client.user().to_string(),
        "api_key": caller.name(),
        "node": everything.then_some(&seen.node),
        "alerts": if everything { &seen.alerts[..] } else { &[] },
        "streams": streams,
        "more_streams": shown.more,
    })))
}

fn in_json(id: &StreamId, known: &Known, caller: &Caller, figures: &Figures) -> Value {
    let may: Vec<&str> = Verb::ALL.into_iter().filter(|verb| caller.may(*verb, id).is_ok()).map(Verb::name).collect();
    json!({
        "id": id.as_str(),
        "partitions": known.partitions,
        "public": known.public,
        "messages_published": figures.with("veilcast_messages_published_total", "stream", id.as_str()),
        "may": may,
    })
}

/// One looks at a time, the others take what it saw.
async fn look(gateway: &Gateway, caller: &Caller) -> Result<(Arc<Seen>, Shown), ApiError> {
    let mut last = gateway.board.last.lock().await;
    let shown = show(gateway, caller, &mut last).await?;
    if let Some((_, seen)) = last.seen.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
        return Ok((seen.clone(), shown));
    }
    let (figures, now) = (Figures::read(&gateway.client.metrics().encode().await), Instant::now());
    last.facts.reasons = gateway.not_ready().await;
    let unavailable = figures.with("veilcast_permission_checks_total", "outcome", "unavailable");
    last.facts.unavailable.note(unavailable, now);
    last.facts.rekeys_failed.note(figures.sum("veilcast_rekeys_failed_total"), now);
    last.facts.audit_failures = figures.sum("veilcast_audit_failures_total");
    let node = node(gateway, &figures, last.facts.disk).await;
    let seen = Arc::new(Seen { node, alerts: alerts(&last.facts, now), figures });
    last.seen = Some((now, seen.clone()));
    Ok((seen, shown))
}

async fn node(gateway: &Gateway, figures: &Figures, disk: Option<Disk>) -> Value {
    let (client, stats) = (&gateway.client, gateway.client.stats());
    let addresses: Vec<String> = client.addresses().await.iter().map(Multiaddr::to_string).collect();
    let mut requests: Vec<(&str, u64)> = figures.by("veilcast_key_answers_total", "outcome").collect();
    requests.push(("unanswered", figures.sum("veilcast_key_requests_unanswered_total")));
    // What was given first; the others always in the same order.
    requests.sort_unstable_by_key(|(outcome, _)| (*outcome != "granted", *outcome));
    let requests = requests.iter().map(|(outcome, count)| json!({ "outcome": outcome, "count": count }));
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "identity": client.user().to_string(),
        "peer_id": client.peer_id().to_string(),
        "addresses": addresses,
        "registry": gateway.registry.to_string(),
        "peers": figures.sum("veilcast_peers"),
        "messages_published": stats.messages_published,
        "messages_received": stats.messages_received,
        "keys_rotated": stats.keys_rotated,
        "keys_rekeyed": stats.keys_rekeyed,
        "key_requests": requests.collect::<Vec<_>>(),
        "disk": disk.map(|disk| json!({ "free": disk.free, "total": disk.total })),
    })
}

/// Those of the streams that this key is for, as many as are told, whatever others there are.
async fn show(gateway: &Gateway, caller: &Caller, last: &mut Last) -> Result<Shown, ApiError> {
    if last.streams.as_ref().is_none_or(|(at, _)| at.elapsed() >= STREAMS_FRESH) {
        let registry = gateway.registry;
        let all = gateway.on_disk(move |shared| ids(shared, registry)).await??;
        last.facts.disk = gateway.on_disk(|shared| disk(&shared.board.folder)).await?;
        let fresh = if matches!(registry, Registry::Chain(_)) { ON_CHAIN_FRESH } else { Duration::ZERO };
        let known = last.streams.take().and_then(|(_, before)| before.still_known(fresh));
        let (asked, begun) = known.unwrap_or_else(|| (BTreeMap::new(), Instant::now()));
        last.streams = Some((Instant::now(), Streams { all, asked, begun }));
    }
    let Some((_, streams)) = &mut last.streams else { return Ok(Shown { streams: Vec::new(), more: false }) };
    let (ids, more) = first_of(&streams.all, |id| caller.covers(id));
    let unasked = ids.iter().filter(|id| !streams.asked.contains_key(*id)).cloned().collect();
    streams.asked.extend(ask(gateway, unasked).await);
    last.facts.untold = streams.asked.values().filter(|known| known.untold).count();
    let known = ids.into_iter().filter_map(|id| streams.asked.get(&id).cloned().map(|known| (id, known)));
    Ok(Shown { streams: known.collect(), more })
}

/// The first of those that are covered, and whether there are more.
fn first_of(all: &[StreamId], covered: impl Fn(&StreamId) -> bool) -> (Vec<StreamId>, bool) {
    let mut covered = all.iter().filter(|id| covered(id));
    let first = covered.by_ref().take(STREAMS).cloned().collect();
    (first, covered.next().is_some())
}

async fn ask(gateway: &Gateway, ids: Vec<StreamId>) -> Vec<(StreamId, Known)> {
    let asked = stream::iter(ids).map(|id| async move {
        let (info, untold) = match gateway.client.stream_info(&id).await {
            Ok(info) => (info, false),
            Err(_) => (None, true),
        };
        let (partitions, public) = (info.as_ref().map(|info| info.partitions), info.map(|info| info.public));
        (id, Known { partitions, public, untold })
    });
    asked.buffered(AT_A_TIME).collect().await
}

/// Streams on record here, and those that this node has keys of its own of.
fn ids(shared: &Shared, registry: Registry) -> Result<Vec<StreamId>, ApiError> {
    let mut ids: BTreeSet<StreamId> = match registry {
        Registry::Kept(Kept::Local) => {
            shared.client.registry().streams().map_err(ApiError::internal)?.into_iter().map(|(id, _)| id).collect()
        }
        Registry::Kept(Kept::Grants) => {
            shared.client.signed_grants().streams().map_err(ApiError::internal)?.into_iter().collect()
        }
        Registry::Chain(_) => named_here(shared),
    };
    let me = shared.client.user();
    ids.extend(with_keys(shared, |publisher| publisher == me)?);
    Ok(ids.into_iter().collect())
}

/// The disk that a folder is on.
fn disk(folder: &Path) -> Option<Disk> {
    let folder = folder.canonicalize().ok()?;
    let disks = sysinfo::Disks::new_with_refreshed_list().ok()?;
    let holds = |disk: &&sysinfo::Disk| folder.starts_with(disk.mount_point()) && disk.total_space() > 0;
    let nearest = disks.iter().filter(holds).max_by_key(|disk| disk.mount_point().as_os_str().len())?;
    Some(Disk { free: nearest.available_space(), total: nearest.total_space() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_of_a_folder_has_room() {
        let folder = tempfile::tempdir().unwrap();
        if let Some(disk) = disk(folder.path()) {
            assert!(disk.total > 0 && disk.free <= disk.total);
        }
        assert!(disk(Path::new("nowhere/at/all")).is_none());
    }

    #[test]
    fn a_key_for_the_last_of_very_many_streams_sees_it_and_one_for_all_sees_the_first_and_that_there_are_more() {
        let all: Vec<StreamId> = (0..2 * STREAMS).map(|n| StreamId::new(&format!("a.eth/{n:04}")).unwrap()).collect();
        let last = all.last().unwrap();
        assert_eq!(first_of(&all, |id| id == last), (vec![last.clone()], false));
        assert_eq!(first_of(&all, |_| true), (all[..STREAMS].to_vec(), true));
        assert_eq!(first_of(&all[..STREAMS], |_| true), (all[..STREAMS].to_vec(), false));
        assert_eq!(first_of(&all, |_| false), (Vec::new(), false));
    }
}
