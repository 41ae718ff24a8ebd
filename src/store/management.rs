//! Table management: the room in which a person talks with the bot.

use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, UserId};
use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError,
    key::{Key, Table, text_at},
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

    /// The next people who have written with the bot, in the order of their MXIDs, at most `limit`.
    pub fn people_after(
        &self,
        after: Option<&UserId>,
        limit: usize,
    ) -> Result<Vec<(OwnedUserId, Management)>, StoreError> {
        let rows = self.first_rows(&Key::of(Table::Management).done(), after.map(key).as_deref(), limit)?;
        Ok(rows.into_iter().filter_map(|(key, row)| Some((UserId::parse(text_at(&key, 1)).ok()?, row))).collect())
    }

    /// Writes it.
    pub fn put_management(&mut self, owner: &UserId, row: &Management) -> Result<(), StoreError> {
        self.write(key(owner), row)
    }
}
