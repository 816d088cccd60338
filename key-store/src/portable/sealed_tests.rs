use std::{cell::Cell, rc::Rc};

use proptest::prelude::*;

use super::*;

const PREFIX: [u8; PREFIX_LEN] = [5; PREFIX_LEN];

fn key(byte: u8) -> DataKey {
    Box::new(Zeroizing::new([byte; 32]))
}

fn plain(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8 + 1).collect()
}

fn sealed(plain: &[u8]) -> Vec<u8> {
    let mut writer = SealedWriter::new(Vec::new(), &key(1), &PREFIX);
    writer.put(plain).unwrap();
    writer.finish().unwrap()
}

fn opened_with(sealed: &[u8], len: usize, key: &DataKey) -> Result<Vec<u8>, PortableError> {
    let mut reader = SealedReader::new(sealed, key, &PREFIX)?;
    let mut out = vec![0; len];
    reader.take(&mut out)?;
    reader.finish()?;
    Ok(out)
}

fn opened(sealed: &[u8], len: usize) -> Result<Vec<u8>, PortableError> {
    opened_with(sealed, len, &key(1))
}

fn chunks(sealed: &[u8]) -> Vec<Vec<u8>> {
    sealed.chunks(SEALED_LEN).map(<[u8]>::to_vec).collect()
}

#[test]
fn whatever_its_length_a_stream_opens_as_it_was_written_in_whole_chunks() {
    for len in [0, 1, CHUNK_LEN - 1, CHUNK_LEN, CHUNK_LEN + 1, 3 * CHUNK_LEN, 3 * CHUNK_LEN + 7] {
        let sealed = sealed(&plain(len));
        assert_eq!(sealed.len(), len.div_ceil(CHUNK_LEN).max(1) * SEALED_LEN, "{len}");
        assert!(opened(&sealed, len).unwrap() == plain(len), "{len}");
    }
}

#[test]
fn chunks_moved_repeated_left_out_or_of_another_file_do_not_open() {
    let whole = chunks(&sealed(&plain(4 * CHUNK_LEN)));
    let foreign = chunks(&{
        let mut writer = SealedWriter::new(Vec::new(), &key(1), &[6; PREFIX_LEN]);
        writer.put(&plain(4 * CHUNK_LEN)).unwrap();
        writer.finish().unwrap()
    });
    let changed = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut chunks = whole.clone();
        change(&mut chunks);
        opened(&chunks.concat(), 4 * CHUNK_LEN).unwrap_err()
    };
    type Change<'a> = &'a dyn Fn(&mut Vec<Vec<u8>>);
    let changes: [(&str, Change<'_>); 6] = [
        ("two swapped", &|chunks| chunks.swap(1, 2)),
        ("the last moved forward", &|chunks| chunks.swap(0, 3)),
        ("one repeated", &|chunks| chunks.insert(1, chunks[0].clone())),
        ("one left out", &|chunks| drop(chunks.remove(1))),
        ("one of another file", &|chunks| chunks[2] = foreign[2].clone()),
        ("the last repeated", &|chunks| chunks.push(chunks[3].clone())),
    ];
    for (what, change) in changes {
        let fault = changed(change);
        assert!(matches!(fault, PortableError::Damaged { .. }), "{what}: {fault}");
    }
}

#[test]
fn a_stream_written_on_to_is_damage_however_little_was_added() {
    let whole = sealed(&plain(CHUNK_LEN + 5));
    for added in [1, 100, SEALED_LEN - 1, SEALED_LEN, SEALED_LEN + 1] {
        let fault = opened(&[&whole[..], &vec![0; added]].concat(), CHUNK_LEN + 5).unwrap_err();
        assert!(
            matches!(fault, PortableError::Damaged { what } if what.contains("behind its end")),
            "{added}: {fault}"
        );
    }
}

#[test]
fn something_else_than_zeros_behind_what_was_read_is_damage() {
    let whole = sealed(&plain(10));
    assert!(matches!(opened(&whole, 9), Err(PortableError::Damaged { .. })));
    assert!(matches!(opened(&sealed(&plain(2 * CHUNK_LEN)), 9), Err(PortableError::Damaged { .. })));
    assert!(matches!(opened(&whole, CHUNK_LEN + 1), Err(PortableError::Damaged { .. })));
}

#[test]
fn no_byte_leaves_a_chunk_that_did_not_open() {
    let mut whole = sealed(&plain(3 * CHUNK_LEN));
    whole[2 * SEALED_LEN + 9] ^= 1;
    let mut reader = SealedReader::new(&whole[..], &key(1), &PREFIX).unwrap();
    let mut out = vec![0; 3 * CHUNK_LEN];
    assert!(reader.take(&mut out).is_err());
    assert!(out[..2 * CHUNK_LEN] == plain(3 * CHUNK_LEN)[..2 * CHUNK_LEN]);
    assert!(out[2 * CHUNK_LEN..].iter().all(|byte| *byte == 0));
}

/// Counts what passes through it.
struct Counted<T>(T, Rc<Cell<usize>>);

impl<T: Read> Read for Counted<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.0.read(buffer)?;
        self.1.set(self.1.get() + got);
        Ok(got)
    }
}

impl<T: Write> Write for Counted<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.1.set(self.1.get() + bytes.len());
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[test]
fn neither_end_ever_holds_more_than_two_chunks_however_long_the_stream() {
    const LEN: usize = 100 * CHUNK_LEN;
    let count = Rc::new(Cell::new(0));
    let mut writer = SealedWriter::new(Counted(Vec::new(), Rc::clone(&count)), &key(1), &PREFIX);
    for (n, part) in plain(LEN).chunks(1000).enumerate() {
        writer.put(part).unwrap();
        assert!(n * 1000 + part.len() <= count.get() + CHUNK_LEN, "more than a chunk is held back");
    }
    let whole = writer.finish().unwrap().0;

    count.set(0);
    let mut reader = SealedReader::new(Counted(&whole[..], Rc::clone(&count)), &key(1), &PREFIX).unwrap();
    let mut out = [0; 1000];
    for n in 0..LEN / 1000 {
        reader.take(&mut out).unwrap();
        assert!(count.get() <= (n + 1) * 1000 + 2 * SEALED_LEN + 16 * 101, "read too far ahead");
    }
    assert!(reader.chunk.capacity() <= SEALED_LEN && reader.ahead.capacity() <= SEALED_LEN);
}

/// A stream of four chunks, made once.
fn four() -> &'static [u8] {
    static ONCE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    ONCE.get_or_init(|| sealed(&plain(3 * CHUNK_LEN + 100)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_flipped_bit_is_damage_and_not_taken_for_truncation(at: prop::sample::Index, bit in 0..8u8) {
        let mut whole = four().to_vec();
        let at = at.index(whole.len());
        whole[at] ^= 1 << bit;
        let fault = opened(&whole, 3 * CHUNK_LEN + 100).unwrap_err();
        prop_assert!(matches!(fault, PortableError::Damaged { .. }), "{}", fault);
    }

    #[test]
    fn a_stream_cut_anywhere_is_truncated_and_not_taken_for_damage(keep: prop::sample::Index, whole_chunks: bool) {
        let keep = keep.index(four().len());
        let keep = if whole_chunks { keep / SEALED_LEN * SEALED_LEN } else { keep };
        let fault = opened(&four()[..keep], 3 * CHUNK_LEN + 100).unwrap_err();
        prop_assert!(matches!(fault, PortableError::Truncated), "{}: {}", keep, fault);
    }

    #[test]
    fn it_does_not_matter_in_which_portions_it_is_written(cuts in prop::collection::vec(0..200_000usize, 0..8)) {
        let whole = plain(200_000);
        let mut cuts = cuts;
        cuts.extend([0, whole.len()]);
        cuts.sort_unstable();
        let mut writer = SealedWriter::new(Vec::new(), &key(1), &PREFIX);
        for pair in cuts.windows(2) {
            writer.put(&whole[pair[0]..pair[1]]).unwrap();
        }
        prop_assert!(writer.finish().unwrap() == sealed(&whole));
    }
}
