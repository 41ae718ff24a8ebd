//! An HTTP proxy that stands between the bridge and its homeserver, one for each direction, and does what proxies and
//! overloaded servers do: refuses, answers with a page, hangs, loses answers, repeats.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::end_to_end::ground::Port;
use crate::simulation::Random;

/// Connections at once; further ones wait.
const CONNECTIONS: usize = 256;
/// The longest head, and the longest body, that is passed on.
const HEAD: usize = 64 * 1024;
const BODY: usize = 64 * 1024 * 1024;
/// Transactions that are kept, to be repeated.
const KEPT: usize = 20;

/// What becomes of a request that trouble hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// 429 with `retry_after_ms`.
    TooMany,
    /// 500 with an error of Matrix.
    Internal,
    /// 502 with a page.
    BadGateway,
    /// 200 with a page.
    Page,
    /// Nothing is answered, and the server hears nothing, until the trouble is over; then the connection is closed.
    Silence,
    /// The server hears it and answers, but the answer is lost with the connection.
    LostAnswer,
    /// The server hears it twice.
    Twice,
    /// A transaction passes without its ephemeral events.
    NoEphemeral,
}

/// Which requests trouble may hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hits {
    /// All.
    Everything,
    /// A homeserver's transactions.
    Transactions,
}

/// A running proxy.
#[derive(Debug)]
pub struct HttpProxy {
    port: Port,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    server: u16,
    hits: Hits,
    trouble: watch::Sender<Option<Trouble>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    chance: Random,
    /// How many requests trouble has hit.
    hit: u64,
    /// The last transactions that were answered with success, as they stood.
    transactions: VecDeque<Vec<u8>>,
    /// One line for each request, for reading after a failure.
    log: File,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HttpProxy {
    /// Starts one in front of a port of 127.0.0.1 that writes what passes to `log`. Which requests are hit follows from
    /// `seed`, three of four.
    pub fn start(server: u16, hits: Hits, seed: u64, log: &Path) -> Self {
        let port = Port::reserve();
        let log = File::create(log).expect("create a proxy's log");
        let state = Mutex::new(State { chance: Random::new(seed), hit: 0, transactions: VecDeque::new(), log });
        let shared = Arc::new(Shared { server, hits, trouble: watch::Sender::new(None), state });
        let listener = std::net::TcpListener::bind(("127.0.0.1", port.number())).expect("listen");
        listener.set_nonblocking(true).expect("a listener for tokio");
        let told = Arc::clone(&shared);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(accept(listener, told));
        });
        Self { port, shared }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// From now on there is this trouble, or none.
    pub fn trouble(&self, trouble: Option<Trouble>) {
        self.shared.trouble.send_replace(trouble);
    }

    /// How many requests trouble has hit so far.
    pub fn hit(&self) -> u64 {
        self.shared.lock().hit
    }

    /// Sends the last transactions again, in another order than they came; says how many and how each was answered.
    pub fn repeat_out_of_order(&self) -> Vec<u16> {
        let mut transactions: Vec<Vec<u8>> = {
            let mut state = self.shared.lock();
            let mut all: Vec<Vec<u8>> = state.transactions.iter().cloned().collect();
            state.chance.shuffle(&mut all);
            all
        };
        let server = self.shared.server;
        transactions.drain(..).map(|request| again(server, &request).unwrap_or(0)).collect()
    }
}

/// Sends a request to a port and gives the status of the answer.
fn again(server: u16, request: &[u8]) -> io::Result<u16> {
    use std::io::Read as _;
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", server))?;
    stream.set_read_timeout(Some(crate::end_to_end::ground::deadline()))?;
    stream.write_all(request)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(status(&answer))
}

async fn accept(listener: std::net::TcpListener, shared: Arc<Shared>) {
    let listener = TcpListener::from_std(listener).expect("a listener");
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("never closed");
        let Ok((client, _)) = listener.accept().await else { continue };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            // A connection that breaks is what both sides have to live with.
            let _ = serve(client, &shared).await;
            drop(place);
        });
    }
}

/// One request and its answer; the connection ends with it.
async fn serve(mut client: TcpStream, shared: &Shared) -> io::Result<()> {
    let Some(request) = Request::read(&mut client).await? else { return Ok(()) };
    let trouble = *shared.trouble.borrow();
    let trouble = trouble.filter(|_| {
        let may = shared.hits == Hits::Everything || request.is_transaction();
        let mut state = shared.lock();
        let hit = may && state.chance.chance(75);
        state.hit += u64::from(hit);
        hit
    });
    note(shared, &request, &trouble.map_or_else(String::new, |trouble| format!("{trouble:?}")));
    let page = "<html><body><h1>Something is wrong here</h1></body></html>";
    let answer = match trouble {
        Some(Trouble::TooMany) => json_answer(
            "429 Too Many Requests",
            r#"{"errcode":"M_LIMIT_EXCEEDED","error":"Too Many Requests","retry_after_ms":700}"#,
        ),
        Some(Trouble::Internal) => {
            json_answer("500 Internal Server Error", r#"{"errcode":"M_UNKNOWN","error":"Internal server error"}"#)
        }
        Some(Trouble::BadGateway) => answer("502 Bad Gateway", "text/html", page),
        Some(Trouble::Page) => answer("200 OK", "text/html", page),
        Some(Trouble::Silence) => {
            let mut trouble = shared.trouble.subscribe();
            let _ = trouble.wait_for(|now| *now != Some(Trouble::Silence)).await;
            return Ok(());
        }
        Some(Trouble::LostAnswer) => {
            pass(shared, &request, &request.bytes()).await?;
            return Ok(());
        }
        Some(Trouble::Twice) => {
            let bytes = request.bytes();
            let answer = pass(shared, &request, &bytes).await?;
            pass(shared, &request, &bytes).await?;
            answer
        }
        Some(Trouble::NoEphemeral) => pass(shared, &request, &request.without_ephemeral()).await?,
        None => pass(shared, &request, &request.bytes()).await?,
    };
    client.write_all(&answer).await?;
    client.shutdown().await
}

/// Has the server answer.
async fn pass(shared: &Shared, request: &Request, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut server = TcpStream::connect(("127.0.0.1", shared.server)).await?;
    server.write_all(bytes).await?;
    let mut answer = Vec::new();
    server.read_to_end(&mut answer).await?;
    note(shared, request, &status(&answer).to_string());
    if request.is_transaction() && status(&answer) == 200 {
        let mut state = shared.lock();
        if state.transactions.len() == KEPT {
            state.transactions.pop_front();
        }
        state.transactions.push_back(bytes.to_vec());
    }
    Ok(answer)
}

/// Writes what became of a request.
fn note(shared: &Shared, request: &Request, what: &str) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let line = request.head.split(" HTTP/").next().unwrap_or_default();
    let texts = if request.is_transaction() { request.texts() } else { Vec::new() };
    // A log that cannot be written is no reason to fail.
    let _ = writeln!(shared.lock().log, "{now:.3} {line} {what} {texts:?}");
}

fn status(answer: &[u8]) -> u16 {
    let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    line.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
}

fn json_answer(status: &str, body: &str) -> Vec<u8> {
    answer(status, "application/json", body)
}

fn answer(status: &str, kind: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
        .into_bytes()
}

/// A request, whose connection will be closed after the answer.
struct Request {
    /// The request line and the fields, without those that [`Request::bytes`] writes anew.
    head: String,
    body: Vec<u8>,
}

impl Request {
    /// `None` if the client says nothing.
    async fn read(client: &mut TcpStream) -> io::Result<Option<Self>> {
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            if bytes.len() > HEAD {
                return Err(invalid("the head is too long"));
            }
            if client.read_buf(&mut bytes).await? == 0 {
                return if bytes.is_empty() { Ok(None) } else { Err(invalid("it broke off")) };
            }
        };
        let mut body = bytes.split_off(end + 4);
        let text = String::from_utf8(bytes).map_err(|_| invalid("the head is no text"))?;
        let mut length = 0;
        let mut head = String::new();
        for line in text.trim_end().split("\r\n") {
            let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
            match name.as_str() {
                "content-length" => {
                    let value = line.split(':').nth(1).unwrap_or_default().trim();
                    length = value.parse().map_err(|_| invalid("no length"))?;
                }
                "connection" => {}
                "transfer-encoding" => return Err(invalid("the clients of these tests send no chunks")),
                _ => {
                    head.push_str(line);
                    head.push_str("\r\n");
                }
            }
        }
        if length > BODY {
            return Err(invalid("the body is too long"));
        }
        while body.len() < length {
            if client.read_buf(&mut body).await? == 0 {
                return Err(invalid("it broke off"));
            }
        }
        Ok(Some(Self { head, body }))
    }

    fn is_transaction(&self) -> bool {
        self.head.starts_with("PUT /_matrix/app/v1/transactions/")
    }

    /// The texts of a transaction's messages.
    fn texts(&self) -> Vec<String> {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let events = body["events"].as_array().map(Vec::as_slice).unwrap_or_default();
        events.iter().filter_map(|event| event["content"]["body"].as_str().map(str::to_owned)).collect()
    }

    fn bytes(&self) -> Vec<u8> {
        self.with(&self.body)
    }

    fn with(&self, body: &[u8]) -> Vec<u8> {
        let mut bytes = self.head.clone().into_bytes();
        bytes.extend(format!("Content-Length: {}\r\nConnection: close\r\n\r\n", body.len()).into_bytes());
        bytes.extend(body);
        bytes
    }

    fn without_ephemeral(&self) -> Vec<u8> {
        let mut body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        if let Some(parts) = body.as_object_mut() {
            parts.retain(|key, _| !key.contains("ephemeral"));
        }
        self.with(body.to_string().as_bytes())
    }
}
