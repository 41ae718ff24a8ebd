//! Table management: the room in which a person talks with the bot.

use ruma::{OwnedEventId, OwnedRoomId, UserId};
use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError,
    key::{Key, Table},
};

/// How many notices a person's room remembers to edit in place.
pub const EDITABLE: usize = 16;

/// A person's management room.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Management {
    /// The newest room that the person invited the bot to.
    pub room: Option<OwnedRoomId>,
    /// Notices that are edited in place, by key, newest last.
    pub notices: Vec<(String, OwnedEventId)>,
    /// The person's presence as Matrix last told it: state and status text.
    pub presence: Option<(String, Option<String>)>,
}

fn key(owner: &UserId) -> Vec<u8> {
    Key::of(Table::Management).text(owner.as_str()).done()
}

impl Store {
    /// A person's management room.
    pub fn management(&self, owner: &UserId) -> Result<Management, StoreError> {
        Ok(self.row(&key(owner))?.unwrap_or_default())
    }

    /// Writes it.
    pub fn put_management(&mut self, owner: &UserId, row: &Management) -> Result<(), StoreError> {
        self.write(key(owner), row)
    }
}
