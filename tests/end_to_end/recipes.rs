//! The recipes of `docs/recipes/` with real servers: the files of docker compose without the containers, nginx, and backup and
//! restore, each step as the page has it.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::bridge::{Bridge, Management, Portal, run_program, starttls};
use super::certificates::Authority;
use super::clients::Contact;
use super::ground::{self, Port};
use super::http;
use super::process::{self, Process, command_as};
use super::servers::Prosody;

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The commands of the block that follows this heading of a page.
fn commands(page: &str, heading: &str) -> Vec<String> {
    let page = fs::read_to_string(ground::repository("docs/recipes").join(page)).expect("the page");
    let part = page.split(&format!("\n{heading}")).nth(1).unwrap_or_else(|| panic!("no {heading} on the page"));
    let block = part.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a block of commands");
    block.lines().map(str::to_owned).collect()
}

/// Does what a block says on a bridge: the service is the bridge, the program is ours.
fn follow(bridge: &Bridge, commands: &[String]) {
    let program = Path::new(env!("CARGO_BIN_EXE_messenger-bridge")).parent().expect("a folder").to_owned();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap_or_default());
    for command in commands {
        match command.as_str() {
            "systemctl stop messenger-bridge" => bridge.terminate(),
            "systemctl start messenger-bridge" => bridge.launch(),
            line => {
                let mut shell = Command::new("sh");
                shell.args(["-c", line]).current_dir(bridge.folder()).env("PATH", &path).stdin(Stdio::null());
                let output = shell.output().expect("start a shell");
                assert!(output.status.success(), "{line}: {}", said(&output));
            }
        }
    }
}

#[test]
fn what_the_page_on_backups_says_brings_back_a_bridge_whose_store_is_destroyed() {
    let prosody = Prosody::shared();
    let bridge = Bridge::start("bridge", &json!({Prosody::DOMAIN: starttls(prosody.reach())}));
    let account = prosody.account("alice");
    let [bob, carol] = ["bob", "carol"].map(|stem| Contact::connect(&prosody.account(stem)));
    let alice = Contact::connect(&account);
    alice.befriend(&bob);
    alice.leave();
    let person = bridge.person("romeo");
    let management = Management::sign_in(&person, &account.jid);
    let with_bob = Portal::appears(&person, &bob.jid);
    bob.say(&account.jid, "before the backup");
    person.hears(&with_bob.room, "before the backup");

    let backup = commands("backups.md", "Exports are taken **by themselves**");
    assert!(backup.iter().any(|line| line.starts_with("messenger-bridge store export backup.jsonl")), "{backup:?}");
    follow(&bridge, &backup);

    // After the backup: more is said, and a room is made.
    bob.say(&account.jid, "after the backup");
    person.hears(&with_bob.room, "after the backup");
    carol.say(&account.jid, "hello");
    let with_carol = Portal::appears(&person, &carol.jid);
    person.hears(&with_carol.room, "hello");
    bridge.terminate();
    for entry in fs::read_dir(bridge.folder().join("data")).expect("the store").flatten() {
        if entry.path().is_file() {
            fs::write(entry.path(), [0xAA; 5_000]).expect("destroy a file");
        }
    }
    let refused = run_program(bridge.folder(), &["run"]);
    assert_eq!(refused.status.code(), Some(14), "{}", said(&refused));
    let heard = person.heard(&with_bob.room).len();
    bob.say(&account.jid, "while it was down");
    // As the service that systemd gives up on.
    let restore = commands("backups.md", "## Restore");
    let steps: Vec<&str> = restore.iter().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(steps, ["systemctl", "mv", "messenger-bridge", "messenger-bridge", "messenger-bridge", "systemctl"]);
    follow(&bridge, &restore[1..]);

    person.hears(&with_bob.room, "while it was down");
    bob.say(&account.jid, "all is well");
    carol.say(&account.jid, "here too");
    person.hears(&with_bob.room, "all is well");
    person.hears(&with_carol.room, "here too");
    management.ask("list-logins", |answer| answer.contains(&account.jid) && answer.contains("online"));
    assert_eq!(person.heard(&with_bob.room)[heard..], ["while it was down", "all is well"], "nothing twice");
    assert_eq!(person.heard(&with_carol.room), ["hello", "here too"]);
    let rooms: BTreeSet<String> = person
        .events(|event| event["type"] == "m.bridge")
        .iter()
        .filter_map(|event| event["room"].as_str().map(str::to_owned))
        .collect();
    assert_eq!(rooms, [with_bob.room, with_carol.room].into());
}

/// The address of a request, and the token that came with it.
type Seen = Arc<Mutex<Vec<(String, Option<String>)>>>;

fn copy(from: &Path, to: &Path) {
    process::run(Command::new("cp").args(["-r", "--preserve=mode"]).arg(from.join(".")).arg(to));
}

fn change(file: &Path, changes: &[(&str, &str)]) {
    let mut text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    for (from, to) in changes {
        assert!(text.contains(from), "{from:?} does not stand in {}", file.display());
        text = text.replace(from, to);
    }
    fs::write(file, text).expect("write a file of the recipe");
}

/// No Docker engine is needed: the same files, with the addresses and folders that the containers would have replaced by local ones.
#[test]
fn the_files_of_the_compose_recipe_make_a_homeserver_an_xmpp_server_and_a_bridge_that_work_together() {
    let folder = ground::folder("compose");
    copy(&ground::repository("docs/recipes/compose"), &folder);
    let made = Command::new("./make-secrets").current_dir(&folder).output().expect("make-secrets");
    assert!(made.status.success(), "{}", said(&made));
    let again = Command::new("./make-secrets").current_dir(&folder).output().expect("make-secrets");
    assert_eq!(again.status.code(), Some(1), "what is made is not written over");

    let [synapse, xmpp, listen] = [(); 3].map(|()| Port::reserve());
    let local = |port: &Port| format!("127.0.0.1:{port}");
    change(
        &folder.join("bridge/config.yaml"),
        &[
            ("synapse:8008", &local(&synapse)),
            ("0.0.0.0:29340", &local(&listen)),
            ("bridge:29340", &local(&listen)),
            ("prosody:5222", &local(&xmpp)),
        ],
    );
    let data = folder.join("synapse");
    change(
        &data.join("homeserver.yaml"),
        &[
            ("/data", &data.display().to_string()),
            ("port: 8008", &format!("port: {synapse}")),
            ("0.0.0.0", "127.0.0.1"),
        ],
    );
    let prosody_folder = folder.join("prosody");
    change(
        &prosody_folder.join("prosody.cfg.lua"),
        &[
            ("/etc/prosody", &prosody_folder.display().to_string()),
            (
                "log = {",
                &format!(
                    "c2s_ports = {{ {xmpp} }}; interfaces = {{ \"127.0.0.1\" }}; s2s_ports = {{}}; http_ports = {{}}; https_ports = {{}}\n\
                 data_path = \"{0}/data\"; pidfile = \"{0}/prosody.pid\"; prosody_user = \"{1}\"\nlog = {{",
                    prosody_folder.display(),
                    if ground::is_root() {
                        "prosody".to_owned()
                    } else {
                        process::run(Command::new("id").arg("-un")).trim().to_owned()
                    },
                ),
            ),
        ],
    );
    fs::create_dir(prosody_folder.join("data")).expect("a folder for Prosody");
    process::hand_over(&prosody_folder, "prosody");

    let generated = run_program(&folder.join("bridge"), &["generate-registration"]);
    assert!(generated.status.success(), "{}", said(&generated));
    fs::copy(folder.join("bridge/registration.yaml"), data.join("messenger-bridge.yaml")).expect("install it");

    let mut command = Command::new(ground::repository(".tools/synapse/bin/python"));
    command.args(["-m", "synapse.app.homeserver", "-c", "homeserver.yaml"]).current_dir(&data);
    let mut homeserver = Process::start("Synapse", command, &folder.join("synapse.log"));
    // What the health check of the recipe asks.
    homeserver.await_ready(|| http::get(synapse.number(), "/health").is_ok_and(|answer| answer.status == 200));
    let mut command = command_as("prosody", "prosody");
    command.arg("--config").arg(prosody_folder.join("prosody.cfg.lua")).arg("-F").current_dir(&prosody_folder);
    let mut server = Process::start("Prosody", command, &folder.join("prosody.log"));
    let healthy = format!(": > /dev/tcp/127.0.0.1/{xmpp}");
    server.await_ready(|| {
        Command::new("bash").args(["-c", &healthy]).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    });

    let checked = run_program(&folder.join("bridge"), &["check"]);
    assert!(checked.status.success(), "{}\n{}", said(&checked), server.log_tail());
    for check in ["homeserver", "bot", "ping", "presence", "network xmpp"] {
        assert!(said(&checked).lines().any(|line| line.starts_with(&format!("ok    {check}"))), "{}", said(&checked));
    }
}

#[test]
fn nginx_lets_the_public_parts_through_and_nothing_else() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = ground::folder("nginx");
    let certificate = Authority::trusted().issue("bridge.example.org", &folder);
    let [bridge, https] = [(); 2].map(|()| Port::reserve());
    let here = folder.display().to_string();
    let server = fs::read_to_string(ground::repository("docs/recipes/nginx.conf")).expect("the recipe");
    let mut changed = server.clone();
    for (from, to) in [
        ("127.0.0.1:29340", format!("127.0.0.1:{bridge}")),
        ("listen 443 ssl", format!("listen 127.0.0.1:{https} ssl")),
        ("    listen [::]:443 ssl;\n", String::new()),
        ("/etc/letsencrypt/live/bridge.example.org/fullchain.pem", certificate.chain.display().to_string()),
        ("/etc/letsencrypt/live/bridge.example.org/privkey.pem", certificate.key.display().to_string()),
    ] {
        assert!(changed.contains(from), "{from:?} does not stand in the recipe");
        changed = changed.replace(from, &to);
    }
    let whole = format!(
        "pid {here}/nginx.pid;\nerror_log {here}/error.log;\nevents {{}}\nhttp {{\n  access_log {here}/access.log;\n  client_body_temp_path {here}/body;\n  \
         proxy_temp_path {here}/proxy;\n  fastcgi_temp_path {here}/fastcgi;\n  uwsgi_temp_path {here}/uwsgi;\n  scgi_temp_path {here}/scgi;\n{changed}\n}}\n"
    );
    let config = folder.join("nginx.conf");
    fs::write(&config, whole).expect("write the config");
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("let nginx in");

    // The bridge's port: it notes what comes through.
    let seen: Seen = Arc::default();
    let runtime = Runtime::new().expect("a runtime");
    let listener = runtime.block_on(TcpListener::bind(("127.0.0.1", bridge.number()))).expect("listen");
    let note = async |State(seen): State<Seen>, request: Request| {
        let token = request.headers().get("authorization").and_then(|value| value.to_str().ok()).map(str::to_owned);
        seen.lock().expect("no test panicked in here").push((request.uri().to_string(), token));
        "from the bridge"
    };
    let router = Router::new().fallback(note).with_state(Arc::clone(&seen));
    runtime.spawn(async move { axum::serve(listener, router).await });

    let mut command = Command::new("nginx");
    command.args(["-c".as_ref(), config.as_os_str()]).args(["-e", "stderr", "-g", "daemon off;"]);
    let mut nginx = Process::start("nginx", command, &folder.join("nginx.log"));
    nginx.await_ready(|| std::net::TcpStream::connect(("127.0.0.1", https.number())).is_ok());

    let authority = reqwest::Certificate::from_pem(&fs::read(Authority::trusted().file()).expect("the authority"));
    let client = reqwest::Client::builder()
        .tls_certs_only([authority.expect("a certificate")])
        .resolve("bridge.example.org", ([127, 0, 0, 1], https.number()).into())
        .build()
        .expect("a client");
    let get = |path: &str| {
        let address = format!("https://bridge.example.org:{https}{path}");
        runtime.block_on(async {
            client.get(address).bearer_auth("a token").send().await.expect("nginx answers").status().as_u16()
        })
    };
    let open = ["/public/abc/name.png", "/login/start?token=x", "/_matrix/provision/v3/whoami?user_id=%40a%3Ah"];
    for path in open {
        assert_eq!(get(path), 200, "{path}");
    }
    for path in [
        "/",
        "/_matrix/app/v1/ping",
        "/_matrix/app/v1/transactions/1",
        "/_matrix/mau/live",
        "/metrics",
        "/public/../_matrix/app/v1/ping",
    ] {
        assert_eq!(get(path), 404, "{path}");
    }
    let through: Vec<(String, Option<String>)> = seen.lock().expect("no test panicked in here").clone();
    assert_eq!(through, open.map(|path| (path.to_owned(), Some("Bearer a token".to_owned()))));
    let log = fs::read_to_string(folder.join("access.log")).unwrap_or_default();
    assert!(!log.contains("/public/") && !log.contains("/login/"), "secrets are in no log: {log}");
    // Whoever guesses is slowed down.
    assert!((0..60).any(|number| get(&format!("/public/guess{number}/x")) == 503), "nobody is slowed down");
}
