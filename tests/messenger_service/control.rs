//! The same operations as JSON lines: a request `{"op":…,"id":…}` gets `{"id":…,"ok":…}` or `{"id":…,"error":…}`; events
//! come in between, as `{"event":…}`.
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::mpsc;

use super::archive::Direction;
use super::cast;
use super::persona::Persona;
use super::service::Service;
use super::settings::{Status, Switches};
use super::world::{ChatState, ServiceError};

/// A request. Accounts are named by e-mail address or bare JID; stamps are RFC 3339.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// `ok` is the account.
    AddAccount { email: String, name: String, password: String },
    /// `ok` is the list of accounts.
    Accounts {},
    /// Adds a cast of contacts that answer; `ok` is the list of them.
    AddContacts { account: String, count: usize },
    /// Makes two accounts contacts.
    Befriend { owner: String, contact: String, name: String },
    /// The photo is a PNG in base64.
    SetVcard {
        account: String,
        nickname: String,
        full_name: String,
        #[serde(default)]
        photo: Option<String>,
    },
    /// A scripted contact's state and personal message.
    Presence {
        account: String,
        status: Status,
        #[serde(default)]
        text: String,
    },
    /// A scripted contact writes; `ok` is what became of it.
    Say {
        from: String,
        to: String,
        text: String,
        #[serde(default)]
        state: Option<ChatState>,
    },
    /// A chat state without a body.
    ChatState { from: String, to: String, state: ChatState },
    /// Puts a message into the offline store.
    StoreOffline { from: String, to: String, text: String, stamp: String },
    /// Puts a line into the owner's archive.
    StoreArchived { owner: String, contact: String, text: String, stamp: String, direction: Direction },
    /// A scripted contact asks.
    Invite { from: String, to: String },
    /// Whether a scripted contact accepts invitations by itself.
    Welcoming { account: String, welcoming: bool },
    /// A scripted contact answers an invitation.
    Answer { account: String, asker: String, accept: bool },
    /// `echo`, `friendly`, `busy`, or nothing to stop.
    Autoreply {
        account: String,
        #[serde(default)]
        persona: Option<String>,
        #[serde(default)]
        typing_ms: Option<u64>,
    },
    /// Refuses the next sign-ins.
    RefuseNextSignIns { count: u32 },
    /// Refuses refresh tokens.
    RefuseRefresh { refuse: bool },
    /// Cuts an account's connections; `ok` is their number.
    Cut { account: String },
    /// `ok` is the list of full JIDs of an account's clients.
    Clients { account: String },
    /// An access token without the web pages.
    AccessToken {
        account: String,
        #[serde(default)]
        lifetime_ms: Option<u64>,
    },
    /// `ok` is the counters, of one account or of all.
    Counters {
        #[serde(default)]
        account: Option<String>,
    },
    /// Changes the switches that are named; `ok` is all of them.
    Set { switches: serde_json::Map<String, Value> },
    /// Ends the program.
    Quit {},
}

/// Does what one line asks; the answer, and whether to go on.
pub fn answer(service: &Service, line: &str) -> (Value, bool) {
    let mut request: Value = match serde_json::from_str(line) {
        Ok(request) => request,
        Err(why) => return (json!({ "id": null, "error": why.to_string() }), true),
    };
    let id = request.as_object_mut().and_then(|object| object.remove("id")).unwrap_or(Value::Null);
    let request = match serde_json::from_value(request) {
        Ok(request) => request,
        Err(why) => return (json!({ "id": id, "error": why.to_string() }), true),
    };
    let goes_on = !matches!(request, Request::Quit {});
    match execute(service, request) {
        Ok(value) => (json!({ "id": id, "ok": value }), goes_on),
        Err(why) => (json!({ "id": id, "error": why.to_string() }), goes_on),
    }
}

fn execute(service: &Service, request: Request) -> Result<Value, ServiceError> {
    let done = |()| json!(true);
    match request {
        Request::AddAccount { email, name, password } => Ok(json!(service.add_account(&email, &name, &password)?)),
        Request::Accounts {} => Ok(json!(service.accounts())),
        Request::AddContacts { account, count } => Ok(json!(cast::contacts(service, &account, count)?)),
        Request::Befriend { owner, contact, name } => service.befriend(&owner, &contact, &name).map(done),
        Request::SetVcard { account, nickname, full_name, photo } => {
            let photo = photo.map(|photo| STANDARD.decode(photo)).transpose();
            let photo = photo.map_err(|why| ServiceError::Request(format!("photo: {why}")))?;
            service.set_vcard(&account, &nickname, &full_name, photo).map(done)
        }
        Request::Presence { account, status, text } => service.presence(&account, status, &text).map(done),
        Request::Say { from, to, text, state } => {
            let fate = match state {
                None => service.say(&from, &to, &text)?,
                Some(state) => service.say_with_state(&from, &to, &text, state)?,
            };
            Ok(json!(format!("{fate:?}").to_lowercase()))
        }
        Request::ChatState { from, to, state } => {
            Ok(json!(format!("{:?}", service.chat_state(&from, &to, state)?).to_lowercase()))
        }
        Request::StoreOffline { from, to, text, stamp } => {
            service.store_offline(&from, &to, &text, time_of(&stamp)?).map(done)
        }
        Request::StoreArchived { owner, contact, text, stamp, direction } => {
            service.store_archived(&owner, &contact, &text, time_of(&stamp)?, direction).map(done)
        }
        Request::Invite { from, to } => service.invite(&from, &to).map(done),
        Request::Welcoming { account, welcoming } => service.welcoming(&account, welcoming).map(done),
        Request::Answer { account, asker, accept } => service.answer(&account, &asker, accept).map(done),
        Request::Autoreply { account, persona, typing_ms } => {
            let persona = match persona {
                None => None,
                Some(name) => {
                    let unknown = || ServiceError::Request(format!("there is no persona {name}"));
                    let persona = Persona::named(&name).ok_or_else(unknown)?;
                    Some(match typing_ms {
                        Some(ms) => persona.typing(Duration::from_millis(ms)),
                        None => persona,
                    })
                }
            };
            service.autoreply(&account, persona).map(done)
        }
        Request::RefuseNextSignIns { count } => {
            service.refuse_next_sign_ins(count);
            Ok(json!(true))
        }
        Request::RefuseRefresh { refuse } => {
            service.refuse_refresh(refuse);
            Ok(json!(true))
        }
        Request::Cut { account } => Ok(json!(service.cut(&account)?)),
        Request::Clients { account } => Ok(json!(service.clients(&account)?)),
        Request::AccessToken { account, lifetime_ms } => {
            let lifetime = Duration::from_millis(lifetime_ms.unwrap_or(3_600_000));
            Ok(json!(service.access_token(&account, lifetime)?))
        }
        Request::Counters { account: Some(account) } => Ok(json!(service.counters_of(&account)?)),
        Request::Counters { account: None } => Ok(json!(service.counters())),
        Request::Set { switches } => {
            let changed = merged(&service.switches(), switches)?;
            service.set(|now| *now = changed);
            Ok(json!(service.switches()))
        }
        Request::Quit {} => Ok(json!(true)),
    }
}

fn merged(now: &Switches, changes: serde_json::Map<String, Value>) -> Result<Switches, ServiceError> {
    let wrong = |why: serde_json::Error| ServiceError::Request(why.to_string());
    let mut all = serde_json::to_value(now).map_err(wrong)?;
    if let Some(object) = all.as_object_mut() {
        object.extend(changes);
    }
    serde_json::from_value(all).map_err(wrong)
}

fn time_of(stamp: &str) -> Result<OffsetDateTime, ServiceError> {
    OffsetDateTime::parse(stamp, &Rfc3339).map_err(|why| ServiceError::Request(format!("stamp: {why}")))
}

/// Answers lines and tells of events until the lines end or `quit` comes. What is written goes into `out`, in order.
pub async fn run(service: &Service, mut lines: mpsc::Receiver<String>, out: mpsc::Sender<Value>) {
    let mut events = service.events();
    loop {
        let (value, goes_on) = tokio::select! {
            line = lines.recv() => match line {
                Some(line) if line.trim().is_empty() => continue,
                Some(line) => answer(service, &line),
                None => return,
            },
            event = events.next() => match event {
                Ok(event) => (json!(event), true),
                Err(why) => {
                    events = service.events();
                    (json!({ "event": "lost", "error": why.to_string() }), true)
                }
            },
        };
        if out.send(value).await.is_err() || !goes_on {
            return;
        }
    }
}
