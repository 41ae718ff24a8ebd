//! Synapse, pinned in `script/requirements-synapse.txt`: on `SQLite`, presence on, no rate limits.
//!
//! An application service's namespace belongs to one registration and that to one bridge, so every test with a bridge
//! has a Synapse of its own; tests without a bridge share one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha1::Sha1;

use super::{PASSWORD, unique};
use crate::end_to_end::ground::{self, Port};
use crate::end_to_end::http;
use crate::end_to_end::process::Process;

const SHARED_SECRET: &str = "registration-secret-of-the-tests";

/// A running Synapse for `hs.test`.
#[derive(Debug)]
pub struct Synapse {
    folder: PathBuf,
    port: Port,
    process: Mutex<Option<Process>>,
}

/// A Matrix user; the password is [`PASSWORD`].
#[derive(Debug, Clone)]
pub struct User {
    pub id: String,
    pub homeserver: String,
}

impl Synapse {
    pub const DOMAIN: &str = "hs.test";

    /// The one that tests without a bridge share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Synapse> = OnceLock::new();
        SHARED.get_or_init(|| Self::start("synapse", Port::reserve(), &[], &json!({})))
    }

    /// A private one at `port` that knows the given registrations of application services. What `settings` (an object)
    /// holds overrides the config's keys.
    pub fn start(name: &str, port: Port, registrations: &[&Path], settings: &Value) -> Self {
        let synapse = Self { folder: ground::folder(name), port, process: Mutex::new(None) };
        let mut config = synapse.config(registrations);
        if let (Some(config), Some(settings)) = (config.as_object_mut(), settings.as_object()) {
            config.extend(settings.clone());
        }
        // JSON is YAML.
        fs::write(synapse.folder.join("homeserver.yaml"), config.to_string()).expect("write Synapse's config");
        fs::write(synapse.folder.join("log.yaml"), synapse.log_config().to_string()).expect("write its log config");
        let seed = base64::Engine::encode(&base64::engine::general_purpose::STANDARD_NO_PAD, [7; 32]);
        fs::write(synapse.folder.join("signing.key"), format!("ed25519 a_test {seed}\n")).expect("write its key");
        synapse.launch();
        synapse
    }

    /// The base address of its client-server interface.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// A new user whose name begins with `stem`.
    pub fn user(&self, stem: &str) -> User {
        self.register(&unique(stem), false)
    }

    /// A new user of exactly this name.
    pub fn user_named(&self, name: &str) -> User {
        self.register(name, false)
    }

    /// A new administrator of the homeserver.
    pub fn admin(&self, stem: &str) -> User {
        self.register(&unique(stem), true)
    }

    /// A request as an application service.
    pub fn post_as(&self, path: &str, token: &str, body: &Value) -> Value {
        http::post_as(self.port.number(), path, token, body).expect("Synapse answers").json()
    }

    fn register(&self, name: &str, admin: bool) -> User {
        const PATH: &str = "/_synapse/admin/v1/register";
        let port = self.port.number();
        let nonce = http::get(port, PATH).expect("Synapse answers").json()["nonce"].clone();
        let nonce = nonce.as_str().expect("a nonce");
        let mut mac = Hmac::<Sha1>::new_from_slice(SHARED_SECRET.as_bytes()).expect("any key length is good");
        mac.update([nonce, name, PASSWORD, if admin { "admin" } else { "notadmin" }].join("\0").as_bytes());
        let mac = format!("{:x}", mac.finalize().into_bytes());
        let body = json!({"nonce": nonce, "username": name, "password": PASSWORD, "admin": admin, "mac": mac});
        let answer = http::post(port, PATH, &body).expect("Synapse answers").json();
        let id = answer["user_id"].as_str().expect("a user id").to_owned();
        User { id, homeserver: self.address() }
    }

    /// Stops it in order.
    pub fn stop(&self) {
        let mut process = self.process.lock().expect("no test panicked in here");
        if let Some(mut process) = process.take() {
            process.signal("TERM");
            process.wait();
        }
    }

    /// `kill -9`.
    pub fn kill(&self) {
        self.process.lock().expect("no test panicked in here").take();
    }

    /// Starts it again with the same files and port.
    pub fn launch(&self) {
        let mut command = Command::new(ground::repository(".tools/synapse/bin/python"));
        command.args(["-m", "synapse.app.homeserver", "-c", "homeserver.yaml"]).current_dir(&self.folder);
        let mut process = Process::start("Synapse", command, &self.folder.join("output.log"));
        let port = self.port.number();
        process.await_ready(|| http::get(port, "/_matrix/client/versions").is_ok_and(|answer| answer.status == 200));
        *self.process.lock().expect("no test panicked in here") = Some(process);
    }

    fn log_config(&self) -> Value {
        json!({
            "version": 1,
            "disable_existing_loggers": false,
            "formatters": {"plain": {"format": "%(asctime)s %(name)s %(levelname)s %(message)s"}},
            "handlers": {"file": {
                "class": "logging.FileHandler", "formatter": "plain", "filename": self.folder.join("homeserver.log"),
            }},
            "root": {"level": "INFO", "handlers": ["file"]},
        })
    }

    fn config(&self, registrations: &[&Path]) -> Value {
        let file = |name: &str| self.folder.join(name);
        let unlimited = json!({"per_second": 100_000, "burst_count": 100_000});
        json!({
            "server_name": Self::DOMAIN,
            "public_baseurl": format!("{}/", self.address()),
            "pid_file": file("synapse.pid"),
            "signing_key_path": file("signing.key"),
            "media_store_path": file("media"),
            "log_config": file("log.yaml"),
            "database": {"name": "sqlite3", "args": {"database": file("homeserver.db")}},
            "listeners": [{
                "port": self.port.number(), "bind_addresses": ["127.0.0.1"], "type": "http", "tls": false,
                "resources": [{"names": ["client", "media", "openid"], "compress": false}],
            }],
            "macaroon_secret_key": "a secret of the tests",
            "form_secret": "another secret of the tests",
            "registration_shared_secret": SHARED_SECRET,
            "bcrypt_rounds": 4,
            "report_stats": false,
            "trusted_key_servers": [],
            "suppress_key_server_warning": true,
            "federation_domain_whitelist": [],
            "presence": {"enabled": true},
            "user_directory": {"search_all_users": true},
            "push": {"enabled": false},
            "url_preview_enabled": false,
            "max_upload_size": "100M",
            // By default it cuts any timeline of a sync at 100 events, without a word.
            "filter_timeline_limit": -1,
            "app_service_config_files": registrations,
            "rc_message": unlimited,
            "rc_registration": unlimited,
            "rc_login": {"address": unlimited, "account": unlimited, "failed_attempts": unlimited},
            "rc_admin_redaction": unlimited,
            "rc_joins": {"local": unlimited, "remote": unlimited},
            "rc_joins_per_room": unlimited,
            "rc_invites": {"per_room": unlimited, "per_user": unlimited, "per_issuer": unlimited},
            "rc_media_create": unlimited,
            "rc_room_creation": unlimited,
            "rc_presence": {"per_user": unlimited},
        })
    }
}
