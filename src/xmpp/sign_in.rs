//! From a domain and credentials to a session: redirects, TLS, SASL, then resumption (XEP-0198 section 5) or bind
//! (RFC 6120 section 7).

use base64::{Engine, engine::general_purpose::STANDARD};
use minidom::Element;
use rustls::ProtocolVersion;
use tokio::{net::TcpStream, time::Instant};
use tokio_rustls::client::TlsStream;

use super::{
    Endpoint, Shared, Timeouts,
    connect::{Found, Target, parse_host},
    element::{NS_CLIENT, element},
    sasl::{self, Exchange, NS_SASL, Offer},
    tls::TlsMode,
    wire::{Stop, Wire, bounded},
};
use crate::domain::{
    Address, BareJid,
    credentials::Credentials,
    stream::{ConnectOrder, Management, Resume, StreamEnd, StreamUp},
};

/// The namespace of XEP-0198.
pub const NS_SM: &str = "urn:xmpp:sm:3";
/// XEP-0352.
pub const NS_CSI: &str = xmpp_parsers::ns::CSI;
const NS_TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
const NS_BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
const NS_SESSION: &str = "urn:ietf:params:xml:ns:xmpp-session";
const NS_LIMITS: &str = "urn:xmpp:stream-limits:0";
const NS_ROSTER_VERSIONS: &str = "urn:xmpp:features:rosterver";
/// Redirects that are followed for one sign-in.
const MAX_REDIRECTS: usize = 5;
/// Steps of a SASL exchange; SCRAM takes two.
const MAX_CHALLENGES: usize = 8;
/// Stanzas that may come before the session is set up.
const MAX_EARLY: usize = 256;

/// The connection of a stream: always TLS.
pub type Io = TlsStream<TcpStream>;

/// A session that is set up.
pub struct Session {
    /// The connection, with what was read of the stream so far.
    pub wire: Wire<Io>,
    /// What to report.
    pub up: StreamUp,
    /// Stanzas that came while it was set up, countable ones only.
    pub early: Vec<Element>,
}

/// A stream over TLS, its features read: as far as one gets without credentials.
pub struct Secured {
    wire: Wire<Io>,
    features: Element,
    target: Target,
}

impl Secured {
    /// Where it is connected to, and how.
    pub fn describe(&self) -> String {
        let version = match self.wire.io().get_ref().1.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
            _ => "TLS 1.2",
        };
        format!("connected to {} with {version}; it offers {}", self.target, Offer::read(&self.features).shown())
    }

    /// The certificate that the server showed, in DER.
    pub fn certificate(&self) -> Vec<u8> {
        let shown = self.wire.io().get_ref().1.peer_certificates().and_then(|chain| chain.first());
        shown.map(|certificate| certificate.to_vec()).unwrap_or_default()
    }
}

/// What one sign-in works with.
pub struct SignIn<'a> {
    /// The process's resolver and TLS configurations.
    pub shared: &'a Shared,
    /// Where the domain is.
    pub endpoint: &'a Endpoint,
    /// How long things may take.
    pub timeouts: &'a Timeouts,
    /// The stream's domain.
    pub domain: &'a str,
    /// When all must be done.
    pub deadline: Instant,
}

impl SignIn<'_> {
    /// Does it all.
    pub async fn run(&self, order: &ConnectOrder) -> Result<Session, StreamEnd> {
        let mut hops = Hops::default();
        let location = order.resume.as_ref().and_then(|resume| resume.location.as_deref()).and_then(parse_host);
        if let Some((host, port)) = location {
            // Only a preference (XEP-0198 section 5): what does not work there is tried again in the usual place.
            let target = Target { host, port, direct: self.endpoint.tls.mode == TlsMode::Direct };
            let preferred = self.secure(vec![target], order.account.as_ref(), &mut hops).await;
            if let Ok(secured) = preferred {
                match self.authenticated(secured, order).await {
                    Ok(session) => return Ok(session),
                    Err(Stop::End(end)) => return Err(end),
                    Err(Stop::Redirect(_)) => hops = Hops::default(),
                }
            }
        }
        let mut targets = self.targets().await?;
        loop {
            let secured = self.secure(targets, order.account.as_ref(), &mut hops).await?;
            let target = secured.target.clone();
            match self.authenticated(secured, order).await {
                Ok(session) => return Ok(session),
                Err(Stop::End(end)) => return Err(end),
                Err(Stop::Redirect(place)) => targets = vec![hops.follow(&place, &target)?],
            }
        }
    }

    /// Connects to places that [`SignIn::find`] gave, and secures, without signing in.
    pub async fn probe(&self, targets: Vec<Target>) -> Result<Secured, StreamEnd> {
        self.secure(targets, None, &mut Hops::default()).await
    }

    async fn targets(&self) -> Result<Vec<Target>, StreamEnd> {
        self.find().await.1
    }

    /// Where the domain's server may be, and how that was found.
    pub async fn find(&self) -> (Found, Result<Vec<Target>, StreamEnd>) {
        let mode = self.endpoint.tls.mode;
        match &self.endpoint.address {
            Some(address) => {
                let unknown = || StreamEnd::UnknownHost { host: address.clone() };
                let target =
                    parse_host(address).map(|(host, port)| Target { host, port, direct: mode == TlsMode::Direct });
                (Found::Configured, target.map(|target| vec![target]).ok_or_else(unknown))
            }
            None => self.shared.connector.find(self.domain, mode).await,
        }
    }

    /// A stream over TLS at one of the targets, or where they redirect to. A target that accepts connections but is not
    /// what it should be does not keep us from the next (XEP-0368 section 3); if none is, the first one's error counts.
    async fn secure(
        &self,
        mut targets: Vec<Target>,
        account: Option<&BareJid>,
        hops: &mut Hops,
    ) -> Result<Secured, StreamEnd> {
        let mut first = None;
        loop {
            let (tcp, target) = match self.shared.connector.connect(self.domain, &targets).await {
                Ok(connected) => connected,
                Err(end) => return Err(first.unwrap_or(end)),
            };
            match self.secure_one(tcp, &target, account).await {
                Ok((wire, features)) => return Ok(Secured { wire, features, target }),
                Err(Stop::End(end)) => {
                    let tried = targets.iter().position(|other| *other == target).map_or(targets.len(), |at| at + 1);
                    targets.drain(..tried);
                    let end = first.get_or_insert(end);
                    if targets.is_empty() {
                        return Err(end.clone());
                    }
                }
                Err(Stop::Redirect(place)) => {
                    targets = vec![hops.follow(&place, &target)?];
                    first = None;
                }
            }
        }
    }

    async fn secure_one(
        &self,
        tcp: TcpStream,
        target: &Target,
        account: Option<&BareJid>,
    ) -> Result<(Wire<Io>, Element), Stop> {
        let tcp = if target.direct { tcp } else { self.start_tls(tcp).await? };
        let handshake = self.shared.tls.connect(tcp, self.domain, &self.endpoint.tls, target.direct);
        let until = self.deadline.min(Instant::now() + self.timeouts.step);
        let tls = tokio::time::timeout_at(until, handshake)
            .await
            .map_err(|_| StreamEnd::TimedOut { phase: "the TLS handshake".to_owned() })??;
        Wire::open(tls, self.domain, account.map(BareJid::as_str), self.timeouts.step, self.deadline).await
    }

    /// RFC 6120 section 5. Never goes on without.
    async fn start_tls(&self, tcp: TcpStream) -> Result<TcpStream, Stop> {
        let phase = "STARTTLS";
        let refused = |detail: &str| StreamEnd::Tls { host: self.domain.to_owned(), detail: detail.to_owned() };
        let (mut wire, features) = Wire::open(tcp, self.domain, None, self.timeouts.step, self.deadline).await?;
        if !features.has_child("starttls", NS_TLS) {
            return Err(refused("it does not offer encryption").into());
        }
        wire.send(&Element::bare("starttls", NS_TLS), phase).await?;
        let answer = wire.element(phase).await?;
        if !answer.is("proceed", NS_TLS) {
            return Err(refused("it refused to begin encryption").into());
        }
        Ok(wire.into_io())
    }

    async fn authenticated(&self, secured: Secured, order: &ConnectOrder) -> Result<Session, Stop> {
        let Secured { mut wire, features, .. } = secured;
        let before = max_bytes(&features);
        let (mechanism, keep) = self.authenticate(&mut wire, &features, order).await?;
        let (mut wire, features) = wire.reopen(order.account.as_ref().map(BareJid::as_str)).await?;
        let manages = features.has_child("sm", NS_SM);
        let mut up = StreamUp {
            account: order
                .account
                .clone()
                .map_or_else(|| BareJid::parse(self.domain), Ok)
                .map_err(|_| bind_refused(""))?,
            resource: order.resource.clone(),
            resumed: None,
            failed_h: None,
            management: None,
            max_bytes: max_bytes(&features).or(before),
            roster_versioning: features.has_child("ver", NS_ROSTER_VERSIONS),
            csi: features.has_child("csi", NS_CSI),
            keep,
            mechanism: mechanism.to_owned(),
        };
        let mut early = Vec::new();
        if let Some(resume) = order.resume.as_ref().filter(|_| manages) {
            match self.resume(&mut wire, resume).await? {
                Ok(handled) => {
                    up.resumed = Some(handled);
                    up.management = Some(Management { id: Some(resume.id.clone()), location: resume.location.clone() });
                    return Ok(Session { wire, up, early });
                }
                Err(handled) => up.failed_h = handled,
            }
        }
        self.bind(&mut wire, &features, order, &mut up, &mut early).await?;
        if manages {
            up.management = self.manage(&mut wire, &mut early).await?;
        }
        Ok(Session { wire, up, early })
    }

    /// RFC 6120 section 6.4. One `<auth/>`.
    async fn authenticate(
        &self,
        wire: &mut Wire<Io>,
        features: &Element,
        order: &ConnectOrder,
    ) -> Result<(&'static str, Option<Credentials>), Stop> {
        let phase = "the sign-in";
        let exporter = exporter(wire.io());
        let nonce = STANDARD.encode(rand::random::<[u8; 24]>());
        let offer = Offer::read(features);
        let (credentials, account) = (&order.credentials, order.account.as_ref());
        let mut exchange = Exchange::choose(
            &offer,
            credentials,
            order.scram_only,
            account,
            exporter.as_ref().map(<[u8; 32]>::as_slice),
            &nonce,
            self.domain,
        )?;
        wire.send(&exchange.auth(), phase).await?;
        for _ in 0..MAX_CHALLENGES {
            let answer = wire.element(phase).await?;
            match answer.name() {
                _ if !answer.has_ns(NS_SASL) => {}
                "challenge" => {
                    let response = exchange.challenge(&answer).await?;
                    wire.send(&response, phase).await?;
                }
                "success" => {
                    let name = exchange.name();
                    return Ok((name, exchange.success(&answer)?));
                }
                "failure" => return Err(StreamEnd::Refused(sasl::refusal(&answer)).into()),
                _ => {}
            }
        }
        Err(StreamEnd::Lost { detail: "the sign-in did not come to an end".to_owned() }.into())
    }

    /// XEP-0198 section 5: `Ok(h)` if resumed, `Err(h)` if the session is gone; the server may tell `h` even then.
    async fn resume(&self, wire: &mut Wire<Io>, resume: &Resume) -> Result<Result<u32, Option<u32>>, Stop> {
        let phase = "the resumption";
        let ask = element("resume", NS_SM, &[("previd", &resume.id), ("h", &resume.inbound.to_string())]);
        wire.send(&ask, phase).await?;
        loop {
            let answer = wire.element(phase).await?;
            if answer.is("resumed", NS_SM) {
                // Without `h` nothing is known to have arrived.
                return Ok(Ok(handled(&answer).unwrap_or(0)));
            }
            if answer.is("failed", NS_SM) {
                return Ok(Err(handled(&answer)));
            }
        }
    }

    async fn bind(
        &self,
        wire: &mut Wire<Io>,
        features: &Element,
        order: &ConnectOrder,
        up: &mut StreamUp,
        early: &mut Vec<Element>,
    ) -> Result<(), Stop> {
        let resource = Element::builder("resource", NS_BIND).append(order.resource.as_str());
        let bind = Element::builder("bind", NS_BIND).append(resource).build();
        let result = self.ask(wire, "bind", bind, up, early).await?;
        let jid = result.get_child("bind", NS_BIND).and_then(|bind| bind.get_child("jid", NS_BIND));
        if let Some(address) = jid.and_then(|jid| Address::parse(jid.text().trim()).ok()) {
            up.account = address.bare;
            up.resource = address.resource.unwrap_or_else(|| order.resource.clone());
        }
        // RFC 3921 section 3; RFC 6121 appendix E leaves it to old servers.
        let session = features.get_child("session", NS_SESSION);
        if session.is_some_and(|session| !session.has_child("optional", NS_SESSION)) {
            self.ask(wire, "session", Element::bare("session", NS_SESSION), up, early).await?;
        }
        Ok(())
    }

    /// Sends an IQ set to the server and waits for its result.
    async fn ask(
        &self,
        wire: &mut Wire<Io>,
        id: &str,
        payload: Element,
        up: &StreamUp,
        early: &mut Vec<Element>,
    ) -> Result<Element, Stop> {
        let phase = format!("the answer to {id}");
        let mut iq = element("iq", NS_CLIENT, &[("type", "set"), ("id", id)]);
        iq.append_child(payload);
        wire.send(&iq, &phase).await?;
        loop {
            let answer = wire.element(&phase).await?;
            // Before it is bound nobody but the server can reach this stream, whatever it calls itself.
            let trusted = id == "bind" || from_server(&answer, up, self.domain);
            let ours = answer.is("iq", NS_CLIENT) && answer.attr("id") == Some(id) && trusted;
            match answer.attr("type") {
                Some("result") if ours => return Ok(answer),
                Some("error") if ours => {
                    let error = answer.get_child("error", NS_CLIENT);
                    let condition = error.and_then(|error| error.children().find(|child| child.name() != "text"));
                    return Err(bind_refused(condition.map_or("", Element::name)).into());
                }
                _ => keep_early(answer, early)?,
            }
        }
    }

    /// XEP-0198 section 3. What came before `<enabled/>` is not of the counted session: it cannot be told from the
    /// counted stanzas later and is dropped. Nothing but a server's own questions can come before initial presence.
    async fn manage(&self, wire: &mut Wire<Io>, early: &mut Vec<Element>) -> Result<Option<Management>, Stop> {
        let phase = "stream management";
        let enable = element("enable", NS_SM, &[("resume", "true")]);
        wire.send(&enable, phase).await?;
        loop {
            let answer = wire.element(phase).await?;
            if answer.is("failed", NS_SM) {
                return Ok(None);
            }
            if answer.is("enabled", NS_SM) {
                early.clear();
                let resumable = matches!(answer.attr("resume"), Some("true" | "1"));
                let id = answer.attr("id").filter(|id| resumable && !id.is_empty()).map(str::to_owned);
                return Ok(Some(Management { id, location: answer.attr("location").map(bounded) }));
            }
            keep_early(answer, early)?;
        }
    }
}

/// Redirects so far.
#[derive(Default)]
struct Hops(usize);

impl Hops {
    /// Where to go on: TLS again, by STARTTLS unless the redirect names a port to a client that came by direct TLS.
    fn follow(&mut self, place: &str, from: &Target) -> Result<Target, StreamEnd> {
        self.0 += 1;
        if self.0 > MAX_REDIRECTS {
            return Err(StreamEnd::TooManyRedirects);
        }
        let unusable = || StreamEnd::StreamError { condition: "see-other-host".to_owned(), text: Some(bounded(place)) };
        let (host, port) = parse_host(place).ok_or_else(unusable)?;
        Ok(Target { direct: from.direct && port != super::connect::DEFAULT_PORT, host, port })
    }
}

/// The channel binding data of RFC 9266, on TLS 1.3 only: earlier versions need more for it to be unique.
fn exporter(io: &Io) -> Option<[u8; 32]> {
    let connection = io.get_ref().1;
    if connection.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
        return None;
    }
    connection.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b"")).ok()
}

/// A reply to an IQ without `to` may come from nobody, the account or the server (RFC 6120 section 10.3.3, and what
/// the Messenger service did).
fn from_server(answer: &Element, up: &StreamUp, domain: &str) -> bool {
    let Some(from) = answer.attr("from").filter(|from| !from.is_empty()) else { return true };
    Address::parse(from).is_ok_and(|from| {
        let bare = from.bare.as_str();
        from.bare == up.account || bare == up.account.domain() || bare.eq_ignore_ascii_case(domain)
    })
}

fn keep_early(element: Element, early: &mut Vec<Element>) -> Result<(), StreamEnd> {
    if early.len() >= MAX_EARLY {
        return Err(StreamEnd::Lost { detail: "too much came before the session".to_owned() });
    }
    if is_stanza(&element) {
        early.push(element);
    }
    Ok(())
}

/// XEP-0198 counts these and nothing else.
pub fn is_stanza(element: &Element) -> bool {
    element.has_ns(NS_CLIENT) && matches!(element.name(), "message" | "presence" | "iq")
}

/// `h` of a stream management element.
pub fn handled(element: &Element) -> Option<u32> {
    element.attr("h").and_then(|h| h.trim().parse().ok())
}

fn max_bytes(features: &Element) -> Option<u32> {
    let limits = features.get_child("limits", NS_LIMITS)?;
    limits.get_child("max-bytes", NS_LIMITS)?.text().trim().parse().ok()
}

fn bind_refused(condition: &str) -> StreamEnd {
    let condition = if condition.is_empty() { "undefined-condition" } else { condition };
    StreamEnd::BindRefused { condition: bounded(condition) }
}

#[cfg(test)]
mod tests {
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    use super::*;

    #[tokio::test]
    async fn a_place_that_is_not_what_it_should_be_does_not_keep_us_from_the_next() {
        let shared = Shared { connector: super::super::Connector::new(), tls: super::super::Tls::new() };
        let (endpoint, timeouts) = (Endpoint::default(), Timeouts::default());
        let deadline = Instant::now() + timeouts.sign_in;
        let sign_in =
            SignIn { shared: &shared, endpoint: &endpoint, timeouts: &timeouts, domain: "capulet.lit", deadline };
        let (first, second) = (listener().await, listener().await);
        let target = |listener: &TcpListener| {
            let address = listener.local_addr().unwrap();
            Target { host: address.ip().to_string(), port: address.port(), direct: false }
        };
        let targets = vec![target(&first), target(&second)];
        let servers = async {
            let (mut io, _) = first.accept().await.unwrap();
            io.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await.unwrap();
            // The second is asked, and goes away.
            second.accept().await.unwrap();
        };
        let mut hops = Hops::default();
        let (end, ()) = tokio::join!(sign_in.secure(targets, None, &mut hops), servers);
        assert_eq!(end.err(), Some(StreamEnd::NotXmpp { host: "capulet.lit".to_owned() }));
    }

    async fn listener() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").await.unwrap()
    }

    #[test]
    fn replies_are_taken_from_nobody_the_account_and_the_server() {
        let up = StreamUp {
            account: BareJid::parse("juliet@capulet.lit").unwrap(),
            resource: String::new(),
            resumed: None,
            failed_h: None,
            management: None,
            max_bytes: None,
            roster_versioning: false,
            csi: false,
            keep: None,
            mechanism: String::new(),
        };
        let taken = |from: &str| from_server(&element("iq", NS_CLIENT, &[("from", from)]), &up, "capulet.lit");
        for from in ["", "juliet@capulet.lit", "Juliet@Capulet.lit/balcony", "capulet.lit", "CAPULET.LIT"] {
            assert!(taken(from), "{from}");
        }
        for from in ["mallory@capulet.lit", "evil.lit", "capulet.lit.evil.lit", "@"] {
            assert!(!taken(from), "{from}");
        }
    }
}
