//! Reading one archived message.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::error::ClientError;
use super::shared::Shared;
use super::subscribing::{Delivery, start};
use crate::message::Message;
use crate::permission::Permission;
use crate::subscriber::{Event, IntakeLimits};
use crate::wire::{MessageContent, Received, WireError};

/// Keys one message may carry beside its own.
const MAX_KEY_UPDATES: usize = 8;

/// A subscription to nothing, fed with this one message, until it is read or cannot be.
pub(super) async fn open(shared: &Arc<Shared>, envelope: Bytes) -> Result<Message, ClientError> {
    let message = Received::<MessageContent>::decode(&envelope)?.verify().map_err(WireError::from)?;
    let stream = message.content().part.stream().clone();
    // One message alone, of any age: there is nothing before it to wait for.
    let (join_wait, live_window) = (Duration::ZERO, Duration::MAX);
    let (chains, keys) = (NonZeroUsize::MIN, NonZeroUsize::MIN.saturating_add(MAX_KEY_UPDATES));
    // The caller waits, and is told at once when nobody can tell whether the author may publish.
    let permission_wait = Duration::ZERO;
    let limits = IntakeLimits { join_wait, live_window, permission_wait, chains, keys, ..shared.config.intake };
    let mut reading = start(shared, stream.clone(), Vec::new(), vec![message], limits)?;
    while let Some(delivery) = reading.next().await {
        match delivery {
            Delivery::Message(message) => return Ok(message),
            Delivery::Event(Event::KeyRefused { publisher, key_id, refusal, dropped: 1 }) => {
                return Err(ClientError::Refused { publisher, key_id, refusal });
            }
            Delivery::Event(Event::KeyUnavailable { publisher, key_id, failure, dropped: 1 }) => {
                return Err(ClientError::KeyUnavailable { publisher, key_id, failure });
            }
            Delivery::Event(Event::KeyNotAgreed { publisher, key_id, .. }) => {
                return Err(ClientError::KeyNotAgreed { publisher, key_id });
            }
            Delivery::Event(Event::WrongKey { publisher, key_id }) => {
                return Err(ClientError::WrongKey { publisher, key_id });
            }
            Delivery::Event(Event::NotAPublisher { publisher, refusal }) => {
                let permission = Permission::Publish;
                return Err(ClientError::NotPermitted { user: publisher, stream, permission, refusal });
            }
            Delivery::Event(_) => {}
        }
    }
    Err(ClientError::Stopped)
}
