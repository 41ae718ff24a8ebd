//! Each mistake that a person can make, and the sentence that they get.

use std::ffi::OsString;
use std::path::PathBuf;

use secrecy::ExposeSecret;
use tempfile::TempDir;

use super::*;

/// A folder with a config file in it.
pub(super) struct Folder(TempDir);

impl Folder {
    pub(super) fn new(config: &str) -> Self {
        let folder = Self(TempDir::new().unwrap());
        folder.write("config.yaml", config);
        folder
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn load(&self, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let variables = variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
        Config::load_with(&self.path("config.yaml"), variables)
    }
}

pub(super) const MINIMAL: &str = "\
homeserver: { address: http://127.0.0.1:8008, domain: example.org }
permissions: { \"example.org\": user, \"@admin:example.org\": admin }
networks:
  messenger:
    profile: messenger
    oauth: { client_id: \"0000000000000000\" }
  xmpp:
    profile: xmpp
";

pub(super) fn load(config: &str) -> Result<Config, ConfigError> {
    Folder::new(config).load(&[])
}

/// The only thing wrong with the minimal configuration after `from` became `to`.
fn mistake(from: &str, to: &str) -> (Problem, String) {
    assert!(MINIMAL.contains(from), "{from}");
    let error = load(&MINIMAL.replacen(from, to, 1)).unwrap_err();
    assert_eq!(error.problems().len(), 1, "{error}");
    (error.problems()[0].clone(), error.to_string())
}

#[test]
fn a_mistyped_key_names_file_line_and_nearest_key() {
    let (problem, shown) = mistake("address: http", "adress: http");
    assert_eq!((problem.line, problem.column), (Some(1), Some(15)));
    assert_eq!(problem.key, "homeserver.adress");
    let expected = "config.yaml:1:15: `homeserver.adress`: not a known key
    |
  1 | homeserver: { adress
    |               ^^^^^^
  = nearest known key: `address`; known here: address, domain, status_endpoint";
    assert!(shown.ends_with(expected), "{shown}");
}

#[test]
fn a_mistyped_key_is_found_at_each_depth() {
    for (from, to, line, key, nearest) in [
        ("permissions:", "permisions:", 2, "permisions", "permissions"),
        ("    oauth:", "    oath:", 6, "networks.messenger.oath", "oauth"),
        ("client_id:", "clientid:", 6, "networks.messenger.oauth.clientid", "client_id"),
        ("profile: xmpp", "profile: xmpp\n    domain: any", 9, "networks.xmpp.domain", "domains"),
        ("profile: xmpp", "profle: xmpp", 8, "networks.xmpp.profle", "profile"),
        (
            "profile: xmpp",
            "profile: xmpp\n    domains: { a.test: { tls: { caFile: x } } }",
            9,
            "networks.xmpp.domains.a.test.tls.caFile",
            "ca_file",
        ),
    ] {
        let (problem, shown) = mistake(from, to);
        assert_eq!((problem.line, problem.key.as_str()), (Some(line), key), "{shown}");
        assert!(shown.contains(&format!("nearest known key: `{nearest}`")), "{shown}");
    }
}

#[test]
fn a_wrong_value_names_its_key_and_line() {
    let top = "homeserver:";
    for (from, to, line, key, says) in [
        ("address: http://127.0.0.1:8008", "address: 127.0.0.1:8008", 1, "homeserver.address", "web address"),
        ("address: http://127.0.0.1:8008", "address: [a, b]", 1, "homeserver.address", "found a list"),
        ("domain: example.org", "domain: 'exa mple'", 1, "homeserver.domain", "server name"),
        (top, "appservice: { listen: localhost }\nhomeserver:", 1, "appservice.listen", "IP address and port"),
        (top, "appservice: { listen: 127.0.0.1:0 }\nhomeserver:", 1, "appservice.listen", "port"),
        (
            top,
            "appservice:\n  bot:\n    localpart: messenger_bot\nhomeserver:",
            3,
            "appservice.bot.localpart",
            "ghosts'",
        ),
        (top, "appservice: { bot: { localpart: Bot } }\nhomeserver:", 1, "appservice.bot.localpart", "a-z"),
        (top, "store: { path: d, key_file: d/key }\nhomeserver:", 1, "store.key_file", "outside"),
        (top, "portals: { per_second: 0 }\nhomeserver:", 1, "portals.per_second", "not between"),
        (top, "portals: { per_second: two }\nhomeserver:", 1, "portals.per_second", "not a number"),
        (top, "portals: { per_second: .nan }\nhomeserver:", 1, "", "not readable as YAML"),
        (top, "portals: { create: contact }\nhomeserver:", 1, "portals.create", "nearest: `contacts`"),
        (top, "history:\n  initial: 50\n  catch_up: -1\nhomeserver:", 3, "history.catch_up", "not a number that fits"),
        (top, "history: { initial: 10001 }\nhomeserver:", 1, "history.initial", "not between 0"),
        (top, "outbox: { warn_after: soon }\nhomeserver:", 1, "outbox.warn_after", "30s, 5m, 12h or 7d"),
        (top, "outbox: { warn_after: 2d }\nhomeserver:", 1, "outbox.warn_after", "not between"),
        (top, "outbox: { expire: 30 }\nhomeserver:", 1, "outbox.expire", "not between"),
        (top, "outbox: { warn_after: 1h, expire: 30m }\nhomeserver:", 1, "outbox.expire", "shorter than"),
        (top, "presence: { to_matrix: maybe }\nhomeserver:", 1, "presence.to_matrix", "neither `true` nor `false`"),
        (top, "presence: { updates_per_second: 1e9 }\nhomeserver:", 1, "presence.updates_per_second", "not between"),
        (top, "fetch: { allow_private: [\"a:1\", b] }\nhomeserver:", 1, "fetch.allow_private.1", "host:port"),
        (top, "files: { max_bytes: 10 }\nhomeserver:", 1, "files.max_bytes", "not between"),
        (top, "logging: debug\nhomeserver:", 1, "logging", "expected a section with keys, found text"),
        ("profile: xmpp", "profile: xnpp", 8, "networks.xmpp.profile", "nearest: `xmpp`"),
        ("profile: xmpp", "domains: any", 7, "networks.xmpp.profile", "missing"),
        ("profile: xmpp", "profile: xmpp\n    domains: all", 9, "networks.xmpp.domains", "write `any`"),
        ("profile: xmpp", "profile: xmpp\n    domains: []", 9, "networks.xmpp.domains", "no domain"),
        ("  xmpp:", "  My Server:", 8, "networks.My Server", "a-z"),
        (
            "profile: messenger",
            "profile: messenger\n    address: 127.0.0.1",
            6,
            "networks.messenger.address",
            "host:port",
        ),
        ("\"@admin:example.org\": admin", "\"@admin\": admin", 2, "permissions.@admin", "user id"),
        ("user, \"@admin:example.org\": admin", "block", 2, "permissions", "nobody"),
        ("\"0000000000000000\"", "\" \"", 6, "networks.messenger.oauth.client_id", "empty"),
    ] {
        let (problem, shown) = mistake(from, to);
        assert_eq!((problem.line, problem.key.as_str()), (Some(line), key), "{shown}");
        assert!(shown.contains(says), "{says}: {shown}");
    }
}

#[test]
fn broken_yaml_names_its_line() {
    for (from, to, line) in [
        ("domain: example.org }", "domain: example.org", 2),
        ("homeserver:", "homeserver: {}\nhomeserver:", 2),
        ("permissions: {", "permissions: { @me:example.org: user,", 2),
    ] {
        let (problem, shown) = mistake(from, to);
        assert_eq!(problem.line, Some(line), "{shown}");

        assert!(shown.contains("not readable as YAML"), "{shown}");
    }
}

#[test]
fn what_must_be_set_is_asked_for() {
    for (from, to, key) in [
        ("address: http://127.0.0.1:8008, ", "", "homeserver.address"),
        (", domain: example.org", "", "homeserver.domain"),
        ("domain: example.org", "domain: ", "homeserver.domain"),
        ("permissions: { \"example.org\": user, \"@admin:example.org\": admin }", "permissions:", "permissions"),
        ("client_id: \"0000000000000000\"", "client_secret: x", "networks.messenger.oauth.client_id"),
        ("    oauth: { client_id: \"0000000000000000\" }\n", "", "networks.messenger.oauth"),
    ] {
        let (problem, shown) = mistake(from, to);
        assert_eq!(problem.key, key, "{shown}");
        assert!(problem.missing, "{shown}");
        assert_eq!(load(&MINIMAL.replacen(from, to, 1)).unwrap_err().is_domain_unset(), key == "homeserver.domain");
    }
    assert_eq!(load("").unwrap_err().problems()[0].key, "homeserver");
    let (problem, _) = mistake("profile: xmpp", "tls: {}");
    assert_eq!((problem.line, problem.column), (Some(7), Some(3)), "the section's own key is shown");
}

#[test]
fn all_that_does_not_fit_is_told_at_once() {
    let error = load(&format!("{MINIMAL}portals: {{ per_second: 0 }}\nhistory: {{ initial: 99999 }}\n")).unwrap_err();
    let keys: Vec<&str> = error.problems().iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["portals.per_second", "history.initial"]);
    assert_eq!(error.to_string().matches("config.yaml:").count(), 2);
}

#[test]
fn oauth_pages_are_https_or_on_loopback() {
    let with = |url: &str| load(&MINIMAL.replacen("oauth: {", &format!("oauth: {{ token_url: '{url}',"), 1));
    for url in ["https://a.example/token", "http://127.0.0.1:8443/token", "http://localhost/t", "http://[::1]:1/t"] {
        with(url).unwrap();
    }
    for url in ["http://a.example/token", "http://127.0.0.1.example/t", "ftp://127.0.0.1/", "https://a.example/#f"] {
        let error = with(url).unwrap_err();
        assert_eq!(error.problems()[0].key, "networks.messenger.oauth.token_url", "{error}");
        assert_eq!(error.problems()[0].line, Some(6));
    }
}

#[test]
fn the_environment_wins_over_the_file() {
    let folder = Folder::new(MINIMAL);
    let config = folder
        .load(&[
            ("MESSENGER_BRIDGE__HOMESERVER__ADDRESS", "http://synapse:8008"),
            ("MESSENGER_BRIDGE__PORTALS__PER_SECOND", "0.5"),
            ("MESSENGER_BRIDGE__OUTBOX__EXPIRE", "12h"),
            ("MESSENGER_BRIDGE__NETWORKS__MESSENGER__TLS__MODE", "direct"),
            ("MESSENGER_BRIDGE__NETWORKS__MESSENGER__OAUTH__CLIENT_ID", "0012"),
            ("MESSENGER_BRIDGE_CONFIG", "not ours"),
            ("PATH", "/bin"),
        ])
        .unwrap();
    assert_eq!(config.homeserver.address.as_str(), "http://synapse:8008");
    assert!((config.portals.per_second - 0.5).abs() < f64::EPSILON);
    assert_eq!(config.outbox.expire.0, std::time::Duration::from_hours(12));
    let Network::Messenger(messenger) = &config.networks["messenger"] else { panic!("profile") };
    assert_eq!((messenger.tls.mode, messenger.oauth.client_id.as_str()), (TlsMode::Direct, "0012"));
    let hyphen = Folder::new(&MINIMAL.replace("  xmpp:", "  my-server:"));
    let config = hyphen.load(&[("MESSENGER_BRIDGE__NETWORKS__MY_SERVER__DOMAINS", "any")]).unwrap();
    assert!(config.networks.contains_key("my-server"));
}

#[test]
fn the_environment_can_give_what_the_file_leaves_out() {
    let folder = Folder::new(&MINIMAL.replacen(", domain: example.org", "", 1));
    let config = folder.load(&[("MESSENGER_BRIDGE__HOMESERVER__DOMAIN", "b.test")]).unwrap();
    assert_eq!(config.homeserver.domain, "b.test");
    let error = folder.load(&[("MESSENGER_BRIDGE__HOMESERVER__DOMAIN", "")]).unwrap_err();
    assert!(error.is_domain_unset(), "{error}");
}

#[test]
fn a_secret_comes_from_a_file_without_its_line_break() {
    let folder = Folder::new(MINIMAL);
    folder.write("secret", "hunter2 \n");
    let name = "MESSENGER_BRIDGE__NETWORKS__MESSENGER__OAUTH__CLIENT_SECRET_FILE";
    let config = folder.load(&[(name, "secret")]).unwrap();
    let Network::Messenger(messenger) = &config.networks["messenger"] else { panic!("profile") };
    assert_eq!(messenger.oauth.client_secret.as_ref().map(ExposeSecret::expose_secret), Some("hunter2 "));
    assert!(!format!("{config:?}").contains("hunter2"), "a secret must not be in the debug output");

    let error = folder.load(&[(name, "nowhere")]).unwrap_err().to_string();
    assert!(error.contains(name) && error.contains("nowhere") && error.contains("cannot be read"), "{error}");
    let error = folder.load(&[(name, "secret"), (name.trim_end_matches("_FILE"), "x")]).unwrap_err().to_string();
    assert!(error.contains("both"), "{error}");
    // A key whose own name ends in _file is set by its name.
    let config = folder.load(&[("MESSENGER_BRIDGE__STORE__KEY_FILE", "other.key")]).unwrap();
    assert_eq!(config.store.key_file, folder.path("other.key"));
}

#[test]
fn a_wrong_variable_is_named() {
    let folder = Folder::new(MINIMAL);
    for (name, value, says) in [
        ("MESSENGER_BRIDGE__HOMESERVER__ADRESS", "http://a", "nearest: MESSENGER_BRIDGE__HOMESERVER__ADDRESS"),
        ("MESSENGER_BRIDGE__NETWORKS__MESENGER__DOMAIN", "a", "nearest: MESSENGER_BRIDGE__NETWORKS__MESSENGER__DOMAIN"),
        ("MESSENGER_BRIDGE__PERMISSIONS", "a", "no key"),
        ("MESSENGER_BRIDGE__HISTORY__INITIAL", "many", "not a number"),
        ("MESSENGER_BRIDGE__HISTORY__INITIAL", "99999", "not between"),
    ] {
        let error = folder.load(&[(name, value)]).unwrap_err();
        let shown = error.to_string();
        assert!(shown.starts_with(&format!("environment variable {name}: ")), "{shown}");
        assert!(shown.contains(says), "{says}: {shown}");
        assert_eq!(error.problems()[0].line, None);
    }
}

#[test]
fn relative_paths_are_relative_to_the_file() {
    let folder = Folder::new(&format!("{MINIMAL}store: {{ path: db, key_file: /keys/a }}\n"));
    folder.write("ca.pem", "");
    let config = folder.load(&[("MESSENGER_BRIDGE__NETWORKS__MESSENGER__TLS__CA_FILE", "ca.pem")]).unwrap();
    assert_eq!(config.store.path, folder.path("db"));
    assert_eq!(config.store.key_file, PathBuf::from("/keys/a"));
    let Network::Messenger(messenger) = &config.networks["messenger"] else { panic!("profile") };
    assert_eq!(messenger.tls.ca_file, Some(folder.path("ca.pem")));

    let error =
        load(&MINIMAL.replace("profile: xmpp", "profile: xmpp\n    domains: { A.test: { tls: { ca_file: no.pem } } }"));
    let error = error.unwrap_err();
    assert_eq!((error.problems()[0].line, error.problems()[0].column), (Some(9), Some(42)), "{error}");
    assert!(error.to_string().contains("no.pem cannot be read"), "{error}");
}

#[test]
fn links_to_files_need_an_address_and_tls() {
    let with = |section: &str| load(&format!("{MINIMAL}public_media: {{ {section} }}\n"));
    let said = |section: &str| with(section).unwrap_err().to_string();
    assert!(!with("address: 'https://b.example.org/'").unwrap().public_media.enabled, "off by default");
    assert!(said("enabled: true").contains("needed with public_media.enabled"), "{}", said("enabled: true"));
    assert!(said("enabled: true, address: 'http://b.example.org'").contains("must begin with https://"));
    assert!(said("address: 'https://b.example.org/?a'").contains("must end with its path"));
    assert!(said("expires: 366d").contains("not between 1s and 365d") && said("expires: 0").contains("not between"));
    assert!(
        with("enabled: true, address: 'http://127.0.0.1:8080/x'").is_ok()
            && with("enabled: true, address: 'https://b'").is_ok()
    );
}

#[test]
fn the_page_for_signing_in_needs_tls_and_a_host_of_its_own() {
    let with = |section: &str| load(&format!("{MINIMAL}{section}\n"));
    let said = |section: &str| with(section).unwrap_err().to_string();
    assert!(load(MINIMAL).unwrap().web.public_address.is_none(), "off by default");
    assert!(said("web: { public_address: 'http://b.example.org' }").contains("must begin with https://"));
    assert!(said("web: { public_address: 'https://b.example.org/x' }").contains("without a path"));
    assert!(said("logins: { max_logins: 0 }").contains("not between 1 and 1000"));
    assert!(said("logins: { after_logout: stay }").contains("after_logout"));
    assert!(with("web: { public_address: 'http://127.0.0.1:8080' }").is_ok());
    assert!(with("web: { public_address: 'https://b.example.org/' }").is_ok());
}

#[test]
fn the_api_is_off_and_its_secret_is_long_comes_from_a_file_and_is_never_shown() {
    let default = load(MINIMAL).unwrap();
    assert!(default.provisioning.shared_secret.is_none() && !default.provisioning.allow_matrix_auth);
    let folder = Folder::new(MINIMAL);
    folder.write("secret", "hunter2 hunter2 hunter2\n");
    let name = "MESSENGER_BRIDGE__PROVISIONING__SHARED_SECRET_FILE";
    let config = folder.load(&[(name, "secret")]).unwrap();
    let secret = config.provisioning.shared_secret.as_ref().map(ExposeSecret::expose_secret);
    assert_eq!(secret, Some("hunter2 hunter2 hunter2"));
    assert!(!format!("{config:?}").contains("hunter2"), "a secret must not be in the debug output");
    for wrong in
        ["shared_secret: hunter2", "shared_secret: [hunter2]", "shared_sceret: hunter2", "shared_secret: 'hunter2"]
    {
        let shown = load(&format!("{MINIMAL}provisioning: {{ {wrong} }}\n")).unwrap_err().to_string();
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    let short = load(&format!("{MINIMAL}provisioning: {{ shared_secret: hunter2 }}\n")).unwrap_err().to_string();
    assert!(short.contains("not between 16 and 1024 bytes long"), "{short}");
    let said = load(&format!("{MINIMAL}logins: {{ status_notices: some }}\n")).unwrap_err().to_string();
    assert!(said.contains("status_notices"), "{said}");
}

#[test]
fn a_file_that_cannot_be_read_is_its_own_error() {
    let folder = Folder::new(MINIMAL);
    let missing = Config::load_with(&folder.path("absent.yaml"), []).unwrap_err();
    assert!(matches!(&missing, ConfigError::Read { path, .. } if path.ends_with("absent.yaml")), "{missing}");
    let limit = usize::try_from(MAX_FILE).unwrap();
    folder.write("config.yaml", &"#".repeat(limit));
    assert!(matches!(folder.load(&[]), Err(ConfigError::Invalid(_))));
    folder.write("config.yaml", &"#".repeat(limit + 1));
    assert!(matches!(folder.load(&[]), Err(ConfigError::Read { .. })));
}

#[test]
fn no_secret_is_shown_whatever_is_wrong_beside_it() {
    for text in [
        "oauth: { client_sceret: hunter2,",
        "oauth: { client_secret: hunter2, clientid: x,",
        "oauth: { client_secret: [hunter2],",
        "oauth: { client_secret: {hunter2: hunter2},",
        "oauth: { client_secret: 'hunter2,",
        "oauth: { client_secret: \"hunter2\\q\",",
    ] {
        let shown = load(&MINIMAL.replacen("oauth: {", text, 1)).unwrap_err().to_string();
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
