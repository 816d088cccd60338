//! Seeds over threads, and what they came to.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::env::{Broken, Figures};
use crate::world;

const THREADS: usize = 2;
/// Every so many seeds one is run again, to the same trace.
const AGAIN: u64 = 40;
/// Failures after which the rest is spared.
const TOLD: usize = 10;

pub(crate) fn chosen_seed() -> Option<u64> {
    number("VEILCAST_SIM_SEED")
}

pub(crate) fn chosen_count() -> Option<u64> {
    number("VEILCAST_SIM_SEEDS")
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a number, not {text:?}")))
}

#[derive(Default)]
pub(crate) struct Report {
    seeds: u64,
    took: Duration,
    figures: Figures,
    pub(crate) failures: Vec<(u64, Broken)>,
}

/// One seed, aloud.
pub(crate) fn run_one(seed: u64) -> Report {
    let mut report = Report::default();
    report.add(seed, run_caught(seed, true));
    report
}

pub(crate) fn run_many(seeds: u64) -> Report {
    let (next, report, begun) = (AtomicU64::new(0), Mutex::new(Report::default()), Instant::now());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds || report.lock().unwrap().failures.len() >= TOLD {
                return;
            }
            let outcome = run_caught(seed, false);
            report.lock().unwrap().add(seed, outcome);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(work);
        }
    });
    let mut report = report.into_inner().unwrap();
    report.took = begun.elapsed();
    report.failures.sort();
    report
}

/// A panic of the core is a broken promise like any other.
fn run_caught(seed: u64, loud: bool) -> (Figures, Option<Broken>) {
    let told = |panic: Box<dyn Any + Send>| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_string()));
        (Figures::default(), Some(format!("nothing panics: {}", text.unwrap_or_default())))
    };
    catch_unwind(AssertUnwindSafe(|| run_checked(seed, loud))).unwrap_or_else(told)
}

fn run_checked(seed: u64, loud: bool) -> (Figures, Option<Broken>) {
    let outcome = world::run(seed, loud);
    let mut broken = outcome.broken;
    if broken.is_none() && seed.is_multiple_of(AGAIN) && world::run(seed, false).hash != outcome.hash {
        broken = Some("the same seed gives the same trace: it did not".into());
    }
    (outcome.figures, broken)
}

impl Report {
    fn add(&mut self, seed: u64, (figures, broken): (Figures, Option<Broken>)) {
        self.seeds += 1;
        self.figures.add(&figures);
        self.failures.extend(broken.map(|broken| (seed, broken)));
    }

    pub(crate) fn failures_told(&self) -> String {
        let line =
            |(seed, broken): &(u64, Broken)| format!("seed {seed}: {broken}\n  ./scripts/simulate --seed {seed}");
        let told = self.failures.iter().map(line);
        let told: Vec<String> = told.collect();
        format!("{} of {} seeds failed\n{}", self.failures.len(), self.seeds, told.join("\n"))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (n, seconds) = (&self.figures, self.took.as_secs_f64());
        if seconds > 0.0 {
            writeln!(f, "{} seeds in {seconds:.1} s: {:.1} a second", self.seeds, self.seeds as f64 / seconds)?;
        }
        writeln!(f, "{} messages published, {} deliveries, {} gaps told", n.messages, n.deliveries, n.gaps)?;
        writeln!(
            f,
            "{} key requests, {} keys handed out, {} refusals; {} rekeys, {} rotates, {} rotates refused",
            n.key_requests, n.keys_handed, n.refusals, n.rekeys, n.rotates, n.rotates_refused
        )?;
        writeln!(f, "{} keys sent ahead of an end, {} of them used", n.keys_ahead, n.ahead_used)?;
        writeln!(
            f,
            "{} restarts, {} clocks set, {} disk failures; {} mischiefs: {} requests dropped, {} answers ignored, {} bytes refused",
            n.restarts, n.clocks_set, n.disk_failures, n.mischief, n.dropped_requests, n.bogus_answers, n.refused_bytes
        )?;
        writeln!(
            f,
            "largest seen: {} keys pending, {} messages parked, {} out of order, {} bytes held, {} request ids; one key asked for {} times",
            n.most_pending, n.most_parked, n.most_waiting, n.most_held_bytes, n.most_remembered, n.most_asked_per_key
        )?;
        writeln!(
            f,
            "{} histories read, {} messages from storage and behind it, {} storage nodes that failed a reader; {} messages held at most",
            n.histories, n.replayed, n.storage_faults, n.most_replay_held
        )?;
        match largest_resident() {
            Some(kib) => write!(f, "largest resident memory: {} MiB", kib / 1024),
            None => write!(f, "largest resident memory: not known on this system"),
        }
    }
}

/// KiB this process held at most, where the system tells.
fn largest_resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

impl Figures {
    fn add(&mut self, other: &Self) {
        self.messages += other.messages;
        self.deliveries += other.deliveries;
        self.gaps += other.gaps;
        self.key_requests += other.key_requests;
        self.keys_handed += other.keys_handed;
        self.refusals += other.refusals;
        self.dropped_requests += other.dropped_requests;
        self.refused_bytes += other.refused_bytes;
        self.bogus_answers += other.bogus_answers;
        self.rekeys += other.rekeys;
        self.keys_ahead += other.keys_ahead;
        self.ahead_used += other.ahead_used;
        self.rotates += other.rotates;
        self.rotates_refused += other.rotates_refused;
        self.restarts += other.restarts;
        self.clocks_set += other.clocks_set;
        self.disk_failures += other.disk_failures;
        self.mischief += other.mischief;
        self.most_pending = self.most_pending.max(other.most_pending);
        self.most_parked = self.most_parked.max(other.most_parked);
        self.most_waiting = self.most_waiting.max(other.most_waiting);
        self.most_held_bytes = self.most_held_bytes.max(other.most_held_bytes);
        self.most_remembered = self.most_remembered.max(other.most_remembered);
        self.histories += other.histories;
        self.replayed += other.replayed;
        self.storage_faults += other.storage_faults;
        self.most_replay_held = self.most_replay_held.max(other.most_replay_held);
        self.most_asked_per_key = self.most_asked_per_key.max(other.most_asked_per_key);
    }
}
