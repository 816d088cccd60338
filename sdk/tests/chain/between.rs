//! An endpoint that stands between a registry and a node, and lies, hangs or breaks.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use crate::anvil::Chain;

/// What comes back for a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// What the node says.
    Truth,
    /// This instead of the node's result.
    Result(Value),
    /// This error.
    Error(Value),
    /// This body.
    Body(String),
    /// This status line, and headers.
    Status(&'static str),
    /// The node gets the request, and nobody its answer.
    Unsaid,
    /// Nothing, ever.
    Silence,
    /// The connection ends.
    Hangup,
}

type Answer = dyn Fn(&str, &Value) -> Reply + Send + Sync;

/// Counts what it is asked. Lives as long as the test's runtime.
pub struct Between {
    pub url: String,
    asked: Arc<AtomicUsize>,
    answer: Arc<Mutex<Arc<Answer>>>,
}

impl Between {
    /// In front of `chain`, answering as `answer` says for each method and its parameters.
    pub async fn start(chain: &Chain, answer: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (asked, node) = (Arc::new(AtomicUsize::new(0)), chain.url.trim_start_matches("http://").to_string());
        let answer: Arc<Mutex<Arc<Answer>>> = Arc::new(Mutex::new(Arc::new(answer)));
        let (count, current) = (asked.clone(), answer.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, node.clone(), count.clone(), current.clone()));
            }
        });
        Self { url, asked, answer }
    }

    /// From now on it answers so.
    pub fn now(&self, answer: impl Fn(&str, &Value) -> Reply + Send + Sync + 'static) {
        *self.answer.lock().unwrap() = Arc::new(answer);
    }

    /// How many requests it got.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn serve(stream: TcpStream, node: String, asked: Arc<AtomicUsize>, answer: Arc<Mutex<Arc<Answer>>>) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read(&mut stream).await {
        asked.fetch_add(1, Ordering::SeqCst);
        let request: Value = serde_json::from_slice(&request).unwrap();
        let answer = answer.lock().unwrap().clone();
        let (status, body) = match answer(request["method"].as_str().unwrap(), &request["params"]) {
            Reply::Truth => ("200 OK", forward(&node, &request).await),
            Reply::Result(result) => {
                ("200 OK", json!({ "jsonrpc": "2.0", "id": request["id"], "result": result }).to_string())
            }
            Reply::Error(error) => {
                ("200 OK", json!({ "jsonrpc": "2.0", "id": request["id"], "error": error }).to_string())
            }
            Reply::Body(body) => ("200 OK", body),
            Reply::Status(status) => (status, String::new()),
            Reply::Silence => return std::future::pending().await,
            Reply::Unsaid => {
                forward(&node, &request).await;
                return;
            }
            Reply::Hangup => return,
        };
        if write(&mut stream, &format!("HTTP/1.1 {status}"), &body).await.is_none() {
            return;
        }
    }
}

async fn forward(node: &str, request: &Value) -> String {
    let mut stream = BufReader::new(TcpStream::connect(node).await.unwrap());
    let first = format!("POST / HTTP/1.1\r\nhost: {node}\r\ncontent-type: application/json");
    write(&mut stream, &first, &request.to_string()).await.unwrap();
    String::from_utf8(read(&mut stream).await.unwrap()).unwrap()
}

/// The body of the next request or answer; `None` when the other side is gone.
async fn read(stream: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut length = 0;
    let mut line = String::new();
    while stream.read_line(&mut line).await.ok()? > 0 {
        if line == "\r\n" {
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.ok()?;
            return Some(body);
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        line.clear();
    }
    None
}

async fn write(stream: &mut BufReader<TcpStream>, first: &str, body: &str) -> Option<()> {
    let text = format!("{first}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(text.as_bytes()).await.ok()
}
