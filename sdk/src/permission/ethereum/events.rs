//! The contract's events, as far as they say who may read and write.
//!
//! None of them has an indexed argument but `Upgraded`, so one filter brings those of all streams, and all else is in the data. What
//! is no event of ours is `None`; what claims to be one and cannot be read is an [`EventFault`].
//!
//! Anybody may make a stream with any name of bytes, and grant to a user id of any length: that is no fault, and none of
//! ours. A user id of 20 bytes is the address (contract StreamRegistryV5, `getAddressKey`).

use std::collections::HashMap;
use std::sync::LazyLock;

use ethers_core::abi::{self, ParamType, Token};
use ethers_core::utils::keccak256;

use super::expiration::Expiration;
use super::index::{Placed, Position};
use crate::identity::UserId;
use crate::stream::StreamId;

/// A topic of a log: the hash of the event's signature, or an indexed argument.
pub(super) type Topic = [u8; 32];

const PERMISSION: [ParamType; 7] = entry(ParamType::Address);
const PERMISSION_OF_ID: [ParamType; 7] = entry(ParamType::Bytes);

const fn entry(user: ParamType) -> [ParamType; 7] {
    use ParamType::{Bool, String, Uint};
    [String, user, Bool, Bool, Uint(256), Uint(256), Bool]
}

/// The first topic of each event that is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Topics {
    permission: Topic,
    permission_of_id: Topic,
    created: Topic,
    deleted: Topic,
    upgraded: Topic,
}

/// They take five hashes, once.
pub(super) static TOPICS: LazyLock<Topics> = LazyLock::new(|| Topics {
    permission: keccak256("PermissionUpdated(string,address,bool,bool,uint256,uint256,bool)"),
    permission_of_id: keccak256("PermissionUpdatedForUserId(string,bytes,bool,bool,uint256,uint256,bool)"),
    created: keccak256("StreamCreated(string,string)"),
    deleted: keccak256("StreamDeleted(string)"),
    upgraded: keccak256("Upgraded(address)"),
});

impl Topics {
    /// For the filter.
    pub(super) fn all(&self) -> [Topic; 5] {
        [self.permission, self.permission_of_id, self.created, self.deleted, self.upgraded]
    }
}

/// A log as a node gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RawLog {
    pub(super) address: UserId,
    pub(super) topics: Vec<Topic>,
    pub(super) data: Vec<u8>,
    pub(super) block: u64,
    pub(super) block_hash: [u8; 32],
    /// Its number within the block.
    pub(super) index: u64,
    /// The time of the block, where the node says it.
    pub(super) time: Option<u64>,
    /// Taken back by a reorganisation.
    pub(super) is_removed: bool,
}

/// What logs were asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) contract: UserId,
    pub(super) from: u64,
    pub(super) to: u64,
    /// The hash of the block `to`.
    pub(super) tip: [u8; 32],
}

impl Asked {
    /// The events among the logs that a node answered with, in the order of the chain.
    ///
    /// # Errors
    /// [`EventFault`]: one of them cannot be what was asked for. Then none counts, for leaving one out would leave a hole.
    pub(super) fn read(&self, logs: &[RawLog]) -> Result<Vec<Placed>, EventFault> {
        let mut hashes = HashMap::from([(self.to, self.tip)]);
        let mut events = Vec::new();
        for log in logs {
            self.check(log)?;
            if *hashes.entry(log.block).or_insert(log.block_hash) != log.block_hash {
                return Err(EventFault::TwoBlocks { block: log.block });
            }
            let index = u32::try_from(log.index).map_err(|_| EventFault::Unasked)?;
            let at = Position { block: log.block, index };
            let event = RegistryEvent::decode(&log.topics, &log.data)?;
            events.extend(event.map(|event| Placed { at, time: log.time, event }));
        }
        events.sort_by_key(|placed| placed.at);
        Ok(events)
    }

    fn check(&self, log: &RawLog) -> Result<(), EventFault> {
        if log.address != self.contract {
            return Err(EventFault::Foreign);
        }
        if !(self.from..=self.to).contains(&log.block) {
            return Err(EventFault::OutOfRange { block: log.block });
        }
        if log.is_removed {
            return Err(EventFault::Removed);
        }
        let is_known = log.topics.first().is_some_and(|first| TOPICS.all().contains(first));
        if is_known { Ok(()) } else { Err(EventFault::Unasked) }
    }
}

/// Something the contract says happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum RegistryEvent {
    /// A user's permissions on a stream are these from now on; the user zero stands for everybody.
    Permission {
        /// The stream.
        stream: StreamId,
        /// Whose.
        user: UserId,
        /// The last second of PUBLISH.
        publish: Expiration,
        /// The last second of SUBSCRIBE.
        subscribe: Expiration,
    },
    /// A stream was made: nobody has a permission on it but by events that follow.
    Created {
        /// The stream.
        stream: StreamId,
    },
    /// A stream is no more, nor is any permission on it.
    Deleted {
        /// The stream.
        stream: StreamId,
    },
    /// The contract has other code from now on.
    Upgraded,
}

/// Why a log cannot be the contract's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventFault {
    /// Its data is not that of its event.
    #[error("the data of a {event} event cannot be read")]
    Malformed {
        /// The event that its topic names.
        event: &'static str,
    },
    /// Nobody asked for the events of another contract.
    #[error("a log of another contract")]
    Foreign,
    /// Nobody asked for this event.
    #[error("a log of an event that nobody asked for")]
    Unasked,
    /// Nobody asked for the events of this block.
    #[error("a log of block {block}, outside the blocks asked for")]
    OutOfRange {
        /// The block it names.
        block: u64,
    },
    /// A log that a reorganisation took back is none.
    #[error("a log that was taken back")]
    Removed,
    /// Two logs name different hashes for one block, or another than the block has.
    #[error("logs of two different blocks {block}")]
    TwoBlocks {
        /// The block they name.
        block: u64,
    },
}

impl RegistryEvent {
    /// Reads a log. `None` where it is none of those above, or about a stream or user that cannot be one of ours.
    ///
    /// # Errors
    /// [`EventFault::Malformed`].
    pub(super) fn decode(topics: &[Topic], data: &[u8]) -> Result<Option<Self>, EventFault> {
        let Some(first) = topics.first() else { return Ok(None) };
        let known = &*TOPICS;
        if *first == known.permission {
            permission(data, &PERMISSION).ok_or(EventFault::Malformed { event: "PermissionUpdated" })
        } else if *first == known.permission_of_id {
            permission(data, &PERMISSION_OF_ID).ok_or(EventFault::Malformed { event: "PermissionUpdatedForUserId" })
        } else if *first == known.created {
            let [stream, _] = strings(data).ok_or(EventFault::Malformed { event: "StreamCreated" })?;
            Ok(ours(&stream).map(|stream| Self::Created { stream }))
        } else if *first == known.deleted {
            let [stream] = strings(data).ok_or(EventFault::Malformed { event: "StreamDeleted" })?;
            Ok(ours(&stream).map(|stream| Self::Deleted { stream }))
        } else {
            Ok((*first == known.upgraded).then_some(Self::Upgraded))
        }
    }
}

/// The outer `None`: it cannot be read.
fn permission(data: &[u8], types: &[ParamType]) -> Option<Option<RegistryEvent>> {
    let tokens: [Token; 7] = abi::decode(types, data).ok()?.try_into().ok()?;
    let [Token::String(stream), user, _, _, Token::Uint(publish), Token::Uint(subscribe), _] = tokens else {
        return None;
    };
    let user = match user {
        Token::Address(address) => Some(UserId::from_bytes(address.0)),
        Token::Bytes(id) => UserId::try_from(id.as_slice()).ok(),
        _ => return None,
    };
    let (publish, subscribe) = (Expiration::of(publish), Expiration::of(subscribe));
    let event = |(stream, user)| RegistryEvent::Permission { stream, user, publish, subscribe };
    Some(ours(&stream).zip(user).map(event))
}

fn strings<const N: usize>(data: &[u8]) -> Option<[String; N]> {
    let tokens = abi::decode(&[const { ParamType::String }; N], data).ok()?;
    let strings = tokens.into_iter().map(Token::into_string).collect::<Option<Vec<_>>>()?;
    strings.try_into().ok()
}

/// Of bytes that are no UTF-8 the decoder makes characters that no id of ours has.
fn ours(stream: &str) -> Option<StreamId> {
    StreamId::new(stream).ok()
}

#[cfg(test)]
mod tests {
    use ethers_core::types::{Address, U256};
    use proptest::prelude::*;

    use super::*;

    fn stream() -> StreamId {
        StreamId::of(UserId::from_bytes([1; 20]), "s").unwrap()
    }

    fn fields(stream: &str, user: Token) -> Vec<u8> {
        let (yes, end) = (|| Token::Bool(true), |secs: u64| Token::Uint(secs.into()));
        abi::encode(&[Token::String(stream.into()), user, yes(), yes(), end(5), Token::Uint(U256::MAX), yes()])
    }

    fn expected(user: [u8; 20]) -> RegistryEvent {
        let (publish, subscribe) = (Expiration::at(5), Expiration::NEVER);
        RegistryEvent::Permission { stream: stream(), user: UserId::from_bytes(user), publish, subscribe }
    }

    #[test]
    fn the_topics_are_those_of_the_deployed_contract() {
        let known = [
            "d22d58032f55c61c3896b3f67eb399b25071b61e122a23d4cd06bc87d4b7b8c1",
            "d7c1097f3fd7d3ed5e2ed13f20679b83d528af948c2e5341971c4c7a7fe9ffd2",
            "0db027888a30ca08149af1347f6ce2f48daffedd9d6d21ab6249c4d802ce592f",
            "74b7395f46349d84fba706c4d226c68bbf9206c2567ae3ec2a001b5a98128eae",
            "bc7cd75a20ee27fd9adebab32041f755214dbc6bffa90cc0225b39da2e5c2d3b",
        ];
        assert_eq!(TOPICS.all().map(hex::encode), known);
    }

    #[test]
    fn an_address_and_a_user_id_of_twenty_bytes_are_the_same_user_and_zero_is_everybody() {
        for user in [[2; 20], [0; 20]] {
            let by_address = fields(stream().as_str(), Token::Address(Address::from(user)));
            let by_id = fields(stream().as_str(), Token::Bytes(user.to_vec()));
            assert_eq!(RegistryEvent::decode(&[TOPICS.permission], &by_address), Ok(Some(expected(user))));
            assert_eq!(RegistryEvent::decode(&[TOPICS.permission_of_id], &by_id), Ok(Some(expected(user))));
        }
    }

    #[test]
    fn user_ids_of_other_lengths_and_names_that_no_stream_of_ours_has_are_passed_over() {
        for len in [0, 19, 21, 33, 64] {
            let data = fields(stream().as_str(), Token::Bytes(vec![2; len]));
            assert_eq!(RegistryEvent::decode(&[TOPICS.permission_of_id], &data), Ok(None), "{len}");
        }
        for name in ["", "nothing", "0xABC/s", "0x0101010101010101010101010101010101010101/\u{fffd}", &"x/".repeat(200)]
        {
            let data = fields(name, Token::Address(Address::from([2; 20])));
            assert_eq!(RegistryEvent::decode(&[TOPICS.permission], &data), Ok(None), "{name}");
            assert_eq!(RegistryEvent::decode(&[TOPICS.deleted], &abi::encode(&[Token::String(name.into())])), Ok(None));
        }
        let mut no_text = fields(stream().as_str(), Token::Address(Address::from([2; 20])));
        let path = no_text.len() - 64 + stream().as_str().len() - 1;
        assert_eq!(no_text[path], b's');
        no_text[path] = 0xff;
        assert_eq!(RegistryEvent::decode(&[TOPICS.permission], &no_text), Ok(None));
    }

    #[test]
    fn streams_are_made_and_deleted_and_the_contract_is_upgraded() {
        let (id, text) = (stream(), |text: &str| Token::String(text.into()));
        let made = abi::encode(&[text(id.as_str()), text(r#"{"partitions":1}"#)]);
        assert_eq!(
            RegistryEvent::decode(&[TOPICS.created], &made),
            Ok(Some(RegistryEvent::Created { stream: id.clone() }))
        );
        let gone = abi::encode(&[text(id.as_str())]);
        assert_eq!(RegistryEvent::decode(&[TOPICS.deleted], &gone), Ok(Some(RegistryEvent::Deleted { stream: id })));
        assert_eq!(RegistryEvent::decode(&[TOPICS.upgraded, [7; 32]], &[]), Ok(Some(RegistryEvent::Upgraded)));
    }

    #[test]
    fn an_unknown_topic_or_none_is_no_event_and_data_cut_short_is_malformed() {
        assert_eq!(RegistryEvent::decode(&[], &[1, 2]), Ok(None));
        assert_eq!(RegistryEvent::decode(&[[9; 32]], &[1, 2]), Ok(None));
        let data = fields(stream().as_str(), Token::Address(Address::from([2; 20])));
        let last = data.len() - 32;
        for len in 0..=last {
            let event = RegistryEvent::decode(&[TOPICS.permission], &data[..len]);
            assert_eq!(event, Err(EventFault::Malformed { event: "PermissionUpdated" }), "{len}");
        }
        for topic in [TOPICS.created, TOPICS.deleted, TOPICS.permission_of_id] {
            assert!(matches!(RegistryEvent::decode(&[topic], &[]), Err(EventFault::Malformed { .. })));
        }
    }

    #[test]
    fn logs_that_nobody_asked_for_or_of_two_forks_are_refused_all_together() {
        let asked = Asked { contract: UserId::from_bytes([9; 20]), from: 5, to: 8, tip: [8; 32] };
        let data = abi::encode(&[Token::String(stream().to_string())]);
        let log = |block: u64, index| RawLog {
            address: asked.contract,
            topics: vec![TOPICS.deleted],
            data: data.clone(),
            block,
            block_hash: [u8::try_from(block).unwrap(); 32],
            index,
            time: None,
            is_removed: false,
        };
        let read = asked.read(&[log(8, 0), log(6, 1), log(6, 0)]).unwrap();
        let places: Vec<_> = read.iter().map(|placed| (placed.at.block, placed.at.index)).collect();
        assert_eq!(places, [(6, 0), (6, 1), (8, 0)]);
        let wrong = [
            (RawLog { address: UserId::from_bytes([8; 20]), ..log(6, 0) }, EventFault::Foreign),
            (log(4, 0), EventFault::OutOfRange { block: 4 }),
            (log(9, 0), EventFault::OutOfRange { block: 9 }),
            (RawLog { is_removed: true, ..log(6, 0) }, EventFault::Removed),
            (RawLog { topics: vec![[1; 32]], ..log(6, 0) }, EventFault::Unasked),
            (RawLog { topics: vec![], ..log(6, 0) }, EventFault::Unasked),
            (RawLog { block_hash: [7; 32], ..log(8, 0) }, EventFault::TwoBlocks { block: 8 }),
            (RawLog { block_hash: [7; 32], ..log(6, 0) }, EventFault::TwoBlocks { block: 6 }),
            (RawLog { data: vec![1], ..log(6, 0) }, EventFault::Malformed { event: "StreamDeleted" }),
        ];
        for (log_at_fault, fault) in wrong {
            assert_eq!(asked.read(&[log(6, 2), log_at_fault]), Err(fault));
        }
    }

    proptest! {
        #[test]
        fn whatever_the_data_is_it_is_an_event_none_or_malformed(
            topic in 0..5usize, junk: Vec<u8>, place in 0..256usize, bit in 0..8u32, by_id: bool,
        ) {
            let topic = TOPICS.all()[topic];
            let _ = RegistryEvent::decode(&[topic], &junk);
            let user = if by_id { Token::Bytes(vec![2; 20]) } else { Token::Address(Address::from([2; 20])) };
            let mut data = fields(stream().as_str(), user);
            let place = place % data.len();
            data[place] ^= 1 << bit;
            let read = RegistryEvent::decode(&[topic], &data);
            if let Ok(Some(RegistryEvent::Permission { stream, .. })) = read {
                prop_assert!(StreamId::new(stream.as_str()).is_ok());
            }
        }
    }
}
