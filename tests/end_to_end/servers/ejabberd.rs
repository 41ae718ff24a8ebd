//! ejabberd of Debian: STARTTLS and direct TLS, SCRAM and `X-OAUTH2`, archive, carbons, stream management, PEP, avatars.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use serde_json::json;

use super::{Account, PASSWORD, Reach, unique};
use crate::end_to_end::certificates::{Authority, Certificate};
use crate::end_to_end::ground::{self, Port};
use crate::end_to_end::http;
use crate::end_to_end::process::{self, Process, command_as};

/// The system user that Debian's package made for it.
const USER: &str = "ejabberd";

/// A running ejabberd for `ej.test`.
#[derive(Debug)]
pub struct Ejabberd {
    folder: PathBuf,
    starttls: Port,
    direct_tls: Port,
    http: Port,
    /// Where `ejabberdctl` reaches the node, without the system-wide port mapper.
    distribution: Port,
    process: Mutex<Option<Process>>,
}

impl Ejabberd {
    pub const DOMAIN: &str = "ej.test";

    /// The one that tests share which neither restart nor misconfigure it.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Ejabberd> = OnceLock::new();
        SHARED.get_or_init(|| Self::start("ejabberd", Authority::trusted()))
    }

    /// A private one with a certificate by `authority`.
    pub fn start(name: &str, authority: &Authority) -> Self {
        let folder = ground::folder(name);
        let certificate = authority.issue(Self::DOMAIN, &folder);
        let ejabberd = Self {
            folder,
            starttls: Port::reserve(),
            direct_tls: Port::reserve(),
            http: Port::reserve(),
            distribution: Port::reserve(),
            process: Mutex::new(None),
        };
        ejabberd.write_files(&certificate);
        ejabberd.launch();
        ejabberd
    }

    /// Where it is reached.
    pub fn reach(&self) -> Reach {
        Reach { domain: Self::DOMAIN, starttls: self.starttls.number(), direct_tls: self.direct_tls.number() }
    }

    /// `host:port` of its upload service.
    pub fn upload(&self) -> String {
        format!("127.0.0.1:{}", self.http)
    }

    /// A new account whose name begins with `stem`; its password is [`PASSWORD`].
    pub fn account(&self, stem: &str) -> Account {
        let localpart = unique(stem);
        let body = json!({"user": localpart, "host": Self::DOMAIN, "password": PASSWORD});
        http::post(self.http.number(), "/api/register", &body).expect("ejabberd answers").json();
        Account { jid: format!("{localpart}@{}", Self::DOMAIN), reach: self.reach() }
    }

    /// An OAuth token with which `account` may sign in for an hour.
    pub fn token(&self, account: &Account) -> String {
        let printed = self.control(&["oauth_issue_token", &account.jid, "3600", "sasl_auth"]);
        printed.split_ascii_whitespace().next().expect("a token").to_owned()
    }

    /// Runs `ejabberdctl` with `arguments` and returns what it printed.
    pub fn control(&self, arguments: &[&str]) -> String {
        process::run(self.command().args(arguments))
    }

    /// Stops it in order.
    pub fn stop(&self) {
        let mut process = self.process.lock().expect("no test panicked in here");
        if let Some(mut process) = process.take() {
            self.control(&["stop"]);
            process.wait();
        }
    }

    /// Cuts it down where it stands.
    pub fn kill(&self) {
        self.process.lock().expect("no test panicked in here").take();
    }

    /// Starts it again with the same files and ports.
    pub fn launch(&self) {
        let mut command = self.command();
        command.arg("foreground");
        let mut process = Process::start("ejabberd", command, &self.folder.join("output.log"));
        let ports = [self.starttls.number(), self.direct_tls.number(), self.http.number()];
        process.await_ready(|| ports.iter().all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok()));
        *self.process.lock().expect("no test panicked in here") = Some(process);
    }

    fn command(&self) -> Command {
        let mut command = command_as(USER, self.folder.join("ejabberdctl"));
        command
            .arg("--config-dir")
            .arg(self.folder.join("conf"))
            .arg("--spool")
            .arg(self.folder.join("spool"))
            .arg("--logs")
            .arg(self.folder.join("log"))
            .current_dir(&self.folder)
            .env("HOME", &self.folder);
        command
    }

    fn write_files(&self, certificate: &Certificate) {
        let folder = &self.folder;
        for part in ["conf", "spool", "log", "upload"] {
            fs::create_dir(folder.join(part)).expect("create ejabberd's folders");
        }
        // Debian's script insists on the package's user; a copy without that runs as whoever runs the tests.
        let script = fs::read_to_string("/usr/sbin/ejabberdctl").expect("ejabberd is installed (script/setup)");
        let copy = folder.join("ejabberdctl");
        fs::write(&copy, script.replace("INSTALLUSER=ejabberd", "INSTALLUSER=")).expect("write ejabberdctl");
        process::run(Command::new("chmod").arg("755").arg(&copy));
        let distribution = &self.distribution;
        let node = format!(
            "ERLANG_NODE=test@localhost\nINET_DIST_INTERFACE=127.0.0.1\nERL_DIST_PORT={distribution}\n\
             ERL_OPTIONS=\"+S 2:2\"\n"
        );
        fs::write(folder.join("conf/ejabberdctl.cfg"), node).expect("write ejabberdctl.cfg");
        fs::write(folder.join("conf/inetrc"), "{lookup,[\"file\",\"native\"]}.\n{host,{127,0,0,1},[\"localhost\"]}.\n{file,resolv,\"/etc/resolv.conf\"}.\n")
            .expect("write inetrc");
        fs::write(folder.join("conf/ejabberd.yml"), self.config(certificate)).expect("write its config");
        process::run(
            Command::new(ground::repository(".tools/venv/bin/python"))
                .args([
                    "-c",
                    "import sqlite3, sys; sqlite3.connect(sys.argv[1]).executescript(open(sys.argv[2]).read())",
                ])
                .arg(folder.join("spool/ejabberd.sqlite"))
                .arg("/usr/share/ejabberd/sql/lite.sql"),
        );
        process::hand_over(folder, USER);
    }

    fn config(&self, certificate: &Certificate) -> String {
        let folder = self.folder.display();
        let (chain, key) = (certificate.chain.display(), certificate.key.display());
        let (starttls, direct_tls, http, domain) = (&self.starttls, &self.direct_tls, &self.http, Self::DOMAIN);
        let authority = Authority::trusted().file();
        let authority = authority.display();
        format!(
            r#"
loglevel: info
hosts: [{domain}]
certfiles: ["{chain}", "{key}"]
ca_file: "{authority}"
listen:
  - {{port: {starttls}, ip: "127.0.0.1", module: ejabberd_c2s, max_stanza_size: 1048576, shaper: none, access: all, starttls_required: true}}
  - {{port: {direct_tls}, ip: "127.0.0.1", module: ejabberd_c2s, max_stanza_size: 1048576, shaper: none, access: all, tls: true}}
  - {{port: {http}, ip: "127.0.0.1", module: ejabberd_http, request_handlers: {{/api: mod_http_api, /upload: mod_http_upload}}}}
sql_type: sqlite
sql_database: "{folder}/spool/ejabberd.sqlite"
# accounts and rosters outlive a killed process only there
default_db: sql
auth_method: [sql]
auth_password_format: scram
# Debian's default list also holds X-OAUTH2
disable_sasl_mechanisms: ["digest-md5"]
registration_timeout: infinity
oauth_access: all
oauth_expire: 86400
oauth_db_type: mnesia
acl: {{loopback: {{ip: [127.0.0.0/8]}}}}
api_permissions:
  console: {{from: [ejabberd_ctl], who: all, what: "*"}}
  tests: {{from: [mod_http_api], who: {{access: {{allow: {{acl: loopback}}}}}}, what: [register]}}
shaper_rules: {{max_user_sessions: 20, max_user_offline_messages: 5000}}
modules:
  mod_admin_extra: {{}}
  mod_avatar: {{}}
  mod_blocking: {{}}
  mod_caps: {{}}
  mod_carboncopy: {{}}
  mod_client_state: {{}}
  mod_disco: {{}}
  mod_http_api: {{}}
  mod_http_upload: {{put_url: "http://127.0.0.1:{http}/upload", docroot: "{folder}/upload", max_size: 104857600, access: all}}
  mod_last: {{}}
  mod_mam: {{assume_mam_usage: true, default: always}}
  mod_offline: {{access_max_user_messages: max_user_offline_messages}}
  mod_ping: {{}}
  mod_privacy: {{}}
  mod_private: {{}}
  mod_pubsub: {{access_createnode: all, plugins: [flat, pep]}}
  mod_roster: {{versioning: true}}
  mod_stream_mgmt: {{resend_on_timeout: if_offline}}
  mod_time: {{}}
  mod_vcard: {{}}
  mod_vcard_xupdate: {{}}
  mod_version: {{show_os: false}}
"#
        )
    }
}
