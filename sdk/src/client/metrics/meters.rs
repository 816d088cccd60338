//! What is counted as it happens.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

use prometheus_client::encoding::EncodeMetric;
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Unit;
use tokio::time::Instant;

use super::labels::{Awaited, Lost, Outcome, Sifted, Turned, Unanswered};
use crate::client::shared::lock;
use crate::exchange::{AskFailure, Dropped};
use crate::metrics::{Counts, CountsFamily, Label, Labels, Registry, SecondsFamily, seconds};
use crate::permission::{PermissionSource, Refusal};
use crate::stream::StreamId;
use crate::wire::KeyAnswer;

/// Own streams with a figure of their own; what is published on further ones counts for `other`.
const STREAMS: usize = 256;
const FURTHER: &str = "other";
const STREAM: &str = "stream";
/// What answered a permission check from memory.
const CACHE: &str = "cache";

/// The figures of one client.
pub(crate) struct Meters {
    registry: Registry,
    published: CountsFamily,
    /// Own streams with a counter of their own.
    named: Mutex<HashSet<StreamId>>,
    lost: Counts<Lost>,
    parked: [Gauge; 2],
    answers: Counts<Outcome>,
    answered_keys: Counts<Outcome>,
    turned: Counts<Turned>,
    answer_time: Histogram,
    asked: Counts<Outcome>,
    unanswered: Counts<Unanswered>,
    round_trip: Histogram,
    pending: Gauge,
    checks: Counts<Outcome>,
    cached_checks: Counts<Outcome>,
    check_time: Histogram,
    pages: Counts<Outcome>,
}

impl Meters {
    /// Registers everything, with what the permission source counts.
    pub(crate) fn new(source: &dyn PermissionSource, frames: &CountsFamily) -> Self {
        let mut registry = Registry::with_prefix("veilcast");
        let published = family(&mut registry, "messages_published", "Messages published, by own stream");
        published.get_or_create_owned(&vec![(STREAM, FURTHER.into())]);
        registry.register("frames", "Frames of gossip that arrived, by verdict", frames.clone());
        let asked = family(&mut registry, "key_requests", "Requests for keys sent to publishers, by outcome");
        let checks =
            family(&mut registry, "permission_checks", "Permission checks, by source (cache: from memory) and outcome");
        let kind = ("source", Cow::from(source.kind()));
        let check_seconds = SecondsFamily::new_with_constructor(seconds);
        let check_time = check_seconds.get_or_create_owned(&vec![kind.clone()]);
        let help = "Time that the permission source took to answer";
        registry.register_with_unit("permission_check", help, Unit::Seconds, check_seconds);
        let lost =
            "Verified messages that were not handed to an application, by reason; each once for every subscription";
        source.register(&mut registry);
        Self {
            lost: counts(&mut registry, "messages_dropped", lost),
            parked: parked(&mut registry),
            answers: counts(
                &mut registry,
                "key_answers",
                "Requests for keys answered, by the best outcome among its keys",
            ),
            answered_keys: counts(&mut registry, "answered_keys", "Keys that were asked for and answered, by outcome"),
            turned: counts(&mut registry, "key_requests_unanswered", "Requests for keys that got no answer, by reason"),
            answer_time: histogram(
                &mut registry,
                "key_answer",
                "Time from a request for keys to its answer, at the publisher",
            ),
            asked: Counts::of(&asked, &Labels::new()),
            unanswered: Counts::of(&asked, &Labels::new()),
            round_trip: histogram(&mut registry, "key_request", "Round trip of a request for keys, at the subscriber"),
            pending: gauge(&mut registry, "key_requests_pending", "Requests for keys under way, at the subscriber"),
            checks: Counts::of(&checks, &vec![kind]),
            cached_checks: Counts::of(&checks, &vec![("source", CACHE.into())]),
            check_time,
            pages: counts(&mut registry, "resend_answers", "Requests for stored messages answered, by outcome"),
            published,
            named: Mutex::default(),
            registry,
        }
    }

    /// Writes what was counted; the end mark is the caller's.
    pub(super) fn write(&self, text: &mut String) {
        // A String takes everything.
        let _ = encode_registry(text, &self.registry);
    }

    /// The counter of messages on an own stream.
    pub(crate) fn published_on(&self, stream: &StreamId) -> Counter {
        let mut named = lock(&self.named);
        let is_named = named.contains(stream) || (named.len() < STREAMS && named.insert(stream.clone()));
        let name = if is_named { Cow::from(stream.as_str().to_owned()) } else { FURTHER.into() };
        self.published.get_or_create_owned(&vec![(STREAM, name)])
    }

    /// So many messages did not reach an application.
    pub(crate) fn lost(&self, why: Lost, messages: usize) {
        self.lost.add(why, messages);
    }

    /// The messages that one subscription holds.
    pub(crate) fn parking(&self) -> Parking {
        Parking { gauges: self.parked.clone(), held: [0; 2] }
    }

    /// An answer that leaves.
    pub(crate) fn answered(&self, answer: &KeyAnswer) {
        self.answers.add(best(answer), 1);
        self.answered_keys.add(Outcome::Granted, answer.granted.len());
        for refused in &answer.refused {
            self.answered_keys.add(refused.refusal.into(), 1);
        }
    }

    /// A request that gets no answer.
    pub(crate) fn turned(&self, why: &Dropped) {
        self.turned.add(why.into(), 1);
    }

    /// Measures how long an answer takes, if there is one.
    pub(crate) async fn answering<T>(&self, answer: impl Future<Output = Option<T>>) -> Option<T> {
        let begun = Instant::now();
        let answer = answer.await;
        if answer.is_some() {
            self.answer_time.observe(begun.elapsed().as_secs_f64());
        }
        answer
    }

    /// Measures a round trip, if there was an answer.
    pub(crate) async fn asking<T, E>(&self, asked: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let begun = Instant::now();
        let answer = asked.await;
        if answer.is_ok() {
            self.round_trip.observe(begun.elapsed().as_secs_f64());
        }
        answer
    }

    /// An answer that counts came.
    pub(crate) fn got(&self, answer: &KeyAnswer) {
        self.asked.add(best(answer), 1);
    }

    /// A try brought none.
    pub(crate) fn got_none(&self, failure: AskFailure) {
        self.unanswered.add(failure.into(), 1);
    }

    /// A request is under way until this is dropped.
    pub(crate) fn pending(&self) -> Pending {
        self.pending.inc();
        Pending(self.pending.clone())
    }

    /// A permission check was answered from memory.
    pub(crate) fn checked_from_memory<T>(&self, answer: &Result<T, Refusal>) {
        self.cached_checks.add(answer.into(), 1);
    }

    /// The source answered one, in this time.
    pub(crate) fn checked<T>(&self, answer: &Result<T, Refusal>, took: Duration) {
        self.checks.add(answer.into(), 1);
        self.check_time.observe(took.as_secs_f64());
    }

    /// A reader's request was answered.
    pub(crate) fn resent<T>(&self, page: &Result<T, Refusal>) {
        self.pages.add(page.into(), 1);
    }
}

/// What an answer says about the request as a whole.
fn best(answer: &KeyAnswer) -> Outcome {
    match (answer.granted.is_empty(), answer.refused.first()) {
        (false, _) => Outcome::Granted,
        (true, Some(refused)) => refused.refusal.into(),
        (true, None) => Outcome::Nothing,
    }
}

/// Counts a request as pending while it lives.
pub(crate) struct Pending(Gauge);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What one subscription holds, as part of what all hold; nothing once it is dropped.
pub(crate) struct Parking {
    gauges: [Gauge; 2],
    held: [i64; 2],
}

impl Parking {
    /// It holds so many messages that wait for keys, and so many whose authors are being looked up.
    pub(crate) fn hold(&mut self, keys: usize, permissions: usize) {
        let now = [keys, permissions].map(|count| i64::try_from(count).unwrap_or(i64::MAX));
        for ((gauge, held), now) in self.gauges.iter().zip(&mut self.held).zip(now) {
            if *held != now {
                gauge.inc_by(now - *held);
                *held = now;
            }
        }
    }
}

impl Drop for Parking {
    fn drop(&mut self) {
        self.hold(0, 0);
    }
}

/// The verdicts of a gate, which is there before the client is.
pub(crate) fn frames() -> (CountsFamily, Counts<Sifted>) {
    let family = CountsFamily::default();
    let counts = Counts::of(&family, &Labels::new());
    (family, counts)
}

fn registered<M: EncodeMetric + Clone + std::fmt::Debug + Send + Sync + 'static>(
    registry: &mut Registry,
    name: &str,
    help: &str,
    metric: M,
) -> M {
    registry.register(name, help, metric.clone());
    metric
}

fn family(registry: &mut Registry, name: &str, help: &str) -> CountsFamily {
    registered(registry, name, help, CountsFamily::default())
}

fn counts<L: Label>(registry: &mut Registry, name: &str, help: &str) -> Counts<L> {
    Counts::of(&family(registry, name, help), &Labels::new())
}

fn gauge(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    registered(registry, name, help, Gauge::default())
}

fn histogram(registry: &mut Registry, name: &str, help: &str) -> Histogram {
    let histogram = seconds();
    registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
    histogram
}

fn parked(registry: &mut Registry) -> [Gauge; 2] {
    let family = prometheus_client::metrics::family::Family::<Labels, Gauge>::default();
    let help = "Messages that wait for a key, or to be told whether their author may publish";
    registry.register("messages_parked", help, family.clone());
    [Awaited::Key, Awaited::Permission]
        .map(|awaited| family.get_or_create_owned(&vec![(Awaited::NAME, awaited.value().into())]))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use veilcast_key_store::MemoryKeyStore;

    use super::*;
    use crate::identity::UserId;
    use crate::permission::LocalRegistry;

    fn meters() -> Meters {
        Meters::new(&LocalRegistry::new(Arc::new(MemoryKeyStore::default())), &frames().0)
    }

    fn text(meters: &Meters) -> String {
        let mut text = String::new();
        meters.write(&mut text);
        text
    }

    #[test]
    fn streams_beyond_the_limit_are_counted_together_and_no_name_breaks_the_text() {
        let meters = meters();
        let owner = UserId::from_bytes([1; 20]);
        for n in 0..STREAMS + 3 {
            let counter = meters.published_on(&StreamId::of(owner, &format!("s/{n}/\"}}\\")).unwrap());
            counter.inc();
        }
        let again = meters.published_on(&StreamId::of(owner, "s/0/\"}\\").unwrap());
        assert_eq!(again.inc(), 1, "a stream keeps its counter");
        let text = text(&meters);
        let published: Vec<&str> =
            text.lines().filter(|line| line.starts_with("veilcast_messages_published_total")).collect();
        assert_eq!(published.len(), STREAMS + 1);
        assert!(published.contains(&"veilcast_messages_published_total{stream=\"other\"} 3"), "{published:#?}");
        let named = format!("veilcast_messages_published_total{{stream=\"{owner}/s/0/\\\"}}\\\\\"}} 2");
        assert!(published.contains(&named.as_str()), "{named}: {published:#?}");
    }

    #[test]
    fn what_a_subscription_holds_is_gone_from_the_figures_with_it() {
        let meters = meters();
        let (mut one, mut other) = (meters.parking(), meters.parking());
        one.hold(3, 1);
        other.hold(4, 0);
        one.hold(2, 1);
        assert!(text(&meters).contains("veilcast_messages_parked{for=\"key\"} 6\n"), "{}", text(&meters));
        drop(other);
        assert!(text(&meters).contains("veilcast_messages_parked{for=\"key\"} 2\n"));
        drop(one);
        for awaited in ["key", "permission"] {
            let none = format!("veilcast_messages_parked{{for=\"{awaited}\"}} 0\n");
            assert!(text(&meters).contains(&none), "{none}");
        }
    }
}
