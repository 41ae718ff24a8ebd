//! Table profile: what a contact publishes of itself by personal eventing (XEP-0163) and in its vCard4, beside what
//! [`super::contact`] knows.

use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError,
    key::{Key, Table, text_at},
};
use crate::domain::{BareJid, LoginId, effect::ContactKey, id::LOGIN_ID_LENGTH};

/// What a contact says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// The nickname that it publishes (XEP-0172).
    pub nick: Option<String>,
    /// Its avatar (XEP-0084).
    pub avatar: Avatar,
    /// Its vCard4 (XEP-0292) was asked for, and answered or refused.
    pub vcard4: bool,
    /// The vCard4's `nickname`.
    pub vcard4_nickname: Option<String>,
    /// The vCard4's `fn`.
    pub vcard4_full_name: Option<String>,
}

/// What a contact says of its avatar (XEP-0084).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Avatar {
    /// Nothing; its vCard's photo counts.
    #[default]
    Unknown,
    /// That it has none.
    None,
    /// That it has one with this SHA-1 (lower-case hex). It goes before the vCard's photo.
    Picture(String),
    /// That it has one with this SHA-1, which could not be had or shown; its vCard's photo counts.
    Unusable(String),
}

fn key(contact: &ContactKey) -> Vec<u8> {
    Key::of(Table::Profile).login(&contact.login).text(contact.contact.as_str()).done()
}

impl Store {
    /// What a contact says of itself; empty if nothing is known.
    pub fn profile(&self, contact: &ContactKey) -> Result<Profile, StoreError> {
        Ok(self.row(&key(contact))?.unwrap_or_default())
    }

    /// Writes it.
    pub fn put_profile(&mut self, contact: &ContactKey, row: &Profile) -> Result<(), StoreError> {
        if self.profile(contact)? == *row {
            return Ok(());
        }
        self.write(key(contact), row)
    }

    /// What the contacts of a login say of themselves.
    pub fn profiles(&self, login: &LoginId) -> Result<Vec<(BareJid, Profile)>, StoreError> {
        let rows = self.rows(&Key::of(Table::Profile).login(login).done())?;
        Ok(rows
            .into_iter()
            .filter_map(|(key, row)| Some((BareJid::parse(&text_at(&key, 1 + LOGIN_ID_LENGTH)).ok()?, row)))
            .collect())
    }
}
