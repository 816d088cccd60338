//! The account of a run: what was published, what each reader read, and what follows from both.
//!
//! A reader is *entitled* for a stretch: from when it may read to an end of its time, a revocation, or a restart. In each stretch it must
//! read, from the first message that it reads on, every message of every part that was acknowledged, once and in order, and none
//! that was published after the end.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A stream and partition, by its place in the run's list.
pub(crate) type Part = usize;

/// A message as its publisher knows it.
#[derive(Clone, Copy, Debug)]
struct Published {
    /// Its timestamp, ms; `None` where no acknowledgement came.
    at: Option<u64>,
    /// It may be lost: nothing acknowledged it, or the process was killed right after.
    may_be_lost: bool,
}

/// A message as a reader read it.
#[derive(Clone, Copy, Debug)]
struct Read {
    number: usize,
    at: u64,
    /// How many stretches its reader had begun.
    begun: usize,
}

/// How a stretch ended.
#[derive(Clone, Debug)]
enum End {
    /// The paid time was over: its last second.
    At(u64),
    /// Nothing from these numbers on may be read: taken back.
    Revoked(Vec<usize>),
    /// These numbers and later need not be read: the connection or the run was over.
    Over(Vec<usize>),
}

#[derive(Clone, Debug)]
struct Stretch {
    from: Vec<usize>,
    end: Option<End>,
}

#[derive(Debug, Default)]
struct Reader {
    parts: Vec<Part>,
    stretches: Vec<Stretch>,
    read: BTreeMap<Part, Vec<Read>>,
}

#[derive(Debug, Default)]
struct Pages {
    published: Vec<Vec<Published>>,
    readers: BTreeMap<String, Reader>,
    /// What was published when the publisher began its chains anew.
    chains: Vec<Vec<usize>>,
    faults: Vec<String>,
    events: BTreeMap<(String, &'static str), u64>,
}

/// What is counted at the end.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) published: usize,
    pub(crate) unacknowledged: usize,
    pub(crate) read: usize,
    pub(crate) stretches: usize,
    pub(crate) ends: usize,
    pub(crate) revocations: usize,
}

/// The account, shared by all that publish and read.
#[derive(Debug)]
pub(crate) struct Book(Mutex<Pages>);

impl Book {
    pub(crate) fn new(parts: usize) -> Self {
        Self(Mutex::new(Pages { published: vec![Vec::new(); parts], ..Pages::default() }))
    }

    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something that must not be.
    pub(crate) fn fault(&self, text: impl Into<String>) {
        let text = text.into();
        eprintln!("FAULT {text}");
        self.lock().faults.push(text);
    }

    /// The number of the next message of a part, which is written down as one that nothing acknowledged yet.
    pub(crate) fn publishing(&self, part: Part) -> usize {
        let mut pages = self.lock();
        pages.published[part].push(Published { at: None, may_be_lost: true });
        pages.published[part].len() - 1
    }

    /// It was acknowledged.
    pub(crate) fn acknowledged(&self, part: Part, number: usize, at: u64) {
        self.lock().published[part][number] = Published { at: Some(at), may_be_lost: false };
    }

    /// How many there are of each part.
    pub(crate) fn next(&self) -> Vec<usize> {
        self.lock().published.iter().map(Vec::len).collect()
    }

    /// What was published since `from` may be lost: the process was killed.
    pub(crate) fn may_be_lost_since(&self, from: &[usize]) {
        for (published, from) in self.lock().published.iter_mut().zip(from) {
            published.iter_mut().skip(*from).for_each(|one| one.may_be_lost = true);
        }
    }

    /// The publisher was started again: what comes is in order by itself, and not with what went before.
    pub(crate) fn new_chains(&self) {
        let mut pages = self.lock();
        let next = pages.published.iter().map(Vec::len).collect();
        pages.chains.push(next);
    }

    /// The last acknowledged messages of a part, oldest first.
    pub(crate) fn last(&self, part: Part, count: usize) -> Vec<usize> {
        let pages = self.lock();
        let sure = pages.published[part].iter().enumerate().filter(|(_, one)| !one.may_be_lost);
        let mut numbers: Vec<usize> = sure.map(|(number, _)| number).rev().take(count).collect();
        numbers.reverse();
        numbers
    }

    /// Whether this one must be there.
    pub(crate) fn is_sure(&self, part: Part, number: usize) -> bool {
        self.lock().published[part].get(number).is_some_and(|one| !one.may_be_lost)
    }

    /// This reader may read these parts from now on, where it is paid for up to the end of this second.
    pub(crate) fn begin(&self, reader: &str, parts: &[Part], until: Option<u64>) {
        let mut pages = self.lock();
        let from = pages.published.iter().map(Vec::len).collect();
        let reader = pages.readers.entry(reader.into()).or_default();
        reader.parts = parts.to_vec();
        reader.stretches.push(Stretch { from, end: until.map(End::At) });
    }

    /// More time was paid for before the last was over.
    pub(crate) fn prolonged(&self, reader: &str, until: u64) {
        self.end(reader, End::At(until));
    }

    /// It was taken back: what is published from now on is not for this reader.
    pub(crate) fn revoked(&self, reader: &str) {
        let next = self.next();
        self.end(reader, End::Revoked(next));
    }

    /// The connection is gone, or the other end of it; what is behind `bound` did not have to come any more.
    pub(crate) fn over(&self, reader: &str, bound: Vec<usize>) {
        self.end(reader, End::Over(bound));
    }

    fn end(&self, reader: &str, end: End) {
        let mut pages = self.lock();
        if let Some(stretch) = pages.readers.get_mut(reader).and_then(|reader| reader.stretches.last_mut()) {
            stretch.end = Some(end);
        }
    }

    /// A reader read this.
    pub(crate) fn read(&self, reader: &str, part: Part, number: usize, at: u64) {
        let mut pages = self.lock();
        let reader = pages.readers.entry(reader.into()).or_default();
        let begun = reader.stretches.len();
        reader.read.entry(part).or_default().push(Read { number, at, begun });
    }

    /// Something beside messages was told to a reader.
    pub(crate) fn event(&self, reader: &str, kind: &'static str) {
        *self.lock().events.entry((reader.into(), kind)).or_default() += 1;
    }

    /// How often this was told, to readers whose names begin so.
    pub(crate) fn events(&self, readers: &str, kind: &str) -> u64 {
        let pages = self.lock();
        let of = pages.events.iter().filter(|((reader, told), _)| reader.starts_with(readers) && *told == kind);
        of.map(|(_, count)| count).sum()
    }

    /// Whether a reader read something of each of its parts since its stretch began.
    pub(crate) fn has_begun(&self, reader: &str) -> bool {
        let pages = self.lock();
        let Some(reader) = pages.readers.get(reader) else { return false };
        let Some(stretch) = reader.stretches.last() else { return false };
        reader.parts.iter().all(|part| reader.furthest(*part).is_some_and(|number| number >= stretch.from[*part]))
    }

    /// What this reader must still read to be where the publishers are.
    pub(crate) fn behind(&self, reader: &str) -> Option<String> {
        let pages = self.lock();
        let account = pages.readers.get(reader)?;
        let stretch = account.stretches.last()?;
        for part in &account.parts {
            let published = &pages.published[*part];
            let until = stretch.until(*part, published);
            let due = (stretch.from[*part]..until).rev().find(|number| !published[*number].may_be_lost);
            if let Some(due) = due.filter(|due| account.furthest(*part).is_none_or(|number| number < *due)) {
                return Some(format!(
                    "{reader} has not read number {due} of part {part}: it is at {:?}",
                    account.furthest(*part)
                ));
            }
        }
        None
    }

    /// All that does not hold, and what there was.
    pub(crate) fn audit(&self) -> (Vec<String>, Totals) {
        let pages = self.lock();
        let mut faults = pages.faults.clone();
        let mut totals = Totals {
            published: pages.published.iter().map(Vec::len).sum(),
            unacknowledged: pages.published.iter().flatten().filter(|one| one.at.is_none()).count(),
            ..Totals::default()
        };
        for (name, reader) in &pages.readers {
            totals.read += reader.read.values().map(Vec::len).sum::<usize>();
            totals.stretches += reader.stretches.len();
            let of = |is: fn(&End) -> bool| reader.stretches.iter().filter(|s| s.end.as_ref().is_some_and(is)).count();
            totals.ends += of(|end| matches!(end, End::At(_)));
            totals.revocations += of(|end| matches!(end, End::Revoked(_)));
            faults.extend(reader.faults(name, &pages.published, &pages.chains));
        }
        (faults, totals)
    }
}

impl Stretch {
    /// The first number that need not be read.
    fn until(&self, part: Part, published: &[Published]) -> usize {
        match &self.end {
            None => published.len(),
            Some(End::At(end)) => {
                let after = |one: &Published| one.at.is_some_and(|at| at / 1000 > *end);
                let from = self.from[part].min(published.len());
                from + published[from..].iter().position(after).unwrap_or(published.len() - from)
            }
            Some(End::Revoked(from) | End::Over(from)) => from[part],
        }
    }
}

impl Reader {
    fn furthest(&self, part: Part) -> Option<usize> {
        self.read.get(&part)?.iter().map(|read| read.number).max()
    }

    fn faults(&self, name: &str, published: &[Vec<Published>], chains: &[Vec<usize>]) -> Vec<String> {
        let mut faults = Vec::new();
        for (part, read) in &self.read {
            faults.extend(out_of_order(name, *part, read, chains));
            for (place, stretch) in self.stretches.iter().enumerate() {
                let until = self.stretches.get(place + 1).map_or(usize::MAX, |next| next.from[*part]);
                let within = |one: &&Read| (stretch.from[*part]..until).contains(&one.number);
                let of_it: Vec<Read> = read.iter().filter(within).copied().collect();
                faults.extend(stretch.faults(name, *part, &of_it, &published[*part], place + 1));
            }
            faults.extend(
                read.iter()
                    .filter(|read| read.begun == 0)
                    .map(|read| format!("{name} read number {} of part {part} before it was allowed to", read.number)),
            );
        }
        faults
    }
}

impl Stretch {
    fn faults(&self, name: &str, part: Part, read: &[Read], published: &[Published], begun: usize) -> Vec<String> {
        let Some(first) = read.first() else { return Vec::new() };
        let mut numbers: Vec<usize> = read.iter().map(|read| read.number).collect();
        numbers.sort_unstable();
        let must = (first.number..self.until(part, published)).filter(|number| !published[*number].may_be_lost);
        let lost = must.filter(|number| numbers.binary_search(number).is_err());
        let mut faults: Vec<String> =
            lost.map(|number| format!("{name} did not read number {number} of part {part}")).collect();
        // Whoever may read again may read what was published meanwhile: that is history.
        for read in read.iter().filter(|read| read.begun <= begun) {
            let after = match &self.end {
                Some(End::At(end)) if read.at / 1000 > *end => {
                    format!("{} ms after its time", read.at - (end + 1) * 1000)
                }
                Some(End::Revoked(from)) if read.number >= from[part] => {
                    format!(
                        "which was published after its time was taken back, {} messages later",
                        read.number - from[part]
                    )
                }
                _ => continue,
            };
            faults.push(format!("{name} read number {} of part {part}, {after}", read.number));
        }
        faults
    }
}

/// What was read twice, or after a later one of its chain.
fn out_of_order(name: &str, part: Part, read: &[Read], chains: &[Vec<usize>]) -> Vec<String> {
    let chain = |number: usize| chains.iter().filter(|begins| begins[part] <= number).count();
    let mut before: BTreeMap<usize, usize> = BTreeMap::new();
    let mut faults = Vec::new();
    for Read { number, .. } in read {
        if let Some(before) = before.insert(chain(*number), *number).filter(|before| before >= number) {
            faults.push(format!("{name} read number {number} of part {part} after {before}"));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers 0 to 9 of one part, a second apart, from second 100 on.
    fn book() -> Book {
        let book = Book::new(1);
        book.begin("bob", &[0], None);
        for number in 0..10 {
            assert_eq!(book.publishing(0), number);
            book.acknowledged(0, number, at(number));
        }
        book
    }

    fn at(number: usize) -> u64 {
        (100 + number as u64) * 1000
    }

    fn read(book: &Book, numbers: impl IntoIterator<Item = usize>) {
        numbers.into_iter().for_each(|number| book.read("bob", 0, number, at(number)));
    }

    fn faults(book: &Book) -> usize {
        book.audit().0.len()
    }

    #[test]
    fn who_reads_all_from_the_first_on_is_in_order_and_behind_until_then() {
        let book = book();
        read(&book, 2..9);
        assert!(book.has_begun("bob") && book.behind("bob").is_some());
        assert_eq!(faults(&book), 1, "number 9");
        read(&book, [9]);
        assert!(book.behind("bob").is_none());
        assert_eq!(faults(&book), 0);
    }

    #[test]
    fn what_is_missing_twice_or_out_of_order_is_a_fault() {
        for (numbers, expected) in [(vec![0, 1, 3, 4, 5, 6, 7, 8, 9], 1), (vec![0, 1, 1], 9), (vec![1, 0], 9)] {
            let book = book();
            read(&book, numbers);
            assert_eq!(faults(&book), expected);
        }
    }

    #[test]
    fn what_was_not_acknowledged_or_published_before_a_kill_may_be_missing_and_may_be_there() {
        let book = book();
        book.publishing(0);
        book.may_be_lost_since(&[8]);
        read(&book, 0..8);
        assert!(book.behind("bob").is_none());
        assert_eq!(faults(&book), 0);
        read(&book, 8..11);
        assert_eq!(faults(&book), 0);
    }

    #[test]
    fn nothing_after_an_end_or_a_revocation_may_be_read_and_all_before_must_be() {
        let book = book();
        book.prolonged("bob", 104);
        read(&book, 0..4);
        assert!(book.behind("bob").is_some());
        read(&book, [4]);
        assert!(book.behind("bob").is_none());
        assert_eq!(faults(&book), 0);
        read(&book, [5]);
        assert_eq!(faults(&book), 1);

        let book = self::book();
        read(&book, 0..10);
        book.revoked("bob");
        assert_eq!(faults(&book), 0);
        book.publishing(0);
        read(&book, [10]);
        assert_eq!(faults(&book), 1);
    }

    #[test]
    fn chains_are_in_order_each_by_itself() {
        let book = book();
        book.new_chains();
        for number in 10..12 {
            book.publishing(0);
            book.acknowledged(0, number, at(number));
        }
        read(&book, [0, 1, 2, 3, 4, 5, 6, 10, 7, 8, 9, 11]);
        assert!(book.behind("bob").is_none());
        assert_eq!(faults(&book), 0);
        read(&book, [9]);
        assert_eq!(faults(&book), 1);
    }

    #[test]
    fn a_later_stretch_stands_for_itself() {
        let book = book();
        read(&book, 0..10);
        book.over("bob", book.next());
        for number in 10..13 {
            book.publishing(0);
            book.acknowledged(0, number, at(number));
        }
        book.begin("bob", &[0], None);
        for number in 13..16 {
            book.publishing(0);
            book.acknowledged(0, number, at(number));
        }
        read(&book, 14..16);
        assert_eq!(faults(&book), 0);
    }

    #[test]
    fn what_was_published_between_two_stretches_is_read_in_the_second_or_not_at_all() {
        for is_early in [true, false] {
            let book = book();
            read(&book, 0..5);
            book.prolonged("bob", 104);
            if is_early {
                read(&book, [7]);
            }
            book.begin("bob", &[0], None);
            if !is_early {
                read(&book, [7]);
            }
            assert_eq!(faults(&book), usize::from(is_early));
        }
    }

    #[test]
    fn a_stranger_who_reads_anything_is_a_fault() {
        let book = book();
        book.read("mallory", 0, 3, at(3));
        assert_eq!(faults(&book), 1);
    }
}
