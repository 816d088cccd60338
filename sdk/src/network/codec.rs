//! Requests and answers on a stream: a big-endian length, then that many bytes.

use std::io;

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::{StreamProtocol, request_response};

/// Reads and writes opaque messages, refusing a length above the limit before taking memory for it.
#[derive(Debug, Clone)]
pub(super) struct Codec {
    pub(super) max_request: usize,
    pub(super) max_answer: usize,
}

impl request_response::Codec for Codec {
    type Protocol = StreamProtocol;
    type Request = Vec<u8>;
    type Response = Vec<u8>;

    async fn read_request<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io, self.max_request).await
    }

    async fn read_response<T>(&mut self, _: &StreamProtocol, io: &mut T) -> io::Result<Vec<u8>>
    where
        T: AsyncRead + Unpin + Send,
    {
        read(io, self.max_answer).await
    }

    async fn write_request<T>(&mut self, _: &StreamProtocol, io: &mut T, request: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &request, self.max_request).await
    }

    async fn write_response<T>(&mut self, _: &StreamProtocol, io: &mut T, answer: Vec<u8>) -> io::Result<()>
    where
        T: AsyncWrite + Unpin + Send,
    {
        write(io, &answer, self.max_answer).await
    }
}

async fn read<T: AsyncRead + Unpin + Send>(io: &mut T, limit: usize) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    io.read_exact(&mut length).await?;
    let length = u32::from_be_bytes(length);
    if usize::try_from(length).map_or(true, |length| length > limit) {
        return Err(too_large(length.into(), limit));
    }
    // Grows with what arrives: a claimed length alone costs nothing.
    let mut bytes = Vec::new();
    io.take(length.into()).read_to_end(&mut bytes).await?;
    if bytes.len() as u64 != u64::from(length) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

async fn write<T: AsyncWrite + Unpin + Send>(io: &mut T, bytes: &[u8], limit: usize) -> io::Result<()> {
    let length = u32::try_from(bytes.len())
        .ok()
        .filter(|_| bytes.len() <= limit)
        .ok_or_else(|| too_large(bytes.len() as u64, limit))?;
    // One write: each makes a frame of its own on the connection, encrypted and sent for itself.
    let mut whole = Vec::with_capacity(4 + bytes.len());
    whole.extend_from_slice(&length.to_be_bytes());
    whole.extend_from_slice(bytes);
    io.write_all(&whole).await?;
    io.flush().await
}

fn too_large(length: u64, limit: usize) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{length} bytes announced, {limit} allowed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_written_is_read_back() {
        let mut wire = Vec::new();
        write(&mut wire, b"hello", 5).await.expect("fits");
        assert_eq!(wire, b"\0\0\0\x05hello");
        assert_eq!(read(&mut wire.as_slice(), 5).await.expect("fits"), b"hello");
    }

    #[tokio::test]
    async fn a_length_above_the_limit_is_refused_before_its_bytes() {
        let kind = |result: io::Result<Vec<u8>>| result.expect_err("too long").kind();
        assert_eq!(kind(read(&mut &b"\xff\xff\xff\xff"[..], 5).await), io::ErrorKind::InvalidData);
        assert_eq!(kind(read(&mut &b"\0\0\0\x06hello!"[..], 5).await), io::ErrorKind::InvalidData);
        assert!(write(&mut Vec::new(), b"hello!", 5).await.is_err());
    }

    #[tokio::test]
    async fn a_message_cut_short_is_an_error() {
        for wire in [&b""[..], b"\0\0", b"\0\0\0\x05hell"] {
            assert!(read(&mut &wire[..], 5).await.is_err());
        }
    }
}
