//! Ghosts: the Matrix users that contacts appear as.

use super::{Bridge, MatrixWorkFor, Want};
use crate::{
    domain::{
        BareJid, DebtId, LoginId,
        effect::{ContactKey, Effect, Lane},
    },
    store::{
        StoreError,
        contact::{Contact, GhostState, VCardState},
    },
};

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
        let mut name = row.display_name(&contact.contact);
        if self.is_account(contact)? {
            name.push_str(" (you)");
        }
        Ok(clean_name(&name))
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
        row.shown_photo = Some(hash);
        row.vcard = VCardState::Fetched(row.announced_photo.clone());
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

/// Longest name in characters; what is longer is cut.
const MAX_NAME: usize = 100;

/// A name from the other side, without what could make it look like something else: control characters, line breaks
/// and the characters that turn the direction of text.
fn clean_name(name: &str) -> String {
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}');
    let cleaned: String = name.chars().filter(|c| !c.is_control() && !turns(*c)).take(MAX_NAME).collect();
    cleaned.trim().to_owned()
}

/// The contact of a login.
pub fn contact_of(login: &LoginId, contact: &BareJid) -> ContactKey {
    ContactKey { login: login.clone(), contact: contact.clone() }
}

#[cfg(test)]
mod tests {
    use super::clean_name;

    #[test]
    fn names_lose_what_deceives() {
        assert_eq!(clean_name(" Juliet\u{202e}\n"), "Juliet");
        assert_eq!(clean_name(&"x".repeat(200)).len(), 100);
    }
}
