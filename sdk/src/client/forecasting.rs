//! What a key change would do, before it is done: by the very checks that the change goes by.

use std::collections::HashSet;
use std::sync::Arc;

use futures::{StreamExt, stream};

use super::error::ClientError;
use super::shared::Shared;
use crate::identity::UserId;
use crate::permission::{Permission, Refusal};
use crate::stream::StreamId;

/// Checks under way at a time: a source may be far away.
const CHECKS: usize = 32;

/// What a rekey or a rotate would do to whom, at the moment it was asked. Lists are in the order of addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UpdateForecast {
    /// Who was given a key and may have the next: a rekey sends it or they ask, a rotate lets them read on.
    pub reads_on: Vec<UserId>,
    /// Who was given a key and may not have the next: a rekey keeps it from them.
    pub shut_out: Vec<(UserId, Refusal)>,
    /// Who may read and was given no key yet: they ask for the one that is current then.
    pub will_ask: Vec<UserId>,
    /// Whose grants ended since the last rekey: a rotate is refused because of them, and regardless of them lets them read on.
    pub ended: Vec<UserId>,
    /// There is no key yet: the change makes the first one.
    pub is_first: bool,
    /// Messages go out in plaintext: the stream is public.
    pub in_plaintext: bool,
}

/// # Errors
/// Those that the change itself would end with, but for grants that ended; and what a source says that cannot tell who subscribes.
pub(super) async fn forecast(shared: &Arc<Shared>, stream: &StreamId) -> Result<UpdateForecast, ClientError> {
    shared.must_publish(stream).await?;
    shared.must_exchange(stream).await?;
    let untold = |refusal| {
        let (user, permission) = (shared.user, Permission::Subscribe);
        ClientError::NotPermitted { user, stream: stream.clone(), permission, refusal }
    };
    let info = shared.stream_info(stream).await.map_err(untold)?;
    let (ended, is_first) = {
        let publisher = shared.publisher(stream).await?;
        let mut publisher = publisher.lock().await;
        (publisher.ended(shared, stream).await.to_vec(), publisher.schedule.current().is_none())
    };
    let holders: Vec<UserId> = shared.holders.all(stream).await?.iter().map(|holder| holder.user).collect();
    let listed = shared.subscribers(stream).await.map_err(untold)?;
    let (now, known) = (shared.now(), holders.iter().copied().collect::<HashSet<UserId>>());
    let may_read = listed.iter().filter(|one| !known.contains(&one.user) && one.grant.holds_at(now).is_ok());
    let mut will_ask: Vec<UserId> = may_read.map(|one| one.user).collect();
    will_ask.sort_unstable();
    will_ask.dedup();
    let (reads_on, shut_out) = checked(shared, stream, holders).await;
    let in_plaintext = info.is_some_and(|info| info.at(now).public) && !shared.config.always_encrypt;
    Ok(UpdateForecast { reads_on, shut_out, will_ask, ended, is_first, in_plaintext })
}

/// Who may read now, and who may not, as a rekey checks it.
async fn checked(shared: &Shared, stream: &StreamId, holders: Vec<UserId>) -> (Vec<UserId>, Vec<(UserId, Refusal)>) {
    let checks = stream::iter(holders)
        .map(|user| async move { (user, shared.check(stream, user, Permission::Subscribe).await) });
    let (mut reads_on, mut shut_out) = (Vec::new(), Vec::new());
    let mut checks = checks.buffered(CHECKS);
    while let Some((user, answer)) = checks.next().await {
        match answer {
            Ok(_) => reads_on.push(user),
            Err(refusal) => shut_out.push((user, refusal)),
        }
    }
    (reads_on, shut_out)
}
