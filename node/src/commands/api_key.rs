//! `veilcast api-key`: keys for applications.

use serde_json::{Value, json};

use super::now;
use crate::api_key::{self, ApiKey, Streams};
use crate::args::{ApiKeyAddArgs, ApiKeyCommand, Shared};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::session::Session;

/// Where no veilcast runs on the data folder.
pub(crate) fn run(command: &ApiKeyCommand, shared: &Shared, output: Output) -> Result<Exit, Failure> {
    let store = Session::open(shared)?.store;
    match command {
        ApiKeyCommand::Add(args) => {
            let (name, verbs, streams) = (args.name.clone(), args.verb.clone(), streams(args));
            streams.must_suit(&verbs)?;
            let (key, text) = ApiKey::make(name, verbs, streams, now(), &mut rand::rng());
            api_key::add(&*store, &key)?;
            let mut json = in_json(&key);
            json["key"] = text.as_str().into();
            // One that nobody has seen opens nothing for anybody, and would keep its name.
            added(&json, output).inspect_err(|_| drop(api_key::revoke(&*store, &args.name)))?;
        }
        ApiKeyCommand::List(_) => {
            let kept = api_key::list(&*store)?;
            listed(&all_in_json(kept.keys.iter(), &kept.damaged), output)?;
        }
        ApiKeyCommand::Revoke(args) => {
            api_key::revoke(&*store, &args.name)?;
            revoked(&json!({ "name": args.name.as_str(), "revoked": true }), output)?;
        }
    }
    Ok(Exit::Done)
}

fn streams(args: &ApiKeyAddArgs) -> Streams {
    if args.all_streams { Streams::Every } else { Streams::These(args.stream.clone()) }
}

/// Every key, and the damaged records.
pub(crate) fn all_in_json<'a>(keys: impl Iterator<Item = &'a ApiKey>, damaged: &[String]) -> Value {
    json!({ "api_keys": keys.map(in_json).collect::<Vec<_>>(), "damaged": damaged })
}

/// What is known of a key: nothing that opens anything.
pub(crate) fn in_json(key: &ApiKey) -> Value {
    let streams = match &key.streams {
        Streams::Every => Value::Null,
        Streams::These(these) => these.iter().map(|stream| Value::from(stream.as_str())).collect(),
    };
    json!({
        "name": key.name.as_str(),
        "verbs": key.verbs.iter().map(|verb| verb.name()).collect::<Vec<_>>(),
        "streams": streams,
        "all_streams": key.streams == Streams::Every,
        "created": key.created.as_millis(),
    })
}

/// The key itself on stdout, so that a script can take it.
pub(crate) fn added(json: &Value, output: Output) -> Result<(), Failure> {
    if !output.is_json() {
        let text = format!("API key {} is made; it is shown this once and kept as a hash only", word(&json["name"]));
        output.note("api_key_added", text);
    }
    output.result(word(&json["key"]), json)
}

pub(crate) fn listed(json: &Value, output: Output) -> Result<(), Failure> {
    let mut lines: Vec<String> = json["api_keys"].as_array().into_iter().flatten().map(line).collect();
    let damaged = json["damaged"].as_array().into_iter().flatten().map(word);
    lines.extend(
        damaged.map(|name| format!("{name}  damaged, opens nothing; remove it with: veilcast api-key revoke {name}")),
    );
    let text = match lines.is_empty() {
        true => "no API keys yet; make one with: veilcast api-key add".into(),
        false => lines.join("\n"),
    };
    output.result(text, json)
}

fn line(key: &Value) -> String {
    let words = |value: &Value| {
        let words: Vec<&str> = value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        words.join(" ")
    };
    let streams = if key["all_streams"] == true { "every stream".into() } else { words(&key["streams"]) };
    format!("{}  {}  on {streams}", word(&key["name"]), words(&key["verbs"]))
}

pub(crate) fn revoked(json: &Value, output: Output) -> Result<(), Failure> {
    output.result(format!("API key {} opens nothing any more", word(&json["name"])), json)
}

fn word(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
