//! What a `veilcast run` answers to a command: what it prints, piece by piece, and its exit code, as it happens.
//!
//! ```text
//! kind 1 | length 4, big-endian | that many bytes
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Most bytes in one frame; longer pieces are split.
pub(crate) const MOST: usize = 64 * 1024;
const HEAD: usize = 5;

/// One piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// For stdout.
    Out(Bytes),
    /// For stderr.
    Err(Bytes),
    /// Of the file that the command is to write.
    File(Bytes),
    /// How far it is, for a bar: of which step how much of how much.
    Progress { step: u8, done: u64, total: u64 },
    /// What has to be agreed to before it is done; it was not done.
    Ask(Bytes),
    /// The last one: its exit code.
    Exit(u8),
}

impl Frame {
    /// On the wire. A piece that is longer than a frame may be is a mistake of ours, and would be refused.
    pub(crate) fn encode(&self) -> Bytes {
        let (kind, content) = match self {
            Self::Out(bytes) => (0, bytes.clone()),
            Self::Err(bytes) => (1, bytes.clone()),
            Self::File(bytes) => (2, bytes.clone()),
            Self::Progress { step, done, total } => {
                let mut content = BytesMut::with_capacity(17);
                content.put_u8(*step);
                content.put_u64(*done);
                content.put_u64(*total);
                (3, content.freeze())
            }
            Self::Ask(bytes) => (4, bytes.clone()),
            Self::Exit(code) => (5, Bytes::copy_from_slice(&[*code])),
        };
        let mut frame = BytesMut::with_capacity(HEAD + content.len());
        frame.put_u8(kind);
        frame.put_u32(u32::try_from(content.len()).unwrap_or(u32::MAX));
        frame.put(content);
        frame.freeze()
    }

    /// The next frame of what came so far; `None` where it is not whole yet.
    ///
    /// # Errors
    /// What came is none.
    pub(crate) fn take(from: &mut BytesMut) -> Result<Option<Self>, NoFrame> {
        let Some((kind, length)) = from.split_first_chunk::<HEAD>().map(|([kind, length @ ..], _)| (*kind, *length))
        else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(length) as usize;
        if length > MOST {
            return Err(NoFrame);
        }
        if from.len() < HEAD + length {
            return Ok(None);
        }
        from.advance(HEAD);
        let mut content = from.split_to(length).freeze();
        Ok(Some(match (kind, length) {
            (0, _) => Self::Out(content),
            (1, _) => Self::Err(content),
            (2, _) => Self::File(content),
            (3, 17) => Self::Progress { step: content.get_u8(), done: content.get_u64(), total: content.get_u64() },
            (4, _) => Self::Ask(content),
            (5, 1) => Self::Exit(content.get_u8()),
            _ => return Err(NoFrame),
        }))
    }
}

/// What came is no frame.
#[derive(Debug, thiserror::Error)]
#[error("its answer makes no sense")]
pub(crate) struct NoFrame;

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<Frame> {
        vec![
            Frame::Out(Bytes::from_static(b"a line\n")),
            Frame::Err(Bytes::new()),
            Frame::File(vec![7; MOST].into()),
            Frame::Progress { step: 1, done: 2, total: u64::MAX },
            Frame::Ask(Bytes::from_static(b"really?")),
            Frame::Exit(3),
        ]
    }

    #[test]
    fn frames_come_back_as_they_were_however_they_are_cut_on_the_way() {
        let wire: Vec<u8> = all().iter().flat_map(|frame| frame.encode().to_vec()).collect();
        for size in [1, 7, 4096] {
            let (mut came, mut found) = (BytesMut::new(), Vec::new());
            for piece in wire.chunks(size) {
                came.extend_from_slice(piece);
                while let Some(frame) = Frame::take(&mut came).unwrap() {
                    found.push(frame);
                }
            }
            assert_eq!(found, all());
            assert!(came.is_empty());
        }
    }

    #[test]
    fn what_is_no_frame_or_too_long_is_refused_before_it_is_waited_for() {
        for wrong in [&[9, 0, 0, 0, 0][..], &[5, 0, 0, 0, 2, 1, 1], &[3, 0, 0, 0, 1, 1], &[0, 0, 1, 0, 1]] {
            assert!(Frame::take(&mut BytesMut::from(wrong)).is_err(), "{wrong:?}");
        }
        assert_eq!(Frame::take(&mut BytesMut::from(&[0, 0, 0, 0, 2, b'a'][..])).unwrap(), None);
    }
}
