//! What an act would do, in sentences and lists. Pure: it is told what the node knows.

use serde_json::{Value, json};
use veilcast::client::UpdateForecast;
use veilcast::exchange::HistoryPolicy;
use veilcast::permission::Subscriber;
use veilcast::{Period, Refusal, Timestamp, UserId};

use super::super::spending::Foreseen;
use crate::commands::history;
use crate::times;

/// Most users of a list that are named.
const NAMED: usize = 100;

/// What an act would do.
#[derive(Debug, Default)]
pub(super) struct Prediction {
    /// Sentences for people.
    says: Vec<String>,
    /// Why it would be refused.
    refused: Option<String>,
    /// It would be done all the same, if it is insisted on.
    can_force: bool,
    reads_on: Vec<UserId>,
    will_ask: Vec<UserId>,
    shut_out: Vec<(UserId, Refusal)>,
    ended: Vec<UserId>,
    /// The contract that decides, and what the transaction may cost.
    contract: Option<Value>,
}

/// What a grant or its end goes by.
pub(super) struct Standing<'a> {
    pub(super) now: Timestamp,
    /// Every grant on the stream.
    pub(super) listed: &'a [Subscriber],
    /// Whether the publisher's own lists keep the user out.
    pub(super) is_out: bool,
    pub(super) history: HistoryPolicy,
    /// Grants are signed by the owner and carried by those who hold them.
    pub(super) signed: bool,
    /// Blocks on top of the one whose grants count, where a contract decides.
    pub(super) confirmations: Option<u64>,
    /// Why it is not sure that the list has everything they hold.
    pub(super) unsure: Option<String>,
}

impl Prediction {
    pub(super) fn in_json(&self, stream: &str, act: &str) -> Value {
        let users = |users: &[UserId]| {
            let named: Vec<Value> = users.iter().take(NAMED).map(|user| json!({ "user": user.to_string() })).collect();
            json!({ "count": users.len(), "users": named })
        };
        let shut_out = self.shut_out.iter().take(NAMED);
        let shut_out: Vec<Value> =
            shut_out.map(|(user, refusal)| json!({ "user": user.to_string(), "reason": reason(refusal) })).collect();
        json!({
            "stream": stream,
            "act": act,
            "says": self.says,
            "refused": self.refused,
            "can_force": self.can_force,
            "reads_on": users(&self.reads_on),
            "will_ask": users(&self.will_ask),
            "shut_out": { "count": self.shut_out.len(), "users": shut_out },
            "ended": users(&self.ended),
            "contract": self.contract,
        })
    }

    /// Whether it would be done as it stands.
    pub(super) const fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    /// As a transaction of this node's identity.
    pub(super) fn by_transaction(mut self, foreseen: Foreseen) -> Self {
        let Foreseen { costs, refused, json } = foreseen;
        if let Some(costs) = costs {
            self.says.push(format!("It is a transaction of this node's account, and its gas costs at most {costs}."));
        }
        Self { refused: self.refused.or(refused), contract: Some(json), ..self }
    }

    /// What needs nobody's leave but this node's.
    pub(super) fn without_gas(mut self) -> Self {
        self.says.push("It costs no gas: keys are no business of the contract's.".into());
        self
    }

    fn of(forecast: UpdateForecast) -> Self {
        let UpdateForecast { reads_on, shut_out, will_ask, ended, .. } = forecast;
        Self { reads_on, will_ask, shut_out, ended, ..Self::default() }
    }

    fn refused(why: impl Into<String>) -> Self {
        Self { refused: Some(why.into()), ..Self::default() }
    }
}

/// A new key at once, for whoever may read.
pub(super) fn rekey(forecast: UpdateForecast, signed: bool) -> Prediction {
    let mut says = beginning(&forecast);
    let (sent, asking, out) = (forecast.reads_on.len(), forecast.will_ask.len(), forecast.shut_out.len());
    let (given, all) = (sent + asking, sent + asking + out);
    if all == 0 {
        says.push("Nobody but this node has the new key: there is no subscriber.".into());
    } else {
        let how = match (sent, asking) {
            (_, 0) => "they are sent it".to_owned(),
            (0, _) => "they hold no key yet, and ask for it".to_owned(),
            _ => format!("{sent} sent it now, {asking} without a key yet when they ask"),
        };
        says.push(match given {
            0 => format!("None of {} the new key.", count(all, "subscriber gets", "subscribers get")),
            _ => format!("{given} of {} the new key: {how}.", count(all, "subscriber gets", "subscribers get")),
        });
        says.extend(kept_from(&forecast.shut_out));
    }
    if !forecast.in_plaintext {
        let known = if signed { ", but for grants you signed that this node has not seen yet" } else { "" };
        says.push(format!("Nobody else can read from the next message on{known}."));
    }
    Prediction { says, ..Prediction::of(forecast) }
}

/// The next key in the next message, for whoever holds the current one.
pub(super) fn rotate(forecast: UpdateForecast) -> Prediction {
    let mut says = beginning(&forecast);
    let (ended, holding) = (forecast.ended.len(), forecast.reads_on.len() + forecast.shut_out.len());
    if forecast.is_first {
        return Prediction { says, ..Prediction::of(forecast) };
    }
    says.push(match holding {
        0 => "The next message carries the next key. Nobody was given the current one yet.".to_owned(),
        _ => format!(
            "The next message carries the next key: {} it by the current one, and nobody is checked again.",
            count(holding, "holder of a key reads", "holders of keys read")
        ),
    });
    if !forecast.will_ask.is_empty() {
        let asking = count(
            forecast.will_ask.len(),
            "subscriber holds no key yet, and asks",
            "subscribers hold no key yet, and ask",
        );
        says.push(format!("{asking}."));
    }
    let refused = (ended > 0).then(|| {
        let who = count(ended, "subscriber whose time is over", "subscribers whose time is over");
        format!("It would let {who} go on reading: refused unless forced. A rekey shuts them out.")
    });
    Prediction { says, can_force: refused.is_some(), refused, ..Prediction::of(forecast) }
}

/// Paid time for somebody.
pub(super) fn grant(user: UserId, period: Period, standing: &Standing<'_>) -> Prediction {
    if let Err(error) = period.grantable_at(standing.now) {
        return Prediction::refused(capital(&error.to_string()));
    }
    let mut says = vec![match (period.start, period.end) {
        (Some(start), Some(end)) => format!("They may read from {} until {}.", times::show(start), times::show(end)),
        (Some(start), None) => format!("They may read from {} on, without an end.", times::show(start)),
        (None, Some(end)) => format!("They may read from now until {}.", times::show(end)),
        (None, None) => "They may read from now on, without an end.".into(),
    }];
    if let Some(held) = held(user, standing) {
        let before =
            held.grant.ends().map_or_else(|| "without an end".to_owned(), |end| format!("until {}", times::show(end)));
        says.push(match standing.signed {
            true => format!("They may read {before} already; the two count together."),
            false => format!("They may read {before} now; this takes its place."),
        });
        let shorter = match (held.grant.ends(), period.end) {
            (None, Some(_)) => true,
            (Some(before), Some(end)) => end < before,
            _ => false,
        };
        if shorter && !standing.signed {
            says.push("Their time becomes shorter than it is.".into());
        }
    } else if let Some(why) = &standing.unsure {
        says.push(format!("What they hold now cannot be told: {why}. This takes its place."));
    } else {
        says.push(format!("They ask for keys themselves, and are given {}.", history::in_words(standing.history)));
    }
    if standing.is_out {
        says.push("They are on this publisher's deny list, or not on its allow list: until that is changed they are given no key.".into());
    }
    match standing.confirmations {
        Some(0) => says.push("It counts as soon as the transaction is in a block.".into()),
        Some(blocks) => says.push(format!(
            "It counts once the transaction is in a block and {} on top of it.",
            count(usize::try_from(blocks).unwrap_or(usize::MAX), "more lies", "more lie")
        )),
        None => {}
    }
    if standing.signed {
        says.push("You sign it: they need the lines that are shown afterwards.".into());
    }
    Prediction { says, ..Prediction::default() }
}

/// Taking it back. Without a forecast it is not told who is sent another key.
pub(super) fn revoke(user: UserId, forecast: Option<UpdateForecast>, standing: &Standing<'_>) -> Prediction {
    let mut says = match (held(user, standing), &standing.unsure) {
        (Some(held), _) => {
            let end = held.grant.ends().map(times::show);
            let until = end.map_or_else(|| "without an end".to_owned(), |end| format!("until {end}"));
            vec![format!("They paid for reading {until}. Taken back, they are given no key any more.")]
        }
        (None, Some(why)) => {
            vec![format!("What they hold now cannot be told: {why}. Taken back, they are given no key any more.")]
        }
        (None, None) => return Prediction::refused("They hold no grant that could be taken back."),
    };
    let Some(mut others) = forecast else {
        says.push("Who else is sent another key cannot be told now.".into());
        return Prediction { says, ..Prediction::default() };
    };
    let had_key = others.reads_on.contains(&user);
    others.reads_on.retain(|other| *other != user);
    others.will_ask.retain(|other| *other != user);
    if others.in_plaintext {
        says.push("The stream is public: they read it all the same.".into());
    } else if had_key || !others.is_first {
        let rest = others.reads_on.len();
        let others = count(rest, "other subscriber is sent the new one", "other subscribers are sent the new one");
        let when = match standing.confirmations {
            Some(_) => "within a few seconds of the transaction's block",
            None => "within about a second",
        };
        says.push(format!("The key is changed {when}, whether or not something is published; {others}."));
    }
    if had_key {
        says.push("What they were given keys for up to now stays readable to them.".into());
    }
    Prediction { says, ..Prediction::of(others) }
}

fn held<'a>(user: UserId, standing: &Standing<'a>) -> Option<&'a Subscriber> {
    let open = |one: &&Subscriber| one.user == user && !one.grant.is_over_at(standing.now);
    standing.listed.iter().filter(open).max_by_key(|one| one.grant.ends().unwrap_or(Timestamp::from_millis(u64::MAX)))
}

fn beginning(forecast: &UpdateForecast) -> Vec<String> {
    let mut says = Vec::new();
    if forecast.is_first {
        says.push("There is no key yet: this makes the first one.".into());
    }
    if forecast.in_plaintext {
        says.push("The stream is public: its messages go out in plaintext, which no key changes.".into());
    }
    says
}

/// A sentence for each reason.
fn kept_from(shut_out: &[(UserId, Refusal)]) -> Vec<String> {
    let mut groups: Vec<(&'static str, usize)> = Vec::new();
    for (_, refusal) in shut_out {
        let words = reason(refusal);
        match groups.iter_mut().find(|(known, _)| *known == words) {
            Some((_, count)) => *count += 1,
            None => groups.push((words, 1)),
        }
    }
    groups.into_iter().map(|(words, many)| format!("{} not: {words}.", count(many, "does", "do"))).collect()
}

const fn reason(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Expired { .. } => "the paid time is over",
        Refusal::NotYet { .. } => "the paid time has not begun",
        Refusal::Denied => "there is no permission any more",
        Refusal::Unavailable { .. } => "whether they may read cannot be told now",
        _ => "refused",
    }
}

fn count(many: usize, one: &str, more: &str) -> String {
    format!("{many} {}", if many == 1 { one } else { more })
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map(|first| first.to_uppercase().chain(chars).collect::<String>() + ".").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use veilcast::Permission;
    use veilcast::permission::Grant;

    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn user(byte: u8) -> UserId {
        UserId::from_bytes([byte; 20])
    }

    fn users(bytes: std::ops::Range<u8>) -> Vec<UserId> {
        bytes.map(user).collect()
    }

    fn forecast(change: impl FnOnce(&mut UpdateForecast)) -> UpdateForecast {
        let mut forecast = UpdateForecast::default();
        change(&mut forecast);
        forecast
    }

    fn until(byte: u8, end: Timestamp) -> Subscriber {
        Subscriber { user: user(byte), grant: Grant::new(Permission::Subscribe, Period::until(end)) }
    }

    fn standing(listed: &[Subscriber]) -> Standing<'_> {
        let (confirmations, unsure) = (None, None);
        Standing { now: NOW, listed, is_out: false, history: HistoryPolicy::All, signed: false, confirmations, unsure }
    }

    #[test]
    fn a_rekey_says_how_many_get_the_key_who_does_not_and_that_nobody_else_reads() {
        let over = Refusal::Expired { since: NOW };
        let told = rekey(
            forecast(|it| {
                it.reads_on = users(1..12);
                it.will_ask = users(12..13);
                it.shut_out = vec![(user(20), over), (user(21), over)];
            }),
            false,
        );
        let expected = [
            "12 of 14 subscribers get the new key: 11 sent it now, 1 without a key yet when they ask.",
            "2 do not: the paid time is over.",
            "Nobody else can read from the next message on.",
        ];
        assert_eq!((told.says, told.refused), (expected.map(str::to_owned).to_vec(), None));
    }

    #[test]
    fn a_rekey_nobody_is_there_for_or_of_a_public_stream_says_so() {
        let nobody = rekey(forecast(|it| it.is_first = true), false);
        assert!(nobody.says[0].contains("makes the first one") && nobody.says[1].contains("there is no subscriber"));
        let public = rekey(forecast(|it| it.in_plaintext = true), false);
        assert!(public.says[0].contains("plaintext") && !public.says.iter().any(|line| line.contains("Nobody else")));
        assert!(rekey(forecast(|_| {}), true).says.iter().any(|line| line.contains("grants you signed")));
    }

    #[test]
    fn a_rotate_that_would_let_somebody_read_on_is_refused_unless_forced() {
        let ended = rotate(forecast(|it| {
            it.reads_on = users(1..4);
            it.shut_out = vec![(user(9), Refusal::Denied)];
            it.ended = vec![user(9)];
        }));
        assert!(ended.can_force);
        assert!(
            ended.refused.as_deref().is_some_and(|why| why.starts_with("It would let 1 subscriber whose time is over"))
        );
        assert!(ended.says[0].contains("4 holders of keys read it"));
        let plain = rotate(forecast(|it| it.reads_on = users(1..2)));
        assert_eq!((plain.refused, plain.can_force), (None, false));
        let first = rotate(forecast(|it| (it.is_first, it.ended) = (true, users(1..2))));
        assert_eq!((first.refused, first.can_force), (None, false));
    }

    #[test]
    fn a_grant_says_what_it_replaces_and_one_that_ends_in_the_past_is_refused() {
        let later = NOW.plus(std::time::Duration::from_secs(100));
        let listed = [until(1, later)];
        let shorter = grant(user(1), Period::until(NOW), &standing(&listed));
        assert!(shorter.says.iter().any(|line| line.contains("this takes its place")));
        assert!(shorter.says.iter().any(|line| line.contains("becomes shorter")));
        let fresh = grant(user(2), Period::ALWAYS, &standing(&listed));
        assert!(fresh.says[1].contains("are given all keys"), "{:?}", fresh.says);
        let past = grant(user(2), Period::until(Timestamp::from_secs(1)), &standing(&listed));
        assert!(past.refused.is_some_and(|why| why.contains("in the past")) && past.says.is_empty());
        let out = grant(user(2), Period::ALWAYS, &Standing { is_out: true, signed: true, ..standing(&listed) });
        assert!(
            out.says.iter().any(|line| line.contains("deny list"))
                && out.says.iter().any(|line| line.contains("You sign it"))
        );
    }

    #[test]
    fn taking_back_says_who_is_sent_a_new_key_and_that_nothing_is_there_to_take_back() {
        let listed = [until(1, NOW), until(2, Timestamp::from_secs(1))];
        let told = revoke(user(1), Some(forecast(|it| it.reads_on = users(1..4))), &standing(&listed));
        assert!(
            told.says.iter().any(|line| line.contains("2 other subscribers are sent the new one")),
            "{:?}",
            told.says
        );
        assert_eq!(told.reads_on, users(2..4));
        let over = revoke(user(2), Some(forecast(|_| {})), &standing(&listed));
        assert!(over.refused.is_some());
    }

    #[test]
    fn on_a_contract_it_is_told_what_it_costs_when_it_counts_and_what_is_not_known() {
        let listed = [until(1, NOW)];
        let on_chain = |confirmations| Standing { confirmations: Some(confirmations), ..standing(&listed) };
        let foreseen = |refused: Option<&str>| Foreseen {
            costs: Some("0.002 POL".into()),
            refused: refused.map(str::to_owned),
            json: json!({ "registry": "polygon" }),
        };
        let given = grant(user(2), Period::ALWAYS, &on_chain(12)).by_transaction(foreseen(None));
        assert!(given.says.iter().any(|line| line.contains("12 more lie on top")), "{:?}", given.says);
        assert!(given.says.iter().any(|line| line.contains("gas costs at most 0.002 POL")), "{:?}", given.says);
        assert_eq!(given.in_json("s", "grant")["contract"]["registry"], "polygon");
        let at_once = grant(user(2), Period::ALWAYS, &on_chain(0)).by_transaction(foreseen(Some("It may not.")));
        assert!(at_once.says.iter().any(|line| line.contains("as soon as")), "{:?}", at_once.says);
        assert_eq!(at_once.refused.as_deref(), Some("It may not."));

        let unsure = Standing { unsure: Some("not all is read".into()), ..on_chain(12) };
        let taken = revoke(user(2), None, &unsure);
        assert!(!taken.is_refused() && taken.says[0].contains("cannot be told: not all is read"), "{:?}", taken.says);
        let taken = revoke(user(1), Some(forecast(|it| it.reads_on = users(1..4))), &on_chain(12));
        assert!(taken.says.iter().any(|line| line.contains("of the transaction's block")), "{:?}", taken.says);
    }

    #[test]
    fn of_a_long_list_all_are_counted_and_some_are_named() {
        let told = rekey(forecast(|it| it.reads_on = users(0..200)), false).in_json("s", "rekey");
        assert_eq!(told["reads_on"]["count"], 200);
        assert_eq!(told["reads_on"]["users"].as_array().map(Vec::len), Some(NAMED));
    }
}
