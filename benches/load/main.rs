//! The release binary between a homeserver and an XMPP server that answer faster than it asks: messages per second, what latency it
//! adds, what it costs, and how it grows with logins. `script/bench` runs this and makes tables of what it prints: one JSON object a
//! line.

#![allow(clippy::expect_used, clippy::cast_precision_loss, reason = "a bench")]

mod bridge;
#[path = "../fill.rs"]
mod fill;
mod homeserver;
mod tally;
mod xmpp;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use self::{
    bridge::Bridge,
    fill::{account, owner},
    homeserver::Homeserver,
    tally::{Sum, Tally, Way, percentile},
    xmpp::{Plan, Server},
};

/// Nothing has arrived for so long: what is missing is lost.
const PATIENCE: Duration = Duration::from_secs(10);

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let scenario = arguments.next().unwrap_or_else(|| "throughput".to_owned());
    let numbers: Vec<u32> = arguments.filter_map(|argument| argument.parse().ok()).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        match scenario.as_str() {
            "throughput" => {
                let rooms = numbers.first().copied().unwrap_or(100);
                throughput(rooms, numbers.get(1).copied().unwrap_or(20_000)).await;
            }
            "latency" => {
                let rate = numbers.first().copied().unwrap_or(100);
                latency(rate, numbers.get(1).copied().unwrap_or(10)).await;
            }
            "scale" => {
                let logins = numbers.first().copied().unwrap_or(100);
                scale(logins, numbers.get(1).copied().unwrap_or(50), numbers.get(2).copied().unwrap_or(20)).await;
            }
            other => panic!("no scenario {other}: throughput [rooms] [messages], latency [rate] [seconds], scale [logins] [contacts] [seconds]"),
        }
    });
}

fn tell(value: &Value) {
    println!("{value}");
}

struct Stage {
    tally: Arc<Tally>,
    homeserver: Arc<Homeserver>,
    server: Arc<Server>,
    bridge: Bridge,
}

impl Stage {
    async fn set(plan: Plan, logins: u32, rooms: bool, presence: bool) -> (Self, Duration) {
        // One provider for what the stubs and their clients do.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let tally = Arc::new(Tally::new());
        let homeserver = Homeserver::start(Arc::clone(&tally)).await;
        let server = Server::start(Arc::clone(&tally), plan).await;
        let mut bridge = Bridge::prepare(&homeserver.address, &server, logins, rooms, presence);
        homeserver.know(bridge.address.clone(), bridge.hs_token.clone());
        let took = bridge.launch().await;
        (Self { tally, homeserver, server, bridge }, took)
    }

    /// One login with so many rooms, all made and quiet.
    async fn with_rooms(rooms: u32) -> Self {
        let (stage, _) = Self::set(Plan { contacts: rooms, present: false }, 1, true, false).await;
        stage.server.until_online(1).await;
        stage.homeserver.until_rooms(rooms as usize).await;
        // Debts of the last rooms are paid when a message has come through each.
        for room in 0..rooms {
            stage.say_to_matrix(room, u64::MAX).await;
        }
        stage.tally.until(u64::from(rooms), PATIENCE).await;
        stage.tally.take();
        stage
    }

    async fn say_to_matrix(&self, room: u32, number: u64) {
        let stream = self.server.stream(&account(0)).expect("the stream");
        let body = self.tally.body(room, if number == u64::MAX { 0 } else { number + 1 });
        let _ = stream.send(self.server.message(&account(0), room, &body)).await;
    }

    fn event(&self, room: u32, number: u64) -> String {
        let id = self.homeserver.room(&owner(0), &format!("c{room}@{}", xmpp::DOMAIN)).expect("the room");
        self.homeserver.message(&id, &owner(0), &self.tally.body(room, number))
    }
}

fn shown(sum: &Sum, way: Way) -> Value {
    let took = match way {
        Way::ToMatrix => &sum.to_matrix,
        Way::ToXmpp => &sum.to_xmpp,
    };
    json!({
        "count": took.len(),
        "p50_ms": percentile(took, 0.5), "p95_ms": percentile(took, 0.95), "p99_ms": percentile(took, 0.99),
        "max_ms": percentile(took, 1.0),
    })
}

/// As many as go through: each way alone, then both together.
async fn throughput(rooms: u32, messages: u32) {
    let stage = Arc::new(Stage::with_rooms(rooms).await);
    let per_room = u64::from((messages / rooms).max(1));
    let count = per_room * u64::from(rooms);
    let mut said = (0, 0);
    for (name, to_matrix, to_xmpp) in [("to Matrix", true, false), ("to XMPP", false, true), ("both ways", true, true)]
    {
        let before = (stage.bridge.usage(), stage.homeserver.requests());
        let began = Instant::now();
        let speakers = [
            to_matrix.then(|| tokio::spawn(speak_xmpp(Arc::clone(&stage), rooms, said.0, per_room))),
            to_xmpp.then(|| tokio::spawn(speak_matrix(Arc::clone(&stage), rooms, said.1, per_room))),
        ];
        let expected = count * (u64::from(to_matrix) + u64::from(to_xmpp));
        let whole = stage.tally.until(expected, PATIENCE).await;
        let took = began.elapsed().as_secs_f64();
        for speaker in speakers.into_iter().flatten() {
            let _ = speaker.await;
        }
        let after = stage.bridge.usage();
        let sum = stage.tally.take();
        said = (said.0 + if to_matrix { per_room } else { 0 }, said.1 + if to_xmpp { per_room } else { 0 });
        tell(&json!({
            "scenario": "throughput", "way": name, "rooms": rooms, "messages": expected,
            "per_second": sum.heard as f64 / took, "lost": expected.saturating_sub(sum.heard), "whole": whole,
            "out_of_order": sum.out_of_order, "doubled": sum.doubled,
            "cpu_ms_per_message": (after.cpu - before.0.cpu) * 1e3 / sum.heard.max(1) as f64,
            "requests": stage.homeserver.requests() - before.1, "rss_kb": after.rss,
            "to_matrix": shown(&sum, Way::ToMatrix), "to_xmpp": shown(&sum, Way::ToXmpp),
        }));
    }
}

async fn speak_xmpp(stage: Arc<Stage>, rooms: u32, from: u64, per_room: u64) {
    for number in from..from + per_room {
        for room in 0..rooms {
            stage.say_to_matrix(room, number).await;
        }
    }
}

async fn speak_matrix(stage: Arc<Stage>, rooms: u32, from: u64, per_room: u64) {
    // Synapse sends at most a hundred events at a time.
    let mut events = Vec::with_capacity(100);
    for number in from..from + per_room {
        for room in 0..rooms {
            events.push(stage.event(room, number));
            if events.len() == 100 {
                stage.homeserver.push(&events).await;
                events.clear();
            }
        }
    }
    if !events.is_empty() {
        stage.homeserver.push(&events).await;
    }
}

/// So many messages a second, half of them each way, in a hundred rooms.
async fn latency(rate: u32, seconds: u32) {
    const ROOMS: u32 = 100;
    let stage = Stage::with_rooms(ROOMS).await;
    let before = stage.bridge.usage();
    let mut tick = tokio::time::interval(Duration::from_secs(1) / rate.max(1));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
    let stage = Arc::new(stage);
    let (queue, mut events) = tokio::sync::mpsc::channel::<String>(10_000);
    let pusher = tokio::spawn({
        let stage = Arc::clone(&stage);
        async move {
            let mut batch = Vec::new();
            while events.recv_many(&mut batch, 100).await > 0 {
                stage.homeserver.push(&batch).await;
                batch.clear();
            }
        }
    });
    let total = u64::from(rate) * u64::from(seconds);
    let began = Instant::now();
    for count in 0..total {
        tick.tick().await;
        let pair = count / 2;
        let (room, number) = (u32::try_from(pair % u64::from(ROOMS)).unwrap_or(0), pair / u64::from(ROOMS));
        if count.is_multiple_of(2) {
            stage.say_to_matrix(room, number).await;
        } else {
            let _ = queue.send(stage.event(room, number)).await;
        }
    }
    drop(queue);
    let _ = pusher.await;
    stage.tally.until(total, PATIENCE).await;
    let took = began.elapsed().as_secs_f64();
    let after = stage.bridge.usage();
    let sum = stage.tally.take();
    tell(&json!({
        "scenario": "latency", "rate": rate, "reached": sum.heard as f64 / took, "lost": total.saturating_sub(sum.heard),
        "out_of_order": sum.out_of_order,
        "cpu_ms_per_message": (after.cpu - before.cpu) * 1e3 / sum.heard.max(1) as f64,
        "to_matrix": shown(&sum, Way::ToMatrix), "to_xmpp": shown(&sum, Way::ToXmpp),
    }));
}

/// So many logins with so many contacts each: how long until all are on line, what each costs, and what a restart takes.
async fn scale(logins: u32, contacts: u32, seconds: u32) {
    let began = Instant::now();
    let (mut stage, ready) = Stage::set(Plan { contacts, present: true }, logins, false, true).await;
    stage.server.until_online(logins as usize).await;
    let online = began.elapsed();
    settle(&stage).await;
    let quiet = stage.bridge.usage();
    tokio::time::sleep(Duration::from_secs(u64::from(seconds))).await;
    let after = stage.bridge.usage();
    let store = stage.bridge.store_size();
    let stopped = stage.bridge.stop();
    let opened = stage.bridge.open_store();
    stage.server.recount();
    let began = Instant::now();
    let ready_again = stage.bridge.launch().await;
    stage.server.until_online(logins as usize).await;
    let back = began.elapsed();
    let resumed = stage.server.resumed.load(std::sync::atomic::Ordering::Relaxed);
    settle(&stage).await;
    let rss_again = stage.bridge.usage().rss;
    tell(&json!({
        "scenario": "scale", "logins": logins, "contacts": contacts,
        "ready_s": ready.as_secs_f64(), "online_s": online.as_secs_f64(),
        "rss_kb": after.rss, "idle_cpu_percent": (after.cpu - quiet.cpu) * 100.0 / f64::from(seconds.max(1)),
        "store_bytes": store, "open_s": opened.as_secs_f64(), "stop_s": stopped.as_secs_f64(), "ready_again_s": ready_again.as_secs_f64(),
        "back_s": back.as_secs_f64(), "resumed": resumed, "rss_again_kb": rss_again,
        "seen_again": stage.server.seen.load(std::sync::atomic::Ordering::Relaxed),
    }));
}

/// Waits until the bridge has nothing left to do at once: less than 5 % of a core for two seconds. At most two minutes: what is
/// not calm then shows in what it uses while idle.
async fn settle(stage: &Stage) {
    let (began, mut calm) = (Instant::now(), 0);
    while calm < 4 && began.elapsed() < Duration::from_mins(2) {
        let before = stage.bridge.usage().cpu;
        tokio::time::sleep(Duration::from_millis(500)).await;
        calm = if stage.bridge.usage().cpu - before <= 0.025 { calm + 1 } else { 0 };
    }
}
