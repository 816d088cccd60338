//! "A store of a million keys opens at once, finds any of them at once, and a new one is on disk when the call returns."
//!
//! Filled by another process, then opened by this one, whose memory from there on is what the store takes. Limits: for lookups
//! the same on keys in memory; for pages a lookup; for commits the disk's own sync of a small file, which every commit
//! waits for, alone or together with those that came meanwhile; for memory what the store was told to take.

use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use veilcast::key_store::{KeyScope, KeyStore, MemoryKeyStore, SledKeyStore, StoreConfig, TimeRange};
use veilcast_benches::roles::fill::{fill, id, key, open, scope};
use veilcast_benches::roles::{Fill, FillSetup};
use veilcast_benches::{Better, Child, Line, Outcome, Report, Sample, Usage, in_turn, quick_or, run, timed};

const RANGE: usize = 1000;
const WRITERS: [u64; 2] = [1, 16];

/// A number that looks random, below `count`.
fn scattered(number: u64, count: u64) -> u64 {
    number.wrapping_mul(6_364_136_223_846_793_005).rotate_left(21) % count
}

/// A call that is timed: it finds what it looks for.
type Find = fn(&dyn KeyStore, &KeyScope, u64) -> Outcome<()>;

fn look_up(store: &dyn KeyStore, scope: &KeyScope, number: u64) -> Outcome<()> {
    black_box(store.key(scope, &id(number)?)?).ok_or("a key is missing")?;
    Ok(())
}

/// A page of a history, from some key in it on.
fn range(store: &dyn KeyStore, scope: &KeyScope, after: u64) -> Outcome<()> {
    let keys = store.history(scope, TimeRange::ALL, Some(&key(after)?.cursor()), RANGE)?;
    if keys.len() == RANGE { Ok(()) } else { Err("a page is not whole".into()) }
}

/// How many times a second some threads do this together.
fn per_second(threads: u64, one: impl Fn(u64) -> Outcome<()> + Sync) -> Outcome<f64> {
    let (done, start) = (AtomicU64::new(0), Instant::now());
    let lasts = quick_or(Duration::from_millis(200), Duration::from_secs(2));
    let work = |thread| -> Outcome<()> {
        while start.elapsed() < lasts {
            one(done.fetch_add(1, Ordering::Relaxed) * threads + thread)?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        running.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a writer broke off")?)
    })?;
    Ok(done.into_inner() as f64 / start.elapsed().as_secs_f64())
}

/// Syncs of a small file that grows, one after the other, per second: what a commit cannot beat alone.
fn syncs(folder: &Path) -> Outcome<f64> {
    let mut file = File::create(folder.join("synced"))?;
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < quick_or(Duration::from_millis(100), Duration::from_secs(1)) {
        file.write_all(&[7; 256])?;
        file.sync_data()?;
        count += 1;
    }
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}

fn commits(report: &mut Report, store: &SledKeyStore, folder: &Path, mut next: u64) -> Outcome<()> {
    let scope = scope()?;
    for writers in WRITERS {
        let (mut rates, mut limits) = (Vec::new(), Vec::new());
        for _ in 0..quick_or(1, 3) {
            limits.push(syncs(folder)?);
            rates.push(per_second(writers, |number| {
                let stored = key(next + number)?;
                Ok(store.add(&scope, &stored.key, stored.since, stored.until, stored.origin)?)
            })?);
            next += 1_000_000_000;
        }
        let line = Line::rate(format!("durable commits, {writers} writers"), "1/s", &Sample::of(rates));
        report.line(line.limit(Sample::of(limits).median(), "the disk's sync, one after the other"));
    }
    Ok(())
}

fn main() -> Outcome<()> {
    run(|| {
        let mut report = Report::begin("keys")?;
        let (folder, scope, count) = (tempfile::tempdir()?, scope()?, quick_or(10_000, 1_000_000));
        let (mut filler, ()) = Child::<Fill>::start(&FillSetup { folder: folder.path().into() })?;
        let (took, filled) = timed(|| filler.ask(&Fill(count)));
        filled?;
        drop(filler);
        let rate = count as f64 / took.as_secs_f64();
        report.line(Line::new("keys added, 4,096 with one sync", Better::More, "1/s", rate));

        let before = Usage::own()?.resident_mib();
        let (took, store) = timed(|| open(folder.path()));
        let store = store?;
        report.line(Line::new(format!("open a store of {count} keys"), Better::Less, "ms", took.as_secs_f64() * 1e3));
        (0..quick_or(1000, 300_000)).try_for_each(|number| look_up(&store, &scope, scattered(number, count)))?;
        let memory = Usage::own()?.resident_mib() - before;
        let cache = StoreConfig::default().cache_bytes as f64 / 1024.0 / 1024.0;
        report.line(Line::new("memory after 300,000 lookups", Better::Less, "MiB", memory).limit(cache, "its setting"));

        let twin = MemoryKeyStore::new();
        fill(&twin, count)?;
        let (mut number, mut failed) = (0, None);
        let mut each = |store: &dyn KeyStore, work: Find, below: u64| {
            number += 1;
            if let Err(error) = work(store, &scope, scattered(number, below)) {
                failed = Some(error);
            }
        };
        let rounds = quick_or(2, 100);
        let each = std::cell::RefCell::new(&mut each);
        let [found, limit] = in_turn(
            rounds,
            100,
            [&mut || each.borrow_mut()(&store, look_up, count), &mut || each.borrow_mut()(&twin, look_up, count)],
        );
        let line = Line::cost(format!("look one of {count} up"), "us", 1e6, &found).target(10.0);
        report.line(line.limit(limit.median() * 1e6, "the same in memory"));
        let one = found.median() * 1e6;
        let mut ranged = || each.borrow_mut()(&store, range, count - 1 - RANGE as u64);
        let [found] = in_turn(quick_or(2, 20), 1, [&mut ranged]);
        let line = Line::cost(
            format!("a page of the history, for each of its {RANGE} keys"),
            "us",
            1e6 / RANGE as f64,
            &found,
        );
        report.line(line.limit(one, "looking one up"));
        if let Some(error) = failed {
            return Err(error);
        }
        commits(&mut report, &store, folder.path(), count)?;
        report.save()
    })
}
