//! A homeserver as the bridge sees it: rooms, memberships, idempotent sends, and the queue of transactions.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use messenger_bridge::{
    domain::{
        Timestamp,
        input::{Cause, Failure, Outcome, Receipt, RoomEvent, RoomPage},
        output::{CreateRoom, MatrixCall},
    },
    translate::bridge_info::{DEBT, PUPPET},
};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde_json::{Value, json};

pub struct Said {
    pub id: OwnedEventId,
    pub sender: OwnedUserId,
    pub content: Value,
    /// `?ts=`, where it was given.
    pub at: Option<Timestamp>,
}

pub struct Room {
    pub id: OwnedRoomId,
    pub state: Vec<(String, String, String)>,
    pub members: BTreeMap<OwnedUserId, &'static str>,
    pub said: Vec<Said>,
    /// Message statuses in order: of which event, which.
    pub statuses: Vec<(String, String)>,
    pub redacted: BTreeSet<OwnedEventId>,
}

impl Room {
    /// The contact whose portal this is.
    pub fn channel(&self) -> Option<String> {
        let (_, _, content) = self.state.iter().find(|(kind, _, _)| kind == "m.bridge")?;
        let content: Value = serde_json::from_str(content).ok()?;
        content["channel"]["id"].as_str().map(str::to_owned)
    }

    pub fn is(&self, user: &UserId, membership: &str) -> bool {
        self.members.get(user) == Some(&membership)
    }
}

#[derive(Default)]
pub struct Homeserver {
    pub rooms: Vec<Room>,
    users: BTreeSet<String>,
    /// Forgotten when it restarts.
    txns: HashMap<(OwnedUserId, String), OwnedEventId>,
    /// The bridge's events by sender, room and mark.
    marked: HashMap<(OwnedUserId, OwnedRoomId, String), OwnedEventId>,
    next: u64,
    /// Everything that was ever said, in order.
    record: Vec<RoomEvent>,
    pub queue: VecDeque<RoomEvent>,
    /// The transaction that waits for its 200.
    pub in_flight: Option<(String, Vec<RoomEvent>)>,
    next_txn: u64,
    /// Transactions that failed and were overtaken by a later one: they come when the homeserver has recovered.
    pub late: VecDeque<(String, Vec<RoomEvent>)>,
    /// Some of them were left for a recovery that never comes.
    pub stuck: u64,
    /// What no bridge may do.
    pub violations: Vec<String>,
    /// It does not know the registration for double puppeting.
    pub no_puppets: bool,
}

/// As whom a request is made, if as somebody who is neither the bot nor a ghost.
fn person(call: &MatrixCall) -> Option<&UserId> {
    let (MatrixCall::Join { user, .. }
    | MatrixCall::Send { user, .. }
    | MatrixCall::Redact { user, .. }
    | MatrixCall::ReadMarkers { user, .. }
    | MatrixCall::SetAccountData { user, .. }
    | MatrixCall::SetTag { user, .. }
    | MatrixCall::SetPushRule { user, .. }
    | MatrixCall::ListDirect { user, .. }) = call
    else {
        return None;
    };
    (!user.localpart().starts_with("messenger_") && user.localpart() != "bot").then_some(user)
}

fn refused(code: &str) -> Outcome {
    Outcome::Failed(Failure::Permanent(Cause { code: code.to_owned(), sentence: code.to_owned() }))
}

impl Homeserver {
    pub fn room(&self, id: &RoomId) -> Option<&Room> {
        self.rooms.iter().find(|room| room.id == id)
    }

    fn room_mut(&mut self, id: &RoomId) -> Option<&mut Room> {
        self.rooms.iter_mut().find(|room| room.id == id)
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Puts an event into a room's timeline and into the queue for the bridge.
    pub fn event(
        &mut self,
        room: &RoomId,
        sender: &UserId,
        kind: &str,
        state_key: Option<&str>,
        content: &Value,
        (now, at): (Timestamp, Option<Timestamp>),
    ) -> OwnedEventId {
        let id = OwnedEventId::try_from(format!("$e{}", self.number())).unwrap();
        if kind == "m.room.message"
            && let Some(room) = self.room_mut(room)
        {
            room.said.push(Said { id: id.clone(), sender: sender.to_owned(), content: content.clone(), at });
        }
        if kind == "com.beeper.message_send_status"
            && let Some(room) = self.room_mut(room)
        {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            room.statuses.push((text(&content["m.relates_to"]["event_id"]), text(&content["status"])));
        }
        let event = RoomEvent {
            room: room.to_owned(),
            id: id.clone(),
            sender: sender.to_owned(),
            kind: kind.to_owned(),
            state_key: state_key.map(str::to_owned),
            at: at.unwrap_or(now),
            content: serde_json::value::to_raw_value(content).unwrap(),
            redacts: None,
        };
        self.record.push(event.clone());
        self.queue.push_back(event);
        id
    }

    pub fn member(&mut self, room: &RoomId, by: &UserId, target: &UserId, membership: &'static str, now: Timestamp) {
        let Some(found) = self.room_mut(room) else { return };
        found.members.insert(target.to_owned(), membership);
        let content = json!({ "membership": membership, "is_direct": true });
        self.event(room, by, "m.room.member", Some(target.as_str()), &content, (now, None));
    }

    pub fn make_room(&mut self, creator: &UserId, state: Vec<(String, String, String)>, now: Timestamp) -> OwnedRoomId {
        let id = OwnedRoomId::try_from(format!("!r{}:h", self.number())).unwrap();
        self.rooms.push(Room {
            id: id.clone(),
            state,
            members: BTreeMap::new(),
            said: Vec::new(),
            statuses: Vec::new(),
            redacted: BTreeSet::new(),
        });
        self.member(&id, creator, creator, "join", now);
        id
    }

    /// The next transaction to push; the one before until it is answered. `late_first`: one that was overtaken, if any was.
    pub fn transaction(&mut self, most: u64, late_first: bool) -> Option<(String, Vec<RoomEvent>)> {
        if self.in_flight.is_none() && (late_first || self.queue.is_empty()) {
            self.in_flight = self.late.pop_front();
        }
        if self.in_flight.is_none() && !self.queue.is_empty() {
            let take = usize::try_from(most).unwrap().min(self.queue.len());
            self.next_txn += 1;
            self.in_flight = Some((self.next_txn.to_string(), self.queue.drain(..take).collect()));
        }
        self.in_flight.clone()
    }

    /// The transaction in flight has failed, and the queue goes on before that is noted. `stuck`: it is not sent again.
    pub fn overtake(&mut self, stuck: bool) {
        let failed = self.in_flight.take();
        if stuck {
            self.stuck += 1;
        } else {
            self.late.extend(failed);
        }
    }

    /// A page of a room, of three events at most, before the place named, or the newest.
    pub fn page(&self, room: &RoomId, from: Option<&str>) -> RoomPage {
        let events: Vec<&RoomEvent> = self.record.iter().filter(|event| event.room == room).collect();
        let end = from.map_or(events.len(), |from| from.parse().unwrap());
        let begin = end.saturating_sub(3);
        RoomPage {
            events: events[begin..end].iter().map(|event| (*event).clone()).collect(),
            earlier: (begin > 0).then(|| begin.to_string()),
        }
    }

    fn create(&mut self, order: &CreateRoom, now: Timestamp) -> Outcome {
        if let Some((kind, key)) = &order.look_first {
            let wanted = order.state.iter().find(|(k, s, _)| k == kind && s == key);
            let found = self.rooms.iter().find(|room| {
                room.is(&order.creator, "join") && wanted.is_some_and(|wanted| room.state.iter().any(|s| s == wanted))
            });
            if let Some(room) = found {
                return Outcome::Done(Receipt::Room(room.id.clone()));
            }
        }
        let id = self.make_room(&order.creator, order.state.clone(), now);
        for (kind, key, content) in &order.state {
            let content: Value = serde_json::from_str(content).unwrap();
            self.event(&id, &order.creator, kind, Some(key), &content, (now, None));
        }
        for user in &order.invite {
            self.member(&id, &order.creator, user, "invite", now);
        }
        Outcome::Done(Receipt::Room(id))
    }

    /// The newest that was said in this person's name by the bridge.
    pub fn said_as(&self, room: &RoomId, user: &str) -> Option<Value> {
        let said = &self.room(room)?.said;
        let ours = |said: &&Said| said.sender == user && said.content.get(PUPPET).is_some();
        said.iter().rev().find(ours).map(|said| said.content.clone())
    }

    /// It restarts: which requests it has answered is forgotten.
    pub fn restart(&mut self) {
        self.txns.clear();
    }

    /// Carries out a request.
    pub fn call(&mut self, call: &MatrixCall, now: Timestamp) -> Outcome {
        if self.no_puppets && person(call).is_some() {
            return refused("M_FORBIDDEN");
        }
        match call {
            MatrixCall::Register { localpart } => {
                self.users.insert(localpart.clone());
                Outcome::Done(Receipt::Nothing)
            }
            MatrixCall::SetDisplayName { user, .. } | MatrixCall::SetAvatar { user, .. } => {
                if !self.users.contains(user.localpart()) {
                    self.violations.push(format!("profile of {user} before its registration"));
                }
                Outcome::Done(Receipt::Nothing)
            }
            MatrixCall::Upload { .. } => Outcome::Done(Receipt::Media(format!("mxc://h/{}", self.number()))),
            MatrixCall::CreateRoom(order) => self.create(order, now),
            MatrixCall::Join { room, user } => {
                let Some(found) = self.room(room) else { return refused("M_NOT_FOUND") };
                if found.is(user, "join") {
                    return Outcome::Done(Receipt::Nothing);
                }
                if !found.is(user, "invite") {
                    if person(call).is_some() {
                        // They have left, and nobody has invited them again.
                        return refused("M_FORBIDDEN");
                    }
                    self.violations.push(format!("{user} joined without an invitation"));
                    return refused("M_FORBIDDEN");
                }
                self.member(room, user, user, "join", now);
                Outcome::Done(Receipt::Nothing)
            }
            MatrixCall::CountMembers { room, .. } => {
                let count = self.room(room).map_or(0, |room| room.members.values().filter(|m| **m == "join").count());
                Outcome::Done(Receipt::Members(count as u64))
            }
            MatrixCall::Leave { room, user } => {
                if self.room(room).is_some_and(|room| room.is(user, "join")) {
                    self.member(room, user, user, "leave", now);
                }
                Outcome::Done(Receipt::Nothing)
            }
            MatrixCall::Invite { room, user, target } => {
                let Some(found) = self.room(room) else { return refused("M_NOT_FOUND") };
                if !found.is(target, "join") && !found.is(target, "invite") {
                    self.member(room, user, target, "invite", now);
                }
                Outcome::Done(Receipt::Nothing)
            }
            MatrixCall::Send { room, user, kind, txn, content, at, look_first } => {
                let by_mark = |mark: &str| (user.clone(), room.clone(), mark.to_owned());
                if let Some(event) = look_first.as_deref().and_then(|mark| self.marked.get(&by_mark(mark))) {
                    return Outcome::Done(Receipt::Event(event.clone()));
                }
                if let Some(event) = self.txns.get(&(user.clone(), txn.clone())) {
                    return Outcome::Done(Receipt::Event(event.clone()));
                }
                if !self.room(room).is_some_and(|room| room.is(user, "join")) {
                    if person(call).is_some() {
                        return refused("M_FORBIDDEN");
                    }
                    self.violations.push(format!("{user} spoke in a room that it is not in"));
                    return refused("M_FORBIDDEN");
                }
                let content: Value = serde_json::from_str(content).unwrap();
                let event = self.event(room, user, kind, None, &content, (now, *at));
                self.txns.insert((user.clone(), txn.clone()), event.clone());
                if let Some(mark) = content[DEBT].as_str() {
                    self.marked.insert(by_mark(mark), event.clone());
                }
                Outcome::Done(Receipt::Event(event))
            }
            MatrixCall::Read { .. }
            | MatrixCall::ReadMarkers { .. }
            | MatrixCall::SetAccountData { .. }
            | MatrixCall::SetTag { .. }
            | MatrixCall::SetPushRule { .. }
            | MatrixCall::ListDirect { .. }
            | MatrixCall::Ignore { .. }
            | MatrixCall::Silence { .. } => Outcome::Done(Receipt::Nothing),
            MatrixCall::GetAccountData { .. } => Outcome::Done(Receipt::Content("{}".to_owned())),
            MatrixCall::GetEvent { event, .. } => match self.record.iter().find(|known| known.id == *event) {
                Some(known) => Outcome::Done(Receipt::Content(known.content.get().to_owned())),
                None => refused("M_NOT_FOUND"),
            },
            MatrixCall::GetState { room, kind, key, .. } => {
                let state = self.room(room).and_then(|room| room.state.iter().find(|(k, s, _)| k == kind && s == key));
                match state {
                    Some((_, _, content)) => Outcome::Done(Receipt::Content(content.clone())),
                    None => refused("M_NOT_FOUND"),
                }
            }
            MatrixCall::GetProfile { .. } | MatrixCall::GetPicture { .. } => refused("M_NOT_FOUND"),
            MatrixCall::SetState { room, user, kind, key, content } => {
                if let Some(found) = self.room_mut(room) {
                    found.state.retain(|(k, s, _)| (k, s) != (kind, key));
                    found.state.push((kind.clone(), key.clone(), content.clone()));
                }
                let content: Value = serde_json::from_str(content).unwrap();
                let event = self.event(room, user, kind, Some(key), &content, (now, None));
                Outcome::Done(Receipt::Event(event))
            }
            MatrixCall::Redact { room, user, event, .. } => {
                let content = json!({ "redacts": event });
                if let Some(room) = self.room_mut(room) {
                    room.redacted.insert(event.clone());
                }
                let event = self.event(room, user, "m.room.redaction", None, &content, (now, None));
                Outcome::Done(Receipt::Event(event))
            }
        }
    }
}
