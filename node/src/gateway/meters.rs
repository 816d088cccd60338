//! What is counted of the doors, for Prometheus.
//!
//! No label grows with what is asked: a route is written as the router has it, and all that is no route counts together. Everything is
//! there from the start, and a request costs a look into a table and two additions.

use std::collections::HashMap;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Labels of one figure.
type Labels = Vec<(&'static str, &'static str)>;
type Counts = Family<Labels, Counter>;

/// Of an answer, by the first digit of its status.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
/// From what memory answers to what nobody waits for any longer, seconds.
const BUCKETS: [f64; 9] = [0.001, 0.005, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0, 30.0];
/// What an MQTT client may be refused, as the log calls it.
const REFUSED: [&str; 5] = ["MQTT login", "MQTT publish", "MQTT subscribe", "MQTT message", "MQTT will"];

/// The figures of the doors.
pub(crate) struct Meters {
    requests: Counts,
    seconds: Family<Labels, Histogram, fn() -> Histogram>,
    routes: HashMap<&'static str, HashMap<Method, Route>>,
    /// Of what is no route.
    elsewhere: Route,
    turned_away: Counter,
    clients: Gauge,
    messages: Counts,
    published: Counter,
    delivered: Counter,
    refused: Counts,
}

/// Of one route.
struct Route {
    answers: [Counter; CLASSES.len()],
    seconds: Histogram,
}

impl Default for Meters {
    fn default() -> Self {
        let (requests, seconds) = (Counts::default(), Family::new_with_constructor(buckets as fn() -> Histogram));
        let route = |method, route| {
            let labels = vec![("method", method), ("route", route)];
            let answers =
                CLASSES.map(|class| requests.get_or_create_owned(&[&labels[..], &[("status", class)]].concat()));
            Route { answers, seconds: seconds.get_or_create_owned(&labels) }
        };
        let mut routes: HashMap<_, HashMap<_, _>> = HashMap::new();
        let (_, listed) = super::routes().into_parts();
        for (method, path) in listed {
            let named = route(word(&method), path);
            routes.entry(path).or_default().insert(method, named);
        }
        let (messages, refused) = (Counts::default(), Counts::default());
        for what in REFUSED {
            refused.get_or_create_owned(&refusal(what));
        }
        Self {
            routes,
            elsewhere: route("other", "none"),
            requests,
            seconds,
            turned_away: Counter::default(),
            clients: Gauge::default(),
            published: messages.get_or_create_owned(&vec![("direction", "published")]),
            delivered: messages.get_or_create_owned(&vec![("direction", "delivered")]),
            messages,
            refused,
        }
    }
}

impl Meters {
    /// Adds all of them to what is told.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let help = "Requests of the HTTP gateway that were answered, by route and class of status";
        registry.register("gateway_requests", help, self.requests.clone());
        let help = "Time from a request's head to its answer's head, at the HTTP gateway";
        registry.register_with_unit("gateway_request", help, Unit::Seconds, self.seconds.clone());
        let help = "Connections that were closed at once for want of a seat, of HTTP and MQTT together";
        registry.register("connections_turned_away", help, self.turned_away.clone());
        registry.register("mqtt_clients", "MQTT clients that are logged in", self.clients.clone());
        let help = "Messages that MQTT clients published, and that were sent to MQTT clients";
        registry.register("mqtt_messages", help, self.messages.clone());
        registry.register("mqtt_refused", "What MQTT clients were refused, by what it was", self.refused.clone());
    }

    /// A request was answered; its path is as the router has it.
    pub(super) fn answered(&self, method: &Method, path: &str, status: StatusCode, took: Duration) {
        // A question for the head alone is answered by whoever has the rest.
        let method = if method == Method::HEAD { &Method::GET } else { method };
        let route = self.routes.get(path).and_then(|of| of.get(method)).unwrap_or(&self.elsewhere);
        if let Some(counter) = usize::from(status.as_u16() / 100).checked_sub(1).and_then(|at| route.answers.get(at)) {
            counter.inc();
        }
        route.seconds.observe(took.as_secs_f64());
    }

    /// There was no seat for a connection.
    pub(super) fn turned_away(&self) {
        self.turned_away.inc();
    }

    /// An MQTT client is logged in until this is dropped.
    pub(super) fn client(&self) -> Client {
        self.clients.inc();
        Client(self.clients.clone())
    }

    /// An MQTT client published a message.
    pub(super) fn published(&self) {
        self.published.inc();
    }

    /// An MQTT client was sent a message.
    pub(super) fn delivered(&self) {
        self.delivered.inc();
    }

    /// An MQTT client was refused this.
    pub(super) fn refused(&self, what: &'static str) {
        self.refused.get_or_create(&refusal(what)).inc();
    }
}

/// Counts an MQTT client while it lives.
pub(super) struct Client(Gauge);

impl Drop for Client {
    fn drop(&mut self) {
        self.0.dec();
    }
}

fn buckets() -> Histogram {
    Histogram::new(BUCKETS)
}

fn refusal(what: &'static str) -> Labels {
    vec![("what", what.trim_start_matches("MQTT "))]
}

/// Of those that routes have.
const fn word(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(meters: &Meters) -> String {
        let (mut registry, mut text) = (Registry::default(), String::new());
        meters.register(&mut registry);
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    #[test]
    fn whatever_is_asked_for_no_figure_is_added_to_those_there_are_from_the_start() {
        let meters = Meters::default();
        let names = |text: &str| -> Vec<String> {
            let mut names: Vec<_> = text.lines().map(|line| line.rsplit_once(' ').unwrap().0.to_owned()).collect();
            names.sort();
            names
        };
        let before = text(&meters);
        let brew = Method::from_bytes(b"BREW").unwrap();
        for (method, path) in
            [(&Method::GET, "/keys"), (&Method::HEAD, "/keys"), (&brew, "/keys"), (&Method::GET, "/n/7")]
        {
            for status in [101, 200, 303, 404, 503, 999] {
                meters.answered(method, path, StatusCode::from_u16(status).unwrap(), Duration::from_millis(3));
            }
        }
        REFUSED.into_iter().for_each(|what| meters.refused(what));
        let after = text(&meters);
        assert_eq!(names(&after), names(&before));
        for line in [
            "gateway_requests_total{method=\"GET\",route=\"/keys\",status=\"4xx\"} 2",
            "gateway_requests_total{method=\"other\",route=\"none\",status=\"4xx\"} 2",
            "gateway_request_seconds_count{method=\"GET\",route=\"/keys\"} 12",
            "gateway_request_seconds_bucket{le=\"0.005\",method=\"GET\",route=\"/keys\"} 12",
            "mqtt_refused_total{what=\"login\"} 1",
        ] {
            assert!(after.lines().any(|found| found == line), "{line}: {after}");
        }
    }

    #[test]
    fn an_mqtt_client_is_counted_for_as_long_as_it_is_there() {
        let meters = Meters::default();
        let (first, second) = (meters.client(), meters.client());
        drop(first);
        assert!(text(&meters).contains("mqtt_clients 1\n"));
        drop(second);
        assert!(text(&meters).contains("mqtt_clients 0\n"));
    }
}
