//! What was recorded and is played again: chains a reader begins with, and requests a publisher answers once.

use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;
use veilcast::exchange::{Dropped, Rate, Screen, ScreenLimits, Screened};
use veilcast::identity::Domain;
use veilcast::message::{Draft, Payload, compose};
use veilcast::subscriber::{Intake, IntakeEffect, IntakeLimits};
use veilcast::wire::{Content, KeyRequest, MessageContent, RequestId, Verified};
use veilcast::{Identity, Refusal, Timestamp};

use crate::support::{Envelope, NOW, Scripted, at, draft, publisher, request, stream, subscriber};

const WINDOW: Duration = Duration::from_secs(600);
const MOMENT: Duration = Duration::from_millis(1);

fn chain_id(chain: u16) -> [u8; 16] {
    u128::from(chain).to_be_bytes()
}

fn said(identity: &Identity, chain: u16, draft: Draft) -> Verified<MessageContent> {
    let draft = Draft { chain: chain_id(chain), key_updates: Vec::new(), ..draft };
    compose(draft, &Payload::text("x"), None, identity, &mut Scripted::new(&[])).unwrap()
}

/// The message at `millis` of a chain of the publisher, the first or behind the one before.
fn one(chain: u16, millis: u64) -> Verified<MessageContent> {
    let previous = millis.checked_sub(1).map(|before| at(before, 0));
    said(&publisher(), chain, Draft { at: at(millis, 0), previous, ..draft() })
}

fn intake() -> Intake {
    Intake::new(stream("prices"), IntakeLimits::default())
}

fn delivered(effects: &[IntakeEffect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, IntakeEffect::Deliver(_))).count()
}

#[test]
fn a_chain_first_met_more_than_10_minutes_in_the_past_is_dropped_without_a_word() {
    let arrives = |now: Timestamp| intake().message(now, one(1, 0));
    assert_eq!(delivered(&arrives(NOW.plus(WINDOW))), 1);
    assert!(arrives(NOW.plus(WINDOW).plus(MOMENT)).is_empty());
}

#[test]
fn a_chain_that_is_remembered_goes_on_however_long_it_was_silent() {
    let mut intake = intake();
    assert_eq!(delivered(&intake.message(NOW, one(1, 0))), 1);
    let much_later = NOW.plus(WINDOW * 100);
    assert_eq!(delivered(&intake.message(much_later, one(1, 1))), 1);
    assert!(intake.message(much_later, one(1, 0)).is_empty(), "a duplicate");
    assert!(intake.message(much_later, one(2, 0)).is_empty(), "another chain of that time");
}

#[test]
fn of_one_publisher_256_chains_are_remembered_and_its_chains_push_out_nobody_elses() {
    let mut intake = intake();
    let theirs = said(&subscriber(), 1, Draft { previous: None, ..draft() });
    assert_eq!(delivered(&intake.message(NOW, theirs.clone())), 1);
    for chain in 0..256 {
        assert_eq!(delivered(&intake.message(NOW, one(chain, 0))), 1);
    }
    let again = |intake: &mut Intake, chain| delivered(&intake.message(NOW, one(chain, 0)));
    assert_eq!((again(&mut intake, 0), again(&mut intake, 63)), (0, 0), "duplicates");
    for chain in 256..512 {
        assert_eq!(delivered(&intake.message(NOW, one(chain, 0))), 1);
    }
    assert_eq!(again(&mut intake, 256), 0);
    assert_eq!(again(&mut intake, 1), 1, "it was forgotten");
    assert_eq!(delivered(&intake.message(NOW, theirs)), 0);
}

fn ask(id: u8, sent: Timestamp) -> Verified<KeyRequest> {
    Verified::sign(KeyRequest { id: RequestId([id; 16]), sent, ..request() }, &subscriber()).unwrap()
}

fn screen(limits: ScreenLimits) -> Screen {
    Screen::new(publisher().user(), limits, NOW)
}

fn is_replay(screened: Screened) -> bool {
    matches!(screened, Screened::Dropped(Dropped::Replayed))
}

fn is_admitted(screened: Screened) -> bool {
    matches!(screened, Screened::Admitted(_))
}

#[test]
fn a_request_from_the_future_is_still_known_as_a_replay_until_it_is_stale() {
    let (mut screen, asked) = (screen(ScreenLimits::default()), ask(1, NOW.plus(Duration::from_secs(60))));
    assert!(is_admitted(screen.look(NOW, b"p", asked.envelope())));
    let end = NOW.plus(Duration::from_secs(120));
    assert!(is_admitted(screen.look(end, b"p", ask(2, end).envelope())));
    assert!(is_replay(screen.look(end, b"p", asked.envelope())));
    let stale = screen.look(end.plus(MOMENT), b"p", asked.envelope());
    assert!(matches!(stale, Screened::Dropped(Dropped::Stale)));
}

#[test]
fn a_request_that_was_forged_or_throttled_is_not_remembered_and_pushes_no_id_out() {
    let limits = ScreenLimits {
        replay_capacity: NonZeroUsize::new(2).unwrap(),
        per_subscriber: Rate { per_second: 1, burst: 1 },
        ..ScreenLimits::default()
    };
    let mut screen = screen(limits);
    assert!(is_admitted(screen.look(NOW, b"p", ask(1, NOW).envelope())));
    for id in 2..20 {
        let content = KeyRequest { id: RequestId([id; 16]), ..request() }.encode();
        let forged: Bytes = Envelope::signed(Domain::KeyRequest, content, &publisher()).bytes();
        // Each through a peer of its own: what is checked in vain uses up a peer's share.
        assert!(matches!(screen.look(NOW, &[id], &forged), Screened::Dropped(Dropped::Signature(_))));
        let throttled = screen.look(NOW, b"q", ask(id, NOW).envelope());
        assert!(matches!(throttled, Screened::Refused(_, Refusal::Throttled { .. })));
    }
    assert!(is_replay(screen.look(NOW, b"p", ask(1, NOW).envelope())));
    let later = NOW.plus(Duration::from_secs(1));
    assert!(is_admitted(screen.look(later, b"p", ask(2, NOW).envelope())));
}

#[test]
fn no_request_id_is_forgotten_for_want_of_room_while_its_request_is_fresh() {
    let limits = ScreenLimits::default();
    let fresh = u128::from(limits.total.per_second) * limits.freshness.as_millis() * 2 / 1000;
    assert_eq!(limits.replay_capacity.get(), 786_432);
    assert!(limits.replay_capacity.get() as u128 >= fresh + u128::from(limits.total.burst));
}
