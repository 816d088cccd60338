//! Asking for all keys of a span of time, page by page.

use veilcast_key_store::{HistoryCursor, KeyId, TimeRange};

use super::GrantedKey;
use crate::time::Timestamp;
use crate::wire::{WireError, key_id};

/// What a request asks for: keys by their ids, or all keys of a span of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// These keys, 1 to 256, no two alike.
    Keys(Vec<KeyId>),
    /// One page of the keys that were in use in a span of time.
    Range(KeyRange),
}

impl Wanted {
    /// The ids asked for; none where a span of time is asked for.
    pub fn key_ids(&self) -> &[KeyId] {
        match self {
            Self::Keys(ids) => ids,
            Self::Range(_) => &[],
        }
    }
}

/// One page of the keys that were in use at any moment of a span, in order of their start and then their id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRange {
    /// First and last moment, ms since the epoch, both included; the first is not after the last.
    pub range: TimeRange,
    /// Strictly behind this place; without it from the beginning.
    pub after: Option<HistoryCursor>,
}

impl KeyRange {
    /// Whether a granted key belongs on the page: its period reaches into the span, its place is behind where the page begins.
    pub fn covers(&self, granted: &GrantedKey) -> bool {
        let (since, until) = (granted.since.as_millis(), granted.until.map(Timestamp::as_millis));
        let touches = since <= self.range.to && until.is_none_or(|until| until > self.range.from);
        touches && self.after.as_ref().is_none_or(|after| granted.place() > *after)
    }

    /// Whether the next page may begin there: further on than this one, and not beyond the span.
    pub fn goes_on_at(&self, next: &HistoryCursor) -> bool {
        next.since <= self.range.to && self.after.as_ref().is_none_or(|after| next > after)
    }
}

impl GrantedKey {
    /// Where the key stands in the publisher's history.
    pub fn place(&self) -> HistoryCursor {
        HistoryCursor { since: self.since.as_millis(), id: self.key_id.clone() }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct RangeProto {
    #[prost(uint64, tag = "1")]
    from: u64,
    #[prost(uint64, tag = "2")]
    to: u64,
    #[prost(message, optional, tag = "3")]
    after: Option<CursorProto>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct CursorProto {
    #[prost(uint64, tag = "1")]
    since: u64,
    #[prost(string, tag = "2")]
    key_id: String,
}

impl From<&KeyRange> for RangeProto {
    fn from(asked: &KeyRange) -> Self {
        Self { from: asked.range.from, to: asked.range.to, after: asked.after.as_ref().map(CursorProto::from) }
    }
}

impl From<&HistoryCursor> for CursorProto {
    fn from(cursor: &HistoryCursor) -> Self {
        Self { since: cursor.since, key_id: cursor.id.as_str().into() }
    }
}

pub(super) fn range(proto: &RangeProto) -> Result<KeyRange, WireError> {
    if proto.from > proto.to {
        return Err(WireError::Field("a span of time does not end before it begins"));
    }
    let after = proto.after.as_ref().map(cursor).transpose()?;
    if after.as_ref().is_some_and(|after| after.since > proto.to) {
        return Err(WireError::Field("a page does not begin behind the end of its span"));
    }
    Ok(KeyRange { range: TimeRange { from: proto.from, to: proto.to }, after })
}

pub(super) fn cursor(proto: &CursorProto) -> Result<HistoryCursor, WireError> {
    Ok(HistoryCursor { since: proto.since, id: key_id(&proto.key_id)? })
}
