//! What changed between two runs.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use crate::{Better, Line, Outcome, Report};

/// What became of one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Within the threshold.
    Same,
    /// Better by more than the threshold.
    Better,
    /// Worse by more than the threshold.
    Worse,
    /// Only in the old reports.
    Gone,
    /// Only in the new ones.
    New,
}

/// One line, then and now.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Bench and line.
    pub name: String,
    /// What became of it.
    pub verdict: Verdict,
    old: Option<Line>,
    new: Option<Line>,
    /// How much worse: 1.1 is 10 % worse, whichever way is better.
    worse: f64,
}

/// Every line of two runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    /// In the order of their names.
    pub changes: Vec<Change>,
}

/// One report, or all in a folder.
///
/// # Errors
/// There is none, or one that cannot be read.
pub fn read_reports(path: &Path) -> Outcome<Vec<Report>> {
    let read = |path: &Path| -> Outcome<Report> {
        let fault = |error: &dyn fmt::Display| format!("{}: {error}", path.display());
        serde_json::from_slice(&fs::read(path).map_err(|error| fault(&error))?).map_err(|error| fault(&error).into())
    };
    if !path.is_dir() {
        return Ok(vec![read(path)?]);
    }
    let mut files: Vec<_> = fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<Outcome<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    if files.is_empty() {
        return Err(format!("{}: no report in this folder", path.display()).into());
    }
    files.iter().map(|file| read(file)).collect()
}

impl Comparison {
    /// Lines are compared by their ratio to the limit of their own run, where both have one, so that a busier machine does not
    /// count as a slower program; else by their figure. `threshold` is a part: 0.1 is 10 %.
    pub fn of(old: &[Report], new: &[Report], threshold: f64) -> Self {
        let (mut before, mut after) = (by_name(old), by_name(new));
        let names: std::collections::BTreeSet<String> = before.keys().chain(after.keys()).cloned().collect();
        let change = |name: String| Change::of(before.remove(&name), after.remove(&name), name, threshold);
        Self { changes: names.into_iter().map(change).collect() }
    }

    /// Whether anything got worse.
    pub fn is_worse(&self) -> bool {
        self.changes.iter().any(|change| change.verdict == Verdict::Worse)
    }
}

fn by_name(reports: &[Report]) -> BTreeMap<String, Line> {
    let lines = |report: &Report| {
        let bench = report.bench.clone();
        report.lines.clone().into_iter().map(move |line| (format!("{bench}: {}", line.name), line)).collect::<Vec<_>>()
    };
    reports.iter().flat_map(lines).collect()
}

impl Change {
    fn of(old: Option<Line>, new: Option<Line>, name: String, threshold: f64) -> Self {
        let (mut worse, mut verdict) = (1.0, if old.is_none() { Verdict::New } else { Verdict::Gone });
        if let (Some(old), Some(new)) = (&old, &new) {
            let (before, after) = old.ratio.zip(new.ratio).unwrap_or((old.figure, new.figure));
            worse = if new.better == Better::Less { after / before } else { before / after };
            verdict = match worse {
                worse if worse > 1.0 + threshold => Verdict::Worse,
                worse if worse < 1.0 / (1.0 + threshold) => Verdict::Better,
                // Two zeros are the same; what cannot be told is not passed over.
                worse if worse.is_nan() && before != after => Verdict::Worse,
                _ => Verdict::Same,
            };
        }
        Self { name, verdict, old, new, worse }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.verdict {
            Verdict::Same => "same  ",
            Verdict::Better => "BETTER",
            Verdict::Worse => "WORSE ",
            Verdict::Gone => "gone  ",
            Verdict::New => "new   ",
        };
        write!(f, "{word} {:<72}", self.name)?;
        let show = |line: &Line| match line.ratio {
            Some(ratio) => format!("{:.2} {} ({ratio:.2} of the limit)", line.figure, line.unit),
            None => format!("{:.2} {}", line.figure, line.unit),
        };
        match (&self.old, &self.new) {
            (Some(old), Some(new)) => {
                let (percent, noise) = ((self.worse - 1.0) * 100.0, old.noise.max(new.noise) * 50.0);
                write!(f, " {} -> {}, {percent:+.0} % worse, noise +-{noise:.0} %", show(old), show(new))
            }
            (Some(line), None) | (None, Some(line)) => write!(f, " {}", show(line)),
            (None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(lines: Vec<Line>) -> Vec<Report> {
        let mut report = Report::begin("bench").unwrap();
        report.lines = lines;
        vec![report]
    }

    fn verdict(old: Line, new: Line) -> Verdict {
        Comparison::of(&report(vec![old]), &report(vec![new]), 0.1).changes[0].verdict
    }

    #[test]
    fn a_cost_that_rose_and_a_rate_that_fell_by_more_than_a_tenth_are_worse() {
        let cost = |figure| Line::new("cost", Better::Less, "us", figure);
        let rate = |figure| Line::new("rate", Better::More, "1/s", figure);
        assert_eq!(verdict(cost(100.0), cost(112.0)), Verdict::Worse);
        assert_eq!(verdict(cost(100.0), cost(109.0)), Verdict::Same);
        assert_eq!(verdict(cost(100.0), cost(89.0)), Verdict::Better);
        assert_eq!(verdict(rate(100.0), rate(89.0)), Verdict::Worse);
        assert_eq!(verdict(rate(100.0), rate(112.0)), Verdict::Better);
        assert_eq!(verdict(cost(0.0), cost(0.0)), Verdict::Same);
        assert_eq!(verdict(rate(100.0), rate(0.0)), Verdict::Worse);
    }

    #[test]
    fn a_figure_that_moved_with_its_limit_is_the_same() {
        let line = |figure, limit| Line::new("cost", Better::Less, "us", figure).limit(limit, "limit");
        assert_eq!(verdict(line(100.0, 50.0), line(200.0, 100.0)), Verdict::Same);
        assert_eq!(verdict(line(100.0, 50.0), line(100.0, 40.0)), Verdict::Worse);
    }

    #[test]
    fn lines_that_came_and_went_are_named_and_only_worse_ones_fail() {
        let line = |name: &str| Line::new(name, Better::Less, "us", 1.0);
        let comparison = Comparison::of(&report(vec![line("old")]), &report(vec![line("recent")]), 0.1);
        let verdicts: Vec<_> = comparison.changes.iter().map(|change| (change.name.as_str(), change.verdict)).collect();
        assert_eq!(verdicts, [("bench: old", Verdict::Gone), ("bench: recent", Verdict::New)]);
        assert!(!comparison.is_worse());
    }

    #[test]
    fn two_folders_of_reports_fail_the_comparison_where_one_line_got_more_than_a_tenth_slower() {
        let folder = |rate: f64, name: &str| {
            let folder = tempfile::tempdir().unwrap();
            let line = |name: &str, figure| Line::new(name, Better::More, "1/s", figure);
            let mut other = report(vec![line("steady", 5.0)]).remove(0);
            other.bench = "other".into();
            for report in report(vec![line("rate", rate), line(name, 1.0)]).iter().chain([&other]) {
                let file = folder.path().join(format!("{}.json", report.bench));
                fs::write(file, serde_json::to_vec(report).unwrap()).unwrap();
            }
            folder
        };
        let is_worse = |old: &tempfile::TempDir, new: &tempfile::TempDir| {
            let (old, new) = (read_reports(old.path()).unwrap(), read_reports(new.path()).unwrap());
            Comparison::of(&old, &new, 0.1).is_worse()
        };
        let before = folder(1000.0, "a");
        assert!(is_worse(&before, &folder(880.0, "a")));
        assert!(!is_worse(&before, &folder(920.0, "b")), "within the threshold, and lines that came and went");
    }

    #[test]
    fn reports_are_read_from_a_file_and_from_a_folder() {
        let (folder, reports) = (tempfile::tempdir().unwrap(), report(vec![Line::new("a", Better::More, "1/s", 2.0)]));
        assert!(read_reports(folder.path()).is_err(), "an empty folder compares nothing");
        let file = folder.path().join("bench.json");
        fs::write(&file, serde_json::to_vec(&reports[0]).unwrap()).unwrap();
        fs::write(folder.path().join("notes.txt"), "not a report").unwrap();
        assert_eq!(read_reports(folder.path()).unwrap(), reports);
        assert_eq!(read_reports(&file).unwrap(), reports);
        fs::write(&file, "{").unwrap();
        assert!(read_reports(folder.path()).unwrap_err().to_string().contains("bench.json"));
    }
}
