//! One connection: STARTTLS, sign-in, bind, then stanzas until it ends.
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::iq::After;
use super::journal::Event;
use super::service::Hub;
use super::settings::{MAX_QUEUED, PATIENCE};
use super::wire::{self, CLIENT, Frame, FrameError, Framer, Node, SASL, STREAM, TLS, attr, esc};
use super::world::Out;

/// The one mechanism.
pub const MECHANISM: &str = "X-MESSENGER-OAUTH2";
/// The scope that signing in needs.
pub const SCOPE: &str = "wl.messenger";
/// What the service said when its parser broke.
pub const BROKEN: &str = "XmlException due to: Unexpected end of file has occurred.";
const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
const SESSION: &str = "urn:ietf:params:xml:ns:xmpp-session";
/// After its last word the service reads this long and this much, so that the word is not lost with the connection.
const FAREWELL: Duration = Duration::from_secs(2);
const FAREWELL_BYTES: usize = 1 << 20;

/// Why a connection ends.
enum End {
    /// The other side closed, was silent for too long or was cut: nothing is said.
    Silent,
    /// The stream was closed in order.
    Closed,
    /// With a stream error: condition, the condition's own text, text.
    Error(&'static str, String, &'static str),
    /// Last words that were already written.
    Said,
}

impl From<std::io::Error> for End {
    fn from(_: std::io::Error) -> Self {
        Self::Silent
    }
}

fn broken() -> End {
    End::Error("not-well-formed", String::new(), BROKEN)
}

/// A connection and what was read from it.
struct Stream<S> {
    io: S,
    framer: Framer,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream<S> {
    fn new(io: S) -> Self {
        Self { io, framer: Framer::default() }
    }

    /// The next frame. Dropping this before it is done loses nothing.
    async fn next(&mut self, hub: &Hub) -> Result<Frame, End> {
        loop {
            let limit = hub.world().switches.stanza_cut();
            match self.framer.next(limit) {
                Ok(Some(frame)) => return Ok(frame),
                Ok(None) => {}
                Err(FrameError::TooLarge) => {
                    hub.world().counters.stanza_cuts += 1;
                    return Err(broken());
                }
                Err(FrameError::Malformed) => return Err(End::Error("not-well-formed", String::new(), "")),
            }
            let mut bytes = [0; 4096];
            match self.io.read(&mut bytes).await? {
                0 => return Err(End::Silent),
                count => self.framer.push(bytes.get(..count).unwrap_or_default()),
            }
        }
    }

    /// A step of the negotiation: it may not take for ever, nor outlast the idle cut.
    async fn step(&mut self, hub: &Hub) -> Result<Frame, End> {
        let idle = hub.world().switches.idle_cut().unwrap_or(PATIENCE);
        timeout(idle.min(PATIENCE), self.next(hub)).await.unwrap_or(Err(End::Silent))
    }

    async fn element(&mut self, hub: &Hub) -> Result<Node, End> {
        match self.step(hub).await? {
            Frame::Stanza(element) => Ok(element),
            Frame::Footer => Err(End::Closed),
            Frame::Header(_) => Err(broken()),
        }
    }

    async fn write(&mut self, text: &str) -> Result<(), End> {
        let write = async {
            self.io.write_all(text.as_bytes()).await?;
            self.io.flush().await
        };
        Ok(timeout(PATIENCE, write).await.map_err(|_| End::Silent)??)
    }

    /// Reads the client's stream header and answers with the server's, followed by `inside`.
    async fn open(&mut self, hub: &Hub, inside: &str) -> Result<(), End> {
        let Frame::Header(header) = self.step(hub).await? else { return Err(broken()) };
        let domain = &hub.settings.domain;
        let own = format!(
            "<?xml version='1.0'?><stream:stream xmlns='{CLIENT}' xmlns:stream='{STREAM}' id='{:016x}' from='{}' \
             version='1.0' xml:lang='en'>",
            rand::random::<u64>(),
            esc(domain)
        );
        if !header.is("stream", STREAM) {
            self.write(&own).await?;
            return Err(End::Error("invalid-namespace", String::new(), ""));
        }
        if !header.attr("to").is_some_and(|to| to.eq_ignore_ascii_case(domain)) {
            self.write(&own).await?;
            return Err(End::Error("host-unknown", String::new(), ""));
        }
        self.write(&(own + inside)).await
    }

    /// A new stream begins on the same connection.
    fn restart(&mut self) {
        self.framer = std::mem::take(&mut self.framer).restarted();
    }

    async fn finish(mut self, end: End) {
        let last = match end {
            // Dropped without a word, as the service did.
            End::Silent => return,
            End::Closed => "</stream:stream>".to_owned(),
            End::Error(condition, inside, text) => wire::stream_error(condition, &inside, text),
            End::Said => String::new(),
        };
        if self.write(&last).await.is_err() || timeout(FAREWELL, self.io.shutdown()).await.is_err() {
            return;
        }
        let drain = async {
            let mut bytes = vec![0; 4096];
            let mut left = FAREWELL_BYTES;
            while let Ok(count @ 1..) = self.io.read(&mut bytes).await {
                left = left.saturating_sub(count);
                if left == 0 {
                    break;
                }
            }
        };
        // Whether the client reads to the end is its own affair.
        let _ = timeout(FAREWELL, drain).await;
    }
}

/// Serves one connection to its end.
pub async fn serve(hub: Arc<Hub>, tcp: TcpStream, at_gateway: bool, gateway: SocketAddr) {
    {
        let mut world = hub.world();
        world.counters.connections += 1;
        world.counters.gateway_connections += u64::from(at_gateway);
    }
    // Only costs speed where it is refused.
    let _ = tcp.set_nodelay(true);
    let mut plain = Stream::new(tcp);
    if let Err(end) = start_tls(&hub, &mut plain).await {
        return plain.finish(end).await;
    }
    let acceptor = hub.tls.acceptor(hub.world().switches.mismatched_certificate);
    // What was sent in clear after <starttls/> is dropped with the framer: it was not protected.
    let Ok(Ok(tls)) = timeout(PATIENCE, acceptor.accept(plain.io)).await else { return };
    let mut stream = Stream::new(tls);
    let end = match sign_in(&hub, &mut stream, at_gateway, gateway).await {
        Ok(account) => live(&hub, &mut stream, &account, at_gateway, gateway).await,
        Err(end) => Err(end),
    };
    if let Err(end) = end {
        stream.finish(end).await;
    }
}

async fn start_tls(hub: &Hub, stream: &mut Stream<TcpStream>) -> Result<(), End> {
    let offer = format!("<stream:features><starttls xmlns='{TLS}'><required/></starttls></stream:features>");
    stream.open(hub, &offer).await?;
    if !stream.element(hub).await?.is("starttls", TLS) {
        return Err(End::Error("policy-violation", String::new(), "STARTTLS is required"));
    }
    stream.write(&format!("<proceed xmlns='{TLS}'/>")).await
}

/// The redirect at this point of the stream, if there is one.
fn elsewhere(hub: &Hub, at_gateway: bool, authenticated: bool, gateway: SocketAddr) -> Result<(), End> {
    match hub.world().redirect(at_gateway, authenticated, gateway) {
        Some(host) => Err(End::Error("see-other-host", host, "")),
        None => Ok(()),
    }
}

/// Up to `<success/>`: the account's bare JID, which comes from the token alone.
async fn sign_in<S>(hub: &Hub, stream: &mut Stream<S>, at_gateway: bool, gateway: SocketAddr) -> Result<String, End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.open(hub, "").await?;
    elsewhere(hub, at_gateway, false, gateway)?;
    let blank = if hub.world().switches.trailing_blank { " " } else { "" };
    let offer = format!(
        "<stream:features><mechanisms xmlns='{SASL}'><mechanism>{MECHANISM}{blank}</mechanism></mechanisms>\
         </stream:features>"
    );
    stream.write(&offer).await?;
    let auth = stream.element(hub).await?;
    if !auth.is("auth", SASL) {
        return Err(End::Error("not-authorized", String::new(), ""));
    }
    match judge(hub, &auth) {
        Ok(account) => {
            stream.write(&format!("<success xmlns='{SASL}'/>")).await?;
            stream.restart();
            Ok(account)
        }
        Err(condition) => {
            stream.write(&format!("<failure xmlns='{SASL}'><{condition}/></failure></stream:stream>")).await?;
            Err(End::Said)
        }
    }
}

/// Whether the token is good: it is the character data as it is.
fn judge(hub: &Hub, auth: &Node) -> Result<String, &'static str> {
    let mut world = hub.world();
    let token = auth.text.trim();
    let owner = world.tokens.owner(token);
    let name = owner.clone().unwrap_or_default();
    world.count(&name, |counters| counters.auth_elements += 1);
    if auth.attr("mechanism").map(str::trim) != Some(MECHANISM) {
        return Err("invalid-mechanism");
    }
    let refused = world.switches.refuse_sign_ins > 0;
    world.switches.refuse_sign_ins = world.switches.refuse_sign_ins.saturating_sub(1);
    if !refused && let Some(grant) = world.tokens.check(token).filter(|grant| grant.allows(SCOPE)) {
        return Ok(grant.account.clone());
    }
    world.count(&name, |counters| counters.refused += 1);
    world.journal.write(Event::Refused { account: owner });
    Err(world.switches.refusal.condition())
}

/// Bind, and then everything else.
async fn live<S>(
    hub: &Hub,
    stream: &mut Stream<S>,
    account: &str,
    at_gateway: bool,
    gateway: SocketAddr,
) -> Result<(), End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.open(hub, "").await?;
    elsewhere(hub, at_gateway, true, gateway)?;
    let offer = format!("<stream:features><bind xmlns='{BIND}'/><session xmlns='{SESSION}'/></stream:features>");
    stream.write(&offer).await?;
    let request = stream.element(hub).await?;
    let wanted = (request.name == "iq" && request.attr("type") == Some("set")).then(|| request.child("bind", BIND));
    let Some(Some(bind)) = wanted else { return Err(End::Error("not-authorized", String::new(), "")) };
    let resource = bind.child("resource", BIND).map(|resource| resource.text.trim().to_owned());
    let resource = resource.filter(|it| !it.is_empty() && it.len() <= 1023);
    let resource = resource.unwrap_or_else(|| format!("{:08X}", rand::random::<u32>()));
    let (out, mut queue) = mpsc::channel(MAX_QUEUED);
    // The bind's answer is queued before anything else can be.
    let id = {
        let mut world = hub.world();
        let (id, jid) = world
            .bind(account, &resource, out)
            .map_err(|_| End::Error("resource-constraint", String::new(), "too many clients"))?;
        let attrs = world.reply_attrs(id, &request);
        world.send(id, format!("<iq type='result'{attrs}><bind xmlns='{BIND}'><jid>{}</jid></bind></iq>", esc(&jid)));
        id
    };
    let _leaver = Leaver { hub, id };
    converse(hub, stream, id, &mut queue).await
}

/// However a connection ends, its session ends with it.
struct Leaver<'a> {
    hub: &'a Hub,
    id: u64,
}

impl Drop for Leaver<'_> {
    fn drop(&mut self) {
        self.hub.world().end(self.id, Out::Cut);
    }
}

async fn converse<S>(hub: &Hub, stream: &mut Stream<S>, id: u64, queue: &mut mpsc::Receiver<Out>) -> Result<(), End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut switched = hub.switched.subscribe();
    let mut heard = Instant::now();
    loop {
        let idle = hub.world().switches.idle_cut();
        let deadline = heard + idle.unwrap_or(Duration::from_hours(24));
        tokio::select! {
            frame = stream.next(hub) => {
                let stanza = match frame? {
                    Frame::Stanza(stanza) => stanza,
                    Frame::Footer => return Err(End::Closed),
                    Frame::Header(_) => return Err(broken()),
                };
                // Only a stanza proves life: white space between stanzas does not.
                heard = Instant::now();
                handle(hub, id, &stanza)?;
            }
            out = queue.recv() => match out {
                Some(Out::Stanza(stanza)) => stream.write(&stanza).await?,
                Some(Out::Error(condition)) => return Err(End::Error(condition, String::new(), "")),
                Some(Out::Cut) | None => return Err(End::Silent),
            },
            () = tokio::time::sleep_until(deadline) => {
                if idle.is_some() {
                    hub.world().counters.idle_cuts += 1;
                    return Err(End::Silent);
                }
            }
            changed = switched.changed() => changed.map_err(|_| End::Silent)?,
        }
    }
}

fn handle(hub: &Hub, id: u64, stanza: &Node) -> Result<(), End> {
    let mut world = hub.world();
    match (stanza.name.as_str(), stanza.ns.as_str()) {
        ("message", CLIENT) => world.message(id, stanza),
        ("presence", CLIENT) => world.presence(id, stanza),
        ("iq", CLIENT) => {
            if world.iq(id, stanza) == After::Breaks {
                return Err(broken());
            }
        }
        _ => return Err(End::Error("unsupported-stanza-type", String::new(), "")),
    }
    Ok(())
}
