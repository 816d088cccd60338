//! Acts 1 to 3: the first key, rotate, the stranger.

use serde_json::json;
use veilcast::Refusal;
use veilcast::client::{ClientError, KeyUpdateMethod};
use veilcast::key_store::KeyId;
use veilcast::subscriber::Arrival;
use veilcast::wire::Frame;

use super::super::DemoError;
use super::super::listener::{arrived, messages, pending, refused};
use super::super::stage::millis;
use super::story::Story;
use crate::commands::subscribe::events::reason;

/// A refusal must be seen within so many milliseconds.
const REFUSED_WITHIN: f64 = 100.0;
/// Bytes of ciphertext shown.
const SNIPPET: usize = 24;

/// The first sealed message makes the reader ask; then it reads, and the relay carries what it cannot read.
pub(super) async fn first_key(story: &mut Story<'_>) -> Result<(), DemoError> {
    story.stage.act("1  The first key");
    story.publish(1).await?;
    let answered = story.message(0).and_then(|message| message.key_id).and_then(|id| asked_and_answered(story, &id));
    match &answered {
        Some((id, took)) => {
            story.stage.says("publisher", format!("checked the grant and handed out key {id}"));
            story.stage.says("reader", format!("had its answer {took} ms after the first sealed message"));
        }
        None => story.stage.says("reader", "did not get the key"),
    }
    let took = answered.map(|(_, took)| took);
    let shown = took.map_or_else(|| "never".into(), |took| format!("{took} ms"));
    story.report.expect(
        "first_key_answered",
        "the reader asked once and was answered",
        took.is_some(),
        json!(took),
        shown,
    );
    show_ciphertext(story);
    story.publish(story.share.opening - 1).await
}

fn asked_and_answered(story: &Story<'_>, id: &KeyId) -> Option<(KeyId, f64)> {
    story.reader.look(|heard| {
        let (asked, (got, _)) = (pending(heard, id)?, arrived(heard, id)?);
        Some((id.clone(), millis(got.duration_since(asked))))
    })
}

/// The message the reader just read, as the relay had it.
fn show_ciphertext(story: &Story<'_>) {
    let Some(frame) = story.message(0).and_then(|message| story.cast.tape.frame_with(&message.envelope)) else {
        return;
    };
    let Ok(parts) = Frame::decode(&frame.into()) else { return };
    if let Some(message) = parts.messages.first() {
        let sealed = &message.claims().payload;
        let snippet = hex::encode(&sealed[..sealed.len().min(SNIPPET)]);
        story.stage.says("relay", format!("saw   {snippet}...  ({} sealed bytes)", sealed.len()));
    }
}

/// The next key rides in a message; nobody asks for it.
pub(super) async fn rotate(story: &mut Story<'_>) -> Result<(), DemoError> {
    story.stage.act("2  Rotate");
    // The guest asks for the first key too; that is not to count as rotate's doing.
    let published = story.sent.len() as u64;
    story.guest.read(published).await;
    let before = story.requests()?;
    let publisher = story.cast.publisher.client()?;
    match publisher.update_encryption_key(&story.stream, KeyUpdateMethod::Rotate, None).await {
        Ok(report) => {
            story.stage.says("publisher", format!("rotates: key {} rides in the next message", report.key_id))
        }
        // So slow a machine that the guest's time is over already; the expectation says so.
        Err(error @ ClientError::GrantEnded { .. }) => story.stage.says("publisher", error.to_string()),
        Err(error) => return Err(error.into()),
    }
    story.publish(story.share.rotate).await?;
    let after = story.requests()?;
    let by_message = story
        .last_message()
        .and_then(|message| message.key_id)
        .is_some_and(|id| story.reader.look(|heard| arrived(heard, &id)).is_some_and(|(_, by)| by == Arrival::Rotate));
    story.stage.says("publisher", format!("key requests before and after: {before} and {after}"));
    let figure = json!({ "key_requests_before": before, "key_requests_after": after });
    let shown = format!("{before} before, {after} after");
    let held = before == after && by_message;
    story.report.expect("rotate_caused_no_key_request", "rotate caused no key request", held, figure, shown);
    Ok(())
}

/// Somebody without a grant listens in: it gets ciphertext, asks, and is refused.
pub(super) async fn stranger(story: &mut Story<'_>) -> Result<(), DemoError> {
    story.stage.act("3  The stranger");
    let mut stranger = story.listen(&story.cast.stranger).await?;
    story.stage.says("stranger", "listens too; it has no grant");
    story.publish(1).await?;
    let refusal = stranger.wait(refused).await;
    let read = stranger.look(|heard| messages(heard).count());
    stranger.end();
    let requests = story.cast.stranger.client()?.stats().key_requests_sent;
    let took = refusal.map(|(asked, told, _)| millis(told.duration_since(asked)));
    match (refusal, took) {
        (Some((_, _, why)), Some(took)) => {
            story
                .stage
                .says("stranger", format!("was refused {took} ms after its first sealed message: {}", reason(&why)));
        }
        _ => story.stage.says("stranger", "was not refused in time"),
    }
    let denied = refusal.is_some_and(|(_, _, why)| why == Refusal::Denied);
    let held = denied && read == 0 && took.is_some_and(|took| took <= REFUSED_WITHIN);
    let why = refusal.map(|(_, _, why)| why.name());
    let figure = json!({ "refused_after_ms": took, "refusal": why, "key_requests": requests, "messages_read": read });
    let shown =
        took.map_or_else(|| "never".into(), |took| format!("{took} ms, one round trip; it read {read} messages"));
    story.report.expect(
        "stranger_refused_within_100_ms",
        "the stranger was refused within 100 ms",
        held,
        figure,
        shown,
    );
    Ok(())
}
