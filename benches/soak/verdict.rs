//! What a run comes to: every check with its figures, and whether it held.

use std::fs;
use std::path::Path;

use veilcast_benches::Outcome;

use crate::book::Book;
use crate::cast::SECRET_WORD;
use crate::program::{PASSPHRASE, Place};
use crate::run::{Findings, STORED};
use crate::watch::{ENOUGH, Life, MEMORY, MIB, Use, median, trends};

/// Faults that are told one by one.
const MOST: usize = 50;

/// The checks of a run.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    lines: Vec<(bool, String)>,
}

impl Verdict {
    pub(crate) fn of(findings: &Findings, book: &Book, place: &Place) -> Outcome<Self> {
        let mut verdict = Self::default();
        verdict.reading(book);
        verdict.refusing(findings, book);
        verdict.auditing(findings);
        verdict.storing(findings);
        verdict.using(findings);
        verdict.secrets(findings, place)?;
        Ok(verdict)
    }

    pub(crate) fn is_good(&self) -> bool {
        self.lines.iter().all(|(good, _)| *good)
    }

    pub(crate) fn print(&self) {
        for (good, line) in &self.lines {
            println!("{}  {line}", if *good { "ok   " } else { "FAULT" });
        }
    }

    fn add(&mut self, good: bool, line: impl Into<String>) {
        self.lines.push((good, line.into()));
    }

    fn reading(&mut self, book: &Book) {
        let (faults, totals) = book.audit();
        for fault in faults.iter().take(MOST) {
            self.add(false, fault.clone());
        }
        if faults.len() > MOST {
            self.add(false, format!("and {} more", faults.len() - MOST));
        }
        self.add(
            faults.is_empty() && totals.published > 0 && totals.read > totals.published,
            format!(
                "reading, each message once, in order, and none after its reader's time: {} published ({} cut off by the end of a life), {} \
                 read in {} stretches of time; {} ends of paid time, {} revocations; {} gaps told to subscribers of the SDK",
                totals.published,
                totals.unacknowledged,
                totals.read,
                totals.stretches,
                totals.ends,
                totals.revocations,
                book.events("", "gap")
            ),
        );
    }

    fn refusing(&mut self, findings: &Findings, book: &Book) {
        let refused = book.events("stranger", "key refused");
        self.add(refused > 0, format!("the stranger was refused keys {refused} times and read nothing"));
        let dropped = findings.dropped;
        self.add(
            dropped > 0 || findings.rounds < 16,
            format!("{dropped} readers who took nothing were let go in the last life"),
        );
    }

    fn auditing(&mut self, findings: &Findings) {
        let audits = &findings.audits;
        let grows = audits.windows(2).all(|pair| pair[0] <= pair[1]) && audits.first().is_some_and(|first| *first > 0);
        let (restarts, killed) = (findings.restarts, findings.killed);
        self.add(
            grows && audits.len() == restarts + 1,
            format!(
                "the audit log was whole after each of {restarts} restarts ({killed} by kill -9), in a restored backup and at the end: entries \
                 {audits:?}"
            ),
        );
    }

    fn storing(&mut self, findings: &Findings) {
        let most = findings.stored.iter().copied().max().unwrap_or_default();
        self.add(
            most > 0 && most <= STORED,
            format!("messages stored: {:.2} MB at most, of {:.2} allowed", most as f64 / 1e6, STORED as f64 / 1e6),
        );
        let (first, last) = (findings.store_bytes.first().copied(), findings.store_bytes.last().copied());
        let mib = |bytes: Option<u64>| bytes.unwrap_or_default() as f64 / MIB;
        self.add(
            true,
            format!(
                "store of keys and grants: {:.1} MiB after the first round, {:.1} at the end",
                mib(first),
                mib(last)
            ),
        );
    }

    fn using(&mut self, findings: &Findings) {
        for (number, life) in findings.lives.iter().enumerate() {
            self.life(number + 1, life);
        }
        let longest = findings.lives.iter().filter(|life| life.len() >= ENOUGH).count();
        if longest == 0 {
            self.add(true, format!("no life of {ENOUGH} s: whether memory stays flat is not judged"));
        }
        self.across(&findings.lives);
    }

    fn life(&mut self, number: usize, life: &Life) {
        let highest = life.iter().map(|used| used.memory).max().unwrap_or_default();
        let middle = |of| median(life, of);
        let mib = |of| middle(of) as f64 / MIB;
        let (memory, resident, heap) = (mib(|used| used.memory), mib(|used| used.resident), mib(|used| used.heap));
        let (files, threads) = (middle(|used: &Use| used.files), middle(|used: &Use| used.threads));
        self.add(
            true,
            format!(
                "life {number}, {} s: median {memory:.1} MiB ({:.1} at most; {resident:.1} with files, {heap:.1} allocated), {files} files, \
                 {threads} threads",
                life.len(),
                highest as f64 / MIB
            ),
        );
        for trend in trends(life).into_iter().flatten() {
            let (before, after) = (trend.before, trend.after);
            let words = match trend.name {
                "memory" | "heap" => format!("{:.1} MiB, then {:.1}", before as f64 / MIB, after as f64 / MIB),
                _ => format!("{before}, then {after}"),
            };
            self.add(trend.is_flat(), format!("life {number}, {}, second quarter and last: {words}", trend.name));
        }
    }

    /// A life begins where the one before began: what is on disk does not make the next one larger. The first has empty stores, whose
    /// caches are then empty too.
    fn across(&mut self, lives: &[Life]) {
        let long: Vec<&Life> = lives.iter().filter(|life| life.len() >= ENOUGH / 4).collect();
        let shortest = long.iter().map(|life| life.len()).min().unwrap_or_default();
        let young = |of: fn(&Use) -> u64| long.iter().map(|life| median(&life[..shortest], of)).collect::<Vec<u64>>();
        let (memory, heap) = (young(|used| used.memory), young(|used| used.heap));
        for (name, young, room) in [("memory", memory, MEMORY), ("heap", heap, MEMORY)] {
            if let [_, second, .., last] = young[..] {
                let words: Vec<String> = young.iter().map(|bytes| format!("{:.1}", *bytes as f64 / MIB)).collect();
                let good = room.holds(second, last);
                self.add(good, format!("the first {shortest} s of each life, median {name}: {} MiB", words.join(", ")));
            }
        }
    }

    fn secrets(&mut self, findings: &Findings, place: &Place) -> Outcome<()> {
        let mut secrets = findings.secrets.clone();
        secrets.extend([SECRET_WORD.to_owned(), PASSPHRASE.to_owned()]);
        let (mut lines, mut bytes) = (0, 0);
        for life in 0..findings.lives.len() {
            let log = String::from_utf8_lossy(&fs::read(place.log(life))?).into_owned();
            (lines, bytes) = (lines + log.lines().count(), bytes + log.len());
            if let Some(line) = log.lines().find(|line| line.contains("panicked")) {
                self.add(false, format!("a panic in life {}: {line}", life + 1));
            }
            if secrets.iter().any(|secret| log.contains(secret.as_str())) {
                self.add(
                    false,
                    format!("the log of life {} has a key, a passphrase or words of a message in it", life + 1),
                );
            }
        }
        self.add(
            lines > 0,
            format!(
                "{lines} lines of log ({:.1} MB at debug) looked through for panics and secrets",
                bytes as f64 / 1e6
            ),
        );
        let files = with_word(&place.data(), SECRET_WORD.as_bytes())?;
        self.add(files.is_empty(), format!("files of the data folder with plaintext of a message in them: {files:?}"));
        Ok(())
    }
}

/// Files below a folder that have this in them.
fn with_word(folder: &Path, word: &[u8]) -> Outcome<Vec<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(with_word(&path, word)?);
        } else if path.is_file() && fs::read(&path)?.windows(word.len()).any(|window| window == word) {
            found.push(path.display().to_string());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_in_files_at_any_depth() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(folder.path().join("a/b"), b"xxpaidxx").unwrap();
        fs::write(folder.path().join("c"), b"nothing").unwrap();
        assert_eq!(with_word(folder.path(), b"paid").unwrap().len(), 1);
        assert!(with_word(folder.path(), b"free").unwrap().is_empty());
    }
}
