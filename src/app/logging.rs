//! Logs, on stderr.

use tracing::Subscriber;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, fmt};

use crate::config::{LogFormat, LogLevel, Logging};

/// Whose lines are shown at the configured level. Other crates log whole stanzas, headers, bodies and credentials at their finer levels, and
/// the next version of one may do what this one does not: none of them is ever shown below `warn`.
const OURS: &str = "messenger_bridge::";

/// Begins logging. The environment (`RUST_LOG`) has no say, so that it cannot lift a cap.
pub fn init(config: Logging) -> Result<(), TryInitError> {
    subscriber(config, std::io::stderr).try_init()
}

fn subscriber<W>(config: Logging, writer: W) -> impl Subscriber + Send + Sync
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_writer(writer).with_ansi(false);
    let layer: Box<dyn Layer<Registry> + Send + Sync> = match config.format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(filter(config.level)))
}

fn filter(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
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
    fn logged(level: LogLevel, format: LogFormat, work: impl FnOnce()) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        tracing::subscriber::with_default(subscriber(Logging { level, format }, move || writer.clone()), work);
        let bytes = captured.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn stanzas_are_never_shown_whatever_the_level() {
        let text = logged(LogLevel::Trace, LogFormat::Text, || {
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
        let text = logged(LogLevel::Error, LogFormat::Text, || {
            tracing::warn!("ours");
            tracing::warn!(target: "rustls", "theirs");
            tracing::error!("grave");
        });
        assert!(text.contains("grave") && !text.contains("ours") && !text.contains("theirs"), "{text}");
    }

    #[test]
    fn json_is_one_object_per_line() {
        let text = logged(LogLevel::Info, LogFormat::Json, || {
            tracing::info!(login = 7, "first\nline");
            tracing::info!("second");
        });
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!((&lines[0]["message"], &lines[0]["login"]), (&"first\nline".into(), &7.into()));
    }
}
