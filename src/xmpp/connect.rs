//! From a domain to a TCP connection: SRV records (RFC 6120 section 3.2.1, XEP-0368), fixed addresses, redirects.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hickory_resolver::{TokioResolver, config::LookupIpStrategy, proto::rr::RData};
use tokio::{
    net::{TcpStream, lookup_host},
    task::JoinSet,
    time::{Instant, timeout},
};

use super::tls::TlsMode;
use crate::domain::stream::StreamEnd;

/// The port of client connections (RFC 6120 section 14.7).
pub const DEFAULT_PORT: u16 = 5222;
/// The port that direct TLS is customarily found at; it has no registered one (XEP-0368).
pub const DIRECT_PORT: u16 = 5223;
/// Most places that are tried for one domain.
const MAX_TARGETS: usize = 8;
/// Most addresses of one place that are tried.
const MAX_ADDRESSES: usize = 8;
/// One address gets this long.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// After this long without an answer the next address is tried beside the last (RFC 8305 section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// All of one domain together; under the time that a sign-in has.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(20);
/// A name gets this long to resolve.
const DNS_TIMEOUT: Duration = Duration::from_secs(5);

/// A host and port to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Name or IP address.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// TLS from the first byte.
    pub direct: bool,
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Reads `host`, `host:port`, `v6`, `[v6]` or `[v6]:port`, in any case (RFC 6120 section 4.9.3.19). Without a port 5222.
/// `None` where it is no such thing.
pub fn parse_host(text: &str) -> Option<(String, u16)> {
    let text = text.trim();
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        host.parse::<std::net::Ipv6Addr>().ok()?;
        (host, rest.strip_prefix(':').or(rest.is_empty().then_some("")))
    } else if text.parse::<std::net::Ipv6Addr>().is_ok() {
        (text, Some(""))
    } else {
        let (host, port) = text.split_once(':').unwrap_or((text, ""));
        (host, Some(port))
    };
    let port = match port? {
        "" => DEFAULT_PORT,
        port => port.parse().ok().filter(|port| *port != 0)?,
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    let fits = !host.is_empty() && host.len() <= 253 && !host.contains(|c: char| c.is_whitespace() || c.is_control());
    fits.then(|| (host.to_ascii_lowercase(), port))
}

/// A domain as DNS and certificates know it (RFC 5890); `None` where it can be neither a name nor an address.
pub fn ascii(domain: &str) -> Option<String> {
    match url::Host::parse(domain).ok()? {
        url::Host::Domain(name) => Some(name),
        url::Host::Ipv4(address) => Some(address.to_string()),
        url::Host::Ipv6(address) => Some(address.to_string()),
    }
}

/// An SRV record (RFC 2782), of either service.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Record {
    priority: u16,
    weight: u16,
    target: Target,
}

/// Sorts as RFC 2782 says: priority ascending, within one at random by weight. `draw(n)` gives a number in `0..=n`.
fn in_order(mut records: Vec<Record>, mut draw: impl FnMut(u32) -> u32) -> Vec<Target> {
    // Weight 0 comes first, so that it has its small chance.
    records.sort_by_key(|record| (record.priority, record.weight));
    let mut targets = Vec::new();
    while let Some(first) = records.first() {
        let group = records.iter().take_while(|record| record.priority == first.priority).count();
        let total = records[..group].iter().map(|record| u32::from(record.weight)).sum();
        let drawn = draw(total);
        let mut sum = 0;
        let chosen = records[..group].iter().position(|record| {
            sum += u32::from(record.weight);
            sum >= drawn
        });
        targets.push(records.remove(chosen.unwrap_or(0)).target);
    }
    targets
}

/// How the places of a domain were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// The configuration names the place.
    Configured,
    /// DNS has SRV records.
    Records,
    /// DNS has none: it is the domain's own name and the usual port.
    NoRecords,
    /// DNS did not answer: the same.
    NoAnswer,
    /// It is an address or a name of this machine, for which DNS is not asked.
    NotAsked,
    /// DNS says that there is no such service.
    NotHere,
}

/// Finds places and connects to them.
pub struct Connector {
    /// `None` where the system's settings cannot be read: then the system's own resolver does what it can.
    resolver: Option<TokioResolver>,
}

impl Default for Connector {
    fn default() -> Self {
        Self::new()
    }
}

impl Connector {
    /// With the system's resolver settings.
    pub fn new() -> Self {
        let resolver = TokioResolver::builder_tokio().and_then(|mut builder| {
            let options = builder.options_mut();
            options.timeout = DNS_TIMEOUT / 2;
            options.attempts = 1;
            options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
            builder.build()
        });
        if let Err(error) = &resolver {
            tracing::warn!(%error, "no DNS settings: SRV records cannot be looked up");
        }
        Self { resolver: resolver.ok() }
    }

    /// Where the domain's service may be, best first.
    pub async fn targets(&self, domain: &str, mode: TlsMode) -> Result<Vec<Target>, StreamEnd> {
        self.find(domain, mode).await.1
    }

    /// The same, and how they were found.
    pub async fn find(&self, domain: &str, mode: TlsMode) -> (Found, Result<Vec<Target>, StreamEnd>) {
        let unknown = || StreamEnd::UnknownHost { host: domain.to_owned() };
        let Some(name) = ascii(domain) else { return (Found::NotAsked, Err(unknown())) };
        let fallback = Target {
            host: name.clone(),
            port: if mode == TlsMode::Direct { DIRECT_PORT } else { DEFAULT_PORT },
            direct: mode == TlsMode::Direct,
        };
        let local = name.parse::<IpAddr>().is_ok() || name == "localhost" || name.ends_with(".localhost");
        if local {
            return (Found::NotAsked, Ok(vec![fallback]));
        }
        let Some(resolver) = &self.resolver else { return (Found::NoAnswer, Ok(vec![fallback])) };
        let (plain, direct) = tokio::join!(
            service(resolver, &name, "_xmpp-client._tcp", false, mode != TlsMode::Direct),
            service(resolver, &name, "_xmpps-client._tcp", true, mode != TlsMode::StartTls),
        );
        let mut records = Vec::new();
        let (mut refused, mut silent) = (false, false);
        for found in [plain, direct] {
            match found {
                Service::Records(found) => records.extend(found),
                Service::NotHere => refused = true,
                Service::Silent => silent = true,
                Service::Nothing => {}
            }
        }
        if records.is_empty() {
            // "." is a definite "not here" (RFC 2782), silence is not.
            return match (refused, silent) {
                (true, _) => (Found::NotHere, Err(unknown())),
                (false, true) => (Found::NoAnswer, Ok(vec![fallback])),
                (false, false) => (Found::NoRecords, Ok(vec![fallback])),
            };
        }
        records.truncate(4 * MAX_TARGETS);
        let mut targets = in_order(records, |most| rand::random_range(0..=most));
        targets.truncate(MAX_TARGETS);
        (Found::Records, Ok(targets))
    }

    /// Connects to the first target that accepts; gives it beside the connection.
    pub async fn connect(&self, domain: &str, targets: &[Target]) -> Result<(TcpStream, Target), StreamEnd> {
        let deadline = Instant::now() + TOTAL_TIMEOUT;
        let mut last = StreamEnd::UnknownHost { host: domain.to_owned() };
        for target in targets {
            let left = deadline.saturating_duration_since(Instant::now());
            match timeout(left, self.connect_one(target)).await {
                Ok(Ok(io)) => return Ok((io, target.clone())),
                Ok(Err(end)) => last = end,
                Err(_) => {
                    let detail = "it did not answer in time".to_owned();
                    return Err(StreamEnd::Unreachable { host: target.to_string(), detail });
                }
            }
        }
        Err(last)
    }

    async fn connect_one(&self, target: &Target) -> Result<TcpStream, StreamEnd> {
        let addresses = self.addresses(target).await;
        if addresses.is_empty() {
            return Err(StreamEnd::UnknownHost { host: target.host.clone() });
        }
        let unreachable = |error: io::Error| StreamEnd::Unreachable { host: target.to_string(), detail: words(&error) };
        let io = race(&addresses).await.map_err(unreachable)?;
        io.set_nodelay(true).map_err(unreachable)?;
        Ok(io)
    }

    /// The addresses of a name, IPv6 and IPv4 in turn (RFC 8305 section 4). `/etc/hosts` counts.
    async fn addresses(&self, target: &Target) -> Vec<SocketAddr> {
        let host = target.host.as_str();
        if let Ok(address) = host.parse::<IpAddr>() {
            return vec![SocketAddr::new(address, target.port)];
        }
        let system = async {
            let found = lookup_host((host, target.port)).await;
            found.map(|found| found.map(|address| address.ip()).collect::<Vec<_>>()).unwrap_or_default()
        };
        let found = match &self.resolver {
            // A local name is the system's own affair (RFC 6761 section 6.3).
            Some(resolver) if host != "localhost" && !host.ends_with(".localhost") => {
                match timeout(DNS_TIMEOUT, resolver.lookup_ip(host)).await {
                    Ok(Ok(found)) => found.iter().collect(),
                    Ok(Err(_)) | Err(_) => Vec::new(),
                }
            }
            _ => timeout(DNS_TIMEOUT, system).await.unwrap_or_default(),
        };
        let (v6, v4): (Vec<_>, Vec<_>) = found.into_iter().partition(IpAddr::is_ipv6);
        let longest = v6.len().max(v4.len());
        let turns = (0..longest).flat_map(|n| [v6.get(n), v4.get(n)]).flatten();
        turns.take(MAX_ADDRESSES).map(|address| SocketAddr::new(*address, target.port)).collect()
    }
}

/// Connects to the first address that accepts (RFC 8305 section 5): the next is tried when the last refused, or has
/// been silent for a moment.
async fn race(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut attempts = JoinSet::new();
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    let mut rest = addresses.iter().copied();
    let mut next = rest.next();
    loop {
        if let Some(address) = next.take() {
            attempts.spawn(async move {
                timeout(CONNECT_TIMEOUT, TcpStream::connect(address))
                    .await
                    .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "it did not answer in time")))
            });
        }
        let more = rest.len() > 0;
        tokio::select! {
            done = attempts.join_next() => match done {
                Some(Ok(Ok(io))) => return Ok(io),
                Some(Ok(Err(error))) => { last = error; next = rest.next(); }
                Some(Err(error)) => { last = io::Error::other(error); next = rest.next(); }
                None => return Err(last),
            },
            () = tokio::time::sleep(ATTEMPT_DELAY), if more => next = rest.next(),
        }
    }
}

enum Service {
    Records(Vec<Record>),
    /// The target is ".": the service is decidedly not available at this domain.
    NotHere,
    /// DNS says that there is no record.
    Nothing,
    /// DNS says nothing.
    Silent,
}

async fn service(resolver: &TokioResolver, domain: &str, service: &str, direct: bool, wanted: bool) -> Service {
    if !wanted {
        return Service::Nothing;
    }
    let lookup = timeout(DNS_TIMEOUT, resolver.srv_lookup(format!("{service}.{domain}.")));
    let lookup = match lookup.await {
        Ok(Ok(lookup)) => lookup,
        Ok(Err(error)) if error.is_no_records_found() => return Service::Nothing,
        Ok(Err(_)) | Err(_) => return Service::Silent,
    };
    let all = lookup.answers().iter().filter_map(|record| match &record.data {
        RData::SRV(srv) => Some((srv.priority, srv.weight, srv.target.to_ascii(), srv.port)),
        _ => None,
    });
    let mut not_here = false;
    let records: Vec<_> = all
        .filter_map(|(priority, weight, target, port)| {
            let host = target.strip_suffix('.').unwrap_or(&target).to_ascii_lowercase();
            not_here |= host.is_empty();
            (!host.is_empty()).then_some(Record { priority, weight, target: Target { host, port, direct } })
        })
        .collect();
    match (records.is_empty(), not_here) {
        (false, _) => Service::Records(records),
        (true, true) => Service::NotHere,
        (true, false) => Service::Nothing,
    }
}

#[cfg(test)]
#[path = "connect_tests.rs"]
mod tests;

/// Why a connection failed, for a person: the usual causes in words, others as the system says them, without its number.
fn words(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
        io::ErrorKind::TimedOut => "it did not answer in time".to_owned(),
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => "there is no way to it".to_owned(),
        _ => error.to_string().split(" (os error").next().unwrap_or_default().to_owned(),
    }
}
