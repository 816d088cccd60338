//! `veilcast publish` by asking whoever runs on the data folder: it answers for the keys, before and after.

use bytes::Bytes;
use hyper::Method;
use serde_json::json;
use veilcast::client::ClientConfig;

use super::ThroughError;
use super::link::{Link, segment};
use crate::args::PublishArgs;
use crate::commands::publish::PublishError;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::lines;
use crate::output::Output;

pub(super) async fn run(
    args: &PublishArgs,
    mut link: Link,
    output: Output<'_>,
    mut stop: Interrupt,
) -> Result<Exit, Failure> {
    if args.rhythm.is_given() || args.pre_agreed_only {
        return Err(ThroughError::Options { options: "--rotate-every, --rekey-every and --pre-agreed-only" }.into());
    }
    output.note(
        "publishing",
        format!("the veilcast that runs on this data folder publishes lines of stdin to {}", args.stream),
    );
    if args.network.is_given() {
        super::own_network(output);
    }
    let path = path(args);
    let mut published = 0u64;
    let mut lines = lines::read(std::io::stdin(), ClientConfig::default().max_payload);
    let outcome = loop {
        // A line that was taken is published, or told: only between two of them it stops.
        let Some(Some(line)) = stop.or(lines.recv()).await else { break Ok(()) };
        let line = match line {
            Ok(line) => line,
            Err(error) => break Err(Failure::from(PublishError::Line(error))),
        };
        let body = (kind(&line), Bytes::from(line));
        match link.ask(Method::POST, &path, Some(body)).await {
            Ok(_) => published += 1,
            Err(error) => break Err(error.into()),
        }
    };
    if published > 0 || outcome.is_ok() {
        let what = if published == 1 { "1 message".into() } else { format!("{published} messages") };
        let json = json!({ "stream": args.stream.as_str(), "published": published });
        match output.is_json() {
            true => output.line(json)?,
            false => output.note("done", format!("{what} published")),
        }
    }
    outcome.map(|()| Exit::Done)
}

fn path(args: &PublishArgs) -> String {
    let path = format!("/streams/{}", segment(args.stream.as_str()));
    match (&args.partition_key, args.partition) {
        (Some(key), _) => format!("{path}?partitionKey={}", segment(key)),
        (None, Some(number)) => format!("{path}?partition={number}"),
        (None, None) => path,
    }
}

/// As `veilcast publish` has it: JSON as JSON, else text, else bytes.
fn kind(line: &[u8]) -> &'static str {
    if serde_json::from_slice::<serde::de::IgnoredAny>(line).is_ok() {
        return "application/json";
    }
    match std::str::from_utf8(line) {
        Ok(_) => "text/plain",
        Err(_) => "application/octet-stream",
    }
}
