//! Who listens where the homeserver sends to: this process, or a bridge that runs already and tells what it has seen.

use std::{io::Write, net::SocketAddr, sync::Arc, time::Duration};

use secrecy::ExposeSecret;
use tokio::net::TcpListener;

use super::report::Report;
use crate::{
    app::health,
    config::Config,
    domain::credentials::Secret,
    matrix::{
        appservice::{AppService, SEEN_PATH, Seen},
        start::{Check, Finding},
    },
    registration::Registration,
};
/// What a running bridge may take to answer; it waits for news for less.
const SEEN_PATIENCE: Duration = Duration::from_secs(10);

/// Whom the homeserver's requests reach.
pub enum Listening {
    /// This process.
    Here(Arc<AppService>),
    /// A bridge that runs with this configuration.
    Running(Running),
    /// Something else.
    Nobody,
}

/// Opens the port that the homeserver sends to, or finds out who has it.
pub async fn listen<W: Write>(
    report: &mut Report<W>,
    config: &Config,
    registration: &Registration,
    service: &Arc<AppService>,
    running: bool,
) -> Listening {
    let at = config.appservice.listen;
    if running {
        let running = Running { at, hs_token: Secret::new(registration.hs_token.expose_secret()) };
        return match running.seen(None).await {
            Err(Unseen::Refused) => {
                report.fail(
                    "listener",
                    format!("at {at} (appservice.listen) a bridge runs with another registration: it does not take our hs_token."),
                    "Set appservice.listen in config.yaml to a port of its own, or start the bridge that runs again with this \
                     registration.yaml.",
                );
                Listening::Nobody
            }
            Ok(_) | Err(Unseen::Unknown) => {
                report.ok("listener", format!("the bridge is running on {at}."));
                Listening::Running(running)
            }
        };
    }
    match TcpListener::bind(at).await {
        Ok(listener) => {
            report.ok("listener", format!("{at} is free."));
            let router = service.router();
            tokio::spawn(async move { axum::serve(listener, router).await });
            Listening::Here(Arc::clone(service))
        }
        Err(error) => {
            let why = super::without_number(&error);
            report.fail(
                "listener",
                format!("cannot listen on {at} (appservice.listen): {why}."),
                "Stop what listens there, or set another appservice.listen in config.yaml.",
            );
            Listening::Nobody
        }
    }
}

impl Listening {
    /// What whoever listens has seen. `after`: it waits a moment for more transactions than so many.
    pub async fn seen(&self, after: Option<u64>) -> Option<Seen> {
        match self {
            Self::Here(service) => match after {
                Some(after) => Some(service.seen(after).await),
                None => Some(Seen::default()),
            },
            Self::Running(running) => running.seen(after).await.ok(),
            Self::Nobody => None,
        }
    }
}

/// A bridge that runs.
pub struct Running {
    at: SocketAddr,
    hs_token: Secret,
}

/// Why a running bridge does not tell.
enum Unseen {
    /// It has another `hs_token`.
    Refused,
    /// It is of a version that tells nothing.
    Unknown,
}

impl Running {
    async fn seen(&self, after: Option<u64>) -> Result<Seen, Unseen> {
        let client =
            reqwest::Client::builder().no_proxy().timeout(SEEN_PATIENCE).build().map_err(|_| Unseen::Unknown)?;
        let after = after.map(|after| format!("?after={after}")).unwrap_or_default();
        let url = format!("http://{}{SEEN_PATH}{after}", health::reachable(self.at));
        let answer = client.get(url).bearer_auth(self.hs_token.expose()).send().await.map_err(|_| Unseen::Unknown)?;
        match answer.status().as_u16() {
            200 => {
                let body = answer.bytes().await.map_err(|_| Unseen::Unknown)?;
                serde_json::from_slice(&body).map_err(|_| Unseen::Unknown)
            }
            401 | 403 => Err(Unseen::Refused),
            _ => Err(Unseen::Unknown),
        }
    }
}

/// The ping was taken by another process. Gives whether it is the one that should take it.
pub async fn elsewhere<W: Write>(
    report: &mut Report<W>,
    listening: &Listening,
    finding: &Finding,
    nonce: &str,
) -> bool {
    let what = Check::Ping.to_string();
    let well = match listening {
        Listening::Running(running) => match running.seen(None).await {
            Ok(seen) => seen.ping.as_deref() == Some(nonce),
            // It cannot be told from another.
            Err(Unseen::Unknown) => true,
            Err(Unseen::Refused) => false,
        },
        Listening::Here(_) | Listening::Nobody => false,
    };
    if well {
        report.ok(&what, "The homeserver reaches the running bridge.");
    } else {
        report.fail(&what, finding, finding.remedy());
    }
    well
}
