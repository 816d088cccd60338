//! Are sled's files what we left? Asked before sled sees them, for sled repairs by dropping, and never says so.
//!
//! After a clean close the files must be byte for byte what they were. After a crash that cannot be known, so sled opens
//! a copy: if every acknowledged change is there, every record opens, and there are as many as there should be, then the
//! original will recover the same way. If not, the copy is thrown away and the original stays as it is. The check reads
//! everything once and needs the space of a second copy while it runs; it happens after a crash only.

use std::{fs, io, path::Path};

use super::{
    files,
    seal::Seal,
    shelf,
    state::{Facts, State},
};
use crate::StoreError;

pub(super) fn check(dir: &Path, state: &State, seal: &Seal, cache_bytes: u64) -> Result<(), StoreError> {
    let facts = state.facts();
    files::remove_tree(&dir.join(files::SCRATCH)).map_err(StoreError::io("remove an earlier recovery's copy"))?;
    if facts.closed.is_some() { check_closed(dir, facts) } else { check_crashed(dir, facts, seal, cache_bytes) }
}

fn check_closed(dir: &Path, facts: Facts) -> Result<(), StoreError> {
    let (Some(left), sled) = (facts.closed, dir.join(files::SLED)) else {
        return Ok(());
    };
    let action = "read the key store's files";
    let db_len = files::len(&sled.join("db")).map_err(StoreError::io(action))?;
    if db_len < facts.db_len {
        return Err(truncated_log(facts, db_len));
    }
    let found = match files::measure(&sled) {
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => files::Measure::default(),
        found => found.map_err(StoreError::io(action))?,
    };
    if found.len < left.len {
        let file = "the key store's sled folder".to_owned();
        return Err(StoreError::Truncated { file, expected: left.len, found: found.len });
    }
    if found != left {
        return Err(StoreError::damaged("the key store's sled folder"));
    }
    Ok(())
}

fn check_crashed(dir: &Path, facts: Facts, seal: &Seal, cache_bytes: u64) -> Result<(), StoreError> {
    let sled = dir.join(files::SLED);
    let db_len = files::len(&sled.join("db")).map_err(StoreError::io("read the key store's files"))?;
    if db_len == 0 {
        if facts.seq == 0 {
            return Ok(()); // The crash came before the first change: sled starts afresh.
        }
        return Err(truncated_log(facts, db_len));
    }
    let scratch = dir.join(files::SCRATCH);
    let copy = || {
        files::copy_tree(&sled, &scratch)?;
        drop_unfinished_snapshots(&scratch)
    };
    let outcome = copy()
        .map_err(StoreError::io("copy the key store's files to check them after a crash"))
        .and_then(|()| shelf::guarded(|| inspect(&scratch, facts, seal, cache_bytes)));
    files::remove_tree(&scratch).map_err(StoreError::io("remove the recovery's copy"))?;
    match outcome {
        Ok(()) => drop_unfinished_snapshots(&sled).map_err(StoreError::io("clean up after a crash")),
        Err(StoreError::Damaged { .. }) if db_len < facts.db_len => Err(truncated_log(facts, db_len)),
        Err(fault) => Err(fault),
    }
}

/// Does everything acknowledged come back?
fn inspect(copy: &Path, facts: Facts, seal: &Seal, cache_bytes: u64) -> Result<(), StoreError> {
    let db = shelf::open_sled(copy, cache_bytes)?;
    let tally = shelf::read_tally(&db, seal)?;
    let complete = tally.seq >= facts.seq && shelf::count_records(&db, seal)? == tally.records;
    if complete { Ok(()) } else { Err(StoreError::damaged("the key store's sled folder")) }
}

/// sled writes `snap.N.generating` and renames it; a crash in between leaves a name sled takes for its newest snapshot.
fn drop_unfinished_snapshots(sled: &Path) -> io::Result<()> {
    for entry in fs::read_dir(sled)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "generating") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn truncated_log(facts: Facts, found: u64) -> StoreError {
    StoreError::Truncated { file: "the key store's log sled/db".to_owned(), expected: facts.db_len, found }
}
