//! Table held: messages that were read but wait until history is in, so that history comes first. Sealed.

use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError,
    key::{Key, Table, last_number},
    portal::Source,
};
use crate::domain::{LoginId, StreamId, Timestamp};

/// How many messages a login holds at most; then what is held goes out, in order, though history may still be coming.
pub const HELD_PER_LOGIN: usize = 10_000;

/// How long they are together at most, in bytes; the same then.
pub const HELD_BYTES: usize = 16 * 1024 * 1024;

/// A message that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The stanza, as XML.
    pub stanza: String,
    /// How it came.
    pub source: Source,
    /// The archive's stamp, or when it was read.
    pub at: Timestamp,
    /// The archive's id of it.
    pub archive_id: Option<String>,
    /// The session on which it came: what one session brought comes before what the next brings.
    pub bound: Option<StreamId>,
}

impl Store {
    /// Holds a message.
    pub fn hold(&mut self, login: &LoginId, held: &Held) -> Result<(), StoreError> {
        let number = self.take_row_number()?;
        self.write_sealed(Key::of(Table::Held).login(login).number(number).done(), held)
    }

    /// How many messages a login holds, and how long they are together.
    pub fn held_size(&self, login: &LoginId) -> Result<(usize, usize), StoreError> {
        let held = self.held(login)?;
        Ok((held.len(), held.iter().map(|(_, held)| held.stanza.len()).sum()))
    }

    /// What a login holds, oldest first.
    pub fn held(&self, login: &LoginId) -> Result<Vec<(u64, Held)>, StoreError> {
        Ok(self
            .rows(&Key::of(Table::Held).login(login).done())?
            .into_iter()
            .map(|(key, held)| (last_number(&key), held))
            .collect())
    }

    /// Lets go of one.
    pub fn release(&mut self, login: &LoginId, number: u64) {
        self.erase(Key::of(Table::Held).login(login).number(number).done());
    }
}
