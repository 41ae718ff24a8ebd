//! Table broadcast: what an administrator says to everybody, while it is on its way. One row: there is one at a time. Sealed: it is
//! what somebody said.

use ruma::OwnedUserId;
use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError,
    key::{Key, Table},
};

/// A broadcast on its way. Everyone up to `after`, in the order of their MXIDs, has got it, or is owed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broadcast {
    /// Who says it.
    pub by: OwnedUserId,
    /// What.
    pub text: String,
    /// The last person whom it was given.
    pub after: Option<OwnedUserId>,
    /// How many have been given it.
    pub given: u32,
}

fn key() -> Vec<u8> {
    Key::of(Table::Broadcast).text("now").done()
}

impl Store {
    /// The broadcast that is on its way.
    pub fn broadcast(&self) -> Result<Option<Broadcast>, StoreError> {
        self.row(&key())
    }

    /// Writes it.
    pub fn put_broadcast(&mut self, row: &Broadcast) -> Result<(), StoreError> {
        self.write_sealed(key(), row)
    }

    /// It is over.
    pub fn erase_broadcast(&mut self) {
        self.erase(key());
    }
}
