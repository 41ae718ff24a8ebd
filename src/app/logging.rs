//! Logs, on stderr.

use tracing::Subscriber;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, fmt};

use crate::config::{LogFormat, LogLevel, Logging};
use crate::domain::verbosity::Verbosity;

/// Whose lines are shown at the configured level. Other crates log whole stanzas, headers, bodies and credentials at their finer levels, and
/// the next version of one may do what this one does not: none of them is ever shown below `warn`.
const OURS: &str = "messenger_bridge::";

/// How much the log shows, for whoever changes that while the process runs.
#[derive(Clone, Debug)]
pub struct Level(reload::Handle<Targets, Registry>);

impl Level {
    /// Shows so much from now on. Other crates stay capped.
    pub fn set(&self, level: Verbosity) {
        match self.0.reload(filter(level)) {
            Ok(()) => tracing::info!(level = level.name(), "the log level was changed"),
            // The subscriber is the process' own and never goes.
            Err(error) => tracing::error!(%error, "the log level cannot be changed"),
        }
    }
}

impl From<LogLevel> for Verbosity {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::Error,
            LogLevel::Warn => Self::Warn,
            LogLevel::Info => Self::Info,
            LogLevel::Debug => Self::Debug,
            LogLevel::Trace => Self::Trace,
        }
    }
}

/// Begins logging. The environment (`RUST_LOG`) has no say, so that it cannot lift a cap.
pub fn init(config: Logging) -> Result<Level, TryInitError> {
    let (subscriber, level) = subscriber(config, std::io::stderr);
    subscriber.try_init()?;
    Ok(level)
}

fn subscriber<W>(config: Logging, writer: W) -> (impl Subscriber + Send + Sync, Level)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_writer(writer).with_ansi(false);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match config.format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    let (filter, handle) = reload::Layer::new(filter(config.level.into()));
    (tracing_subscriber::registry().with(layer.with_filter(filter)), Level(handle))
}

fn filter(level: Verbosity) -> Targets {
    let level = match level {
        Verbosity::Error => LevelFilter::ERROR,
        Verbosity::Warn => LevelFilter::WARN,
        Verbosity::Info => LevelFilter::INFO,
        Verbosity::Debug => LevelFilter::DEBUG,
        Verbosity::Trace => LevelFilter::TRACE,
    };
    let cap = level.min(LevelFilter::WARN);
    Targets::new().with_default(cap).with_target(OURS, level)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// What is logged while `work` runs.
    fn logged(level: LogLevel, format: LogFormat, work: impl FnOnce(&Level)) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let (subscriber, handle) = subscriber(Logging { level, format }, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || work(&handle));
        let bytes = captured.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn stanzas_are_never_shown_whatever_the_level() {
        let text = logged(LogLevel::Trace, LogFormat::Text, |_| {
            tracing::trace!(target: "tokio_xmpp::xmlstream::common", "<auth>hunter2</auth>");
            tracing::debug!(target: "rxml", "hunter2");
            tracing::trace!(target: "html5ever::tokenizer", "hunter2");
            tracing::info!(target: "reqwest::connect", "hunter2");
            tracing::trace!(target: "a_crate_that_came_yesterday", "hunter2");
            tracing::trace!(target: "messenger_bridge_lookalike", "hunter2");
            tracing::warn!(target: "rustls::client", "a bad certificate");
            tracing::trace!("our own");
        });
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("a bad certificate") && text.contains("our own"), "{text}");
    }

    #[test]
    fn the_level_holds_for_all() {
        let text = logged(LogLevel::Error, LogFormat::Text, |_| {
            tracing::warn!("ours");
            tracing::warn!(target: "rustls", "theirs");
            tracing::error!("grave");
        });
        assert!(text.contains("grave") && !text.contains("ours") && !text.contains("theirs"), "{text}");
    }

    #[test]
    fn json_is_one_object_per_line() {
        let text = logged(LogLevel::Info, LogFormat::Json, |_| {
            tracing::info!(login = 7, "first\nline");
            tracing::info!("second");
        });
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!((&lines[0]["message"], &lines[0]["login"]), (&"first\nline".into(), &7.into()));
    }

    #[test]
    fn the_level_changes_while_the_process_runs_and_the_cap_stays() {
        let text = logged(LogLevel::Error, LogFormat::Text, |level| {
            tracing::debug!("before");
            level.set(Verbosity::Trace);
            tracing::debug!("fine");
            tracing::trace!("finest");
            tracing::debug!(target: "rxml", "hunter2");
            level.set(Verbosity::Warn);
            tracing::info!("after");
            tracing::warn!("grave");
        });
        assert!(["fine", "finest", "grave", "changed"].iter().all(|word| text.contains(word)), "{text}");
        assert!(!["before", "after", "hunter2"].iter().any(|word| text.contains(word)), "{text}");
    }

    #[test]
    fn spans_stand_in_a_line_of_json() {
        let text = logged(LogLevel::Debug, LogFormat::Json, |_| {
            let outer = tracing::info_span!("login", login = tracing::field::Empty, stream = 7);
            outer.record("login", "abcde23456");
            let _outer = outer.entered();
            let _inner = tracing::debug_span!("message", debt = 3).entered();
            tracing::debug!("sent");
        });
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!((&line["span"]["name"], &line["span"]["debt"]), (&"message".into(), &3.into()));
        assert_eq!((&line["spans"][0]["login"], &line["spans"][0]["stream"]), (&"abcde23456".into(), &7.into()));
    }
}
