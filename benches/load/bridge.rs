//! The release binary between the stubs, on a store that was filled with logins beforehand.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::json;

use super::{fill::fill, homeserver, xmpp};

/// A bridge and its files.
pub struct Bridge {
    folder: tempfile::TempDir,
    pub address: String,
    pub hs_token: String,
    process: Option<Child>,
}

/// What a process has used.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Seconds of processor time.
    pub cpu: f64,
    /// Resident memory, kB.
    pub rss: u64,
}

impl Bridge {
    /// Files for so many logins, each of another person. `rooms`: one for each contact.
    pub fn prepare(homeserver: &str, server: &xmpp::Server, logins: u32, rooms: bool, presence: bool) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("a port").port();
        let address = format!("http://127.0.0.1:{port}");
        fs::write(folder.path().join("ca.pem"), &server.ca).expect("the authority");
        let config = json!({
            "homeserver": {"address": homeserver, "domain": homeserver::NAME},
            "appservice": {"listen": format!("127.0.0.1:{port}"), "address": address},
            "store": {"path": "./data", "key_file": "./data.key"},
            "permissions": {"*": "user"},
            "networks": {"xmpp": {"profile": "xmpp", "domains": {xmpp::DOMAIN: {
                "address": format!("127.0.0.1:{}", server.port),
                "tls": {"mode": "direct", "ca_file": "./ca.pem"},
            }}}},
            "portals": {"create": if rooms { "contacts" } else { "messages" }, "per_second": 100, "space": false},
            "presence": {"to_matrix": presence, "from_matrix": presence, "updates_per_second": 20},
            "logging": {"level": "warn", "format": "text"},
        });
        fs::write(folder.path().join("config.yaml"), config.to_string()).expect("the configuration");
        let made = program(folder.path()).args(["generate-registration"]).output().expect("the program");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let registration = fs::read_to_string(folder.path().join("registration.yaml")).expect("the registration");
        let token = registration.lines().find_map(|line| line.strip_prefix("hs_token:")).expect("its token");
        let hs_token = token.trim().trim_matches(['"', '\'']).to_owned();
        drop(fill(folder.path(), logins));
        Self { folder, address, hs_token, process: None }
    }

    /// Starts it and waits until it is ready. Gives how long that took.
    pub async fn launch(&mut self) -> Duration {
        let began = Instant::now();
        let log = fs::File::options().create(true).append(true).open(self.folder.path().join("log")).expect("its log");
        let mut command = program(self.folder.path());
        let child = command.arg("run").stderr(log).stdout(Stdio::null()).spawn().expect("the program");
        self.process = Some(child);
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        loop {
            let asked = client.get(format!("{}/_matrix/mau/ready", self.address)).send().await;
            if asked.is_ok_and(|answer| answer.status().is_success()) {
                return began.elapsed();
            }
            if let Ok(Some(status)) = self.process.as_mut().expect("it was started").try_wait() {
                panic!("the bridge ended with {status}:\n{}", self.log());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// SIGTERM, and waits for the end.
    pub fn stop(&mut self) -> Duration {
        let Some(mut child) = self.process.take() else { return Duration::ZERO };
        let began = Instant::now();
        let _ = Command::new("kill").arg(child.id().to_string()).status();
        let _ = child.wait();
        began.elapsed()
    }

    pub fn usage(&self) -> Usage {
        let id = self.process.as_ref().map(Child::id).unwrap_or_default();
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // Fields 14 and 15; the second field, in parentheses, may hold blanks.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |place: usize| fields.get(place).and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        Usage {
            // A tick is 10 ms on every Linux that Rust runs on.
            cpu: f64::from(ticks(11) + ticks(12)) / 100.0,
            rss: rss.trim().trim_end_matches("kB").trim().parse().unwrap_or(0),
        }
    }

    /// How long the store takes to open that the bridge has closed.
    pub fn open_store(&self) -> Duration {
        let began = Instant::now();
        let store = messenger_bridge::store::sled::SledBackend::open_existing(&self.folder.path().join("data"));
        let took = began.elapsed();
        store.and_then(messenger_bridge::store::sled::SledBackend::close).expect("the store");
        took
    }

    /// How large the store is on disk, in bytes.
    pub fn store_size(&self) -> u64 {
        let files = fs::read_dir(self.folder.path().join("data")).into_iter().flatten().flatten();
        files.filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.stop();
    }
}

fn program(folder: &Path) -> Command {
    // Another build of it may be named, to be held against this one in the same minutes: the machine's own speed changes.
    let program = std::env::var_os("BRIDGE").unwrap_or_else(|| env!("CARGO_BIN_EXE_messenger-bridge").into());
    let mut command = Command::new(program);
    command.current_dir(folder).stdin(Stdio::null());
    command
}
