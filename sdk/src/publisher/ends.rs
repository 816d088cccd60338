//! Whose time ended since the last rekey: what a rekey must still shut out.
//!
//! An ending is a user and the moment from which the grant is void. A rekey covers the endings known when it happened, by
//! name and not by comparing clocks: a revocation in the very millisecond of a rekey, or one dated earlier because a clock
//! was set back, is not among them and causes another rekey. One too many is the safe side; one too few is not.
//!
//! Who was on a list, or was given a key, and is on the next whole list no more has ended, too: a chain was reorganised, or another
//! source decides now. Such an ending is dated by when it was noticed, or by when that user was given the last key.
//!
//! Endings are remembered by name for a day. What is older than that at a rekey counts as covered, or the list would grow
//! for as long as the stream lives.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::identity::UserId;
use crate::permission::Subscriber;
use crate::time::Timestamp;

/// How far back endings are told apart by name: clocks set back by less than this hide no ending.
const SLACK: Duration = Duration::from_secs(24 * 3600);
/// Endings remembered by name, so that the record stays small (56 KiB); beyond it the oldest count as covered.
const MAX_NAMED: usize = 2000;
const ENTRY_LEN: usize = UserId::LEN + 8;
/// Stands for everybody in a record; no identity has this address.
const EVERYBODY: UserId = UserId::from_bytes([0; UserId::LEN]);

/// A user, or everybody when the stream was public, and the moment from which the grant is void.
type Ending = (Option<UserId>, Timestamp);

/// Watches the ends of a stream's grants for its publisher.
#[derive(Debug, Default)]
pub struct EndWatch {
    covered: Covered,
    known: Vec<Subscriber>,
    /// Who is on no list any more, since when, and was not shut out.
    gone: BTreeMap<UserId, Timestamp>,
    ended: Vec<UserId>,
    /// The earliest end that was ahead when it was last looked.
    next: Option<Timestamp>,
    /// What the source told is still true: its change number then, and the last moment at which that was known.
    valid: Option<(u64, Timestamp)>,
    unsaved: bool,
    /// The source's change number when it was last asked, and up to which everything is learned or shut out.
    asked: u64,
    settled: Option<u64>,
}

/// The endings that the last rekey shut out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Covered {
    rekeyed: Timestamp,
    /// Endings up to here are covered, whoever it was.
    floor: Timestamp,
    named: BTreeSet<(Timestamp, Option<UserId>)>,
}

impl EndWatch {
    /// Goes on from the record that the last rekey left; `None` before the first. A record that cannot be read covers
    /// nothing, which costs one rekey.
    pub fn resume(record: Option<&[u8]>) -> Self {
        Self { covered: record.and_then(Covered::read).unwrap_or_default(), ..Self::default() }
    }

    /// When the last rekey was, by the clock of then.
    pub fn last_rekey(&self) -> Timestamp {
        self.covered.rekeyed
    }

    /// Time went on, and with it ends that are known came; the source need not be asked for that.
    pub fn tick(&mut self, now: Timestamp) {
        if self.next.is_some_and(|next| next <= now) {
            self.look(now);
        }
        self.valid = self.valid.map(|(changes, at)| (changes, at.max(now)));
    }

    /// Whether what the source told still counts, while its change number is `changes`: it could tell, and neither it changed nor
    /// the clock was set back since the last [`Self::tick`]. Otherwise it is asked, and [`Self::learn`] told.
    pub fn is_current(&self, now: Timestamp, changes: u64) -> bool {
        self.valid.is_some_and(|(of, at)| of == changes && at <= now)
    }

    /// The source said who subscribes, or `None` when it could not: then what was known before is watched by the clock.
    pub fn learn(&mut self, now: Timestamp, changes: u64, subscribers: Option<Vec<Subscriber>>) {
        let answered = subscribers.is_some();
        self.asked = changes;
        if let Some(subscribers) = subscribers {
            self.miss(now, &subscribers);
            (self.known, self.settled) = (subscribers, Some(changes));
        }
        if now < self.covered.floor {
            // The clock ran ahead when that was written: what it covered without a name may be yet to come.
            self.covered.floor = Timestamp::ZERO;
        }
        self.uncover(now);
        self.look(now);
        self.valid = answered.then_some((changes, now));
    }

    /// The source cannot tell who subscribes, and these were given keys, by the grants of then: whoever of them was not known is
    /// watched until the source can tell.
    pub fn suppose(&mut self, now: Timestamp, holders: impl IntoIterator<Item = Subscriber>) {
        let known: BTreeSet<UserId> = self.known.iter().map(|one| one.user).collect();
        self.known.extend(holders.into_iter().filter(|one| !known.contains(&one.user)));
        self.look(now);
    }

    /// The source told of everybody for the first time since the start, and these were given keys, each for the last time then: who
    /// is not among those it told of has ended.
    pub fn compare(&mut self, now: Timestamp, holders: impl IntoIterator<Item = (UserId, Timestamp)>) {
        let listed: BTreeSet<UserId> = self.known.iter().map(|one| one.user).collect();
        let covered = &self.covered;
        // In the order of time: the newest stays.
        let named: BTreeMap<UserId, Timestamp> =
            covered.named.iter().filter_map(|(void, who)| Some(((*who)?, *void))).collect();
        let settled = |user: &UserId, last: Timestamp| {
            covered.holds(&(Some(*user), last)) || named.get(user).is_some_and(|void| *void >= last)
        };
        let unlisted = holders.into_iter().filter(|(user, _)| !listed.contains(user));
        self.gone.extend(unlisted.filter(|(user, last)| !settled(user, *last)));
        self.look(now);
    }

    /// Who is known and not among `listed` is gone, unless its end was shut out; who is listed is not.
    fn miss(&mut self, now: Timestamp, listed: &[Subscriber]) {
        let listed: BTreeSet<UserId> = listed.iter().map(|one| one.user).collect();
        let is_out = |one: &Subscriber| {
            let covered = |void| self.covered.holds(&(Some(one.user), void));
            one.grant.is_over_at(now) && one.grant.voids_at(now).all(covered)
        };
        let missed = self.known.iter().filter(|one| !listed.contains(&one.user) && !is_out(one));
        let missed: Vec<UserId> = missed.map(|one| one.user).collect();
        self.gone.retain(|user, _| !listed.contains(user));
        for user in missed {
            self.gone.entry(user).or_insert(now);
        }
    }

    /// Who ended and was not shut out since, as far as [`Self::learn`] was told.
    pub fn ended(&self) -> &[UserId] {
        &self.ended
    }

    /// Whether something changed, and the source cannot tell what: then anybody may have ended. A rekey shuts out everybody
    /// until it can, for without it nobody is given a key.
    pub fn is_blind(&self) -> bool {
        self.settled != Some(self.asked)
    }

    /// The moments after `now`, up to `until`, from which somebody who holds a grant is out.
    pub(super) fn coming(&self, now: Timestamp, until: Timestamp) -> BTreeSet<Timestamp> {
        if self.next.is_none_or(|next| until < next) {
            return BTreeSet::new();
        }
        let ahead = self.known.iter().filter(|s| s.grant.revoked.is_none()).filter_map(|s| s.grant.void_from());
        ahead.filter(|void| now < *void && *void <= until).collect()
    }

    /// The moments of the ends that are there and that no rekey shut out.
    pub(super) fn open(&self, now: Timestamp) -> BTreeSet<Timestamp> {
        self.endings(now).filter(|ending| !self.covered.holds(ending)).map(|(_, void)| void).collect()
    }

    /// Ends after `now` that are known.
    pub fn to_come(&self, now: Timestamp) -> usize {
        self.known.iter().filter_map(|one| one.grant.void_from()).filter(|void| now < *void).count()
    }

    /// Who holds a grant at `now` that holds at `then` as well.
    pub(super) fn holding(&self, now: Timestamp, then: Timestamp) -> impl Iterator<Item = UserId> {
        let holds = move |s: &&Subscriber| [now, then].iter().all(|at| s.grant.holds_at(*at).is_ok());
        self.known.iter().filter(holds).map(|s| s.user)
    }

    /// Whether each who is known holds a grant at `now`.
    pub(super) fn holds(&self, now: Timestamp) -> BTreeMap<UserId, bool> {
        let mut all = BTreeMap::new();
        for Subscriber { user, grant } in &self.known {
            *all.entry(*user).or_default() |= grant.holds_at(now).is_ok();
        }
        all
    }

    /// Whether everybody could ask for the key in use, because the stream was public until `public_until`.
    pub fn was_public(&self, public_until: Option<Timestamp>) -> bool {
        public_until.is_some_and(|until| !self.covered.holds(&(None, until)))
    }

    /// A rekey at `now` shut out everybody whose end is known. Returns the record to make durable; a crash before it is
    /// costs one more rekey.
    pub fn rekeyed(&mut self, now: Timestamp, public_until: Option<Timestamp>) -> Vec<u8> {
        self.cover(now, self.covering(now, public_until));
        self.covered.write()
    }

    /// The record by which everybody whose end is known reads on until the next rekey, because the publisher insists: for
    /// [`Self::let_read_on`] once it is durable. When the last rekey was stays as it is.
    pub fn tolerating(&self, now: Timestamp, public_until: Option<Timestamp>) -> Vec<u8> {
        Covered { rekeyed: self.covered.rekeyed, ..self.covering(now, public_until) }.write()
    }

    /// Goes by a record of [`Self::tolerating`]: nobody in it is a reason for a rekey any more.
    pub fn let_read_on(&mut self, now: Timestamp, record: &[u8]) {
        if let Some(covered) = Covered::read(record) {
            self.cover(now, covered);
        }
    }

    fn covering(&self, now: Timestamp, public_until: Option<Timestamp>) -> Covered {
        let mut endings: BTreeSet<_> = self.endings(now).map(|(who, void)| (void, who)).collect();
        endings.extend(public_until.map(|until| (until, None)));
        // Of whom no list tells any more a later start may be told by the keys he was given.
        endings.extend(&self.covered.named);
        Covered::at(now, endings)
    }

    fn cover(&mut self, now: Timestamp, covered: Covered) {
        self.covered = covered;
        self.gone.clear();
        (self.unsaved, self.settled) = (false, Some(self.asked));
        self.look(now);
    }

    /// A key was handed out at `now`: news only after a clock was set back.
    pub fn handed(&mut self, now: Timestamp) {
        self.uncover(now);
    }

    /// The record to make durable, if less is covered than the last one says.
    pub fn unsaved(&mut self) -> Option<Vec<u8>> {
        std::mem::take(&mut self.unsaved).then(|| self.covered.write())
    }

    /// A clock set back lets a grant hold again whose end was covered, and its holder ask for the key in use. When it ends
    /// once more, that is another end.
    fn uncover(&mut self, now: Timestamp) {
        if self.covered.named.last().is_none_or(|(void, _)| *void <= now) {
            return;
        }
        let ended: BTreeSet<Ending> = self.endings(now).collect();
        let before = self.covered.named.len();
        self.covered.named.retain(|(void, who)| *void <= now || who.is_none() || ended.contains(&(*who, *void)));
        if self.covered.named.len() < before {
            (self.unsaved, self.valid) = (true, None);
        }
    }

    fn look(&mut self, now: Timestamp) {
        let open = self.endings(now).filter(|ending| !self.covered.holds(ending));
        let users: BTreeSet<UserId> = open.filter_map(|(who, _)| who).collect();
        self.ended = users.into_iter().collect();
        self.next = self.known.iter().filter_map(|s| s.grant.void_from()).filter(|void| *void > now).min();
    }

    fn endings(&self, now: Timestamp) -> impl Iterator<Item = Ending> {
        let of = move |s: &Subscriber| {
            let user = s.user;
            s.grant.voids_at(now).map(move |void| (Some(user), void))
        };
        let gone = self.gone.iter().map(|(user, since)| (Some(*user), *since));
        self.known.iter().flat_map(of).chain(gone)
    }
}

impl Covered {
    fn at(rekeyed: Timestamp, mut named: BTreeSet<(Timestamp, Option<UserId>)>) -> Self {
        let mut floor = rekeyed.minus(SLACK);
        named.retain(|(void, _)| *void > floor);
        while named.len() > MAX_NAMED {
            floor = named.pop_first().map_or(floor, |(void, _)| void);
        }
        Self { rekeyed, floor, named }
    }

    fn holds(&self, (who, void): &Ending) -> bool {
        *void <= self.floor || self.named.contains(&(*void, *who))
    }

    /// `rekeyed 8 | floor 8 | (user 20, zero for everybody | void 8) ...`, milliseconds since the epoch, big-endian.
    fn write(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + self.named.len() * ENTRY_LEN);
        out.extend_from_slice(&self.rekeyed.as_millis().to_be_bytes());
        out.extend_from_slice(&self.floor.as_millis().to_be_bytes());
        for (void, who) in &self.named {
            out.extend_from_slice(who.unwrap_or(EVERYBODY).as_bytes());
            out.extend_from_slice(&void.as_millis().to_be_bytes());
        }
        out
    }

    fn read(record: &[u8]) -> Option<Self> {
        let (rekeyed, rest) = record.split_first_chunk()?;
        let (floor, rest) = rest.split_first_chunk()?;
        let moment = |bytes: &[u8; 8]| Timestamp::from_millis(u64::from_be_bytes(*bytes));
        let entry = |bytes: &[u8]| {
            let (user, void) = bytes.split_first_chunk::<{ UserId::LEN }>()?;
            let user = UserId::from_bytes(*user);
            Some((moment(void.try_into().ok()?), (user != EVERYBODY).then_some(user)))
        };
        let (entries, rest) = rest.as_chunks::<ENTRY_LEN>();
        let named = entries.iter().map(|bytes| entry(bytes)).collect::<Option<_>>()?;
        rest.is_empty().then(|| Self { rekeyed: moment(rekeyed), floor: moment(floor), named })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::permission::{Grant, Period, Permission};

    const HOUR: Duration = Duration::from_secs(3600);

    const fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(1_000_000 + secs)
    }

    fn user(n: u8) -> UserId {
        UserId::from_bytes([n; 20])
    }

    fn until(n: u8, end: Timestamp) -> Subscriber {
        Subscriber { user: user(n), grant: Grant::new(Permission::Subscribe, Period::until(end)) }
    }

    fn revoked(n: u8, moment: Timestamp) -> Subscriber {
        let mut grant = Grant::new(Permission::Subscribe, Period::ALWAYS);
        grant.revoked = Some(moment);
        Subscriber { user: user(n), grant }
    }

    fn watching(now: Timestamp, subscribers: Vec<Subscriber>) -> EndWatch {
        let mut watch = EndWatch::default();
        watch.rekeyed(at(0), None);
        watch.learn(now, 0, Some(subscribers));
        watch
    }

    #[test]
    fn an_end_is_seen_one_second_after_the_last_valid_one_and_once() {
        let mut watch = watching(at(10), vec![until(1, at(20))]);
        watch.tick(at(20));
        assert!(watch.is_current(at(20), 0) && watch.ended().is_empty());
        watch.tick(at(21));
        assert!(watch.is_current(at(21), 0), "time alone is no reason to ask");
        assert_eq!(watch.ended(), [user(1)]);
        watch.rekeyed(at(21), None);
        assert!(watch.ended().is_empty());
    }

    #[test]
    fn who_is_let_read_on_is_no_reason_for_a_rekey_until_another_end_and_the_last_rekey_stays_the_last() {
        let mut watch = watching(at(10), vec![until(1, at(20)), until(2, at(30))]);
        watch.tick(at(21));
        let record = watch.tolerating(at(21), None);
        assert_eq!(watch.ended(), [user(1)], "what is not durable counts for nothing");
        watch.let_read_on(at(21), &record);
        assert!(watch.ended().is_empty());
        let mut restarted = EndWatch::resume(Some(&record));
        restarted.learn(at(22), 0, Some(vec![until(1, at(20)), until(2, at(30))]));
        for mut watch in [watch, restarted] {
            assert_eq!((watch.ended(), watch.last_rekey()), (&[][..], at(0)));
            watch.tick(at(31));
            assert_eq!(watch.ended(), [user(2)]);
        }
    }

    #[test]
    fn who_is_on_no_list_any_more_and_is_let_read_on_does_so_after_a_restart_until_given_a_key_again() {
        let mut watch = watching(at(10), vec![until(1, at(900))]);
        watch.learn(at(20), 1, Some(Vec::new()));
        assert_eq!(watch.ended(), [user(1)]);
        let record = watch.tolerating(at(21), None);
        for (last_given, ended) in [(at(12), &[][..]), (at(22), &[user(1)])] {
            let mut restarted = EndWatch::resume(Some(&record));
            restarted.learn(at(30), 0, Some(Vec::new()));
            restarted.compare(at(30), [(user(1), last_given)]);
            assert_eq!(restarted.ended(), ended);
        }
    }

    #[test]
    fn known_ends_are_seen_while_the_source_is_to_be_asked_and_a_clock_set_back_is_a_reason_to_ask() {
        let mut watch = watching(at(10), vec![until(1, at(20)), until(2, at(30))]);
        watch.tick(at(21));
        assert!(!watch.is_current(at(21), 1), "something else changed");
        assert_eq!(watch.ended(), [user(1)]);
        watch.rekeyed(at(21), None);
        watch.tick(at(31));
        assert_eq!(watch.ended(), [user(2)]);
        watch.tick(at(15));
        assert!(!watch.is_current(at(15), 0));
    }

    #[test]
    fn a_revocation_in_the_millisecond_of_a_rekey_but_after_it_counts() {
        let mut watch = watching(at(10), vec![]);
        watch.rekeyed(at(12), None);
        watch.learn(at(12), 1, Some(vec![revoked(1, at(12))]));
        assert_eq!(watch.ended(), [user(1)]);
        watch.rekeyed(at(12), None);
        assert!(watch.ended().is_empty(), "and was shut out by this one, in the same millisecond");
    }

    #[test]
    fn a_revocation_dated_before_the_rekey_by_a_clock_set_back_counts() {
        let mut watch = watching(at(100), vec![]);
        watch.rekeyed(at(100), None);
        watch.learn(at(50), 1, Some(vec![revoked(1, at(50))]));
        assert_eq!(watch.ended(), [user(1)]);
        watch.learn(at(200), 2, Some(vec![revoked(1, at(50))]));
        assert_eq!(watch.ended(), [user(1)], "also once the clock is right again");
    }

    #[test]
    fn an_end_that_was_covered_counts_again_after_the_clock_was_set_back_before_it() {
        let mut watch = watching(at(60), vec![until(1, at(20)), revoked(2, at(59))]);
        watch.rekeyed(at(60), Some(at(58)));
        assert_eq!(watch.unsaved(), None);
        watch.handed(at(10));
        let known = vec![until(1, at(20)), revoked(2, at(59))];
        for mut watch in [EndWatch::resume(watch.unsaved().as_deref()), watch] {
            watch.learn(at(11), 1, Some(known.clone()));
            assert!(watch.ended().is_empty() && !watch.was_public(Some(at(58))), "what was taken back stays covered");
            watch.learn(at(21), 1, None);
            assert_eq!(watch.ended(), [user(1)], "he may have been given the new key meanwhile");
        }
    }

    #[test]
    fn a_revocation_after_a_clock_that_ran_years_ahead_was_set_right_counts() {
        let years = HOUR * 24 * 365 * 4;
        let mut watch = watching(at(0).plus(years), vec![]);
        watch.rekeyed(at(0).plus(years), None);
        watch.learn(at(50), 1, Some(vec![revoked(1, at(50))]));
        assert_eq!(watch.ended(), [user(1)]);
        watch.rekeyed(at(51), None);
        assert!(watch.ended().is_empty());
    }

    #[test]
    fn what_a_rekey_covered_survives_a_restart_and_what_it_did_not_as_well() {
        let mut watch = watching(at(30), vec![until(1, at(20)), revoked(2, at(25))]);
        assert_eq!(watch.ended(), [user(1), user(2)]);
        let record = watch.rekeyed(at(30), Some(at(28)));
        let mut watch = EndWatch::resume(Some(&record));
        assert!(!watch.was_public(Some(at(28))) && watch.was_public(Some(at(29))));
        watch.learn(at(40), 0, Some(vec![until(1, at(20)), revoked(2, at(25)), revoked(3, at(30))]));
        assert_eq!(watch.ended(), [user(3)]);
    }

    #[test]
    fn somebody_who_bought_again_after_his_end_may_still_hold_the_key_of_then() {
        let mut again = until(1, at(40));
        again.grant.before = Some(at(21));
        let mut watch = watching(at(30), vec![again.clone()]);
        assert_eq!(watch.ended(), [user(1)]);
        watch.rekeyed(at(30), None);
        assert!(watch.ended().is_empty());
        watch.learn(at(41), 1, Some(vec![again]));
        assert_eq!(watch.ended(), [user(1)], "and his second end is another");
    }

    #[test]
    fn a_source_that_cannot_tell_hides_no_end_that_was_known() {
        let mut watch = watching(at(10), vec![until(1, at(20))]);
        watch.learn(at(21), 5, None);
        assert_eq!(watch.ended(), [user(1)]);
        assert!(!watch.is_current(at(21), 5), "it is asked again");
    }

    #[test]
    fn whoever_was_given_a_key_is_watched_while_the_source_cannot_tell_who_subscribes() {
        let mut watch = EndWatch::default();
        watch.rekeyed(at(0), None);
        watch.learn(at(10), 0, None);
        watch.suppose(at(10), [until(1, at(20)), until(2, at(30))]);
        assert!(watch.ended().is_empty());
        watch.learn(at(21), 0, None);
        // Renewed meanwhile, as far as whoever gave him the next key knows: one rekey too many.
        watch.suppose(at(21), [until(1, at(40)), until(2, at(30))]);
        assert_eq!(watch.ended(), [user(1)]);
        watch.learn(at(21), 1, Some(vec![until(1, at(40)), until(2, at(50))]));
        assert!(watch.ended().is_empty(), "the source's word counts more");
        watch.learn(at(31), 1, None);
        assert!(watch.ended().is_empty());
    }

    #[test]
    fn whoever_was_on_a_list_and_is_on_none_any_more_has_ended_once() {
        let mut watch = watching(at(10), vec![until(1, at(100)), until(2, at(100)), revoked(3, at(5))]);
        assert_eq!(watch.ended(), [user(3)]);
        watch.rekeyed(at(11), None);
        watch.learn(at(12), 1, Some(vec![until(1, at(100))]));
        assert_eq!(watch.ended(), [user(2)], "the third was shut out before");
        watch.learn(at(13), 2, None);
        assert_eq!(watch.ended(), [user(2)]);
        let record = watch.rekeyed(at(13), None);
        watch.learn(at(14), 3, Some(vec![until(1, at(100))]));
        assert!(watch.ended().is_empty());
        let mut watch = EndWatch::resume(Some(&record));
        watch.learn(at(15), 0, Some(vec![until(1, at(100))]));
        assert!(watch.ended().is_empty());
    }

    #[test]
    fn whoever_is_on_the_list_again_before_a_rekey_has_not_ended() {
        let mut watch = watching(at(10), vec![until(1, at(100))]);
        watch.learn(at(11), 1, Some(vec![]));
        assert_eq!(watch.ended(), [user(1)]);
        watch.learn(at(12), 2, Some(vec![until(1, at(100))]));
        assert!(watch.ended().is_empty());
    }

    #[test]
    fn a_holder_whom_the_first_list_after_a_start_does_not_name_has_ended_once() {
        let mut watch = watching(at(10), vec![]);
        let listed = || Some(vec![until(1, at(100))]);
        let holders = [(user(1), at(5)), (user(2), at(6))];
        for n in 0..3 {
            let record = watch.rekeyed(at(20 + n), None);
            watch = EndWatch::resume(Some(&record));
            watch.learn(at(20 + n), 0, listed());
            watch.compare(at(20 + n), holders);
            assert_eq!(watch.ended().contains(&user(2)), n == 0);
            assert!(!watch.ended().contains(&user(1)));
        }
        watch.compare(at(30), [(user(2), at(25))]);
        assert_eq!(watch.ended(), [user(2)], "he was given a key since");
    }

    #[test]
    fn a_change_that_the_source_cannot_tell_causes_one_rekey() {
        let mut watch = watching(at(10), vec![until(1, at(20))]);
        watch.learn(at(11), 0, None);
        assert!(!watch.is_blind(), "nothing changed since it was asked");
        watch.learn(at(12), 1, None);
        assert!(watch.is_blind());
        watch.rekeyed(at(12), None);
        watch.learn(at(13), 1, None);
        assert!(!watch.is_blind());
        watch.learn(at(14), 2, Some(vec![]));
        assert!(!watch.is_blind());
        let mut resumed = EndWatch::resume(Some(&watch.rekeyed(at(15), None)));
        resumed.learn(at(16), 0, None);
        assert!(resumed.is_blind(), "who knows what happened while it was away");
    }

    #[test]
    fn many_endings_leave_a_small_record_and_old_ones_cause_no_rekey_for_ever() {
        let of = |n: u32| {
            let mut bytes = [0; 20];
            bytes[..4].copy_from_slice(&n.to_be_bytes());
            let grant = Grant { revoked: Some(at(0).plus(Duration::from_millis(n.into()))), ..until(1, at(0)).grant };
            Subscriber { user: UserId::from_bytes(bytes), grant }
        };
        let many: Vec<Subscriber> = (1..=5000).map(of).collect();
        let mut watch = watching(at(0).plus(HOUR), many.clone());
        let record = watch.rekeyed(at(0).plus(HOUR), None);
        assert!(record.len() <= 16 + MAX_NAMED * ENTRY_LEN);
        let mut watch = EndWatch::resume(Some(&record));
        watch.learn(at(0).plus(HOUR), 1, Some(many.clone()));
        assert!(watch.ended().is_empty());
        watch.rekeyed(at(0).plus(HOUR * 48), None);
        watch.learn(at(0).plus(HOUR * 48), 2, Some(many));
        assert!(watch.ended().is_empty() && watch.covered.named.is_empty());
    }

    proptest! {
        #[test]
        fn a_record_reads_back_as_written_and_a_damaged_one_covers_nothing_new(
            rekeyed in 0..u64::MAX / 2, endings in proptest::collection::btree_set((0..u64::MAX / 2, any::<[u8; 20]>()), 0..20),
            junk: Vec<u8>,
        ) {
            let who = |bytes| Some(UserId::from_bytes(bytes)).filter(|user| *user != EVERYBODY);
            let named = endings.into_iter().map(|(void, bytes)| (Timestamp::from_millis(void), who(bytes))).collect();
            let covered = Covered::at(Timestamp::from_millis(rekeyed), named);
            prop_assert_eq!(Covered::read(&covered.write()), Some(covered));
            let _ = EndWatch::resume(Some(&junk));
        }
    }
}
