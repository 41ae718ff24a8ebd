//! A raw XMPP client: it says what it is told and shows what it gets.
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::SOON;
use crate::messenger_service::wire::{CLIENT, Frame, Framer, Node, STANZA_ERRORS, STREAM, STREAM_ERRORS};
use crate::messenger_service::{Account, Service};

pub const DOMAIN: &str = "messenger.live.com";
const HEADER: &str = "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
    xmlns:stream='http://etherx.jabber.org/streams' to='messenger.live.com' version='1.0'>";

enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

pub struct Client {
    socket: Socket,
    framer: Framer,
    pub jid: String,
    ids: u32,
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        let tcp = TcpStream::connect(address).await.unwrap();
        Self { socket: Socket::Plain(tcp), framer: Framer::default(), jid: String::new(), ids: 0 }
    }

    pub async fn send(&mut self, text: &str) {
        match &mut self.socket {
            Socket::Plain(tcp) => tcp.write_all(text.as_bytes()).await.unwrap(),
            Socket::Tls(tls) => {
                tls.write_all(text.as_bytes()).await.unwrap();
                tls.flush().await.unwrap();
            }
        }
    }

    /// The same, for when the server may already be gone; says whether it was taken.
    pub async fn try_send(&mut self, text: &str) -> bool {
        match &mut self.socket {
            Socket::Plain(tcp) => tcp.write_all(text.as_bytes()).await.is_ok(),
            Socket::Tls(tls) => tls.write_all(text.as_bytes()).await.is_ok() && tls.flush().await.is_ok(),
        }
    }

    /// The next frame; none at the connection's end.
    pub async fn frame(&mut self) -> Option<Frame> {
        timeout(SOON, async {
            loop {
                if let Some(frame) = self.framer.next(usize::MAX).unwrap() {
                    return Some(frame);
                }
                let mut bytes = [0; 8192];
                let read = match &mut self.socket {
                    Socket::Plain(tcp) => tcp.read(&mut bytes).await,
                    Socket::Tls(tls) => tls.read(&mut bytes).await,
                };
                match read {
                    Ok(count @ 1..) => self.framer.push(&bytes[..count]),
                    _ => return None,
                }
            }
        })
        .await
        .expect("the service sent nothing")
    }

    pub async fn stanza(&mut self) -> Node {
        match self.frame().await {
            Some(Frame::Stanza(stanza)) => stanza,
            other => panic!("not a stanza: {other:?}"),
        }
    }

    /// Opens a stream; what the server sends first.
    pub async fn open(&mut self) -> Node {
        self.framer = Framer::default();
        self.send(HEADER).await;
        let Some(Frame::Header(header)) = self.frame().await else { panic!("no header") };
        assert_eq!(header.attr("from"), Some(DOMAIN));
        self.stanza().await
    }

    /// STARTTLS, with a check of the certificate against `name`.
    pub async fn secure(&mut self, service: &Service, name: &str) -> std::io::Result<()> {
        assert!(self.open().await.child("starttls", "urn:ietf:params:xml:ns:xmpp-tls").is_some());
        self.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>").await;
        assert_eq!(self.stanza().await.name, "proceed");
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(service.ca_pem().as_bytes()).unwrap()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let Socket::Plain(tcp) = std::mem::replace(&mut self.socket, Socket::Plain(dummy().await)) else {
            panic!("twice")
        };
        let name = ServerName::try_from(name.to_owned()).unwrap();
        self.socket = Socket::Tls(Box::new(TlsConnector::from(Arc::new(config)).connect(name, tcp).await?));
        Ok(())
    }

    /// A TLS connection; the first thing on its stream.
    pub async fn up_to_features(service: &Service, address: SocketAddr) -> (Self, Node) {
        let mut client = Self::connect(address).await;
        client.secure(service, DOMAIN).await.unwrap();
        let first = client.open().await;
        (client, first)
    }

    /// The answer to a token: `<success/>` or `<failure/>`.
    pub async fn auth(&mut self, token: &str) -> Node {
        self.send(&format!(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='X-MESSENGER-OAUTH2'>{token}</auth>"
        ))
        .await;
        self.stanza().await
    }

    /// From `<success/>` to the bound session.
    pub async fn bind(&mut self, resource: &str) -> Node {
        assert!(self.open().await.child("bind", "urn:ietf:params:xml:ns:xmpp-bind").is_some());
        let inside = format!("<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>{resource}</resource></bind>");
        let reply = self.iq("set", None, &inside).await;
        self.jid = reply.children[0].children[0].text.clone();
        reply
    }

    pub async fn signed_in(service: &Service, account: &Account) -> Self {
        let token = service.access_token(&account.jid, Duration::from_mins(1)).unwrap();
        let (mut client, _) = Self::up_to_features(service, service.xmpp_addr()).await;
        assert_eq!(client.auth(&token).await.name, "success");
        client.bind("test").await;
        client
    }

    /// Sends an IQ and gives its answer; other stanzas in between are passed over.
    pub async fn iq(&mut self, kind: &str, to: Option<&str>, inside: &str) -> Node {
        self.ids += 1;
        let id = format!("i{}", self.ids);
        let to = to.map(|to| format!(" to='{to}'")).unwrap_or_default();
        self.send(&format!("<iq type='{kind}' id='{id}'{to}>{inside}</iq>")).await;
        self.wait(|stanza| stanza.name == "iq" && stanza.attr("id") == Some(&id)).await
    }

    /// Whether all that was sent before has been handled: a ping's answer comes after it.
    pub async fn settle(&mut self) -> Vec<Node> {
        self.ids += 1;
        let id = format!("settle{}", self.ids);
        self.send(&format!("<iq type='get' id='{id}'><ping xmlns='urn:xmpp:ping'/></iq>")).await;
        let mut seen = Vec::new();
        loop {
            let stanza = self.stanza().await;
            if stanza.attr("id") == Some(&id) {
                return seen;
            }
            seen.push(stanza);
        }
    }

    pub async fn wait(&mut self, wanted: impl Fn(&Node) -> bool) -> Node {
        loop {
            let stanza = self.stanza().await;
            if wanted(&stanza) {
                return stanza;
            }
        }
    }

    pub async fn message(&mut self) -> Node {
        self.wait(|stanza| stanza.name == "message").await
    }
}

/// Takes the place of a socket that is being upgraded.
async fn dummy() -> TcpStream {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    TcpStream::connect(listener.local_addr().unwrap()).await.unwrap()
}

/// The condition of an error stanza.
pub fn condition(stanza: &Node) -> &str {
    let error = stanza.child("error", CLIENT).unwrap_or_else(|| panic!("no error: {stanza:?}"));
    error.children.iter().find(|child| child.ns == STANZA_ERRORS).map_or("", |child| &child.name)
}

/// Condition, the condition's own text, and text of a stream error.
pub fn stream_error(stanza: &Node) -> (&str, &str, &str) {
    assert!(stanza.is("error", STREAM), "{stanza:?}");
    let condition = &stanza.children[0];
    assert_eq!(condition.ns, STREAM_ERRORS);
    let text = stanza.children.iter().find(|child| child.name == "text").map_or("", |child| &child.text);
    (&condition.name, &condition.text, text)
}

/// A message's body.
pub fn body(stanza: &Node) -> Option<&str> {
    stanza.child("body", CLIENT).map(|body| body.text.as_str())
}
