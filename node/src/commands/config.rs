//! `veilcast config`: what the config file says, and what it could.

use serde_json::json;

use crate::args::{ConfigCommand, Shared};
use crate::config::{Config, ConfigError, DEFAULT, RegistrySection, host};
use crate::data_dir::DataDir;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;

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
            let json = json!({ "file": file.display().to_string(), "registry": in_json(&config.registry) });
            output.result(format!("{} can be used\n{}", file.display(), in_words(&config.registry)), &json)?;
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
        "agree": section.agree,
        "confirmations": section.confirmations,
        "from_block": section.from_block,
    })
}
