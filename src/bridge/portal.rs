//! Portals: the room of a contact.

use super::{Bridge, question::Question};
use crate::{
    bridge::Want,
    domain::{
        BareJid, LoginId,
        capability::Archive,
        effect::{About, ContactKey, Effect, Lane, MatrixEvent, Sender},
    },
    store::{
        StoreError,
        contact::GhostState,
        look::{Decided, Look},
        portal::{History, Membership, Portal},
    },
};

impl Bridge {
    /// Makes sure that the contact has a portal, with its room owed if there is none. `true` if it is new.
    pub fn ensure_portal(&mut self, contact: &ContactKey) -> Result<bool, StoreError> {
        self.ensure_portal_with(contact, true)
    }

    /// The same; `history`: with what was said before, where there is an archive.
    pub fn ensure_portal_with(&mut self, contact: &ContactKey, history: bool) -> Result<bool, StoreError> {
        if self.store.portal(contact)?.is_some() {
            return Ok(false);
        }
        let registration = self.ensure_ghost(contact)?;
        let lane = Lane::ToMatrix(contact.clone());
        let creating = self.owe_after(lane.clone(), Effect::CreateRoom, registration)?;
        self.owe(lane, Effect::JoinRoom { ghost: contact.contact.clone() })?;
        let archive = self.archive(&contact.login)?;
        let wants = history && self.settings.history_initial > 0 && archive != Archive::None;
        let portal = Portal {
            creating: Some(creating),
            history: if wants { History::Wanted } else { History::Done },
            ghosts: vec![contact.contact.clone()],
            name: Some(self.display_name(contact)?),
            ..Portal::default()
        };
        self.store.put_portal(contact, &portal)?;
        let photo = self.store.look(contact)?.photo;
        self.store.put_look(contact, &Look { avatar: photo.clone(), photo, ..Look::default() })?;
        // A stranger's room is joined by whoever wants to talk with them: that accepts them.
        if self.contact(contact)?.on_roster {
            self.join_owner(contact)?;
        }
        if wants {
            self.ask_history(contact, archive);
        }
        Ok(true)
    }

    /// Asks for what was said before a room was there.
    pub fn ask_history(&mut self, contact: &ContactKey, archive: Archive) {
        let question = match archive {
            Archive::None => return,
            Archive::Mam => Question::History { contact: contact.contact.clone() },
            Archive::Recent => Question::Recent { contact: contact.contact.clone() },
        };
        self.wants.push(Want::Ask(contact.login.clone(), question));
    }

    /// Which archive a login has.
    pub fn archive(&self, login: &LoginId) -> Result<Archive, StoreError> {
        let Some(row) = self.store.login(login)? else { return Ok(Archive::None) };
        let fixed = self.profile(&row.network).map_or(Archive::None, |profile| profile.archive);
        if fixed != Archive::None {
            return Ok(fixed);
        }
        let found = self.store.session(login)?.is_some_and(|session| session.archive);
        Ok(if found { Archive::Mam } else { Archive::None })
    }

    /// Owes an event in a portal's room, from a ghost of the login. A person who left is invited again.
    pub fn owe_event(
        &mut self,
        portal: &ContactKey,
        sender: Sender,
        event: MatrixEvent,
        at: Option<crate::domain::Timestamp>,
        binds: Vec<String>,
    ) -> Result<(), StoreError> {
        self.prepare(portal, &sender, &binds)?;
        self.owe(Lane::ToMatrix(portal.clone()), Effect::SendEvent { sender, event, at, binds })?;
        Ok(())
    }

    /// The same for one that refers to another event.
    pub fn owe_about(
        &mut self,
        portal: &ContactKey,
        sender: Sender,
        event: MatrixEvent,
        about: About,
        at: Option<crate::domain::Timestamp>,
        binds: Vec<String>,
    ) -> Result<(), StoreError> {
        self.prepare(portal, &sender, &binds)?;
        self.owe(Lane::ToMatrix(portal.clone()), Effect::SendAbout { sender, event, about, at, binds })?;
        Ok(())
    }

    /// The same for a file, by the effect that brings it or says why it is not brought.
    pub fn owe_file(
        &mut self,
        portal: &ContactKey,
        sender: &Sender,
        binds: &[String],
        effect: Effect,
    ) -> Result<(), StoreError> {
        self.prepare(portal, sender, binds)?;
        self.owe(Lane::ToMatrix(portal.clone()), effect)?;
        Ok(())
    }

    fn prepare(&mut self, portal: &ContactKey, sender: &Sender, binds: &[String]) -> Result<(), StoreError> {
        let lane = Lane::ToMatrix(portal.clone());
        self.ensure_portal(portal)?;
        if let Sender::Ghost(ghost) = sender {
            self.ensure_in_room(portal, ghost)?;
        }
        if let Some(mut row) = self.store.portal(portal)?
            && row.owner == Membership::Left
        {
            row.owner = Membership::Invited;
            self.store.put_portal(portal, &row)?;
            self.owe(lane, Effect::InviteOwner)?;
        }
        if *sender == Sender::Owner {
            self.join_owner(portal)?;
        }
        for name in binds {
            self.store.bind(portal, name, None)?;
        }
        Ok(())
    }

    /// Makes sure that a ghost of the login is in the portal's room.
    fn ensure_in_room(&mut self, portal: &ContactKey, ghost: &BareJid) -> Result<(), StoreError> {
        let Some(mut row) = self.store.portal(portal)? else { return Ok(()) };
        if row.ghosts.contains(ghost) {
            return Ok(());
        }
        let key = ContactKey { login: portal.login.clone(), contact: ghost.clone() };
        let registration = self.ensure_ghost(&key)?;
        row.ghosts.push(ghost.clone());
        self.store.put_portal(portal, &row)?;
        let lane = Lane::ToMatrix(portal.clone());
        self.owe_after(lane.clone(), Effect::InviteGhost { ghost: ghost.clone() }, registration)?;
        self.owe(lane, Effect::JoinRoom { ghost: ghost.clone() })?;
        Ok(())
    }

    /// Owes the room's name, where the bridge has given it one.
    pub fn name_room(&mut self, contact: &ContactKey, name: String) -> Result<(), StoreError> {
        if let Some(mut portal) = self.store.portal(contact)?
            && portal.name.is_some()
            && portal.name.as_ref() != Some(&name)
            && self.store.look(contact)?.name_by == Decided::Bridge
        {
            portal.name = Some(name.clone());
            self.store.put_portal(contact, &portal)?;
            self.owe(Lane::ToMatrix(contact.clone()), Effect::NameRoom { name })?;
        }
        Ok(())
    }

    /// The ghost's account exists now.
    pub fn ghost_registered(&mut self, contact: &ContactKey) -> Result<(), StoreError> {
        let mut row = self.contact(contact)?;
        row.ghost = GhostState::Registered;
        self.store.put_contact(contact, &row)
    }
}
