//! Tables presence and caps: what contacts' clients are and can do. Kept so that a resumed stream, on which nobody says
//! it again, still knows.

use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError,
    key::{Key, Table, text_at},
};
use crate::domain::{BareJid, LoginId, StreamId, effect::ContactKey, feature::Features, id::LOGIN_ID_LENGTH};

/// How many resources of one contact are kept; the newest count.
pub const RESOURCES: usize = 16;

/// Most kinds of clients that are remembered.
pub const CAPS: usize = 2_000;

/// One client of a contact (RFC 6121 section 4).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// Its name, as it came.
    pub name: String,
    /// `<show/>`; `None` is plainly available.
    pub show: Option<String>,
    /// `<status/>`.
    pub status: Option<String>,
    /// `<priority/>`.
    pub priority: i8,
    /// `node#ver` of XEP-0115.
    pub caps: Option<String>,
}

/// A contact's clients, as told on one session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// The session on which they were told.
    pub bound: StreamId,
    /// The clients, newest last.
    pub list: Vec<Resource>,
}

fn key(contact: &ContactKey) -> Vec<u8> {
    Key::of(Table::Presence).login(&contact.login).text(contact.contact.as_str()).done()
}

fn last_features_key(contact: &ContactKey) -> Vec<u8> {
    Key::of(Table::Features).byte(b'c').login(&contact.login).text(contact.contact.as_str()).done()
}

impl Store {
    /// A contact's clients.
    pub fn resources(&self, contact: &ContactKey) -> Result<Option<Resources>, StoreError> {
        self.row(&key(contact))
    }

    /// Writes a contact's clients.
    pub fn put_resources(&mut self, contact: &ContactKey, row: &Resources) -> Result<(), StoreError> {
        if row.list.is_empty() {
            self.erase(key(contact));
            return Ok(());
        }
        self.write(key(contact), row)
    }

    /// All contacts of a login that have clients on line.
    pub fn present(&self, login: &LoginId) -> Result<Vec<(BareJid, Resources)>, StoreError> {
        let rows = self.rows(&Key::of(Table::Presence).login(login).done())?;
        Ok(rows
            .into_iter()
            .filter_map(|(key, row)| Some((BareJid::parse(&text_at(&key, 1 + LOGIN_ID_LENGTH)).ok()?, row)))
            .collect())
    }

    /// What clients with these capabilities can do. `None` if they were never asked.
    pub fn caps_features(&self, caps: &str) -> Result<Option<Features>, StoreError> {
        self.row(&Key::of(Table::Features).byte(b'h').text(caps).done())
    }

    /// Notes what clients with these capabilities can do.
    pub fn put_caps_features(&mut self, caps: &str, features: Features) -> Result<(), StoreError> {
        let table = Key::of(Table::Features).byte(b'h').done();
        if self.overlay.scan(&table, None, CAPS)?.len() >= CAPS {
            self.erase_all(&table)?;
        }
        self.write(Key::of(Table::Features).byte(b'h').text(caps).done(), &features)
    }

    /// What a contact's clients could do when they were last on line. `None` if that was never learned.
    pub fn last_features(&self, contact: &ContactKey) -> Result<Option<Features>, StoreError> {
        self.row(&last_features_key(contact))
    }

    /// Notes it.
    pub fn put_last_features(&mut self, contact: &ContactKey, features: Features) -> Result<(), StoreError> {
        if self.last_features(contact)? != Some(features) {
            self.write(last_features_key(contact), &features)?;
        }
        Ok(())
    }

    pub(super) fn erase_features(&mut self, login: &LoginId) -> Result<(), StoreError> {
        self.erase_all(&Key::of(Table::Features).byte(b'c').login(login).done())
    }

    /// Do clients with these capabilities know chat states? `None` if they were never asked.
    pub fn caps_chat_states(&self, caps: &str) -> Result<Option<bool>, StoreError> {
        self.row(&Key::of(Table::Caps).text(caps).done())
    }

    /// Notes what clients with these capabilities know.
    pub fn put_caps_chat_states(&mut self, caps: &str, knows: bool) -> Result<(), StoreError> {
        // What clients can do can be asked again; contacts that make up clients must not fill the disk.
        let table = Key::of(Table::Caps).done();
        if self.overlay.scan(&table, None, CAPS)?.len() >= CAPS {
            self.erase_all(&table)?;
        }
        self.write(Key::of(Table::Caps).text(caps).done(), &knows)
    }
}
