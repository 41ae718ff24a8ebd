//! Contacts' rooms as their owners handle them: what they name them, and the commands that look after them.

use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};

use super::{Engine, pay::Due};
use crate::{
    bot::{self, Command},
    bridge::{
        ghost::contact_of,
        look::{AVATAR, TOPIC, avatar, topic},
        meter::Fate,
    },
    domain::{
        BareJid,
        effect::{ContactKey, Effect, Lane, Notice, Sender, Subscription},
        file::IncomingFile,
        input::RoomEvent,
        output::MatrixCall,
    },
    store::{
        StoreError,
        contact::VCardState,
        look::{Decided, Look},
        portal::{Membership, Portal, Room},
    },
    translate::{bridge_info, room_look, space, upgrade},
};

impl Engine {
    // ---- what others set

    /// A state event of someone else.
    pub(super) fn on_state(&mut self, event: &RoomEvent) -> Result<(), StoreError> {
        if event.kind == upgrade::TOMBSTONE {
            return self.on_tombstone(event);
        }
        let (Some(""), Some(Room::Portal(portal)), Some(decided)) = (
            event.state_key.as_deref(),
            self.bridge.store.room(&event.room)?,
            room_look::from_matrix(&event.kind, &event.content),
        ) else {
            return Ok(());
        };
        let mut look = self.bridge.store.look(&portal)?;
        room_look::decide(&mut look, &event.kind, decided);
        self.bridge.store.put_look(&portal, &look)
    }

    /// A state event of the bot itself came back.
    pub(super) fn on_own_state(&mut self, event: &RoomEvent) -> Result<(), StoreError> {
        match event.kind.as_str() {
            space::MARK => self.on_own_space(event),
            // The homeserver lets the bridge's token upgrade what the bot has made.
            upgrade::TOMBSTONE => self.on_tombstone(event),
            // Of a room that it makes by an upgrade the bot is a member only after the tombstone of the old one.
            "m.room.member" if event.state_key.as_deref() == Some(self.bridge.homeserver.bot.as_str()) => {
                match self.bridge.store.successor(&event.room)? {
                    Some(successor) if !successor.checked => self.follow(&event.room),
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    /// A part of a room's look, unless the person has decided it meanwhile.
    pub(super) fn due_look(
        &self,
        portal: &ContactKey,
        room: OwnedRoomId,
        kind: &str,
        key: &str,
        content: String,
    ) -> Result<Due, StoreError> {
        if self.bridge.decided(portal, kind)?.is_some_and(|by| by != Decided::Bridge) {
            return Ok(Due::Moot);
        }
        let user = self.bridge.homeserver.bot.clone();
        Ok(Due::Call(MatrixCall::SetState { room, user, kind: kind.to_owned(), key: key.to_owned(), content }))
    }

    /// Someone with the power for it invites a ghost to its own portal.
    pub(super) fn let_ghost_in(
        &mut self,
        portal: &ContactKey,
        room: &RoomId,
        ghost: &OwnedUserId,
    ) -> Result<(), StoreError> {
        let ours = self.ghosts_of(portal)?.iter().any(|(_, user)| user == ghost);
        match self.owner_of(&portal.login)? {
            Some(owner) if ours => {
                let effect = Effect::JoinAs { room: room.to_owned(), user: ghost.clone() };
                self.bridge.owe(Lane::Management(owner), effect)?;
            }
            _ => self.bridge.ignore("ghost invited to another one's room"),
        }
        Ok(())
    }

    /// The ghosts of a portal, the contact's last.
    pub(super) fn ghosts_of(&self, portal: &ContactKey) -> Result<Vec<(BareJid, OwnedUserId)>, StoreError> {
        let mut who = self.bridge.store.portal(portal)?.map(|row| row.ghosts).unwrap_or_default();
        who.retain(|ghost| *ghost != portal.contact);
        who.push(portal.contact.clone());
        Ok(who
            .into_iter()
            .filter_map(|ghost| {
                let user = self.bridge.ghost(&contact_of(&portal.login, &ghost))?;
                Some((ghost, user))
            })
            .collect())
    }

    // ---- subscriptions

    /// The owner has come into a contact's room: that accepts what the contact asked.
    pub(super) fn owner_joined(&mut self, portal: &ContactKey) -> Result<(), StoreError> {
        if !self.bridge.store.contact(portal)?.is_some_and(|row| row.asks) {
            return Ok(());
        }
        self.decide(portal, true)?;
        match self.owner_of(&portal.login)? {
            Some(owner) => {
                self.bridge.say(&owner, format!("{} is accepted, for you have joined their room.", portal.contact))
            }
            None => Ok(()),
        }
    }

    /// Opens a chat, and asks someone who is no contact yet to become one (RFC 6121 section 3.1): the server puts them on the
    /// roster by that. `true` if they are asked.
    pub(super) fn open_chat_asking(&mut self, contact: &ContactKey) -> Result<bool, StoreError> {
        self.open_chat(contact)?;
        let row = self.bridge.contact(contact)?;
        if row.on_roster || row.sees {
            return Ok(false);
        }
        let effect = Effect::Subscribe { contact: contact.contact.clone(), kind: Subscription::Subscribe };
        self.bridge.owe(Lane::Login(contact.login.clone()), effect)?;
        Ok(true)
    }

    // ---- commands

    /// The portal that a room is, if it is one of this person's.
    fn portal_here(&self, owner: &UserId, room: &RoomId) -> Result<Option<(ContactKey, Portal)>, StoreError> {
        let Some(Room::Portal(portal)) = self.bridge.store.room(room)? else { return Ok(None) };
        if self.owner_of(&portal.login)?.as_deref() != Some(owner) {
            return Ok(None);
        }
        Ok(self.bridge.store.portal(&portal)?.map(|row| (portal, row)))
    }

    pub(super) fn run_room_command(
        &mut self,
        owner: &OwnedUserId,
        room: &OwnedRoomId,
        command: &Command,
    ) -> Result<Notice, StoreError> {
        let here = self.portal_here(owner, room)?;
        let text = match (command, here) {
            (Command::Id, here) => self.id_of(owner, room, here)?,
            (Command::SetManagementRoom, here) => self.want_management_room(owner, room, here.is_some())?,
            (Command::DeleteAllPortals { confirmed }, _) => self.delete_all(owner, room, *confirmed)?,
            (_, None) => "Use this in the room of a contact, with `!msgr` in front.".to_owned(),
            (Command::DeletePortal, Some((portal, _))) => {
                let text = format!(
                    "I let go of this room, and leave it. The next message of {} or `start-chat` makes a new one.",
                    portal.contact
                );
                // Said first, for afterwards nobody of us is here.
                self.answer_in(owner, Some(room.clone()), text)?;
                self.delete_portal(owner, &portal)?;
                format!("Your room with {} is deleted.", portal.contact)
            }
            (_, Some((portal, row))) => {
                self.sync_portal(owner, &portal, row)?;
                "I am setting this room right: its name, picture, topic, members, and what it says of the bridge."
                    .to_owned()
            }
        };
        Ok(Notice::plain(text))
    }

    fn id_of(&self, owner: &UserId, room: &RoomId, here: Option<(ContactKey, Portal)>) -> Result<String, StoreError> {
        let Some((portal, _)) = here else {
            let what = match self.bridge.store.room(room)? {
                Some(Room::Management(whose)) if whose == *owner => "It is your management room.",
                Some(Room::Space(login)) if self.owner_of(&login)?.as_deref() == Some(owner) => {
                    "It is the space of one of your accounts."
                }
                _ => "It is nothing of yours to me.",
            };
            return Ok(format!("Room: {room}\n{what}"));
        };
        let account =
            self.bridge.store.login(&portal.login)?.map(|login| login.account.to_string()).unwrap_or_default();
        let ghost = self.bridge.ghost(&portal).map(|ghost| ghost.to_string()).unwrap_or_default();
        let (login, contact) = (&portal.login, &portal.contact);
        Ok(format!("Room: {room}\nLogin: {login} ({account})\nContact: {contact}\nGhost: {ghost}"))
    }

    fn want_management_room(
        &mut self,
        owner: &OwnedUserId,
        room: &OwnedRoomId,
        portal: bool,
    ) -> Result<String, StoreError> {
        if portal || matches!(self.bridge.store.room(room)?, Some(Room::Portal(_) | Room::Space(_))) {
            return Ok("This is the room of a contact. Please use a room with me alone.".to_owned());
        }
        if self.bridge.store.management(owner)?.room.as_ref() == Some(room) {
            return Ok("This is your management room already.".to_owned());
        }
        self.person(owner).wants_management.insert(room.clone());
        self.bridge.owe(Lane::Management(owner.clone()), Effect::CountMembers { room: room.clone() })?;
        Ok("Let me see who else is here.".to_owned())
    }

    fn delete_all(&mut self, owner: &OwnedUserId, room: &RoomId, confirmed: bool) -> Result<String, StoreError> {
        if self.bridge.store.room(room)? != Some(Room::Management(owner.clone())) {
            return Ok("Use this in your management room.".to_owned());
        }
        let mut portals = Vec::new();
        for login in self.logins_of(owner)? {
            let of_login = self.bridge.store.portals(&login.id)?;
            portals.extend(of_login.into_iter().map(|(contact, _)| contact_of(&login.id, &contact)));
        }
        let many = portals.len();
        if many == 0 {
            return Ok("You have no contacts' rooms.".to_owned());
        }
        if !confirmed {
            return Ok(format!(
                "That lets go of {many} rooms: their contacts and I leave them, and what was said stays with you only. \
                 Say `delete-all-portals {}` if you mean it.",
                bot::CONFIRM
            ));
        }
        for portal in portals {
            self.delete_portal(owner, &portal)?;
        }
        Ok(format!("{many} rooms are deleted. The next message of a contact or `start-chat` makes a new one."))
    }

    /// Lets go of a portal. What has not reached its room goes into the next one.
    fn delete_portal(&mut self, owner: &OwnedUserId, portal: &ContactKey) -> Result<(), StoreError> {
        let Some(row) = self.bridge.store.portal(portal)? else { return Ok(()) };
        self.stop_typing(portal)?;
        let lane = Lane::ToMatrix(portal.clone());
        let owed = self.bridge.store.debts_of(&lane)?;
        self.bridge.outbox.forget_where(|other| *other == lane);
        for debt in &owed {
            self.bridge.store.erase_debt(&lane, debt.id);
            self.bridge.outbox.forget(debt.id);
            self.bridge.meter.ended(debt, Fate::Dropped, self.bridge.now.wall);
        }
        self.bridge.unlist_room(portal)?;
        if let Some(room) = row.room {
            self.leave_behind(owner, portal, &room)?;
            self.bridge.store.erase_successors_of(&room)?;
            self.direct(owner, portal, &room, false)?;
        }
        self.bridge.owner_join_tried(portal);
        if let Some(live) = self.lives.get_mut(&portal.login) {
            live.own_typing.remove(&portal.contact);
            live.markable.remove(&portal.contact);
            live.unlisted.retain(|waiting| *waiting != portal.contact);
        }
        self.forget_import(portal)?;
        self.bridge.store.erase_portal(portal)?;
        let photo = self.bridge.store.look(portal)?.photo;
        self.bridge.store.put_look(portal, &Look { photo, closed: true, ..Look::default() })?;
        for debt in owed {
            match debt.effect {
                Effect::SendEvent { sender: sender @ (Sender::Ghost(_) | Sender::Owner), event, at, binds } => {
                    self.bridge.ensure_portal_with(portal, false)?;
                    self.bridge.owe_event(portal, sender, event, at, binds)?;
                }
                Effect::SendAbout { sender: sender @ (Sender::Ghost(_) | Sender::Owner), event, about, at, binds } => {
                    self.bridge.ensure_portal_with(portal, false)?;
                    self.bridge.owe_about(portal, sender, event, about, at, binds)?;
                }
                Effect::ShowFile(IncomingFile { ref sender, ref binds, .. }) => {
                    let (sender, binds) = (sender.clone(), binds.clone());
                    self.bridge.ensure_portal_with(portal, false)?;
                    self.bridge.owe_file(portal, &sender, &binds, debt.effect)?;
                }
                Effect::ShowMedia(media) => {
                    let (sender, binds) = (media.file.sender.clone(), media.file.binds.clone());
                    self.bridge.ensure_portal_with(portal, false)?;
                    self.bridge.owe_file(portal, &sender, &binds, Effect::ShowMedia(media))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// All of ours leave a room.
    pub(super) fn leave_behind(
        &mut self,
        owner: &OwnedUserId,
        portal: &ContactKey,
        room: &RoomId,
    ) -> Result<(), StoreError> {
        let ghosts = self.ghosts_of(portal)?.into_iter().map(|(_, user)| user);
        let bot = self.bridge.homeserver.bot.clone();
        for user in ghosts.chain([bot]).collect::<Vec<_>>() {
            self.bridge.owe(Lane::Management(owner.clone()), Effect::LeaveRoom { room: room.to_owned(), user })?;
        }
        Ok(())
    }

    fn sync_portal(&mut self, owner: &OwnedUserId, portal: &ContactKey, mut row: Portal) -> Result<(), StoreError> {
        let Some(room) = row.room.clone() else { return Ok(()) };
        // What the person emptied is given back to the contact; what they set stays theirs.
        let mut look = self.bridge.store.look(portal)?;
        for by in [&mut look.name_by, &mut look.avatar_by, &mut look.topic_by] {
            if *by == Decided::Emptied {
                *by = Decided::Bridge;
            }
        }
        let photo = look.photo.clone();
        if look.avatar_by == Decided::Bridge {
            look.avatar.clone_from(&photo);
        }
        // Whether it stands in the space is not known to be so.
        look.listed = None;
        self.bridge.store.put_look(portal, &look)?;
        self.say_what_it_is(portal)?;
        let name = self.bridge.display_name(portal)?;
        row.name = Some(name.clone());
        let invites = row.owner != Membership::Joined;
        if invites {
            row.owner = Membership::Invited;
        }
        self.bridge.store.put_portal(portal, &row)?;
        let lane = Lane::ToMatrix(portal.clone());
        self.bridge.owe(lane.clone(), Effect::NameRoom { name })?;
        self.bridge.set_room_state(portal, TOPIC, "", topic(portal))?;
        if photo.is_some() {
            self.bridge.set_room_state(portal, AVATAR, "", avatar(photo.as_deref()))?;
        } else {
            self.fetch_photo_again(portal)?;
        }
        if invites {
            self.bridge.owe(lane.clone(), Effect::InviteOwner)?;
            self.bridge.join_owner(portal)?;
        }
        // Ahead of the portal's lane, whose head may be held up because a ghost is missing.
        self.gather(owner, portal, &room)?;
        self.bridge.list_room(portal)?;
        self.bridge.outbox.urge(&lane);
        Ok(())
    }

    /// Owes what tells a client that the room is bridged, and whom to leave out of its name.
    pub(super) fn say_what_it_is(&mut self, portal: &ContactKey) -> Result<(), StoreError> {
        let Some(login) = self.bridge.store.login(&portal.login)? else { return Ok(()) };
        let Some(network) = self.bridge.settings.networks.get(&login.network) else { return Ok(()) };
        for (kind, key, content) in bridge_info::state(&self.bridge, portal, &login, network)? {
            self.bridge.set_room_state(portal, &kind, &key, content)?;
        }
        let functional = room_look::functional(&self.bridge);
        self.bridge.set_room_state(portal, room_look::FUNCTIONAL, "", functional)?;
        self.say_features(portal)
    }

    /// Invites a portal's ghosts to a room and lets them join, the contact's last.
    pub(super) fn gather(&mut self, owner: &UserId, portal: &ContactKey, room: &RoomId) -> Result<(), StoreError> {
        let lane = Lane::Management(owner.to_owned());
        for (ghost, user) in self.ghosts_of(portal)? {
            let registration = self.bridge.ensure_ghost(&contact_of(&portal.login, &ghost))?;
            let invite = Effect::InviteTo { room: room.to_owned(), user: user.clone() };
            self.bridge.owe_after(lane.clone(), invite, registration)?;
            self.bridge.owe(lane.clone(), Effect::JoinAs { room: room.to_owned(), user })?;
        }
        Ok(())
    }

    /// The ghost shows a photo whose place in the media repository was not noted: it is fetched once more.
    fn fetch_photo_again(&mut self, contact: &ContactKey) -> Result<(), StoreError> {
        let mut row = self.bridge.contact(contact)?;
        if row.shown_photo.take().is_none() {
            return Ok(());
        }
        row.vcard = VCardState::Unknown;
        self.bridge.store.put_contact(contact, &row)?;
        if let Some(live) = self.lives.get_mut(&contact.login) {
            live.vcards.retain(|(waiting, _)| *waiting != contact.contact);
            live.vcards.push_back((contact.contact.clone(), row.announced_photo));
        }
        self.next_vcard(&contact.login)
    }
}
