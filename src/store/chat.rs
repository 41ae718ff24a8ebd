//! Table chat: what the person has chosen for a chat, and what of that each side is known to have.

use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError,
    key::{Key, Table, text_at},
};
use crate::domain::{BareJid, LoginId, choice::Choice, effect::ContactKey, id::LOGIN_ID_LENGTH};

/// Of how many chats of a login choices are known.
pub const MOST_CHATS: usize = 1024;

/// What is known of the choices for a chat.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chat {
    /// What was chosen last, on whichever side.
    pub wanted: Choice,
    /// What Matrix has, as it was last seen or written.
    pub matrix: Choice,
    /// What the account's server has, as it was last seen or written.
    pub xmpp: Choice,
    /// The item there, as XML: what else it holds must stay.
    pub item: Option<String>,
}

fn key(contact: &ContactKey) -> Vec<u8> {
    Key::of(Table::Chat).login(&contact.login).text(contact.contact.as_str()).done()
}

impl Store {
    /// What is known of a chat.
    pub fn chat(&self, contact: &ContactKey) -> Result<Chat, StoreError> {
        Ok(self.row(&key(contact))?.unwrap_or_default())
    }

    /// All chats of a login of which something is known.
    pub fn chats(&self, login: &LoginId) -> Result<Vec<(BareJid, Chat)>, StoreError> {
        let rows: Vec<(Vec<u8>, Chat)> = self.rows(&Key::of(Table::Chat).login(login).done())?;
        let named =
            |(key, row): (Vec<u8>, Chat)| Some((BareJid::parse(&text_at(&key, 1 + LOGIN_ID_LENGTH)).ok()?, row));
        Ok(rows.into_iter().filter_map(named).collect())
    }

    /// Writes it. `false`: there are too many already.
    pub fn put_chat(&mut self, contact: &ContactKey, row: &Chat) -> Result<bool, StoreError> {
        let key = key(contact);
        if *row == Chat::default() {
            self.erase(key);
            return Ok(true);
        }
        if self.row::<Chat>(&key)?.is_none() {
            let prefix = Key::of(Table::Chat).login(&contact.login).done();
            if self.first_rows::<Chat>(&prefix, None, MOST_CHATS)?.len() >= MOST_CHATS {
                return Ok(false);
            }
        }
        self.write(key, row)?;
        Ok(true)
    }
}
