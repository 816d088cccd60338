//! Where a page goes on.

use crate::storage::Place;
use crate::time::Timestamp;
use crate::wire::{MessageRef, WireError, fixed, user};

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct PlaceProto {
    #[prost(uint64, tag = "1")]
    timestamp: u64,
    #[prost(uint32, tag = "2")]
    sequence: u32,
    #[prost(bytes = "vec", tag = "3")]
    publisher: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    chain: Vec<u8>,
}

impl From<&Place> for PlaceProto {
    fn from(place: &Place) -> Self {
        Self {
            timestamp: place.at.timestamp.as_millis(),
            sequence: place.at.sequence,
            publisher: place.publisher.as_bytes().to_vec(),
            chain: place.chain.to_vec(),
        }
    }
}

pub(super) fn place(proto: &PlaceProto) -> Result<Place, WireError> {
    let at = MessageRef { timestamp: Timestamp::from_millis(proto.timestamp), sequence: proto.sequence };
    let publisher = user(&proto.publisher, "the publisher of a place is an address of 20 bytes")?;
    Ok(Place { at, publisher, chain: fixed(&proto.chain, "a chain id has 16 bytes")? })
}
