//! People on the other side: the contact list, a search in it, who somebody is, and the room of their chat.

use std::{sync::Arc, time::Duration};

use axum::{
    Extension,
    extract::{Request, State},
    http::StatusCode,
    response::Response,
};
use ruma::OwnedUserId;
use serde_json::{Value, json};

use super::{
    Api, Caller, PATIENCE, Parts, Provisioning, Who, object, query,
    reply::{Problem, answer},
};
use crate::domain::request::{Person, Request as Asked, Response as Told, Wish};

/// How long a network may take to say whose an address is, and the homeserver to make a room.
const LONG: Duration = Duration::from_secs(75);
/// The longest text that is searched for, in characters.
const QUERY: usize = 256;
/// The longest address, in bytes (RFC 7622 section 3.1).
const ADDRESS: usize = 3071;

/// As bridgev2 writes a `ResolvedIdentifier`.
fn write(person: &Person) -> Value {
    let mut json = json!({
        "id": person.contact.as_str(),
        "identifiers": [format!("xmpp:{}", person.contact)],
    });
    let mut set = |key: &str, value: Option<&str>| {
        if let Some(value) = value {
            json[key] = value.into();
        }
    };
    set("name", person.name.as_deref());
    set("avatar_url", person.avatar.as_deref());
    set("mxid", person.ghost.as_ref().map(|ghost| ghost.as_str()));
    set("dm_room_mxid", person.room.as_ref().map(|room| room.as_str()));
    json
}

impl Provisioning {
    /// Without a login that is named, none at all is an error of its own, as in bridgev2.
    async fn ask_of(self: &Arc<Self>, owner: OwnedUserId, wish: Wish, patience: Duration) -> Result<Told, Problem> {
        use crate::domain::request::RefusalCode;
        let named = match &wish {
            Wish::Contacts { login } | Wish::Search { login, .. } | Wish::Resolve { login, .. } => login.is_some(),
            _ => true,
        };
        match self.desk.ask(Asked::Person { owner, wish }, patience).await? {
            Told::Refused(refusal) if refusal.code == RefusalCode::NoSuchLogin && !named => {
                Err(Problem::bad("FI.MAU.NOT_LOGGED_IN", refusal.sentence))
            }
            Told::Refused(refusal) => Err(refusal.into()),
            told => Ok(told),
        }
    }
}

fn list(told: Told, name: &str) -> Result<Response, Problem> {
    match told {
        Told::People(people) => {
            Ok(answer(StatusCode::OK, &json!({ name: people.iter().map(write).collect::<Vec<_>>() })))
        }
        _ => Err(Problem::unexpected()),
    }
}

pub(super) async fn contacts(
    State(api): Api,
    Extension(Caller(owner)): Who,
    request: Request,
) -> Result<Response, Problem> {
    let login = query(&request, "login_id");
    list(api.ask_of(owner, Wish::Contacts { login }, PATIENCE).await?, "contacts")
}

pub(super) async fn search(
    State(api): Api,
    Extension(Caller(owner)): Who,
    request: Request,
) -> Result<Response, Problem> {
    let login = query(&request, "login_id");
    let body = object(request).await?;
    let Some(text) = body.get("query").and_then(Value::as_str) else {
        return Err(Problem::bad("M_BAD_JSON", "`query` is missing, or no text."));
    };
    if text.chars().count() > QUERY {
        return Err(Problem::bad("M_INVALID_PARAM", "That is too long to be searched for."));
    }
    let wish = Wish::Search { login, text: text.to_owned() };
    list(api.ask_of(owner, wish, PATIENCE).await?, "results")
}

async fn look_up(
    api: &Arc<Provisioning>,
    owner: OwnedUserId,
    who: String,
    login: Option<String>,
    open: bool,
) -> Result<Response, Problem> {
    if who.len() > ADDRESS {
        return Err(Problem::bad("M_INVALID_PARAM", "That is too long for an address."));
    }
    match api.ask_of(owner, Wish::Resolve { login, who, open }, LONG).await? {
        Told::Resolved(person) => Ok(answer(StatusCode::OK, &write(&person))),
        _ => Err(Problem::unexpected()),
    }
}

pub(super) async fn resolve(
    State(api): Api,
    Extension(Caller(owner)): Who,
    Parts(who): Parts<String>,
    request: Request,
) -> Result<Response, Problem> {
    look_up(&api, owner, who, query(&request, "login_id"), false).await
}

pub(super) async fn create_dm(
    State(api): Api,
    Extension(Caller(owner)): Who,
    Parts(who): Parts<String>,
    request: Request,
) -> Result<Response, Problem> {
    look_up(&api, owner, who, query(&request, "login_id"), true).await
}
