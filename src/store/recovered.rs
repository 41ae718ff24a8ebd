//! Table recovered: what was in a room already when its portal was rebuilt. Until the archive has been read past it, this
//! is what keeps it from being shown twice.

use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError,
    key::{Key, Table},
    portal::Said,
};
use crate::domain::{LoginId, Timestamp, effect::ContactKey};

/// What a recovered room held.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovered {
    /// The bridge was at work for this login until then at least: what an archive has from before is in the rooms.
    pub until: Timestamp,
    /// What was said in the room about then and later; each answers for one message that comes again.
    pub said: Vec<Said>,
}

fn key(portal: &ContactKey) -> Vec<u8> {
    Key::of(Table::Recovered).login(&portal.login).text(portal.contact.as_str()).done()
}

impl Store {
    /// What a portal's room held when it was recovered; `None` once that no longer matters.
    pub fn recovered(&self, portal: &ContactKey) -> Result<Option<Recovered>, StoreError> {
        self.row(&key(portal))
    }

    /// Writes it.
    pub fn put_recovered(&mut self, portal: &ContactKey, row: &Recovered) -> Result<(), StoreError> {
        self.write(key(portal), row)
    }

    /// The archive of this portal has been read.
    pub fn erase_recovered(&mut self, portal: &ContactKey) {
        self.erase(key(portal));
    }

    /// The archive of the whole login has been read, or the login goes.
    pub fn erase_all_recovered(&mut self, login: &LoginId) -> Result<(), StoreError> {
        self.erase_all(&Key::of(Table::Recovered).login(login).done())
    }
}
