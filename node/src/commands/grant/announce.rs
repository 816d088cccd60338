//! `veilcast grant announce`: the records of one's own streams, left with the network.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;
use veilcast::StreamId;
use veilcast::client::Client;
use veilcast::permission::SignedGrants;

use super::must_be_known;
use crate::args::{AnnounceArgs, Shared};
use crate::clock::clock;
use crate::connect;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::session::Session;

/// A node that has just come meets those that keep records within a moment.
const PATIENCE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(200);

pub(crate) async fn run(
    args: AnnounceArgs,
    shared: Shared,
    output: Output<'_>,
    mut stop: Interrupt,
) -> Result<Exit, Failure> {
    let session = Session::open(&shared)?;
    let streams = wanted(&args, &session)?;
    if args.network.bootstrap.is_empty() && args.network.listen.is_empty() {
        return Err(AnnounceError::Alone.into());
    }
    let grants = session.signed_grants();
    let builder = Client::builder(session.identity).store(session.store).clock(clock()).signed_grants();
    let interrupted = || {
        output.note("interrupted", "interrupted; what was announced so far stays announced");
        Ok(Exit::Failed)
    };
    let Some(joined) = stop.or(connect::join(builder, &args.network, output)).await else { return interrupted() };
    let client = joined?;
    let outcome = stop.or(announce(&client, &streams)).await;
    connect::leave(&client).await;
    let Some(outcome) = outcome else { return interrupted() };
    tell(&streams, outcome?, &grants, output)
}

/// By a client that runs, which has joined the network.
pub(crate) async fn through(
    args: &AnnounceArgs,
    session: &Session,
    client: &Client,
    output: Output<'_>,
) -> Result<Exit, Failure> {
    let streams = wanted(args, session)?;
    tell(&streams, announce(client, &streams).await?, &session.signed_grants(), output)
}

fn wanted(args: &AnnounceArgs, session: &Session) -> Result<Vec<StreamId>, Failure> {
    let streams = if args.streams.is_empty() { session.issuer().streams()? } else { args.streams.clone() };
    if streams.is_empty() {
        return Err(AnnounceError::Nothing.into());
    }
    streams.iter().try_for_each(|stream| must_be_known(stream, session))?;
    Ok(streams)
}

fn tell(streams: &[StreamId], peers: Vec<usize>, grants: &SignedGrants, output: Output) -> Result<Exit, Failure> {
    let (mut lines, mut all) = (Vec::new(), Vec::new());
    for (stream, peers) in streams.iter().zip(peers) {
        let version = grants.record(stream)?.map(|(record, _)| record.version);
        lines
            .push(format!("record {} of {stream} is with {peers} of the network's nodes", version.unwrap_or_default()));
        all.push(json!({ "id": stream.as_str(), "version": version, "peers": peers }));
    }
    output.result(lines.join("\n"), &json!({ "announced": all }))?;
    Ok(Exit::Done)
}

/// How many nodes have each; at least one.
async fn announce(client: &Client, streams: &[StreamId]) -> Result<Vec<usize>, Failure> {
    let mut all = Vec::with_capacity(streams.len());
    let until = Instant::now() + PATIENCE;
    for stream in streams {
        all.push(loop {
            match client.announce_record(stream).await? {
                0 if Instant::now() < until => tokio::time::sleep(PAUSE).await,
                0 => return Err(AnnounceError::Nobody { stream: stream.clone() }.into()),
                peers => break peers,
            }
        });
    }
    Ok(all)
}

/// Why the network has no record.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum AnnounceError {
    #[error("there is no record of a stream of yours; make one with: veilcast stream create PATH --registry grants")]
    Nothing,
    #[error("nobody can be asked to keep records; name a node that does with --bootstrap")]
    Alone,
    #[error("nobody took the record of {stream}; name a node that keeps records with --bootstrap")]
    Nobody { stream: StreamId },
}
