//! Ghosts: the Matrix users that contacts appear as.

use ruma::{OwnedUserId, ServerName, UserId};

use super::{Bridge, MatrixWorkFor, Want};
use crate::{
    domain::{
        BareJid, DebtId, LoginId,
        address::ghost_localpart,
        effect::{ContactKey, Effect, Lane},
        text::{MAX_NAME, one_line},
    },
    store::{
        StoreError,
        contact::{Contact, GhostState, VCardState},
        profile::Avatar,
    },
};

/// What is added to the name of the person's own account.
const YOU: &str = " (you)";

impl Bridge {
    /// Makes sure that the contact has a row and a ghost. Gives the debt that registers the ghost while it is unpaid.
    pub fn ensure_ghost(&mut self, contact: &ContactKey) -> Result<Option<DebtId>, StoreError> {
        let mut row = self.contact(contact)?;
        match row.ghost {
            GhostState::Registered => Ok(None),
            GhostState::Owed(debt) => Ok(Some(debt)),
            GhostState::None => {
                let debt = self.owe(Lane::Ghost(contact.clone()), Effect::RegisterGhost)?;
                row.ghost = GhostState::Owed(debt);
                self.store.put_contact(contact, &row)?;
                self.name_ghost(contact)?;
                Ok(Some(debt))
            }
        }
    }

    /// A contact's row, empty if it has none yet.
    pub fn contact(&self, contact: &ContactKey) -> Result<Contact, StoreError> {
        Ok(self.store.contact(contact)?.unwrap_or_default())
    }

    /// Is this contact the account itself?
    pub fn is_account(&self, contact: &ContactKey) -> Result<bool, StoreError> {
        Ok(self.store.login(&contact.login)?.is_some_and(|login| login.account == contact.contact))
    }

    /// The name that a contact is shown with.
    pub fn display_name(&self, contact: &ContactKey) -> Result<String, StoreError> {
        let row = self.contact(contact)?;
        let mut name = one_line(&row.display_name(&self.store.profile(contact)?, &contact.contact), MAX_NAME);
        if self.is_account(contact)? {
            name.push_str(YOU);
            return Ok(name);
        }
        // Nobody else passes for the person themselves.
        let own = |name: &str| name.to_lowercase().ends_with(YOU.trim());
        while own(&name) {
            name.truncate(name.trim_end_matches(')').rfind('(').unwrap_or(0));
            name.truncate(name.trim_end().len());
        }
        if name.is_empty() {
            name = one_line(contact.contact.localpart().unwrap_or(contact.contact.as_str()), MAX_NAME);
        }
        Ok(name)
    }

    /// Owes the ghost's and the room's name where they differ from what is shown.
    pub fn name_ghost(&mut self, contact: &ContactKey) -> Result<(), StoreError> {
        let mut row = self.contact(contact)?;
        if row.ghost == GhostState::None {
            return Ok(());
        }
        let name = self.display_name(contact)?;
        if row.shown_name.as_ref() == Some(&name) {
            return Ok(());
        }
        row.shown_name = Some(name.clone());
        self.store.put_contact(contact, &row)?;
        self.owe(Lane::Ghost(contact.clone()), Effect::NameGhost { name: name.clone() })?;
        self.name_room(contact, name)
    }

    /// A photo was found whose bytes are good: upload it, unless the ghost shows it already.
    pub fn picture_ghost(
        &mut self,
        contact: &ContactKey,
        hash: String,
        mime: &'static str,
        bytes: Vec<u8>,
    ) -> Result<(), StoreError> {
        if self.contact(contact)?.shown_photo.as_ref() != Some(&hash) {
            self.ensure_ghost(contact)?;
            self.wants.push(Want::Soft(contact.clone(), MatrixWorkFor::Photo { hash, mime, bytes }));
        }
        Ok(())
    }

    /// The photo is uploaded: show it.
    pub fn photo_uploaded(&mut self, contact: &ContactKey, hash: String, url: String) -> Result<(), StoreError> {
        // Its login may be gone by now: nothing of it may come back.
        let Some(mut row) = self.store.contact(contact)? else { return Ok(()) };
        let avatar = self.store.profile(contact)?.avatar;
        match &avatar {
            // Of two pictures the avatar goes before the vCard's photo.
            Avatar::Picture(other) if *other != hash => return Ok(()),
            // The vCard may not have been asked for yet.
            Avatar::Picture(_) => {}
            _ => row.vcard = VCardState::Fetched(row.announced_photo.clone()),
        }
        row.shown_photo = Some(hash);
        self.store.put_contact(contact, &row)?;
        self.picture_room(contact, Some(&url))?;
        self.owe(Lane::Ghost(contact.clone()), Effect::PictureGhost { url })?;
        Ok(())
    }

    /// The contact has no photo any more.
    pub fn unpicture_ghost(&mut self, contact: &ContactKey) -> Result<(), StoreError> {
        let mut row = self.contact(contact)?;
        if row.shown_photo.take().is_some() {
            self.store.put_contact(contact, &row)?;
            self.owe(Lane::Ghost(contact.clone()), Effect::PictureGhost { url: String::new() })?;
            self.picture_room(contact, None)?;
        }
        Ok(())
    }
}

/// The MXID of a contact's ghost on a homeserver.
pub fn ghost_user(contact: &ContactKey, server: &ServerName) -> Option<OwnedUserId> {
    let localpart = ghost_localpart(&contact.login, &contact.contact, server.as_str());
    UserId::parse(format!("@{localpart}:{server}")).ok()
}

/// The contact of a login.
pub fn contact_of(login: &LoginId, contact: &BareJid) -> ContactKey {
    ContactKey { login: login.clone(), contact: contact.clone() }
}
