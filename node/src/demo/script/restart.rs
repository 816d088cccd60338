//! Act 6: the publisher comes back from its store.

use std::time::Instant;

use serde_json::json;

use super::super::DemoError;
use super::super::stage::millis;
use super::story::Story;
use super::timed::open_archived;

/// It answers for an old key before it publishes anything, and goes on with its latest.
pub(super) async fn restart(story: &mut Story<'_>) -> Result<(), DemoError> {
    story.stage.act("6  Restart");
    let latest = story.last_message().and_then(|message| message.key_id);
    let asked_before = story.cast.reader.client()?.stats().key_requests_sent;
    let begun = Instant::now();
    story.cast.publisher.restart().await?;
    story.meet().await?;
    let back = millis(begun.elapsed());
    story.stage.says("publisher", format!("stopped, opened its store again and was back after {back} ms"));
    answers_for_old_key(story).await?;
    story.publish(story.share.restart).await?;
    let continued = latest.is_some() && story.last_message().and_then(|message| message.key_id) == latest;
    let asked = story.cast.reader.client()?.stats().key_requests_sent - asked_before;
    let held = continued && asked == 0;
    let shown = format!("the reader asked for {asked} keys");
    let figure = json!({ "key_requests_of_reader": asked, "back_after_ms": back });
    story.report.expect(
        "restarted_publisher_went_on_with_its_latest_key",
        "it went on with its latest key",
        held,
        figure,
        shown,
    );
    Ok(())
}

/// The last message of act 2 is under the rotated key, which the latecomer has never had.
async fn answers_for_old_key(story: &mut Story<'_>) -> Result<(), DemoError> {
    let index = usize::try_from(story.share.opening + story.share.rotate).unwrap_or(usize::MAX).saturating_sub(1);
    let opened = open_archived(story, index).await;
    let published = story.cast.publisher.client()?.stats().messages_published;
    let held = opened.is_ok() && published == 0;
    let figure = json!({ "took_ms": opened.as_ref().ok(), "published_before": published });
    let shown = opened.map_or_else(|why| why, |took| format!("{took} ms, before it published anything"));
    let words = "the restarted publisher answered for an old key";
    story.report.expect("restarted_publisher_answered_for_an_old_key", words, held, figure, shown);
    Ok(())
}
