//! Tables work and `put_off`: long work of a login that its owner is told of, and contacts that get no room by themselves.

use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError,
    key::{Key, Table},
};
use crate::domain::{LoginId, Timestamp, effect::ContactKey};

/// What is done for a login that can take long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Its contacts get their ghosts and rooms.
    Contacts,
    /// What was said before, and what was missed, is fetched.
    History,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::Contacts, Self::History];
}

/// How far it is, from when its owner is first told until they are told how it ended: so it goes on in the same message after
/// a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// When it began: part of the name of its message.
    pub began: Timestamp,
    /// Contacts that have their room, or chats whose history is here.
    pub done: u64,
    /// Messages of those chats.
    pub messages: u64,
    /// Messages that had been missed.
    pub missed: u64,
    /// The owner has cancelled it.
    pub stopped: bool,
}

fn key(login: &LoginId, kind: Kind) -> Vec<u8> {
    let kind = match kind {
        Kind::Contacts => b'c',
        Kind::History => b'h',
    };
    Key::of(Table::Work).login(login).byte(kind).done()
}

fn put_off_key(contact: &ContactKey) -> Vec<u8> {
    Key::of(Table::PutOff).login(&contact.login).text(contact.contact.as_str()).done()
}

impl Store {
    /// What is under way.
    pub fn work(&self, login: &LoginId, kind: Kind) -> Result<Option<Work>, StoreError> {
        self.row(&key(login, kind))
    }

    /// Notes how far it is.
    pub fn put_work(&mut self, login: &LoginId, kind: Kind, row: &Work) -> Result<(), StoreError> {
        self.write(key(login, kind), row)
    }

    /// It is over, and the owner was told.
    pub fn erase_work(&mut self, login: &LoginId, kind: Kind) {
        self.erase(key(login, kind));
    }

    /// The contact gets no room by itself, for the owner wanted no more of them.
    pub fn put_off(&mut self, contact: &ContactKey, at: Timestamp) -> Result<(), StoreError> {
        self.write(put_off_key(contact), &at)
    }

    /// Is it so?
    pub fn is_put_off(&self, contact: &ContactKey) -> Result<bool, StoreError> {
        Ok(self.row::<Timestamp>(&put_off_key(contact))?.is_some())
    }

    /// The owner wants rooms for all contacts of the login again.
    pub fn erase_put_off(&mut self, login: &LoginId) -> Result<(), StoreError> {
        self.erase_all(&Key::of(Table::PutOff).login(login).done())
    }
}
