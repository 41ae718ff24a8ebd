//! `GET /metrics`: what the bridge is doing, in numbers, for Prometheus. On a port of its own (`metrics.listen`), for whoever may read
//! it is not whoever may speak to the bridge. Labels are closed sets; `docs/metrics.md` has every metric.

mod collect;
pub mod process;

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::{
    encoding::prometheus_text,
    metrics::{counter::Counter, histogram::Histogram},
    registry::Registry,
};
use tokio::sync::mpsc;

use crate::{
    domain::Input,
    engine::numbers::Numbers,
    matrix::{counters::Counters, presence_task::PresenceKeeper, tally::Tally},
};

/// The upper ends of the ranges of how long a batch takes, in seconds.
const BATCH: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// What the numbers are taken from.
#[derive(Debug)]
pub struct Sources {
    /// What the Matrix shell left out.
    pub counters: Arc<Counters>,
    /// Its calls.
    pub tally: Arc<Tally>,
    /// The presence budget.
    pub presence: Arc<PresenceKeeper>,
    /// Updates per second that the budget allows.
    pub presence_budget: f64,
    /// The engine's mailbox.
    pub mailbox: mpsc::Sender<Input>,
    /// The store's folder.
    pub store: PathBuf,
}

/// The metrics of the process.
pub struct Metrics {
    registry: Registry,
    numbers: Arc<Mutex<Numbers>>,
    batch: Histogram,
    commit: Histogram,
    commit_failures: Counter,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Metrics {
    /// Over these sources. What the engine gives out comes with [`Metrics::publish`].
    pub fn new(sources: Sources) -> Arc<Self> {
        let numbers = Arc::new(Mutex::new(Numbers::default()));
        let mut registry = Registry::default();
        let (batch, commit, commit_failures) = (Histogram::new(BATCH), Histogram::new(BATCH), Counter::default());
        registry.register(
            "messenger_bridge_batch_seconds",
            "How long the engine took to handle one batch of what happened, without the commit",
            batch.clone(),
        );
        registry.register(
            "messenger_bridge_commit_seconds",
            "How long it took to see what is due and to have all of it on the disk",
            commit.clone(),
        );
        registry.register(
            "messenger_bridge_commit_failures",
            "Commits that failed and were tried again: nothing goes on meanwhile",
            commit_failures.clone(),
        );
        registry.register_collector(Box::new(collect::Collect { sources, numbers: Arc::clone(&numbers) }));
        Arc::new(Self { registry, numbers, batch, commit, commit_failures })
    }

    /// The engine's numbers, from now on.
    pub fn publish(&self, numbers: Numbers) {
        *self.numbers.lock().unwrap_or_else(PoisonError::into_inner) = numbers;
    }

    /// A batch was handled in this time.
    pub fn handled(&self, took: Duration) {
        self.batch.observe(took.as_secs_f64());
    }

    /// A commit was made in this time.
    pub fn committed(&self, took: Duration) {
        self.commit.observe(took.as_secs_f64());
    }

    /// A commit failed.
    pub fn commit_failed(&self) {
        self.commit_failures.inc();
    }

    /// All of it, in Prometheus' text format.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// The one endpoint.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new().route("/metrics", get(show)).with_state(Arc::clone(self))
    }
}

async fn show(State(metrics): State<Arc<Metrics>>) -> Response {
    // The store's folder is looked at.
    let text = tokio::task::spawn_blocking(move || metrics.text()).await;
    match text {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, prometheus_text::CONTENT_TYPE)], text).into_response(),
        _ => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}
