//! `veilcast key rotate` and `veilcast key rekey`.

use serde_json::Value;
use veilcast::StreamId;
use veilcast::client::{Client, KeyUpdateMethod, UpdateReport};
use veilcast::permission::RegistryError;

use crate::args::{KeyRekeyArgs, Shared};
use crate::connect;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::interrupt::Interrupt;
use crate::output::Output;
use crate::session::Session;

/// Where no veilcast runs on the data folder: the new key is current at once, and whoever holds the one before asks for it once
/// something is published.
pub(crate) async fn rekey(
    args: KeyRekeyArgs,
    shared: Shared,
    output: Output<'_>,
    mut stop: Interrupt,
) -> Result<Exit, Failure> {
    let session = Session::open(&shared)?;
    let (builder, contract) = connect::publisher(session, &args.registry)?;
    let client: Client = builder.start().await?;
    let changed = stop.or(rekey_known(&client, &args.stream)).await;
    connect::stop(&client, contract.as_deref()).await;
    let Some(report) = changed else { return Ok(Exit::Failed) };
    rekeyed(&crate::gateway::report(args.stream.as_str(), &report?), output)?;
    Ok(Exit::Done)
}

/// A key of a stream that was mistyped would be nobody's.
async fn rekey_known(client: &Client, stream: &StreamId) -> Result<UpdateReport, Failure> {
    if client.stream_info(stream).await?.is_none() {
        return Err(RegistryError::NoStream { stream: stream.clone() }.into());
    }
    Ok(client.update_encryption_key(stream, KeyUpdateMethod::Rekey, None).await?)
}

/// What a rekey did.
pub(crate) fn rekeyed(json: &Value, output: Output) -> Result<(), Failure> {
    let count = |name: &str| json[name].as_array().map_or(0, Vec::len);
    let text = format!(
        "messages of {} are under key {} from now on; {} have it, {} are not given it, {} will ask for it",
        word(&json["stream"]),
        word(&json["key_id"]),
        count("pushed"),
        count("refused"),
        count("must_pull")
    );
    output.result(text, json)
}

/// What a rotate did.
pub(crate) fn rotated(json: &Value, output: Output) -> Result<(), Failure> {
    let text = format!(
        "the next message of {} passes key {} on to whoever reads it",
        word(&json["stream"]),
        word(&json["key_id"])
    );
    output.result(text, json)
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
