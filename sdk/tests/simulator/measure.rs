//! How much a subscriber holds, against its limits.

use veilcast::subscriber::Intake;

use crate::env::Env;
use crate::subscriber::Subscriber;

/// What an intake holds, by its own count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// Messages that wait for one before them.
    pub(crate) waiting: u64,
    pub(crate) parked: u64,
    pub(crate) bytes: u64,
}

impl Held {
    pub(crate) const NOTHING: Self = Self { waiting: 0, parked: 0, bytes: 0 };

    /// Only `parked` has a function of its own; the rest is read from the intake's `Debug`.
    pub(crate) fn by(intake: &Intake) -> Self {
        let text = format!("{intake:?}");
        let counts = text.split_once("}, waiting: ").map_or("", |(_, counts)| counts);
        let of = |name: &str| -> Option<u64> {
            let digits = counts.split(name).nth(1)?;
            digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        };
        let waiting = counts.split(',').next().and_then(|digits| digits.parse().ok());
        let told = waiting.zip(of(" parked: ").zip(of(" bytes: ")));
        let (waiting, (parked, bytes)) = told.expect("an intake's Debug tells `waiting: n, parked: n, bytes: n`");
        Self { waiting, parked, bytes }
    }
}

impl Subscriber {
    /// Nothing held may outgrow its limit. Looking closely takes time, so it is done where limits are small.
    pub(crate) fn measure(&mut self, env: &mut Env, closely: bool) {
        let Some(run) = &self.run else { return };
        let pending = run.requester.pending();
        let known = env.facts.keys.len();
        env.must(pending <= known, "pending keys are bounded", || format!("{pending} pending of {known} keys"));
        env.figures.most_pending = env.figures.most_pending.max(pending as u64);
        for intake in run.intakes.values() {
            let parked = intake.parked();
            env.must(parked <= self.limits.parked, "parked messages are bounded", || format!("{parked}"));
            env.figures.most_parked = env.figures.most_parked.max(parked as u64);
            if closely {
                let held = Held::by(intake);
                let waits = held.waiting <= self.limits.out_of_order as u64;
                let fits = held.parked == parked as u64 && held.bytes <= self.limits.held_bytes as u64;
                env.must(waits && fits, "what is held is bounded", || format!("{held:?}"));
                env.figures.most_waiting = env.figures.most_waiting.max(held.waiting);
                env.figures.most_held_bytes = env.figures.most_held_bytes.max(held.bytes);
            }
        }
    }
}
