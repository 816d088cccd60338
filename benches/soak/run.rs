//! The story of a run: rounds of load, each followed by a leap of the clock, and lives of the daemon.
//!
//! ```text
//! round: grants end, are renewed or taken back ─▶ load ─▶ all who may read have read all ─▶ history ─▶ leap
//! life:  start ─▶ rounds ─▶ SIGTERM or kill -9 amid the load ─▶ audit verify ─▶ (backup, restore) ─▶ start
//! ```

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::join_all;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use veilcast::time::Clock;
use veilcast_benches::Outcome;

use crate::Arguments;
use crate::book::{Book, Part};
use crate::cast::{APPLICATIONS, METERS, NOISE, Native, PUBLIC, STREAMS, Streams, follow, read_line, read_message};
use crate::clock::LeapingClock;
use crate::load::{ApiKeys, PATIENCE, Scene, was_dropped};
use crate::mqtt;
use crate::program::{Daemon, Place};
use crate::watch::{Life, Use};
use crate::web::{Web, texts};

/// What the message store may hold, bytes.
pub(crate) const STORED: u64 = 4_000_000;
/// Grants end so long after the leap before them, amid the load: keys are then sent ahead.
const BEFORE_AN_END: u64 = 3;

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Terminated { backup: bool },
    Killed,
}

/// Somebody who buys time, again and again.
#[derive(Debug)]
struct Buyer {
    native: Native,
    stream: usize,
    parts: Vec<Part>,
    /// The last second that is paid for.
    until: Option<u64>,
    /// Rounds to stay away for.
    rests: u32,
}

/// What is found out on the way, for the verdict.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) lives: Vec<Life>,
    pub(crate) audits: Vec<u64>,
    pub(crate) stored: Vec<u64>,
    pub(crate) store_bytes: Vec<u64>,
    pub(crate) dropped: usize,
    pub(crate) rounds: usize,
    pub(crate) leapt: u64,
    pub(crate) real: Duration,
    pub(crate) killed: usize,
    pub(crate) restarts: usize,
    /// What must not stand in any log.
    pub(crate) secrets: Vec<String>,
}

pub(crate) struct Run {
    arguments: Arguments,
    place: Place,
    clock: Arc<LeapingClock>,
    rng: StdRng,
    streams: Streams,
    book: Arc<Book>,
    keys: ApiKeys,
    daemon: Daemon,
    listen: String,
    scene: Scene,
    subscriber: Native,
    stranger: Native,
    buyers: Vec<Buyer>,
    followers: Vec<JoinHandle<()>>,
    slow: Vec<(usize, TcpStream)>,
    watching: JoinHandle<()>,
    samples: Arc<Mutex<Life>>,
    findings: Findings,
}

impl Run {
    /// Makes a data folder with streams and keys, and starts everybody.
    pub(crate) async fn prepare(arguments: Arguments, place: Place) -> Outcome<Self> {
        let clock = Arc::new(LeapingClock::make(&place.clock())?);
        place.run(&["identity", "new"])?;
        let mut ids = Vec::new();
        for (number, (path, partitions)) in STREAMS.iter().enumerate() {
            let partitions = partitions.to_string();
            let mut create = vec!["stream", "create", path, "--partitions", &partitions];
            create.extend((number == PUBLIC).then_some("--public"));
            ids.push(place.run(&create)?.parse()?);
        }
        let streams = Streams::new(ids);
        std::fs::write(place.data().join("veilcast.toml"), config(&streams))?;
        place.run(&["config", "check"])?;
        let key = |name, verbs: &[&str], stream: Option<usize>| {
            let verbs = verbs.iter().flat_map(|verb| ["--verb", verb]);
            let of = match stream {
                Some(stream) => vec!["--stream", streams.id(stream).as_str()],
                None => vec!["--all-streams"],
            };
            place.run(&["api-key", "add", name].into_iter().chain(of).chain(verbs).collect::<Vec<_>>())
        };
        let keys = ApiKeys {
            desk: key("desk", &["admin", "keys", "permissions", "metrics", "history"], None)?,
            shop: key("shop", &["publish", "subscribe", "history"], None)?,
            narrow: key("narrow", &["history"], Some(1))?,
        };
        let daemon = Daemon::start(&place, 0, "/ip4/127.0.0.1/tcp/0")?;
        let listen = daemon.address.split("/p2p/").next().unwrap_or_default().to_owned();
        let book = Arc::new(Book::new(streams.count()));
        let scene = scene(&daemon, &clock, &keys, &streams, &book);
        let native = async |name: &str, number: u64, parts: &[Part]| {
            let seed = arguments.seed.wrapping_mul(100).wrapping_add(number);
            Native::start(name, seed, clock.clone(), &daemon.address, &streams, parts, &book).await
        };
        let all: Vec<Part> = (0..streams.count()).filter(|part| streams.of(*part).0 != NOISE).collect();
        let sold: Vec<Part> = all.iter().copied().filter(|part| streams.of(*part).0 != PUBLIC).collect();
        let subscriber = native("subscriber", 1, &all).await?;
        let stranger = native("stranger", 2, &sold).await?;
        let mut buyers = Vec::new();
        for (number, stream) in [0, 0, 1].into_iter().enumerate() {
            let parts = streams.parts(stream);
            let native = native(&format!("buyer-{number}"), 3 + number as u64, &parts).await?;
            buyers.push(Buyer { native, stream, parts, until: None, rests: 0 });
        }
        let samples = Arc::new(Mutex::default());
        let watching = watch(daemon.id(), place.heap(0), &samples);
        let rng = StdRng::seed_from_u64(arguments.seed);
        let secrets = vec![keys.desk.clone(), keys.shop.clone(), keys.narrow.clone()];
        let findings = Findings { secrets, ..Findings::default() };
        Ok(Self {
            arguments,
            place,
            clock,
            rng,
            streams,
            book,
            keys,
            daemon,
            listen,
            scene,
            subscriber,
            stranger,
            buyers,
            followers: Vec::new(),
            slow: Vec::new(),
            watching,
            samples,
            findings,
        })
    }

    /// All of it, to the end of the last life.
    pub(crate) async fn play(mut self) -> Outcome<(Findings, Arc<Book>)> {
        let (began, sim_began) = (Instant::now(), self.now());
        for stream in 0..PUBLIC {
            self.grant(&self.subscriber.user(), stream, None).await?;
        }
        self.book.begin("subscriber", &self.everything(), None);
        self.settle_in().await?;
        let (rounds, hours) = (self.arguments.rounds, self.arguments.hours);
        let (total, real) = (hours * 3600, Duration::from_secs(self.arguments.minutes * 60));
        let mut round = 0;
        while round < rounds || self.now() - sim_began < total || began.elapsed() < real {
            let started = Instant::now();
            self.plan(round).await?;
            let ending = ending(round, rounds);
            self.round(round, real / u32::try_from(rounds)?, ending).await?;
            let left = real.div_f64(rounds as f64).saturating_sub(started.elapsed());
            tokio::time::sleep(left).await;
            round += 1;
            let to_go = total.saturating_sub(self.now() - sim_began) / (rounds.saturating_sub(round).max(1) as u64);
            self.leap(to_go)?;
            self.tell(round, began.elapsed(), self.now() - sim_began);
        }
        self.findings.rounds = round;
        self.findings.leapt = self.now() - sim_began;
        self.findings.real = began.elapsed();
        self.finish().await
    }

    /// Seconds by the clock of the run.
    fn now(&self) -> u64 {
        self.clock.now().as_secs()
    }

    fn everything(&self) -> Vec<Part> {
        (0..self.streams.count()).filter(|part| self.streams.of(*part).0 != NOISE).collect()
    }

    /// Everybody connected, the gateway's readers too, and whoever may read reads.
    async fn settle_in(&mut self) -> Outcome<()> {
        let natives = self.natives().into_iter().map(|native| &native.client);
        let connected = join_all(natives.map(async |client| {
            while client.connected_peers().await == 0 {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }));
        tokio::time::timeout(PATIENCE, connected).await.map_err(|_| "not everybody is connected")?;
        let socket = self.scene.web.socket(&self.streams.path(0, "/subscribe"), &self.keys.shop).await?;
        let line = |line: &String, streams: &Streams| read_line(line, streams);
        let [by_socket, by_events, by_mqtt] = APPLICATIONS;
        self.follow(by_socket, follow(by_socket, texts(socket), line, &self.streams, &self.book), 0);
        let events = self.scene.web.events(&self.streams.path(1, "/subscribe"), &self.keys.shop).await?;
        self.follow(by_events, follow(by_events, events, line, &self.streams, &self.book), 1);
        let topic = self.streams.id(METERS).as_str();
        let messages = mqtt::messages(&self.scene.mqtt, by_mqtt, &self.keys.shop, topic).await?;
        self.follow(by_mqtt, follow(by_mqtt, messages, read_message, &self.streams, &self.book), METERS);
        let now = self.now();
        let readers = self.entitled(now);
        self.until_they_read(&readers).await;
        Ok(())
    }

    /// An application that reads a stream from now on.
    fn follow(&mut self, name: &str, follower: JoinHandle<()>, stream: usize) {
        self.followers.push(follower);
        self.book.begin(name, &self.streams.parts(stream), None);
    }

    fn natives(&self) -> Vec<&Native> {
        [&self.subscriber, &self.stranger].into_iter().chain(self.buyers.iter().map(|buyer| &buyer.native)).collect()
    }

    /// Those who must read what is published now.
    fn entitled(&self, now: u64) -> Vec<String> {
        let buyers = self.buyers.iter().filter(|buyer| buyer.until.is_some_and(|until| until >= now));
        let buyers = buyers.map(|buyer| buyer.native.name.clone());
        ["subscriber"].into_iter().chain(APPLICATIONS).map(str::to_owned).chain(buyers).collect()
    }

    /// Publishes until all of these read: gossip needs a moment to know who reads what.
    async fn until_they_read(&self, readers: &[String]) {
        let began = Instant::now();
        while let Some(late) = readers.iter().find(|reader| !self.book.has_begun(reader)) {
            if began.elapsed() > PATIENCE {
                return self.book.fault(format!("{late} may read, and reads nothing"));
            }
            self.scene.probe().await;
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// What becomes of everybody's time before a round.
    async fn plan(&mut self, round: usize) -> Outcome<()> {
        let mut begun = Vec::new();
        for place in 0..self.buyers.len() {
            let (roll, span) = (self.rng.random_range(0..100), self.rng.random_range(1800..3 * 3600));
            let (now, buyer) = (self.now(), &self.buyers[place]);
            match buyer.until {
                Some(until) if until < now => {
                    let rests = self.rng.random_range(0..3);
                    (self.buyers[place].until, self.buyers[place].rests) = (None, rests);
                }
                None if buyer.rests > 0 => self.buyers[place].rests -= 1,
                None => {
                    self.book.begin(&buyer.native.name, &buyer.parts, Some(now + span));
                    begun.push(buyer.native.name.clone());
                    self.sell(place, now + span).await?;
                }
                // Not so near the end that it may come first.
                Some(until) if until < now + 1800 && until > now + 60 && roll < 40 => {
                    self.sell(place, until + span).await?;
                    self.book.prolonged(&self.buyers[place].native.name, until + span);
                }
                Some(until) if until > now + 60 && roll < 7 => self.take_back(place).await?,
                Some(_) => {}
            }
        }
        self.until_they_read(&begun).await;
        if round.is_multiple_of(4)
            && let Some(connection) = self.scene.slow().await
        {
            self.slow.push((round, connection));
        }
        Ok(())
    }

    async fn sell(&mut self, place: usize, until: u64) -> Outcome<()> {
        let buyer = &self.buyers[place];
        self.grant(&buyer.native.user(), buyer.stream, Some(until)).await?;
        self.buyers[place].until = Some(until);
        Ok(())
    }

    async fn grant(&self, user: &str, stream: usize, until: Option<u64>) -> Outcome<()> {
        let path = self.streams.path(stream, "/permissions");
        let granted = json!({ "user": user, "until": until.map(|until| until * 1000) });
        self.scene.web.post(&path, &self.keys.desk, granted.to_string()).await?.ok()?;
        Ok(())
    }

    async fn take_back(&mut self, place: usize) -> Outcome<()> {
        let buyer = &self.buyers[place];
        let path = self.streams.path(buyer.stream, &format!("/permissions/{}", buyer.native.user()));
        self.scene.web.delete(&path, &self.keys.desk).await?.ok()?;
        self.book.revoked(&buyer.native.name);
        (self.buyers[place].until, self.buyers[place].rests) = (None, 1);
        Ok(())
    }

    /// One round of load. A life that ends with it ends in its middle.
    async fn round(&mut self, round: usize, lasts: Duration, ending: Option<Ending>) -> Outcome<()> {
        let settled = self.book.next();
        let count = self.arguments.messages;
        let pause = lasts.mul_f64(0.7) / u32::try_from(count)?;
        let (half, load) = (self.streams.count() * count / 3, self.start_load(round, count, pause));
        if let Some(ending) = ending {
            let from = self.scene.acknowledged.load(Ordering::SeqCst);
            while self.scene.acknowledged.load(Ordering::SeqCst) < from + half
                && load.iter().any(|one| !one.is_finished())
            {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            self.end_life(ending, &settled, load).await?;
            return self.settle_in().await;
        }
        for one in load {
            one.await?;
        }
        self.all_have_read().await;
        let part = round % (self.streams.count() - 1);
        self.scene.last_is_whole(part, 20).await;
        self.note_store().await
    }

    fn start_load(&mut self, round: usize, count: usize, pause: Duration) -> Vec<JoinHandle<()>> {
        let mut load = Vec::new();
        for part in 0..self.streams.count() {
            let (scene, stream) = (self.scene.clone(), self.streams.of(part).0);
            load.push(match stream {
                1 => tokio::spawn(async move { scene.publish_by_socket(part, count, pause).await }),
                METERS => tokio::spawn(async move { scene.publish_by_mqtt(part, count, pause).await }),
                NOISE => tokio::spawn(async move { scene.publish_some(part, 8, pause).await }),
                _ => tokio::spawn(async move { scene.publish_some(part, count, pause).await }),
            });
        }
        let (scene, rng) = (self.scene.clone(), StdRng::seed_from_u64(self.rng.random()));
        load.push(tokio::spawn(async move {
            scene.strangers(round).await;
            scene.guest(round).await;
            scene.key_changes(rng).await;
            scene.look().await;
        }));
        load
    }

    /// Waits for all who may read; whoever does not get there is a fault.
    async fn all_have_read(&self) {
        let began = Instant::now();
        let readers = self.entitled(0);
        while let Some(behind) = readers.iter().find_map(|reader| self.book.behind(reader)) {
            if began.elapsed() > PATIENCE {
                return self.book.fault(behind);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn note_store(&mut self) -> Outcome<()> {
        let metrics = self.scene.web.get("/metrics", &self.keys.desk).await?;
        let text = String::from_utf8_lossy(&metrics.body).into_owned();
        let figure = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.and_then(|value| value.parse::<f64>().ok()).ok_or_else(|| format!("no figure {name}"))
        };
        self.findings.stored.push(figure("veilcast_stored_bytes")? as u64);
        self.findings.store_bytes.push(figure("veilcast_store_bytes")? as u64);
        Ok(())
    }

    /// Ends this life amid its load, looks whether all is whole, and begins the next.
    async fn end_life(&mut self, ending: Ending, settled: &[usize], load: Vec<JoinHandle<()>>) -> Outcome<()> {
        self.scene.ending.store(true, Ordering::SeqCst);
        self.findings.restarts += 1;
        tokio::task::block_in_place(|| match ending {
            Ending::Terminated { .. } => self.daemon.terminate(),
            Ending::Killed => self.daemon.kill(),
        })?;
        for one in load {
            one.await?;
        }
        self.watching.abort();
        let life = std::mem::take(&mut *self.samples.lock().unwrap_or_else(PoisonError::into_inner));
        self.findings.lives.push(life);
        if ending == Ending::Killed {
            self.book.may_be_lost_since(settled);
            self.findings.killed += 1;
        }
        for follower in self.followers.drain(..) {
            tokio::time::timeout(PATIENCE, follower).await??;
        }
        // What was on its way to an application when its connection was closed did not have to arrive.
        APPLICATIONS.iter().for_each(|name| self.book.over(name, settled.to_vec()));
        self.give_time_to_arrive().await;
        self.slow.clear();
        self.look_at_the_folder(ending)?;

        let life = self.findings.lives.len();
        self.daemon = tokio::task::block_in_place(|| Daemon::start(&self.place, life, &self.listen))?;
        self.scene = scene(&self.daemon, &self.clock, &self.keys, &self.streams, &self.book);
        self.watching = watch(self.daemon.id(), self.place.heap(life), &self.samples);
        self.book.new_chains();
        let now = self.now();
        self.book.over("subscriber", self.book.next());
        self.book.begin("subscriber", &self.everything(), None);
        for buyer in &self.buyers {
            if let Some(until) = buyer.until.filter(|until| *until >= now) {
                self.book.over(&buyer.native.name, self.book.next());
                self.book.begin(&buyer.native.name, &buyer.parts, Some(until));
            }
        }
        Ok(())
    }

    /// What left before the end of a life may still be on its way.
    async fn give_time_to_arrive(&self) {
        let began = Instant::now();
        let subscriber = self.book.behind("subscriber").is_some();
        while subscriber && self.book.behind("subscriber").is_some() && began.elapsed() < Duration::from_secs(5) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The audit log is whole, and so is that of a backup.
    fn look_at_the_folder(&mut self, ending: Ending) -> Outcome<()> {
        let verified = tokio::task::block_in_place(|| self.place.verify(&self.place.data()))?;
        if verified["whole"] != true {
            self.book.fault(format!("the audit log is not whole: {verified}"));
        }
        let entries =
            verified["head"]["sequence"].as_u64().or_else(|| verified["entries"].as_u64()).unwrap_or_default();
        self.findings.audits.push(entries);
        if matches!(ending, Ending::Terminated { backup: true }) {
            tokio::task::block_in_place(|| self.back_up(entries))?;
        }
        Ok(())
    }

    fn back_up(&self, entries: u64) -> Outcome<()> {
        let (file, copy) = (self.place.folder.join("soak.backup"), self.place.folder.join("restored"));
        let file = file.to_str().ok_or("a folder that is no text")?;
        self.place.run(&["backup", file])?;
        self.place.run_on(&copy, &["restore", file])?;
        let verified = self.place.verify(&copy)?;
        let restored = verified["head"]["sequence"].as_u64().or_else(|| verified["entries"].as_u64());
        if verified["whole"] != true || restored != Some(entries) {
            self.book.fault(format!("the audit log of the backup is not the one of the folder: {verified}"));
        }
        Ok(())
    }

    /// Ahead by so much, or to shortly before the next end of somebody's time.
    fn leap(&mut self, seconds: u64) -> Outcome<()> {
        let now = self.now();
        let (soonest, skips) = (now + 30, self.rng.random_range(0..3) == 0);
        let ends = self.buyers.iter().filter_map(|buyer| buyer.until);
        let next = ends.filter(|until| (soonest..now + seconds).contains(until)).min();
        let to = next.filter(|_| !skips).map_or(now + seconds, |until| until - BEFORE_AN_END);
        self.clock.leap(u32::try_from(to - now)?)?;
        Ok(())
    }

    fn tell(&self, round: usize, real: Duration, sim: u64) {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let used = samples.last().copied();
        let used = used.map_or_else(String::new, |used| used.to_string());
        let (hours, minutes) = (sim / 3600, sim / 60 % 60);
        let published: usize = self.book.next().iter().sum();
        println!(
            "round {round:>3}, {:>4} s, simulated {hours:02}:{minutes:02}: life {}, {used}; {published} published",
            real.as_secs(),
            self.findings.lives.len() + 1,
        );
    }

    async fn finish(mut self) -> Outcome<(Findings, Arc<Book>)> {
        self.all_have_read().await;
        for (round, connection) in std::mem::take(&mut self.slow) {
            if round + 6 < self.findings.rounds && was_dropped(connection).await {
                self.findings.dropped += 1;
            }
        }
        let settled = self.book.next();
        self.scene.ending.store(true, Ordering::SeqCst);
        tokio::task::block_in_place(|| self.daemon.terminate())?;
        self.watching.abort();
        let life = std::mem::take(&mut *self.samples.lock().unwrap_or_else(PoisonError::into_inner));
        self.findings.lives.push(life);
        for follower in self.followers.drain(..) {
            tokio::time::timeout(PATIENCE, follower).await??;
        }
        APPLICATIONS.iter().for_each(|name| self.book.over(name, settled.clone()));
        self.look_at_the_folder(Ending::Terminated { backup: false })?;
        for native in
            [self.subscriber, self.stranger].into_iter().chain(self.buyers.into_iter().map(|buyer| buyer.native))
        {
            native.stop().await;
        }
        Ok((self.findings, self.book))
    }
}

fn scene(daemon: &Daemon, clock: &Arc<LeapingClock>, keys: &ApiKeys, streams: &Streams, book: &Arc<Book>) -> Scene {
    Scene {
        web: Web::new(&daemon.gateway),
        mqtt: daemon.mqtt.clone(),
        clock: clock.clone(),
        keys: keys.clone(),
        streams: streams.clone(),
        book: book.clone(),
        ending: Arc::new(AtomicBool::new(false)),
        acknowledged: Arc::new(AtomicUsize::new(0)),
    }
}

/// Looks at a process once a second.
fn watch(process: u32, heap: PathBuf, samples: &Arc<Mutex<Life>>) -> JoinHandle<()> {
    let samples = samples.clone();
    tokio::spawn(async move {
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        loop {
            seconds.tick().await;
            // Just ended: the run knows.
            if let Ok(used) = Use::of(process, &heap) {
                samples.lock().unwrap_or_else(PoisonError::into_inner).push(used);
            }
        }
    })
}

/// Whether a life ends with this round, and how. The last three quarters of the run are one life: caches fill in its first.
fn ending(round: usize, rounds: usize) -> Option<Ending> {
    let at = |sixteenths: usize| round == (rounds * sixteenths / 16).max(1);
    if rounds < 16 {
        return at(6).then_some(Ending::Terminated { backup: true }).or(at(12).then_some(Ending::Killed));
    }
    match round {
        _ if at(1) => Some(Ending::Terminated { backup: false }),
        _ if at(2) => Some(Ending::Killed),
        _ if at(3) => Some(Ending::Terminated { backup: true }),
        _ if at(4) => Some(Ending::Killed),
        _ => None,
    }
}

fn config(streams: &Streams) -> String {
    let stored: Vec<String> = (0..NOISE).map(|stream| format!("{:?}", streams.id(stream).as_str())).collect();
    let rhythm = |stream: usize, rotate: &str, rekey: &str, history: &str| {
        let id = streams.id(stream).as_str();
        format!("[[streams]]\nid = {id:?}\nrotate_every = {rotate:?}\nrekey_every = {rekey:?}\nhistory = {history:?}\n")
    };
    [
        rhythm(0, "200,30m", "2h", "all"),
        rhythm(1, "50", "6h", "since-grant-start"),
        rhythm(METERS, "100,1h", "4h", "all"),
        format!("[storage]\nstreams = [{}]\nmax_age = \"12h\"\nmax_size = \"{STORED}\"\n", stored.join(", ")),
        "[gateway]\nwrite_timeout = \"2s\"\n".into(),
    ]
    .join("\n")
}
