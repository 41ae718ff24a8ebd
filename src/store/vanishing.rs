//! Table vanishing: messages that are to disappear, and the time that each chat has agreed on (XEP-0466). No text stands here.

use ruma::{OwnedEventId, OwnedRoomId};
use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError,
    key::{Key, Table, last_number, text_at},
};
use crate::domain::{BareJid, DebtId, LoginId, Timestamp, effect::ContactKey, id::LOGIN_ID_LENGTH};

/// How many messages of one chat may wait to disappear; beyond, the oldest goes early.
pub const PER_CHAT: usize = 500;

/// The time that a chat has agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreed {
    /// Seconds after which a message disappears; `None`: not any more.
    pub timer: Option<u32>,
    /// What the person has ended: who goes on with it says nothing new.
    pub refused: Option<u32>,
    /// When it was said: what was said before does not count any more.
    pub at: Timestamp,
}

/// A message that is to disappear.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vanishing {
    /// Where its event is.
    pub room: OwnedRoomId,
    /// Its event.
    pub event: OwnedEventId,
    /// Seconds from when it is read.
    pub timer: u32,
    /// When it came.
    pub at: Timestamp,
    /// When it goes; `None` until it is read.
    pub due: Option<Timestamp>,
}

/// A message of a contact whose event is not sent yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promised {
    /// Seconds from when it is read.
    pub timer: u32,
    /// It counts as read already: the account itself said it.
    pub read: bool,
}

fn agreed_key(portal: &ContactKey) -> Vec<u8> {
    Key::of(Table::Vanishing).login(&portal.login).byte(b'a').text(portal.contact.as_str()).done()
}

fn promised_key(portal: &ContactKey, debt: DebtId) -> Vec<u8> {
    Key::of(Table::Vanishing).login(&portal.login).byte(b'p').text(portal.contact.as_str()).number(debt.0).done()
}

fn events(portal: &ContactKey) -> Key {
    Key::of(Table::Vanishing).login(&portal.login).byte(b'e').text(portal.contact.as_str())
}

impl Store {
    /// What a chat has agreed on.
    pub fn agreed(&self, portal: &ContactKey) -> Result<Option<Agreed>, StoreError> {
        self.row(&agreed_key(portal))
    }

    /// Notes it.
    pub fn put_agreed(&mut self, portal: &ContactKey, agreed: Agreed) -> Result<(), StoreError> {
        self.write(agreed_key(portal), &agreed)
    }

    /// The event that this debt sends is to disappear.
    pub fn promise(&mut self, portal: &ContactKey, debt: DebtId, promised: Promised) -> Result<(), StoreError> {
        self.write(promised_key(portal, debt), &promised)
    }

    /// Takes what was promised of a debt's event.
    pub fn take_promise(&mut self, portal: &ContactKey, debt: DebtId) -> Result<Option<Promised>, StoreError> {
        let key = promised_key(portal, debt);
        let found = self.row(&key)?;
        if found.is_some() {
            self.erase(key);
        }
        Ok(found)
    }

    /// An event is to disappear. It is the newest of its chat.
    pub fn add_vanishing(&mut self, portal: &ContactKey, row: &Vanishing) -> Result<(), StoreError> {
        let number = self.take_row_number()?;
        self.write(events(portal).number(number).done(), row)
    }

    /// Writes one again.
    pub fn put_vanishing(&mut self, portal: &ContactKey, number: u64, row: &Vanishing) -> Result<(), StoreError> {
        self.write(events(portal).number(number).done(), row)
    }

    /// What is to disappear in a chat, oldest first.
    pub fn vanishing(&self, portal: &ContactKey) -> Result<Vec<(u64, Vanishing)>, StoreError> {
        let rows = self.rows(&events(portal).done())?;
        Ok(rows.into_iter().map(|(key, row)| (last_number(&key), row)).collect())
    }

    /// Nothing more is to be done about one.
    pub fn erase_vanishing(&mut self, portal: &ContactKey, number: u64) {
        self.erase(events(portal).number(number).done());
    }

    /// The chats of a login in which something is to disappear.
    pub fn chats_that_vanish(&self, login: &LoginId) -> Result<Vec<BareJid>, StoreError> {
        let rows = self.rows::<Vanishing>(&Key::of(Table::Vanishing).login(login).byte(b'e').done())?;
        let mut chats: Vec<BareJid> =
            rows.iter().filter_map(|(key, _)| BareJid::parse(&text_at(key, 2 + LOGIN_ID_LENGTH)).ok()).collect();
        chats.dedup();
        Ok(chats)
    }

    /// A chat's room is no longer ours: nothing can be done about what stands there.
    pub(super) fn erase_vanishing_of(&mut self, portal: &ContactKey) -> Result<(), StoreError> {
        self.erase_all(&events(portal).done())?;
        let promised = Key::of(Table::Vanishing).login(&portal.login).byte(b'p').text(portal.contact.as_str());
        self.erase_all(&promised.done())
    }
}

/// Can this record be read? The byte behind the login tells which of the three it is.
pub(super) fn readable(key: &[u8], value: &[u8]) -> Result<(), String> {
    let read = match key.get(1 + LOGIN_ID_LENGTH) {
        Some(b'a') => super::decode::<Agreed>(key, value).map(drop),
        Some(b'p') => super::decode::<Promised>(key, value).map(drop),
        _ => super::decode::<Vanishing>(key, value).map(drop),
    };
    read.map_err(|error| error.to_string())
}
