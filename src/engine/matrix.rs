//! Dispatch of what the homeserver pushes: whose room it is, who speaks, and which concept it is.

use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde_json::value::RawValue;

use super::{Engine, talk::Untold};
use crate::{
    bot,
    bridge::Permission,
    domain::{
        LoginId,
        address::parse_ghost_localpart,
        effect::{ContactKey, Effect, Lane, Outgoing},
        input::{EphemeralEvent, Receipt, RoomEvent},
    },
    store::{
        StoreError,
        portal::{Membership, Room},
    },
    translate::{blocking, bridge_info, message, stable_id, stanza::to_xml, status::Reason},
};

/// What a transaction's members events say, as far as rules need it.
#[derive(serde::Deserialize)]
struct Member {
    membership: String,
    #[serde(default)]
    is_direct: bool,
}

#[derive(serde::Deserialize)]
struct Marked {
    #[serde(rename = "org.messenger_bridge.debt")]
    debt: Option<String>,
}

impl Engine {
    /// An event of a room, each once.
    pub(super) fn on_event(&mut self, event: &RoomEvent) -> Result<(), StoreError> {
        if event.kind == "m.room.member" {
            return self.on_member(event);
        }
        if event.state_key.is_some() {
            return self.on_state(event);
        }
        match self.bridge.store.room(&event.room)? {
            Some(Room::Management(owner)) if owner == event.sender => self.on_management_event(&owner, event),
            Some(Room::Portal(portal)) => self.on_portal_event_once(&portal, event),
            Some(Room::Management(_) | Room::Space(_)) | None => {
                if event.kind == "m.room.message"
                    && let Some(text) = text_of(&event.content)
                    && let Some(command) = bot::after_prefix(&text)
                {
                    return self.on_command_text(&event.sender, &event.room, Some(&event.id), command, false);
                }
                Ok(())
            }
        }
    }

    /// Was it said in a room that is unknown, and is no command?
    pub(super) fn is_nobodys(&self, event: &RoomEvent) -> Result<bool, StoreError> {
        Ok(event.state_key.is_none()
            && self.bridge.store.room(&event.room)?.is_none()
            && text_of(&event.content).is_none_or(|text| bot::after_prefix(&text).is_none()))
    }

    /// Our own events come back: their mark names the debt that they pay.
    pub(super) fn on_own_event(&mut self, event: &RoomEvent) -> Result<(), StoreError> {
        if event.kind == "m.bridge" && event.sender == self.bridge.homeserver.bot {
            return self.on_own_room(event);
        }
        if event.sender == self.bridge.homeserver.bot && event.state_key.is_some() {
            return self.on_own_state(event);
        }
        let Ok(Marked { debt: Some(mark) }) = serde_json::from_str(event.content.get()) else { return Ok(()) };
        let Some(debt) = self.bridge.debt_of_wire_id(&mark) else { return Ok(()) };
        let lane = match self.bridge.store.room(&event.room)? {
            Some(Room::Portal(portal)) => Lane::ToMatrix(portal),
            Some(Room::Management(owner)) => Lane::Management(owner),
            Some(Room::Space(_)) | None => return Ok(()),
        };
        self.on_echo(&lane, debt, event.id.clone())
    }

    /// A portal's room that we have made says whose it is, before anyone else can speak in it: the answer to our request
    /// may come later, or never.
    fn on_own_room(&mut self, event: &RoomEvent) -> Result<(), StoreError> {
        let Some(portal) = bridge_info::portal_of(&event.content) else { return Ok(()) };
        let Some(creating) =
            self.bridge.store.portal(&portal)?.filter(|row| row.room.is_none()).and_then(|row| row.creating)
        else {
            return Ok(());
        };
        match self.bridge.store.debt(&Lane::ToMatrix(portal), creating)? {
            Some(debt) => self.paid(&debt, Receipt::Room(event.room.clone())),
            None => Ok(()),
        }
    }

    fn on_member(&mut self, event: &RoomEvent) -> Result<(), StoreError> {
        let (Some(target), Ok(member)) = (
            event.state_key.as_deref().and_then(|key| UserId::parse(key).ok()),
            serde_json::from_str::<Member>(event.content.get()),
        ) else {
            self.bridge.ignore("membership that cannot be read");
            return Ok(());
        };
        if member.membership == "invite" && target == self.bridge.homeserver.bot {
            return self.on_bot_invited(&event.sender, &event.room, member.is_direct);
        }
        if member.membership == "invite" && self.bridge.is_ours(&target) {
            return self.on_ghost_invited(&event.sender, &event.room, &target);
        }
        if member.membership == "join" && !self.bridge.is_ours(&target) {
            self.note_own_profile(&target, &event.content)?;
        }
        match self.bridge.store.room(&event.room)? {
            Some(Room::Portal(portal)) if self.owner_of(&portal.login)?.as_ref() == Some(&target) => {
                let membership = match member.membership.as_str() {
                    "join" => Membership::Joined,
                    "invite" => Membership::Invited,
                    _ => Membership::Left,
                };
                // A room that was replaced is left by and by; that says nothing of the new one.
                if let Some(mut row) = self.bridge.store.portal(&portal)?
                    && row.owner != membership
                    && row.room.as_ref() == Some(&event.room)
                {
                    row.owner = membership;
                    self.bridge.store.put_portal(&portal, &row)?;
                    // Whom we let join has decided nothing by that.
                    if membership == Membership::Joined && !self.owes_join(&portal)? {
                        self.owner_joined(&portal)?;
                    }
                }
            }
            Some(Room::Space(login)) => self.on_space_member(&login, &target, &member.membership)?,
            Some(Room::Management(owner))
                if owner == target && matches!(member.membership.as_str(), "leave" | "ban") =>
            {
                let mut row = self.bridge.store.management(&owner)?;
                if row.room.as_ref() == Some(&event.room) {
                    row.room = None;
                    self.bridge.store.put_management(&owner, &row)?;
                }
                self.bridge.store.erase_room(&event.room);
                let user = self.bridge.homeserver.bot.clone();
                self.bridge.owe(Lane::Management(owner), Effect::LeaveRoom { room: event.room.clone(), user })?;
            }
            _ => {}
        }
        Ok(())
    }

    fn on_bot_invited(&mut self, by: &OwnedUserId, room: &OwnedRoomId, direct: bool) -> Result<(), StoreError> {
        if self.bridge.store.successor(room)?.is_some() {
            return self.follow(room);
        }
        let lane = Lane::Management(by.clone());
        if self.bridge.settings.permission(by) < Permission::User {
            let user = self.bridge.homeserver.bot.clone();
            self.bridge.ignore("invited by someone without permission");
            self.bridge.owe(lane, Effect::LeaveRoom { room: room.clone(), user })?;
            return Ok(());
        }
        if direct {
            self.person(by).direct_invites.insert(room.clone());
        }
        self.bridge.owe(lane, Effect::JoinInvited { room: room.clone() })?;
        Ok(())
    }

    /// The bot is in a room that it was invited to: a management room if it is direct or a room of two.
    pub(super) fn joined_invited(&mut self, owner: &OwnedUserId, room: OwnedRoomId) -> Result<(), StoreError> {
        if self.person(owner).direct_invites.remove(&room) {
            return self.set_management_room(owner, &room);
        }
        self.bridge.owe(Lane::Management(owner.clone()), Effect::CountMembers { room })?;
        Ok(())
    }

    pub(super) fn counted_members(
        &mut self,
        owner: &OwnedUserId,
        room: OwnedRoomId,
        members: u64,
    ) -> Result<(), StoreError> {
        let asked = self.person(owner).wants_management.remove(&room);
        if members == 2 {
            return self.set_management_room(owner, &room);
        }
        if asked {
            let text = format!("{members} are in this room. A management room is for you and me alone.");
            return self.answer_in(owner, Some(room), text);
        }
        let text = format!("I listen to commands that begin with {} here. Talk with me alone to sign in.", bot::PREFIX);
        self.answer_in(owner, Some(room), text)
    }

    fn set_management_room(&mut self, owner: &OwnedUserId, room: &OwnedRoomId) -> Result<(), StoreError> {
        match self.bridge.store.room(room)? {
            Some(Room::Management(known)) if known == *owner => {}
            None => {}
            // A chat's room, or someone else's: it stays theirs.
            Some(Room::Management(_) | Room::Portal(_) | Room::Space(_)) => {
                self.bridge.ignore("management room that is another's");
                return Ok(());
            }
        }
        let mut row = self.bridge.store.management(owner)?;
        row.room = Some(room.clone());
        row.notices.clear();
        self.bridge.store.put_management(owner, &row)?;
        self.bridge.store.put_room(room, &Room::Management(owner.clone()))?;
        self.bridge.say_notice(owner, bot::welcome(&self.bridge.homeserver.bot_name), None)
    }

    /// Someone invites a ghost: for its owner that opens or reopens the chat; for anyone else nothing.
    fn on_ghost_invited(&mut self, by: &OwnedUserId, room: &RoomId, ghost: &OwnedUserId) -> Result<(), StoreError> {
        if let Some(Room::Portal(portal)) = self.bridge.store.room(room)? {
            return self.let_ghost_in(&portal, room, ghost);
        }
        if self.bridge.store.successor(room)?.is_some() {
            // It joins once the bot has seen which room this one replaces.
            return Ok(());
        }
        // The portal is another room: the ghost does not stay in this one.
        let lane = Lane::Management(by.clone());
        let Some((login, contact)) = parse_ghost_localpart(ghost.localpart()) else { return Ok(()) };
        self.bridge.owe(lane, Effect::LeaveRoom { room: room.to_owned(), user: ghost.clone() })?;
        let contact = match contact {
            Some(contact) => Some(contact),
            None => self.hashed_contact(&login, ghost)?,
        };
        let (Some(contact), true) = (contact, self.owner_of(&login)?.as_ref() == Some(by)) else {
            self.bridge.ignore("ghost invited by someone else");
            return Ok(());
        };
        let name = contact.to_string();
        self.open_chat(&ContactKey { login, contact })?;
        self.bridge.say(by, format!("Your chat with {name} is open: I have invited you to its room."))
    }

    pub(super) fn hashed_contact(
        &self,
        login: &LoginId,
        ghost: &UserId,
    ) -> Result<Option<crate::domain::BareJid>, StoreError> {
        let contacts = self.bridge.store.contacts(login)?;
        Ok(contacts.into_iter().map(|(contact, _)| contact).find(|contact| {
            self.bridge.ghost(&ContactKey { login: login.clone(), contact: contact.clone() }).as_deref() == Some(ghost)
        }))
    }

    /// Opens or reopens a chat: makes the room, or invites the owner to it again.
    pub(super) fn open_chat(&mut self, contact: &ContactKey) -> Result<(), StoreError> {
        if self.bridge.store.portal(contact)?.is_none() {
            self.admit(contact, true)?;
            return self.bridge.join_owner(contact);
        }
        if let Some(mut row) = self.bridge.store.portal(contact)?
            && row.room.is_some()
            && row.owner != Membership::Joined
        {
            row.owner = Membership::Invited;
            self.bridge.store.put_portal(contact, &row)?;
            self.bridge.owe(Lane::ToMatrix(contact.clone()), Effect::InviteOwner)?;
        }
        self.bridge.join_owner(contact)
    }

    fn on_management_event(&mut self, owner: &OwnedUserId, event: &RoomEvent) -> Result<(), StoreError> {
        match event.kind.as_str() {
            "m.room.message" => match text_of(&event.content) {
                Some(text) => self.on_command_text(
                    owner,
                    &event.room,
                    Some(&event.id),
                    bot::after_prefix(&text).unwrap_or(&text),
                    true,
                ),
                None => Ok(()),
            },
            "m.room.encrypted" => self.answer_in(
                owner,
                Some(event.room.clone()),
                "I cannot read encrypted messages yet. Please talk with me in a room without encryption.".to_owned(),
            ),
            _ => Ok(()),
        }
    }

    /// An event may come more than once: again in a transaction that is repeated, or in one that was overtaken.
    fn on_portal_event_once(&mut self, portal: &ContactKey, event: &RoomEvent) -> Result<(), StoreError> {
        if self.bridge.store.stanza_of(portal, &event.id)?.is_some() {
            return Ok(());
        }
        self.on_portal_event(portal, event)?;
        let by_owner = self.owner_of(&portal.login)?.as_ref() == Some(&event.sender);
        if by_owner && self.bridge.store.stanza_of(portal, &event.id)?.is_none() {
            self.bridge.store.bind(portal, &stable_id::handled(&event.id), Some(&event.id))?;
        }
        Ok(())
    }

    fn on_portal_event(&mut self, portal: &ContactKey, event: &RoomEvent) -> Result<(), StoreError> {
        let Some(login) = self.bridge.store.login(&portal.login)? else { return Ok(()) };
        if login.owner != event.sender {
            // What someone else says in the room is not said in the owner's name.
            self.bridge.ignore("said in a portal by someone else");
            return Ok(());
        }
        if event.kind == "m.room.message"
            && let Some(text) = text_of(&event.content)
            && let Some(command) = bot::after_prefix(&text)
        {
            return self.on_command_text(&event.sender, &event.room, Some(&event.id), command, false);
        }
        let says = matches!(event.kind.as_str(), "m.room.message" | "m.sticker" | "m.reaction");
        let told = match event.kind.as_str() {
            _ if says && !self.hears_the_owner(portal)? => Err(Untold::Sentence(blocking::why_not_sent())),
            "m.room.message" | "m.sticker" => self.say_to(portal, event),
            "m.reaction" => self.say_reaction(portal, event),
            "m.room.redaction" => self.say_redaction(portal, event),
            "m.room.encrypted" => {
                let text = "Your message was not sent: I cannot read encrypted messages yet.";
                return self.reject(portal, &event.id, &event.id, Reason::Undecryptable, text.to_owned());
            }
            _ => {
                self.bridge.ignore("event that is not translated");
                return Ok(());
            }
        };
        if event.kind == "m.room.message"
            && let Some(live) = self.lives.get_mut(&portal.login)
        {
            // The message itself says that the person types no longer.
            live.own_typing.remove(&portal.contact);
        }
        // Who writes has read what was there.
        self.read_vanishing(portal, None)?;
        match told {
            Ok(()) => {
                self.watch_message(portal);
                Ok(())
            }
            Err(Untold::Store(error)) => Err(error),
            Err(why) => self.tell_untold(portal, event, &why),
        }
    }

    /// How many bytes of text, escaped, fit one stanza to this contact.
    pub(super) fn body_budget(&self, portal: &ContactKey) -> Result<usize, StoreError> {
        const MARGIN: usize = 512;
        let profile = self.profile_of(&portal.login)?;
        let announced = self.lives.get(&portal.login).and_then(|live| live.session.as_ref()?.max_bytes);
        let limit = announced
            .or(profile.map(|profile| profile.max_stanza))
            .unwrap_or(crate::domain::capability::DEFAULT_MAX_STANZA);
        let Some(login) = self.bridge.store.login(&portal.login)? else { return Ok(MARGIN) };
        // What stands around the text, with the sender's address that the server adds.
        let empty =
            Outgoing { body: "x".to_owned(), event: ruma::owned_event_id!("$x"), written: self.bridge.now.wall };
        let id = self.bridge.wire_id(crate::domain::DebtId(u64::MAX));
        let around = message::to_xmpp(
            &empty,
            &portal.contact,
            &id,
            message::Beside { chat_state: true, receipts: true },
            Some((empty.written, &login.account)),
        );
        let around = to_xml(&around).map_or(MARGIN, |xml| xml.len())
            + login.account.as_str().len()
            + login.resource.len()
            + MARGIN;
        Ok(usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(around).max(MARGIN))
    }

    pub(super) fn on_ephemeral(&mut self, event: EphemeralEvent) -> Result<(), StoreError> {
        match event {
            EphemeralEvent::Typing { room, users } => match self.bridge.store.room(&room)? {
                Some(Room::Portal(portal)) => self.on_typing(&portal, &users),
                _ => Ok(()),
            },
            EphemeralEvent::Presence { user, state, status, last_active_ago } => {
                if self.bridge.is_ours(&user) {
                    return Ok(());
                }
                self.on_person_presence(&user, &state, status, last_active_ago)
            }
            EphemeralEvent::Read { room, user, event } => match self.bridge.store.room(&room)? {
                Some(Room::Portal(portal)) if self.owner_of(&portal.login)?.as_ref() == Some(&user) => {
                    self.read_vanishing(&portal, Some(&event))?;
                    self.on_read(&portal, &event)
                }
                _ => Ok(()),
            },
        }
    }
}

fn text_of(content: &RawValue) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Text {
        msgtype: String,
        body: String,
    }
    let text: Text = serde_json::from_str(content.get()).ok()?;
    (text.msgtype == "m.text").then_some(text.body)
}

/// The key that marks our events is spelled once more in a derive above, and in `matrix/calls.rs`; this holds the first two
/// together, and a test of the wire the others.
#[cfg(test)]
mod tests {
    #[test]
    fn the_mark_has_one_name() {
        let json = format!("{{\"{}\":\"x\"}}", crate::translate::bridge_info::DEBT);
        assert_eq!(serde_json::from_str::<super::Marked>(&json).unwrap().debt.as_deref(), Some("x"));
    }
}
