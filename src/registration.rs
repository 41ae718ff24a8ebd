//! The registration: the file that makes the homeserver know us (application service API, "Registration").
//!
//! Two are generated: `registration.yaml` for the bridge, and beside it `doublepuppet.yaml`, with which a bridge may act
//! in the name of the homeserver's own users. Both hold tokens, so they are made with mode 0600.

mod generate;

use std::path::Path;

use secrecy::SecretString;
use serde::{Deserialize, Deserializer};

use crate::config::{Config, ConfigError, GHOST_PREFIX, read_yaml};

pub use generate::{GenerateError, generate};

/// The name of the second file.
pub const DOUBLE_PUPPET_FILE: &str = "doublepuppet.yaml";

/// The `id` that we register with.
pub const ID: &str = "messenger-bridge";

/// A registration. Keys that we do not know are the homeserver's business and are left alone.
#[derive(Clone, Debug, Deserialize)]
pub struct Registration {
    /// The name by which the homeserver keeps us apart from other application services.
    pub id: String,
    /// Where the homeserver sends transactions to; none for one that only acts.
    pub url: Option<String>,
    /// What we show to the homeserver.
    #[serde(deserialize_with = "token")]
    pub as_token: SecretString,
    /// What the homeserver shows to us.
    #[serde(deserialize_with = "token")]
    pub hs_token: SecretString,
    /// The bot's localpart.
    pub sender_localpart: String,
    /// The names that belong to us.
    pub namespaces: Namespaces,
    /// Whether the homeserver's rate limits hold for us.
    #[serde(default = "yes")]
    pub rate_limited: bool,
    /// Whether typing, receipts and presence are sent to us.
    #[serde(default)]
    pub receive_ephemeral: bool,
    /// The same, as Synapse before 1.156 reads it.
    #[serde(default, rename = "de.sorunome.msc2409.push_ephemeral")]
    pub push_ephemeral: bool,
    /// Third-party protocols that we answer for.
    #[serde(default)]
    pub protocols: Vec<String>,
}

/// The names that belong to an application service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Namespaces {
    /// User ids.
    pub users: Vec<Namespace>,
    /// Room aliases.
    pub aliases: Vec<Namespace>,
    /// Room ids.
    pub rooms: Vec<Namespace>,
}

/// A set of names.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Namespace {
    /// Whether nobody else may use them.
    pub exclusive: bool,
    /// A regular expression for the whole name.
    pub regex: String,
}

/// Something in which a registration and the configuration do not agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disagreement {
    /// What it is, without a full stop.
    pub what: String,
    /// What to do about it, a sentence.
    pub remedy: String,
}

impl std::fmt::Display for Disagreement {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}. {}", self.what, self.remedy)
    }
}

const fn yes() -> bool {
    true
}

fn token<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    let text = String::deserialize(deserializer)?;
    // Both travel in an HTTP header (RFC 6750 section 2.1).
    if text.is_empty() || !text.chars().all(|c| c.is_ascii_graphic()) {
        return Err(serde::de::Error::custom("a token is printable ASCII without blanks"));
    }
    Ok(text.into())
}

impl Registration {
    /// Reads a registration.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        read_yaml(path)
    }

    /// Where this registration and the configuration disagree. Any of these would make the homeserver refuse us, or leave
    /// something out, without saying why.
    pub fn disagreements(&self, config: &Config) -> Vec<Disagreement> {
        let mut found = Vec::new();
        let mut differ = |key: &str, registered: &str, configured_as: &str, configured: &str| {
            let trim = |text: &str| text.trim_end_matches('/').to_owned();
            if trim(registered) != trim(configured) {
                found.push(Disagreement {
                    what: format!(
                        "{key} is {registered} in the registration, but {configured_as} is {configured} in the configuration"
                    ),
                    remedy: format!(
                        "Set {key} in the registration, or {configured_as} in config.yaml, to what is right, and install the \
                         registration again."
                    ),
                });
            }
        };
        let bot = &config.appservice.bot.localpart;
        differ("sender_localpart", &self.sender_localpart, "appservice.bot.localpart", bot);
        let address = config.appservice.address.as_str();
        differ("url", self.url.as_deref().unwrap_or("null"), "appservice.address", address);
        let ghosts = ghosts(config);
        if !self.namespaces.users.iter().any(|namespace| namespace.exclusive && namespace.regex == ghosts) {
            found.push(Disagreement {
                what: format!("the registration has no exclusive users namespace '{ghosts}' for the ghosts"),
                remedy:
                    "Set homeserver.domain in config.yaml to the homeserver's own name, and generate the registration \
                         again."
                        .to_owned(),
            });
        }
        if !(self.receive_ephemeral && self.push_ephemeral) {
            found.push(Disagreement {
                what: "the registration does not set both receive_ephemeral and de.sorunome.msc2409.push_ephemeral: typing, \
                       receipts and presence would be missing"
                    .to_owned(),
                remedy: "Set receive_ephemeral and de.sorunome.msc2409.push_ephemeral to true in the registration, copy it to \
                         the homeserver and restart that."
                    .to_owned(),
            });
        }
        found
    }
}

impl Registration {
    /// What is wrong with this as a registration for double puppeting (`double_puppet.registration`).
    pub fn puppet_disagreements(&self, config: &Config) -> Vec<Disagreement> {
        let mut found = Vec::new();
        let mut wrong = |what: String, remedy: &str| found.push(Disagreement { what, remedy: remedy.to_owned() });
        let users = people(config);
        if self.namespaces.users.iter().any(|namespace| namespace.exclusive) {
            wrong(
                "its users namespace is exclusive, so nobody else could use those names".to_owned(),
                "Set exclusive to false in it, and install it again.",
            );
        }
        if !self.namespaces.users.iter().any(|namespace| namespace.regex == users) {
            wrong(
                format!("it has no users namespace '{users}'"),
                "Set homeserver.domain in config.yaml to the homeserver's own name, and generate it again.",
            );
        }
        if self.url.is_some() {
            wrong(
                "its url is not null, so the homeserver would send everything there, too".to_owned(),
                "Set url to null in it, and install it again.",
            );
        }
        found
    }
}

/// The regular expression for the MXIDs of all people of the homeserver.
fn people(config: &Config) -> String {
    format!("@.*:{}", escape(config.homeserver.domain.as_str()))
}

/// The regular expression for the ghosts' MXIDs.
fn ghosts(config: &Config) -> String {
    format!("@{GHOST_PREFIX}.*:{}", escape(config.homeserver.domain.as_str()))
}

/// Escapes a server name for a regular expression. Besides letters, digits and hyphens it can have dots, a colon and
/// the brackets of an IPv6 address.
fn escape(domain: &str) -> String {
    let mut escaped = String::with_capacity(domain.len() + 4);
    for c in domain.chars() {
        if matches!(c, '.' | '[' | ']') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use secrecy::ExposeSecret;
    use tempfile::TempDir;

    use super::*;
    use crate::config::Problem;

    const EXAMPLE: &str = include_str!("../registration.yaml.example");

    fn config(domain: &str) -> Config {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("config.yaml");
        std::fs::write(&path, crate::config::EXAMPLE.replace("domain: example.org", &format!("domain: '{domain}'")))
            .unwrap();
        Config::load_with(&path, []).unwrap()
    }

    fn in_folder() -> (TempDir, PathBuf) {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("registration.yaml");
        (folder, path)
    }

    #[test]
    fn what_is_generated_is_read_back_and_agrees() {
        let config = config("example.org");
        let (_folder, path) = in_folder();
        let beside = generate(&config, &path, false).unwrap();
        let registration = Registration::load(&path).unwrap();
        assert_eq!(registration.disagreements(&config), []);
        assert_eq!(
            (registration.id.as_str(), registration.sender_localpart.as_str()),
            ("messenger-bridge", "messengerbot")
        );
        assert_eq!(registration.url.as_deref(), Some("http://127.0.0.1:29340"));
        assert_eq!(registration.protocols, ["messenger", "xmpp"]);
        assert!(registration.receive_ephemeral && registration.push_ephemeral && !registration.rate_limited);
        let users = Namespace { exclusive: true, regex: r"@messenger_.*:example\.org".to_owned() };
        assert_eq!(registration.namespaces.users, [users]);

        let puppet = Registration::load(&beside).unwrap();
        assert_eq!((puppet.id.as_str(), puppet.url.as_deref()), ("messenger-bridge-doublepuppet", None));
        let users = Namespace { exclusive: false, regex: r"@.*:example\.org".to_owned() };
        assert_eq!(puppet.namespaces.users, [users]);
        assert!(puppet.sender_localpart.starts_with("doublepuppet_") && !puppet.receive_ephemeral);
        assert_eq!(puppet.puppet_disagreements(&config), []);
        let wrong = registration.puppet_disagreements(&config);
        assert_eq!(wrong.len(), 3, "the bridge's own is none: {wrong:#?}");

        let mut tokens: Vec<String> = [&registration, &puppet]
            .iter()
            .flat_map(|file| [file.as_token.expose_secret().to_owned(), file.hs_token.expose_secret().to_owned()])
            .collect();
        assert!(tokens.iter().all(|token| token.len() == 64 && token.bytes().all(|b| b.is_ascii_hexdigit())));
        tokens.sort();
        tokens.dedup();
        assert_eq!(tokens.len(), 4, "each token is its own");
        for file in [&path, &beside] {
            assert_eq!(std::fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn neither_file_is_written_if_either_exists() {
        let config = config("example.org");
        for existing in ["registration.yaml", DOUBLE_PUPPET_FILE] {
            let (folder, path) = in_folder();
            std::fs::write(folder.path().join(existing), "mine").unwrap();
            let error = generate(&config, &path, false).unwrap_err();
            assert!(matches!(&error, GenerateError::Exists(path) if path.ends_with(existing)), "{error}");
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
            assert_eq!(std::fs::read_to_string(folder.path().join(existing)).unwrap(), "mine");
            generate(&config, &path, true).unwrap();
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "and nothing is left behind");
            let mode = std::fs::metadata(folder.path().join(existing)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        let (folder, _) = in_folder();
        let same = generate(&config, &folder.path().join(DOUBLE_PUPPET_FILE), true).unwrap_err();
        assert!(matches!(same, GenerateError::SameName));
        let nowhere = generate(&config, &folder.path().join("no/registration.yaml"), false).unwrap_err();
        assert!(matches!(nowhere, GenerateError::Write { .. }), "{nowhere}");
    }

    #[test]
    fn the_domain_is_escaped() {
        for (domain, regex) in
            [("a.b-c.org:8448", r"@messenger_.*:a\.b-c\.org:8448"), ("[2001:db8::1]", r"@messenger_.*:\[2001:db8::1\]")]
        {
            let config = config(domain);
            let (_folder, path) = in_folder();
            generate(&config, &path, false).unwrap();
            assert_eq!(Registration::load(&path).unwrap().namespaces.users[0].regex, regex);
        }
    }

    #[test]
    fn disagreements_are_told() {
        let ours = config("example.org");
        let (_folder, path) = in_folder();
        generate(&config("other.org"), &path, false).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.replace(":29340", ":1").replace("messengerbot", "bot").replace("receive_ephemeral: true", "");
        std::fs::write(&path, text).unwrap();
        let found = Registration::load(&path).unwrap().disagreements(&ours);
        assert_eq!(found.len(), 4, "{found:#?}");
    }

    #[test]
    fn the_example_is_what_is_generated_but_for_the_tokens() {
        let (_folder, path) = in_folder();
        let config = config("example.org");
        generate(&config, &path, false).unwrap();
        let generated = std::fs::read_to_string(&path).unwrap();
        let without_tokens =
            |text: &str| text.lines().filter(|line| !line.contains("_token:")).map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(without_tokens(EXAMPLE), without_tokens(&generated));
        std::fs::write(&path, EXAMPLE).unwrap();
        assert!(Registration::load(&path).unwrap().disagreements(&config).is_empty());
    }

    #[test]
    fn a_broken_registration_names_its_line_and_no_token() {
        let (_folder, path) = in_folder();
        for (from, to, key, line) in [
            ("id: messenger-bridge", "", "id", None),
            ("rate_limited: false", "rate_limited: no way", "rate_limited", Some(14)),
            ("exclusive: true", "exclusive: [true]", "namespaces.users.0.exclusive", Some(10)),
            ("as_token: \"", "as_token: \"a b", "as_token", Some(5)),
        ] {
            std::fs::write(&path, EXAMPLE.replace(from, to)).unwrap();
            let error = Registration::load(&path).unwrap_err();
            let problem: &Problem = &error.problems()[0];
            assert_eq!((problem.key.as_str(), problem.line), (key, line), "{error}");
            assert!(!error.to_string().contains("00000000"), "{error}");
        }
    }
}
