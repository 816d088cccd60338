use super::*;
use crate::exchange::Dropped;
use crate::identity::{Domain, Identity};
use crate::permission::Refusal;
use crate::storage::Filter;
use crate::stream::StreamId;
use crate::wire::{Content, testing::envelope_of};

const NOW: Timestamp = Timestamp::from_secs(1000);

fn identity(byte: u8) -> Identity {
    Identity::from_secret_bytes(&[byte; 32]).unwrap()
}

fn me() -> UserId {
    identity(9).user()
}

fn content(requester: u8, id: u16, span: Span) -> ResendRequest {
    let part = StreamId::of(me(), "s").unwrap().part(0).unwrap();
    let mut name = [0; 16];
    name[..2].copy_from_slice(&id.to_be_bytes());
    ResendRequest {
        id: RequestId(name),
        part,
        node: me(),
        requester: identity(requester).user(),
        sent: NOW,
        span,
        after: None,
        filter: Filter::ALL,
        proofs: Vec::new(),
    }
}

fn signed(request: ResendRequest, by: u8) -> Received<ResendRequest> {
    let bytes = request.encode();
    let signature = identity(by).sign(Domain::ResendRequest, &bytes);
    Received::decode(&envelope_of(1, Domain::ResendRequest.number(), &bytes, signature.as_bytes())).unwrap()
}

fn request(requester: u8, id: u16) -> Received<ResendRequest> {
    signed(content(requester, id, Span::Last(1)), requester)
}

fn screen(limits: ResendLimits) -> ResendScreen {
    ResendScreen::new(me(), limits, NOW)
}

/// All steps at once.
fn look(screen: &mut ResendScreen, peer: &[u8], request: Received<ResendRequest>) -> Admission {
    match screen.glance(NOW, peer, request) {
        Glance::Candidate(candidate) => screen.admit(NOW, candidate.verify()),
        Glance::Settled(settled) => Admission::Settled(settled),
    }
}

fn ticket(admission: Admission) -> Ticket {
    match admission {
        Admission::Page(ticket) => ticket,
        Admission::Settled(settled) => panic!("settled: {settled:?}"),
    }
}

fn dropped(admission: Admission) -> Dropped {
    match admission {
        Admission::Settled(Screened::Dropped(why)) => why,
        other => panic!("not dropped: {other:?}"),
    }
}

/// How long its requester is told to wait.
fn throttled(admission: Admission) -> Duration {
    match admission {
        Admission::Settled(Screened::Refused(_, Refusal::Throttled { retry_after })) => retry_after,
        other => panic!("not throttled: {other:?}"),
    }
}

fn is_page(admission: &Admission) -> bool {
    matches!(admission, Admission::Page(_))
}

#[test]
fn what_is_stale_replayed_or_for_somebody_else_costs_no_signature_check() {
    let mut screen = screen(ResendLimits::default());
    for (sent, node) in [(NOW.plus(Duration::from_secs(61)), me()), (NOW.minus(Duration::from_secs(61)), me())]
        .into_iter()
        .chain([(NOW, identity(8).user())])
    {
        let request = ResendRequest { sent, node, ..content(1, 1, Span::Last(1)) };
        assert!(matches!(screen.glance(NOW, b"p", signed(request, 1)), Glance::Settled(Screened::Dropped(_))));
    }
    let both = [(); 2].map(|()| match screen.glance(NOW, b"p", request(1, 1)) {
        Glance::Candidate(candidate) => candidate.verify(),
        Glance::Settled(settled) => panic!("{settled:?}"),
    });
    let [first, second] = both.map(|checked| screen.admit(NOW, checked));
    assert!(is_page(&first));
    assert_eq!(dropped(second), Dropped::Replayed, "two at the same moment count once");
    assert!(matches!(screen.glance(NOW, b"p", request(1, 1)), Glance::Settled(Screened::Dropped(_))));
}

#[test]
fn one_requester_has_so_many_pages_made_at_a_time_and_others_theirs() {
    let mut screen = screen(ResendLimits { at_once: 2, ..ResendLimits::default() });
    let first = ticket(look(&mut screen, b"p", request(1, 1)));
    let _second = ticket(look(&mut screen, b"p", request(1, 2)));
    assert_eq!(throttled(look(&mut screen, b"p", request(1, 3))), Duration::from_secs(1));
    assert!(is_page(&look(&mut screen, b"p", request(2, 1))));
    screen.done(first, 0);
    assert!(is_page(&look(&mut screen, b"p", request(1, 4))));
}

/// How many pages one requester gets at once, when so much is looked at for each; `None`: all are asked for before one is read.
fn pages_at_once(span: Span, looked_at: Option<usize>) -> usize {
    let mut screen = screen(ResendLimits { at_once: 10_000, ..ResendLimits::default() });
    let page = |id: &u16| match look(&mut screen, &id.to_be_bytes(), signed(content(1, *id, span), 1)) {
        Admission::Page(ticket) => {
            if let Some(looked_at) = looked_at {
                screen.done(ticket, looked_at);
            }
            true
        }
        Admission::Settled(_) => false,
    };
    (0..500).filter(page).count()
}

#[test]
fn a_page_for_which_much_was_read_costs_its_requester_more_and_is_paid_for_before_it_is_read() {
    let all = Span::Range { from: Timestamp::ZERO, to: NOW };
    assert_eq!(ResendLimits::default().per_requester.burst, 400);
    assert_eq!(pages_at_once(all, Some(0)), 400);
    assert_eq!(pages_at_once(all, Some(READ_PER_TOKEN)), 400, "an ordinary page is full");
    assert_eq!(pages_at_once(all, Some(READ_PER_TOKEN + 1)), 200);
    assert_eq!(pages_at_once(all, Some(LOOKED_AT)), 25);
    assert_eq!(pages_at_once(all, None), 25, "the dearest are taken before");
}

#[test]
fn to_count_a_million_messages_back_costs_its_requester_all_he_has() {
    assert_eq!(pages_at_once(Span::Last(1_000_000), None), 1);
    assert_eq!(pages_at_once(Span::Last(1_000_000), Some(1_001_000)), 1);
    assert_eq!(pages_at_once(Span::Last(100), Some(200)), 400);
}

#[test]
fn what_nobody_signed_costs_the_peer_it_came_through_much_more() {
    let limits = ResendLimits { per_peer: Rate { per_second: 1, burst: 30 }, at_once: 100, ..ResendLimits::default() };
    let mut screen = screen(limits);
    let forged = signed(content(1, 1, Span::Last(1)), 7);
    assert!(matches!(dropped(look(&mut screen, b"liar", forged)), Dropped::Signature(_)));
    let admitted = (2..100).filter(|id| is_page(&look(&mut screen, b"liar", request(2, *id)))).count();
    assert_eq!(admitted, 9);
    let mut screen = ResendScreen::new(me(), limits, NOW);
    screen.charge_vain(b"liar", 4, NOW);
    assert!(!is_page(&look(&mut screen, b"liar", request(2, 1))), "so do proofs that prove nothing");
}

#[test]
fn a_flood_of_one_peer_leaves_the_others_their_share() {
    let limits = ResendLimits { per_peer: Rate { per_second: 1, burst: 5 }, at_once: 100, ..ResendLimits::default() };
    let mut screen = screen(limits);
    let passed = (0..100).filter(|id| is_page(&look(&mut screen, b"loud", request(1, *id)))).count();
    assert_eq!(passed, 5);
    assert!(is_page(&look(&mut screen, b"quiet", request(2, 1))));
}

#[test]
fn a_reader_over_his_limit_is_told_how_long_to_wait_and_not_cut_off_however_many_reads_he_has_at_a_time() {
    let mut screen = screen(ResendLimits { at_once: 10_000, ..ResendLimits::default() });
    let limits = ResendLimits::default();
    for id in 0..400 {
        let ticket = ticket(look(&mut screen, b"p", request(1, id)));
        screen.done(ticket, 1000);
    }
    // Eight that go on at the same time, each until it is told to wait.
    let mut id = 1000;
    for second in 1..10 {
        let (now, mut waiting) = (NOW.plus(Duration::from_secs(second)), 0);
        while waiting < 8 {
            id += 1;
            let request = ResendRequest { sent: now, ..content(1, id, Span::Last(1)) };
            let admission = match screen.glance(now, b"p", signed(request, 1)) {
                Glance::Candidate(candidate) => screen.admit(now, candidate.verify()),
                Glance::Settled(settled) => Admission::Settled(settled),
            };
            match admission {
                Admission::Page(ticket) => screen.done(ticket, 1000),
                settled => waiting += usize::from(throttled(settled) >= Duration::from_secs(1)),
            }
        }
    }
    assert!(limits.per_peer.per_second >= 2 * limits.per_requester.per_second);
}

#[test]
fn a_flood_in_one_name_through_many_peers_costs_no_signature_check_beyond_its_limit_and_takes_nothing_of_the_total() {
    let limits = ResendLimits { total: Rate { per_second: 1, burst: 500 }, at_once: 10_000, ..ResendLimits::default() };
    let mut screen = screen(limits);
    let mut checked = 0;
    for id in 0..5000u16 {
        let peer = [u8::try_from(id % 100).unwrap()];
        if let Glance::Candidate(candidate) = screen.glance(NOW, &peer, request(1, id)) {
            checked += 1;
            drop(screen.admit(NOW, candidate.verify()));
        }
    }
    assert!(checked <= limits.per_requester.burst, "{checked} checks");
    assert!(is_page(&look(&mut screen, b"other", request(2, 1))), "somebody else's page still comes");
}

#[test]
fn a_forged_request_in_anothers_name_takes_nothing_of_his() {
    let mut screen =
        screen(ResendLimits { per_requester: Rate { per_second: 1, burst: 2 }, ..ResendLimits::default() });
    for id in 0..20 {
        assert!(!is_page(&look(&mut screen, &[7], signed(content(1, id, Span::Last(1)), 7))));
    }
    assert!(is_page(&look(&mut screen, b"p", request(1, 1))));
}

#[test]
fn two_that_are_checked_at_the_same_moment_do_not_both_count_where_there_is_room_for_one_and_the_peer_pays() {
    let limits = ResendLimits {
        per_requester: Rate { per_second: 1, burst: 1 },
        per_peer: Rate { per_second: 1, burst: 25 },
        ..ResendLimits::default()
    };
    let mut screen = screen(limits);
    let both = [1, 2].map(|id| match screen.glance(NOW, b"p", request(1, id)) {
        Glance::Candidate(candidate) => candidate.verify(),
        Glance::Settled(settled) => panic!("{settled:?}"),
    });
    let [first, second] = both.map(|checked| screen.admit(NOW, checked));
    assert!(is_page(&first));
    throttled(second);
    let left = (0..100).filter(|id| is_page(&look(&mut screen, b"p", request(*id as u8 + 10, 1)))).count();
    assert_eq!(left, 3, "of 25, two for a look and twenty for the check in vain");
}
