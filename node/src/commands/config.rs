//! `veilcast config`: what the config file says, and what it could.

use serde_json::{Value, json};

use crate::args::{ConfigCommand, Door, Shared, rhythm_text};
use crate::commands::history;
use crate::config::{Config, ConfigError, DEFAULT, RegistrySection, StreamSection, host};
use crate::daemon::{in_the_clear, mqtt_in_the_clear};
use crate::data_dir::DataDir;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use crate::times;

pub(crate) fn run(command: &ConfigCommand, shared: &Shared, output: Output) -> Result<Exit, Failure> {
    match command {
        ConfigCommand::Default(_) => output.result(DEFAULT.trim_end(), &json!({ "toml": DEFAULT }))?,
        ConfigCommand::Check(args) => {
            let file = match &args.file {
                Some(file) => file.clone(),
                None => match Config::file(shared)? {
                    Some(file) => file,
                    None => {
                        let would_be = DataDir::find(shared.data_dir.as_deref())?.config();
                        return Err(ConfigError::None { would_be }.into());
                    }
                },
            };
            let config = Config::read(&file)?;
            let json = json!({
                "file": file.display().to_string(),
                "registry": in_json(&config.registry),
                "run": run_in_json(&config),
            });
            let said = [in_words(&config.registry)].into_iter().chain(run_in_words(&config));
            let said: Vec<String> = said.collect();
            let beyond = |door: Option<Door>| door?.address().filter(|at| !at.ip().is_loopback());
            if let Some(address) = beyond(config.gateway.listen) {
                output.note("gateway_in_the_clear", in_the_clear(address));
            }
            if let Some(address) = beyond(config.mqtt.listen) {
                output.note("mqtt_in_the_clear", mqtt_in_the_clear(address));
            }
            output.result(format!("{} can be used\n{}", file.display(), said.join("\n")), &json)?;
        }
    }
    Ok(Exit::Done)
}

fn in_words(section: &RegistrySection) -> String {
    let mut said = Vec::new();
    said.extend(section.name.map(|name| format!("name = {name}")));
    if !section.rpc.is_empty() {
        said.push(format!("rpc = {}", section.rpc.iter().map(host).collect::<Vec<_>>().join(", ")));
    }
    said.extend(section.chain_id.map(|number| format!("chain_id = {number}")));
    said.extend(section.agree.map(|number| format!("agree = {number}")));
    said.extend(section.confirmations.map(|number| format!("confirmations = {number}")));
    said.extend(section.from_block.map(|number| format!("from_block = {number}")));
    match said.is_empty() {
        true => "[registry] says nothing".into(),
        false => format!("[registry] {}", said.join("; ")),
    }
}

fn in_json(section: &RegistrySection) -> serde_json::Value {
    json!({
        "name": section.name.map(|name| name.to_string()),
        "rpc_hosts": section.rpc.iter().map(host).collect::<Vec<_>>(),
        "chain_id": section.chain_id,
        "agree": section.agree,
        "confirmations": section.confirmations,
        "from_block": section.from_block,
    })
}

/// A line for each section of `veilcast run` that says something.
fn run_in_words(config: &Config) -> Vec<String> {
    let json = run_in_json(config);
    let sections = json.as_object().into_iter().flatten();
    let says = |said: &Value| said.as_object().is_none_or(|said| said.values().any(|one| !one.is_null()));
    let said = sections.filter(|(_, said)| !said.is_null() && says(said));
    said.map(|(section, said)| format!("[{section}] {said}")).collect()
}

fn stream_in_json(stream: &StreamSection) -> Value {
    let (rotate_every, rekey_every) =
        (stream.rhythm.rotate_every.map(rhythm_text), stream.rhythm.rekey_every.map(rhythm_text));
    let history = stream.history.map(history::word);
    json!({ "id": stream.id.as_str(), "rotate_every": rotate_every, "rekey_every": rekey_every, "history": history })
}

fn run_in_json(config: &Config) -> serde_json::Value {
    fn texts<T: ToString>(list: &[T]) -> Option<Vec<String>> {
        (!list.is_empty()).then(|| list.iter().map(ToString::to_string).collect())
    }
    let span = |span: Option<std::time::Duration>| span.map(times::show_span);
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let (data, network) = (&config.data, &config.network);
    let (storage, gateway, mqtt) = (&config.storage, &config.gateway, &config.mqtt);
    let streams: Vec<_> = config.streams.iter().map(stream_in_json).collect();
    json!({
        "data": { "folder": path(&data.folder), "passphrase_file": path(&data.passphrase_file) },
        "network": {
            "listen": texts(&network.listen), "bootstrap": texts(&network.bootstrap),
            "relay": network.relay.then_some(true),
        },
        "streams": (!streams.is_empty()).then_some(streams),
        "storage": {
            "streams": texts(&storage.streams), "assigned_by": texts(&storage.assigned_by),
            "max_age": span(storage.max_age), "max_size_bytes": storage.max_size,
        },
        "gateway": {
            "listen": gateway.listen.map(|door| door.to_string()), "hosts": texts(&gateway.hosts),
            "max_connections": gateway.max_connections,
            "max_connections_per_key": gateway.max_connections_per_key, "head_timeout": span(gateway.head_timeout),
            "body_timeout": span(gateway.body_timeout), "write_timeout": span(gateway.write_timeout),
        },
        "mqtt": {
            "listen": mqtt.listen.map(|door| door.to_string()),
            "connect_timeout": span(mqtt.connect_timeout), "write_timeout": span(mqtt.write_timeout),
        },
        "log": { "filter": config.log.filter },
    })
}
