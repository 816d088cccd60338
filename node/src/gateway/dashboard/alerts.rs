//! What deserves somebody's attention.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long something that happened counts as going on.
const RECENT: Duration = Duration::from_secs(60);
const GB: u64 = 1_000_000_000;

/// Space on the disk of the data folder, bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Disk {
    pub(super) free: u64,
    pub(super) total: u64,
}

/// A count that should stay, and when it was last seen to rise.
#[derive(Debug, Default)]
pub(super) struct Trend {
    count: u64,
    rose: Option<Instant>,
}

impl Trend {
    /// The count is this now.
    pub(super) fn note(&mut self, count: u64, now: Instant) {
        if count > self.count {
            self.rose = Some(now);
        }
        self.count = count;
    }

    fn is_recent(&self, now: Instant) -> bool {
        self.rose.is_some_and(|rose| now.duration_since(rose) < RECENT)
    }
}

/// What alerts are made from.
#[derive(Debug, Default)]
pub(super) struct Facts {
    /// Why the node does not work, if it does not.
    pub(super) reasons: Vec<String>,
    /// Streams that the permission source could not tell about.
    pub(super) untold: usize,
    /// Permission checks that it could not tell about.
    pub(super) unavailable: Trend,
    pub(super) rekeys_failed: Trend,
    pub(super) audit_failures: u64,
    pub(super) disk: Option<Disk>,
}

/// `{code, level, message}` each; errors are what somebody must do something about.
pub(super) fn alerts(facts: &Facts, now: Instant) -> Vec<Value> {
    let mut found = Vec::new();
    let mut tell = |code: &str, level: &str, message: String| {
        found.push(json!({ "code": code, "level": level, "message": message }));
    };
    for (at, reason) in facts.reasons.iter().enumerate() {
        tell(&format!("not_ready_{at}"), "error", format!("The node does not work as it should: {reason}."));
    }
    if facts.untold > 0 || facts.unavailable.is_recent(now) {
        let message = "The permission source cannot be asked: nobody whom it must be asked about is given a key, until it answers.";
        tell("source_unreachable", "error", message.into());
    }
    match (facts.rekeys_failed.count, facts.rekeys_failed.is_recent(now)) {
        (0, _) => {}
        (_, true) => tell(
            "rekeys_failed",
            "error",
            "A rekey for a grant that ended failed a moment ago. It is tried again; the log tells why.".into(),
        ),
        (count, false) => {
            let message =
                format!("Rekeys for grants that ended failed, and were tried again: {count} since the start.");
            tell("rekeys_failed", "warning", message);
        }
    }
    if facts.audit_failures > 0 {
        let message = format!(
            "The audit log could not be written {} since the start; keys were answered all the same.",
            times(facts.audit_failures)
        );
        tell("audit_failures", "warning", message);
    }
    if let Some((disk, level)) = facts.disk.and_then(|disk| fullness(disk).map(|level| (disk, level))) {
        let (free, total) = (in_gb(disk.free), in_gb(disk.total));
        let message = format!("The disk of the data folder is nearly full: {free} of {total} GB are free.");
        tell("store_nearly_full", level, message);
    }
    found
}

fn times(count: u64) -> String {
    if count == 1 { "once".into() } else { format!("{count} times") }
}

#[allow(clippy::cast_precision_loss, reason = "for people")]
fn in_gb(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / GB as f64)
}

/// `None` while there is room.
fn fullness(disk: Disk) -> Option<&'static str> {
    let below =
        |percent: u64, least: u64| disk.free < least.min(disk.total / 2) || disk.free < disk.total / 100 * percent;
    match () {
        () if below(1, GB / 5) => Some("error"),
        () if below(5, 2 * GB) => Some("warning"),
        () => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(facts: &Facts, now: Instant) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        alerts(facts, now).iter().map(|one| (text(&one["code"]), text(&one["level"]))).collect()
    }

    #[test]
    fn a_node_that_works_has_no_alert() {
        let disk = Some(Disk { free: 50 * GB, total: 100 * GB });
        assert!(told(&Facts { disk, ..Facts::default() }, Instant::now()).is_empty());
    }

    #[test]
    fn a_source_that_cannot_tell_is_an_error_while_it_is_so_and_for_a_minute() {
        let (start, mut facts) = (Instant::now(), Facts::default());
        facts.unavailable.note(3, start);
        let error = [("source_unreachable".to_owned(), "error".to_owned())];
        assert_eq!(told(&facts, start), error);
        assert!(told(&facts, start + RECENT).is_empty());
        facts.untold = 1;
        assert_eq!(told(&facts, start + RECENT), error);
    }

    #[test]
    fn a_rekey_that_failed_is_an_error_at_first_and_stays_a_warning() {
        let (start, mut facts) = (Instant::now(), Facts::default());
        facts.rekeys_failed.note(1, start);
        facts.rekeys_failed.note(1, start + RECENT / 2);
        assert_eq!(told(&facts, start), [("rekeys_failed".into(), "error".into())]);
        assert_eq!(told(&facts, start + RECENT), [("rekeys_failed".into(), "warning".into())]);
    }

    #[test]
    fn little_room_is_a_warning_and_hardly_any_an_error() {
        for (free, total, level) in [
            (4 * GB, 100 * GB, Some("warning")),
            (GB / 2, 100 * GB, Some("error")),
            (30 * GB, 100 * GB, None),
            (GB / 10, 4 * GB, Some("error")),
            (3 * GB, 4 * GB, None),
        ] {
            assert_eq!(fullness(Disk { free, total }), level, "{free} of {total}");
        }
    }

    #[test]
    fn every_reason_not_to_be_ready_is_told() {
        let facts = Facts { reasons: vec!["a".into(), "b".into()], audit_failures: 1, ..Facts::default() };
        assert_eq!(told(&facts, Instant::now()).len(), 3);
    }
}
