//! An XMPP server that does what a test tells it to, for what no real server would do. Direct TLS, one account.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

use minidom::Element;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::certificates::Authority;
use super::ground::{self, Port};
use super::servers::{Account, Reach};

const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
const SM: &str = "urn:xmpp:sm:3";

/// What the server does.
#[derive(Debug, Clone)]
pub struct Script {
    /// What it offers for signing in. Only PLAIN leads in, with any password.
    pub mechanisms: &'static [&'static str],
    /// Whether it refuses whoever signs in.
    pub refuse: bool,
    /// The items of the roster, as XML.
    pub roster: String,
    /// The answer to `<resume/>`.
    pub resumption: Resumption,
}

/// How a server answers `<resume/>` (XEP-0198 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resumption {
    /// The session is gone, and it does not say what it had handled.
    Refused,
    /// The session is gone, and it says what it had handled.
    RefusedCounted,
    /// The session goes on.
    Granted,
}

/// What a wrong server claims to have handled beyond what it has.
const BEYOND: usize = 1_000;

impl Default for Script {
    fn default() -> Self {
        Self { mechanisms: &["PLAIN"], refuse: false, roster: String::new(), resumption: Resumption::Refused }
    }
}

/// A running one.
#[derive(Debug)]
pub struct Scripted {
    name: &'static str,
    port: Port,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    log: Mutex<Log>,
    news: Condvar,
}

#[derive(Debug, Default)]
struct Log {
    /// Every top-level element that came, over all connections.
    received: Vec<Element>,
    connections: usize,
    /// Into the newest connection; dropping it cuts that.
    current: Option<mpsc::UnboundedSender<String>>,
    /// Stanzas sent since XEP-0198 was enabled on the newest stream.
    sent: u32,
    /// Those of them that were not acknowledged, with their numbers.
    unacknowledged: VecDeque<(u32, String)>,
    /// Messages for the client's next session.
    kept: Vec<String>,
    /// What comes is forgotten: it is lost on its way.
    deaf: bool,
    /// Every top-level element that came while it was.
    missed: Vec<Element>,
    /// Added to every count of handled stanzas.
    beyond: usize,
}

impl Log {
    /// Numbers a stanza and remembers it until it is acknowledged.
    fn count(&mut self, stanza: String) -> String {
        self.sent += 1;
        self.unacknowledged.push_back((self.sent, stanza.clone()));
        stanza
    }

    fn acknowledged(&mut self, h: Option<&str>) {
        let h: u32 = h.and_then(|h| h.parse().ok()).unwrap_or(0);
        self.unacknowledged.retain(|(number, _)| *number > h);
    }

    /// Stanzas that came since the newest `<enable/>`, as the server tells it.
    fn handled(&self) -> usize {
        let stanza = |element: &&Element| ["iq", "message", "presence"].contains(&element.name());
        newest_session(self).iter().filter(stanza).count() + self.beyond
    }

    /// The session is gone: what was not acknowledged goes where messages to people who are away go.
    fn end_session(&mut self) {
        let stamp = "<delay xmlns='urn:xmpp:delay' stamp='2026-01-01T00:00:00Z'/></message>";
        let messages = self.unacknowledged.drain(..).map(|(_, stanza)| stanza);
        let messages = messages.filter(|stanza| stanza.starts_with("<message"));
        self.kept.extend(messages.map(|message| message.replace("</message>", stamp)));
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Scripted {
    /// Starts one for the domain `name`, with a certificate that the tests trust.
    pub fn start(name: &'static str, script: Script) -> Self {
        let certificate = Authority::trusted().issue(name, &ground::folder(name));
        let chain: Result<Vec<_>, _> =
            CertificateDer::pem_file_iter(certificate.chain).expect("read the chain").collect();
        let key = PrivateKeyDer::from_pem_file(certificate.key).expect("read the key");
        let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring knows them")
            .with_no_client_auth()
            .with_single_cert(chain.expect("a chain"), key)
            .expect("a certificate");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let state = Arc::new(State::default());
        let server = Self { name, port: Port::reserve(), state: Arc::clone(&state) };
        let listener = std::net::TcpListener::bind(("127.0.0.1", server.port.number())).expect("listen");
        listener.set_nonblocking(true).expect("a listener for tokio");
        thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a listener");
                loop {
                    let (stream, _) = listener.accept().await.expect("accept");
                    let serve = serve(stream, acceptor.clone(), script.clone(), name, Arc::clone(&state));
                    tokio::spawn(serve);
                }
            });
        });
        server
    }

    /// Its entry among the domains of the bridge's config.
    pub fn domain(&self) -> Value {
        json!({
            "address": format!("127.0.0.1:{}", self.port),
            "tls": {"mode": "direct", "ca_file": Authority::trusted().file()},
        })
    }

    /// Its account.
    pub fn jid(&self) -> String {
        format!("alice@{}", self.name)
    }

    /// The same for a client of the tests; only direct TLS leads anywhere.
    pub fn account(&self) -> Account {
        let port = self.port.number();
        Account { jid: self.jid(), reach: Reach { domain: self.name, starttls: port, direct_tls: port } }
    }

    /// Sends one stanza as it stands on the newest connection.
    pub fn send(&self, stanza: &str) {
        let mut log = self.state.lock();
        let stanza = log.count(stanza.to_owned());
        let current = log.current.as_ref().expect("a connection");
        current.send(stanza).expect("a connection that stands");
    }

    /// Ends the newest stream with an error (RFC 6120 section 4.9); `condition` is its element.
    pub fn fail(&self, condition: &str) {
        let log = self.state.lock();
        if let Some(current) = &log.current {
            let _ = current.send(format!("<stream:error>{condition}</stream:error></stream:stream>"));
        }
    }

    /// From now on what comes is lost on its way, until the next connection.
    pub fn lose(&self) {
        self.state.lock().deaf = true;
    }

    /// Awaits a message with this text that is lost.
    pub fn expect_lost(&self, text: &str) {
        self.until(&format!("lost message {text:?}"), |log| {
            log.missed.iter().any(|element| text_of(element).as_deref() == Some(text)).then_some(())
        });
    }

    /// From now on it claims to have handled more than it was sent; says so at once.
    pub fn claim_beyond(&self) {
        let mut log = self.state.lock();
        log.beyond = BEYOND;
        let h = log.handled();
        if let Some(current) = &log.current {
            let _ = current.send(format!("<a xmlns='{SM}' h='{h}'/>"));
        }
    }

    /// Texts of all messages that it handled, in order.
    pub fn texts(&self) -> Vec<String> {
        self.state.lock().received.iter().filter_map(text_of).collect()
    }

    /// Asks how many stanzas were handled (XEP-0198) until it is all that were sent.
    pub fn await_all_acknowledged(&self) {
        let sent = self.state.lock().sent;
        let request = || {
            let log = self.state.lock();
            if let Some(current) = &log.current {
                let _ = current.send(format!("<r xmlns='{SM}'/>"));
            }
        };
        request();
        let mut answers = 0;
        self.until(&format!("acknowledgement of {sent} stanzas"), |log| {
            let session = newest_session(log);
            let acks: Vec<_> = session.iter().filter(|element| element.name() == "a").collect();
            let all = acks.last().is_some_and(|ack| ack.attr("h") == Some(sent.to_string().as_str()));
            if !all && acks.len() > answers {
                answers = acks.len();
                if let Some(current) = &log.current {
                    let _ = current.send(format!("<r xmlns='{SM}'/>"));
                }
            }
            all.then_some(())
        });
    }

    /// Cuts the newest connection without a word.
    pub fn cut(&self) {
        self.state.lock().current.take();
    }

    /// How many connections came so far.
    pub fn connections(&self) -> usize {
        self.state.lock().connections
    }

    /// All top-level elements of this name so far.
    pub fn received(&self, name: &str) -> Vec<Element> {
        self.state.lock().received.iter().filter(|element| element.name() == name).cloned().collect()
    }

    /// Awaits an element that `wanted` accepts.
    pub fn expect(&self, what: &str, wanted: impl Fn(&Element) -> bool) -> Element {
        self.until(what, |log| log.received.iter().find(|element| wanted(element)).cloned())
    }

    /// Awaits that elements of this name came so many times, over all connections.
    pub fn expect_times(&self, times: usize, name: &str) {
        self.until(&format!("<{name}/> for the {times}th time"), |log| {
            (log.received.iter().filter(|element| element.name() == name).count() >= times).then_some(())
        });
    }

    fn until<T>(&self, what: &str, mut look: impl FnMut(&Log) -> Option<T>) -> T {
        let end = Instant::now() + ground::deadline();
        let mut log = self.state.lock();
        loop {
            if let Some(found) = look(&log) {
                return found;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let mut last = String::new();
                for element in log.received.iter().rev().take(20) {
                    let _ = writeln!(last, "{}", String::from(element));
                }
                panic!("{}: no {what}; it received, newest first:\n{last}", self.name);
            }
            log = self.state.news.wait_timeout(log, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

async fn serve(stream: TcpStream, acceptor: TlsAcceptor, script: Script, name: &'static str, state: Arc<State>) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let (mut reader, mut writer) = tokio::io::split(stream);
    let (outgoing, mut queue) = mpsc::unbounded_channel();
    {
        let mut log = state.lock();
        log.connections += 1;
        log.deaf = false;
        log.current = Some(outgoing.clone());
    }
    let mut conversation = Conversation { script, name, state, signed_in: false };
    let mut splitter = Splitter::default();
    let mut chunk = vec![0; 65_536];
    // Only the test's end keeps the queue open: `cut` ends it.
    drop(outgoing);
    loop {
        tokio::select! {
            line = queue.recv() => {
                let Some(line) = line else { return };
                if writer.write_all(line.as_bytes()).await.is_err() || writer.flush().await.is_err() { return }
                if line.ends_with("</stream:stream>") {
                    let _ = writer.shutdown().await;
                    return;
                }
            }
            read = reader.read(&mut chunk) => {
                let Ok(count @ 1..) = read else { return };
                splitter.text.push_str(&String::from_utf8_lossy(&chunk[..count]));
                while let Some(piece) = splitter.next() {
                    let answer = conversation.answer(&mut splitter, &piece);
                    if writer.write_all(answer.as_bytes()).await.is_err() || writer.flush().await.is_err() { return }
                    if answer.ends_with("</stream:stream>") { return }
                }
            }
        }
    }
}

/// One connection's side of the protocol.
struct Conversation {
    script: Script,
    name: &'static str,
    state: Arc<State>,
    signed_in: bool,
}

impl Conversation {
    fn answer(&mut self, splitter: &mut Splitter, piece: &Piece) -> String {
        match piece {
            Piece::Header => self.header(),
            Piece::End => "</stream:stream>".to_owned(),
            Piece::Element(text) => {
                let Ok(element) = parse(text) else { return String::new() };
                if self.state.lock().deaf {
                    self.state.lock().missed.push(element);
                    self.state.news.notify_all();
                    return String::new();
                }
                let answer = self.answer_element(splitter, &element);
                self.state.lock().received.push(element);
                self.state.news.notify_all();
                answer
            }
        }
    }

    fn header(&self) -> String {
        let mut features = String::new();
        if self.signed_in {
            let _ = write!(features, "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/><sm xmlns='{SM}'/>");
        } else {
            let _ = write!(features, "<mechanisms xmlns='{SASL}'>");
            for mechanism in self.script.mechanisms {
                let _ = write!(features, "<mechanism>{mechanism}</mechanism>");
            }
            features.push_str("</mechanisms>");
        }
        format!(
            "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' \
             from='{}' id='scripted' version='1.0'><stream:features>{features}</stream:features>",
            self.name
        )
    }

    fn answer_element(&mut self, splitter: &mut Splitter, element: &Element) -> String {
        match element.name() {
            "auth" if self.script.refuse || element.attr("mechanism") != Some("PLAIN") => {
                format!("<failure xmlns='{SASL}'><not-authorized/></failure>")
            }
            "auth" => {
                self.signed_in = true;
                splitter.expects_header = true;
                format!("<success xmlns='{SASL}'/>")
            }
            "enable" => {
                let mut log = self.state.lock();
                log.end_session();
                (log.sent, log.beyond) = (0, 0);
                format!("<enabled xmlns='{SM}' id='a-stream' resume='true' max='300'/>")
            }
            "resume" => self.answer_resume(element),
            "r" => format!("<a xmlns='{SM}' h='{}'/>", self.state.lock().handled()),
            "a" => {
                self.state.lock().acknowledged(element.attr("h"));
                String::new()
            }
            "iq" => self.answer_iq(element),
            "presence" if element.attr("type").is_none() && element.attr("to").is_none() => {
                let mut log = self.state.lock();
                let kept: Vec<String> = log.kept.drain(..).collect();
                kept.into_iter().map(|message| log.count(message)).collect()
            }
            _ => String::new(),
        }
    }

    fn answer_resume(&self, resume: &Element) -> String {
        let mut log = self.state.lock();
        let handled = log.handled();
        match self.script.resumption {
            Resumption::Refused => format!("<failed xmlns='{SM}'/>"),
            Resumption::RefusedCounted => format!("<failed xmlns='{SM}' h='{handled}'/>"),
            Resumption::Granted => {
                log.acknowledged(resume.attr("h"));
                let again: String = log.unacknowledged.iter().map(|(_, stanza)| stanza.as_str()).collect();
                format!("<resumed xmlns='{SM}' previd='a-stream' h='{handled}'/>{again}")
            }
        }
    }

    fn answer_iq(&self, iq: &Element) -> String {
        let (id, kind) = (iq.attr("id").unwrap_or_default(), iq.attr("type").unwrap_or_default());
        if kind != "get" && kind != "set" {
            return String::new();
        }
        let payload = iq.children().next();
        let namespace = payload.map(Element::ns).unwrap_or_default();
        let result = match namespace.as_str() {
            "urn:ietf:params:xml:ns:xmpp-bind" => {
                format!("<bind xmlns='{namespace}'><jid>alice@{}/scripted</jid></bind>", self.name)
            }
            "jabber:iq:roster" => format!("<query xmlns='{namespace}'>{}</query>", self.script.roster),
            "http://jabber.org/protocol/disco#info" | "http://jabber.org/protocol/disco#items" => {
                format!("<query xmlns='{namespace}'/>")
            }
            "urn:xmpp:ping" | "urn:ietf:params:xml:ns:xmpp-session" => String::new(),
            _ => {
                return self.state.lock().count(format!(
                    "<iq type='error' id='{id}'><error type='cancel'><service-unavailable \
                     xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
                ));
            }
        };
        // A stanza sent, too; the answer to the bind comes before XEP-0198 is enabled, which starts at 0.
        self.state.lock().count(format!("<iq type='result' id='{id}'>{result}</iq>"))
    }
}

/// The text of a message.
fn text_of(element: &Element) -> Option<String> {
    let body = element.get_child("body", "jabber:client").filter(|_| element.name() == "message");
    body.map(Element::text)
}

/// What came since the newest `<enable/>`.
fn newest_session(log: &Log) -> &[Element] {
    let start = log.received.iter().rposition(|element| element.name() == "enable").map_or(0, |index| index + 1);
    &log.received[start..]
}

fn parse(text: &str) -> Result<Element, minidom::Error> {
    Element::from_reader_with_prefixes(io::Cursor::new(text), "jabber:client".to_owned())
}

/// Cuts what a client sends into top-level pieces. The client writes good XML without comments or CDATA.
#[derive(Debug)]
struct Splitter {
    text: String,
    expects_header: bool,
}

impl Default for Splitter {
    fn default() -> Self {
        Self { text: String::new(), expects_header: true }
    }
}

#[derive(Debug)]
enum Piece {
    Header,
    Element(String),
    End,
}

impl Splitter {
    fn next(&mut self) -> Option<Piece> {
        let skipped = self.text.len() - self.text.trim_start().len();
        self.text.drain(..skipped);
        if self.text.starts_with("<?") {
            let end = self.text.find("?>")? + 2;
            self.text.drain(..end);
            return self.next();
        }
        let (mut depth, mut at) = (0_usize, 0);
        loop {
            let start = at + self.text[at..].find('<')?;
            let end = tag_end(&self.text, start)?;
            let tag = &self.text[start..end];
            if self.expects_header {
                self.expects_header = false;
                self.text.drain(..end);
                return Some(Piece::Header);
            }
            if tag.starts_with("</") {
                if depth == 0 {
                    self.text.drain(..end);
                    return Some(Piece::End);
                }
                depth -= 1;
            } else if !tag.ends_with("/>") {
                depth += 1;
            }
            if depth == 0 {
                return Some(Piece::Element(self.text.drain(..end).collect()));
            }
            at = end;
        }
    }
}

/// The place after the `>` of the tag that begins at `start`; an attribute's value may hold one, too.
fn tag_end(text: &str, start: usize) -> Option<usize> {
    let mut quote = None;
    for (index, character) in text[start..].char_indices() {
        match (quote, character) {
            (None, '>') => return Some(start + index + 1),
            (None, '"' | '\'') => quote = Some(character),
            (Some(open), _) if open == character => quote = None,
            _ => {}
        }
    }
    None
}
