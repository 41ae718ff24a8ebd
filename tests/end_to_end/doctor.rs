//! `check` as a doctor: each mistake is made for real, and what the program says of it is what `docs/doctor.md` shows.
//!
//! `DOCTOR_RECORD=1` writes what it says now into the page.

mod dns;
mod page;
mod proxy;

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use self::dns::NameServer;
use self::page::Page;
use self::proxy::{Change, Proxy};
use super::bridge::{Bridge, program, run_program};
use super::certificates::Authority;
use super::faults::disk::Disk;
use super::ground::{self, Port};
use super::servers::{Prosody, Synapse};

/// A bridge's files in a folder of their own, so that a mistake can be made in them.
struct Planted(PathBuf);

impl Planted {
    fn of(folder: &Path, config: impl FnOnce(&mut Value)) -> Self {
        let planted = ground::folder("planted");
        let text = fs::read_to_string(folder.join("config.yaml")).expect("the config");
        let mut json = serde_json::from_str(&text).expect("JSON");
        config(&mut json);
        fs::write(planted.join("config.yaml"), json.to_string()).expect("write the config");
        fs::copy(folder.join("registration.yaml"), planted.join("registration.yaml")).expect("copy the registration");
        Self(planted)
    }

    /// The same with something replaced in the registration.
    fn registered(folder: &Path, changes: &[(&str, &str)]) -> Self {
        let planted = Self::of(folder, |_| {});
        let path = planted.0.join("registration.yaml");
        let mut text = fs::read_to_string(&path).expect("the registration");
        for (from, to) in changes {
            assert!(text.contains(from), "{from:?} does not stand in the registration");
            text = text.replace(from, to);
        }
        fs::write(&path, text).expect("write the registration");
        planted
    }

    fn check(&self) -> Output {
        run_program(&self.0, &["check"])
    }

    /// The same through another program, which is given ours and its arguments.
    fn check_through(&self, runner: &[&str]) -> Output {
        let (first, rest) = runner.split_first().expect("a program");
        let mut command = Command::new(first);
        command.args(rest).arg(program().get_program()).arg("check").current_dir(&self.0);
        command.output().expect("start the program")
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn token(folder: &Path, key: &str) -> String {
    let registration = fs::read_to_string(folder.join("registration.yaml")).expect("the registration");
    let line = registration.lines().find(|line| line.starts_with(key)).expect("a token");
    line.split(':').nth(1).expect("its value").trim().trim_matches('"').to_owned()
}

/// Any domain, so that no server is needed.
fn any() -> Value {
    json!({"xmpp": {"profile": "xmpp"}})
}

/// An authority whose certificates end when a test wants them to.
struct Clockwork {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Clockwork {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
        params.distinguished_name.push(DnType::CommonName, "Clockwork");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate that ends in so many days, and its key.
    fn issue(&self, name: &str, days: i64) -> (rcgen::Certificate, KeyPair) {
        self.issue_from(name, -30, days)
    }

    /// The same that begins in so many.
    fn issue_from(&self, name: &str, from: i64, days: i64) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new([name.to_owned()]).expect("a name");
        params.not_before = OffsetDateTime::now_utc() + Duration::days(from);
        params.not_after = ends(days);
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.issuer).expect("a certificate"), key)
    }

    fn file(&self) -> PathBuf {
        let path = ground::folder("clockwork").join("ca.crt");
        fs::write(&path, &self.pem).expect("write it");
        path
    }
}

/// In so many days and a half.
fn ends(days: i64) -> OffsetDateTime {
    OffsetDateTime::now_utc() + Duration::days(days) + Duration::hours(12)
}

#[test]
fn what_is_wrong_between_homeserver_and_bridge_is_named_with_its_remedy() {
    let bridge = Bridge::start_on("bridge", &any());
    let folder = bridge.folder();
    let (homeserver, free) = (bridge.synapse.port(), Port::reserve());
    let config: Value = serde_json::from_str(&fs::read_to_string(folder.join("config.yaml")).expect("the config"))
        .expect("the config is JSON");
    let listen = config["appservice"]["listen"].as_str().expect("an address").to_owned();
    let port: u16 = listen.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let page = Page::new(&[
        (&format!("127.0.0.1:{port}"), "127.0.0.1:29340"),
        (&format!("127.0.0.1:{free}"), "127.0.0.1:29341"),
        (&format!("127.0.0.1:{homeserver}"), "127.0.0.1:8008"),
    ]);
    let elsewhere = |config: &mut Value| config["appservice"]["listen"] = json!(format!("127.0.0.1:{free}"));

    // While the bridge runs.
    page.shows("Two bridges with one registration", &Planted::of(folder, elsewhere).check());
    page.shows("A bridge runs with another store", &Planted::of(folder, |_| {}).check());
    let other = "0".repeat(64);
    let (as_token, hs_token) = (token(folder, "as_token"), token(folder, "hs_token"));
    page.shows("A bridge runs with another registration", &Planted::registered(folder, &[(&hs_token, &other)]).check());
    bridge.terminate();

    page.shows("The registration is not installed", &Planted::registered(folder, &[(&as_token, &other)]).check());
    page.shows("Another `hs_token`", &Planted::registered(folder, &[(&hs_token, &other)]).check());
    page.shows("The homeserver does not reach the bridge", &Planted::of(folder, elsewhere).check());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    {
        let _program = Proxy::start(&runtime, port, homeserver, Change::NotFound("/"));
        page.shows("The url leads to another program", &Planted::of(folder, elsewhere).check());
    }
    {
        let _proxy = Proxy::start(&runtime, port, free.number(), Change::NoToken);
        page.shows("A proxy takes the homeserver's token away", &Planted::of(folder, elsewhere).check());
    }
    {
        let _program = Proxy::start(&runtime, port, homeserver, Change::NotFound("/"));
        page.shows("The port is taken", &Planted::of(folder, |_| {}).check());
    }

    // Between the bridge and the homeserver.
    let through = |change| {
        let port = Port::reserve();
        let _proxy = Proxy::start(&runtime, port.number(), homeserver, change);
        let at = format!("http://127.0.0.1:{port}");
        Planted::of(folder, |config| config["homeserver"]["address"] = json!(at)).check()
    };
    page.shows("A proxy takes the bridge's token away", &through(Change::NoToken));
    page.shows("Clocks that differ", &through(Change::Date(3600)));
    page.shows("Clocks that differ a little", &through(Change::Date(-120)));
    page.shows("A homeserver without authenticated media", &through(Change::NotFound("/_matrix/client/v1/media")));
    let planted = Planted::of(folder, |config| {
        config["double_puppet"] = json!({"registration": "./doublepuppet.yaml"});
    });
    fs::copy(folder.join("doublepuppet.yaml"), planted.0.join("doublepuppet.yaml")).expect("copy it");
    page.shows("Double puppeting that the homeserver does not know of", &planted.check());
    page.shows(
        "No homeserver",
        &Planted::of(folder, |config| {
            config["homeserver"]["address"] = json!(format!("http://127.0.0.1:{free}"));
        })
        .check(),
    );
    page.shows(
        "Another name than the homeserver's",
        &Planted::of(folder, |config| {
            config["homeserver"]["domain"] = json!("example.org");
            config["permissions"] = json!({"example.org": "user"});
        })
        .check(),
    );

    // The homeserver's certificate.
    let clockwork = Clockwork::new();
    let trusted = clockwork.file();
    for (heading, name, days) in [
        ("The homeserver's certificate is about to end", "localhost", 5),
        ("The homeserver's certificate has ended", "localhost", -3),
        ("The homeserver's certificate is for another name", "matrix.hs.test", 90),
    ] {
        let port = Port::reserve();
        let _proxy = Proxy::start_tls(&runtime, port.number(), homeserver, clockwork.issue(name, days));
        let planted = Planted::of(folder, |config| {
            config["homeserver"]["address"] = json!(format!("https://localhost:{port}"));
        });
        let output = planted.check_through(&["env", &format!("SSL_CERT_FILE={}", trusted.display())]);
        page.shows_with(
            heading,
            &output,
            &[(&port.to_string(), "8448"), (&ends(days).date().to_string(), "2027-01-15")],
        );
    }
    let port = Port::reserve();
    let _proxy = Proxy::start_tls(&runtime, port.number(), homeserver, clockwork.issue("localhost", 1));
    let planted = Planted::of(folder, |config| {
        config["public_media"] = json!({"enabled": true, "address": format!("https://localhost:{port}")});
    });
    let output = planted.check_through(&["env", &format!("SSL_CERT_FILE={}", trusted.display())]);
    let names = [(&*port.to_string(), "443"), (&ends(1).date().to_string(), "2027-01-15")];
    page.shows_with("The certificate of public media is about to end", &output, &names);
    page.finish();
}

#[test]
fn what_is_wrong_on_the_bridges_own_machine_is_named_with_its_remedy() {
    let bridge = Bridge::start_on("bridge", &any());
    bridge.terminate();
    let folder = bridge.folder();
    let page = Page::new(&[(&folder.display().to_string(), "/var/lib/messenger-bridge")]);

    let planted = Planted::of(folder, |_| {});
    let typed = "homeserver:\n  address: http://127.0.0.1:8008\n  domian: hs.test\n";
    fs::write(planted.0.join("config.yaml"), typed).expect("write the config");
    page.shows("A mistyped key", &planted.check());
    let changes = [
        ("receive_ephemeral: true\n", ""),
        ("rate_limited: false", "rate_limited: true"),
        ("sender_localpart: \"messengerbot\"", "sender_localpart: \"bot\""),
    ];
    page.shows("A registration that does not fit the configuration", &Planted::registered(folder, &changes).check());

    let planted = Planted::of(folder, |_| {});
    let sound = planted.check();
    assert!(sound.status.success(), "{}", String::from_utf8_lossy(&sound.stdout));
    for file in ["data.key", "registration.yaml"] {
        fs::set_permissions(planted.0.join(file), fs::Permissions::from_mode(0o644)).expect("open it to all");
    }
    page.shows("Secrets that others may read", &planted.check());
    let few = ["sh", "-c", "ulimit -n 100 && exec \"$0\" \"$@\""];
    page.shows("Too few open files", &Planted::of(folder, |_| {}).check_through(&few));

    // Warnings fail only if they are to, and scripts get objects.
    let planted = Planted::registered(folder, &[("rate_limited: false", "rate_limited: true")]);
    for (arguments, code) in [(&["check"][..], 0), (&["check", "--strict"], 1), (&["check", "--strict", "--json"], 1)] {
        assert_eq!(run_program(&planted.0, arguments).status.code(), Some(code), "{arguments:?}");
    }
    let lines: Vec<Value> = said(&run_program(&planted.0, &["check", "--json"]))
        .lines()
        .map(|line| serde_json::from_str(line).expect("an object on each line"))
        .collect();
    let warning = lines.iter().find(|line| line["level"] == "warn").expect("the warning");
    assert_eq!(warning["check"], "registration file");
    assert!(
        ["finding", "remedy"].iter().all(|key| warning[key].as_str().is_some_and(|text| text.contains("rate_limited")))
    );
    assert!(lines.iter().any(|line| line["check"] == "ping" && line["level"] == "ok"), "{lines:?}");

    let planted = Planted::of(folder, |config| config["store"]["path"] = json!("./disk/data"));
    let at = planted.0.join("disk");
    fs::create_dir(&at).expect("a folder");
    if let Some(disk) = Disk::mount(&at) {
        let runner = disk.runner(&planted.0);
        let runner: Vec<&str> = runner.iter().map(String::as_str).collect();
        disk.fill();
        page.shows("The disk is full", &planted.check_through(&runner));
        disk.empty();
        disk.read_only();
        page.shows("The store cannot be written", &planted.check_through(&runner));
        page.finish();
    }
}

#[test]
fn what_the_homeserver_leaves_out_is_found_by_asking_it() {
    // Its copy of the registration is an old one; its limits are those that it comes with.
    let (folder, synapse) = own_files();
    let old = Planted::registered(
        &folder,
        &[
            ("receive_ephemeral: true\n", ""),
            ("de.sorunome.msc2409.push_ephemeral: true\n", ""),
            ("rate_limited: false", "rate_limited: true"),
        ],
    );
    let page = Page::new(&[]);
    let limits = json!({"rc_presence": {"per_user": {"per_second": 0.1, "burst_count": 1}}});
    let server = Synapse::start("synapse", synapse, &[&old.0.join("registration.yaml")], &limits);
    page.shows("The homeserver has an old copy of the registration", &run_program(&folder, &["check"]));
    drop(server);

    let (folder, synapse) = own_files();
    let off = json!({"presence": {"enabled": false}, "enable_media_repo": false, "listeners": [{
        "port": synapse.number(), "bind_addresses": ["127.0.0.1"], "type": "http", "tls": false,
        "resources": [{"names": ["client"], "compress": false}],
    }]});
    let _server = Synapse::start("synapse", synapse, &[&folder.join("registration.yaml")], &off);
    page.shows("Presence is off, and there is no media repository", &run_program(&folder, &["check"]));
    page.finish();
}

/// A bridge's files, and the port that its homeserver must have.
fn own_files() -> (PathBuf, Port) {
    let (folder, port, synapse) = (ground::folder("bridge"), Port::reserve(), Port::reserve());
    let config = json!({
        "homeserver": {"address": format!("http://127.0.0.1:{synapse}"), "domain": Synapse::DOMAIN},
        "appservice": {"listen": format!("127.0.0.1:{port}"), "address": format!("http://127.0.0.1:{port}")},
        "store": {"path": "./data", "key_file": "./data.key"},
        "permissions": {Synapse::DOMAIN: "user"},
        "networks": any(),
    });
    // JSON is YAML.
    fs::write(folder.join("config.yaml"), config.to_string()).expect("write the config");
    assert!(run_program(&folder, &["generate-registration"]).status.success());
    (folder, synapse)
}

#[test]
fn what_is_wrong_with_an_xmpp_server_is_named_with_its_remedy() {
    let clockwork = Clockwork::new();
    // The name that is asked for, the name in the certificate, and in how many days that begins and ends.
    let hosts = [
        ("ended.test", "ended.test", -30, -3),
        ("early.test", "early.test", 2, 90),
        ("ending.test", "ending.test", -30, 5),
        ("named.test", "xmpp.provider.test", -30, 90),
        ("srv.test", "srv.test", -30, 90),
    ];
    let prosody = Prosody::start_with_hosts("prosody-certificates", Authority::trusted(), |folder| {
        hosts
            .map(|(domain, name, from, days)| {
                let (certificate, key) = clockwork.issue_from(name, from, days);
                let [chain, secret] = ["crt", "pem"].map(|ending| folder.join(format!("{domain}.{ending}")));
                fs::write(&chain, certificate.pem()).expect("write a certificate");
                fs::write(&secret, key.serialize_pem()).expect("write its key");
                let (chain, secret) = (chain.display(), secret.display());
                format!("VirtualHost \"{domain}\"\n  ssl = {{ certificate = \"{chain}\"; key = \"{secret}\" }}\n")
            })
            .concat()
    });
    let reach = prosody.reach().starttls;
    let (ca, closed, telnet) = (clockwork.file(), Port::reserve(), TcpListener::bind("127.0.0.1:0").expect("a port"));
    let wrong = telnet.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        for mut stream in telnet.incoming().flatten() {
            let _ = std::io::Write::write_all(&mut stream, b"SSH-2.0-OpenSSH_9.2\r\n");
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    let (folder, synapse) = own_files();
    let at = |port: u16| json!({"address": format!("127.0.0.1:{port}"), "tls": {"ca_file": ca}});
    let planted = |domains: Value| {
        Planted::of(&folder, |config| config["networks"] = json!({"xmpp": {"profile": "xmpp", "domains": domains}}))
    };
    let ended = ends(5).date().to_string();
    let page = Page::new(&[
        (&format!("127.0.0.1:{synapse}"), "127.0.0.1:8008"),
        (&format!("127.0.0.1:{reach}"), "127.0.0.1:5222"),
        (&format!("127.0.0.1:{closed}"), "127.0.0.1:5222"),
        (&format!("127.0.0.1:{wrong}"), "127.0.0.1:22"),
        (&ended, "2027-01-15"),
    ]);
    // The homeserver is no matter here, and is not there.
    for (heading, domain, port) in [
        ("The XMPP server's certificate has ended", "ended.test", reach),
        ("The XMPP server's certificate is not valid yet", "early.test", reach),
        ("The XMPP server's certificate is about to end", "ending.test", reach),
        ("The XMPP server's certificate is for another name", "named.test", reach),
        ("The XMPP server's certificate is of an unknown authority", "xmpp.test", reach),
        ("No XMPP server", "closed.test", closed.number()),
        ("Something else than an XMPP server", "telnet.test", wrong),
    ] {
        let output = planted(json!({domain: at(port)})).check();
        page.shows_of(heading, &output, &["network", "certificate", "dns"]);
    }

    let Some(dns) = NameServer::start(&[
        ("_xmpp-client._tcp.gone.test.", 0, "."),
        ("_xmpp-client._tcp.srv.test.", reach, "xmpp.srv.test."),
    ]) else {
        return;
    };
    let trusting = json!({"tls": {"ca_file": ca}});
    for (heading, domain) in [("DNS has no record", "nothing.test"), ("DNS says that there is no service", "gone.test")]
    {
        let output = planted(json!({domain: trusting})).check_through(&dns.runner());
        page.shows_of(heading, &output, &["network", "dns"]);
    }
    let output = planted(json!({"srv.test": trusting})).check_through(&dns.runner());
    for line in [
        format!("ok    dns: srv.test: its SRV records name xmpp.srv.test:{reach}."),
        format!("ok    network xmpp: srv.test: connected to xmpp.srv.test:{reach} with TLS 1.3"),
    ] {
        assert!(said(&output).contains(&line), "{line} is not in\n{}", said(&output));
    }
    let deaf = dns.deaf();
    page.shows_of("DNS does not answer", &planted(json!({"srv.test": trusting})).check_through(&deaf), &["dns"]);
    page.finish();
}
