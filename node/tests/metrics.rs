//! Figures for Prometheus, asked of a running daemon as Prometheus does.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;

use common::{Daemon, Home, PATIENCE, in_path};

const LIST: &str = include_str!("../../docs/METRICS.md");

/// The name of a family, and its type, of a line of the list.
fn row(line: &str) -> (&str, &str) {
    let mut cells = line.split('|').map(|cell| cell.trim().trim_matches('`')).skip(1);
    (cells.next().unwrap().trim_end_matches("_total"), cells.next().unwrap())
}

#[test]
fn a_key_for_metrics_gets_every_documented_figure_of_the_node_and_nothing_else_does() {
    let home = Home::new();
    let stream = home.stream("prices");
    let (scraper, shop) = (home.api_key("prometheus", &["metrics"]), home.api_key("shop", &["publish"]));
    let daemon = Daemon::start(&home, &[]);
    daemon.ask("/metrics", &[]).refused(401, "unauthorized");
    daemon.with(&shop, "/metrics", &[]).refused(403, "out_of_scope");
    let path = format!("/streams/{}", in_path(&stream));
    let body = ["-H", "Content-Type: application/json", "-d", "42"];
    daemon.with(&scraper, &path, &body).refused(403, "out_of_scope");
    daemon.with(&shop, &path, &body).ok();
    daemon.with(&shop, "/nowhere/at/all", &[]).refused(404, "no_route");
    daemon.with(&shop, "/metrics", &["-X", "PUT"]).refused(405, "no_method");
    home.run(&["key", "list"]).ok();

    let answer = daemon.with(&scraper, "/metrics", &["-i"]);
    assert_eq!(answer.status, 200, "{answer:?}");
    let (head, text) = answer.body.split_once("\r\n\r\n").unwrap();
    let kind = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert!(head.lines().any(|line| line.eq_ignore_ascii_case(kind)), "{head}");
    assert!(text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1, "{text}");
    let published = format!("veilcast_messages_published_total{{stream=\"{stream}\"}} 1");
    assert!(text.lines().any(|line| line == published), "{text}");
    let (_, of_the_node) = LIST.split_once("## Of the node").unwrap();
    let mut rows: Vec<(&str, &str)> =
        of_the_node.lines().filter(|line| line.starts_with("| `veilcast_")).map(row).collect();
    let (of_the_sdk, doors) = ("# TYPE veilcast_store_bytes ", "# TYPE ");
    let (_, own) = text.split_once(of_the_sdk).unwrap();
    let own = format!("{of_the_sdk}{own}");
    let mut told: Vec<(&str, &str)> =
        own.lines().filter_map(|line| line.strip_prefix(doors)?.split_once(' ')).collect();
    rows.sort_unstable();
    told.sort_unstable();
    assert_eq!(told, rows);
    for line in [
        "veilcast_gateway_requests_total{method=\"POST\",route=\"/streams/{id}\",status=\"2xx\"} 1",
        "veilcast_gateway_requests_total{method=\"POST\",route=\"/streams/{id}\",status=\"4xx\"} 1",
        "veilcast_gateway_request_seconds_count{method=\"POST\",route=\"/streams/{id}\"} 2",
        "veilcast_gateway_requests_total{method=\"GET\",route=\"/metrics\",status=\"4xx\"} 2",
        "veilcast_gateway_requests_total{method=\"other\",route=\"none\",status=\"4xx\"} 2",
        // What the owner's own commands ask is none of an application.
        "veilcast_gateway_requests_total{method=\"GET\",route=\"/keys\",status=\"2xx\"} 0",
        "veilcast_connections_turned_away_total 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line}: {text}");
    }
    let bytes = text.lines().find_map(|line| line.strip_prefix("veilcast_store_bytes ")).unwrap();
    assert!(bytes.parse::<u64>().unwrap() > 0);
    for secret in [&scraper, &shop, &home.address()] {
        assert!(!text.replace(&stream, "").contains(secret.as_str()), "{secret}");
    }
    daemon.end();
}

/// Text as MQTT has it.
fn text(of: &str) -> Vec<u8> {
    [&u16::try_from(of.len()).unwrap().to_be_bytes()[..], of.as_bytes()].concat()
}

/// A packet of MQTT 3.1.1.
fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap();
    [&[kind, 0x80 | (length % 128) as u8, (length / 128) as u8], body].concat()
}

/// Logs in with this as its password, and tells the return code.
fn logs_in(at: &str, name: &str, password: &str) -> (TcpStream, u8) {
    let mut socket = TcpStream::connect(at).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = [&text("MQTT")[..], &[4, 0b1100_0010, 0, 0]].concat();
    let body = [head, text(name), text("till"), text(password)].concat();
    socket.write_all(&packet(0x10, &body)).unwrap();
    let mut answer = [0; 4];
    socket.read_exact(&mut answer).unwrap();
    assert_eq!(answer[..2], [0x20, 2]);
    (socket, answer[3])
}

#[test]
fn mqtt_clients_their_messages_and_what_they_are_refused_are_counted_with_the_figures_of_the_node() {
    let home = Home::new();
    let stream = home.stream("prices");
    home.config("[mqtt]\nlisten = \"127.0.0.1:0\"\n");
    let (scraper, shop) = (home.api_key("prometheus", &["metrics"]), home.api_key("shop", &["publish", "subscribe"]));
    let daemon = Daemon::start(&home, &[]);
    let ready = daemon.process.stderr.wait_for("ready as");
    let at = ready.split_once("mqtt://").unwrap().1.split_once(';').unwrap().0;
    let (mut client, code) = logs_in(at, "one", &shop);
    assert_eq!(code, 0);
    let (_, code) = logs_in(at, "two", "no key of this node");
    assert_eq!(code, 4);
    // SUBSCRIBE and its answer, PUBLISH, and what comes back, its answer and the message in either order.
    client.write_all(&packet(0x82, &[&[0, 1][..], &text(&stream), &[0]].concat())).unwrap();
    let mut answer = [0; 5];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(answer, [0x90, 3, 0, 1, 0]);
    client.write_all(&packet(0x32, &[&text(&stream)[..], &[0, 2], b"42"].concat())).unwrap();
    let (acknowledged, message) = (vec![0x40, 2, 0, 2], [&text(&stream)[..], b"42"].concat());
    let mut came = vec![0; acknowledged.len() + 2 + message.len()];
    client.read_exact(&mut came).unwrap();
    let holds = |part: &[u8]| came.windows(part.len()).any(|found| found == part);
    assert!(holds(&acknowledged) && holds(&message), "{came:?}");
    let told = daemon.with(&scraper, "/metrics", &[]);
    for line in [
        "veilcast_mqtt_clients 1",
        "veilcast_mqtt_messages_total{direction=\"published\"} 1",
        "veilcast_mqtt_messages_total{direction=\"delivered\"} 1",
        "veilcast_mqtt_refused_total{what=\"login\"} 1",
        "veilcast_mqtt_refused_total{what=\"publish\"} 0",
    ] {
        assert!(told.body.lines().any(|found| found == line), "{line}: {}", told.body);
    }
    drop(client);
    daemon.end();
}
