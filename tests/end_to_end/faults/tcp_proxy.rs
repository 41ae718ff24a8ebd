//! A TCP proxy between the bridge and an XMPP server that does what networks do to a connection.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use crate::end_to_end::ground::Port;

/// Connections at once; further ones wait.
const CONNECTIONS: usize = 64;

/// How bytes pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As they come.
    Open,
    /// Not at all: nothing is read, nothing is closed.
    Frozen,
    /// One byte a second each way.
    Slow,
}

/// What holds for connections now. Connections are numbered as they come.
#[derive(Debug, Clone, Copy)]
struct Line {
    pace: Pace,
    /// Connections up to this number are cut.
    cut: u64,
    /// Connections up to this number carry nothing any more, and nobody is told.
    dead: u64,
    /// Connections up to this number get bytes toward the client that no server sent.
    garbage: u64,
    /// The number of the newest connection.
    newest: u64,
}

/// A running proxy.
#[derive(Debug)]
pub struct TcpProxy {
    port: Port,
    line: watch::Sender<Line>,
}

impl TcpProxy {
    /// Starts one in front of a port of 127.0.0.1.
    pub fn start(server: u16) -> Self {
        let port = Port::reserve();
        let line = watch::Sender::new(Line { pace: Pace::Open, cut: 0, dead: 0, garbage: 0, newest: 0 });
        let listener = std::net::TcpListener::bind(("127.0.0.1", port.number())).expect("listen");
        listener.set_nonblocking(true).expect("a listener for tokio");
        let told = line.clone();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(accept(listener, server, told));
        });
        Self { port, line }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Sets how bytes pass from now on.
    pub fn pace(&self, pace: Pace) {
        self.line.send_modify(|line| line.pace = pace);
    }

    /// Cuts every connection without a word.
    pub fn cut(&self) {
        self.line.send_modify(|line| line.cut = line.newest);
    }

    /// Every connection that stands now carries nothing any more and is never closed: a path that is gone. New ones are
    /// as they should be.
    pub fn let_die(&self) {
        self.line.send_modify(|line| line.dead = line.newest);
    }

    /// Puts bytes into every connection, toward the client.
    pub fn garble(&self) {
        self.line.send_modify(|line| line.garbage = line.newest);
    }
}

async fn accept(listener: std::net::TcpListener, server: u16, line: watch::Sender<Line>) {
    let listener = TcpListener::from_std(listener).expect("a listener");
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("never closed");
        let Ok((client, _)) = listener.accept().await else { continue };
        let mut number = 0;
        line.send_modify(|line| {
            line.newest += 1;
            number = line.newest;
        });
        let line = line.subscribe();
        tokio::spawn(async move {
            if let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await {
                connection(client, server, number, line).await;
            }
            drop(place);
        });
    }
}

async fn connection(client: TcpStream, server: TcpStream, number: u64, line: watch::Receiver<Line>) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut cut = line.clone();
    tokio::select! {
        () = carry(from_client, to_server, number, line.clone(), false) => {}
        () = carry(from_server, to_client, number, line, true) => {}
        _ = cut.wait_for(|line| line.cut >= number) => {}
    }
}

/// Carries one direction until either side ends it.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    number: u64,
    mut line: watch::Receiver<Line>,
    toward_client: bool,
) {
    let mut chunk = vec![0; 16 * 1024];
    let mut garbled = false;
    loop {
        let now = *line.borrow_and_update();
        if now.dead >= number {
            std::future::pending::<()>().await;
        }
        if toward_client && now.garbage >= number && !garbled {
            garbled = true;
            if to.write_all(b"\x17\x03\x03\x00\x20garbage that no key has sealed...").await.is_err() {
                return;
            }
        }
        let most = match now.pace {
            Pace::Open => chunk.len(),
            Pace::Slow => 1,
            Pace::Frozen => {
                if line.changed().await.is_err() {
                    return;
                }
                continue;
            }
        };
        tokio::select! {
            biased;
            changed = line.changed() => if changed.is_err() { return },
            read = from.read(&mut chunk[..most]) => {
                let Ok(count @ 1..) = read else { return };
                if to.write_all(&chunk[..count]).await.is_err() {
                    return;
                }
                if now.pace == Pace::Slow {
                    // The pace itself, not a wait for something; a change of it ends the second.
                    let _ = tokio::time::timeout(Duration::from_secs(1), line.changed()).await;
                    line.mark_changed();
                }
            }
        }
    }
}
