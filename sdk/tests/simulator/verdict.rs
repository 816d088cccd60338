//! After a run: has everybody what was promised, and is nothing left over?

use veilcast::key_store::KeyId;
use veilcast::wire::MessageRef;

use crate::env::subscribing;
use crate::journal::{ChainLog, ChainName, Journal};
use crate::measure::Held;
use crate::plan::START;
use crate::probes;
use crate::subscriber::Subscriber;
use crate::world::World;

/// How long after a grant began a refusal may still be remembered.
const MEMORY: u64 = 12_000;

pub(crate) fn judge(world: &mut World) {
    for number in 0..world.subscribers.len() {
        nothing_left_over(world, number);
        everything_read(world, number);
    }
    probes::judge(world);
}

/// Links healed and time passed: nothing waits, nothing is asked for.
fn nothing_left_over(world: &mut World, number: usize) {
    let (subscriber, env) = (&mut world.subscribers[number], &mut world.env);
    subscriber.measure(env, true);
    let Some(run) = &subscriber.run else { return };
    let pending = run.requester.pending();
    env.must(pending == 0, "no deadlock", || format!("subscriber {number} still wants {pending} keys"));
    for intake in run.intakes.values() {
        let held = Held::by(intake);
        env.must(held == Held::NOTHING, "nothing is held for ever", || format!("subscriber {number}: {held:?}"));
    }
}

fn everything_read(world: &mut World, number: usize) {
    let mut complaint = None;
    let subscriber = &world.subscribers[number];
    let Some(run) = &subscriber.run else { return };
    for (stream, journal) in &run.journals {
        let mut missed = 0;
        for (name, chain) in &journal.chains {
            let Some(publisher) = world.env.number_of(name.0).filter(|_| world.env.may_publish(stream, name.0)) else {
                continue;
            };
            let question = subscribing(publisher, stream, subscriber.user());
            let Some(since) = world.env.grants.unbroken_since(&question, &world.env.clocks, world.env.now) else {
                continue;
            };
            let from = if since <= START { 0 } else { since + MEMORY };
            let required = |at: &MessageRef| {
                let fact = &world.env.facts.messages[&(name.0, name.1, *at)];
                let withheld = |key_id: &KeyId| journal.withheld.contains(&(name.0, key_id.clone()));
                fact.published >= from && !fact.key_id.as_ref().is_some_and(withheld)
            };
            for at in unread(world, subscriber, *name, chain, journal).into_iter().filter(required) {
                missed += 1;
                if missed > journal.dropped && complaint.is_none() {
                    let key = &world.env.facts.messages[&(name.0, name.1, at)].key_id;
                    complaint =
                        Some(format!("subscriber {number} never read {at:?} of publisher {publisher} ({key:?})"));
                }
            }
        }
    }
    let holds = complaint.is_none();
    world.env.must(holds, "who may read reads everything, or is told of a gap", || complaint.unwrap_or_default());
}

/// Messages of a chain that were neither read nor reported missing, though the chain was followed from before them.
fn unread(world: &World, who: &Subscriber, name: ChainName, chain: &ChainLog, journal: &Journal) -> Vec<MessageRef> {
    let (Some(head), Some((last, _))) = (head(world, who, chain), chain.arrived.last_key_value()) else {
        return Vec::new();
    };
    let from = (name.0, name.1, head);
    let all = world.env.facts.messages.range(from..=(name.0, name.1, *last)).map(|((_, _, at), _)| *at);
    let open = |at: &MessageRef| {
        let reported = journal.reported(name.0, *at);
        let (arrived, read) = (chain.arrived.get(at), chain.delivered.contains_key(at));
        // A gap must not be reported over a message that was there already.
        !read && !arrived.map_or(reported.is_some(), |arrived| reported.is_some_and(|told| told <= *arrived))
    };
    all.filter(open).collect()
}

/// Where a chain was joined: the earliest message there when the wait for earlier ones was over.
fn head(world: &World, who: &Subscriber, chain: &ChainLog) -> Option<MessageRef> {
    if world.tight || who.clock_was_set {
        // A full intake does not wait; one whose clock was set waits longer or shorter than it means to.
        return chain.delivered.first_key_value().map(|(at, _)| *at).or(chain.arrived.keys().next().copied());
    }
    let joined = chain.met? + veilcast::subscriber::IntakeLimits::default().join_wait.as_millis() as u64;
    chain.arrived.iter().filter(|(_, arrived)| **arrived < joined).map(|(at, _)| *at).min()
}
