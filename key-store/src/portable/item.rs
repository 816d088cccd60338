//! What stands in a portable file, opened.
//!
//! ```text
//! item     kind 1 | length 4 | body
//! 1 key    publisher 20 | is current 1 | current since 8 | id length 1 | id | key record | stream
//!          key record: key 32 | since 8 | has until 1 | until 8 | origin 1 (1 made, 2 received, 3 agreed on beforehand)
//! 2 record table length 4 | table | key length 4 | key | value
//! 3 file   name length 1 | name | contents
//! 0 end    keys 8 | records 8 | files 8: how many there were
//! ```
//! Numbers are big-endian, times are milliseconds since the Unix epoch, a time that is not there is zero. Files come first, then
//! keys, then records. Behind the end there are zeros up to the end of the chunk.

use std::io::{Read, Write};

use zeroize::Zeroizing;

use super::{
    PortableError,
    sealed::{SealedReader, SealedWriter},
};
use crate::{
    KeyId, KeyScope,
    ledger::{Entry, KEY_RECORD_LEN, read_key_record, write_key_record},
    store::{MAX_RECORD_KEY_LEN, MAX_RECORD_LEN},
};

/// The longest file that goes along with a store, bytes.
pub const MAX_FILE_LEN: usize = 64 * 1024;
/// The longest body of an item: a record with the longest names.
const MAX_BODY_LEN: usize = 4 + MAX_RECORD_KEY_LEN + 4 + MAX_RECORD_KEY_LEN + MAX_RECORD_LEN;

const END: u8 = 0;
const KEY: u8 = 1;
const RECORD: u8 = 2;
const FILE: u8 = 3;

/// A small file that goes along with a store: a name, and contents that may be secret.
#[derive(Clone)]
pub struct Attachment {
    /// Its name, 1 to 255 bytes; what it means is the caller's business.
    pub name: String,
    /// Its contents, at most [`MAX_FILE_LEN`] bytes.
    pub contents: Zeroizing<Vec<u8>>,
}

impl std::fmt::Debug for Attachment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Attachment").field("name", &self.name).finish_non_exhaustive()
    }
}

/// How much a portable file holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Summary {
    /// How many keys.
    pub keys: u64,
    /// How many small records: grants, registries, policies, ledgers.
    pub records: u64,
    /// How many files beside the store.
    pub files: u64,
}

/// One thing in a portable file.
#[derive(Debug)]
pub(super) enum Item {
    Entry(Entry),
    File(Attachment),
}

/// Writes items, counts them, and ends with their number.
pub(super) struct ItemWriter<W> {
    sealed: SealedWriter<W>,
    summary: Summary,
    body: Zeroizing<Vec<u8>>,
}

impl<W: Write> ItemWriter<W> {
    pub(super) fn new(sealed: SealedWriter<W>) -> Self {
        Self { sealed, summary: Summary::default(), body: Zeroizing::new(Vec::with_capacity(MAX_BODY_LEN)) }
    }

    pub(super) fn put(&mut self, item: &Item) -> Result<(), PortableError> {
        self.body.clear();
        let kind = match item {
            Item::Entry(Entry::Key { scope, stored, current }) => {
                let id = stored.key.id().as_str();
                within("the name of a stream", scope.stream().len(), MAX_BODY_LEN - 30 - id.len() - KEY_RECORD_LEN)?;
                self.body.extend_from_slice(scope.publisher());
                self.body.push(u8::from(current.is_some()));
                self.body.extend_from_slice(&current.unwrap_or(0).to_be_bytes());
                self.body.push(id.len() as u8); // at most 64
                self.body.extend_from_slice(id.as_bytes());
                self.body.extend_from_slice(&write_key_record(stored));
                self.body.extend_from_slice(scope.stream().as_bytes());
                self.summary.keys += 1;
                KEY
            }
            Item::Entry(Entry::Record { table, key, value }) => {
                within("the name of a table", table.len(), MAX_RECORD_KEY_LEN)?;
                within("the key of a record", key.len(), MAX_RECORD_KEY_LEN)?;
                within("a record", value.len(), MAX_RECORD_LEN)?;
                for name in [table.as_bytes(), key] {
                    self.body.extend_from_slice(&(name.len() as u32).to_be_bytes());
                    self.body.extend_from_slice(name);
                }
                self.body.extend_from_slice(value);
                self.summary.records += 1;
                RECORD
            }
            Item::File(Attachment { name, contents }) => {
                within("a file that goes along", contents.len(), MAX_FILE_LEN)?;
                within("the name of a file", name.len(), u8::MAX.into())?;
                self.body.push(name.len() as u8);
                self.body.extend_from_slice(name.as_bytes());
                self.body.extend_from_slice(contents);
                self.summary.files += 1;
                FILE
            }
        };
        self.put_body(kind)
    }

    pub(super) fn finish(mut self) -> Result<(W, Summary), PortableError> {
        self.body.clear();
        let Summary { keys, records, files } = self.summary;
        for number in [keys, records, files] {
            self.body.extend_from_slice(&number.to_be_bytes());
        }
        self.put_body(END)?;
        Ok((self.sealed.finish()?, self.summary))
    }

    fn put_body(&mut self, kind: u8) -> Result<(), PortableError> {
        let [a, b, c, d] = (self.body.len() as u32).to_be_bytes();
        self.sealed.put(&[kind, a, b, c, d])?;
        self.sealed.put(&self.body)
    }
}

/// Reads items to the end, where their number must be right.
pub(super) struct ItemReader<R> {
    sealed: SealedReader<R>,
    summary: Summary,
    body: Zeroizing<Vec<u8>>,
}

impl<R: Read> ItemReader<R> {
    pub(super) fn new(sealed: SealedReader<R>) -> Self {
        Self { sealed, summary: Summary::default(), body: Zeroizing::new(Vec::with_capacity(MAX_BODY_LEN)) }
    }

    /// `None` at the end: the next call is [`finish`](Self::finish).
    pub(super) fn next(&mut self) -> Result<Option<Item>, PortableError> {
        let mut head = [0; 5];
        self.sealed.take(&mut head)?;
        let [kind, len @ ..] = head;
        let len = u32::from_be_bytes(len) as usize;
        if len > MAX_BODY_LEN {
            return Err(UNREADABLE);
        }
        self.body.resize(len, 0);
        self.sealed.take(&mut self.body)?;
        if kind == END {
            let Summary { keys, records, files } = self.summary;
            let counted: Vec<u8> = [keys, records, files].into_iter().flat_map(u64::to_be_bytes).collect();
            return if *self.body == counted { Ok(None) } else { Err(PortableError::damaged("something is left out")) };
        }
        let item = read_item(kind, &self.body).ok_or(UNREADABLE)?;
        match &item {
            Item::Entry(Entry::Key { .. }) => self.summary.keys += 1,
            Item::Entry(Entry::Record { .. }) => self.summary.records += 1,
            Item::File(_) => self.summary.files += 1,
        }
        Ok(Some(item))
    }

    pub(super) fn finish(self) -> Result<(R, Summary), PortableError> {
        Ok((self.sealed.finish()?, self.summary))
    }

    /// How many bytes of the stream were opened.
    pub(super) fn opened(&self) -> u64 {
        self.sealed.opened()
    }
}

const UNREADABLE: PortableError = PortableError::damaged("what one of its parts says");

fn read_item(kind: u8, body: &[u8]) -> Option<Item> {
    match kind {
        KEY => {
            let (publisher, rest) = body.split_first_chunk::<20>()?;
            let (&[has_current], rest) = rest.split_first_chunk()?;
            let (current, rest) = rest.split_first_chunk()?;
            let current = match (has_current, u64::from_be_bytes(*current)) {
                (0, 0) => None,
                (1, since) => Some(since),
                _ => return None,
            };
            let (&[id_len], rest) = rest.split_first_chunk()?;
            let (id, rest) = rest.split_at_checked(id_len.into())?;
            let (record, stream) = rest.split_at_checked(KEY_RECORD_LEN)?;
            let id = KeyId::new(std::str::from_utf8(id).ok()?).ok()?;
            let scope = KeyScope::new(*publisher, std::str::from_utf8(stream).ok()?);
            let stored = read_key_record(&scope, &id, record).ok()?;
            Some(Item::Entry(Entry::Key { scope, stored, current }))
        }
        RECORD => {
            let (table, rest) = named(body)?;
            let (key, value) = named(rest)?;
            let table = std::str::from_utf8(table).ok()?.to_owned();
            let fits =
                table.len() <= MAX_RECORD_KEY_LEN && key.len() <= MAX_RECORD_KEY_LEN && value.len() <= MAX_RECORD_LEN;
            let value = Zeroizing::new(value.to_vec());
            fits.then(|| Item::Entry(Entry::Record { table, key: key.to_vec(), value }))
        }
        FILE => {
            let (&[name_len], rest) = body.split_first_chunk()?;
            let (name, contents) = rest.split_at_checked(name_len.into())?;
            let name = std::str::from_utf8(name).ok()?.to_owned();
            let contents = Zeroizing::new(contents.to_vec());
            (contents.len() <= MAX_FILE_LEN).then_some(Item::File(Attachment { name, contents }))
        }
        _ => None,
    }
}

fn named(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    rest.split_at_checked(u32::from_be_bytes(*len) as usize)
}

fn within(what: &'static str, got: usize, limit: usize) -> Result<(), PortableError> {
    if got > limit { Err(PortableError::TooLarge { what, got, limit }) } else { Ok(()) }
}

/// For the fuzz target: whether it is an item, the first byte its kind, which must then be what is written for it.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn reads(data: &[u8]) -> bool {
    let Some((kind, body)) = data.split_first() else { return false };
    let Some(item) = read_item(*kind, body) else { return false };
    let key = crate::sled_store::DataKey::default();
    let mut items = ItemWriter::new(SealedWriter::new(std::io::sink(), &key, &[0; super::header::PREFIX_LEN]));
    items.put(&item).expect("what was read can be written");
    assert_eq!(&**items.body, body, "one item has one encoding");
    true
}
