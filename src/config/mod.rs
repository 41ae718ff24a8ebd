//! The configuration: `config.yaml`, with values from the environment laid over it.
//!
//! Whatever is wrong is told with file, line, key and the nearest known key ([`ConfigError`]). A key that is left out or
//! empty has its default. [`EXAMPLE`] documents every key.

mod check;
mod edit;
mod env;
mod fault;
mod keys;
mod network;
mod outline;
mod permissions;
mod reader;
mod rename;
mod sections;
mod upgrade;
mod values;
mod yaml;

use std::ffi::OsString;
use std::io::Read;
use std::path::Path;

pub use check::GHOST_PREFIX;
pub use env::{MAX_VALUE_FILE, PREFIX as ENV_PREFIX};
pub use fault::{ConfigError, Problem};
pub use keys::{KEYS, Key};
pub use network::{Domains, Endpoint, MessengerNetwork, Network, OAuth, Profile, Tls, TlsMode, XmppNetwork};
pub use permissions::{Level, Permissions};
pub use sections::{
    AfterLogout, Appservice, Bot, Config, CreatePortals, DoublePuppet, Fetch, Files, History, Homeserver, LogFormat,
    LogLevel, Logging, Logins, Metrics, OfflineAs, Outbox, Portals, Presence, Provisioning, PublicMedia, StatusNotices,
    Store, Strangers, Web,
};
pub use values::{HostPort, Span, WebUrl};

use fault::Fault;

/// The commented example, which `generate-config` writes. Each key in it has its default, or a value that must be
/// changed.
pub const EXAMPLE: &str = include_str!("../../config.yaml.example");

/// The largest file that is read, in bytes.
pub const MAX_FILE: u64 = 1024 * 1024;

impl Config {
    /// Reads a file, with the environment of this process laid over it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Self::load_with(path, std::env::vars_os())
    }

    /// Reads a file, with these variables laid over it.
    pub fn load_with(
        path: &Path,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let text = read_file(path)?;
        let base = path.parent().unwrap_or(Path::new(""));
        Self::parse(path, &text, base, variables)
    }

    fn parse(
        file: &Path,
        text: &str,
        base: &Path,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let invalid = |faults: Vec<Fault>| {
            ConfigError::Invalid(faults.into_iter().map(|fault| Problem::new(file, text, fault)).collect())
        };
        let mut tree = yaml::parse(text).map_err(|fault| invalid(vec![fault]))?;
        let faults = env::overlay(&mut tree, base, variables);
        if !faults.is_empty() {
            return Err(invalid(faults));
        }
        let mut config: Self = reader::read(&tree).map_err(|fault| invalid(vec![fault]))?;
        let faults = check::check(&mut config, base);
        if faults.is_empty() {
            return Ok(config);
        }
        Err(invalid(faults.into_iter().map(|fault| fault.placed_in(&tree)).collect()))
    }

    /// What the person with this MXID may do.
    pub fn permission_of(&self, mxid: &str) -> Level {
        self.permissions.level_of(mxid)
    }

    /// The bot's MXID.
    pub fn bot_mxid(&self) -> String {
        format!("@{}:{}", self.appservice.bot.localpart, self.homeserver.domain)
    }
}

/// A configuration file, brought onto the newest example.
#[derive(Debug)]
pub struct Upgraded {
    /// The file's text.
    pub before: String,
    /// The new text; the same if there was nothing to do.
    pub after: String,
    /// Keys and sections that were added.
    pub added: Vec<String>,
    /// What has another name now: old path, new path.
    pub moved: Vec<(String, String)>,
    /// What is wrong in the new text, unknown keys first. They are as they were.
    pub problems: Vec<Problem>,
}

/// Brings the file at `path` onto [`EXAMPLE`], keeping every value, comment and line of it.
///
/// # Errors
/// The file cannot be read, is no YAML, or has to be edited where the editor does not understand it.
pub fn upgrade(path: &Path) -> Result<Upgraded, ConfigError> {
    let before = read_file(path)?;
    let invalid = |text: &str, fault| ConfigError::Invalid(vec![Problem::new(path, text, fault)]);
    let upgraded = upgrade::upgrade(&before, EXAMPLE, rename::RENAMES).map_err(|fault| invalid(&before, fault))?;
    let after = upgraded.text;
    let mut problems: Vec<Problem> =
        upgraded.unknown.into_iter().map(|fault| Problem::new(path, &after, fault)).collect();
    let base = path.parent().unwrap_or(Path::new(""));
    if let Err(error) = Config::parse(path, &after, base, std::env::vars_os()) {
        let further: Vec<Problem> = error.problems().to_vec();
        problems.extend(further.into_iter().filter(|other| !other.key.is_empty() || other.line.is_none()));
        problems.dedup_by(|one, other| !one.key.is_empty() && one.key == other.key);
    }
    Ok(Upgraded { before, after, added: upgraded.added, moved: upgraded.moved, problems })
}

/// Reads another YAML file (the registration) with the same messages. Unknown keys are up to its type.
pub(crate) fn read_yaml<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = read_file(path)?;
    yaml::parse(&text)
        .and_then(|tree| reader::read(&tree))
        .map_err(|fault| ConfigError::Invalid(vec![Problem::new(path, &text, fault)]))
}

fn read_file(path: &Path) -> Result<String, ConfigError> {
    read_text(path, MAX_FILE).map_err(|reason| ConfigError::Read { path: path.to_owned(), reason })
}

/// Reads a small text file.
fn read_text(path: &Path, limit: u64) -> Result<String, String> {
    let file = std::fs::File::open(path).map_err(|error| format!("cannot be read: {error}"))?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|error| format!("cannot be read: {error}"))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        return Err(format!("larger than {limit} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "not UTF-8".to_owned())
}

#[cfg(test)]
mod example_tests;
#[cfg(test)]
mod tests;
