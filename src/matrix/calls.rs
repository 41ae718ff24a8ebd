//! One method per call that we make.

use std::time::Duration;

use ruma::{
    MilliSecondsSinceUnixEpoch, OwnedEventId, OwnedMxcUri, OwnedRoomId, OwnedUserId, RoomId, UInt, UserId,
    api::client::{
        account::{register, whoami},
        appservice::request_ping,
        discovery::get_supported_versions,
        filter::RoomEventFilter,
        media::create_content,
        membership::{join_room_by_id, joined_members, joined_rooms, leave_room},
        message::{get_message_events, send_message_event},
        presence::{get_presence, set_presence},
        profile::{get_profile, set_avatar_url, set_display_name},
        receipt::create_receipt,
        redact::redact_event,
        room::{create_room, get_room_event},
        state::{get_state_event_for_key, get_state_events, send_state_event},
        typing::create_typing_event::{self, v3::TypingInfo},
    },
    presence::PresenceState,
    serde::Raw,
};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

use super::{
    client::{CallError, Client},
    transaction,
};
use crate::domain::{
    Timestamp,
    input::RoomEvent,
    output::{CreateRoom, RoomKind},
};

/// A state event as it stands in a room.
#[derive(Debug, Deserialize)]
pub struct StateEvent {
    /// Who set it.
    pub sender: OwnedUserId,
    /// Its content.
    pub content: Value,
}

#[derive(Deserialize)]
struct Content {
    content: Box<RawValue>,
}

/// How many of a user's newest events are looked at for one that was sent before. Lanes go in order, so that it is the
/// newest of its lane.
const LOOKED_AT: u16 = 20;
/// The same where the user is a person, who speaks between.
const LOOKED_AT_OF_A_PERSON: u16 = 100;

/// An event of ours as it stands in a room.
#[derive(Deserialize)]
struct SentEvent {
    event_id: OwnedEventId,
    sender: OwnedUserId,
    #[serde(default)]
    origin_server_ts: i64,
    content: SentContent,
}

#[derive(Deserialize)]
struct SentContent {
    #[serde(rename = "org.messenger_bridge.debt")]
    mark: Option<String>,
}

impl Client {
    /// `GET /versions`: the unstable features that are on. The versions are not used: Synapse's list ends before what it does.
    pub async fn features(&self) -> Result<Vec<String>, CallError> {
        let answer = self.ask("versions", get_supported_versions::Request::new()).await?;
        Ok(answer.unstable_features.into_iter().filter_map(|(name, on)| on.then_some(name)).collect())
    }

    /// `GET /account/whoami`: whom the homeserver takes the `as_token` for.
    pub async fn whoami(&self) -> Result<OwnedUserId, CallError> {
        Ok(self.call("whoami", None, whoami::v3::Request::new()).await?.user_id)
    }

    /// The same in the name of a user of its namespace.
    pub async fn whoami_of(&self, user: &UserId) -> Result<OwnedUserId, CallError> {
        Ok(self.call("whoami", Some(user), whoami::v3::Request::new()).await?.user_id)
    }

    /// `POST /appservice/{id}/ping`: lets the homeserver call our own `/ping`. Gives how long that took.
    pub async fn ping(&self, appservice: &str, transaction: &str) -> Result<Duration, CallError> {
        let mut request = request_ping::v1::Request::new(appservice.to_owned());
        request.transaction_id = Some(transaction.into());
        Ok(self.call("ping", None, request).await?.duration)
    }

    /// `POST /register` with `m.login.application_service`. `inhibit_login` because a homeserver with an authentication
    /// service refuses to log a ghost in.
    pub async fn register(&self, localpart: &str) -> Result<(), CallError> {
        let mut request = register::v3::Request::new();
        request.username = Some(localpart.to_owned());
        request.inhibit_login = true;
        request.login_type = Some(register::LoginType::ApplicationService);
        self.call("register", None, request).await.map(drop)
    }

    /// `PUT /profile/{user}/displayname`.
    #[allow(deprecated)] // the replacement's path is not in every homeserver
    pub async fn set_display_name(&self, user: &UserId, name: &str) -> Result<(), CallError> {
        let request = set_display_name::v3::Request::new(user.to_owned(), Some(name.to_owned()));
        self.call("displayname", Some(user), request).await.map(drop)
    }

    /// `PUT /profile/{user}/avatar_url`; an empty `url` removes it.
    #[allow(deprecated)]
    pub async fn set_avatar(&self, user: &UserId, url: &str) -> Result<(), CallError> {
        let url = (!url.is_empty()).then(|| OwnedMxcUri::from(url));
        self.call("avatar_url", Some(user), set_avatar_url::v3::Request::new(user.to_owned(), url)).await.map(drop)
    }

    /// `POST /media/upload`: the `mxc://` URI.
    pub async fn upload(&self, user: &UserId, mime: &str, bytes: Vec<u8>) -> Result<String, CallError> {
        let mut request = create_content::v3::Request::new(bytes);
        request.content_type = Some(mime.to_owned());
        Ok(self.call("upload", Some(user), request).await?.content_uri.to_string())
    }

    /// `POST /createRoom`. Not safe to repeat: there is no transaction id.
    pub async fn create_room(&self, room: &CreateRoom) -> Result<OwnedRoomId, CallError> {
        let mut request = create_room::v3::Request::new();
        request.invite.clone_from(&room.invite);
        match room.kind {
            RoomKind::Direct => request.is_direct = true,
            RoomKind::Space => request.creation_content = Some(Raw::from_json(raw(r#"{"type":"m.space"}"#)?)),
        }
        request.name = Some(room.name.clone());
        request.preset = Some(create_room::v3::RoomPreset::PrivateChat);
        request.power_level_content_override = Some(Raw::from_json(raw(&room.power_levels)?));
        for (kind, key, content) in &room.state {
            let event = serde_json::json!({ "type": kind, "state_key": key, "content": raw(content)? });
            request.initial_state.push(Raw::from_json(raw(&event.to_string())?));
        }
        Ok(self.call("createRoom", Some(&room.creator), request).await?.room_id)
    }

    /// `POST /rooms/{room}/join`.
    pub async fn join(&self, user: &UserId, room: &RoomId) -> Result<(), CallError> {
        self.call("join", Some(user), join_room_by_id::v3::Request::new(room.to_owned())).await.map(drop)
    }

    /// `POST /rooms/{room}/leave`.
    pub async fn leave(&self, user: &UserId, room: &RoomId) -> Result<(), CallError> {
        self.call("leave", Some(user), leave_room::v3::Request::new(room.to_owned())).await.map(drop)
    }

    /// Invites into a direct room. By `PUT /rooms/{room}/state/m.room.member/{target}`, for `POST …/invite` cannot say
    /// `is_direct`, and a repetition of it is a second event.
    pub async fn invite(&self, user: &UserId, room: &RoomId, target: &UserId) -> Result<(), CallError> {
        const CONTENT: &str = r#"{"membership":"invite","is_direct":true}"#;
        self.set_state(user, room, "m.room.member", target.as_str(), CONTENT).await.map(drop)
    }

    /// `PUT /rooms/{room}/send/{kind}/{txn}`, with `?ts=` where a time is given (Matrix AS API, "Timestamp massaging").
    pub async fn send(
        &self,
        user: &UserId,
        room: &RoomId,
        kind: &str,
        txn: &str,
        content: &str,
        at: Option<Timestamp>,
    ) -> Result<OwnedEventId, CallError> {
        let content = Raw::from_json(raw(content)?);
        let mut request = send_message_event::v3::Request::new_raw(room.to_owned(), txn.into(), kind.into(), content);
        // A time before 1970 or beyond what JSON can say is no time: the event is shown as of now.
        let at = at.and_then(|at| UInt::new(u64::try_from(at.0).ok()?));
        request.timestamp = at.map(MilliSecondsSinceUnixEpoch);
        Ok(self.call("send", Some(user), request).await?.event_id)
    }

    /// `GET /rooms/{room}/messages`: of the user's newest events of this type, the one that carries this mark. Of a person's it
    /// must have the time that we gave it, too: they may have forwarded it, with all that it holds.
    pub async fn find_sent(
        &self,
        user: &UserId,
        room: &RoomId,
        kind: &str,
        mark: &str,
        at: Option<Timestamp>,
    ) -> Result<Option<OwnedEventId>, CallError> {
        let at = at.filter(|_| self.is_person(user));
        let mut request = get_message_events::v3::Request::backward(room.to_owned());
        request.limit = if self.is_person(user) { LOOKED_AT_OF_A_PERSON } else { LOOKED_AT }.into();
        request.filter = RoomEventFilter::default();
        request.filter.senders = Some(vec![user.to_owned()]);
        request.filter.types = Some(vec![kind.to_owned()]);
        let answer = self.call("messages", Some(user), request).await?;
        Ok(answer.chunk.iter().find_map(|event| {
            let sent: SentEvent = event.deserialize_as_unchecked().ok()?;
            let then = at.is_none_or(|at| at.0 == sent.origin_server_ts);
            (then && sent.sender == *user && sent.content.mark.as_deref() == Some(mark)).then_some(sent.event_id)
        }))
    }

    /// `PUT /rooms/{room}/state/{kind}/{key}`.
    pub async fn set_state(
        &self,
        user: &UserId,
        room: &RoomId,
        kind: &str,
        key: &str,
        content: &str,
    ) -> Result<OwnedEventId, CallError> {
        let content = Raw::from_json(raw(content)?);
        let request = send_state_event::v3::Request::new_raw(room.to_owned(), kind.into(), key.to_owned(), content);
        Ok(self.call("state", Some(user), request).await?.event_id)
    }

    /// `GET /rooms/{room}/state/{kind}/{key}`: the content alone.
    pub async fn state(&self, user: &UserId, room: &RoomId, kind: &str, key: &str) -> Result<Value, CallError> {
        let request = get_state_event_for_key::v3::Request::new(room.to_owned(), kind.into(), key.to_owned());
        let answer = self.call("get state", Some(user), request).await?;
        serde_json::from_str(answer.event_or_content.get()).map_err(|_| CallError::BadAnswer("get state"))
    }

    /// `GET /rooms/{room}/state/{kind}/{key}?format=event`: with its sender. `None` from a homeserver that does not
    /// know that form.
    pub async fn state_event(
        &self,
        user: &UserId,
        room: &RoomId,
        kind: &str,
        key: &str,
    ) -> Result<Option<StateEvent>, CallError> {
        let mut request = get_state_event_for_key::v3::Request::new(room.to_owned(), kind.into(), key.to_owned());
        request.format = get_state_event_for_key::v3::StateEventFormat::Event;
        let answer = self.call("get state", Some(user), request).await?;
        Ok(serde_json::from_str(answer.event_or_content.get()).ok())
    }

    /// `GET /rooms/{room}/state`: all of it that can be read.
    pub async fn room_state(&self, user: &UserId, room: &RoomId) -> Result<Vec<RoomEvent>, CallError> {
        let request = get_state_events::v3::Request::new(room.to_owned());
        let answer = self.call("room state", Some(user), request).await?;
        Ok(answer.room_state.iter().filter_map(|raw| transaction::event(raw.json(), Some(room))).collect())
    }

    /// `GET /rooms/{room}/messages?dir=b`: the latest messages that can be read, newest first, at most `limit`.
    pub async fn latest_messages(&self, user: &UserId, room: &RoomId, limit: u32) -> Result<Vec<RoomEvent>, CallError> {
        let mut request = get_message_events::v3::Request::backward(room.to_owned());
        request.limit = limit.into();
        request.filter.types = Some(vec!["m.room.message".to_owned()]);
        let answer = self.call("messages", Some(user), request).await?;
        Ok(answer.chunk.iter().filter_map(|raw| transaction::event(raw.json(), Some(room))).collect())
    }

    /// The membership of `member` as `user` sees it (`join`, `invite`, `leave`, `ban`, `knock`).
    pub async fn membership(&self, user: &UserId, room: &RoomId, member: &UserId) -> Result<Option<String>, CallError> {
        let content = self.state(user, room, "m.room.member", member.as_str()).await?;
        Ok(content["membership"].as_str().map(str::to_owned))
    }

    /// `GET /rooms/{room}/joined_members`: how many have joined.
    pub async fn count_members(&self, user: &UserId, room: &RoomId) -> Result<u64, CallError> {
        let members =
            self.call("joined_members", Some(user), joined_members::v3::Request::new(room.to_owned())).await?.joined;
        Ok(u64::try_from(members.len()).unwrap_or(u64::MAX))
    }

    /// `GET /joined_rooms`.
    pub async fn joined_rooms(&self, user: &UserId) -> Result<Vec<OwnedRoomId>, CallError> {
        Ok(self.call("joined_rooms", Some(user), joined_rooms::v3::Request::new()).await?.joined_rooms)
    }

    /// `PUT /rooms/{room}/redact/{event}/{txn}`.
    pub async fn redact(
        &self,
        user: &UserId,
        room: &RoomId,
        event: &ruma::EventId,
        txn: &str,
        reason: Option<&str>,
    ) -> Result<OwnedEventId, CallError> {
        let mut request = redact_event::v3::Request::new(room.to_owned(), event.to_owned(), txn.into());
        request.reason = reason.map(str::to_owned);
        Ok(self.call("redact", Some(user), request).await?.event_id)
    }

    /// `POST /rooms/{room}/receipt/m.read/{event}`.
    pub async fn read(&self, user: &UserId, room: &RoomId, event: &ruma::EventId) -> Result<(), CallError> {
        let request =
            create_receipt::v3::Request::new(room.to_owned(), create_receipt::v3::ReceiptType::Read, event.to_owned());
        self.call("receipt", Some(user), request).await.map(drop)
    }

    /// `GET /rooms/{room}/event/{event}`: its content as JSON.
    pub async fn event_content(
        &self,
        user: &UserId,
        room: &RoomId,
        event: &ruma::EventId,
    ) -> Result<String, CallError> {
        let request = get_room_event::v3::Request::new(room.to_owned(), event.to_owned());
        let answer = self.call("get event", Some(user), request).await?;
        let event: Content =
            serde_json::from_str(answer.event.json().get()).map_err(|_| CallError::BadAnswer("get event"))?;
        Ok(event.content.get().to_owned())
    }

    /// `GET /profile/{user}`: all of it, as JSON.
    pub async fn profile(&self, user: &UserId) -> Result<String, CallError> {
        let answer = self.ask_as_ourselves("profile", get_profile::v3::Request::new(user.to_owned())).await?;
        let fields: serde_json::Map<String, Value> = answer.into_iter().collect();
        Ok(Value::Object(fields).to_string())
    }

    /// `PUT /rooms/{room}/typing/{user}`; `None` ends it.
    pub async fn typing(&self, user: &UserId, room: &RoomId, timeout: Option<Duration>) -> Result<(), CallError> {
        let state = match timeout {
            Some(timeout) => TypingInfo::new(timeout).into(),
            None => create_typing_event::v3::Typing::No,
        };
        let request = create_typing_event::v3::Request::new(user.to_owned(), room.to_owned(), state);
        self.call("typing", Some(user), request).await.map(drop)
    }

    /// `PUT /presence/{user}/status`. A status that is not given is erased.
    pub async fn set_presence(
        &self,
        user: &UserId,
        state: PresenceState,
        status: Option<String>,
    ) -> Result<(), CallError> {
        let mut request = set_presence::v3::Request::new(user.to_owned(), state);
        request.status_msg = status;
        self.call("presence", Some(user), request).await.map(drop)
    }

    /// `GET /presence/{user}/status`, as that user.
    pub async fn presence(&self, user: &UserId) -> Result<PresenceState, CallError> {
        Ok(self.call("get presence", Some(user), get_presence::v3::Request::new(user.to_owned())).await?.presence)
    }
}

fn raw(json: &str) -> Result<Box<RawValue>, CallError> {
    RawValue::from_string(json.to_owned()).map_err(|_| CallError::BadRequest("its content is not JSON".to_owned()))
}
