use bytes::Bytes;

use super::*;
use crate::identity::{Identity, UserId};
use crate::message::{Draft, Payload, compose};
use crate::stream::StreamId;
use crate::wire::RequestId;

const NODE: UserId = UserId::from_bytes([9; 20]);
const ALWAYS: Span = Span::Range { from: Timestamp::ZERO, to: Timestamp::from_millis(u64::MAX) };

fn part(number: u32) -> StreamPart {
    StreamId::of(UserId::from_bytes([7; 20]), "s").unwrap().part(number).unwrap()
}

fn at(secs: u64) -> MessageRef {
    MessageRef { timestamp: Timestamp::from_secs(secs), sequence: 0 }
}

/// A message of `author` at `secs`, which names the one at `previous` before it.
fn message(author: u8, secs: u64, previous: Option<u64>) -> Verified<MessageContent> {
    let identity = Identity::from_secret_bytes(&[author; 32]).unwrap();
    let previous = previous.map(at);
    let draft = Draft { part: part(0), chain: [author; 16], at: at(secs), previous, key_updates: Vec::new() };
    compose(draft, &Payload::text("x"), None, &identity, &mut rand::rng()).unwrap()
}

fn chain(author: u8, secs: std::ops::RangeInclusive<u64>) -> Vec<Verified<MessageContent>> {
    secs.map(|n| message(author, n, n.checked_sub(1).filter(|before| *before > 0))).collect()
}

fn asked(history: &History) -> ResendRequest {
    let (span, after, filter) = history.wanted();
    let (id, requester, sent) = (RequestId([1; 16]), UserId::from_bytes([8; 20]), Timestamp::ZERO);
    ResendRequest { id, part: part(0), node: NODE, requester, sent, span, after, filter, proofs: Vec::new() }
}

fn page(asked: &ResendRequest, next: Option<Place>) -> ResendPage {
    let ResendRequest { id, part, node, requester, sent, .. } = asked.clone();
    ResendPage { id, part, node, requester, sent, messages: Vec::<Bytes>::new(), next, refusal: None }
}

fn place_of(message: &Verified<MessageContent>) -> Place {
    Place::from(message.content())
}

/// A page of these messages, behind the last of which there is more. What is missing between them.
fn give(history: &mut History, messages: Vec<Verified<MessageContent>>) -> Vec<Hole> {
    let asked = asked(history);
    check(&asked, &page(&asked, messages.last().map(place_of)), &messages).unwrap();
    history.take(&messages)
}

#[test]
fn pages_follow_each_other_by_the_place_of_the_last_message_read() {
    let mut history = History::new(part(0), ALWAYS, Filter::ALL);
    assert_eq!(give(&mut history, chain(1, 1..=3)), []);
    assert_eq!(history.wanted(), (ALWAYS, Some(place_of(&message(1, 3, None))), Filter::ALL));
    assert_eq!(give(&mut history, chain(1, 4..=5)), []);
    assert_eq!((history.taken(), history.after()), (5, Some(place_of(&message(1, 5, None)))));
}

#[test]
fn the_last_n_are_counted_once_and_then_read_on_by_place() {
    let mut history = History::new(part(0), Span::Last(5), Filter::ALL);
    assert_eq!(history.wanted().0, Span::Last(5));
    // Where they begin, a chain is cut: nothing is missing.
    assert_eq!(give(&mut history, chain(1, 7..=9)), []);
    assert_eq!(history.wanted().0, ALWAYS);
}

#[test]
fn reading_that_was_left_goes_on_behind_its_place_and_misses_nothing_before_it() {
    let left = place_of(&message(1, 3, None));
    let span = Span::Range { from: left.at.timestamp, to: Timestamp::from_millis(u64::MAX) };
    let mut history = History::new(part(0), span, Filter::ALL).behind(Some(left));
    assert_eq!(history.wanted().1, Some(left));
    assert_eq!(give(&mut history, chain(1, 4..=5)), []);
    let mut history = History::new(part(0), span, Filter::ALL).behind(Some(left));
    let holes = give(&mut history, chain(1, 6..=7));
    assert_eq!(holes.iter().map(|hole| (hole.after, hole.until)).collect::<Vec<_>>(), [(None, at(5))]);
    assert_eq!(history.wanted_for(&holes[0]).1, Some(left), "only what is behind it");
}

#[test]
fn what_a_node_leaves_out_in_the_middle_of_a_chain_is_a_hole() {
    let mut history = History::new(part(0), ALWAYS, Filter::ALL);
    let mut messages = [chain(1, 1..=2), chain(1, 5..=6)].concat();
    let name = (messages[0].content().publisher, [1; 16]);
    let hole = Hole { before: 2, chain: name, after: Some(at(2)), until: at(4) };
    assert_eq!(give(&mut history, messages.clone()), [hole]);
    assert_eq!(history.wanted_for(&hole).0, Span::Range { from: at(2).timestamp, to: at(4).timestamp });
    // At the beginning of the span, and between two pages, as well.
    let mut history = History::new(part(0), ALWAYS, Filter::ALL);
    messages.drain(..2);
    let hole = Hole { before: 0, chain: name, after: None, until: at(4) };
    assert_eq!(give(&mut history, messages), [hole]);
    let hole = Hole { before: 0, chain: name, after: Some(at(6)), until: at(8) };
    assert_eq!(give(&mut history, chain(1, 9..=9)), [hole]);
}

#[test]
fn a_live_message_shows_what_is_missing_before_it_once() {
    let since = Span::Range { from: at(3).timestamp, to: Timestamp::from_millis(u64::MAX) };
    let mut history = History::new(part(0), since, Filter::ALL);
    assert_eq!(history.live(message(1, 3, Some(2)).content()), None, "what is before the history is not missing");
    assert_eq!(history.live(message(1, 4, Some(3)).content()), None);
    let missing = history.live(message(1, 7, Some(6)).content()).unwrap();
    assert_eq!((missing.after, missing.until), (Some(at(4)), at(6)));
    assert_eq!(history.live(message(1, 8, Some(7)).content()), None);
    assert_eq!(history.live(message(1, 5, Some(4)).content()), None, "it came late");
    let begun = history.live(message(2, 9, Some(8)).content()).unwrap();
    assert_eq!((begun.after, begun.until), (None, at(8)), "a chain just met, whose beginning belongs to the history");
}

#[test]
fn one_chain_has_no_holes_because_of_another() {
    let mut history = History::new(part(0), ALWAYS, Filter::ALL);
    let mixed = [message(1, 1, None), message(2, 2, None), message(1, 3, Some(1)), message(2, 4, Some(2))];
    assert_eq!(give(&mut history, mixed.to_vec()), []);
}

#[test]
fn before_the_span_begins_nothing_is_missing() {
    let span = Span::Range { from: at(5).timestamp, to: at(9).timestamp };
    let mut history = History::new(part(0), span, Filter::ALL);
    assert_eq!(give(&mut history, chain(1, 5..=9)), []);
}

#[test]
fn messages_that_were_not_asked_for_or_are_out_of_order_are_a_lie() {
    let publisher = message(2, 1, None).content().publisher;
    let span = Span::Range { from: at(2).timestamp, to: at(4).timestamp };
    let lies = [
        (History::new(part(1), ALWAYS, Filter::ALL), chain(1, 1..=2)),
        (History::new(part(0), span, Filter::ALL), chain(1, 1..=2)),
        (History::new(part(0), span, Filter::ALL), chain(1, 4..=5)),
        (History::new(part(0), ALWAYS, Filter::publisher(publisher)), chain(1, 1..=2)),
        (History::new(part(0), ALWAYS, Filter::ALL), [chain(1, 2..=2), chain(1, 1..=1)].concat()),
        (History::new(part(0), ALWAYS, Filter::ALL), [chain(1, 1..=1), chain(1, 1..=1)].concat()),
    ];
    for (history, messages) in lies {
        let request = ResendRequest { part: history.part().clone(), ..asked(&history) };
        let fault = check(&request, &page(&request, None), &messages).unwrap_err();
        assert!(matches!(fault, StorageFault::Lied(_)), "{fault}");
    }
}

#[test]
fn a_page_that_leads_back_or_answers_something_else_is_a_lie() {
    let mut history = History::new(part(0), ALWAYS, Filter::ALL);
    give(&mut history, chain(1, 1..=5));
    let request = asked(&history);
    let lies = |page: &ResendPage| matches!(check(&request, page, &[]), Err(StorageFault::Lied(_)));
    assert!([3, 5].iter().all(|next| lies(&page(&request, Some(place_of(&message(1, *next, None)))))));
    assert!(lies(&ResendPage { id: RequestId([2; 16]), ..page(&request, None) }));
    assert!(lies(&ResendPage { node: UserId::from_bytes([1; 20]), ..page(&request, None) }));

    let (first, given) = (asked(&History::new(part(0), ALWAYS, Filter::ALL)), chain(1, 1..=3));
    let led = |n: usize| check(&first, &page(&first, Some(place_of(&given[n]))), &given);
    assert!(matches!(led(1), Err(StorageFault::Lied(_))), "to before its own last message");
    assert_eq!(led(2), Ok(()));
}

#[test]
fn a_page_with_nothing_on_it_may_lead_on_but_is_not_believed_when_another_is_asked() {
    let history = History::new(part(0), ALWAYS, Filter::ALL);
    let request = asked(&history);
    let next = place_of(&message(1, 3, None));
    assert_eq!(check(&request, &page(&request, Some(next)), &[]), Ok(()));
    assert_eq!(history.wanted().1, None, "who asks another goes by what was read");
}
