use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::identity::Identity;
use crate::message::{Draft, Payload, compose};
use crate::storage::Place;
use crate::stream::StreamId;
use crate::subscriber::order::size_of;
use crate::wire::MessageRef;

const NOW: Timestamp = Timestamp::from_secs(1_000_000);

/// A replayer of one partition that went live behind nothing, and whoever publishes there.
struct Bench {
    core: Replayer,
    author: Identity,
    part: StreamPart,
    rng: StdRng,
    steady: Timestamp,
}

impl Bench {
    fn live(nodes: Vec<UserId>) -> Self {
        let mut bench = Self::with(ReplayLimits { fill_tries: 1, ..ReplayLimits::default() });
        let (now, mut effects) = (bench.now(), bench.found(nodes));
        while !bench.core.is_live() {
            effects = match bench.asked(&effects) {
                Some((_, id)) => bench.core.page(now, id, Err(StorageFault::Unreachable), &mut bench.rng),
                None => bench.core.met(now, &mut bench.rng),
            };
        }
        bench
    }

    fn with(limits: ReplayLimits) -> Self {
        let author = Identity::from_secret_bytes(&[1; 32]).unwrap();
        let part = StreamId::of(author.user(), "s").unwrap().part(0).unwrap();
        let core = Replayer::new(Replay::from(NOW), vec![part.clone()], user(9), true, limits);
        Self { core, author, part, rng: StdRng::seed_from_u64(1), steady: Timestamp::ZERO }
    }

    fn now(&self) -> Moment {
        Moment { steady: self.steady, clock: NOW }
    }

    fn message(&self, sequence: u32) -> Verified<MessageContent> {
        let at = |sequence| MessageRef { timestamp: NOW, sequence };
        let previous = sequence.checked_sub(1).map(at);
        let draft =
            Draft { part: self.part.clone(), chain: [7; 16], at: at(sequence), previous, key_updates: Vec::new() };
        compose(draft, &Payload::text("x"), None, &self.author, &mut rand::rng()).unwrap()
    }

    fn hear(&mut self, sequence: u32) -> Vec<ReplayEffect> {
        let (now, message) = (self.now(), self.message(sequence));
        self.core.live(now, vec![message], &mut self.rng)
    }

    fn tick(&mut self, after: Duration) -> Vec<ReplayEffect> {
        self.steady = self.steady.plus(after);
        let now = self.now();
        self.core.tick(now, &mut self.rng)
    }

    fn found(&mut self, nodes: Vec<UserId>) -> Vec<ReplayEffect> {
        let now = self.now();
        self.core.found(now, nodes, &mut self.rng)
    }

    fn asked(&self, effects: &[ReplayEffect]) -> Option<(usize, RequestId)> {
        effects.iter().find_map(|effect| match effect {
            ReplayEffect::Ask { node, request } => Some((*node, request.id)),
            _ => None,
        })
    }
}

fn user(byte: u8) -> UserId {
    UserId::from_bytes([byte; 20])
}

fn looks(effects: &[ReplayEffect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, ReplayEffect::Look)).count()
}

#[test]
fn where_there_was_no_storage_node_a_gap_has_them_looked_for_at_most_once_a_minute_and_whoever_is_there_now_is_asked() {
    let mut bench = Bench::live(Vec::new());
    bench.hear(0);
    assert_eq!(looks(&bench.hear(2)), 0, "they were looked for just now");
    bench.tick(bench.core.limits.look_again);
    let gap = bench.hear(4);
    assert_eq!((looks(&gap), bench.asked(&gap)), (1, None));
    assert_eq!(looks(&bench.hear(6)), 0);
    let found = bench.found(vec![user(3)]);
    assert_eq!(bench.asked(&found).map(|(node, _)| node), Some(0), "it is asked for what is missing at once");
}

#[test]
fn where_nobody_known_has_what_is_missing_others_are_looked_for_and_asked() {
    let mut bench = Bench::live(vec![user(3), user(4)]);
    bench.hear(0);
    bench.tick(bench.core.limits.look_again);
    bench.hear(2);
    let first = bench.tick(bench.core.limits.fill_after);
    let mut failed = first;
    while let Some((_, id)) = bench.asked(&failed) {
        let now = bench.now();
        failed = bench.core.page(now, id, Err(StorageFault::Unreachable), &mut bench.rng);
        if failed.is_empty() {
            // The other one of the two does not answer either.
            failed = bench.tick(bench.core.limits.answer_timeout);
        }
    }
    assert_eq!(looks(&failed), 1);
    let found = bench.found(vec![user(5)]);
    assert_eq!(bench.asked(&found).map(|(node, _)| node), Some(2), "numbered behind those of before");
    assert!(!bench.core.is_at_rest());
}

#[test]
fn nobody_is_looked_for_where_gaps_are_not_to_be_filled() {
    let mut bench = Bench::live(Vec::new());
    bench.core.limits.fill_tries = 0;
    bench.hear(0);
    bench.tick(bench.core.limits.look_again);
    assert_eq!(looks(&bench.hear(2)), 0);
}

#[test]
fn live_messages_that_wait_for_the_end_of_the_history_are_bounded_in_bytes() {
    let limits = ReplayLimits::default();
    let size = size_of(&Bench::with(limits).message(20));
    let mut bench = Bench::with(ReplayLimits { held_back_bytes: 4 * size, ..limits });
    for sequence in 1..=20 {
        bench.hear(sequence);
    }
    assert_eq!(bench.core.held(), 4);
    assert!(bench.core.held.overflowed, "storage is read once more for the others");
}

#[test]
fn a_page_that_answers_something_else_costs_no_check_of_its_messages() {
    for wrong in ["node", "request", "nothing"] {
        let mut bench = Bench::with(ReplayLimits::default());
        let asked = bench.found(vec![user(3)]);
        let (_, id) = bench.asked(&asked).unwrap();
        let (now, message) = (bench.now(), bench.message(1));
        let place = Place::from(message.content());
        let page = ResendPage {
            id: if wrong == "request" { RequestId([0; 16]) } else { id },
            part: bench.part.clone(),
            node: if wrong == "node" { user(4) } else { user(3) },
            requester: user(9),
            sent: NOW,
            messages: vec![message.envelope().clone(); 1000],
            next: Some(place),
            refusal: None,
        };
        let effects = bench.core.page(now, id, Ok(page), &mut bench.rng);
        let is_checked = effects.iter().any(|effect| matches!(effect, ReplayEffect::Check { .. }));
        let is_left = |effect: &ReplayEffect| {
            matches!(effect, ReplayEffect::Tell(Event::StorageFault { fault: StorageFault::Lied(_), .. }))
        };
        let is_right = wrong == "nothing";
        assert_eq!((is_checked, effects.iter().any(is_left)), (is_right, !is_right), "{wrong}");
    }
}
