use veilcast_key_store::{KeyId, TimeRange};

use super::*;
use crate::identity::Identity;
use crate::stream::StreamId;
use crate::wire::KeyRange;

const NOW: Timestamp = Timestamp::from_secs(1_000_000);

fn identity(byte: u8) -> Identity {
    Identity::from_secret_bytes(&[byte; 32]).unwrap()
}

fn request(from: u8, id: u8, sent: Timestamp) -> Verified<KeyRequest> {
    asking(from, id, sent, Wanted::Keys(vec![KeyId::new("k").unwrap()]))
}

fn asking(from: u8, id: u8, sent: Timestamp, wanted: Wanted) -> Verified<KeyRequest> {
    let publisher = identity(1).user();
    let content = KeyRequest {
        id: RequestId([id; 16]),
        stream: StreamId::of(publisher, "s").unwrap(),
        publisher,
        requester: identity(from).user(),
        sent,
        algorithm: 1,
        public_key: vec![1; 10],
        wanted,
        proofs: Vec::new(),
    };
    Verified::sign(content, &identity(from)).unwrap()
}

fn received(request: &Verified<KeyRequest>) -> Received<KeyRequest> {
    Received::decode(request.envelope()).unwrap()
}

fn screen() -> Screen {
    Screen::new(identity(1).user(), ScreenLimits::default(), NOW)
}

fn dropped(screened: Screened) -> Dropped {
    match screened {
        Screened::Dropped(why) => why,
        other => panic!("not dropped: {other:?}"),
    }
}

#[test]
fn a_fresh_signed_request_is_admitted_once_and_its_replay_is_dropped() {
    let mut screen = screen();
    let request = request(2, 1, NOW);
    assert!(matches!(screen.look(NOW, b"peer", request.envelope()), Screened::Admitted(_)));
    assert_eq!(dropped(screen.look(NOW, b"other", request.envelope())), Dropped::Replayed);
}

#[test]
fn stale_future_misdirected_and_malformed_requests_are_dropped_before_any_signature() {
    let mut screen = screen();
    let late = NOW.plus(Duration::from_secs(61));
    let stale = request(2, 1, NOW);
    assert_eq!(dropped(screen.look(late, b"p", stale.envelope())), Dropped::Stale);
    assert_eq!(dropped(screen.look(NOW, b"p", request(2, 2, late).envelope())), Dropped::Stale);
    let mut elsewhere = Screen::new(identity(9).user(), ScreenLimits::default(), NOW);
    assert_eq!(dropped(elsewhere.look(NOW, b"p", stale.envelope())), Dropped::Misdirected);
    assert!(matches!(dropped(screen.look(NOW, b"p", &Bytes::from_static(b"junk"))), Dropped::Malformed(_)));
}

#[test]
fn a_forged_request_is_dropped_and_does_not_make_the_true_one_look_replayed() {
    let mut screen = screen();
    let forged = {
        let content = request(2, 1, NOW).into_content();
        let bytes = crate::wire::Content::encode(&content);
        let signature = identity(3).sign(crate::identity::Domain::KeyRequest, &bytes);
        crate::wire::testing::envelope_of(1, 2, &bytes, signature.as_bytes())
    };
    assert!(matches!(dropped(screen.look(NOW, b"p", &forged)), Dropped::Signature(_)));
    assert!(matches!(screen.look(NOW, b"p", request(2, 1, NOW).envelope()), Screened::Admitted(_)));
}

#[test]
fn a_flooding_subscriber_is_throttled_with_a_signed_refusal_and_others_are_not() {
    let mut screen = screen();
    let mut refused = 0;
    for id in 0..60 {
        let peer = [id % 3];
        match screen.look(NOW, &peer, request(2, id, NOW).envelope()) {
            Screened::Admitted(_) => {}
            Screened::Refused(_, Refusal::Throttled { retry_after }) => {
                assert!(retry_after >= Duration::from_secs(1));
                refused += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(refused, 60 - 40, "the burst of one subscriber is 40, whatever peers it comes through");
    assert!(matches!(screen.look(NOW, b"q", request(3, 1, NOW).envelope()), Screened::Admitted(_)));
}

/// How many requests for a span one subscriber may make at once, each through a peer of its own, when each page takes so many
/// keys of the store. `None`: no page is read yet when the next is asked for.
fn spans_at_once(looked_at: Option<usize>, limits: ScreenLimits) -> usize {
    let mut screen = Screen::new(identity(1).user(), limits, NOW);
    let wanted = Wanted::Range(KeyRange { range: TimeRange::ALL, after: None });
    let admitted = (0..100).filter(|id| {
        let request = asking(2, *id, NOW, wanted.clone());
        let admitted = matches!(screen.look(NOW, &[*id], request.envelope()), Screened::Admitted(_));
        if let Some(looked_at) = looked_at.filter(|_| admitted) {
            screen.page_was_read(request.content(), looked_at);
        }
        admitted
    });
    admitted.count()
}

#[test]
fn a_span_costs_its_subscriber_by_the_keys_looked_at_and_at_most_five_times_what_a_request_by_id_costs() {
    let limits = ScreenLimits::default();
    assert_eq!(limits.per_subscriber.burst, 40);
    for (looked_at, expected) in [(0, 40), (1, 20), (256, 20), (257, 14), (1024, 8), (1_000_000, 8)] {
        assert_eq!(spans_at_once(Some(looked_at), limits), expected, "{looked_at} keys looked at");
    }
}

#[test]
fn spans_asked_for_at_the_same_time_are_paid_for_before_any_of_their_pages_is_read() {
    assert_eq!(spans_at_once(None, ScreenLimits::default()), 8);
}

#[test]
fn no_more_is_given_back_for_a_page_than_was_taken_for_it() {
    let one = Rate { per_second: 1, burst: 1 };
    let limits = ScreenLimits { per_subscriber: one, ..ScreenLimits::default() };
    assert_eq!(spans_at_once(Some(1), limits), 1);
    let mut screen = screen();
    let by_id = |id| request(2, id, NOW);
    for id in 0..40 {
        assert!(matches!(screen.look(NOW, &[id], by_id(id).envelope()), Screened::Admitted(_)));
        screen.page_was_read(by_id(id).content(), 0);
    }
    assert!(!matches!(screen.look(NOW, &[40], by_id(40).envelope()), Screened::Admitted(_)));
}

fn candidate(glance: Glance) -> Candidate {
    match glance {
        Glance::Candidate(candidate) => candidate,
        Glance::Settled(screened) => panic!("not a candidate: {screened:?}"),
    }
}

#[test]
fn a_replay_that_arrives_while_the_first_is_being_verified_is_admitted_only_once() {
    let (mut screen, request) = (screen(), request(2, 1, NOW));
    let first = candidate(screen.glance(NOW, b"p", received(&request)));
    let second = candidate(screen.glance(NOW, b"q", received(&request)));
    // Both at work at the same time; whichever is done first counts.
    let (first, second) = std::thread::scope(|scope| {
        let workers = [scope.spawn(|| first.verify()), scope.spawn(|| second.verify())];
        let [first, second] = workers.map(|worker| worker.join().unwrap());
        (first, second)
    });
    assert!(matches!(screen.admit(NOW, second), Screened::Admitted(_)));
    assert_eq!(dropped(screen.admit(NOW, first)), Dropped::Replayed);
}

#[test]
fn nothing_is_remembered_of_a_request_before_its_signature_is_checked() {
    let (mut screen, request) = (screen(), request(2, 1, NOW));
    // Looked at and never verified, as when its connection ends meanwhile.
    drop(screen.glance(NOW, b"p", received(&request)));
    assert_eq!((screen.seen.len(), screen.subscribers.len()), (0, 0));
    assert!(matches!(screen.look(NOW, b"p", request.envelope()), Screened::Admitted(_)));
}

#[test]
fn a_request_that_became_stale_while_it_was_verified_is_not_admitted() {
    let mut screen = screen();
    let checked = candidate(screen.glance(NOW, b"p", received(&request(2, 1, NOW)))).verify();
    assert_eq!(dropped(screen.admit(NOW.plus(Duration::from_secs(61)), checked)), Dropped::Stale);
}

#[test]
fn signatures_checked_in_vain_soon_use_up_the_share_of_their_peer_and_of_no_other() {
    let mut screen = screen();
    let forged = |id: u8| {
        let bytes = crate::wire::Content::encode(request(2, id, NOW).content());
        let signature = identity(3).sign(crate::identity::Domain::KeyRequest, &bytes);
        crate::wire::testing::envelope_of(1, 2, &bytes, signature.as_bytes())
    };
    let checked = |n: &u8| matches!(screen.look(NOW, b"p", &forged(*n)), Screened::Dropped(Dropped::Signature(_)));
    assert_eq!((0..100).filter(checked).count(), 5, "a burst of 100 at 21 each");
    assert!(matches!(screen.look(NOW, b"q", request(2, 1, NOW).envelope()), Screened::Admitted(_)));
}

#[test]
fn one_peer_is_told_that_it_is_throttled_only_so_often_and_leaves_refusals_to_others() {
    let mut screen = screen();
    let mut refused = |peer: &[u8], from| {
        let looked = (0..200).map(|id| screen.look(NOW, peer, request(from, id, NOW).envelope()));
        looked.filter(|screened| matches!(screened, Screened::Refused(..))).count()
    };
    assert_eq!(refused(b"p", 2), 40);
    assert_eq!(refused(b"q", 3), 40);
}

/// As many requests of as many identities, each through a peer of its own, in a hundred seconds. A signature is made only
/// for what gets as far as being verified, for nothing looks at it before.
fn flood(screen: &mut Screen, requests: u32, identities: u32) -> usize {
    let secret = |n: u32| [[7; 28].as_slice(), &n.to_be_bytes()].concat().try_into().unwrap();
    let everybody: Vec<Identity> = (0..identities).map(|n| Identity::from_secret_bytes(&secret(n)).unwrap()).collect();
    let (mut content, mut verified) = (request(2, 1, NOW).into_content(), 0);
    for n in 0..requests {
        let now = NOW.plus(Duration::from_micros(u64::from(n) * 100_000_000 / u64::from(requests)));
        // In no order that the limits could fall into step with.
        let at = (u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) % u64::from(identities);
        let (who, peer) = (&everybody[at as usize], at.to_be_bytes());
        content.id.0[..4].copy_from_slice(&n.to_be_bytes());
        (content.requester, content.sent) = (who.user(), now);
        let bytes = crate::wire::Content::encode(&content);
        let envelope = crate::wire::testing::envelope_of(1, 2, &bytes, &[0; 65]);
        if let Glance::Candidate(mut candidate) = screen.glance(now, &peer, Received::decode(&envelope).unwrap()) {
            let signature = who.sign(crate::identity::Domain::KeyRequest, &bytes);
            let signed = crate::wire::testing::envelope_of(1, 2, &bytes, signature.as_bytes());
            candidate.received = Received::decode(&signed).unwrap();
            verified += usize::from(matches!(screen.admit(now, candidate.verify()), Screened::Admitted(_)));
        }
    }
    verified
}

#[test]
fn after_a_million_requests_of_a_hundred_thousand_identities_every_map_is_at_its_named_limit() {
    let limits = ScreenLimits {
        total: Rate { per_second: 200, burst: 200 },
        replay_capacity: NonZeroUsize::new(10_000).unwrap(),
        ..ScreenLimits::default()
    };
    let mut screen = Screen::new(identity(1).user(), limits, NOW);
    let admitted = flood(&mut screen, 1_000_000, 100_000);
    assert!(admitted > limits.rate_capacity.get(), "enough to fill every map: {admitted}");
    assert_eq!(screen.seen.len(), limits.replay_capacity.get());
    for len in [screen.peers.len(), screen.peers_refusals.len(), screen.subscribers.len()] {
        assert_eq!(len, limits.rate_capacity.get());
    }
}
