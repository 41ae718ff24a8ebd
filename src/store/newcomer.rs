//! Tables newcomer and request: what people wrote who have no room yet, and what the owner decided about them. What they wrote is
//! sealed.

use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError,
    held::Held,
    key::{Key, Table, last_number, text_at},
};
use crate::domain::{BareJid, LoginId, effect::ContactKey, id::LOGIN_ID_LENGTH};

/// Someone whose messages wait for the owner's word (`portals.strangers: request`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The owner said no: what they write is dropped until the owner says otherwise.
    pub denied: bool,
}

/// Someone who wrote and has no room yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newcomer {
    /// Who.
    pub contact: BareJid,
    /// How many of their messages wait.
    pub messages: usize,
    /// How long those are together, in bytes.
    pub bytes: usize,
}

fn messages_of(contact: &ContactKey) -> Key {
    Key::of(Table::Newcomer).login(&contact.login).text(contact.contact.as_str())
}

fn request_key(contact: &ContactKey) -> Vec<u8> {
    Key::of(Table::Request).login(&contact.login).text(contact.contact.as_str()).done()
}

impl Store {
    /// Keeps a message of someone who has no room yet.
    pub fn keep_newcomer(&mut self, contact: &ContactKey, held: &Held) -> Result<(), StoreError> {
        let number = self.take_row_number()?;
        self.write_sealed(messages_of(contact).number(number).done(), held)
    }

    /// What someone wrote who has no room yet, oldest first.
    pub fn newcomer_messages(&self, contact: &ContactKey) -> Result<Vec<Held>, StoreError> {
        Ok(self.rows(&messages_of(contact).done())?.into_iter().map(|(_, held)| held).collect())
    }

    /// Lets go of all that someone wrote.
    pub fn release_newcomer(&mut self, contact: &ContactKey) -> Result<(), StoreError> {
        self.erase_all(&messages_of(contact).done())
    }

    /// Who wrote and has no room yet, who wrote first standing first.
    pub fn newcomers(&self, login: &LoginId) -> Result<Vec<Newcomer>, StoreError> {
        let mut found: Vec<(u64, Newcomer)> = Vec::new();
        for (key, held) in self.rows::<Held>(&Key::of(Table::Newcomer).login(login).done())? {
            let Ok(contact) = BareJid::parse(&text_at(&key, 1 + LOGIN_ID_LENGTH)) else { continue };
            let bytes = held.stanza.len();
            match found.last_mut() {
                // One person's rows stand together.
                Some((_, last)) if last.contact == contact => {
                    last.messages += 1;
                    last.bytes += bytes;
                }
                _ => found.push((last_number(&key), Newcomer { contact, messages: 1, bytes })),
            }
        }
        found.sort_by_key(|(first, _)| *first);
        Ok(found.into_iter().map(|(_, newcomer)| newcomer).collect())
    }

    /// What was asked of, or decided by, the owner about someone.
    pub fn request(&self, contact: &ContactKey) -> Result<Option<Request>, StoreError> {
        self.row(&request_key(contact))
    }

    /// Writes that down.
    pub fn put_request(&mut self, contact: &ContactKey, request: Request) -> Result<(), StoreError> {
        self.write(request_key(contact), &request)
    }

    /// Forgets it.
    pub fn erase_request(&mut self, contact: &ContactKey) {
        self.erase(request_key(contact));
    }
}
