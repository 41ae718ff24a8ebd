//! How the bridge and its logins are, kept for `whoami`, and told to `homeserver.status_endpoint` as mautrix's bridgev2 does
//! (`BridgeState.SendHTTP`): by POST with the `as_token`, the newest state of each login, again before it ends to hold.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;
use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::domain::{
    LoginId, Timestamp,
    bridge_state::{BridgeState, StateEvent},
    credentials::Secret,
};

/// So many logins are kept. Beyond, a new one is not told: whoever has so many needs another bridge.
const LOGINS: usize = 100_000;
/// How long one request may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The first pause after one that failed; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(64);

/// A login; `None` is the bridge itself.
type Whose = Option<LoginId>;

#[derive(Debug)]
struct Entry {
    state: BridgeState,
    /// Counts the changes.
    version: u64,
    /// When it is to be told: at once, after a pause, or before it ends to hold.
    due: Instant,
    /// How often it could not be told.
    failures: u32,
}

/// The newest states.
#[derive(Debug, Default)]
pub struct StatusBoard {
    entries: Mutex<BTreeMap<Whose, Entry>>,
    news: Notify,
}

impl StatusBoard {
    /// A new state takes the place of the one before.
    pub fn put(&self, state: BridgeState) {
        let whose = state.remote.as_ref().map(|remote| remote.login.clone());
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get_mut(&whose) {
            *entry = Entry { state, version: entry.version + 1, due: Instant::now(), failures: 0 };
        } else if entries.len() <= LOGINS {
            entries.insert(whose, Entry { state, version: 0, due: Instant::now(), failures: 0 });
        } else {
            tracing::warn!("too many logins: the state of one is not told");
        }
        drop(entries);
        self.news.notify_one();
    }

    /// The newest state of a login that is not signed out.
    pub fn latest(&self, login: &LoginId) -> Option<BridgeState> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &entries.get(&Some(login.clone()))?.state;
        (state.event != StateEvent::LoggedOut).then(|| state.clone())
    }

    /// What is due first, and when.
    fn next(&self) -> Option<(Whose, u64, BridgeState, Instant)> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let first = entries.iter().min_by_key(|(_, entry)| entry.due)?;
        let (whose, Entry { state, version, due, .. }) = first;
        Some((whose.clone(), *version, state.clone(), *due))
    }

    /// Something was told. If it is still the newest it is told again before it ends to hold; who has signed out is forgotten.
    fn told(&self, whose: &Whose, version: u64) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entry) = entries.get_mut(whose) else { return };
        if entry.version != version {
            return;
        }
        if entry.state.event == StateEvent::LoggedOut {
            entries.remove(whose);
        } else {
            entry.due = Instant::now() + Duration::from_secs(entry.state.ttl()) / 10 * 9;
            entry.failures = 0;
        }
    }

    /// It could not be told. Others are not held up by it.
    fn untold(&self, whose: &Whose) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get_mut(whose) {
            entry.due =
                Instant::now() + (FIRST_PAUSE * 2_u32.saturating_pow(entry.failures.min(16))).min(LONGEST_PAUSE);
            entry.failures = entry.failures.saturating_add(1);
        }
    }

    /// Tells nobody: only `whoami` shows states.
    pub async fn keep(self: Arc<Self>) {
        loop {
            match self.next() {
                Some((whose, version, _, due)) if due <= Instant::now() => self.told(&whose, version),
                _ => self.news.notified().await,
            }
        }
    }

    /// Tells the endpoint every state that is due, one at a time; what cannot be told is tried again, with growing pauses.
    pub async fn tell(self: Arc<Self>, endpoint: Endpoint) {
        let mut works = true;
        loop {
            let Some((whose, version, state, due)) = self.next() else {
                self.news.notified().await;
                continue;
            };
            if due > Instant::now() {
                tokio::select! {
                    () = sleep_until(due) => {}
                    () = self.news.notified() => {}
                }
                continue;
            }
            // As bridgev2: where there is a network at all it is over in a moment.
            if state.event == StateEvent::Connecting {
                self.told(&whose, version);
                continue;
            }
            let told = endpoint.post(&state).await;
            match &told {
                Ok(()) => self.told(&whose, version),
                Err(_) => self.untold(&whose),
            }
            if let (true, Err(why)) = (works, &told) {
                tracing::warn!("bridge states cannot be told to homeserver.status_endpoint: {why}; it is tried again");
            } else if !works && told.is_ok() {
                tracing::info!("bridge states are told to homeserver.status_endpoint again");
            }
            works = told.is_ok();
        }
    }
}

/// Where states are told.
#[derive(Debug)]
pub struct Endpoint {
    http: reqwest::Client,
    url: String,
    as_token: Secret,
}

impl Endpoint {
    /// A rustls provider must have been installed in the process before.
    ///
    /// # Errors
    /// No client for HTTP can be made.
    pub fn new(url: &str, as_token: Secret) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .timeout(PATIENCE)
            // The token goes to the configured address and nowhere else.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .user_agent(concat!("messenger-bridge/", env!("CARGO_PKG_VERSION"), " (bridge state sender)"))
            .build()?;
        Ok(Self { http, url: url.to_owned(), as_token })
    }

    async fn post(&self, state: &BridgeState) -> Result<(), String> {
        let mut json: Value = state.to_json();
        // Of one that is told again the time is that of now: else it would have ended to hold already.
        json["timestamp"] = now().max(state.at).0.div_euclid(1000).into();
        let request = self.http.post(&self.url).bearer_auth(self.as_token.expose());
        let request = request.header("content-type", "application/json").body(json.to_string());
        let answer = request.send().await.map_err(|error| error.without_url().to_string())?;
        if answer.status().is_success() { Ok(()) } else { Err(format!("it answered {}", answer.status().as_u16())) }
    }
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// The state of the process that starts.
pub fn starting() -> BridgeState {
    BridgeState::of_bridge(StateEvent::Starting, now())
}
