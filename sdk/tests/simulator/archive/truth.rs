//! What must hold of what a reader was given.

use std::collections::BTreeSet;

use veilcast::UserId;
use veilcast::storage::Place;
use veilcast::subscriber::{ReplayLimits, StorageFault};
use veilcast::wire::{MessageContent, MessageRef, Received, Verified};

use super::depot::Depot;
use super::dishonest::Mode;
use super::reader::{Reader, Running, stream_of};
use crate::env::Env;
use crate::facts::{MessageFact, MessageName};

/// What a dishonest node may put on a page: more messages than a run has.
const WHOLE_STORE: usize = 300;

fn place_of(name: &MessageName) -> Place {
    Place { at: name.2, publisher: name.0, chain: name.1 }
}

fn part_of(fact: &MessageFact) -> u32 {
    Received::<MessageContent>::decode(&fact.envelope).expect("it was published").claims().part.number()
}

/// Of history: what was asked for, once, in the order of its chain.
pub(super) fn fed(env: &mut Env, reader: &mut Reader, message: &Verified<MessageContent>) {
    let user = reader.identity.user();
    let Some(run) = &mut reader.run else { return };
    let content = message.content();
    let name = (content.publisher, content.chain, content.at);
    let known = env.facts.messages.get(&name).is_some_and(|fact| fact.envelope == *message.envelope());
    env.must(known, "no forged or altered message is accepted", || format!("{user}: {content:?}"));
    if !run.history_is_over {
        let wanted = run.replay.has(&place_of(&name));
        env.must(wanted, "history is what was asked for", || format!("{:?}: {content:?}", run.replay));
        let later =
            run.fed.range((name.0, name.1, name.2)..).next().filter(|other| (other.0, other.1) == (name.0, name.1));
        env.must(later.is_none(), "history comes once, in the order of each chain", || format!("{user}: {content:?}"));
        run.stored.insert(name);
    }
    run.fed.insert(name);
}

/// Nobody is said to have lied who did not.
pub(super) fn blamed(env: &mut Env, depots: &[Depot], node: UserId, fault: &StorageFault) {
    let honest = depots.iter().any(|depot| depot.identity.user() == node && !depot.plan.mode.lies());
    let accused = matches!(fault, StorageFault::Lied(_));
    env.must(!(honest && accused), "who answers truly is not called a liar", || format!("{node}: {fault}"));
}

pub(super) fn note_fault(run: &mut Running, node: UserId, fault: &StorageFault) {
    if !matches!(fault, StorageFault::Withheld { .. }) {
        run.failed.insert(node);
    }
}

/// Whatever an honest node has had since the reader began, and went on having, was given to him.
pub(super) fn history_is_over(env: &mut Env, reader: &mut Reader, depots: &[Depot]) {
    let Some(run) = &mut reader.run else { return };
    run.history_is_over = true;
    let Some(run) = &reader.run else { return };
    let found = &reader.plan.depots;
    let mut missing = None;
    for depot in found.iter().map(|number| &depots[*number]) {
        let steady = matches!(depot.plan.mode, Mode::Honest) && depot.is_up() && depot.up_since <= run.began;
        if !steady || run.failed.contains(&depot.identity.user()) {
            continue;
        }
        let had = depot.stored.iter().filter(|(_, stored)| **stored <= run.began).map(|(name, _)| name);
        let lost = had.filter(|name| !run.fed.contains(name)).find(|name| is_due(env, reader, run, name));
        missing = missing.or(lost.map(|name| (*name, depot.number)));
    }
    env.must(missing.is_none(), "what an honest storage node has is read", || {
        format!("reader {} with {:?} was not given {missing:?}", reader.identity.user(), run.replay)
    });
}

/// Whether a message that an honest node has must be among those given.
fn is_due(env: &Env, reader: &Reader, run: &Running, name: &MessageName) -> bool {
    let (fact, place) = (&env.facts.messages[name], place_of(name));
    if &fact.stream != stream_of(reader) || !run.replay.has(&place) {
        return false;
    }
    let part = part_of(fact);
    let same_part = |other: &MessageName| {
        let fact = &env.facts.messages[other];
        &fact.stream == stream_of(reader) && part_of(fact) == part
    };
    if let Some(n) = run.replay.last {
        let newer =
            |other: &&MessageName| place_of(other) > place && run.replay.has(&place_of(other)) && same_part(other);
        if env.facts.messages.keys().filter(newer).count() as u64 >= n {
            return false;
        }
    }
    // One node alone can hide the end of a chain, or all of it: nothing names what is missing.
    let named = run.fed.iter().any(|other| (other.0, other.1) == (name.0, name.1) && other.2 > name.2);
    let passed_over = run.fed.iter().any(|other| place_of(other) > place && same_part(other));
    named || !passed_over || reader.plan.copies >= reader.plan.depots.len()
}

/// What is held does not outgrow its limits: what came live; and until it is live, three pages of each node: that in hand,
/// those being handed on, and those that fill a hole between them.
pub(super) fn bounded(env: &mut Env, reader: &Reader, depots: &[Depot]) {
    let Some(run) = &reader.run else { return };
    let page = |depot: &Depot| if depot.plan.mode.lies() { WHOLE_STORE } else { depot.plan.page };
    let pages: usize = depots.iter().map(page).sum();
    let at_a_time = if run.core.is_live() { 1 + ReplayLimits::default().fills } else { 3 };
    let most = 3 * reader.plan.held_back + at_a_time * pages;
    let held = run.core.held();
    env.figures.most_replay_held = env.figures.most_replay_held.max(held as u64);
    env.must(held <= most, "what a replay holds is bounded", || format!("{held} of {most}"));
}

/// After a run.
pub(super) fn judge(env: &mut Env, reader: &Reader) {
    let Some(run) = &reader.run else { return };
    let rest = run.core.is_at_rest() && run.history_is_over && (run.ended || reader.plan.goes_live);
    env.must(rest, "no deadlock", || format!("a replay of {:?} does not come to rest", run.replay));
    let missing = env.facts.messages.iter().find(|(name, fact)| is_lost(env, reader, run, name, fact));
    let missing = missing.map(|(name, fact)| (*name, fact.key_id.clone()));
    env.must(missing.is_none(), "what is missing is told", || {
        format!("{:?} lacks {missing:?}, of which nobody told", run.replay)
    });
}

/// Neither read nor told of, though a later message of its chain was given.
fn is_lost(env: &Env, reader: &Reader, run: &Running, name: &MessageName, fact: &MessageFact) -> bool {
    if &fact.stream != stream_of(reader) || !env.may_publish(&fact.stream, name.0) {
        return false;
    }
    let chain = (name.0, name.1);
    let of_chain = |names: &BTreeSet<MessageName>| -> Vec<MessageRef> {
        names.iter().filter(|other| (other.0, other.1) == chain).map(|other| other.2).collect()
    };
    let delivered = run.delivered.get(&chain);
    let Some(last) = of_chain(&run.fed).last().copied() else { return false };
    // A chain begins with the span; or, where the last ones were asked for, with the first message that was in time.
    let from_span = run.replay.last.is_none() && run.replay.begins_before(&place_of(name));
    let first =
        of_chain(&run.stored).first().copied().into_iter().chain(delivered.and_then(|all| all.first().copied())).min();
    let begins = if from_span { name.2 } else { first.unwrap_or(last) };
    if name.2 > last || name.2 < begins {
        return false;
    }
    let read = delivered.is_some_and(|delivered| delivered.contains(&name.2));
    let told = run.gaps.iter().any(|gap| gap.publisher == name.0 && gap.after < name.2 && name.2 <= gap.until);
    let keyless = fact.key_id.as_ref().is_some_and(|key_id| run.without.contains(key_id));
    !(read || told || keyless)
}
