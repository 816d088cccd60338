//! Partitions that a reader names.

use veilcast::{Partition, StreamId};

use super::now;
use crate::args::{Registry, RegistryArgs};
use crate::failure::Failure;
use crate::session::Session;

/// Refuses one that the stream does not have, where it is on record in the data folder how many it has: nothing would ever come
/// there. Where it is not, the network tells.
pub(crate) async fn must_exist(
    stream: &StreamId,
    named: &[u32],
    registry: &RegistryArgs,
    session: &Session,
) -> Result<(), Failure> {
    if named.is_empty() || matches!(registry.named(), Registry::Chain(_)) {
        return Ok(());
    }
    let known = session.source(registry)?.stream_at(stream, now()).await;
    let Ok(Some(known)) = known else { return Ok(()) };
    for number in named {
        Partition::Number(*number).number(known.partitions)?;
    }
    Ok(())
}
