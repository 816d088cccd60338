//! `veilcast stream subscribers`: who reads a stream, since when, until when, and how far the keys go that they were given.

use std::collections::HashMap;

use serde_json::{Value, json};
use veilcast::client::ClientError;
use veilcast::permission::{AccessRules, RegistryError, Rule, Subscriber};
use veilcast::publisher::Holder;
use veilcast::{Permission, Refusal, StreamId, Timestamp, UserId};

use super::state;
use crate::args::{Registry, Shared, SubscribersArgs};
use crate::chain::{self, ChainFailure};
use crate::commands::now;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::session::Session;
use crate::times;

/// One grant, and what came of it.
pub(crate) struct Row {
    user: UserId,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    last_key: Option<String>,
    status: &'static str,
}

pub(crate) async fn run(
    args: SubscribersArgs,
    shared: Shared,
    output: Output<'_>,
    mut stop: Interrupt,
) -> Result<Exit, Failure> {
    let session = Session::open(&shared)?;
    let Some(listed) = stop.or(listed(&args, &session, output)).await else {
        output.note("interrupted", "interrupted; the same command goes on where this one was");
        return Ok(Exit::Failed);
    };
    let (rules, holders) = (session.access().rules(&args.stream)?, session.recipients(&args.stream)?);
    print(&in_json(&args.stream, &rows(listed?, &rules, &holders, now())), output)?;
    Ok(Exit::Done)
}

/// For people a table.
pub(crate) fn print(json: &Value, output: Output) -> Result<(), Failure> {
    output.result(table(json["subscribers"].as_array().map(Vec::as_slice).unwrap_or_default()), json)
}

pub(crate) fn in_json(stream: &StreamId, rows: &[Row]) -> Value {
    json!({ "id": stream.as_str(), "subscribers": rows.iter().map(Row::in_json).collect::<Vec<_>>() })
}

/// Every grant there is or was, as the registry has it.
async fn listed(args: &SubscribersArgs, session: &Session, output: Output<'_>) -> Result<Vec<Subscriber>, Failure> {
    let (stream, now) = (&args.stream, now());
    if let Registry::Chain(deployment) = args.registry.named() {
        let registry = chain::follow(deployment, &args.registry.chain, session.store.clone())?;
        let known = registry.stream_info(stream, now).await.map_err(ChainFailure::Chain)?;
        known.ok_or_else(|| ChainFailure::NoStream { stream: stream.clone() })?;
        let listed = chain::subscribers(&registry, stream, output).await;
        registry.stop().await;
        return Ok(listed?);
    }
    let (source, user, permission) = (session.source(&args.registry)?, session.identity.user(), Permission::Subscribe);
    let refused = |refusal: Refusal| ClientError::NotPermitted { user, stream: stream.clone(), permission, refusal };
    let known = source.stream_at(stream, now).await.map_err(refused)?;
    known.ok_or_else(|| RegistryError::NoStream { stream: stream.clone() })?;
    Ok(source.subscribers(stream).await.map_err(refused)?)
}

/// In the order of addresses, then of time.
pub(crate) fn rows(mut listed: Vec<Subscriber>, rules: &AccessRules, holders: &[Holder], now: Timestamp) -> Vec<Row> {
    let newest: HashMap<UserId, String> =
        holders.iter().map(|holder| (holder.user, holder.newest_key.to_string())).collect();
    listed.sort_by_key(|one| (one.user, one.grant.beginning()));
    listed.iter().map(|one| Row::of(one, rules, newest.get(&one.user), now)).collect()
}

impl Row {
    fn of(subscriber: &Subscriber, rules: &AccessRules, last_key: Option<&String>, now: Timestamp) -> Self {
        let Subscriber { user, grant } = subscriber;
        let status = match state(grant, now) {
            "active" if is_out(rules, *user) => "denied",
            other => other,
        };
        Self { user: *user, since: grant.beginning(), until: grant.ends(), last_key: last_key.cloned(), status }
    }

    fn in_json(&self) -> Value {
        json!({
            "user": self.user.to_string(),
            "since": self.since.map(Timestamp::as_millis),
            "until": self.until.map(Timestamp::as_millis),
            "last_key": self.last_key,
            "status": self.status,
        })
    }
}

fn cells(row: &Value) -> [String; 5] {
    let text = |name: &str| row[name].as_str().unwrap_or("-").to_owned();
    let moment = |name: &str| row[name].as_u64().map(|millis| times::show(Timestamp::from_millis(millis)));
    let until = moment("until").unwrap_or_else(|| "no end".into());
    [text("user"), moment("since").unwrap_or_else(|| "-".into()), until, text("last_key"), text("status")]
}

/// Whether the publisher's own lists keep somebody out, whatever the registry says.
pub(crate) fn is_out(rules: &AccessRules, user: UserId) -> bool {
    match rules.users.iter().find(|(listed, _)| *listed == user) {
        Some((_, rule)) => *rule == Rule::Deny,
        None => rules.only_allowed,
    }
}

fn table(rows: &[Value]) -> String {
    if rows.is_empty() {
        return "no subscribers yet; make one with: veilcast stream grant STREAM USER".into();
    }
    let head = ["who", "since", "until", "last key", "status"].map(str::to_owned);
    let cells: Vec<[String; 5]> = std::iter::once(head).chain(rows.iter().map(cells)).collect();
    let widths: [usize; 5] =
        std::array::from_fn(|column| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let line = |row: &[String; 5]| {
        let padded: Vec<String> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        padded.join("  ").trim_end().to_owned()
    };
    cells.iter().map(line).collect::<Vec<_>>().join("\n")
}
