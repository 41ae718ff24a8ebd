//! Prosody of Debian: STARTTLS and direct TLS, SCRAM, archive (XEP-0313), carbons, stream management, PEP, avatars, upload.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use super::{Account, PASSWORD, Reach, unique};
use crate::end_to_end::certificates::{Authority, Certificate};
use crate::end_to_end::ground::{self, Port};
use crate::end_to_end::process::{self, Process, command_as};

/// The system user that Debian's package made for it.
const USER: &str = "prosody";

/// A running Prosody for `xmpp.test`.
#[derive(Debug)]
pub struct Prosody {
    folder: PathBuf,
    starttls: Port,
    direct_tls: Port,
    https: Port,
    process: Mutex<Option<Process>>,
}

impl Prosody {
    pub const DOMAIN: &str = "xmpp.test";

    /// The one that tests share which neither restart nor misconfigure it.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Prosody> = OnceLock::new();
        SHARED.get_or_init(|| Self::start("prosody", Authority::trusted()))
    }

    /// A private one with a certificate by `authority`.
    pub fn start(name: &str, authority: &Authority) -> Self {
        Self::start_with_hosts(name, authority, |_| String::new())
    }

    /// The same with further hosts: `hosts` writes their files into the folder and gives their part of the configuration.
    pub fn start_with_hosts(name: &str, authority: &Authority, hosts: impl FnOnce(&Path) -> String) -> Self {
        let folder = ground::folder(name);
        let certificate = authority.issue(Self::DOMAIN, &folder);
        let prosody = Self {
            folder,
            starttls: Port::reserve(),
            direct_tls: Port::reserve(),
            https: Port::reserve(),
            process: Mutex::new(None),
        };
        for part in ["data", "files"] {
            fs::create_dir(prosody.folder.join(part)).expect("create Prosody's folders");
        }
        let config = prosody.config(&certificate) + &hosts(&prosody.folder);
        fs::write(prosody.folder.join("prosody.cfg.lua"), config).expect("write its config");
        process::hand_over(&prosody.folder, USER);
        prosody.launch();
        prosody
    }

    /// Where it is reached.
    pub fn reach(&self) -> Reach {
        Reach { domain: Self::DOMAIN, starttls: self.starttls.number(), direct_tls: self.direct_tls.number() }
    }

    /// `host:port` of its upload service.
    pub fn upload(&self) -> String {
        format!("localhost:{}", self.https)
    }

    /// A new account whose name begins with `stem`; its password is [`PASSWORD`].
    pub fn account(&self, stem: &str) -> Account {
        self.account_named(&unique(stem))
    }

    /// A new account of exactly this name, for a server of one's own.
    pub fn account_named(&self, localpart: &str) -> Account {
        self.control(&["register", localpart, Self::DOMAIN, PASSWORD]);
        Account { jid: format!("{localpart}@{}", Self::DOMAIN), reach: self.reach() }
    }

    /// Runs `prosodyctl` with `arguments` and returns what it printed.
    pub fn control(&self, arguments: &[&str]) -> String {
        process::run(self.command("prosodyctl").args(arguments))
    }

    /// Stops it in order: clients are told that the system shuts down.
    pub fn stop(&self) {
        let mut process = self.process.lock().expect("no test panicked in here");
        if let Some(mut process) = process.take() {
            process.signal("TERM");
            process.wait();
        }
    }

    /// Cuts it down where it stands: connections break, and nothing is said.
    pub fn kill(&self) {
        self.process.lock().expect("no test panicked in here").take();
    }

    /// Starts it again with the same files and ports.
    pub fn launch(&self) {
        let mut command = self.command("prosody");
        command.arg("-F");
        let mut process = Process::start("Prosody", command, &self.folder.join("output.log"));
        let port = self.starttls.number();
        process.await_ready(|| TcpStream::connect(("127.0.0.1", port)).is_ok());
        *self.process.lock().expect("no test panicked in here") = Some(process);
    }

    /// Whether its log holds this.
    pub fn logged(&self, text: &str) -> bool {
        fs::read(self.folder.join("prosody.log")).is_ok_and(|log| String::from_utf8_lossy(&log).contains(text))
    }

    fn command(&self, program: &str) -> Command {
        let mut command = command_as(USER, program);
        command
            .args(["--config".as_ref(), self.folder.join("prosody.cfg.lua").as_os_str()])
            .current_dir(&self.folder)
            .env("HOME", &self.folder);
        command
    }

    fn config(&self, certificate: &Certificate) -> String {
        let folder = self.folder.display();
        let (chain, key) = (certificate.chain.display(), certificate.key.display());
        let (starttls, direct_tls, https, domain) = (&self.starttls, &self.direct_tls, &self.https, Self::DOMAIN);
        let user = if ground::is_root() { USER.to_owned() } else { process::run(Command::new("id").arg("-un")) };
        let user = user.trim();
        format!(
            r#"
prosody_user = "{user}"
pidfile = "{folder}/prosody.pid"
data_path = "{folder}/data"
log = {{ debug = "{folder}/prosody.log" }}
interfaces = {{ "127.0.0.1" }}; local_interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {starttls} }}; c2s_direct_tls_ports = {{ {direct_tls} }}
s2s_ports = {{}}; component_ports = {{}}; http_ports = {{}}; https_ports = {{ {https} }}
ssl = {{ certificate = "{chain}"; key = "{key}" }}
c2s_direct_tls_ssl = {{ certificate = "{chain}"; key = "{key}" }}
https_ssl = {{ certificate = "{chain}"; key = "{key}" }}
modules_disabled = {{ "s2s", "s2s_auth_certs" }}
authentication = "internal_hashed"
-- the internal backend trims a full archive at every append
storage = {{ archive = "sql" }}; default_storage = "internal"
sql = {{ driver = "SQLite3", database = "prosody.sqlite" }}
c2s_require_encryption = true
default_archive_policy = true; archive_expires_after = "never"
smacks_hibernation_time = 300
modules_enabled = {{
  "roster", "saslauth", "tls", "disco", "private", "blocklist", "vcard4", "vcard_legacy", "bookmarks", "version",
  "uptime", "time", "ping", "mam", "carbons", "smacks", "csi_simple", "pep", "lastactivity", "offline"
}}
VirtualHost "{domain}"
Component "upload.{domain}" "http_file_share"
  http_host = "localhost"; http_external_url = "https://localhost:{https}/"
  http_file_share_size_limit = 100 * 1024 * 1024; http_file_share_daily_quota = 1024 * 1024 * 1024
"#
        )
    }
}
