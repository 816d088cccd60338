//! Where the log lies in the store, and pages: entries that were written together, in one record.
//!
//! ```text
//! e | publisher 20 | sequence of the first entry 8     a page
//! h | publisher 20                                     the head: a signed envelope
//! ```
//! Sequences are big-endian, so pages lie in their order. A page has one encoding; bytes in any other way count as damaged,
//! for they would travel beside the chain.

use prost::Message as _;

use super::entry::LoggedEntry;
use crate::identity::UserId;

pub(super) const TABLE: &str = "audit";
/// Entries in one page at most.
pub(super) const PAGE_ENTRIES: usize = 256;
/// A page that has so many bytes takes no more entries. The longest entry (256 ids of 64 bytes) still fits into a record with it.
const PAGE_LEN: usize = 40 * 1024;
const VERSION: u32 = 1;

pub(super) fn pages(publisher: UserId) -> Vec<u8> {
    [b"e", publisher.as_bytes().as_slice()].concat()
}

pub(super) fn page(publisher: UserId, first: u64) -> Vec<u8> {
    [&pages(publisher), first.to_be_bytes().as_slice()].concat()
}

/// The sequence number of the first entry, of a place under [`pages`].
pub(super) fn first_at(place: &[u8]) -> Option<u64> {
    place.last_chunk().map(|bytes| u64::from_be_bytes(*bytes))
}

pub(super) fn head(publisher: UserId) -> Vec<u8> {
    [b"h", publisher.as_bytes().as_slice()].concat()
}

#[derive(Clone, PartialEq, prost::Message)]
struct PageProto {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(message, repeated, tag = "2")]
    entries: Vec<EntryProto>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct EntryProto {
    #[prost(bytes = "vec", tag = "1")]
    hash: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    content: Vec<u8>,
}

/// The entries of a page; `None` for bytes that are none.
pub(super) fn read(bytes: &[u8]) -> Option<Vec<LoggedEntry>> {
    let proto = PageProto::decode(bytes).ok().filter(|page| page.version == VERSION)?;
    if proto.entries.is_empty() || proto.encode_to_vec() != bytes {
        return None;
    }
    proto.entries.into_iter().map(|entry| LoggedEntry::read(entry.content, entry.hash.try_into().ok()?)).collect()
}

/// The entries in pages, each with the sequence number of its first.
pub(super) fn write(entries: Vec<LoggedEntry>) -> Vec<(u64, Vec<u8>)> {
    let mut pages: Vec<(u64, PageProto, usize)> = Vec::new();
    for LoggedEntry { entry, content, hash } in entries {
        let len = content.len();
        let written = EntryProto { hash: hash.to_vec(), content };
        match pages.last_mut().filter(|(_, page, size)| *size < PAGE_LEN && page.entries.len() < PAGE_ENTRIES) {
            Some((_, page, size)) => {
                page.entries.push(written);
                *size += len;
            }
            None => pages.push((entry.sequence, PageProto { version: VERSION, entries: vec![written] }, len)),
        }
    }
    pages.into_iter().map(|(first, page, _)| (first, page.encode_to_vec())).collect()
}
