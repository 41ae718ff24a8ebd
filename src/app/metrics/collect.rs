//! Each scrape: the numbers of engine and shells, as they are then. Nothing is counted here, and the store is not read.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeGaugeValue, MetricEncoder, NoLabelSet},
    metrics::{MetricType, exemplar::Exemplar},
};

use super::{Sources, process};
use crate::{
    bridge::meter::{BOUNDS, Fate, Spread},
    engine::numbers::Numbers,
    matrix::counters::Count,
    xmpp,
};

type Labels<'a, const N: usize> = [(&'static str, &'a str); N];

#[derive(Debug)]
pub(super) struct Collect {
    pub(super) sources: Sources,
    pub(super) numbers: Arc<Mutex<Numbers>>,
}

impl Collector for Collect {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let out = &mut encoder;
        self.process(out)?;
        engine(out, &numbers)?;
        self.matrix(out)?;
        self.left_out(out, &numbers)
    }
}

impl Collect {
    fn process(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        gauge(out, "process_start_time_seconds", "When the process began, in seconds since 1970", &process::began())?;
        let memory = process::resident_memory().unwrap_or(0);
        gauge(out, "process_resident_memory_bytes", "Resident memory", &memory)?;
        let mut build = family(out, "messenger_bridge_build_info", "The version that runs", MetricType::Gauge)?;
        let labels: Labels<'_, 1> = [("version", env!("CARGO_PKG_VERSION"))];
        build.encode_family(&labels)?.encode_gauge(&1_u64)?;
        let size = process::size_of(&self.sources.store).unwrap_or(0);
        gauge(out, "messenger_bridge_store_bytes", "The store on disk", &size)?;
        let mailbox = &self.sources.mailbox;
        let waiting = mailbox.max_capacity() - mailbox.capacity();
        gauge(out, "messenger_bridge_mailbox_inputs", "What has happened and waits for the engine", &waiting)?;
        let most = mailbox.max_capacity();
        gauge(out, "messenger_bridge_mailbox_capacity", "How much may wait before nothing more is read", &most)
    }

    fn matrix(&self, out: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Calls to the homeserver, by endpoint and how they ended";
        let mut calls = family(out, "messenger_bridge_homeserver_requests", help, MetricType::Counter)?;
        for (endpoint, how, count) in self.sources.tally.all() {
            let endpoint = endpoint.replace(' ', "_");
            let labels: Labels<'_, 2> = [("endpoint", &endpoint), ("status", how)];
            calls.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, NO_EXEMPLAR)?;
        }
        let presence = &self.sources.presence;
        let mut updates =
            family(out, "messenger_bridge_presence_updates", "Presence updates that were sent", MetricType::Counter)?;
        updates.encode_counter::<NoLabelSet, _, u64>(&presence.updates(), NO_EXEMPLAR)?;
        let help = "Presence updates that may be sent per second";
        gauge(out, "messenger_bridge_presence_budget_per_second", help, &self.sources.presence_budget)?;
        let help = "Ghosts whose presence is known and to be shown";
        gauge(out, "messenger_bridge_presence_ghosts", help, &presence.ghosts())?;
        let help = "Ghosts that go without, for the budget does not reach";
        gauge(out, "messenger_bridge_presence_ghosts_without", help, &presence.without())
    }

    fn left_out(&self, out: &mut DescriptorEncoder<'_>, numbers: &Numbers) -> fmt::Result {
        let help = "What was left out or could not be used, by where and kind";
        let mut left = family(out, "messenger_bridge_left_out", help, MetricType::Counter)?;
        let mut add = |side: &str, kind: &str, count: u64| {
            let kind: String = kind.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
            let labels: Labels<'_, 2> = [("side", side), ("kind", &kind)];
            left.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&count, NO_EXEMPLAR)
        };
        for count in Count::ALL {
            add("matrix", count.label(), self.sources.counters.get(*count))?;
        }
        for (kind, count) in &numbers.ignored {
            add("engine", kind, *count)?;
        }
        add("xmpp", "over_a_bound", xmpp::cuts())
    }
}

fn engine(out: &mut DescriptorEncoder<'_>, numbers: &Numbers) -> fmt::Result {
    let help = "Logins, by network and how they are";
    let mut logins = family(out, "messenger_bridge_logins", help, MetricType::Gauge)?;
    for ((network, state), count) in &numbers.logins {
        let labels: Labels<'_, 2> = [("network", network), ("state", state.label())];
        logins.encode_family(&labels)?.encode_gauge(count)?;
    }
    let help = "Messages since the start, by direction and what became of them";
    let mut messages = family(out, "messenger_bridge_messages", help, MetricType::Counter)?;
    for (way, counts) in &numbers.messages {
        for fate in Fate::ALL {
            let labels: Labels<'_, 2> = [("direction", way.label()), ("outcome", fate.label())];
            messages.encode_family(&labels)?.encode_counter::<NoLabelSet, _, u64>(&counts.of(fate), NO_EXEMPLAR)?;
        }
    }
    let help = "From being taken in on one side to being taken by the other";
    let mut took = family(out, "messenger_bridge_delivery_seconds", help, MetricType::Histogram)?;
    for (way, counts) in &numbers.messages {
        let labels: Labels<'_, 1> = [("direction", way.label())];
        histogram(&mut took.encode_family(&labels)?, &counts.took)?;
    }
    let help = "Debts that wait, by the kind of their lane";
    let mut debts = family(out, "messenger_bridge_outbox_debts", help, MetricType::Gauge)?;
    for (kind, count, _) in &numbers.waiting {
        let labels: Labels<'_, 1> = [("lane", kind.label())];
        debts.encode_family(&labels)?.encode_gauge(count)?;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let help = "How long the oldest of them waits; 0 where none does";
    let mut ages = family(out, "messenger_bridge_outbox_oldest_seconds", help, MetricType::Gauge)?;
    for (kind, _, oldest) in &numbers.waiting {
        let labels: Labels<'_, 1> = [("lane", kind.label())];
        let age = oldest.map_or(0.0, |since| (now - seconds(since.0)).max(0.0));
        ages.encode_family(&labels)?.encode_gauge(&age)?;
    }
    Ok(())
}

const NO_EXEMPLAR: Option<&Exemplar<NoLabelSet, u64>> = None;

fn family<'a>(
    out: &'a mut DescriptorEncoder<'_>,
    name: &'a str,
    help: &str,
    kind: MetricType,
) -> Result<MetricEncoder<'a>, fmt::Error> {
    out.encode_descriptor(name, help, None, kind)
}

fn gauge(out: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: &impl EncodeGaugeValue) -> fmt::Result {
    family(out, name, help, MetricType::Gauge)?.encode_gauge(value)
}

fn histogram(out: &mut MetricEncoder<'_>, spread: &Spread) -> fmt::Result {
    let ends = BOUNDS.iter().map(|end| seconds_of(*end)).chain([f64::INFINITY]);
    let ranges: Vec<(f64, u64)> = ends.zip(spread.ranges).collect();
    out.encode_histogram::<NoLabelSet>(seconds_of(spread.sum), spread.count(), &ranges, None)
}

#[expect(clippy::cast_precision_loss, reason = "milliseconds since 1970 are far below 2^53")]
fn seconds(millis: i64) -> f64 {
    millis as f64 / 1_000.0
}

fn seconds_of(millis: u64) -> f64 {
    seconds(i64::try_from(millis).unwrap_or(i64::MAX))
}
