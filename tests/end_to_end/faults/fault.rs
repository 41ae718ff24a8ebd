//! The faults: what each does to the ground, and for how long. Each is over when its method returns.

use std::fmt;
use std::thread;
use std::time::Duration;

use super::clock::Clock;
use super::disk::Disk;
use super::http_proxy::{HttpProxy, Trouble};
use super::tcp_proxy::{Pace, TcpProxy};
use crate::end_to_end::bridge::Bridge;
use crate::end_to_end::ground::poll;
use crate::end_to_end::servers::Prosody;
use crate::simulation::Random;

/// What strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    BridgeKilled,
    BridgeRestarted,
    DiskFull,
    StoreReadOnly,
    ServerKilled,
    StreamCut,
    StreamFrozen,
    StreamDead,
    StreamSlow,
    StreamGarbled,
    /// What the homeserver answers to the bridge.
    Homeserver(Trouble),
    /// What the bridge seems to answer to the homeserver's transactions, or what becomes of them on the way.
    Transactions(Trouble),
    TransactionsOutOfOrder,
    HomeserverKilled,
    ClockForward,
    ClockBack,
}

/// Everything that a fault can be done to. What is not there is `None`, and its faults are not played.
pub struct Ground<'a> {
    pub bridge: &'a Bridge,
    pub stream: &'a TcpProxy,
    pub to_homeserver: &'a HttpProxy,
    pub to_bridge: &'a HttpProxy,
    pub disk: Option<&'a Disk>,
    pub clock: Option<&'a Clock>,
    pub server: Option<&'a Prosody>,
}

impl Fault {
    /// All of them, those first that last shortest.
    pub const ALL: [Self; 29] = [
        Self::BridgeKilled,
        Self::BridgeRestarted,
        Self::StreamCut,
        Self::StreamGarbled,
        Self::StreamFrozen,
        Self::TransactionsOutOfOrder,
        Self::DiskFull,
        Self::ServerKilled,
        Self::HomeserverKilled,
        Self::Homeserver(Trouble::TooMany),
        Self::Homeserver(Trouble::Internal),
        Self::Homeserver(Trouble::BadGateway),
        Self::Homeserver(Trouble::Page),
        Self::Homeserver(Trouble::Silence),
        Self::Homeserver(Trouble::LostAnswer),
        Self::Transactions(Trouble::Internal),
        Self::Transactions(Trouble::LostAnswer),
        Self::Transactions(Trouble::Twice),
        Self::Transactions(Trouble::NoEphemeral),
        // Only played in a long run from here on.
        Self::Homeserver(Trouble::Twice),
        Self::Transactions(Trouble::TooMany),
        Self::Transactions(Trouble::BadGateway),
        Self::Transactions(Trouble::Page),
        Self::Transactions(Trouble::Silence),
        Self::StreamSlow,
        Self::StreamDead,
        Self::StoreReadOnly,
        Self::ClockForward,
        Self::ClockBack,
    ];

    /// How many of [`Fault::ALL`] a short run plays.
    pub const SHORT: usize = 19;

    /// Why it cannot be played on this ground, if so.
    pub fn impossible(self, ground: &Ground<'_>) -> Option<&'static str> {
        match self {
            Self::DiskFull | Self::StoreReadOnly if ground.disk.is_none() => Some("a disk needs root to be mounted"),
            Self::ServerKilled if ground.server.is_none() => Some("the loopback service keeps everything in memory"),
            Self::ClockForward | Self::ClockBack if ground.clock.is_none() => {
                Some("the clock is not stepped in a short run, or libfaketime is not installed")
            }
            _ => None,
        }
    }

    /// Whether it can take what a Messenger service had written to its socket with it.
    pub fn breaks_streams(self) -> bool {
        matches!(
            self,
            Self::BridgeKilled
                | Self::BridgeRestarted
                | Self::StoreReadOnly
                | Self::ServerKilled
                | Self::StreamCut
                | Self::StreamFrozen
                | Self::StreamDead
                | Self::StreamSlow
                | Self::StreamGarbled
                | Self::TransactionsOutOfOrder
        )
    }

    /// Does it and, where it lasts, ends it.
    pub fn strike(self, ground: &Ground<'_>, random: &mut Random) {
        let mut a_while = |from: u64, to: u64| last(random.between(from, to));
        match self {
            Self::BridgeKilled => {
                ground.bridge.kill();
                ground.bridge.launch();
            }
            Self::BridgeRestarted => {
                ground.bridge.terminate();
                ground.bridge.launch();
            }
            Self::DiskFull => {
                if let Some(disk) = ground.disk {
                    // The store has room in what is allocated already; the fault begins when that is used up.
                    let before = ground.bridge.log_length();
                    disk.fill();
                    let met = poll(|| ground.bridge.logged_since(before, "the store cannot be written"));
                    assert!(met, "the store never met the full disk");
                    a_while(1_000, 3_000);
                    disk.empty();
                }
            }
            Self::StoreReadOnly => {
                if let Some(disk) = ground.disk {
                    disk.read_only();
                    a_while(2_000, 4_000);
                    ground.bridge.kill();
                    let said = ground.bridge.refuses_to_run();
                    assert!(said.contains("Read-only file system"), "no word of what is wrong:\n{said}");
                    disk.writable();
                    ground.bridge.launch();
                }
            }
            Self::ServerKilled => {
                if let Some(server) = ground.server {
                    server.kill();
                    a_while(0, 2_000);
                    server.launch();
                }
            }
            Self::StreamCut => ground.stream.cut(),
            Self::StreamFrozen => Self::at_pace(ground, Pace::Frozen, || a_while(2_000, 6_000)),
            Self::StreamSlow => Self::at_pace(ground, Pace::Slow, || a_while(4_000, 8_000)),
            Self::StreamDead => ground.stream.let_die(),
            Self::StreamGarbled => ground.stream.garble(),
            Self::Homeserver(trouble) => Self::troubled(ground.to_homeserver, trouble, || a_while(1_500, 4_000)),
            Self::Transactions(trouble) => Self::troubled(ground.to_bridge, trouble, || a_while(1_500, 4_000)),
            Self::TransactionsOutOfOrder => {
                ground.bridge.kill();
                ground.bridge.launch();
                let answers = ground.to_bridge.repeat_out_of_order();
                assert!(answers.iter().all(|status| *status == 200), "repeated transactions were answered {answers:?}");
            }
            Self::HomeserverKilled => {
                ground.bridge.synapse.kill();
                a_while(0, 2_000);
                ground.bridge.synapse.launch();
            }
            Self::ClockForward => Self::at_time(ground, 3_600, || a_while(2_000, 5_000)),
            Self::ClockBack => Self::at_time(ground, -3_600, || a_while(2_000, 5_000)),
        }
    }

    fn troubled(proxy: &HttpProxy, trouble: Trouble, lasts: impl FnOnce()) {
        let before = proxy.hit();
        proxy.trouble(Some(trouble));
        lasts();
        assert!(poll(|| proxy.hit() > before), "no request was there to be hit");
        proxy.trouble(None);
    }

    fn at_pace(ground: &Ground<'_>, pace: Pace, lasts: impl FnOnce()) {
        ground.stream.pace(pace);
        lasts();
        ground.stream.pace(Pace::Open);
    }

    fn at_time(ground: &Ground<'_>, seconds: i64, lasts: impl FnOnce()) {
        if let Some(clock) = ground.clock {
            clock.step(seconds);
            lasts();
            clock.step(0);
        }
    }
}

/// A fault's own length: this is not a wait for something.
fn last(milliseconds: u64) {
    thread::sleep(Duration::from_millis(milliseconds));
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answers = |what: &str| format!("homeserver answers {what}");
        let transactions = |what: &str| format!("transactions {what}");
        let name = match self {
            Self::BridgeKilled => "bridge killed (kill -9)".to_owned(),
            Self::BridgeRestarted => "bridge restarted (SIGTERM)".to_owned(),
            Self::DiskFull => "disk full".to_owned(),
            Self::StoreReadOnly => "store's directory read-only".to_owned(),
            Self::ServerKilled => "XMPP server killed".to_owned(),
            Self::StreamCut => "stream cut".to_owned(),
            Self::StreamFrozen => "stream frozen".to_owned(),
            Self::StreamDead => "stream dead, never closed".to_owned(),
            Self::StreamSlow => "stream at 1 byte/s".to_owned(),
            Self::StreamGarbled => "garbage on the stream".to_owned(),
            Self::Homeserver(trouble) => match trouble {
                Trouble::TooMany => answers("429"),
                Trouble::Internal => answers("500"),
                Trouble::BadGateway => answers("502 and a page"),
                Trouble::Page => answers("200 and a page"),
                Trouble::Silence => answers("nothing"),
                Trouble::LostAnswer => "homeserver accepts, answer lost".to_owned(),
                Trouble::Twice => "homeserver hears each request twice".to_owned(),
                Trouble::NoEphemeral => answers("without ephemeral events"),
            },
            Self::Transactions(trouble) => match trouble {
                Trouble::TooMany => transactions("answered 429"),
                Trouble::Internal => transactions("answered 500"),
                Trouble::BadGateway => transactions("answered 502 and a page"),
                Trouble::Page => transactions("answered 200 and a page"),
                Trouble::Silence => transactions("not answered"),
                Trouble::LostAnswer => transactions("accepted, answer lost"),
                Trouble::Twice => transactions("repeated at once"),
                Trouble::NoEphemeral => transactions("without ephemeral events"),
            },
            Self::TransactionsOutOfOrder => "transactions repeated out of order".to_owned(),
            Self::HomeserverKilled => "homeserver killed".to_owned(),
            Self::ClockForward => "clock an hour forward and back".to_owned(),
            Self::ClockBack => "clock an hour back and forward".to_owned(),
        };
        f.pad(&name)
    }
}
