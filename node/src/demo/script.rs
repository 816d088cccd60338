//! What happens, act by act.
//!
//! ```text
//! 1 the first key     plaintext at the reader, ciphertext at the relay
//! 2 rotate            the next key rides in a message: nobody asks
//! 3 the stranger      asks, and is refused within one round trip
//! 4 paid time ends    the publisher rekeys by itself: the guest is cut off, the reader reads on
//! 5 the past          somebody who was not there opens an old message
//! 6 restart           the publisher comes back from its store: answers for old keys, goes on with the latest
//! ```

mod opening;
mod restart;
mod story;
mod timed;
mod verdict;

use self::story::Story;
use super::DemoError;
use super::cast::Cast;
use super::report::Report;
use super::source::Source;
use super::stage::Stage;

/// Plays every act, then draws the sum.
pub(super) async fn play(cast: &mut Cast, source: &mut Source, stage: &Stage) -> Result<Report, DemoError> {
    let mut story = Story::begin(cast, source, stage).await?;
    opening::first_key(&mut story).await?;
    opening::rotate(&mut story).await?;
    opening::stranger(&mut story).await?;
    timed::paid_time_ends(&mut story).await?;
    timed::old_message(&mut story).await?;
    restart::restart(&mut story).await?;
    Ok(verdict::draw(story).await)
}
