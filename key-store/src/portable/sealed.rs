//! The stream behind the head: chunks of one size, each sealed to its number and to whether it is the last.
//!
//! ```text
//! chunk      64 KiB of plaintext, sealed: 65,552 bytes
//! nonce 24   prefix 19 (from the head) | number of the chunk 4 | last 1
//! ```
//! This is the STREAM construction (<https://eprint.iacr.org/2015/189>) over XChaCha20-Poly1305, under the key of this one
//! file. A chunk moved, left out, repeated or taken from another file does not open; nor does a file whose end was cut off or
//! that was written on to. All chunks have one size, so what is shorter was cut: truncation is told from damage.
//!
//! Both ends hold two chunks in memory, however long the stream.

use std::io::{self, Read, Write};

use aead_stream::{NewStream, StreamBE32, StreamPrimitive};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305};
use zeroize::Zeroizing;

use super::{PortableError, header::PREFIX_LEN};
use crate::sled_store::DataKey;

pub(super) const CHUNK_LEN: usize = 64 * 1024;
const AUTH_LEN: usize = 16;
pub(super) const SEALED_LEN: usize = CHUNK_LEN + AUTH_LEN;

type Stream = StreamBE32<XChaCha20Poly1305>;

fn stream(key: &DataKey, prefix: &[u8; PREFIX_LEN]) -> Stream {
    Stream::from_aead(XChaCha20Poly1305::new((&***key).into()), prefix.into())
}

/// Seals what is written to it.
pub(super) struct SealedWriter<W> {
    output: W,
    stream: Stream,
    number: u32,
    chunk: Zeroizing<Vec<u8>>,
}

impl<W: Write> SealedWriter<W> {
    pub(super) fn new(output: W, key: &DataKey, prefix: &[u8; PREFIX_LEN]) -> Self {
        // Full size from the start: a growing Vec would leave copies of keys behind.
        let chunk = Zeroizing::new(Vec::with_capacity(SEALED_LEN));
        Self { output, stream: stream(key, prefix), number: 0, chunk }
    }

    pub(super) fn put(&mut self, mut plain: &[u8]) -> Result<(), PortableError> {
        while !plain.is_empty() {
            // A full chunk leaves only when more comes, so that the last one is never empty.
            if self.chunk.len() == CHUNK_LEN {
                self.seal(false)?;
            }
            let (now, later) = plain.split_at(plain.len().min(CHUNK_LEN - self.chunk.len()));
            self.chunk.extend_from_slice(now);
            plain = later;
        }
        Ok(())
    }

    /// Fills the last chunk up with zeros and seals it.
    pub(super) fn finish(mut self) -> Result<W, PortableError> {
        self.chunk.resize(CHUNK_LEN, 0);
        self.seal(true)?;
        self.output.flush().map_err(writing())?;
        Ok(self.output)
    }

    fn seal(&mut self, last: bool) -> Result<(), PortableError> {
        self.stream
            .encrypt_in_place(self.number, last, b"", &mut *self.chunk)
            .expect("64 KiB are far below the cipher's limit");
        self.output.write_all(&self.chunk).map_err(writing())?;
        self.chunk.clear();
        let too_long = || PortableError::TooLarge { what: "the whole", got: usize::MAX, limit: u32::MAX as usize };
        self.number = self.number.checked_add(1).ok_or_else(too_long)?;
        Ok(())
    }
}

/// Opens what a [`SealedWriter`] wrote. Nothing leaves it that did not open.
pub(super) struct SealedReader<R> {
    input: R,
    stream: Stream,
    number: u32,
    /// Opened, and read up to `at`.
    chunk: Zeroizing<Vec<u8>>,
    at: usize,
    /// What comes behind it, still sealed: whether there is more decides what the chunk before must be. The two buffers take
    /// turns, so both are wiped.
    ahead: Zeroizing<Vec<u8>>,
    ended: bool,
}

impl<R: Read> SealedReader<R> {
    pub(super) fn new(mut input: R, key: &DataKey, prefix: &[u8; PREFIX_LEN]) -> Result<Self, PortableError> {
        let mut ahead = Zeroizing::new(Vec::with_capacity(SEALED_LEN));
        fill_chunk(&mut input, &mut ahead)?;
        let chunk = Zeroizing::new(Vec::with_capacity(SEALED_LEN));
        Ok(Self { input, stream: stream(key, prefix), number: 0, chunk, at: 0, ahead, ended: false })
    }

    pub(super) fn take(&mut self, mut plain: &mut [u8]) -> Result<(), PortableError> {
        while !plain.is_empty() {
            if self.at == self.chunk.len() {
                self.open_next()?;
            }
            let now = plain.len().min(self.chunk.len() - self.at);
            plain[..now].copy_from_slice(&self.chunk[self.at..self.at + now]);
            self.at += now;
            plain = &mut plain[now..];
        }
        Ok(())
    }

    /// How many bytes of the stream were opened.
    pub(super) fn opened(&self) -> u64 {
        u64::from(self.number) * SEALED_LEN as u64
    }

    /// The caller has had all that was written: only the zeros of the last chunk may follow.
    pub(super) fn finish(mut self) -> Result<R, PortableError> {
        if self.number == 0 {
            self.open_next()?; // there is a chunk also where nothing was written
        }
        match self.ended && self.chunk[self.at..].iter().all(|byte| *byte == 0) {
            true => Ok(self.input),
            false => Err(PortableError::damaged("it goes on behind its end")),
        }
    }

    fn open_next(&mut self) -> Result<(), PortableError> {
        if self.ended {
            return Err(PortableError::damaged("it ends too early"));
        }
        std::mem::swap(&mut self.chunk, &mut self.ahead);
        self.at = 0;
        if self.chunk.len() < SEALED_LEN {
            return Err(PortableError::Truncated);
        }
        let behind = fill_chunk(&mut self.input, &mut self.ahead)?;
        self.ended = behind == 0;
        if !self.opens(self.ended) {
            // The chunk may still be a good one in the wrong place, which says more about what happened.
            return Err(match (self.opens(!self.ended), self.ended) {
                (true, true) => PortableError::Truncated,
                (true, false) => PortableError::damaged("something was written behind its end"),
                (false, _) => PortableError::damaged("one of its parts"),
            });
        }
        self.number = self.number.checked_add(1).ok_or(PortableError::damaged("it is too long"))?;
        Ok(())
    }

    /// Leaves the chunk sealed as it is unless it opens.
    fn opens(&mut self, last: bool) -> bool {
        self.stream.decrypt_in_place(self.number, last, b"", &mut *self.chunk).is_ok()
    }
}

fn fill_chunk(input: &mut impl Read, chunk: &mut Vec<u8>) -> Result<usize, PortableError> {
    chunk.resize(SEALED_LEN, 0);
    let got = fill(input, chunk)?;
    chunk.truncate(got);
    Ok(got)
}

/// Reads until the buffer is full or the input ends.
pub(super) fn fill(input: &mut impl Read, buffer: &mut [u8]) -> Result<usize, PortableError> {
    let mut got = 0;
    while got < buffer.len() {
        match input.read(&mut buffer[got..]) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
            Err(fault) => return Err(PortableError::io("read it")(fault)),
        }
    }
    Ok(got)
}

fn writing() -> impl FnOnce(io::Error) -> PortableError {
    PortableError::io("write it")
}

#[cfg(test)]
#[path = "sealed_tests.rs"]
mod tests;
