//! What goes on in one round: publishers, and all that others do at the gateway meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use http::Method;
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use veilcast::time::Clock;
use veilcast_benches::Outcome;

use crate::book::{Book, Part};
use crate::cast::{NOISE, PUBLIC, Streams, read_line};
use crate::clock::LeapingClock;
use crate::mqtt::Device;
use crate::web::Web;

/// How long anything may take: others share the machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// API keys of the run.
#[derive(Clone, Debug)]
pub(crate) struct ApiKeys {
    /// May do everything.
    pub(crate) desk: String,
    /// May publish and read.
    pub(crate) shop: String,
    /// May read one stream.
    pub(crate) narrow: String,
}

/// What all parts of a round share.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) web: Web,
    /// Of the MQTT door, `IP:PORT`.
    pub(crate) mqtt: String,
    pub(crate) clock: Arc<LeapingClock>,
    pub(crate) keys: ApiKeys,
    pub(crate) streams: Streams,
    pub(crate) book: Arc<Book>,
    /// The daemon is being ended: what fails from here on was to be expected.
    pub(crate) ending: Arc<AtomicBool>,
    /// Messages acknowledged in this life.
    pub(crate) acknowledged: Arc<AtomicUsize>,
}

impl Scene {
    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    /// A fault, unless the daemon is being ended.
    pub(crate) fn fault(&self, text: impl Into<String>) {
        if !self.is_ending() {
            self.book.fault(text);
        }
    }

    fn acknowledged(&self, part: Part, number: usize, answer: &Value) -> bool {
        let at = answer["timestamp"].as_u64();
        if let Some(at) = at {
            self.book.acknowledged(part, number, at);
            self.acknowledged.fetch_add(1, Ordering::SeqCst);
        }
        at.is_some()
    }

    /// Publishes the next message of a part; whether it was acknowledged.
    pub(crate) async fn publish(&self, part: Part) -> bool {
        let number = self.book.publishing(part);
        let (stream, partition) = self.streams.of(part);
        let path = self.streams.path(stream, &format!("?partition={partition}"));
        let answer = self.web.post(&path, &self.keys.shop, self.streams.payload(part, number)).await;
        match answer.and_then(|answer| answer.ok()) {
            Ok(answer) => self.acknowledged(part, number, &answer),
            Err(error) => {
                self.fault(format!("number {number} of part {part} was not published: {error}"));
                false
            }
        }
    }

    /// Publishes some messages of a part, one after the other, over HTTP.
    pub(crate) async fn publish_some(&self, part: Part, count: usize, pause: Duration) {
        for _ in 0..count {
            if !self.publish(part).await && self.is_ending() {
                return;
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// The same over a WebSocket.
    pub(crate) async fn publish_by_socket(&self, part: Part, count: usize, pause: Duration) {
        if let Err(error) = self.talk(part, count, pause).await {
            self.fault(format!("publishing over a WebSocket: {error}"));
        }
    }

    async fn talk(&self, part: Part, count: usize, pause: Duration) -> Outcome<()> {
        let (stream, _) = self.streams.of(part);
        let mut socket = self.web.socket(&self.streams.path(stream, "/publish"), &self.keys.shop).await?;
        for _ in 0..count {
            let number = self.book.publishing(part);
            socket.send(Message::text(self.streams.payload(part, number))).await?;
            let answer = loop {
                match tokio::time::timeout(PATIENCE, socket.next()).await?.ok_or("closed")?? {
                    Message::Text(text) => break serde_json::from_str::<Value>(&text)?,
                    _ => continue,
                }
            };
            if !self.acknowledged(part, number, &answer) {
                return Err(answer.to_string().into());
            }
            tokio::time::sleep(pause).await;
        }
        socket.close(None).await?;
        Ok(())
    }

    /// The same by MQTT.
    pub(crate) async fn publish_by_mqtt(&self, part: Part, count: usize, pause: Duration) {
        if let Err(error) = self.meter(part, count, pause).await {
            self.fault(format!("publishing by MQTT: {error}"));
        }
    }

    async fn meter(&self, part: Part, count: usize, pause: Duration) -> Outcome<()> {
        let topic = self.streams.id(self.streams.of(part).0).as_str();
        let mut device = Device::publisher(&self.mqtt, "meter", &self.keys.shop).await?;
        for _ in 0..count {
            let number = self.book.publishing(part);
            device.publish(topic, self.streams.payload(part, number).as_bytes()).await?;
            // The protocol does not tell when: not later than this.
            self.book.acknowledged(part, number, self.clock.now().as_millis());
            self.acknowledged.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(pause).await;
        }
        device.leave().await
    }

    /// Whether a request gets this status.
    async fn expect(&self, what: &str, status: &[u16], method: Method, path: &str, key: &str, body: Option<String>) {
        match self.web.ask(method, path, key, body).await {
            Ok(answer) if status.contains(&answer.status) => {}
            Ok(answer) => self.fault(format!("{what}: {}", answer.words())),
            Err(error) => self.fault(format!("{what}: {error}")),
        }
    }

    /// What must be refused, and is told so.
    pub(crate) async fn strangers(&self, round: usize) {
        let shop = self.keys.shop.as_str();
        let prices = self.streams.path(0, "");
        let body = || Some("{}".to_owned());
        self.expect("a wrong key", &[401], Method::POST, &prices, "no-such-key", body()).await;
        self.expect("another stream", &[403], Method::POST, &prices, &self.keys.narrow, body()).await;
        self.expect("another verb", &[403], Method::GET, "/api-keys", shop, None).await;
        self.expect("a strange query", &[400], Method::POST, &format!("{prices}?partion=1"), shop, body()).await;
        self.expect("no route", &[404], Method::GET, "/streams/../../etc/passwd", shop, None).await;
        if Device::publisher(&self.mqtt, "stranger", "no-such-key").await.is_ok() {
            self.fault("a wrong key opens the MQTT door");
        }
        if round.is_multiple_of(8) {
            // It may close before it was sent all.
            let _ = self.web.post(&prices, shop, "x".repeat(2 << 20)).await;
        }
    }

    /// A key that is made, used, revoked, and of no use any more.
    pub(crate) async fn guest(&self, round: usize) {
        let (desk, name) = (self.keys.desk.as_str(), format!("guest-{round}"));
        let made = json!({ "name": name, "verbs": ["history"], "streams": [self.streams.id(0).as_str()] });
        let made = match self.web.post("/api-keys", desk, made.to_string()).await.and_then(|made| made.ok()) {
            Ok(made) => made["key"].as_str().unwrap_or_default().to_owned(),
            Err(error) => return self.fault(format!("no key for a guest: {error}")),
        };
        let path = self.streams.path(0, "/data/partitions/0/last?count=3");
        self.expect("a guest", &[200], Method::GET, &path, &made, None).await;
        self.expect("revoking", &[200], Method::DELETE, &format!("/api-keys/{name}"), desk, None).await;
        self.expect("a guest of yesterday", &[401], Method::GET, &path, &made, None).await;
    }

    /// Changes of keys by hand, now and then.
    pub(crate) async fn key_changes(&self, mut rng: StdRng) {
        let stream = rng.random_range(0..PUBLIC);
        let desk = self.keys.desk.as_str();
        if rng.random_bool(0.4) {
            // 409: a grant has ended that no rekey has shut out yet.
            let path = self.streams.path(stream, "/keys/rotate");
            self.expect("rotate", &[200, 409], Method::POST, &path, desk, Some("{}".into())).await;
        }
        if rng.random_bool(0.2) {
            let path = self.streams.path(stream, "/keys/rekey");
            self.expect("rekey", &[200], Method::POST, &path, desk, Some("{}".into())).await;
        }
    }

    /// Somebody looks at the dashboard, and Prometheus at the figures.
    pub(crate) async fn look(&self) {
        let prices = |rest| self.streams.path(0, rest);
        let predict = prices("/predict?act=rekey");
        let paths = [
            "/dashboard",
            "/dashboard/app.js",
            "/overview",
            "/metrics",
            "/node",
            "/streams",
            "/keys?limit=50",
            "/api-keys",
            "/health",
            "/openapi.json",
            &prices("/timeline"),
            &prices("/subscribers"),
            &predict,
        ]
        .map(str::to_owned);
        for path in paths {
            self.expect(&path, &[200], Method::GET, &path, &self.keys.desk, None).await;
        }
    }

    /// Reads the last messages of a part, until they are those that were acknowledged: storing is a little behind publishing.
    pub(crate) async fn last_is_whole(&self, part: Part, count: usize) {
        let expected = self.book.last(part, count);
        let (stream, partition) = self.streams.of(part);
        // Those that nothing acknowledged may be among them.
        let path = self.streams.path(stream, &format!("/data/partitions/{partition}/last?count={}", count + 20));
        let began = tokio::time::Instant::now();
        let mut seen;
        loop {
            seen = match self.web.get(&path, &self.keys.shop).await {
                Ok(answer) if answer.status == 200 => self.sure(part, &answer.body),
                Ok(answer) => Err(answer.words()),
                Err(error) => Err(error.to_string()),
            };
            if seen.as_ref().is_ok_and(|seen| seen.ends_with(&expected)) {
                return;
            }
            if began.elapsed() > PATIENCE {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.fault(format!("the last of part {part} should be {expected:?}, and are {seen:?}"));
    }

    /// The numbers in lines of history that had to be there.
    fn sure(&self, part: Part, lines: &[u8]) -> Result<Vec<usize>, String> {
        let text = String::from_utf8_lossy(lines);
        let read = text.lines().map(|line| read_line(line, &self.streams).ok_or_else(|| format!("{line:.80}")));
        let numbers: Vec<usize> = read.map(|read| read.map(|(_, number, _)| number)).collect::<Result<_, _>>()?;
        Ok(numbers.into_iter().filter(|number| self.book.is_sure(part, *number)).collect())
    }

    /// One who asks for the noise and takes none of it.
    pub(crate) async fn slow(&self) -> Option<TcpStream> {
        let begun = async {
            let socket = TcpSocket::new_v4()?;
            socket.set_recv_buffer_size(4096)?;
            let mut connection = socket.connect(self.web.gateway().parse()?).await?;
            let (path, key) = (self.streams.path(NOISE, "/subscribe"), &self.keys.shop);
            let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {key}\r\n");
            connection.write_all(format!("{head}Accept: text/event-stream\r\n\r\n").as_bytes()).await?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(connection)
        };
        begun.await.inspect_err(|error| self.fault(format!("a slow reader: {error}"))).ok()
    }

    /// Everything published once, so that whoever may read begins to.
    pub(crate) async fn probe(&self) {
        for part in 0..self.streams.count() {
            if self.streams.of(part).0 != NOISE {
                self.publish(part).await;
            }
        }
    }
}

/// Whether the other end has let go of somebody who took nothing: what is left can be read, and then it is over.
pub(crate) async fn was_dropped(mut connection: TcpStream) -> bool {
    let mut rest = vec![0; 64 * 1024];
    loop {
        match tokio::time::timeout(Duration::from_secs(3), connection.read(&mut rest)).await {
            Ok(Ok(0) | Err(_)) => return true,
            Ok(Ok(_)) => {}
            Err(_) => return false,
        }
    }
}
