//! Figures for Prometheus, asked of a running daemon as Prometheus does.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a failed test is what it is for")]

mod common;

use common::{Daemon, Home, in_path};

const LIST: &str = include_str!("../../docs/METRICS.md");

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

    let answer = daemon.with(&scraper, "/metrics", &["-i"]);
    assert_eq!(answer.status, 200, "{answer:?}");
    let (head, text) = answer.body.split_once("\r\n\r\n").unwrap();
    let kind = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert!(head.lines().any(|line| line.eq_ignore_ascii_case(kind)), "{head}");
    assert!(text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1, "{text}");
    let published = format!("veilcast_messages_published_total{{stream=\"{stream}\"}} 1");
    assert!(text.lines().any(|line| line == published), "{text}");
    let (_, of_the_node) = LIST.split_once("## Of the node").unwrap();
    let rows: Vec<&str> = of_the_node.lines().filter(|line| line.starts_with("| `veilcast_")).collect();
    assert!(!rows.is_empty());
    for row in rows {
        let cells: Vec<&str> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        assert!(text.contains(&format!("# TYPE {} {}\n", cells[1], cells[2])), "{row}");
    }
    let bytes = text.lines().find_map(|line| line.strip_prefix("veilcast_store_bytes ")).unwrap();
    assert!(bytes.parse::<u64>().unwrap() > 0);
    for secret in [&scraper, &shop, &home.address()] {
        assert!(!text.replace(&stream, "").contains(secret.as_str()), "{secret}");
    }
    daemon.end();
}
