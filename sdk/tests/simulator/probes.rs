//! After a run: what was recorded is tried under names it does not belong to.

use bytes::Bytes;
use veilcast::cipher::{MessageCipher, Recipient, TransportKey, unwrap_next};
use veilcast::key_store::KeyScope;
use veilcast::scope;
use veilcast::stream::StreamId;
use veilcast::wire::{KeyAnswer, MessageContent, Received};

use crate::network::{Body, Place};
use crate::world::World;

pub(crate) fn judge(world: &mut World) {
    let foreign =
        |own: &StreamId| -> StreamId { StreamId::new(&format!("{own}-other")).expect("a longer path is a path") };
    messages_stay_in_their_stream(world, foreign);
    answers_stay_in_their_stream(world, foreign);
}

/// Payload and carried keys open under their own stream and publisher, with the right key, and nowhere else.
fn messages_stay_in_their_stream(world: &mut World, foreign: impl Fn(&StreamId) -> StreamId) {
    let env = &mut world.env;
    let sealed = || env.facts.messages.values().filter_map(|fact| fact.key_id.as_ref().map(|key_id| (fact, key_id)));
    let carrying = sealed().filter(|(fact, _)| !content(&fact.envelope).key_updates.is_empty());
    let probed: Vec<_> = sealed().take(1).chain(carrying.take(1)).collect();
    let mut wrong = Vec::new();
    for (fact, key_id) in probed {
        let content = content(&fact.envelope);
        let (key, publisher) = (&env.facts.keys[key_id].key, content.publisher);
        let other = veilcast::UserId::from_bytes([9; 20]);
        let (own, abroad) =
            (scope(publisher, &fact.stream), [scope(publisher, &foreign(&fact.stream)), scope(other, &fact.stream)]);
        let opens = |scope: &KeyScope| MessageCipher::new(scope, key).open(content.header(), &content.payload).is_ok();
        let unwraps = |scope: &KeyScope| {
            let of_key = content.key_updates.iter().filter(|update| &update.wrapped_by == key.id());
            of_key.map(|update| unwrap_next(scope, key, &update.key_id, &update.wrapped).is_ok()).collect::<Vec<_>>()
        };
        if !opens(&own) || abroad.iter().any(opens) {
            wrong.push("payload");
        }
        if unwraps(&own).contains(&false) || abroad.iter().any(|scope| unwraps(scope).contains(&true)) {
            wrong.push("carried key");
        }
    }
    env.must(wrong.is_empty(), "nothing opens across streams or publishers", || format!("{wrong:?}"));
}

fn content(envelope: &Bytes) -> MessageContent {
    Received::<MessageContent>::decode(envelope).expect("it was published").claims().clone()
}

/// One recorded answer to somebody who still runs, as if it were of another stream, or for somebody else.
fn answers_stay_in_their_stream(world: &mut World, foreign: impl Fn(&StreamId) -> StreamId) {
    let granting = world.env.net.tape.iter().rev().find_map(|packet| match (&packet.body, packet.to) {
        (Body::Answer(_, bytes), Place::Subscriber(number)) => {
            let answer = Received::<KeyAnswer>::decode(bytes).ok()?.claims().clone();
            (!answer.granted.is_empty()).then_some((answer, number))
        }
        _ => None,
    });
    let Some((answer, number)) = granting else { return };
    let Some(pair) = world.subscribers[number].run.as_ref().map(|run| run.pair) else { return };
    let abroad = scope(answer.publisher, &foreign(&answer.stream));
    let recipient = Recipient { scope: &abroad, subscriber: answer.requester, request: answer.id };
    let opened = TransportKey::decapsulate(recipient, pair, &answer.encapsulated, &mut world.env.rng).is_ok();
    world.env.must(!opened, "nothing opens across streams or publishers", || "a transport key".into());
}
