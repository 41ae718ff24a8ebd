//! The XMPP shell: opens streams, signs in, carries stanzas. It holds no rules; what is said on a stream is the
//! engine's.
//!
//! ```text
//! connect, tls, sasl/   a place, a secured connection, a proof of who one is
//! wire, sign_in         from there to a session, bound or resumed
//! guard, transport      what the library's `xmlstream` is fed, within bounds
//! element               what it is given to write
//! stream                the task of a stream that is up
//! oauth                 tokens for the networks that want them
//! ```

mod acks;
pub mod connect;
pub mod element;
pub mod guard;
pub mod oauth;
pub mod sasl;
mod sign_in;
mod stream;
pub mod tls;
mod transport;
mod wire;

pub use self::transport::cuts;

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures::StreamExt as _;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use self::{
    connect::{Connector, Found, Target},
    oauth::OAuthSettings,
    sign_in::SignIn,
    stream::Live,
    tls::{Tls, TlsSettings},
};
use crate::domain::{
    StreamId,
    input::Answer,
    output::Ask,
    stream::{ConnectOrder, StreamEnd, StreamOrder, StreamReport},
};

/// Orders that may wait for one stream. A stream that falls further behind is ended: what was not acknowledged is owed
/// still and is paid on the next one.
pub const MAX_ORDERS: usize = 256;

/// Domains that are tried at once by [`Xmpp::probe`].
const PROBES_AT_ONCE: usize = 8;

/// Where a domain's service is and how its TLS is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// `host:port` instead of SRV records.
    pub address: Option<String>,
    /// TLS.
    pub tls: TlsSettings,
}

/// How long things may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// The whole way from the domain's name to a session.
    pub sign_in: Duration,
    /// One step of it.
    pub step: Duration,
    /// After this long without a sign of life the server is asked for one.
    pub keepalive: Duration,
    /// The sign of life must come within this.
    pub answer: Duration,
    /// The server must take something of what we write within this, and confirm it within as long again.
    pub write: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            sign_in: Duration::from_secs(29),
            step: Duration::from_secs(10),
            keepalive: Duration::from_mins(1),
            answer: Duration::from_secs(30),
            write: Duration::from_mins(1),
        }
    }
}

/// What the shell needs to know of a configured network.
#[derive(Clone, Debug, Default)]
pub struct NetworkSettings {
    /// The domain of a network that is one service; `None` where logins bring their own.
    pub domain: Option<String>,
    /// Where it is.
    pub endpoint: Endpoint,
    /// Domains that are elsewhere or have their own TLS.
    pub domains: HashMap<String, Endpoint>,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// The network's OAuth provider.
    pub oauth: Option<OAuthSettings>,
}

impl NetworkSettings {
    fn endpoint(&self, domain: &str) -> &Endpoint {
        let own = self.domains.get(domain).or_else(|| {
            let found = self.domains.iter().find(|(name, _)| name.eq_ignore_ascii_case(domain));
            found.map(|(_, endpoint)| endpoint)
        });
        own.unwrap_or(&self.endpoint)
    }
}

struct Shared {
    connector: Connector,
    tls: Tls,
}

/// The XMPP shell of the process. Cheap to clone.
#[derive(Clone)]
pub struct Xmpp {
    shared: Arc<Shared>,
    networks: Arc<HashMap<String, NetworkSettings>>,
}

/// What came of trying a domain.
#[derive(Clone, Debug)]
pub struct Probed {
    /// The domain.
    pub domain: String,
    /// How its places were found.
    pub found: Found,
    /// Its places, best first.
    pub targets: Vec<Target>,
    /// What answered at one of them.
    pub reached: Result<Reached, StreamEnd>,
}

/// A server under TLS.
#[derive(Clone, Debug)]
pub struct Reached {
    /// Where and how, for a person.
    pub line: String,
    /// The certificate that it showed, in DER.
    pub certificate: Vec<u8>,
}

/// The stream has ended or is about to; its `Down` tells why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the stream has ended")]
pub struct Ended;

/// Orders a stream. Dropping it suspends the stream.
#[derive(Debug)]
pub struct StreamHandle {
    orders: mpsc::Sender<StreamOrder>,
    overrun: CancellationToken,
}

impl StreamHandle {
    /// Gives an order, never waiting. At most [`MAX_ORDERS`] wait; one more ends the stream.
    pub fn send(&self, order: StreamOrder) -> Result<(), Ended> {
        self.orders.try_send(order).map_err(|_| {
            self.overrun.cancel();
            Ended
        })
    }
}

impl Xmpp {
    /// `networks`: by their names in the configuration. Reads the system's roots and DNS settings.
    pub fn new(networks: HashMap<String, NetworkSettings>) -> Self {
        let shared = Shared { connector: Connector::new(), tls: Tls::new() };
        Self { shared: Arc::new(shared), networks: Arc::new(networks) }
    }

    /// Opens a stream in a task of its own. Its reports go to `reports`; when that is full nothing is read. The last
    /// is `Down`, always. Must be called within a tokio runtime.
    pub fn spawn(
        &self,
        stream: StreamId,
        order: ConnectOrder,
        reports: mpsc::Sender<(StreamId, StreamReport)>,
    ) -> StreamHandle {
        let (sender, mut orders) = mpsc::channel(MAX_ORDERS);
        let overrun = CancellationToken::new();
        let (xmpp, behind) = (self.clone(), overrun.clone());
        let carried = async move {
            let end = tokio::select! {
                end = xmpp.run(stream, order, &mut orders, &reports) => end,
                () = behind.cancelled() => StreamEnd::TimedOut { phase: "taking what we send".to_owned() },
            };
            tracing::debug!(%stream, %end, "stream down");
            // Nobody to tell means that the process is ending.
            let _ = reports.send((stream, StreamReport::Down(end))).await;
        };
        // Whoever opens it has a span for it.
        tokio::spawn(carried.in_current_span());
        StreamHandle { orders: sender, overrun }
    }

    async fn run(
        &self,
        stream: StreamId,
        order: ConnectOrder,
        orders: &mut mpsc::Receiver<StreamOrder>,
        reports: &mpsc::Sender<(StreamId, StreamReport)>,
    ) -> StreamEnd {
        let Some(network) = self.networks.get(&order.network) else {
            return StreamEnd::UnknownHost { host: order.domain };
        };
        let mut held = Vec::new();
        let session = {
            // On the heap, so that it is gone once the stream is up.
            let mut signing_in = Box::pin(async {
                sleep(Duration::from_millis(order.delay)).await;
                let sign_in = self.sign_in(network, &order.domain);
                let late = |_| StreamEnd::TimedOut { phase: "signing in".to_owned() };
                timeout_at(sign_in.deadline, sign_in.run(&order)).await.map_err(late)?
            });
            loop {
                tokio::select! {
                    session = &mut signing_in => match session {
                        Ok(session) => break session,
                        Err(end) => return end,
                    },
                    early = orders.recv(), if held.len() < MAX_ORDERS => match early {
                        None | Some(StreamOrder::Close | StreamOrder::Suspend) => return StreamEnd::Closed,
                        Some(early) => held.push(early),
                    },
                }
            }
        };
        tracing::debug!(%stream, mechanism = %session.up.mechanism, resumed = session.up.resumed.is_some(), "stream up");
        let inbound = match &order.resume {
            Some(resume) if session.up.resumed.is_some() => resume.inbound,
            _ => 0,
        };
        let live = Live { stream, domain: &order.domain, timeouts: &network.timeouts, orders, reports };
        live.run(session.wire.into_stream(), session.up, session.early, inbound, held).await
    }

    fn sign_in<'a>(&'a self, network: &'a NetworkSettings, domain: &'a str) -> SignIn<'a> {
        SignIn {
            shared: &self.shared,
            endpoint: network.endpoint(domain),
            timeouts: &network.timeouts,
            domain,
            deadline: Instant::now() + network.timeouts.sign_in,
        }
    }

    /// Resolves and connects the domains of a network, up to their features under TLS, for the `check` command. A network whose
    /// logins bring their own domains is tried at those that are configured, perhaps none.
    pub async fn probe(&self, network: &str) -> Vec<Probed> {
        let Some(network) = self.networks.get(network) else { return Vec::new() };
        let mut domains: Vec<String> = network.domain.iter().chain(network.domains.keys()).cloned().collect();
        domains.sort();
        let probes = domains.into_iter().map(|domain| self.probe_domain(network, domain));
        futures::stream::iter(probes).buffered(PROBES_AT_ONCE).collect().await
    }

    async fn probe_domain(&self, network: &NetworkSettings, domain: String) -> Probed {
        let sign_in = self.sign_in(network, &domain);
        let late = |_| StreamEnd::TimedOut { phase: "connecting".to_owned() };
        let (found, targets) = sign_in.find().await;
        let reached = match targets.clone() {
            Ok(targets) => timeout_at(sign_in.deadline, sign_in.probe(targets)).await.map_err(late).flatten(),
            Err(end) => Err(end),
        };
        let reached = reached.map(|secured| Reached { line: secured.describe(), certificate: secured.certificate() });
        Probed { found, targets: targets.unwrap_or_default(), reached, domain }
    }

    /// Answers a question of the engine about a network's OAuth provider.
    pub async fn answer(&self, ask: Ask) -> Answer {
        let (Ask::BeginOAuth { network, .. } | Ask::RedeemCode { network, .. } | Ask::Refresh { network, .. }) = &ask;
        match self.networks.get(network).and_then(|network| network.oauth.as_ref()) {
            Some(settings) => oauth::answer(settings, &self.shared.tls, ask).await,
            None => Answer::OAuthFailed {
                refused: true,
                sentence: "this network is not configured for signing in with a link".to_owned(),
            },
        }
    }
}
