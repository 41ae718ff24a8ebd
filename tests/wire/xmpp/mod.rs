//! The XMPP shell against a scripted server: each test plays the server's part line by line.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod bombs;
mod live;
mod oauth;
mod refusals;
mod sign_in;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use messenger_bridge::{
    domain::{
        BareJid, StreamId,
        credentials::{Credentials, Secret},
        stream::{ConnectOrder, Resume, StreamEnd, StreamReport, StreamUp},
    },
    xmpp::{
        Endpoint, NetworkSettings, StreamHandle, Timeouts, Xmpp,
        tls::{TlsMode, TlsSettings},
    },
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::timeout,
};
use tokio_rustls::{
    TlsAcceptor, rustls,
    rustls::pki_types::{CertificateDer, PrivateKeyDer},
    server::TlsStream,
};

/// The domain of every scripted server.
const DOMAIN: &str = "capulet.lit";
const PATIENCE: Duration = Duration::from_mins(1);
/// What a server offers to a client that has signed in.
const BIND: &str = "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>";
const SM: &str = "<sm xmlns='urn:xmpp:sm:3'/>";
const SUCCESS: &str = "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";

/// An authority that is trusted through a `ca_file`.
struct Ca {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: tempfile::TempDir,
}

impl Ca {
    fn new() -> Self {
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let name = format!("the prince {}", MADE.fetch_add(1, Ordering::Relaxed));
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { issuer, folder }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    fn acceptor(&self, names: &[&str]) -> TlsAcceptor {
        self.acceptor_of(&CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap())
    }

    fn acceptor_of(&self, params: &CertificateParams) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        acceptor(certificate.der().clone(), &key)
    }
}

fn acceptor(certificate: CertificateDer<'static>, key: &KeyPair) -> TlsAcceptor {
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}

/// A listening server.
struct Server {
    ca: Ca,
    listener: TcpListener,
    acceptor: TlsAcceptor,
}

impl Server {
    async fn new() -> Self {
        let ca = Ca::new();
        let acceptor = ca.acceptor(&[DOMAIN]);
        Self { ca, listener: TcpListener::bind("127.0.0.1:0").await.unwrap(), acceptor }
    }

    fn address(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    fn settings(&self) -> NetworkSettings {
        let tls = TlsSettings { mode: TlsMode::Auto, ca_file: Some(self.ca.file()), accept_name: None };
        NetworkSettings {
            domain: Some(DOMAIN.to_owned()),
            endpoint: Endpoint { address: Some(self.address()), tls },
            timeouts: Timeouts { step: Duration::from_secs(5), ..Timeouts::default() },
            ..NetworkSettings::default()
        }
    }

    async fn accept(&self) -> Peer<TcpStream> {
        let (io, _) = timeout(PATIENCE, self.listener.accept()).await.expect("nobody connects").unwrap();
        Peer { io, read: String::new() }
    }

    /// Accepts, and goes through STARTTLS.
    async fn accept_tls(&self) -> Peer<TlsStream<TcpStream>> {
        let mut peer = self.accept().await;
        peer.open("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>").await;
        peer.until("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
        peer.send("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
        peer.secure(&self.acceptor).await.expect("the handshake")
    }

    /// Accepts, and lets the client in by PLAIN; the features after that are still to be sent.
    async fn accept_signed_in(&self) -> Peer<TlsStream<TcpStream>> {
        let mut peer = self.accept_tls().await;
        peer.open(&mechanisms(&["PLAIN"])).await;
        peer.until("</auth>").await;
        peer.send(SUCCESS).await;
        peer
    }

    /// Accepts, lets the client in and binds; with `managed` stream management is on.
    async fn accept_bound(&self, managed: bool) -> Peer<TlsStream<TcpStream>> {
        let mut peer = self.accept_signed_in().await;
        peer.open(&format!("{BIND}{}", if managed { SM } else { "" })).await;
        peer.bind().await;
        if managed {
            peer.until("<enable xmlns='urn:xmpp:sm:3' resume='true'/>").await;
            peer.send("<enabled xmlns='urn:xmpp:sm:3' id='s1' resume='true'/>").await;
        }
        peer
    }
}

fn mechanisms(names: &[&str]) -> String {
    let names: String = names.iter().fold(String::new(), |all, name| all + &format!("<mechanism>{name}</mechanism>"));
    format!("<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{names}</mechanisms>")
}

fn see_other_host(place: &str) -> String {
    format!(
        "<stream:error><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>{place}</see-other-host></stream:error>"
    )
}

/// The server's side of one connection.
struct Peer<IO> {
    io: IO,
    read: String,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Peer<IO> {
    /// Reads up to and with `needle`, and gives all of it.
    async fn until(&mut self, needle: &str) -> String {
        loop {
            if let Some(at) = self.read.find(needle) {
                let rest = self.read.split_off(at + needle.len());
                return std::mem::replace(&mut self.read, rest);
            }
            let mut buffer = [0; 4096];
            let read = timeout(PATIENCE, self.io.read(&mut buffer)).await;
            let n = read.unwrap_or_else(|_| panic!("no {needle} in time, but {}", self.read)).unwrap_or(0);
            assert!(n > 0, "closed before {needle}, after {}", self.read);
            self.read.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
        }
    }

    /// Reads to the end, and gives what is left.
    async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        // A connection that is reset ends too.
        let _ = timeout(PATIENCE, self.io.read_to_end(&mut rest)).await.expect("it stays open");
        std::mem::take(&mut self.read) + std::str::from_utf8(&rest).unwrap()
    }

    async fn send(&mut self, text: &str) {
        self.io.write_all(text.as_bytes()).await.unwrap();
        self.io.flush().await.unwrap();
    }

    /// Takes the client's header and answers with a header and these features; gives the client's header.
    async fn open(&mut self, features: &str) -> String {
        self.open_with(&format!("<stream:features>{features}</stream:features>")).await
    }

    async fn open_with(&mut self, first: &str) -> String {
        self.until("<stream:stream").await;
        let header = self.until(">").await;
        assert!(header.contains(&format!("to='{DOMAIN}'")), "{header}");
        self.send(&format!(
            "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' \
             from='{DOMAIN}' id='i' version='1.0'>{first}"
        ))
        .await;
        header
    }

    async fn bind(&mut self) {
        self.until("<resource>bridge</resource></bind></iq>").await;
        self.send(
            "<iq type='result' id='bind' from='capulet.lit'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
             <jid>juliet@capulet.lit/given</jid></bind></iq>",
        )
        .await;
    }
}

impl Peer<TcpStream> {
    async fn secure(self, acceptor: &TlsAcceptor) -> std::io::Result<Peer<TlsStream<TcpStream>>> {
        Ok(Peer { io: acceptor.accept(self.io).await?, read: String::new() })
    }
}

/// The shell's side.
struct Client {
    xmpp: Xmpp,
    handle: StreamHandle,
    reports: mpsc::Receiver<(StreamId, StreamReport)>,
}

fn password() -> Credentials {
    Credentials::Password(Secret::new("R0m30 "))
}

fn order(credentials: Credentials) -> ConnectOrder {
    ConnectOrder {
        network: "net".to_owned(),
        account: Some(BareJid::parse("juliet@capulet.lit").unwrap()),
        domain: DOMAIN.to_owned(),
        resource: "bridge".to_owned(),
        credentials,
        scram_only: false,
        resume: None,
        delay: 0,
    }
}

fn resuming() -> ConnectOrder {
    ConnectOrder { resume: Some(Resume { id: "s0".to_owned(), location: None, inbound: 7 }), ..order(password()) }
}

impl Client {
    fn start(settings: NetworkSettings, order: ConnectOrder) -> Self {
        Self::with_mailbox(settings, order, 100)
    }

    fn with_mailbox(settings: NetworkSettings, order: ConnectOrder, size: usize) -> Self {
        let xmpp = Xmpp::new(HashMap::from([("net".to_owned(), settings)]));
        let (sender, reports) = mpsc::channel(size);
        let handle = xmpp.spawn(StreamId(5), order, sender);
        Self { xmpp, handle, reports }
    }

    async fn report(&mut self) -> StreamReport {
        let report = timeout(PATIENCE, self.reports.recv()).await.expect("no report in time");
        report.expect("reports are over").1
    }

    async fn up(&mut self) -> StreamUp {
        match self.report().await {
            StreamReport::Up(up) => *up,
            other => panic!("not up: {other:?}"),
        }
    }

    async fn stanza(&mut self) -> minidom::Element {
        match self.report().await {
            StreamReport::Stanza(stanza) => *stanza,
            other => panic!("no stanza: {other:?}"),
        }
    }

    async fn down(&mut self) -> StreamEnd {
        match self.report().await {
            StreamReport::Down(end) => {
                assert!(timeout(PATIENCE, self.reports.recv()).await.unwrap().is_none(), "nothing follows");
                end
            }
            other => panic!("not down: {other:?}"),
        }
    }
}

fn element(text: &str) -> minidom::Element {
    text.replacen(' ', " xmlns='jabber:client' ", 1).parse().unwrap()
}
