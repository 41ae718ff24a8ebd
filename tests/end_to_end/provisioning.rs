//! The provisioning API of the real program: accounts are looked after by it, its description is held to, and states are told.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

use super::bridge::{Bridge, Management, Plan, starttls};
use super::certificates::Authority;
use super::clients::{Contact, Person};
use super::ground;
use super::http;
use super::servers::{Account, PASSWORD, Prosody, Synapse};

const SECRET: &str = "the shared secret of the tests";
const WRONG: &str = "Tr0ub4dor & 3";

/// Somebody who uses the API.
struct Caller<'a> {
    bridge: &'a Bridge,
    person: &'a Person,
    token: String,
}

impl Caller<'_> {
    fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let join = if path.contains('?') { '&' } else { '?' };
        let path = format!("/_matrix/provision/v3/{path}{join}user_id={}", self.person.id);
        let answer = http::ask_as(self.bridge.port(), method, &path, &self.token, &body.to_string());
        let answer = answer.expect("the bridge answers");
        (answer.status, serde_json::from_str(&answer.body).expect("JSON"))
    }

    fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask("GET", path, &json!({}));
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let (status, answer) = self.ask("POST", path, body);
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// Begins to sign in; gives the step.
    fn start(&self, query: &str) -> Value {
        let step = self.post(&format!("login/start/xmpp{query}"), &json!({}));
        assert_eq!(step["type"], "user_input", "{step}");
        step
    }

    /// Answers a step with an account and a password.
    fn submit(&self, step: &Value, account: &Account, password: &str) -> (u16, Value) {
        let part = |key: &str| step[key].as_str().expect("a text");
        let (id, step, txn) = (part("login_id"), part("step_id"), part("txn_id"));
        let body = json!({"account": account.jid, "password": password});
        self.ask("POST", &format!("login/step/{id}/{step}/user_input?txn_id={txn}"), &body)
    }

    /// Signs in; gives the login's id.
    fn sign_in(&self, query: &str, account: &Account) -> String {
        let step = self.start(query);
        let (status, done) = self.submit(&step, account, PASSWORD);
        assert_eq!((status, &done["type"]), (200, &json!("complete")), "{done}");
        // Whoever has not heard that asks again, and nothing is done twice.
        assert_eq!(self.submit(&step, account, PASSWORD), (200, done.clone()));
        let login = done["complete"]["user_login_id"].as_str().expect("a login").to_owned();
        assert!(ground::poll(|| self.state_of(&login) == "CONNECTED"), "{}", self.get("whoami"));
        login
    }

    fn state_of(&self, login: &str) -> String {
        let whoami = self.get("whoami");
        let logins = whoami["logins"].as_array().expect("logins");
        let state = logins.iter().find(|known| known["id"] == login).map(|known| known["state"]["state_event"].clone());
        state.and_then(|state| state.as_str().map(str::to_owned)).unwrap_or_default()
    }
}

/// All that a manager does with an account: wrong password, right password, people, signing in again, signing out.
fn look_after(caller: &Caller<'_>) {
    let prosody = Prosody::shared();
    let (alice, bob, carol) = (prosody.account("alice"), prosody.account("bob"), prosody.account("carol"));
    let bob = Contact::connect(&bob);
    let at_home = Contact::connect(&alice);
    at_home.befriend(&bob);
    at_home.leave();

    assert_eq!(caller.get("logins"), json!({"login_ids": []}));
    assert_eq!(caller.ask("GET", "contacts", &json!({})).1["errcode"], "FI.MAU.NOT_LOGGED_IN");
    let flows = caller.get("login/flows");
    assert!(flows["flows"].as_array().expect("flows").iter().any(|flow| flow["id"] == "xmpp"), "{flows}");
    let (status, refused) = caller.submit(&caller.start(""), &alice, WRONG);
    assert_eq!((status, &refused["errcode"]), (403, &json!("ORG.MESSENGER_BRIDGE.LOGIN_FAILED")), "{refused}");
    assert!(refused["error"].as_str().expect("a sentence").contains("password"), "{refused}");
    let given_up = caller.start("");
    let id = given_up["login_id"].as_str().expect("an id");
    assert_eq!(caller.post(&format!("login/cancel/{id}"), &json!({})), json!({}));
    assert_eq!(caller.submit(&given_up, &alice, PASSWORD).0, 404);

    let login = caller.sign_in("", &alice);
    assert_eq!(caller.get("logins"), json!({"login_ids": [login]}));
    let whoami = caller.get("whoami");
    assert_eq!((&whoami["bridge_bot"], &whoami["homeserver"]), (&json!(Bridge::BOT), &json!(Synapse::DOMAIN)));
    assert_eq!(whoami["logins"][0]["profile"]["username"], alice.jid.as_str());

    let found =
        |list: &Value| list.as_array().expect("people").iter().find(|one| one["id"] == bob.jid.as_str()).cloned();
    let of_bob = || found(&caller.get("contacts")["contacts"]).filter(|bob| bob["dm_room_mxid"].is_string());
    assert!(ground::poll(|| of_bob().is_some()), "{}", caller.get("contacts"));
    let name = bob.jid.split('@').next().expect("a name");
    let results = caller.post(&format!("search_users?login_id={login}"), &json!({"query": name.to_uppercase()}));
    assert_eq!(found(&results["results"]), of_bob());
    let resolved = caller.get(&format!("resolve_identifier/{}", carol.jid));
    assert_eq!((&resolved["id"], &resolved["dm_room_mxid"]), (&json!(carol.jid), &Value::Null), "{resolved}");
    let opened = caller.post(&format!("create_dm/{}", carol.jid), &json!({}));
    let room = opened["dm_room_mxid"].as_str().expect("a room").to_owned();
    caller.person.sees_member(&room, &caller.person.id, "join");
    assert_eq!(caller.post(&format!("create_dm/{}", carol.jid), &json!({}))["dm_room_mxid"], room.as_str());
    let features = caller.person.expect("what can be said in the room", |event| {
        event["type"] == "com.beeper.room_features" && event["room"] == room.as_str()
    });
    assert_eq!(features["state_key"], format!("org.messenger_bridge://xmpp/{login}"), "{features}");
    assert_eq!(features["content"]["file"]["m.image"]["mime_types"]["*/*"], 2, "{features}");

    // The same account once more is the same login; its address stands in the field already.
    let again = caller.start(&format!("?login_id={login}"));
    let fields = again["user_input"]["fields"].as_array().expect("fields");
    assert!(fields.iter().any(|field| field["default_value"] == alice.jid.as_str()), "{again}");
    assert_eq!(caller.sign_in(&format!("?login_id={login}"), &alice), login);

    assert_eq!(caller.ask("POST", "logout/aaaaaaaaaa", &json!({})).0, 404);
    assert_eq!(caller.post("logout/all", &json!({})), json!({}));
    assert_eq!(caller.get("logins"), json!({"login_ids": []}));
}

#[test]
fn accounts_are_looked_after_by_the_api_with_the_secret_and_with_an_openid_token() {
    let networks =
        json!({"xmpp": {"profile": "xmpp", "domains": {Prosody::DOMAIN: starttls(Prosody::shared().reach())}}});
    let keys = json!({"provisioning": {"shared_secret": SECRET, "allow_matrix_auth": true}});
    let bridge = Bridge::start_with("bridge", &networks, &keys);
    let (romeo, juliet) = (bridge.person("romeo"), bridge.person("juliet"));
    look_after(&Caller { bridge: &bridge, person: &romeo, token: SECRET.to_owned() });
    let token = juliet.call("openid_token", json!({}));
    let token = token.as_str().expect("an OpenID token");
    look_after(&Caller { bridge: &bridge, person: &juliet, token: format!("openid:{token}") });
    // A token is its owner's alone.
    for (token, person) in
        [(format!("openid:{token}"), &romeo), (format!("openid:{token}x"), &juliet), ("x".to_owned(), &juliet)]
    {
        let (status, refused) = Caller { bridge: &bridge, person, token }.ask("GET", "whoami", &json!({}));
        assert_eq!((status, &refused["errcode"]), (401, &json!("M_UNKNOWN_TOKEN")));
    }
    bridge.terminate();
    let log = fs::read_to_string(bridge.folder().join("bridge.log")).expect("the log");
    for secret in [SECRET, WRONG, PASSWORD, token] {
        assert!(!log.contains(secret), "the log holds {secret}");
    }
}

#[test]
fn the_api_is_what_its_description_says() {
    let prosody = Prosody::shared();
    let networks = json!({"xmpp": {"profile": "xmpp", "domains": {Prosody::DOMAIN: starttls(prosody.reach())}}});
    let bridge = Bridge::start_with("bridge", &networks, &json!({"provisioning": {"shared_secret": SECRET}}));
    let romeo = bridge.person("romeo");
    let caller = Caller { bridge: &bridge, person: &romeo, token: SECRET.to_owned() };
    let login = caller.sign_in("", &prosody.account("alice"));
    let before = bridge.log_length();
    // What nobody could guess; of logins that are signed out there is another test.
    let known = [("query.user_id", romeo.id.as_str()), ("query.login_id", &login), ("path.flowID", "xmpp")];
    let known: String = known.iter().map(|(name, value)| format!("\"{name}\" = \"{value}\"\n")).collect();
    let config = format!("[parameters]\n{known}");
    fs::write(bridge.folder().join("schemathesis.toml"), config).expect("write the config");
    let mut schemathesis = Command::new(ground::repository(".tools/venv/bin/schemathesis"));
    schemathesis.current_dir(bridge.folder()).stdin(Stdio::null()).env("NO_COLOR", "1");
    schemathesis.args(["run", "--checks", "all", "--mode", "all", "--max-examples", "15", "--seed", "1"]);
    schemathesis.args(["--rate-limit", "auto", "--request-timeout", "60", "--generation-database", "none"]);
    schemathesis.arg("--url").arg(format!("http://127.0.0.1:{}/_matrix/provision", bridge.port()));
    schemathesis.arg("--header").arg(format!("Authorization: Bearer {SECRET}"));
    let told =
        schemathesis.arg(ground::repository("docs/openapi.yaml")).output().expect("schemathesis, by script/setup");
    let said = String::from_utf8_lossy(&told.stdout);
    assert!(told.status.success(), "{said}{}", String::from_utf8_lossy(&told.stderr));
    println!("{said}");
    assert!(said.contains("Tested: 14"), "not all of it was tried: {said}");
    // It was not refused at the door: what answers at all has answered.
    let reached =
        ["whoami", "capabilities", "login/flows", "login/start/{flowID}", "logins", "contacts", "search_users"];
    let reached = reached.into_iter().chain(["resolve_identifier/{identifier}", "create_dm/{identifier}"]);
    for path in reached {
        let line = format!("provisioning path=\"/v3/{path}\" status=200");
        assert!(bridge.logged_since(before, &line), "nothing was answered at {path}");
    }
}

/// Keeps what is posted to it.
struct Receiver {
    port: u16,
    kept: Arc<Mutex<Vec<(String, Value)>>>,
}

impl Receiver {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let kept: Arc<Mutex<Vec<_>>> = Arc::default();
        let keep = Arc::clone(&kept);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let keep = Arc::clone(&keep);
                thread::spawn(move || Self::serve(stream, &keep));
            }
        });
        Self { port, kept }
    }

    /// Requests of one connection, until it ends.
    fn serve(stream: TcpStream, keep: &Mutex<Vec<(String, Value)>>) {
        let mut answers = stream.try_clone().expect("a stream");
        let mut reader = BufReader::new(stream);
        loop {
            let (mut length, mut token) = (0, String::new());
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 {
                    return;
                }
                let line = line.trim();
                match line.split_once(':') {
                    _ if line.is_empty() => break,
                    Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                        length = value.trim().parse().expect("a length");
                    }
                    Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                        value.trim().clone_into(&mut token);
                    }
                    _ => {}
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("a body");
            keep.lock().expect("no test panicked in here").push((token, serde_json::from_slice(&body).expect("JSON")));
            answers.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").expect("an answer");
        }
    }

    /// The names of the states of a login, or of the bridge.
    fn states(&self, login: Option<&str>) -> Vec<String> {
        let kept = self.kept.lock().expect("no test panicked in here");
        let states = kept.iter().filter(|(_, state)| state["remote_id"].as_str() == login);
        states.filter_map(|(_, state)| state["state_event"].as_str().map(str::to_owned)).collect()
    }

    fn awaits(&self, login: Option<&str>, wanted: &str) -> Value {
        let last = || {
            let kept = self.kept.lock().expect("no test panicked in here");
            kept.iter().rfind(|(_, state)| state["remote_id"].as_str() == login).map(|(_, state)| state.clone())
        };
        let came = ground::poll(|| last().is_some_and(|state| state["state_event"] == wanted));
        assert!(came, "{wanted} was not told; {:?} were", self.states(login));
        last().expect("it came")
    }
}

#[test]
fn states_are_told_to_the_endpoint_and_to_the_person() {
    let prosody = Prosody::start("prosody-comes-and-goes", Authority::trusted());
    let alice = prosody.account("alice");
    let receiver = Receiver::start();
    let networks = json!({"xmpp": {"profile": "xmpp", "domains": {Prosody::DOMAIN: starttls(prosody.reach())}}});
    let plan = Plan::new("bridge");
    let sections = json!({
        "homeserver": {
            "address": format!("http://127.0.0.1:{}", plan.homeserver), "domain": Synapse::DOMAIN,
            "status_endpoint": format!("http://127.0.0.1:{}/status", receiver.port),
        },
        "logins": {"status_notices": "all"},
        "provisioning": {"shared_secret": SECRET},
    });
    let bridge = Bridge::start_as_planned(plan, &networks, &sections);
    let romeo = bridge.person("romeo");
    receiver.awaits(None, "UNCONFIGURED");
    let management = Management::open(&romeo);
    let caller = Caller { bridge: &bridge, person: &romeo, token: SECRET.to_owned() };
    let login = caller.sign_in("", &alice);
    receiver.awaits(None, "RUNNING");
    let connected = receiver.awaits(Some(&login), "CONNECTED");
    assert_eq!((&connected["remote_name"], &connected["user_id"]), (&json!(alice.jid), &json!(romeo.id)));
    prosody.kill();
    let lost = receiver.awaits(Some(&login), "TRANSIENT_DISCONNECT");
    assert!(lost["error"].as_str().is_some_and(|code| code.starts_with("xmpp-")) && lost["ttl"] == 3600, "{lost}");
    assert_eq!(caller.state_of(&login), "TRANSIENT_DISCONNECT");
    prosody.launch();
    receiver.awaits(Some(&login), "CONNECTED");
    for state in ["TRANSIENT_DISCONNECT", "CONNECTED"] {
        let notice = romeo.expect(&format!("a notice of {state}"), |event| {
            event["room"] == management.room()
                && event["sender"] == Bridge::BOT
                && event["content"]["fi.mau.bridge_state"]["state_event"] == state
        });
        assert_eq!(notice["msgtype"], "m.notice", "{notice}");
    }
    // A start tells it anew, and so that it is over.
    bridge.terminate();
    bridge.launch();
    receiver.awaits(None, "RUNNING");
    receiver.awaits(Some(&login), "CONNECTED");
    caller.post(&format!("logout/{login}"), &json!({}));
    receiver.awaits(Some(&login), "LOGGED_OUT");
    receiver.awaits(None, "UNCONFIGURED");
    assert_eq!(receiver.states(None).first().map(String::as_str), Some("STARTING"));
    let kept = receiver.kept.lock().expect("no test panicked in here");
    let registration = fs::read_to_string(bridge.folder().join("registration.yaml")).expect("the registration");
    let tokens = registration.lines().find_map(|line| line.strip_prefix("as_token:")).expect("the token");
    let token = format!("Bearer {}", tokens.trim().trim_matches(['"', '\'']));
    assert!(kept.iter().all(|(given, _)| *given == token), "with another token");
    let doubled = kept.windows(2).find(|pair| {
        let same = |key: &str| pair[0].1[key] == pair[1].1[key];
        same("remote_id") && same("state_event") && same("error") && pair[0].1["state_event"] != "STARTING"
    });
    assert!(doubled.is_none(), "told twice: {doubled:?}");
}
