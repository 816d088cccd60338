//! Acts 4 and 5: paid time that ends, and an old message for somebody who was not there.

use std::time::{Duration, Instant};

use serde_json::json;
use veilcast::{Message, Refusal, Timestamp};

use super::super::DemoError;
use super::super::listener::{arrived, messages, refused};
use super::super::stage::{millis, shown};
use super::story::Story;
use crate::commands::now;
use crate::commands::subscribe::events::reason;
use crate::times;

/// The clock passes the guest's end; the publisher rekeys before its next message, and the guest is told why.
pub(super) async fn paid_time_ends(story: &mut Story<'_>) -> Result<(), DemoError> {
    story.stage.act("4  Paid time ends");
    let published_before = story.sent.len();
    story.guest.read(published_before as u64).await;
    let read_before = story.guest.look(|heard| messages(heard).count());
    let key_before = story.last_message().and_then(|message| message.key_id);
    let over = Timestamp::from_secs(story.guest_end.as_secs() + 1);
    let left = over.since(now());
    story.stage.says("guest", format!("has read {read_before} messages; its time ends in {:.1} s", left.as_secs_f64()));
    // A little more, for timers and the clock need not agree to the millisecond.
    tokio::time::sleep(left + Duration::from_millis(20)).await;
    story.publish(story.share.ended).await?;
    show_rekey(story, key_before);
    let refusal = story.guest.wait(refused).await.map(|(_, _, why)| why);
    story
        .stage
        .says("guest", refusal.map_or_else(|| "was not told".into(), |why| format!("is cut off: {}", reason(&why))));
    let late = story.guest.look(|heard| messages(heard).filter(|message| message.at.timestamp >= over).count());
    let told_why = refusal == Some(Refusal::Expired { since: story.guest_end });
    expect_guest(story, read_before, published_before, late, told_why);
    Ok(())
}

/// Says by which way the reader got the new key.
fn show_rekey(story: &mut Story<'_>, before: Option<veilcast::key_store::KeyId>) {
    let after = story.last_message().and_then(|message| message.key_id);
    let by = after.as_ref().and_then(|id| story.reader.look(|heard| arrived(heard, id))).map(|(_, by)| by);
    let rekeyed = after.is_some() && after != before && by.is_some();
    let how = by.map_or_else(|| "never".into(), |by| format!("{by:?}").to_lowercase());
    if let (true, Some(id)) = (rekeyed, &after) {
        story.stage.says("publisher", format!("rekeyed by itself: key {id}; the reader has it by {how}"));
    }
    let figure = json!({ "reader_got_key_by": how });
    story.report.expect(
        "rekeyed_at_the_end",
        "the publisher rekeyed by itself",
        rekeyed,
        figure,
        format!("reader's key came by {how}"),
    );
}

fn expect_guest(story: &mut Story<'_>, read: usize, published: usize, late: usize, told_why: bool) {
    let figure = json!({ "read": read, "published_while_paid": published });
    let shown = format!("{read} of {published}");
    story.report.expect(
        "guest_read_while_paid",
        "the guest read all it had paid for",
        read == published,
        figure,
        shown,
    );
    let figure = json!({ "read_after_end": late, "told_expired": told_why, "end": story.guest_end.as_millis() });
    let shown = format!("{late} read; told: expired since {}", times::show(story.guest_end));
    let held = late == 0 && told_why;
    story.report.expect(
        "ended_guest_read_nothing_after_its_end",
        "after its end the guest read nothing",
        held,
        figure,
        shown,
    );
}

/// An empty store and a grant: the publisher still has the key of the very first message.
pub(super) async fn old_message(story: &mut Story<'_>) -> Result<(), DemoError> {
    story.stage.act("5  The past");
    story.stage.says("latecomer", "has a grant and an empty store; it opens the first message from an archive");
    let opened = open_archived(story, 0).await;
    let held = opened.is_ok();
    let figure = json!({ "took_ms": opened.as_ref().ok() });
    let shown = opened.map_or_else(|why| why, |took| format!("{took} ms with the key request"));
    story.report.expect("old_message_opened", "an old key was fetched for an old message", held, figure, shown);
    Ok(())
}

/// Opens an archived message as the latecomer: the milliseconds it took, or why it failed.
pub(super) async fn open_archived(story: &Story<'_>, index: usize) -> Result<f64, String> {
    let archived = story.message(index).ok_or("the message was never read")?;
    let client = story.cast.latecomer.client().map_err(|error| error.to_string())?;
    let begun = Instant::now();
    let opened: Message = client.open(archived.envelope).await.map_err(|error| error.to_string())?;
    let took = millis(begun.elapsed());
    story.stage.says("latecomer", format!("reads {} after {took} ms", shown(&opened.payload)));
    let same = story.sent.get(index).is_some_and(|sent| opened.payload == sent.as_slice());
    if same { Ok(took) } else { Err("it is not what was published".into()) }
}
