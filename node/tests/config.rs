//! The config file: who wins over whom, and what is said of a file that cannot be used.
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod common;

use std::fs;

use common::{Home, Run, run, run_with};
use serde_json::json;

const STREAM: &str = "0x00000000000000000000000000000000000000aa/prices";
const SECRET: &str = "KEY-OF-A-CUSTOMER";

/// A data folder with this config file in it.
fn home_with(config: &str) -> Home {
    let home = Home::new();
    fs::write(home.path().join("veilcast.toml"), config).unwrap();
    home
}

/// Asks the registry, with these variables set.
fn show(home: &Home, environment: &[(&str, &str)], more: &[&str]) -> Run {
    let mut command = home.command(&[&["stream", "show", STREAM], more].concat());
    command.envs(environment.iter().copied());
    run_with(command, b"")
}

#[test]
fn the_config_file_counts_the_environment_wins_over_it_and_the_command_line_over_both() {
    let home = home_with("[registry]\nname = \"polygon\"\n");
    let environment = [("VEILCAST_REGISTRY", "peaq")];
    show(&home, &[], &[]).failed(2, &["the contract of polygon"]);
    show(&home, &environment, &[]).failed(2, &["the contract of peaq"]);
    show(&home, &environment, &["--registry", "iotex"]).failed(2, &["the contract of iotex"]);
    show(&home, &environment, &["--registry", "local"]).failed(1, &["there is no stream"]);
}

#[test]
fn endpoints_and_numbers_of_the_config_file_give_way_to_the_environment_and_the_command_line_too() {
    let home =
        home_with("[registry]\nname = \"polygon\"\nrpc = [\"http://127.0.0.1:1/a\", \"http://127.0.0.1:2/b\"]\n");
    let rpc = ("VEILCAST_RPC", "http://127.0.0.1:3");
    let asked = |run: Run, hosts: [bool; 4]| {
        let run = run.failed(1, &["cannot be reached"]);
        let found = ["127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3", "127.0.0.1:4"].map(|host| run.stderr.contains(host));
        assert_eq!(found, hosts, "{run:#?}");
    };
    asked(show(&home, &[], &[]), [true, true, false, false]);
    asked(show(&home, &[rpc], &[]), [false, false, true, false]);
    asked(show(&home, &[rpc], &["--rpc", "http://127.0.0.1:4"]), [false, false, false, true]);

    let home = home_with("[registry]\nname = \"polygon\"\nrpc = \"http://127.0.0.1:1\"\nagree = 1\n");
    show(&home, &[("VEILCAST_AGREE", "3")], &[]).failed(2, &["3 different RPC endpoints are needed, 1 given"]);
    show(&home, &[("VEILCAST_AGREE", "3")], &["--agree", "2"]).failed(2, &["2 different RPC endpoints"]);
}

#[test]
fn how_a_contract_is_asked_does_not_count_for_another_one() {
    let home = home_with("[registry]\nname = \"polygon\"\nrpc = \"http://127.0.0.1:1\"\n");
    show(&home, &[], &["--registry", "peaq"]).failed(2, &["nobody can be asked", "of peaq"]);
    let home = home_with("[registry]\nrpc = \"http://127.0.0.1:1\"\n");
    show(&home, &[], &["--registry", "peaq"]).failed(1, &["cannot be reached", "127.0.0.1:1"]);
}

#[test]
fn another_file_is_named_by_the_environment_or_the_command_line_and_must_be_there() {
    let home = home_with("[registry]\nname = \"polygon\"\n");
    let peaq = home.file("peaq.toml", b"[registry]\nname = \"peaq\"\n");
    let iotex = home.file("iotex.toml", b"[registry]\nname = \"iotex\"\n");
    let environment = [("VEILCAST_CONFIG", peaq.to_str().unwrap())];
    show(&home, &environment, &[]).failed(2, &["the contract of peaq"]);
    show(&home, &environment, &["--config", iotex.to_str().unwrap()]).failed(2, &["the contract of iotex"]);
    let gone = iotex.with_file_name("gone.toml");
    show(&home, &environment, &["--config", gone.to_str().unwrap()])
        .failed(2, &["cannot read the config file", "gone.toml", "veilcast config default"]);
}

#[test]
fn an_unknown_key_is_wrong_usage_and_named_with_its_file_and_line() {
    let home = home_with("# mine\n[registry]\nname = \"local\"\nconfirmation = 3\n");
    show(&home, &[], &[]).failed(2, &["veilcast.toml, line 4", "`confirmation`", "`confirmations`", "config default"]);
    home.run(&["config", "check"]).failed(2, &["veilcast.toml, line 4", "`confirmation`"]);
    // Whoever asks no registry needs no config file.
    home.run(&["identity", "show"]).ok();
}

#[test]
fn the_key_in_an_endpoints_url_is_never_printed() {
    let good = format!(
        "[registry]\nname = \"polygon\"\nrpc = [\"http://127.0.0.1:1/{SECRET}?key={SECRET}\", \"http://127.0.0.1:2/\"]\n"
    );
    let bad = [
        format!("[registry]\nname = \"http://127.0.0.1:1/{SECRET}\"\n"),
        format!("[registry]\nagree = \"http://127.0.0.1:1/{SECRET}\"\n"),
        format!("[registry]\nrpc = \"127.0.0.1:1/{SECRET}\"\n"),
        format!("[registry]\nrpc = [\"http://127.0.0.1:1/{SECRET}\"\nagree = 1\n"),
        format!("[registry]\nrpc = http://127.0.0.1:1/{SECRET}\n"),
        format!("[registry]\nrpc = \"http://{SECRET}@127.0.0.1:1\"\n"),
        format!("registry = \"http://127.0.0.1:1/{SECRET}\"\n"),
    ];
    let home = home_with(&good);
    let mut runs = vec![
        show(&home, &[], &["-vvv"]).failed(1, &["127.0.0.1:1"]),
        home.run(&["config", "check"]),
        home.run(&["config", "check", "--json"]),
    ];
    for text in &bad {
        fs::write(home.path().join("veilcast.toml"), text).unwrap();
        runs.push(show(&home, &[], &["-vvv"]).failed(2, &["veilcast.toml, line "]));
        runs.push(show(&home, &[], &["--json"]).failed(2, &["veilcast.toml, line "]));
    }
    for run in runs {
        assert!(!run.stdout.contains(SECRET) && !run.stderr.contains(SECRET), "{run:#?}");
    }
}

#[test]
fn a_config_file_is_printed_checked_and_said_to_be_missing() {
    let home = Home::new();
    home.run(&["config", "check"]).failed(2, &["there is no config file", "veilcast config default >"]);
    let default = run(&["config", "default"]).ok();
    let file = home.file("mine.toml", default.as_bytes());
    let checked = run(&["config", "check", file.to_str().unwrap()]).ok();
    assert!(checked.contains("can be used") && checked.contains("name = local"), "{checked}");
    let full =
        b"[registry]\nname = \"polygon\"\nrpc = [\"https://rpc.example/v2/KEY\"]\nchain_id = 137\nagree = 1\nconfirmations = 20\n";
    let file = home.file("full.toml", full);
    let json = run(&["config", "check", file.to_str().unwrap(), "--json"]).json();
    let registry = json!({
        "name": "polygon", "rpc_hosts": ["rpc.example"], "chain_id": 137, "agree": 1, "confirmations": 20, "from_block": null,
    });
    assert_eq!(json["registry"], registry);
}
