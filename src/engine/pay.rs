//! Pays debts: takes what is due from the lanes, looks up the ids that it needs, and gives it to a shell.

use ruma::{OwnedRoomId, OwnedUserId};
use serde_json::json;

use super::{Engine, REQUESTS, fetch::Next, files::outgoing, session::WINDOW};
use crate::{
    bridge::{
        look::NAME,
        meter::Fate,
        outbox::{Payer, stream_of},
        question::Question,
    },
    domain::{
        DebtId, LoginId, Output, Timestamp, bridge_state,
        effect::{Composed, ContactKey, Debt, Effect, Lane, MatrixEvent, Notice, Outgoing, Sender},
        file::IncomingMedia,
        output::{CreateRoom, MatrixCall, MatrixWork, RoomKind, WorkId},
    },
    store::{StoreError, portal::Source, session::Unconfirmed},
    translate::{bridge_info, disappearing, message, relation, room_look, subscription},
};

/// A message that waited longer than this says when it was written (XEP-0203), in milliseconds.
const DELAYED: i64 = 60_000;

/// What becomes of a debt that is due.
pub(super) enum Due {
    /// It is a request to the homeserver.
    Call(MatrixCall),
    /// It is a file, to be brought over first.
    File(Box<IncomingMedia>),
    /// There is nothing left to do.
    Moot,
    /// Not yet; something else will wake the lane.
    NotYet,
}

impl Engine {
    /// Hands out what is due, lane by lane, each lane once. Streams do not wait for the homeserver.
    pub(super) fn pay(&mut self) -> Result<(), StoreError> {
        for _ in 0..self.bridge.outbox.ready(Payer::Stream) {
            let Some(lane) = self.bridge.outbox.next_ready(Payer::Stream) else { break };
            if let Some(login) = stream_of(&lane) {
                self.pay_stream(login, &lane)?;
            }
        }
        for _ in 0..self.bridge.outbox.ready(Payer::Homeserver) {
            if self.requests.len() >= REQUESTS {
                break;
            }
            let Some(lane) = self.bridge.outbox.next_ready(Payer::Homeserver) else { break };
            self.pay_homeserver(&lane)?;
        }
        Ok(())
    }

    fn pay_homeserver(&mut self, lane: &Lane) -> Result<(), StoreError> {
        while self.bridge.outbox.handed_out(lane).is_none() && self.bridge.outbox.may_go(lane, self.bridge.now.uptime) {
            let Some(mut debt) = self.bridge.next_debt(lane, None)? else { return Ok(()) };
            if let Some(after) = debt.after.filter(|after| self.bridge.outbox.owes(*after)) {
                self.bridge.outbox.wait_for(lane, after);
                return Ok(());
            }
            if self.owner_is_mute(&debt)? {
                debt = self.fall_back(debt)?;
                if debt.after.is_some() {
                    continue;
                }
            }
            match self.due(&debt)? {
                Due::NotYet => return Ok(()),
                Due::Moot => self.settle(&debt)?,
                Due::File(file) => match self.fetch_file(&debt, &file)? {
                    Next::Begun => self.bridge.outbox.hand_out(lane, debt.id),
                    Next::Waits => return Ok(()),
                    Next::Changed => {}
                },
                Due::Call(call) => {
                    // Only making a room cannot be repeated harmlessly: that it was tried must be known after a crash.
                    if matches!(debt.effect, Effect::CreateRoom | Effect::CreateSpace) && !debt.tried {
                        debt.tried = true;
                        self.bridge.store.put_debt(&debt)?;
                    }
                    self.bridge.outbox.hand_out(lane, debt.id);
                    self.requests.insert(debt.id, lane.clone());
                    self.bridge.meter.sent(&debt, &self.bridge.wire_id(debt.id));
                    self.outputs.push(Output::Matrix(MatrixWork { id: WorkId::Debt(debt.id), call }));
                }
            }
        }
        Ok(())
    }

    /// Nothing is left of a debt: the lane goes on.
    pub(super) fn settle(&mut self, debt: &Debt) -> Result<(), StoreError> {
        self.settle_as(debt, Fate::Dropped)
    }

    /// A debt is over, and what became of it is told: the lane goes on.
    pub(super) fn settle_as(&mut self, debt: &Debt, fate: Fate) -> Result<(), StoreError> {
        self.bridge.meter.ended(debt, fate, self.bridge.now.wall);
        self.bridge.store.erase_debt(&debt.lane, debt.id);
        self.bridge.outbox.removed(&debt.lane, debt.id);
        self.message_paid(debt)
    }

    fn due(&mut self, debt: &Debt) -> Result<Due, StoreError> {
        let bot = self.bridge.homeserver.bot.clone();
        let txn = self.bridge.wire_id(debt.id);
        Ok(match (&debt.lane, &debt.effect) {
            (Lane::Ghost(contact), effect) => {
                let Some(user) = self.bridge.ghost(contact) else { return Ok(Due::Moot) };
                match effect {
                    Effect::RegisterGhost => Due::Call(MatrixCall::Register { localpart: user.localpart().to_owned() }),
                    Effect::NameGhost { name } => Due::Call(MatrixCall::SetDisplayName { user, name: name.clone() }),
                    Effect::PictureGhost { url } => Due::Call(MatrixCall::SetAvatar { user, url: url.clone() }),
                    _ => Due::Moot,
                }
            }
            (Lane::ToMatrix(portal), Effect::CreateRoom) => self.room_to_make(portal, debt)?,
            (Lane::ToMatrix(portal), effect) => {
                let Some(row) = self.bridge.store.portal(portal)? else { return Ok(Due::Moot) };
                let Some(room) = row.room else { return Ok(Due::NotYet) };
                if self.bridge.store.is_replaced(&room) {
                    // Ghosts may not speak there any more; the lane goes on in the new room.
                    return Ok(Due::NotYet);
                }
                let ghost = |contact: &crate::domain::BareJid| {
                    self.bridge.ghost(&ContactKey { login: portal.login.clone(), contact: contact.clone() })
                };
                match effect {
                    Effect::JoinRoom { ghost: who } => match ghost(who) {
                        Some(user) => Due::Call(MatrixCall::Join { room, user }),
                        None => Due::Moot,
                    },
                    Effect::InviteGhost { ghost: who } => match ghost(who) {
                        Some(target) => Due::Call(MatrixCall::Invite { room, user: bot, target }),
                        None => Due::Moot,
                    },
                    Effect::InviteOwner => match self.owner_of(&portal.login)? {
                        Some(target) => Due::Call(MatrixCall::Invite { room, user: bot, target }),
                        None => Due::Moot,
                    },
                    Effect::Redact { room, event } => Due::Call(MatrixCall::Redact {
                        room: room.clone(),
                        user: bot,
                        event: event.clone(),
                        txn,
                        reason: None,
                    }),
                    Effect::Vanish { room, event } => {
                        let (room, event) = (room.clone(), event.clone());
                        Due::Call(MatrixCall::Redact {
                            room,
                            user: bot,
                            event,
                            txn,
                            reason: Some(disappearing::REASON),
                        })
                    }
                    Effect::NameRoom { name } => {
                        let content = json!({ "name": name }).to_string();
                        self.due_look(portal, room, NAME, "", content)?
                    }
                    Effect::SetRoomState { kind, key, content } => {
                        self.due_look(portal, room, kind, key, content.clone())?
                    }
                    Effect::SendEvent { sender, event, at, .. } => match self.user_of(portal, sender)? {
                        Some(user) => Due::Call(self.send_call(room, user, event, debt, *at)),
                        None => Due::Moot,
                    },
                    Effect::JoinOwner => match self.owner_of(&portal.login)? {
                        Some(user) if self.bridge.puppeted(&user) => Due::Call(MatrixCall::Join { room, user }),
                        _ => {
                            self.bridge.owner_join_tried(portal);
                            Due::Moot
                        }
                    },
                    Effect::ShowMedia(media) => Due::File(media.clone()),
                    Effect::ShowFile(file) => Due::File(Box::new(file.clone().into())),
                    Effect::SendAbout { .. }
                    | Effect::RedactNamed { .. }
                    | Effect::ReadUpTo { .. }
                    | Effect::ReadByOwner { .. } => self.due_about(portal, room, debt)?,
                    _ => Due::Moot,
                }
            }
            (Lane::Management(owner), effect) => match effect {
                Effect::Say { notice, replaces } => {
                    let row = self.bridge.store.management(owner)?;
                    let Some(room) = row.room else { return Ok(Due::Moot) };
                    let edits =
                        replaces.as_ref().and_then(|key| row.notices.iter().rev().find(|(known, _)| known == key));
                    let content = notice_content(notice, edits.map(|(_, event)| event.as_str()));
                    self.notice_call(room, debt, &content)
                }
                Effect::SayState { notice, state } => {
                    let Some(room) = self.bridge.store.management(owner)?.room else { return Ok(Due::Moot) };
                    let mut content = notice_content(notice, None);
                    content[bridge_state::CONTENT_KEY] = serde_json::from_str(state).unwrap_or_default();
                    self.notice_call(room, debt, &content)
                }
                Effect::Reply { room, notice } => self.notice_call(room.clone(), debt, &notice_content(notice, None)),
                Effect::Redact { room, event } => Due::Call(MatrixCall::Redact {
                    room: room.clone(),
                    user: bot,
                    event: event.clone(),
                    txn,
                    reason: None,
                }),
                Effect::JoinInvited { room } => Due::Call(MatrixCall::Join { room: room.clone(), user: bot }),
                Effect::CountMembers { room } => Due::Call(MatrixCall::CountMembers { room: room.clone(), user: bot }),
                Effect::LeaveRoom { room, user } => {
                    Due::Call(MatrixCall::Leave { room: room.clone(), user: user.clone() })
                }
                effect => self.due_upgrade(effect),
            },
            (Lane::Space(login), effect) => self.due_space(login, effect, debt)?,
            (Lane::Person(owner), effect) => self.due_of_person(owner, effect),
            (Lane::ToXmpp(_) | Lane::Login(_), _) => Due::NotYet,
        })
    }

    fn notice_call(&self, room: OwnedRoomId, debt: &Debt, content: &serde_json::Value) -> Due {
        let event = MatrixEvent { kind: "m.room.message".to_owned(), content: content.to_string() };
        Due::Call(self.send_call(room, self.bridge.homeserver.bot.clone(), &event, debt, None))
    }

    /// An event with our mark, by which the echo in a transaction is known. In a person's name it always has a time that we give,
    /// for its mark is of that.
    fn send_call(
        &self,
        room: OwnedRoomId,
        user: OwnedUserId,
        event: &MatrixEvent,
        debt: &Debt,
        at: Option<Timestamp>,
    ) -> MatrixCall {
        let mut content = self.marked(event, debt.id);
        let mut at = at;
        if !self.bridge.is_ours(&user) {
            let time = at.unwrap_or(debt.made).max(Timestamp(0));
            content = self.proven(&content, &room, &user, time, debt.id);
            at = Some(time);
        }
        let txn = self.bridge.wire_id(debt.id);
        MatrixCall::Send {
            room,
            user,
            kind: event.kind.clone(),
            txn,
            content,
            at,
            look_first: self.mark_to_look_for(debt),
        }
    }

    /// The mark of an event that may be in its room already: an earlier try failed, or this process does not know of any.
    fn mark_to_look_for(&self, debt: &Debt) -> Option<String> {
        self.bridge.outbox.may_be_paid(&debt.lane).then(|| self.bridge.wire_id(debt.id))
    }

    /// The content with our mark, by which the echo in a transaction is known.
    fn marked(&self, event: &MatrixEvent, debt: DebtId) -> String {
        match serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(&event.content) {
            Ok(mut content) => {
                content.insert(bridge_info::DEBT.to_owned(), json!(self.bridge.wire_id(debt)));
                serde_json::Value::Object(content).to_string()
            }
            Err(_) => event.content.clone(),
        }
    }

    fn room_to_make(&mut self, portal: &ContactKey, debt: &Debt) -> Result<Due, StoreError> {
        let Some(login) = self.bridge.store.login(&portal.login)? else { return Ok(Due::Moot) };
        if self.bridge.store.portal(portal)?.is_some_and(|row| row.room.is_some()) {
            return Ok(Due::Moot);
        }
        let (Some(network), Some(ghost)) =
            (self.bridge.settings.networks.get(&login.network), self.bridge.ghost(portal))
        else {
            return Ok(Due::Moot);
        };
        let mut state = bridge_info::state(&self.bridge, portal, &login, network)?;
        let look_first = debt.tried.then(|| state.first().map(|(kind, key, _)| (kind.clone(), key.clone()))).flatten();
        state.extend(room_look::state(&self.bridge, portal)?);
        state.extend(self.first_features(portal)?);
        let bot = self.bridge.homeserver.bot.clone();
        // Whoever makes the room has the power by the room version's own rule; the owner may rename it, and invite nobody.
        let power_levels = json!({
            "invite": 100, "kick": 100, "ban": 100, "state_default": 100, "redact": 50,
            "events": { "m.room.name": 0, "m.room.avatar": 0, "m.room.topic": 0 },
        });
        Ok(Due::Call(MatrixCall::CreateRoom(Box::new(CreateRoom {
            kind: RoomKind::Direct,
            creator: bot,
            invite: vec![login.owner.clone(), ghost],
            name: self.bridge.display_name(portal)?,
            state,
            power_levels: power_levels.to_string(),
            look_first,
        }))))
    }

    fn pay_stream(&mut self, login: &LoginId, lane: &Lane) -> Result<(), StoreError> {
        loop {
            let Some(live) = self.lives.get_mut(login) else { return Ok(()) };
            if !live.caught_up() {
                return Ok(());
            }
            if live.unconfirmed.len() >= WINDOW {
                live.window_full = true;
                break;
            }
            let Some(debt) = self.bridge.next_debt(lane, self.bridge.outbox.handed_out(lane))? else { break };
            let id = self.bridge.wire_id(debt.id);
            let stanza = match &debt.effect {
                Effect::SendMessage(outgoing) => self.message_stanza(login, lane, outgoing, &id)?,
                Effect::SendComposed(composed) if composed.quotes.is_some() => {
                    self.ask_for_quotation(lane, &debt)?;
                    break;
                }
                effect @ (Effect::SendFile(_) | Effect::SendMedia(_)) => {
                    let Some(media) = outgoing(effect) else { break };
                    if self.prepare_file(login, &debt, &media)? {
                        continue;
                    }
                    break;
                }
                Effect::KeepChat { .. } => {
                    if !self.ask_to_keep(login, &debt)? {
                        break;
                    }
                    None
                }
                Effect::Block { .. } => {
                    self.ask_to_block(login, &debt)?;
                    break;
                }
                Effect::SendComposed(composed) => self.composed_stanza(login, lane, composed, &id)?,
                Effect::Subscribe { contact, kind } => {
                    let nick = self.own_nickname(login)?;
                    Some(subscription::to_xmpp(*kind, contact, &id, nick.as_deref()))
                }
                _ => None,
            };
            let Some(mut stanza) = stanza else {
                self.settle(&debt)?;
                continue;
            };
            self.send_vanishing(lane, &debt.effect, &mut stanza)?;
            let Some(number) = self.send(login, stanza) else { return Ok(()) };
            self.tell_doubt(&debt)?;
            let archive_after = self.bridge.store.login(login)?.and_then(|row| row.archive_after);
            let what = Unconfirmed { lane: lane.clone(), debt: debt.id, archive_after };
            self.bridge.store.put_unconfirmed(login, number, &what)?;
            self.bridge.outbox.hand_out(lane, debt.id);
            self.bridge.meter.sent(&debt, &id);
            if let Some(live) = self.lives.get_mut(login) {
                live.unconfirmed.insert(number, (what.lane, what.debt));
            }
        }
        self.confirm_by_ping(login)
    }

    /// What refers to an event that stands for a stanza: by now it is known, or it is none of ours.
    fn due_about(&self, portal: &ContactKey, room: OwnedRoomId, debt: &Debt) -> Result<Due, StoreError> {
        let user = |sender: &Sender| self.user_of(portal, sender);
        let txn = self.bridge.wire_id(debt.id);
        Ok(match &debt.effect {
            Effect::SendAbout { sender, event, about, at, .. } => {
                let target = self.bridge.store.event_of(portal, &about.name)?;
                let sender = self.editor(portal, sender, about, target.as_ref())?;
                let (Some(user), Some(event)) = (user(&sender)?, relation::to_matrix(event, about, target.as_ref()))
                else {
                    return Ok(Due::Moot);
                };
                Due::Call(self.send_call(room, user, &event, debt, *at))
            }
            Effect::RedactNamed { sender, name } => match (user(sender)?, self.bridge.store.event_of(portal, name)?) {
                (Some(user), Some(event)) => Due::Call(MatrixCall::Redact { room, user, event, txn, reason: None }),
                _ => Due::Moot,
            },
            Effect::ReadUpTo { ghost, name } => {
                match (user(&Sender::Ghost(ghost.clone()))?, self.bridge.store.event_of(portal, name)?) {
                    (Some(user), Some(event)) => Due::Call(MatrixCall::Read { room, user, event }),
                    _ => Due::Moot,
                }
            }
            Effect::ReadByOwner { name } => {
                match (self.owner_of(&portal.login)?, self.bridge.store.event_of(portal, name)?) {
                    (Some(user), Some(event)) if self.bridge.puppeted(&user) => {
                        Due::Call(MatrixCall::ReadMarkers { room, user, event })
                    }
                    _ => Due::Moot,
                }
            }
            _ => Due::Moot,
        })
    }

    /// The text of what is answered is fetched first, for it is kept nowhere here.
    fn ask_for_quotation(&mut self, lane: &Lane, debt: &Debt) -> Result<(), StoreError> {
        let (Lane::ToXmpp(portal), Effect::SendComposed(composed)) = (lane, &debt.effect) else { return Ok(()) };
        let room = self.bridge.store.portal(portal)?.and_then(|row| row.room);
        let (Some(room), Some(event)) = (room, composed.quotes.clone()) else { return Ok(()) };
        if self.requests.insert(debt.id, lane.clone()).is_none() {
            let user = self.bridge.homeserver.bot.clone();
            let call = MatrixCall::GetEvent { room, user, event };
            self.outputs.push(Output::Matrix(MatrixWork { id: WorkId::Debt(debt.id), call }));
        }
        Ok(())
    }

    fn composed_stanza(
        &mut self,
        login: &LoginId,
        lane: &Lane,
        composed: &Composed,
        id: &str,
    ) -> Result<Option<minidom::Element>, StoreError> {
        let outgoing =
            Outgoing { body: composed.body.clone(), event: composed.event.clone(), written: composed.written };
        let Some(mut stanza) = self.message_stanza(login, lane, &outgoing, id)? else { return Ok(None) };
        for payload in &composed.payloads {
            match payload.parse() {
                Ok(payload) => {
                    stanza.append_child(payload);
                }
                Err(_) => self.bridge.ignore("payload that cannot be read again"),
            }
        }
        Ok(Some(stanza))
    }

    fn message_stanza(
        &mut self,
        login: &LoginId,
        lane: &Lane,
        outgoing: &Outgoing,
        id: &str,
    ) -> Result<Option<minidom::Element>, StoreError> {
        let (Lane::ToXmpp(contact), Some(row)) = (lane, self.bridge.store.login(login)?) else { return Ok(None) };
        let beside = message::Beside {
            chat_state: self.knows_chat_states(contact)?,
            receipts: self.profile_of(login)?.is_some_and(|profile| profile.extensible),
        };
        let waited = self.bridge.now.wall.since(outgoing.written) > DELAYED;
        self.remember_said(contact, true, &outgoing.body, self.bridge.steady.now(), Source::Matrix)?;
        Ok(Some(message::to_xmpp(
            outgoing,
            &contact.contact,
            id,
            beside,
            waited.then_some((outgoing.written, &row.account)),
        )))
    }

    /// Where the server confirms nothing by itself, a ping after what was sent shows by its answer that it was read: a server
    /// handles a stream in order (RFC 6120 section 10.1).
    pub(super) fn confirm_by_ping(&mut self, login: &LoginId) -> Result<(), StoreError> {
        let Some(live) = self.lives.get(login) else { return Ok(()) };
        let Some(session) = &live.session else { return Ok(()) };
        let asked = live.questions.values().any(|pending| matches!(pending.question, Question::Delivery { .. }));
        if session.management.is_some() || asked || live.unconfirmed.is_empty() || !live.caught_up() {
            return Ok(());
        }
        self.ask(login, Question::Delivery { through: session.outbound })
    }

    /// The server has handled `h` stanzas of the session (XEP-0198 section 4; numbers are modulo 2^32).
    pub(super) fn on_acked(&mut self, login: &LoginId, h: u32) -> Result<(), StoreError> {
        let Some(live) = self.lives.get_mut(login) else { return Ok(()) };
        let sent = live.session.as_ref().map_or(0, |session| session.outbound);
        if sent.wrapping_sub(h) > u32::MAX / 2 {
            // More than was ever sent: nothing that such a server says of delivery can be used.
            self.bridge.ignore("acknowledged more than was sent");
            return Ok(());
        }
        let confirmed: Vec<u32> =
            live.unconfirmed.keys().copied().filter(|number| h.wrapping_sub(*number) <= u32::MAX / 2).collect();
        for number in confirmed {
            let Some((lane, debt)) = self.lives.get_mut(login).and_then(|live| live.unconfirmed.remove(&number)) else {
                continue;
            };
            self.bridge.store.erase_unconfirmed(login, number);
            if let Some(debt) = self.bridge.store.debt(&lane, debt)? {
                self.settle_as(&debt, Fate::Delivered)?;
            }
        }
        if let Some(live) = self.lives.get_mut(login)
            && live.window_full
            && live.unconfirmed.len() < WINDOW / 2
        {
            live.window_full = false;
            self.bridge.outbox.wake_stream(login);
        }
        Ok(())
    }
}

fn notice_content(notice: &Notice, edits: Option<&str>) -> serde_json::Value {
    let mut content = json!({ "msgtype": "m.notice", "body": notice.text, "m.mentions": {} });
    if let Some(html) = notice.html.clone().or_else(|| crate::bot::html_of(&notice.text)) {
        content["format"] = json!("org.matrix.custom.html");
        content["formatted_body"] = json!(html);
    }
    let Some(event) = edits else { return content };
    let mut edit = content.clone();
    edit["body"] = json!(format!("* {}", notice.text));
    edit["m.new_content"] = content;
    edit["m.relates_to"] = json!({ "rel_type": "m.replace", "event_id": event });
    edit
}
