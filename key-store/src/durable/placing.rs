//! Files that take their places together: all of them or none, whatever happens in between.
//!
//! A rename replaces one file or folder. Where several belong together (a store and the identity that it is for) they are
//! made beside their places, in a folder whose own rename is the moment that counts:
//! ```text
//! placing.part/   being made; worthless if nobody is at it
//!   new/          what is to be placed
//! placing/        whole and on disk, with a plan: from here on it will all be placed, by whoever comes next
//!   plan, new/
//!   old/          what was in those places
//! ```
//! Whoever is about to look at such a place calls [`Placing::finish`] first.

use std::{
    fs,
    io::{self, ErrorKind},
    path::{Component, Path, PathBuf},
};

use crate::{
    StoreError,
    sled_store::{StoreLock, files},
};

const PART: &str = "placing.part";
const PLACING: &str = "placing";
const PLAN: &str = "plan";
const NEW: &str = "new";
const OLD: &str = "old";
const LOCK: &str = "lock";

/// What becomes of the files whose places are taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OldFiles<'a> {
    /// They are kept in a folder of this name beside them; it must not be there yet.
    Keep(&'a str),
    /// They are removed. Their bytes may stay on the disk until it writes something else there.
    Remove,
}

/// Files being made, for places in one folder. Dropped without [`commit`](Self::commit) they are removed.
#[derive(Debug)]
pub struct Placing {
    root: PathBuf,
    lock: Option<StoreLock>,
}

impl Placing {
    /// Begins for the folder `root`, which must exist. What was committed before is finished first; what was not is removed.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while another process is at it; [`StoreError::Io`].
    pub fn begin(root: &Path) -> Result<Self, StoreError> {
        Self::finish(root)?;
        let part = root.join(PART);
        let action = || format!("make the folder {}", part.display());
        files::create_private_dir(&part).map_err(StoreError::io(action()))?;
        let lock = StoreLock::take(&part)?;
        let make = || {
            clear(&part)?;
            files::create_private_dir(&part.join(NEW))?;
            files::create_private_dir(&part.join(OLD))
        };
        make().map_err(StoreError::io(action()))?;
        Ok(Self { root: root.to_owned(), lock: Some(lock) })
    }

    /// Where the files are made, under the names of their places.
    pub fn new_files(&self) -> PathBuf {
        self.root.join(PART).join(NEW)
    }

    /// Puts what was made under each of `names` (paths below the folder) into its place. Where nothing was made, the place will
    /// be empty.
    ///
    /// # Errors
    /// [`StoreError::Io`]; then all is as it was, or the next [`finish`](Self::finish) goes on.
    pub fn commit(mut self, names: &[&str], old: OldFiles<'_>) -> Result<(), StoreError> {
        let plan = Plan {
            keep: match old {
                OldFiles::Keep(name) => Some(name.to_owned()),
                OldFiles::Remove => None,
            },
            steps: names.iter().map(|name| (self.new_files().join(name).exists(), (*name).to_owned())).collect(),
        };
        let part = self.root.join(PART);
        let decide = || {
            fs::write(part.join(PLAN), plan.encode())?;
            sync_all_below(&part)?;
            fs::rename(&part, self.root.join(PLACING))?;
            files::sync_dir(&self.root)
        };
        let lock = self.lock.take();
        let fault = || StoreError::io(format!("place files in {}", self.root.display()));
        decide().map_err(fault())?;
        let placed = place_all(&self.root, &plan).inspect_err(|_| {
            // A place that cannot be taken (a mount point, say) could not be taken later either. Where this fails as well, the
            // next one who comes tries again.
            let _ = take_back(&self.root, &plan);
        });
        let done = placed.and_then(|()| clean_up(&self.root, &plan)).map_err(fault());
        drop(lock);
        done
    }

    /// Finishes what was committed in the folder `root` and interrupted. Does nothing where nothing was.
    ///
    /// # Errors
    /// [`StoreError::InUse`] while another process is at it; [`StoreError::Io`]; [`StoreError::Damaged`].
    pub fn finish(root: &Path) -> Result<(), StoreError> {
        let placing = root.join(PLACING);
        if !placing.exists() {
            return Ok(());
        }
        match StoreLock::take(&placing) {
            Ok(lock) => {
                let done = go_on(root);
                drop(lock);
                done
            }
            // Whoever was at it has just finished.
            Err(StoreError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(()),
            Err(fault) => Err(fault),
        }
    }
}

impl Drop for Placing {
    fn drop(&mut self) {
        if self.lock.is_some() {
            // What remains is removed when the next one begins.
            let _ = files::remove_tree(&self.root.join(PART));
        }
    }
}

/// What is to be done; each step can be taken again without harm.
#[derive(PartialEq, Eq, Debug)]
struct Plan {
    keep: Option<String>,
    /// Whether something new takes the place, and the place.
    steps: Vec<(bool, String)>,
}

impl Plan {
    fn encode(&self) -> String {
        let keep = self.keep.iter().map(|name| format!("keep {name}\n"));
        let steps = self.steps.iter().map(|(put, name)| format!("{} {name}\n", if *put { "put" } else { "take" }));
        keep.chain(steps).collect()
    }

    fn decode(text: &str) -> Option<Self> {
        let mut plan = Self { keep: None, steps: Vec::new() };
        for line in text.lines() {
            let (word, name) = line.split_once(' ')?;
            // Whoever can write here can do worse, but it costs nothing to stay inside the folder.
            if !Path::new(name).components().all(|part| matches!(part, Component::Normal(_))) {
                return None;
            }
            match word {
                "keep" => plan.keep = Some(name.to_owned()),
                "put" => plan.steps.push((true, name.to_owned())),
                "take" => plan.steps.push((false, name.to_owned())),
                _ => return None,
            }
        }
        Some(plan)
    }
}

fn go_on(root: &Path) -> Result<(), StoreError> {
    let placing = root.join(PLACING);
    let fault = || StoreError::io(format!("place files in {}", root.display()));
    let text = match fs::read_to_string(placing.join(PLAN)) {
        Ok(text) => text,
        // All was placed, and part of the folder is removed already.
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return files::remove_tree(&placing).map_err(fault());
        }
        Err(error) => return Err(fault()(error)),
    };
    let plan = Plan::decode(&text).ok_or_else(|| StoreError::damaged(placing.join(PLAN).display().to_string()))?;
    place_all(root, &plan).and_then(|()| clean_up(root, &plan)).map_err(fault())
}

fn place_all(root: &Path, plan: &Plan) -> io::Result<()> {
    for (put, name) in &plan.steps {
        step(root, &root.join(PLACING), *put, name)?;
    }
    files::sync_dir(root)
}

/// All is in its place.
fn clean_up(root: &Path, plan: &Plan) -> io::Result<()> {
    let placing = root.join(PLACING);
    if let Some(keep) = &plan.keep
        && fs::read_dir(placing.join(OLD)).is_ok_and(|mut found| found.next().is_some())
    {
        fs::rename(placing.join(OLD), root.join(keep))?;
    }
    fs::remove_file(placing.join(PLAN))?;
    files::remove_tree(&placing)
}

/// Not all could be placed: what was there before comes back, and what was decided is not.
fn take_back(root: &Path, plan: &Plan) -> io::Result<()> {
    let placing = root.join(PLACING);
    for (put, name) in plan.steps.iter().rev() {
        let (new, place, old) = (placing.join(NEW).join(name), root.join(name), placing.join(OLD).join(name));
        if *put && !new.exists() {
            fs::rename(&place, &new)?;
        }
        if old.exists() {
            fs::rename(&old, &place)?;
        }
    }
    files::sync_dir(root)?;
    fs::rename(&placing, root.join(PART))?;
    files::remove_tree(&root.join(PART))
}

/// Idempotent: as long as the new file is not in its place, what is there is the old one.
fn step(root: &Path, placing: &Path, put: bool, name: &str) -> io::Result<()> {
    let (new, place, old) = (placing.join(NEW).join(name), root.join(name), placing.join(OLD).join(name));
    if put && !new.exists() {
        return Ok(());
    }
    if place.exists() && !old.exists() {
        if let Some(parent) = old.parent() {
            files::create_private_dir(parent)?;
        }
        fs::rename(&place, &old)?;
    }
    if put {
        if let Some(parent) = place.parent() {
            files::create_private_dir(parent)?;
        }
        fs::rename(&new, &place)?;
    }
    for parent in [place.parent(), old.parent()].into_iter().flatten().filter(|parent| parent.exists()) {
        files::sync_dir(parent)?;
    }
    Ok(())
}

/// All but the lock, which is held.
fn clear(part: &Path) -> io::Result<()> {
    for entry in fs::read_dir(part)? {
        let entry = entry?;
        if entry.file_name() == LOCK {
            continue;
        }
        if entry.file_type()?.is_dir() { fs::remove_dir_all(entry.path())? } else { fs::remove_file(entry.path())? }
    }
    Ok(())
}

fn sync_all_below(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_all_below(&entry.path())?
        } else {
            fs::File::open(entry.path())?.sync_all()?
        }
    }
    files::sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: PathBuf) -> Option<String> {
        fs::read_to_string(path).ok()
    }

    /// Places `a` and `b/c` anew and empties `d`.
    fn committed(root: &Path) {
        fs::create_dir(root.join("b")).unwrap();
        for name in ["a", "b/c", "d", "e"] {
            fs::write(root.join(name), format!("old {name}")).unwrap();
        }
        let placing = Placing::begin(root).unwrap();
        fs::create_dir(placing.new_files().join("b")).unwrap();
        for name in ["a", "b/c"] {
            fs::write(placing.new_files().join(name), format!("new {name}")).unwrap();
        }
        placing.commit(&["a", "b/c", "d"], OldFiles::Keep("replaced")).unwrap();
    }

    fn check(root: &Path) {
        assert_eq!(text(root.join("a")).unwrap(), "new a");
        assert_eq!(text(root.join("b/c")).unwrap(), "new b/c");
        assert_eq!(text(root.join("d")), None);
        assert_eq!(text(root.join("e")).unwrap(), "old e");
        for name in ["a", "b/c", "d"] {
            assert_eq!(text(root.join("replaced").join(name)).unwrap(), format!("old {name}"));
        }
        assert!(!root.join(PLACING).exists() && !root.join(PART).exists());
    }

    #[test]
    fn new_files_take_their_places_and_the_old_ones_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        committed(dir.path());
        check(dir.path());
    }

    #[test]
    fn wherever_it_stops_after_the_decision_the_next_one_who_comes_finishes_it() {
        // As it was decided, and then the first so many steps of it: each leaves a state in which a process can die.
        for done in 0..=6 {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path();
            let placing = root.join(PLACING);
            for folder in ["b", "placing/new/b", "placing/old/b"] {
                fs::create_dir_all(root.join(folder)).unwrap();
            }
            for name in ["a", "b/c", "d", "e"] {
                fs::write(root.join(name), format!("old {name}")).unwrap();
            }
            for name in ["a", "b/c"] {
                fs::write(placing.join(NEW).join(name), format!("new {name}")).unwrap();
            }
            fs::write(placing.join(PLAN), "keep replaced\nput a\nput b/c\ntake d\n").unwrap();
            let moves = [
                (root.join("a"), placing.join("old/a")),
                (placing.join("new/a"), root.join("a")),
                (root.join("b/c"), placing.join("old/b/c")),
                (placing.join("new/b/c"), root.join("b/c")),
                (root.join("d"), placing.join("old/d")),
                (placing.join("old"), root.join("replaced")),
            ];
            for (from, to) in moves.iter().take(done) {
                fs::rename(from, to).unwrap();
            }
            Placing::finish(root).unwrap();
            check(root);
            Placing::finish(root).unwrap();
            check(root);
        }
    }

    #[test]
    fn what_was_not_committed_changes_nothing_and_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "old").unwrap();
        let placing = Placing::begin(dir.path()).unwrap();
        fs::write(placing.new_files().join("a"), "new").unwrap();
        drop(placing);
        assert_eq!(text(dir.path().join("a")).unwrap(), "old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);

        // As a process that was killed leaves it.
        fs::create_dir_all(dir.path().join("placing.part/new")).unwrap();
        fs::write(dir.path().join("placing.part/new/stale"), "x").unwrap();
        Placing::finish(dir.path()).unwrap();
        let placing = Placing::begin(dir.path()).unwrap();
        assert_eq!(fs::read_dir(placing.new_files()).unwrap().count(), 0);
    }

    #[test]
    fn two_at_once_are_told_apart_and_old_files_are_removed_where_that_is_asked() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "old").unwrap();
        let placing = Placing::begin(dir.path()).unwrap();
        assert!(matches!(Placing::begin(dir.path()), Err(StoreError::InUse { .. })));
        fs::write(placing.new_files().join("a"), "new").unwrap();
        placing.commit(&["a"], OldFiles::Remove).unwrap();
        assert_eq!(text(dir.path().join("a")).unwrap(), "new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn where_one_place_cannot_be_taken_all_is_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "d", "f"] {
            fs::write(dir.path().join(name), format!("old {name}")).unwrap();
        }
        let placing = Placing::begin(dir.path()).unwrap();
        fs::create_dir(placing.new_files().join("f")).unwrap();
        for name in ["a", "b", "f/x"] {
            fs::write(placing.new_files().join(name), "new").unwrap();
        }
        // `f` is a file, so nothing can lie below it.
        let fault = placing.commit(&["a", "b", "d", "f/x"], OldFiles::Remove).unwrap_err();
        assert!(matches!(fault, StoreError::Io { .. }), "{fault}");
        for name in ["a", "d", "f"] {
            assert_eq!(text(dir.path().join(name)).unwrap(), format!("old {name}"));
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
        Placing::finish(dir.path()).unwrap();
        assert_eq!(text(dir.path().join("a")).unwrap(), "old a");
    }

    #[test]
    fn a_plan_that_leads_out_of_the_folder_is_damage() {
        for plan in ["put ../a\n", "put /a\n", "jump a\n", "put\n"] {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join(PLACING)).unwrap();
            fs::write(dir.path().join(PLACING).join(PLAN), plan).unwrap();
            assert!(matches!(Placing::finish(dir.path()), Err(StoreError::Damaged { .. })), "{plan:?}");
        }
    }
}
