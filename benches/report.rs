//! What a bench measured, printed and kept.

use std::fmt;
use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Machine, Outcome, Sample, is_quick};

/// Which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// Times, memory.
    Less,
    /// Rates.
    More,
}

/// One figure beside its limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// What was measured, in words; the same from version to version.
    pub name: String,
    /// The figure.
    pub figure: f64,
    /// Its unit, and that of the limit.
    pub unit: String,
    /// Which way is better.
    pub better: Better,
    /// What was measured in the same run that nothing of ours can beat.
    pub limit: Option<f64>,
    /// What that is, in words.
    pub limit_is: String,
    /// Figure / limit.
    pub ratio: Option<f64>,
    /// What the figure should reach, in its unit.
    pub target: Option<f64>,
    /// What the ratio should reach.
    pub target_ratio: Option<f64>,
    /// How far apart repeated measurements of the figure lie, as a part of it (the middle half of them); 0 if it was measured once.
    pub noise: f64,
}

impl Line {
    /// Of a figure in a unit.
    pub fn new(name: impl Into<String>, better: Better, unit: &str, figure: f64) -> Self {
        Self {
            name: name.into(),
            figure,
            unit: unit.into(),
            better,
            limit: None,
            limit_is: String::new(),
            ratio: None,
            target: None,
            target_ratio: None,
            noise: 0.0,
        }
    }

    /// A time or another cost: the median of the sample, times `scale` to come to the unit.
    pub fn cost(name: impl Into<String>, unit: &str, scale: f64, sample: &Sample) -> Self {
        Self { noise: sample.noise(), ..Self::new(name, Better::Less, unit, sample.median() * scale) }
    }

    /// A rate: the median of the sample.
    pub fn rate(name: impl Into<String>, unit: &str, sample: &Sample) -> Self {
        Self { noise: sample.noise(), ..Self::new(name, Better::More, unit, sample.median()) }
    }

    /// The limit, in the unit of the figure.
    #[must_use]
    pub fn limit(mut self, limit: f64, limit_is: &str) -> Self {
        self.limit_is = limit_is.into();
        self.ratio = (limit != 0.0).then_some(self.figure / limit);
        self.limit = Some(limit);
        self
    }

    /// What the figure should reach.
    #[must_use]
    pub fn target(mut self, target: f64) -> Self {
        self.target = Some(target);
        self
    }

    /// What the ratio should reach.
    #[must_use]
    pub fn target_ratio(mut self, target: f64) -> Self {
        self.target_ratio = Some(target);
        self
    }

    /// Whether every target is met; none if there is no target.
    pub fn is_met(&self) -> Option<bool> {
        let met = |value: Option<f64>, target: Option<f64>| {
            let (value, target) = value.zip(target)?;
            Some(if self.better == Better::Less { value <= target } else { value >= target })
        };
        let both = [met(Some(self.figure), self.target), met(self.ratio, self.target_ratio)];
        both.into_iter().flatten().reduce(|one, other| one && other)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {:<58} {:>10} {:<6}", self.name, short(self.figure), self.unit)?;
        if let (Some(limit), Some(ratio)) = (self.limit, self.ratio) {
            write!(f, " limit {:>10}  ratio {ratio:>6.2}  ({})", short(limit), self.limit_is)?;
        }
        let sign = if self.better == Better::Less { "<=" } else { ">=" };
        if let Some(target) = self.target {
            write!(f, "  target {sign} {}", short(target))?;
        }
        if let Some(target) = self.target_ratio {
            write!(f, "  target ratio {sign} {target:.2}")?;
        }
        match self.is_met() {
            Some(true) => write!(f, ": met")?,
            Some(false) => write!(f, ": MISSED")?,
            None => {}
        }
        if self.noise > 0.0 { write!(f, "  +-{:.0} %", self.noise * 50.0) } else { Ok(()) }
    }
}

/// Three digits that count.
fn short(value: f64) -> String {
    let digits = if value.abs() >= 100.0 {
        0
    } else if value.abs() >= 10.0 {
        1
    } else {
        2
    };
    format!("{value:.digits$}")
}

/// Everything that one bench measured in one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The bench.
    pub bench: String,
    /// When the run began, RFC 3339.
    pub date: String,
    /// The revision in git, with `+` if there were changes beside it; empty outside of git.
    pub revision: String,
    /// Whether this was a run that only shows that the benches run.
    pub quick: bool,
    /// Where.
    pub machine: Machine,
    /// What.
    pub lines: Vec<Line>,
}

impl Report {
    /// Begins the report of a bench, and prints where it runs.
    ///
    /// # Errors
    /// The system does not tell about the machine.
    pub fn begin(bench: &str) -> Outcome<Self> {
        let machine = Machine::now()?;
        let quick = if is_quick() { "; a QUICK run, whose figures mean little" } else { "" };
        println!("{bench}  [{machine}{quick}]");
        let (date, revision) = (jiff::Timestamp::now().strftime("%FT%TZ").to_string(), revision());
        Ok(Self { bench: bench.into(), date, revision, quick: is_quick(), machine, lines: Vec::new() })
    }

    /// Adds a line, and prints it.
    pub fn line(&mut self, line: Line) {
        println!("{line}");
        self.lines.push(line);
    }

    /// Writes `target/bench/<bench>.json`.
    ///
    /// # Errors
    /// The disk's.
    pub fn save(&self) -> Outcome<()> {
        let folder = folder()?;
        fs::create_dir_all(&folder)?;
        Ok(fs::write(folder.join(format!("{}.json", self.bench)), serde_json::to_vec_pretty(self)?)?)
    }
}

/// Where reports are kept: beside what is built.
fn folder() -> Outcome<PathBuf> {
    Ok(crate::machine::target_folder()?.join("bench"))
}

fn revision() -> String {
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_string())
    };
    let Some(revision) = git(&["rev-parse", "--short=12", "HEAD"]) else { return String::new() };
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]).is_some_and(|changes| !changes.is_empty());
    if changed { revision + "+" } else { revision }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_knows_its_ratio_and_whether_its_targets_are_met() {
        let line = Line::cost("seal", "us", 1e6, &Sample::of([20e-6, 21e-6, 22e-6])).limit(20.0, "sign");
        assert!((line.figure - 21.0).abs() < 1e-9 && line.ratio.is_some_and(|ratio| (ratio - 1.05).abs() < 1e-9));
        assert_eq!(line.is_met(), None);
        assert_eq!(line.clone().target_ratio(1.3).is_met(), Some(true));
        assert_eq!(line.clone().target_ratio(1.3).target(20.0).is_met(), Some(false));
        let rate = Line::rate("messages", "1/s", &Sample::of([10.0]));
        assert_eq!((rate.clone().target(9.0).is_met(), rate.target(11.0).is_met()), (Some(true), Some(false)));
    }

    #[test]
    fn a_line_without_a_limit_has_no_ratio_and_says_so_by_leaving_it_out() {
        let line = Line::new("size", Better::Less, "MiB", 12.0);
        assert!(!line.to_string().contains("ratio"));
        assert_eq!(line.clone().limit(0.0, "nothing").ratio, None);
        assert!(line.limit(6.0, "half").to_string().contains("2.00"));
    }

    #[test]
    fn a_report_is_the_same_after_it_was_written_and_read() {
        let mut report = Report::begin("itself").unwrap();
        report.line(Line::rate("messages", "1/s", &Sample::of([3.0, 4.0])).limit(8.0, "raw").target(2.0));
        let read: Report = serde_json::from_slice(&serde_json::to_vec(&report).unwrap()).unwrap();
        assert_eq!(read, report);
    }
}
