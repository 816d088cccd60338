//! A real Chromium without a window, driven over its DevTools protocol (<https://chromedevtools.github.io/devtools-protocol/>).
#![allow(dead_code, reason = "each test file uses some of it")]

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::{Message, WebSocket, client};

use super::common::Daemon;

/// Longer than anything here takes, also on a busy machine.
const LONG: Duration = Duration::from_secs(180);
/// Between two looks at something that is waited for.
const PAUSE: Duration = Duration::from_millis(50);
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// A browser with one page open, ended with the test.
pub struct Browser {
    socket: WebSocket<TcpStream>,
    asked: u64,
    events: Vec<Value>,
    child: Child,
    _profile: TempDir,
}

impl Browser {
    pub fn start() -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut command = Command::new(program());
        command.args([
            "--headless=new",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--hide-scrollbars",
        ]);
        // It opens pages of this test's own node alone; its sandbox needs more than root in a container has.
        command.args([
            "--no-sandbox",
            "--disable-extensions",
            "--disable-background-networking",
            "--no-proxy-server",
            "--lang=en-US",
        ]);
        command.args(["--remote-debugging-port=0", "--force-color-profile=srgb"]);
        command.arg(format!("--user-data-dir={}", profile.path().display())).arg("about:blank");
        command.env("HOME", profile.path()).env("TZ", "UTC");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let authority = authority(&mut child);
        let page = page(&authority);
        let stream = TcpStream::connect(&authority).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        let (socket, _) = client(page, stream).unwrap();
        let mut browser = Self { socket, asked: 0, events: Vec::new(), child, _profile: profile };
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        browser
    }

    /// What a method answers. Events that come before are kept.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.asked += 1;
        let id = self.asked;
        let asked = json!({ "id": id, "method": method, "params": params }).to_string();
        self.socket.send(Message::text(asked)).unwrap();
        loop {
            let heard = self.socket.read().unwrap_or_else(|error| panic!("{method}: {error}"));
            let Ok(text) = heard.to_text() else { continue };
            let Ok(said) = serde_json::from_str::<Value>(text) else { continue };
            if said["id"] == id {
                assert!(said["error"].is_null(), "{method}: {said}");
                return said["result"].clone();
            }
            self.events.push(said);
        }
    }

    pub fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url }));
        self.until("document.readyState === 'complete'");
    }

    /// The value of an expression on the page, waited for.
    pub fn value(&mut self, expression: &str) -> Value {
        let params = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", params);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    pub fn text(&mut self, selector: &str) -> String {
        let expression = format!("document.querySelector({})?.textContent ?? ''", json!(selector));
        self.value(&expression).as_str().unwrap().to_owned()
    }

    /// Returns once this is true on the page.
    pub fn until(&mut self, expression: &str) {
        let begun = Instant::now();
        while self.value(expression) != true {
            assert!(begun.elapsed() < LONG, "never: {expression}\n{}\n{:#?}", self.text("body"), self.faults());
            std::thread::sleep(PAUSE);
        }
    }

    /// Presses and lets go of a key, as on a keyboard.
    pub fn press(&mut self, key: &str) {
        let (code, text) = match key {
            "Enter" => (13, "\r"),
            "Tab" => (9, ""),
            "Escape" => (27, ""),
            "Space" => (32, " "),
            other => panic!("no such key here: {other}"),
        };
        let name = if key == "Space" { " " } else { key };
        let mut down = json!({ "type": "keyDown", "key": name, "code": key, "windowsVirtualKeyCode": code });
        if !text.is_empty() {
            down["text"] = text.into();
        }
        self.call("Input.dispatchKeyEvent", down);
        self.call(
            "Input.dispatchKeyEvent",
            json!({ "type": "keyUp", "key": name, "code": key, "windowsVirtualKeyCode": code }),
        );
    }

    pub fn type_in(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// Goes on with the tabulator until focus is there; wherever it is on the way, it is seen.
    pub fn tab_to(&mut self, id: &str) {
        for _ in 0..200 {
            self.press("Tab");
            let seen = "(() => { const at = document.activeElement, style = getComputedStyle(at.matches('.spans input') ? at.nextElementSibling : at); \
                return at === document.body || (style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2); })()";
            assert_eq!(
                self.value(seen),
                true,
                "focus is not seen at {}",
                self.value("document.activeElement.outerHTML")
            );
            if self.value("document.activeElement.id") == id {
                return;
            }
        }
        panic!("no way to {id} by keyboard: {}", self.text("body"));
    }

    /// The size of the window, in CSS pixels.
    pub fn size(&mut self, width: u32, height: u32, scale: u32) {
        let params = json!({ "width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 500 });
        self.call("Emulation.setDeviceMetricsOverride", params);
    }

    /// What the page finds if it asks for a preference.
    pub fn prefers(&mut self, scheme: &str, motion: &str) {
        let feature = |name: &str, value: &str| json!({ "name": name, "value": value });
        let features = [feature("prefers-color-scheme", scheme), feature("prefers-reduced-motion", motion)];
        self.call("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// Keeps a picture of what the window shows, and tells where.
    pub fn picture(&mut self, name: &str) -> PathBuf {
        let data = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../dashboard");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{name}.png"));
        std::fs::write(&path, base64(data["data"].as_str().unwrap())).unwrap();
        path
    }

    /// What went wrong on pages so far: exceptions, what scripts complained of, and what the browser did, answers that are a no
    /// among it.
    pub fn faults(&self) -> Vec<&Value> {
        let is_fault = |event: &&Value| match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => {
                matches!(event["params"]["type"].as_str(), Some("error" | "warning" | "assert"))
            }
            Some("Log.entryAdded") => matches!(event["params"]["entry"]["level"].as_str(), Some("error" | "warning")),
            _ => false,
        };
        self.events.iter().filter(is_fault).collect()
    }

    /// Whatever was asked for, of whomever.
    pub fn requests(&self) -> Vec<String> {
        let sent = self.events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        sent.filter_map(|event| event["params"]["request"]["url"].as_str().map(str::to_owned)).collect()
    }
}

/// Logs in by keyboard.
pub fn log_in(page: &mut Browser, daemon: &Daemon, key: &str) {
    page.open(&format!("{}/dashboard", daemon.url));
    page.until("document.activeElement?.id === 'login-key'");
    page.type_in(key);
    page.press("Enter");
    page.until("!document.getElementById('board').hidden");
}

/// Nothing went wrong, but for so many answers that were meant to be a no; and nobody else was asked for anything.
pub fn went_well(page: &Browser, daemon: &Daemon, noes: usize) {
    let (no, other): (Vec<_>, Vec<_>) =
        page.faults().into_iter().partition(|fault| fault["params"]["entry"]["source"] == "network");
    assert!(other.is_empty() && no.len() == noes, "{:#?}", page.faults());
    for url in page.requests() {
        let ours = [format!("{}/", daemon.url), "about:".into()];
        assert!(ours.iter().any(|ours| url.starts_with(ours)), "{url}");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let close = json!({ "id": 0, "method": "Browser.close" }).to_string();
        let _ = self.socket.send(Message::text(close));
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(10) {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(PAUSE);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn program() -> PathBuf {
    if let Some(named) = std::env::var_os("CHROMIUM") {
        return named.into();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = NAMES.iter().flat_map(|name| std::env::split_paths(&path).map(move |folder| folder.join(name)));
    let found = found.into_iter().find(|file| file.is_file());
    found.expect("Chromium is missing: run ./scripts/browser, or name it in the variable CHROMIUM")
}

/// Where its DevTools are, which it tells on stderr.
fn authority(child: &mut Child) -> String {
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut said = Vec::new();
    while let Some(Ok(line)) = lines.next() {
        if let Some((_, rest)) = line.split_once("ws://") {
            let authority = rest.split('/').next().unwrap().to_owned();
            // It goes on talking, and must not have to wait.
            std::thread::spawn(move || lines.for_each(drop));
            return authority;
        }
        said.push(line);
    }
    panic!("Chromium does not start: {said:#?}");
}

/// The WebSocket of its page.
fn page(authority: &str) -> String {
    let begun = Instant::now();
    loop {
        let pages = super::common::curl(&[&format!("http://{authority}/json")]);
        let pages: Vec<Value> = serde_json::from_str(&pages.body).unwrap_or_default();
        let page = pages.iter().find(|page| page["type"] == "page");
        if let Some(socket) = page.and_then(|page| page["webSocketDebuggerUrl"].as_str()) {
            return socket.to_owned();
        }
        assert!(begun.elapsed() < LONG, "Chromium has no page");
        std::thread::sleep(PAUSE);
    }
}

fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut bytes, mut held, mut bits) = (Vec::new(), 0u32, 0);
    for digit in text.bytes().filter_map(|byte| DIGITS.iter().position(|digit| *digit == byte)) {
        held = (held << 6) | u32::try_from(digit).unwrap();
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((held >> bits) & 0xff).unwrap());
        }
    }
    bytes
}
