//! Bytes on disk that are not what was written.

use super::*;

/// A store of one partition in blocks, closed.
fn written(dir: &Path) -> StreamPart {
    let part = part("s", 0);
    open(dir).append(NOW, &messages(1, &part, 60)).unwrap();
    part
}

fn read_all(dir: &Path, part: &StreamPart) -> Result<Page, StorageError> {
    SledMessageStore::open(dir, small())?.read(&Query::everything(part.clone()))
}

#[test]
fn a_block_with_any_byte_changed_or_cut_anywhere_is_damaged_and_nothing_of_it_is_given() {
    let dir = tempfile::tempdir().unwrap();
    let part = written(dir.path());
    let file = block_files(dir.path()).remove(1);
    let whole = fs::read(&file).unwrap();
    let store = SledMessageStore::open(dir.path(), small()).unwrap();
    let held = store.view().part(&part);
    let info = held.blocks.values().nth(1).unwrap();
    for at in (1..whole.len()).step_by(7) {
        let mut changed = whole.clone();
        changed[at] ^= 0x20;
        for bytes in [&changed, &whole[..at]] {
            fs::write(&file, bytes).unwrap();
            assert!(matches!(store.files.load(info), Err(StorageError::Damaged { .. })), "byte {at}");
        }
    }
    assert!(matches!(store.read(&Query::everything(part.clone())), Err(StorageError::Damaged { .. })));
    fs::write(&file, &whole).unwrap();
    assert_eq!(store.read(&Query::everything(part)).unwrap().messages.len(), 60);
}

#[test]
fn a_block_in_the_place_of_another_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let part = written(dir.path());
    let files = block_files(dir.path());
    fs::copy(&files[0], &files[1]).unwrap();
    assert!(matches!(read_all(dir.path(), &part), Err(StorageError::Damaged { .. })));
}

#[test]
fn a_block_of_a_later_version_is_said_to_be_one() {
    let dir = tempfile::tempdir().unwrap();
    let part = written(dir.path());
    let file = block_files(dir.path()).remove(0);
    let mut bytes = fs::read(&file).unwrap();
    bytes[0] = 2;
    fs::write(&file, bytes).unwrap();
    let found = read_all(dir.path(), &part);
    assert!(matches!(found, Err(StorageError::NewerVersion { found: 2, supported: 1 })), "{found:?}");
}

#[test]
fn a_block_that_is_missing_is_noticed_when_the_store_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let part = written(dir.path());
    fs::remove_file(block_files(dir.path()).remove(0)).unwrap();
    assert!(matches!(read_all(dir.path(), &part), Err(StorageError::Damaged { .. })));
}

#[test]
fn an_index_that_makes_no_sense_or_is_of_a_later_version_is_told_apart() {
    let changed = |change: &dyn Fn(&[u8]) -> Vec<u8>| {
        let dir = tempfile::tempdir().unwrap();
        let part = written(dir.path());
        let db = index(dir.path());
        let (key, value) = db.range(keys::Keys::BLOCKS).nth(1).unwrap().unwrap();
        db.insert(key, change(&value)).unwrap();
        drop(db);
        read_all(dir.path(), &part).map(|page| page.messages.len())
    };
    assert!(matches!(changed(&<[u8]>::to_vec), Ok(60)));
    let newer = changed(&|value| [&[2], &value[1..]].concat());
    assert!(matches!(newer, Err(StorageError::NewerVersion { found: 2, supported: 1 })), "{newer:?}");
    for cut in [0, 1, 5, 16, 17, 64, 112] {
        assert!(matches!(changed(&|value| value[..cut].to_vec()), Err(StorageError::Damaged { .. })), "cut at {cut}");
    }
    for at in [1, 4, 5, 8, 17, 65] {
        let found = changed(&|value| {
            let mut value = value.to_vec();
            value[at] ^= 0x40;
            value
        });
        assert!(matches!(found, Err(StorageError::Damaged { .. })), "byte {at}: {found:?}");
    }
}

#[test]
fn no_input_of_the_corpus_breaks_the_decoder_of_a_block() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/stored_block");
    let inputs = fs::read_dir(folder).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap());
    let (taken, refused): (Vec<_>, Vec<_>) = inputs.partition(|input| crate::fuzzing::stored_block(input));
    assert!(!taken.is_empty() && !refused.is_empty(), "{} taken, {} not", taken.len(), refused.len());
}
