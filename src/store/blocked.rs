//! Tables blocked, ignored and lists: whom a login's account blocks, whom of these its owner ignores in Matrix, and which lists of
//! the person its server keeps.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError,
    key::{Key, Table, text_at},
};
use crate::domain::{BareJid, LoginId, effect::ContactKey, id::LOGIN_ID_LENGTH};

/// How many of those that one account blocks are known here. The server blocks the others all the same.
pub const MOST_BLOCKED: usize = 4096;

/// Someone is blocked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {}

/// What an account's server can keep for the person, as it was last found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lists {
    /// Whom the account blocks (XEP-0191); `None`: not found out yet.
    pub blocking: Option<bool>,
    /// The list of the blocked was fetched at least once.
    pub fetched: bool,
    /// What the person wants of each chat, in private nodes (XEP-0223); `None`: not found out yet.
    pub chats: Option<bool>,
}

fn blocked_key(login: &LoginId, who: &BareJid) -> Vec<u8> {
    Key::of(Table::Blocked).login(login).text(who.as_str()).done()
}

fn lists_key(login: &LoginId) -> Vec<u8> {
    Key::of(Table::Lists).login(login).done()
}

impl Store {
    /// Is there a block of exactly this account or domain?
    pub fn is_blocked(&self, login: &LoginId, who: &BareJid) -> Result<bool, StoreError> {
        Ok(self.row::<Blocked>(&blocked_key(login, who))?.is_some())
    }

    /// All whom the login's account blocks, as far as they are known.
    pub fn blocked(&self, login: &LoginId) -> Result<BTreeSet<BareJid>, StoreError> {
        let rows: Vec<(Vec<u8>, Blocked)> = self.rows(&Key::of(Table::Blocked).login(login).done())?;
        Ok(rows.iter().filter_map(|(key, _)| BareJid::parse(&text_at(key, 1 + LOGIN_ID_LENGTH)).ok()).collect())
    }

    /// Writes whether someone is blocked.
    pub fn put_blocked(&mut self, login: &LoginId, who: &BareJid, blocked: bool) -> Result<(), StoreError> {
        let key = blocked_key(login, who);
        if blocked {
            return self.write(key, &Blocked {});
        }
        self.erase(key);
        Ok(())
    }

    /// What the account's server can keep.
    pub fn lists(&self, login: &LoginId) -> Result<Lists, StoreError> {
        Ok(self.row(&lists_key(login))?.unwrap_or_default())
    }

    /// Writes it.
    pub fn put_lists(&mut self, login: &LoginId, row: &Lists) -> Result<(), StoreError> {
        if self.lists(login)? == *row {
            return Ok(());
        }
        self.write(lists_key(login), row)
    }
}

fn ignored_key(contact: &ContactKey) -> Vec<u8> {
    Key::of(Table::Ignored).login(&contact.login).text(contact.contact.as_str()).done()
}

impl Store {
    /// Is the contact's ghost among those whom the owner ignores in Matrix, as it was last seen or written?
    pub fn is_ignored(&self, contact: &ContactKey) -> Result<bool, StoreError> {
        Ok(self.row::<Blocked>(&ignored_key(contact))?.is_some())
    }

    /// The contacts of a login whose ghosts are.
    pub fn ignored(&self, login: &LoginId) -> Result<BTreeSet<BareJid>, StoreError> {
        let rows: Vec<(Vec<u8>, Blocked)> = self.rows(&Key::of(Table::Ignored).login(login).done())?;
        Ok(rows.iter().filter_map(|(key, _)| BareJid::parse(&text_at(key, 1 + LOGIN_ID_LENGTH)).ok()).collect())
    }

    /// Writes it.
    pub fn put_ignored(&mut self, contact: &ContactKey, ignored: bool) -> Result<(), StoreError> {
        let key = ignored_key(contact);
        if ignored {
            return self.write(key, &Blocked {});
        }
        self.erase(key);
        Ok(())
    }
}
