//! Requests to where strangers point: every hop is resolved here, its addresses are checked, and the connection goes to one of
//! those that were checked and nowhere else, so that a name which means another address a moment later gains nothing.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use reqwest::{
    Body, Client, Method, Response, StatusCode,
    dns::{Name, Resolve, Resolving},
    header::{ACCEPT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, LOCATION},
    redirect::Policy,
};
use rustls::ClientConfig;
use tokio::time::timeout;
use url::{Host, Url};

use super::address::is_public;

/// Addresses of one name that are tried.
const ADDRESSES: usize = 8;

/// How far a request may go.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Resolving, and connecting with TLS, each.
    pub connect: Duration,
    /// From one piece of an answer to the next.
    pub idle: Duration,
    /// Redirects.
    pub redirects: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connect: Duration::from_secs(10), idle: Duration::from_secs(30), redirects: 3 }
    }
}

/// A host that may be private, and may be without TLS: as named in the address, or as resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// A name in lower case, or an IP address.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// Why there is no file. Each is the end of a sentence, and names no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebError {
    /// Not an address of the web.
    #[error("its address is not one of the web")]
    NoAddress,
    /// Neither TLS nor allowed without.
    #[error("its address is not secure (https)")]
    NotSecure,
    /// It is where only we could go.
    #[error("its address is a private one")]
    Private,
    /// The name is unknown, or cannot be looked up now.
    #[error("its server cannot be found")]
    NotFound,
    /// Too many redirects.
    #[error("its address leads on and on")]
    Redirects,
    /// An answer that is no success.
    #[error("{}", of_status(*.0))]
    Status(u16),
    /// It has more bytes than may be taken.
    #[error("it is too large")]
    TooLarge,
    /// Nothing came in time.
    #[error("its server does not answer in time")]
    Timeout,
    /// No connection, or one that broke.
    #[error("its server cannot be reached, or the connection broke")]
    Broken,
}

fn of_status(status: u16) -> String {
    match status {
        404 | 410 => "it is no longer there".to_owned(),
        401 | 403 => "its server does not give it to me".to_owned(),
        413 => "it is too large for its server".to_owned(),
        _ => format!("its server answers with an error ({status})"),
    }
}

impl WebError {
    /// Whether trying again can help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::NotFound | Self::Timeout | Self::Broken => true,
            Self::Status(status) => matches!(status, 408 | 425 | 429 | 500..),
            Self::NoAddress | Self::NotSecure | Self::Private | Self::Redirects | Self::TooLarge => false,
        }
    }
}

type LookingUp<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'a>>;

/// Finds the addresses of a name.
pub trait Lookup: Send + Sync {
    /// All of them, with the port.
    fn look_up<'a>(&'a self, host: &'a str, port: u16) -> LookingUp<'a>;
}

/// As the system does it.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemLookup;

impl Lookup for SystemLookup {
    fn look_up<'a>(&'a self, host: &'a str, port: u16) -> LookingUp<'a> {
        Box::pin(async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) })
    }
}

/// What a request's client asks for names that were not resolved beforehand: there are none.
struct Nothing;

impl Resolve for Nothing {
    fn resolve(&self, _: Name) -> Resolving {
        Box::pin(async { Err("every name is resolved beforehand".into()) })
    }
}

/// Makes requests. Cheap to clone.
#[derive(Clone)]
pub struct Web {
    lookup: Arc<dyn Lookup>,
    allowed: Arc<[Allowed]>,
    limits: Limits,
}

impl Web {
    /// `allowed`: what the operator lets strangers reach although it is private.
    pub fn new(lookup: Arc<dyn Lookup>, allowed: Vec<Allowed>, limits: Limits) -> Self {
        Self { lookup, allowed: allowed.into(), limits }
    }

    /// Fetches what lies at an address. Redirects are followed, each checked as the first.
    pub async fn get(&self, address: &str, tls: &ClientConfig) -> Result<Source, WebError> {
        let mut url = Url::parse(address).map_err(|_| WebError::NoAddress)?;
        for _ in 0..=self.limits.redirects {
            let client = self.client_for(&url, tls).await?;
            // A compressed answer could grow without end.
            let request = client.get(url.clone()).header(ACCEPT_ENCODING, "identity");
            let response = timeout(self.limits.connect + self.limits.idle, request.send()).await;
            let response = response.map_err(|_| WebError::Timeout)?.map_err(|error| transport(&error))?;
            let status = response.status();
            if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
                let place = response.headers().get(LOCATION).and_then(|place| place.to_str().ok());
                url = place.and_then(|place| url.join(place).ok()).ok_or(WebError::Status(status.as_u16()))?;
                continue;
            }
            if status != StatusCode::OK {
                return Err(WebError::Status(status.as_u16()));
            }
            return Ok(Source { response, idle: self.limits.idle });
        }
        Err(WebError::Redirects)
    }

    /// Puts `body`, of exactly `size` bytes, to an address. Redirects are not followed (XEP-0363 section 6).
    pub async fn put(
        &self,
        address: &str,
        headers: &[(String, String)],
        (mime, size): (&str, u64),
        body: Body,
        tls: &ClientConfig,
    ) -> Result<(), WebError> {
        let url = Url::parse(address).map_err(|_| WebError::NoAddress)?;
        let client = self.client_for(&url, tls).await?;
        let mut all = HeaderMap::new();
        for (name, value) in headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                all.insert(name, value);
            }
        }
        all.insert(CONTENT_TYPE, HeaderValue::try_from(mime).map_err(|_| WebError::NoAddress)?);
        all.insert(CONTENT_LENGTH, size.into());
        let request = client.request(Method::PUT, url).headers(all).body(body);
        let status = request.send().await.map_err(|error| transport(&error))?.status();
        if status.is_success() { Ok(()) } else { Err(WebError::Status(status.as_u16())) }
    }

    /// A client for one request to this address, which can reach the addresses that were checked and no other.
    async fn client_for(&self, url: &Url, tls: &ClientConfig) -> Result<Client, WebError> {
        let port = url.port_or_known_default().ok_or(WebError::NoAddress)?;
        let (name, found) = match url.host().ok_or(WebError::NoAddress)? {
            Host::Ipv4(address) => (None, vec![SocketAddr::new(address.into(), port)]),
            Host::Ipv6(address) => (None, vec![SocketAddr::new(address.into(), port)]),
            Host::Domain(name) => {
                let found = timeout(self.limits.connect, self.lookup.look_up(name, port)).await;
                let found = found.map_err(|_| WebError::NotFound)?.map_err(|_| WebError::NotFound)?;
                (Some(name), found)
            }
        };
        if found.is_empty() {
            return Err(WebError::NotFound);
        }
        let listed = |host: &str| self.allowed.iter().any(|allowed| allowed.port == port && allowed.host == host);
        let named = name.is_some_and(|name| listed(&name.to_ascii_lowercase()));
        let may_be_private = |address: &IpAddr| named || listed(&address.to_string());
        let mut reached: Vec<SocketAddr> = found.iter().map(|at| SocketAddr::new(at.ip(), port)).collect();
        match url.scheme() {
            "https" => reached.retain(|at| is_public(at.ip()) || may_be_private(&at.ip())),
            "http" => {
                reached.retain(|at| may_be_private(&at.ip()));
                if reached.is_empty() {
                    return Err(WebError::NotSecure);
                }
            }
            _ => return Err(WebError::NoAddress),
        }
        reached.truncate(ADDRESSES);
        if reached.is_empty() {
            return Err(WebError::Private);
        }
        let mut builder = Client::builder()
            .tls_backend_preconfigured(tls.clone())
            .connect_timeout(self.limits.connect)
            .redirect(Policy::none())
            .no_proxy()
            .referer(false)
            .dns_resolver(Nothing)
            .pool_max_idle_per_host(0)
            .user_agent(concat!("messenger-bridge/", env!("CARGO_PKG_VERSION")));
        if let Some(name) = name {
            builder = builder.resolve_to_addrs(name, &reached);
        }
        builder.build().map_err(|_| WebError::Broken)
    }
}

/// An answer whose body is still to come.
#[derive(Debug)]
pub struct Source {
    response: Response,
    idle: Duration,
}

impl Source {
    /// Bytes, where the server says it.
    pub fn size(&self) -> Option<u64> {
        self.response.content_length()
    }

    /// The media type that the server says.
    pub fn mime(&self) -> Option<&str> {
        self.response.headers().get(CONTENT_TYPE)?.to_str().ok()
    }

    /// The next piece; `None` at the end. A body that ends before the size that was said is an error.
    pub async fn next(&mut self) -> Result<Option<bytes::Bytes>, WebError> {
        let next = timeout(self.idle, self.response.chunk()).await.map_err(|_| WebError::Timeout)?;
        next.map_err(|error| transport(&error))
    }
}

fn transport(error: &reqwest::Error) -> WebError {
    if error.is_timeout() { WebError::Timeout } else { WebError::Broken }
}
