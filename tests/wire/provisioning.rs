//! The provisioning API over real sockets, with an engine and a homeserver of the tests' own.
#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use messenger_bridge::{
    bridge::{Homeserver as Host, Permission, PermissionKey, Settings},
    desk::Desk,
    domain::{
        BareJid, Input, LoginId, Timestamp,
        bridge_state::{BridgeState, Remote, StateEvent},
        credentials::Secret,
        request::{
            Connection, Field, FieldId, Flow, LoginState, LoginStep, Overview, Person, ProcessId, Refusal, RefusalCode,
            Request, Response, Step, StepAnswer, Wish,
        },
    },
    provisioning::{
        BODY, Keys, Provisioning,
        identity::Identity,
        limits::{AT_ONCE, BURST},
        routes,
        status::{Endpoint, StatusBoard},
    },
};
use reqwest::Method;
use ruma::OwnedUserId;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::matrix_homeserver::Homeserver;
use crate::scenes::stage::{Stage, homeserver};

const SECRET: &str = "a secret of the tests";
const ROMEO: &str = "@romeo:h.test";

/// What the engine is asked, and by whom.
type Asked = Arc<Mutex<Vec<String>>>;

struct Api {
    url: String,
    http: reqwest::Client,
    asked: Asked,
    board: Arc<StatusBoard>,
}

fn person(settings: &mut Settings, user: &str, permission: Permission) {
    settings.permissions.push((PermissionKey::User(user.try_into().unwrap()), permission));
}

/// The API; the engine answers by `rule`. `None`: never.
async fn start_with(
    secret: Option<&str>,
    tokens: Option<&str>,
    rule: impl Fn(&OwnedUserId, Wish) -> Option<Response> + Send + 'static,
) -> Api {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (mailbox, mut inputs) = mpsc::channel(64);
    let desk = Desk::new(mailbox);
    let (asked, answering) = (Asked::default(), Arc::clone(&desk));
    let heard = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Some(input) = inputs.recv().await {
            let Input::Requested { ticket, request: Request::Person { owner, wish } } = input else {
                panic!("{input:?}")
            };
            heard.lock().unwrap().push(format!("{owner} {wish:?}"));
            if let Some(response) = rule(&owner, wish) {
                answering.answer(ticket, response);
            }
        }
    });
    let mut settings = Stage::settings();
    person(&mut settings, "@tybalt:h.test", Permission::Block);
    let host: Host = homeserver();
    let nowhere = "http://127.0.0.1:9";
    let (client, federation) = (tokens.unwrap_or(nowhere), tokens.unwrap_or(nowhere));
    let keys = Keys {
        secret: secret.map(Secret::new),
        allow_matrix_auth: tokens.is_some(),
        identity: Identity::new(host.name.clone(), client, federation).unwrap(),
    };
    let board = Arc::new(StatusBoard::default());
    let api = Provisioning::new(desk, Arc::clone(&board), keys, host, settings);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/_matrix/provision", listener.local_addr().unwrap());
    let router = api.router();
    tokio::spawn(async move { axum::serve(listener, router).await });
    Api { url, http: reqwest::Client::new(), asked, board }
}

async fn start(rule: impl Fn(&OwnedUserId, Wish) -> Option<Response> + Send + 'static) -> Api {
    start_with(Some(SECRET), None, rule).await
}

fn flows() -> Response {
    Response::Flows(vec![Flow { id: "xmpp".to_owned(), name: "xmpp".to_owned(), description: "Sign in.".to_owned() }])
}

fn login() -> LoginId {
    LoginId::derive(ROMEO, "xmpp", "romeo@montague.lit")
}

impl Api {
    async fn ask(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: impl Into<reqwest::Body>,
    ) -> (u16, Value) {
        let mut request = self.http.request(method, format!("{}{path}", self.url)).body(body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.headers()["access-control-allow-origin"], "*", "{path}");
        (answer.status().as_u16(), serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
    }

    async fn get(&self, path: &str) -> (u16, Value) {
        self.ask(Method::GET, &with_user(path), Some(SECRET), "").await
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.ask(Method::POST, &with_user(path), Some(SECRET), body.to_string()).await
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn with_user(path: &str) -> String {
    let join = if path.contains('?') { '&' } else { '?' };
    format!("{path}{join}user_id={ROMEO}")
}

fn code(answer: &(u16, Value)) -> (u16, &str) {
    (answer.0, answer.1["errcode"].as_str().unwrap_or_default())
}

// ---- who asks

#[tokio::test]
async fn the_secret_opens_the_api_for_people_who_may_use_the_bridge() {
    let api = start(|_, _| Some(flows())).await;
    let flows = async |token: Option<&str>, query: &str| {
        api.ask(Method::GET, &format!("/v3/login/flows{query}"), token, "").await
    };
    let right = Some(SECRET);
    for (token, query, status, errcode) in [
        (None, "?user_id=@romeo:h.test", 401, "M_MISSING_TOKEN"),
        (Some("another"), "?user_id=@romeo:h.test", 401, "M_UNKNOWN_TOKEN"),
        (Some("a secret of the test"), "?user_id=@romeo:h.test", 401, "M_UNKNOWN_TOKEN"),
        (Some("openid:abc"), "?user_id=@romeo:h.test", 401, "M_UNKNOWN_TOKEN"),
        (right, "", 400, "M_MISSING_PARAM"),
        (right, "?user_id=romeo", 400, "M_INVALID_PARAM"),
        (right, "?user_id=@tybalt:h.test", 403, "M_FORBIDDEN"),
        (right, "?user_id=@paris:elsewhere.test", 403, "M_FORBIDDEN"),
        (right, "?user_id=@messengerbot:h.test", 403, "M_FORBIDDEN"),
        (right, "?user_id=@messenger_abc:h.test", 403, "M_FORBIDDEN"),
        (right, "?user_id=@romeo:h.test", 200, ""),
        (right, "?user_id=%40romeo%3Ah.test", 200, ""),
    ] {
        assert_eq!(code(&flows(token, query).await), (status, errcode), "{token:?} {query}");
    }
    assert_eq!(api.asked().len(), 2, "nobody else reaches the engine");
}

#[tokio::test]
async fn without_a_secret_and_without_tokens_the_api_is_off() {
    let api = start_with(None, None, |_, _| panic!("nobody may ask")).await;
    for token in [None, Some(""), Some("x"), Some("openid:x")] {
        let answer = api.ask(Method::GET, "/v3/whoami?user_id=@romeo:h.test", token, "").await;
        assert_eq!(code(&answer), (403, "M_FORBIDDEN"), "{token:?}");
    }
}

#[tokio::test]
async fn a_token_of_our_homeserver_opens_it_for_its_owner_alone() {
    let server = Homeserver::start().await;
    let url = server.url.clone();
    let lines = server.serve(|asked| match (asked.path.as_str(), asked.query("access_token"), asked.token.as_str()) {
        ("/_matrix/federation/v1/openid/userinfo", Some("romeos"), _) => (200, json!({ "sub": ROMEO }).to_string()),
        ("/_matrix/federation/v1/openid/userinfo", Some("parises"), _) => {
            (200, json!({ "sub": "@paris:elsewhere.test" }).to_string())
        }
        ("/_matrix/client/v3/account/whoami", None, "Bearer romeos-access") => {
            (200, json!({ "user_id": ROMEO }).to_string())
        }
        ("/_matrix/client/v3/account/whoami", None, "Bearer guests") => {
            (200, json!({ "user_id": "@77:h.test", "is_guest": true }).to_string())
        }
        ("/_matrix/client/v3/account/whoami", None, "Bearer broken") => (502, "<html>".to_owned()),
        _ => (401, json!({ "errcode": "M_UNKNOWN_TOKEN", "error": "no" }).to_string()),
    });
    let api = start_with(Some(SECRET), Some(&url), |owner, _| {
        assert_eq!(owner, ROMEO);
        Some(flows())
    })
    .await;
    for (token, query, status, errcode) in [
        ("openid:romeos", "?user_id=@romeo:h.test", 200, ""),
        ("openid:romeos", "", 200, ""),
        ("openid:h.test:romeos", "", 200, ""),
        ("openid:romeos", "?user_id=@juliet:h.test", 401, "M_UNKNOWN_TOKEN"),
        ("openid:forged", "?user_id=@romeo:h.test", 401, "M_UNKNOWN_TOKEN"),
        ("openid:", "?user_id=@romeo:h.test", 401, "M_UNKNOWN_TOKEN"),
        // Our homeserver speaks for its own people; another one is not asked.
        ("openid:parises", "?user_id=@paris:elsewhere.test", 401, "M_UNKNOWN_TOKEN"),
        ("openid:elsewhere.test:romeos", "", 401, "M_UNKNOWN_TOKEN"),
        ("romeos-access", "?user_id=@romeo:h.test", 200, ""),
        ("romeos-access", "?user_id=@juliet:h.test", 401, "M_UNKNOWN_TOKEN"),
        ("romeos", "?user_id=@romeo:h.test", 401, "M_UNKNOWN_TOKEN"),
        ("guests", "", 401, "M_UNKNOWN_TOKEN"),
        ("broken", "", 503, "M_UNKNOWN"),
    ] {
        let answer = api.ask(Method::GET, &format!("/v3/login/flows{query}"), Some(token), "").await;
        assert_eq!(code(&answer), (status, errcode), "{token} {query}");
    }
    let lines = lines.lock().unwrap().clone();
    let of_romeo = lines.iter().filter(|line| line.contains("userinfo")).count();
    assert_eq!(of_romeo, 4, "what is known is not asked again: {lines:?}");
    assert_eq!(api.ask(Method::GET, "/v3/login/flows?user_id=@romeo:h.test", Some(SECRET), "").await.0, 200);
}

#[tokio::test]
async fn a_homeserver_that_does_not_check_tokens_there_is_said_to() {
    let server = Homeserver::start().await;
    let url = server.url.clone();
    server.serve(|_| (404, json!({ "errcode": "M_UNRECOGNIZED", "error": "Unrecognized request" }).to_string()));
    let api = start_with(None, Some(&url), |_, _| panic!()).await;
    let (status, body) = api.ask(Method::GET, "/v3/whoami", Some("openid:x"), "").await;
    assert_eq!(status, 503);
    assert!(body["error"].as_str().unwrap().contains("provisioning.federation_address"), "{body}");
}

#[tokio::test]
async fn browsers_may_use_it_from_anywhere_and_nothing_is_kept() {
    let api = start(|_, _| Some(flows())).await;
    for (_, path) in routes() {
        let answer = api.http.request(Method::OPTIONS, format!("{}{path}", api.url)).send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        let allowed = answer.headers()["access-control-allow-headers"].to_str().unwrap();
        assert!(allowed.contains("Authorization"), "{allowed}");
    }
    let answer = api.http.get(format!("{}/v3/whoami", api.url)).send().await.unwrap();
    assert_eq!((&answer.headers()["cache-control"], answer.status().as_u16()), (&"no-store".parse().unwrap(), 401));
    let answer = api.http.delete(format!("{}/v3/whoami", api.url)).bearer_auth(SECRET).send().await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers().contains_key("allow")), (405, true));
}

// ---- what is answered

fn romeo(connection: Connection, reason: Option<&str>) -> LoginState {
    LoginState {
        id: login(),
        network: "xmpp".to_owned(),
        account: BareJid::parse("romeo@montague.lit").unwrap(),
        name: Some("Romeo".to_owned()),
        space: Some("!space:h.test".try_into().unwrap()),
        connection,
        since: Some(Timestamp(1_774_000_000_000)),
        reason: reason.map(str::to_owned),
    }
}

fn overview(login: LoginState) -> Response {
    let management = Some("!bot:h.test".try_into().unwrap());
    Response::Overview(Overview { management, admin: false, logins: vec![login] })
}

#[tokio::test]
async fn whoami_says_who_one_is_and_how_ones_logins_are() {
    let api = start(|_, wish| {
        Some(match wish {
            Wish::Overview => overview(romeo(Connection::Down, Some("it is away"))),
            _ => flows(),
        })
    })
    .await;
    let (status, body) = api.get("/v3/whoami").await;
    assert_eq!(status, 200);
    let login = login();
    assert_eq!(
        body,
        json!({
            "network": {
                "displayname": "Messenger and XMPP", "network_url": "", "network_icon": "", "network_id": "messenger-bridge",
                "beeper_bridge_type": "org.messenger_bridge",
            },
            "login_flows": [{ "id": "xmpp", "name": "xmpp", "description": "Sign in." }],
            "homeserver": "h.test",
            "bridge_bot": "@messengerbot:h.test",
            "command_prefix": "!msgr",
            "management_room": "!bot:h.test",
            "logins": [{
                "state_event": "TRANSIENT_DISCONNECT",
                "state_ts": 1_774_000_000,
                "state": {
                    "state_event": "TRANSIENT_DISCONNECT", "timestamp": 1_774_000_000, "ttl": 21_600, "source": "bridge",
                    "message": "it is away",
                },
                "id": login.as_str(),
                "name": "romeo@montague.lit",
                "profile": { "username": "romeo@montague.lit", "name": "Romeo" },
                "space_room": "!space:h.test",
            }],
        })
    );
    // What was told of it last says more.
    let account = BareJid::parse("romeo@montague.lit").unwrap();
    let remote = Remote { login: login.clone(), owner: ROMEO.try_into().unwrap(), account, name: None };
    api.board.put(BridgeState {
        remote: Some(remote),
        event: StateEvent::BadCredentials,
        at: Timestamp(1_774_000_007_000),
        error: Some("xmpp-rejected"),
        message: Some("the sign-in was refused".to_owned()),
    });
    let state = &api.get("/v3/whoami").await.1["logins"][0]["state"];
    assert_eq!(
        *state,
        json!({
            "state_event": "BAD_CREDENTIALS", "timestamp": 1_774_000_007, "ttl": 3_600, "source": "bridge",
            "error": "xmpp-rejected", "message": "the sign-in was refused", "user_action": "RELOGIN",
        })
    );
    assert_eq!(api.get("/v3/logins").await, (200, json!({ "login_ids": [login.as_str()] })));
    let (_, capabilities) = api.get("/v3/capabilities").await;
    assert_eq!(capabilities["resolve_identifier"]["create_dm"], true);
}

#[tokio::test]
async fn people_are_answered_as_bridgev2_writes_them() {
    let api = start(|_, wish| {
        let person = |name: &str, room: Option<&str>| Person {
            login: login(),
            contact: BareJid::parse(&format!("{name}@capulet.lit")).unwrap(),
            name: room.map(|_| name.to_owned()),
            avatar: room.map(|_| "mxc://h.test/photo".to_owned()),
            ghost: Some(format!("@messenger_x_{name}:h.test").try_into().unwrap()),
            room: room.map(|room| room.try_into().unwrap()),
        };
        let refused = |code, sentence: &str| Response::Refused(Refusal { code, sentence: sentence.to_owned() });
        Some(match wish {
            Wish::Contacts { login: Some(_) } => refused(RefusalCode::NoSuchLogin, "You have no such login."),
            Wish::Contacts { .. } | Wish::Search { .. } => {
                Response::People(vec![person("juliet", Some("!r:h.test")), person("nurse", None)])
            }
            Wish::Resolve { open, who, .. } if who == "juliet@capulet.lit" => {
                Response::Resolved(Box::new(person("juliet", open.then_some("!r:h.test"))))
            }
            Wish::Resolve { login: None, .. } => refused(RefusalCode::NoSuchLogin, "You are not signed in."),
            _ => refused(RefusalCode::NoSuchPerson, "Nobody."),
        })
    })
    .await;
    let juliet = json!({
        "id": "juliet@capulet.lit", "identifiers": ["xmpp:juliet@capulet.lit"], "name": "juliet",
        "avatar_url": "mxc://h.test/photo", "mxid": "@messenger_x_juliet:h.test", "dm_room_mxid": "!r:h.test",
    });
    let nurse = json!({ "id": "nurse@capulet.lit", "identifiers": ["xmpp:nurse@capulet.lit"], "mxid": "@messenger_x_nurse:h.test" });
    assert_eq!(api.get("/v3/contacts").await, (200, json!({ "contacts": [juliet, nurse] })));
    let found = api.post("/v3/search_users?login_id=x", &json!({ "query": "JUL" })).await;
    assert_eq!(found, (200, json!({ "results": [juliet, nurse] })));
    assert!(api.asked().last().unwrap().contains("text: \"JUL\""));
    assert_eq!(api.post("/v3/create_dm/juliet%40capulet.lit", &json!({})).await, (200, juliet));
    assert_eq!(api.get("/v3/resolve_identifier/juliet@capulet.lit").await.1["dm_room_mxid"], Value::Null);
    for (path, status, errcode) in [
        ("/v3/contacts?login_id=x", 404, "M_NOT_FOUND"),
        ("/v3/resolve_identifier/tybalt@capulet.lit", 400, "FI.MAU.NOT_LOGGED_IN"),
        ("/v3/resolve_identifier/tybalt@capulet.lit?login_id=x", 404, "M_NOT_FOUND"),
    ] {
        assert_eq!(code(&api.get(path).await), (status, errcode), "{path}");
    }
    for (body, status, errcode) in [
        ("{", 400, "M_NOT_JSON"),
        ("[]", 400, "M_BAD_JSON"),
        ("{}", 400, "M_BAD_JSON"),
        ("{\"query\":1}", 400, "M_BAD_JSON"),
    ] {
        let answer = api.ask(Method::POST, &with_user("/v3/search_users"), Some(SECRET), body).await;
        assert_eq!(code(&answer), (status, errcode), "{body}");
    }
}

// ---- signing in

const PROCESS: ProcessId = ProcessId { number: 7, made: Timestamp(1_774_000_000_000) };

fn step(number: u32, step: Step) -> Response {
    Response::Step(Box::new(LoginStep {
        process: PROCESS,
        number,
        owner: ROMEO.try_into().unwrap(),
        network: "xmpp".to_owned(),
        again: None,
        page: Some(Secret::new("https://b.test/login/7")),
        ends: Timestamp(i64::MAX),
        step,
    }))
}

fn field(id: FieldId, problem: Option<&str>) -> Field {
    Field {
        id,
        name: "A name".to_owned(),
        description: "What it is.".to_owned(),
        value: Some("romeo@montague.lit".to_owned()),
        problem: problem.map(str::to_owned),
    }
}

fn done() -> Step {
    Step::Done { login: login(), account: BareJid::parse("romeo@montague.lit").unwrap() }
}

#[tokio::test]
async fn an_account_is_signed_in_to_in_the_steps_of_bridgev2() {
    let api = start(|_, wish| {
        Some(match wish {
            Wish::StartLogin { .. } => {
                step(1, Step::Fields(vec![field(FieldId::Account, None), field(FieldId::Password, None)]))
            }
            Wish::ContinueLogin { step: 1, answer: StepAnswer::Fields(fields), .. } => {
                let password = fields[&FieldId::Password].expose();
                match password {
                    "right" => step(2, Step::Wait),
                    "typo" => step(2, Step::Fields(vec![field(FieldId::Password, Some("It is too short."))])),
                    _ => step(2, Step::Failed { sentence: "Could not sign in.".to_owned() }),
                }
            }
            Wish::ContinueLogin { step: 2, answer: StepAnswer::Wait, .. } => step(2, done()),
            Wish::CancelLogin { process } if process == PROCESS => Response::Done,
            Wish::Logout { .. } => Response::Done,
            other => panic!("{other:?}"),
        })
    })
    .await;
    let (status, first) = api.post("/v3/login/start/xmpp?login_id=again", &json!({})).await;
    assert_eq!(status, 200);
    assert_eq!(api.asked(), [format!("{ROMEO} StartLogin {{ flow: \"xmpp\", again: Some(\"again\") }}")]);
    let ids = ("7-1774000000000", "org.messenger_bridge.fields.1", "bls_7-1774000000000_1");
    assert_eq!(
        first,
        json!({
            "login_id": ids.0, "type": "user_input", "step_id": ids.1, "txn_id": ids.2, "instructions": "",
            "user_input": {
                "attachments": [],
                "fields": [
                    { "type": "username", "id": "account", "name": "A name", "description": "What it is.", "default_value": "romeo@montague.lit" },
                    { "type": "password", "id": "password", "name": "A name", "description": "What it is." },
                ],
            },
        })
    );
    let submit = async |body: Value, query: &str| {
        api.post(&format!("/v3/login/step/{}/{}/user_input{query}", ids.0, ids.1), &body).await
    };
    let fields = |password: &str| json!({ "account": "romeo@montague.lit", "password": password });
    let right = submit(fields("right"), &format!("?txn_id={}", ids.2)).await;
    assert_eq!(
        right,
        (
            200,
            json!({
                "login_id": ids.0, "type": "complete", "step_id": "org.messenger_bridge.complete.2",
                "txn_id": "bls_7-1774000000000_2", "instructions": "Signed in to romeo@montague.lit.",
                "complete": { "user_login_id": login().as_str() },
            })
        )
    );
    let again = submit(fields("typo"), "").await.1;
    assert_eq!(
        (&again["step_id"], &again["instructions"]),
        (&json!("org.messenger_bridge.fields.2"), &json!("It is too short."))
    );
    let wrong = submit(fields("wrong"), "").await;
    assert_eq!(
        (code(&wrong), &wrong.1["error"]),
        ((403, "ORG.MESSENGER_BRIDGE.LOGIN_FAILED"), &json!("Could not sign in."))
    );
    assert!(api.asked().iter().all(|asked| !asked.contains("right") && !asked.contains("wrong")), "secrets are hidden");

    assert_eq!(code(&submit(fields("right"), "?txn_id=bls_7-1774000000000_9").await), (400, "M_BAD_STATE"));
    assert_eq!(code(&submit(json!({ "pin": "1" }), "").await), (400, "M_BAD_JSON"));
    assert_eq!(code(&submit(json!({ "password": 1 }), "").await), (400, "M_BAD_JSON"));
    assert_eq!(code(&submit(json!({ "password": "x".repeat(20_000) }), "").await), (400, "M_BAD_JSON"));
    let to = async |path: &str| api.post(&format!("/v3/login/step/{path}"), &json!({})).await;
    for (path, status, errcode) in [
        ("7/org.messenger_bridge.fields.1/user_input", 404, "M_NOT_FOUND"),
        ("7-1774000000000/fields.1/user_input", 400, "M_BAD_STATE"),
        ("7-1774000000000/org.messenger_bridge.fields.x/user_input", 400, "M_BAD_STATE"),
        ("7-1774000000000/org.messenger_bridge.fields.1/display_and_wait", 400, "M_BAD_STATE"),
        ("7-1774000000000/org.messenger_bridge.page.1/user_input", 400, "M_BAD_STATE"),
    ] {
        assert_eq!(code(&to(path).await), (status, errcode), "{path}");
    }
    assert_eq!(api.post(&format!("/v3/login/cancel/{}", ids.0), &json!({})).await, (200, json!({})));
    assert_eq!(code(&api.post("/v3/login/cancel/nonsense", &json!({})).await), (404, "M_NOT_FOUND"));
    api.asked();
    api.post("/v3/logout/all", &json!({})).await;
    api.post("/v3/logout/abc", &json!({})).await;
    let logout = |login: &str| format!("{ROMEO} Logout {{ login: {login}, rooms: None }}");
    assert_eq!(api.asked(), [logout("None"), logout("Some(\"abc\")")]);
}

#[tokio::test]
async fn a_step_whose_answer_was_lost_can_be_answered_again() {
    let api = start(|_, wish| {
        let refused = Refusal { code: RefusalCode::WrongStep, sentence: "Another step is due.".to_owned() };
        Some(match wish {
            Wish::ContinueLogin { answer: StepAnswer::Wait, .. } => step(2, done()),
            Wish::ContinueLogin { .. } => Response::Refused(refused),
            other => panic!("{other:?}"),
        })
    })
    .await;
    let submit = async |number: u32| {
        let path = format!("/v3/login/step/7-1774000000000/org.messenger_bridge.fields.{number}/user_input");
        api.post(&path, &json!({ "password": "x" })).await
    };
    assert_eq!(submit(1).await.1["type"], "complete", "the step before the present one");
    assert_eq!(code(&submit(3).await), (400, "M_BAD_STATE"), "one to come");
}

#[tokio::test]
async fn a_providers_page_is_opened_and_waited_for_or_its_address_pasted() {
    let api = start(|_, wish| {
        let authorize = "https://provider.test/?a=1&b=2".to_owned();
        Some(match wish {
            Wish::StartLogin { flow, .. } => step(1, Step::Link { authorize, returns: flow == "page", problem: None }),
            Wish::ContinueLogin { step: 1, answer: StepAnswer::Wait, .. } => step(2, done()),
            Wish::ContinueLogin { step: 1, answer: StepAnswer::Fields(fields), .. } => {
                assert_eq!(fields[&FieldId::Redirect].expose(), "https://x.test/?code=c");
                step(2, done())
            }
            other => panic!("{other:?}"),
        })
    })
    .await;
    let (_, page) = api.post("/v3/login/start/page", &json!({})).await;
    assert_eq!(page["display_and_wait"], json!({ "type": "code", "data": "https://b.test/login/7" }));
    assert!(page["instructions"].as_str().unwrap().contains("https://b.test/login/7"), "{page}");
    let path = format!(
        "/v3/login/step/{}/{}/display_and_wait",
        page["login_id"].as_str().unwrap(),
        page["step_id"].as_str().unwrap()
    );
    assert_eq!(api.ask(Method::POST, &with_user(&path), Some(SECRET), "").await.1["type"], "complete");
    let (_, paste) = api.post("/v3/login/start/paste", &json!({})).await;
    assert_eq!(paste["user_input"]["fields"][0]["type"], "url");
    assert!(paste["instructions"].as_str().unwrap().contains("https://provider.test/?a=1&b=2"), "{paste}");
    let path = format!(
        "/v3/login/step/{}/{}/user_input",
        paste["login_id"].as_str().unwrap(),
        paste["step_id"].as_str().unwrap()
    );
    assert_eq!(api.post(&path, &json!({ "redirect": "https://x.test/?code=c" })).await.1["type"], "complete");
}

#[tokio::test]
async fn each_refusal_has_the_code_that_programs_know() {
    let api = start(|_, wish| {
        let Wish::StartLogin { flow, .. } = wish else { panic!("{wish:?}") };
        let code = match flow.as_str() {
            "permission" => RefusalCode::NoPermission,
            "login" => RefusalCode::NoSuchLogin,
            "flow" => RefusalCode::NoSuchFlow,
            "many" => RefusalCode::TooMany,
            "unreadable" => RefusalCode::Unreadable,
            "now" => RefusalCode::NotNow,
            _ => return Some(Response::Done),
        };
        Some(Response::Refused(Refusal { code, sentence: "Why.".to_owned() }))
    })
    .await;
    for (flow, status, errcode) in [
        ("permission", 403, "M_FORBIDDEN"),
        ("login", 404, "M_NOT_FOUND"),
        ("flow", 404, "M_NOT_FOUND"),
        ("many", 403, "FI.MAU.BRIDGE.TOO_MANY_LOGINS"),
        ("unreadable", 400, "M_INVALID_PARAM"),
        ("now", 503, "M_UNKNOWN"),
        ("unexpected", 500, "M_UNKNOWN"),
    ] {
        assert_eq!(code(&api.post(&format!("/v3/login/start/{flow}"), &json!({})).await), (status, errcode), "{flow}");
    }
}

// ---- bounds

#[tokio::test]
async fn a_body_of_more_than_64_kilobytes_is_refused() {
    let api = start(|_, _| Some(Response::People(Vec::new()))).await;
    let body = |length: usize| json!({ "query": "x", "more": "x".repeat(length) });
    assert_eq!(api.post("/v3/search_users", &body(BODY - 100)).await.0, 200);
    let (status, answer) = api.post("/v3/search_users", &body(BODY)).await;
    assert_eq!((status, answer["errcode"].as_str()), (413, Some("M_TOO_LARGE")));
}

#[tokio::test]
async fn whoever_asks_too_much_is_told_when_to_come_again_and_others_are_not() {
    let api = start(|_, _| Some(flows())).await;
    let mut limited = None;
    for _ in 0..BURST {
        let answer = api.post("/v3/login/start/xmpp", &json!({})).await;
        if answer.0 == 429 {
            limited = Some(answer.1);
            break;
        }
    }
    let limited = limited.expect("a limit");
    assert_eq!(
        (limited["errcode"].as_str(), limited["retry_after_ms"].as_u64()),
        (Some("M_LIMIT_EXCEEDED"), Some(1000))
    );
    let other = api.ask(Method::GET, "/v3/login/flows?user_id=@juliet:h.test", Some(SECRET), "").await;
    assert_eq!(other.0, 200);
}

#[tokio::test]
async fn one_person_has_so_many_requests_at_a_time() {
    let api = Arc::new(start(|owner, _| (owner != ROMEO).then(flows)).await);
    let waiting: Vec<_> = (0..AT_ONCE)
        .map(|_| {
            let api = Arc::clone(&api);
            tokio::spawn(async move { api.get("/v3/login/flows").await })
        })
        .collect();
    while api.asked.lock().unwrap().len() < AT_ONCE {
        tokio::task::yield_now().await;
    }
    assert_eq!(code(&api.get("/v3/login/flows").await), (429, "M_LIMIT_EXCEEDED"));
    let other = api.ask(Method::GET, "/v3/login/flows?user_id=@juliet:h.test", Some(SECRET), "").await;
    assert_eq!(other.0, 200);
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}

// ---- the description

#[test]
fn every_endpoint_is_described_and_every_description_has_its_endpoint() {
    let text = messenger_bridge::provisioning::OPENAPI;
    let mut described = BTreeSet::new();
    let mut path = "";
    let paths = text.split("\npaths:\n").nth(1).unwrap().split("\ncomponents:\n").next().unwrap();
    for line in paths.lines() {
        if let Some(name) = line.strip_prefix("  /") {
            path = name.trim_end_matches(':');
        } else if let Some(method) = line.strip_prefix("    ").filter(|line| !line.starts_with(' ')) {
            described.insert((method.trim_end_matches(':').to_uppercase(), format!("/{path}")));
        }
    }
    let served: BTreeSet<_> = routes().into_iter().map(|(method, path)| (method.to_owned(), path.to_owned())).collect();
    assert_eq!(described, served);
}

// ---- states

#[tokio::test]
async fn states_are_told_with_the_token_the_newest_of_each_login_and_again_after_a_failure() {
    let mut receiver = Homeserver::start().await;
    let endpoint = Endpoint::new(&format!("{}/status?x=1", receiver.url), Secret::new("as-token")).unwrap();
    let board = Arc::new(StatusBoard::default());
    let state = |event, at| BridgeState {
        remote: Some(Remote {
            login: login(),
            owner: ROMEO.try_into().unwrap(),
            account: BareJid::parse("romeo@montague.lit").unwrap(),
            name: None,
        }),
        event,
        at: Timestamp(at),
        error: None,
        message: None,
    };
    board.put(BridgeState::of_bridge(StateEvent::Starting, Timestamp(1)));
    let teller = tokio::spawn(Arc::clone(&board).tell(endpoint));
    let asked = receiver.next().await;
    assert_eq!(
        (asked.method.as_str(), asked.path.as_str(), asked.token.as_str()),
        ("POST", "/status", "Bearer as-token")
    );
    assert_eq!((asked.query("x"), asked.json()["state_event"].as_str()), (Some("1"), Some("STARTING")));
    // While that is being told a login comes and goes: only its newest state is told, and a failure is not the end.
    board.put(state(StateEvent::Connecting, 2));
    board.put(state(StateEvent::Backfilling, 3));
    board.put(state(StateEvent::Connected, 4));
    asked.answer(500, "");
    let again = receiver.next().await;
    let first = again.json();
    again.answer(200, "");
    let then = receiver.next().await;
    let second = then.json();
    then.answer(204, "");
    let told: BTreeSet<_> = [&first, &second].map(|state| state["state_event"].as_str().unwrap()).into();
    assert_eq!(told, ["CONNECTED", "STARTING"].into());
    let connected = if first["state_event"] == "CONNECTED" { first } else { second };
    assert_eq!((&connected["remote_id"], &connected["user_id"]), (&json!(login().as_str()), &json!(ROMEO)));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(connected["timestamp"].as_u64().unwrap().abs_diff(now) < 60, "it holds from when it is told");
    assert_eq!(board.latest(&login()).unwrap().event, StateEvent::Connected);
    board.put(state(StateEvent::LoggedOut, 5));
    receiver.next().await.answer(200, "");
    assert!(board.latest(&login()).is_none());
    assert!(receiver.is_quiet());
    teller.abort();
}
