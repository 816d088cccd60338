//! The sum: what the reader read, what the relay saw, and every figure.

use std::time::Duration;

use serde_json::{Value, json};
use veilcast::client::Stats;

use super::super::cast::{Actor, RSA_BITS};
use super::super::listener::messages;
use super::super::report::Report;
use super::story::Story;

/// How long the relay's last frames may take to reach the tape.
const TAPE: Duration = Duration::from_secs(2);

pub(super) async fn draw(mut story: Story<'_>) -> Report {
    everything_in_order(&mut story);
    no_plaintext(&mut story).await;
    story.reader.end();
    story.guest.end();
    figures(&mut story);
    let took = story.stage.elapsed();
    story.report.took(took);
    story.report
}

fn everything_in_order(story: &mut Story<'_>) {
    let sent = &story.sent;
    let (count, same) = story.reader.look(|heard| {
        let same = messages(heard).map(|message| &message.payload[..]).eq(sent.iter().map(Vec::as_slice));
        (messages(heard).count(), same)
    });
    let figure = json!({ "read": count, "published": sent.len() });
    let shown = format!("{count} of {}", sent.len());
    story.report.expect("reader_read_everything_in_order", "the reader read everything, in order", same, figure, shown);
}

async fn no_plaintext(story: &mut Story<'_>) {
    let (tape, all) = (story.cast.tape.clone(), story.sent.len());
    let complete = async {
        while tape.messages() < all {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let _ = tokio::time::timeout(TAPE, complete).await;
    let search = tape.search(&story.sent);
    let figure = json!({
        "frames": search.frames,
        "bytes": search.bytes,
        "messages": search.messages,
        "payloads_searched": search.searched,
        "payloads_too_short_to_search": search.too_short,
        "found": search.found,
    });
    // Without every message on the tape, not finding one would prove nothing.
    let held = search.found == 0 && search.messages == all;
    let shown = format!(
        "{} payloads, {} frames, {} bytes searched: {} found",
        search.searched, search.frames, search.bytes, search.found
    );
    story.report.expect("relay_saw_no_plaintext", "the relay saw no plaintext", held, figure, shown);
}

fn figures(story: &mut Story<'_>) {
    let stats = [
        ("publisher_since_restart", &story.cast.publisher),
        ("reader", &story.cast.reader),
        ("guest", &story.cast.guest),
        ("stranger", &story.cast.stranger),
        ("latecomer", &story.cast.latecomer),
    ];
    let stats: Vec<(&str, Value)> = stats.map(|(name, actor)| (name, stats_of(actor))).into();
    for (name, value) in stats {
        story.report.figure(name, value);
    }
    story.report.figure("messages", story.sent.len());
    story.report.figure("rsa_bits", RSA_BITS);
    story.report.figure("stream", story.stream.as_str());
}

fn stats_of(actor: &Actor) -> Value {
    let stats: Stats = actor.client().map(veilcast::client::Client::stats).unwrap_or_default();
    json!({
        "messages_published": stats.messages_published,
        "messages_read": stats.messages_delivered,
        "key_requests_sent": stats.key_requests_sent,
        "key_requests_received": stats.key_requests_received,
        "keys_granted": stats.keys_granted,
        "keys_refused": stats.keys_refused,
        "pushed_keys_accepted": stats.pushes_accepted,
    })
}
