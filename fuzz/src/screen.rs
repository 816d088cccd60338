//! The publisher's front door, request after request.

use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::time::Duration;

use bytes::Bytes;
use veilcast::exchange::{Rate, Screen, ScreenLimits, Screened};
use veilcast::wire::{KeyRequest, Received};

use crate::cast::{NOW, publisher};

/// Most requests of one input.
const MOST: usize = 16;

/// Requests one after another, each after a byte for the time that passed (in eighths of a second), one for the peer and
/// two for its length. Nothing is admitted that is not signed by whom it names, addressed here and fresh, nor twice, nor
/// more of it than the limits allow; and nothing is refused in our name that does not say it asks us.
pub fn screen(data: &[u8]) -> bool {
    let me = publisher().user();
    let limits = ScreenLimits {
        per_subscriber: Rate { per_second: 1, burst: 4 },
        per_peer: Rate { per_second: 2, burst: 30 },
        rate_capacity: NonZeroUsize::new(2).expect("not zero"),
        ..ScreenLimits::default()
    };
    let (mut screen, mut now, mut admitted, mut rest) = (Screen::new(me, limits, NOW), NOW, HashSet::new(), data);
    for _ in 0..MOST {
        let Some(([wait, peer, high, low], tail)) = rest.split_first_chunk() else { break };
        let (envelope, tail) = tail.split_at(usize::from(u16::from_be_bytes([*high, *low])).min(tail.len()));
        (now, rest) = (now.plus(Duration::from_millis(125 * u64::from(*wait))), tail);
        let envelope = Bytes::copy_from_slice(envelope);
        match screen.look(now, &[*peer], &envelope) {
            Screened::Admitted(verified) => {
                let claimed = Received::<KeyRequest>::decode(&envelope).expect("it was admitted");
                let signed = claimed.verify().expect("it was admitted");
                assert_eq!(signed.content(), verified.content());
                let request = verified.content();
                assert_eq!(request.publisher, me);
                assert!(now.since(request.sent).max(request.sent.since(now)) <= limits.freshness);
                assert!(admitted.insert((request.requester, request.id)), "a request is admitted once");
            }
            Screened::Refused(received, _) => assert_eq!(received.claims().publisher, me),
            Screened::Dropped(_) => {}
        }
    }
    let allowed = f64::from(limits.per_subscriber.burst) + now.since(NOW).as_secs_f64() + 1.0;
    assert!(admitted.len() as f64 <= 2.0 * allowed, "two subscribers are known to the seeds");
    !admitted.is_empty()
}
