//! An XMPP server that lets everybody in and does little more than what the bridge needs to go on line: TLS, PLAIN, bind, stream
//! management with resumption (XEP-0198), a roster, pings. It reads stanzas by counting tags, not by parsing them.

use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, mpsc},
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{self, pki_types::PrivateKeyDer},
};

use super::tally::{Tally, Way};

pub use super::fill::DOMAIN;

/// How it is asked to behave.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Contacts on each roster: `c0@xmpp.bench` and so on.
    pub contacts: u32,
    /// They are on line.
    pub present: bool,
}

/// What it knows.
pub struct Server {
    pub port: u16,
    /// Its authority, PEM.
    pub ca: String,
    plan: Mutex<Plan>,
    tally: Arc<Tally>,
    next: AtomicU64,
    /// Streams by the account's name.
    streams: Mutex<HashMap<String, mpsc::Sender<String>>>,
    /// Sessions that may be resumed, by their id: whose, and how many stanzas were read and written.
    sessions: Mutex<HashMap<String, Arc<Session>>>,
    /// Accounts that are on line: their initial presence has come, or their session was resumed.
    pub online: AtomicUsize,
    pub resumed: AtomicUsize,
    /// Presence stanzas that clients sent, beside the first of a stream: what contacts would see.
    pub seen: AtomicUsize,
    news: Notify,
}

#[derive(Default)]
struct Session {
    account: String,
    read: AtomicU64,
    written: AtomicU64,
    present: AtomicBool,
}

impl Server {
    pub async fn start(tally: Arc<Tally>, plan: Plan) -> Arc<Self> {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "bench");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
        let key = KeyPair::generate().expect("a key");
        let leaf = CertificateParams::new(vec![DOMAIN.to_owned()]).expect("a name");
        let certificate = leaf.signed_by(&key, &issuer).expect("a certificate");
        let mut config =
            rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_no_client_auth()
                .with_single_cert(
                    vec![certificate.der().clone()],
                    PrivateKeyDer::try_from(key.serialize_der()).expect("a key"),
                )
                .expect("a certificate");
        config.alpn_protocols = vec![b"xmpp-client".to_vec()];
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let server = Arc::new(Self {
            port: listener.local_addr().expect("its address").port(),
            ca: issuer.pem(),
            plan: Mutex::new(plan),
            tally,
            next: AtomicU64::new(1),
            streams: Mutex::default(),
            sessions: Mutex::default(),
            online: AtomicUsize::new(0),
            resumed: AtomicUsize::new(0),
            seen: AtomicUsize::new(0),
            news: Notify::new(),
        });
        let acceptor = TlsAcceptor::from(Arc::new(config));
        tokio::spawn({
            let server = Arc::clone(&server);
            async move {
                loop {
                    let Ok((tcp, _)) = listener.accept().await else { continue };
                    let (server, acceptor) = (Arc::clone(&server), acceptor.clone());
                    tokio::spawn(async move { server.serve(tcp, acceptor).await });
                }
            }
        });
        server
    }

    fn plan(&self) -> Plan {
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets who was on line, before the bridge starts again.
    pub fn recount(&self) {
        self.online.store(0, Ordering::Relaxed);
        self.resumed.store(0, Ordering::Relaxed);
        self.seen.store(0, Ordering::Relaxed);
    }

    pub async fn until_online(&self, count: usize) {
        loop {
            let news = self.news.notified();
            if self.online.load(Ordering::Relaxed) >= count {
                return;
            }
            let _ = tokio::time::timeout(std::time::Duration::from_millis(50), news).await;
        }
    }

    /// What writes to an account's stream.
    pub fn stream(&self, account: &str) -> Option<mpsc::Sender<String>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner).get(account).cloned()
    }

    /// A message of a contact.
    pub fn message(&self, account: &str, contact: u32, body: &str) -> String {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        format!(
            "<message from='c{contact}@{DOMAIN}/app' to='{account}@{DOMAIN}' type='chat' id='x{id}'><body>{body}</body></message>"
        )
    }

    async fn serve(&self, tcp: TcpStream, acceptor: TlsAcceptor) -> Option<()> {
        tcp.set_nodelay(true).ok()?;
        let tls = acceptor.accept(tcp).await.ok()?;
        let (mut read, mut write) = tokio::io::split(tls);
        let (to_client, mut lines) = mpsc::channel::<String>(1024);
        let mut session = Arc::new(Session::default());
        // Only the writer below counts what is written, so the session goes to it when there is one.
        let (counted, mut counts) = mpsc::channel::<Arc<Session>>(1);
        tokio::spawn(async move {
            let mut session: Option<Arc<Session>> = None;
            let mut batch = Vec::new();
            while lines.recv_many(&mut batch, 256).await > 0 {
                if let Ok(known) = counts.try_recv() {
                    session = Some(known);
                }
                let mut text = String::new();
                for line in batch.drain(..) {
                    if let Some(session) = &session
                        && (line.starts_with("<m") || line.starts_with("<i") || line.starts_with("<p"))
                    {
                        let written = session.written.fetch_add(1, Ordering::Relaxed) + 1;
                        text.push_str(&line);
                        if written.is_multiple_of(10) {
                            text.push_str("<r xmlns='urn:xmpp:sm:3'/>");
                        }
                    } else {
                        text.push_str(&line);
                    }
                }
                if write.write_all(text.as_bytes()).await.is_err() || write.flush().await.is_err() {
                    return;
                }
            }
        });
        let mut buffer = Vec::with_capacity(16 * 1024);
        let mut signed_in = false;
        loop {
            let mut at = 0;
            while let Some((start, end)) = next_element(&buffer[at..]) {
                let text = String::from_utf8_lossy(&buffer[at + start..at + end]).into_owned();
                at += end;
                self.on_element(&text, &mut session, &mut signed_in, &to_client, &counted).await?;
            }
            buffer.drain(..at);
            if read.read_buf(&mut buffer).await.ok()? == 0 {
                return None;
            }
        }
    }

    async fn on_element(
        &self,
        text: &str,
        session: &mut Arc<Session>,
        signed_in: &mut bool,
        to_client: &mpsc::Sender<String>,
        counted: &mpsc::Sender<Arc<Session>>,
    ) -> Option<()> {
        let say = |line: String| to_client.send(line);
        let name = text[1..].split([' ', '>', '/', '\n']).next().unwrap_or_default();
        match name {
            "?xml" => {}
            "stream:stream" => {
                let features = if *signed_in {
                    "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/><sm xmlns='urn:xmpp:sm:3'/><csi xmlns='urn:xmpp:csi:0'/>"
                } else {
                    "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms>"
                };
                say(format!(
                    "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' id='s{}' from='{DOMAIN}' version='1.0'><stream:features>{features}</stream:features>",
                    self.next.fetch_add(1, Ordering::Relaxed)
                ))
                .await
                .ok()?;
            }
            "auth" => {
                let sasl = text.split('>').nth(1)?.split('<').next()?;
                let plain = STANDARD.decode(sasl).ok()?;
                let account = String::from_utf8(plain.split(|byte| *byte == 0).nth(1)?.to_vec()).ok()?;
                *session = Arc::new(Session { account, ..Session::default() });
                *signed_in = true;
                say("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>".to_owned()).await.ok()?;
            }
            "enable" => {
                let id = format!("sm-{}", self.next.fetch_add(1, Ordering::Relaxed));
                *session = Arc::new(Session { account: session.account.clone(), ..Session::default() });
                self.keep(&id, session);
                say(format!("<enabled xmlns='urn:xmpp:sm:3' id='{id}' resume='true' max='600'/>")).await.ok()?;
                counted.send(Arc::clone(session)).await.ok()?;
                self.take_in(session, to_client);
            }
            "resume" => {
                let known = attribute(text, "previd")
                    .and_then(|id| self.sessions.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned());
                let Some(known) = known.filter(|known| known.account == session.account) else {
                    say("<failed xmlns='urn:xmpp:sm:3'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>".to_owned()).await.ok()?;
                    return Some(());
                };
                *session = known;
                // What was not acknowledged is not kept here: the bench loses nothing that way, for it stops when all is said.
                let heard = attribute(text, "h").and_then(|h| h.parse().ok()).unwrap_or(0);
                session.written.store(heard, Ordering::Relaxed);
                let previd = attribute(text, "previd").unwrap_or_default();
                let read = session.read.load(Ordering::Relaxed);
                say(format!("<resumed xmlns='urn:xmpp:sm:3' previd='{previd}' h='{read}'/>")).await.ok()?;
                counted.send(Arc::clone(session)).await.ok()?;
                self.take_in(session, to_client);
                self.resumed.fetch_add(1, Ordering::Relaxed);
                self.online.fetch_add(1, Ordering::Relaxed);
                self.news.notify_waiters();
            }
            "r" => {
                let read = session.read.load(Ordering::Relaxed);
                say(format!("<a xmlns='urn:xmpp:sm:3' h='{read}'/>")).await.ok()?;
            }
            "message" => {
                session.read.fetch_add(1, Ordering::Relaxed);
                if let Some(body) = text.split("<body>").nth(1).and_then(|rest| rest.split('<').next()) {
                    self.tally.hear(Way::ToXmpp, body);
                }
            }
            "presence" => {
                session.read.fetch_add(1, Ordering::Relaxed);
                if attribute(text, "to").is_none() {
                    self.on_presence(session, to_client).await?;
                }
            }
            "iq" => {
                session.read.fetch_add(1, Ordering::Relaxed);
                if let Some(answer) = self.on_iq(text, &session.account) {
                    say(answer).await.ok()?;
                }
            }
            _ => {}
        }
        Some(())
    }

    /// An account has one session.
    fn keep(&self, id: &str, session: &Arc<Session>) {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned(), Arc::clone(session));
    }

    fn take_in(&self, session: &Session, to_client: &mpsc::Sender<String>) {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        streams.insert(session.account.clone(), to_client.clone());
    }

    async fn on_presence(&self, session: &Session, to_client: &mpsc::Sender<String>) -> Option<()> {
        if session.present.swap(true, Ordering::Relaxed) {
            self.seen.fetch_add(1, Ordering::Relaxed);
            return Some(());
        }
        let plan = self.plan();
        if plan.present {
            let mut all = String::new();
            for contact in 0..plan.contacts {
                let _ = write!(all, "<presence from='c{contact}@{DOMAIN}/app' to='{}@{DOMAIN}'/>", session.account);
            }
            // Counted one by one, so they go one by one.
            for one in all.split_inclusive("/>") {
                to_client.send(one.to_owned()).await.ok()?;
            }
        }
        self.online.fetch_add(1, Ordering::Relaxed);
        self.news.notify_waiters();
        Some(())
    }

    fn on_iq(&self, text: &str, account: &str) -> Option<String> {
        let id = attribute(text, "id")?;
        let kind = attribute(text, "type")?;
        if kind != "get" && kind != "set" {
            return None;
        }
        // Who was asked answers; what was asked of nobody, the account does.
        let from = attribute(text, "to").map(|asked| format!(" from='{asked}'")).unwrap_or_default();
        let result = |inner: &str| format!("<iq type='result' id='{id}'{from} to='{account}@{DOMAIN}'>{inner}</iq>");
        if text.contains("urn:ietf:params:xml:ns:xmpp-bind") {
            let jid = format!("{account}@{DOMAIN}/bridge");
            return Some(result(&format!("<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>{jid}</jid></bind>")));
        }
        if text.contains("jabber:iq:roster") {
            let mut items = String::new();
            for contact in 0..self.plan().contacts {
                let _ = write!(items, "<item jid='c{contact}@{DOMAIN}' name='Contact {contact}' subscription='both'/>");
            }
            return Some(result(&format!("<query xmlns='jabber:iq:roster'>{items}</query>")));
        }
        if text.contains("urn:xmpp:ping") || text.contains("urn:xmpp:carbons:2") {
            return Some(result(""));
        }
        if text.contains("disco#info") {
            return Some(result(
                "<query xmlns='http://jabber.org/protocol/disco#info'><identity category='server' type='im'/></query>",
            ));
        }
        Some(format!(
            "<iq type='error' id='{id}'{from} to='{account}@{DOMAIN}'><error type='cancel'><service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
        ))
    }
}

/// The value of an attribute in the first tag.
fn attribute<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let tag = &text[..text.find('>')?];
    for quote in ['\'', '"'] {
        if let Some(at) = tag.find(&format!(" {name}={quote}")) {
            let rest = &tag[at + name.len() + 3..];
            return rest.split(quote).next();
        }
    }
    None
}

/// Where the next whole top-level element (or the stream's own opening tag) begins and ends.
fn next_element(buffer: &[u8]) -> Option<(usize, usize)> {
    let start = buffer.iter().position(|byte| *byte == b'<')?;
    let mut depth = 0usize;
    let mut at = start;
    loop {
        let open = at + buffer[at..].iter().position(|byte| *byte == b'<')?;
        let mut quote = 0u8;
        let close = open
            + buffer[open..].iter().position(|byte| {
                match *byte {
                    b'\'' | b'"' if quote == 0 => quote = *byte,
                    byte if byte == quote => quote = 0,
                    b'>' if quote == 0 => return true,
                    _ => {}
                }
                false
            })?;
        let tag = &buffer[open..=close];
        if tag.starts_with(b"<?") || tag.starts_with(b"<stream:stream") || tag.starts_with(b"</stream:stream") {
            return Some((start, close + 1));
        }
        if tag.starts_with(b"</") {
            depth = depth.saturating_sub(1);
        } else if !tag.ends_with(b"/>") {
            depth += 1;
        }
        at = close + 1;
        if depth == 0 {
            return Some((start, at));
        }
    }
}
