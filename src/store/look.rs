//! Table look: how a contact's room looks beside its name, and what of it the person has made their own.

use ruma::OwnedRoomId;
use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError,
    key::{Key, Table},
};
use crate::domain::effect::ContactKey;

/// The look of a contact's room. It outlives the room.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// The ghost's photo: its `mxc://` URI.
    pub photo: Option<String>,
    /// The picture as the bridge set it in the room.
    pub avatar: Option<String>,
    /// Who decides the room's name.
    pub name_by: Decided,
    /// Who decides its picture.
    pub avatar_by: Decided,
    /// Who decides its topic.
    pub topic_by: Decided,
    /// The room that stands in the login's space, or is owed to.
    pub listed: Option<OwnedRoomId>,
    /// The person has deleted the portal: only talk opens a new one.
    pub closed: bool,
}

/// Who decides a part of the look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decided {
    /// The bridge, by the contact.
    #[default]
    Bridge,
    /// The person, who set their own.
    Person,
    /// The person, who wants none.
    Emptied,
}

fn key(contact: &ContactKey) -> Vec<u8> {
    Key::of(Table::Look).login(&contact.login).text(contact.contact.as_str()).done()
}

impl Store {
    /// The look of a contact's room.
    pub fn look(&self, contact: &ContactKey) -> Result<Look, StoreError> {
        Ok(self.row(&key(contact))?.unwrap_or_default())
    }

    /// Writes it.
    pub fn put_look(&mut self, contact: &ContactKey, row: &Look) -> Result<(), StoreError> {
        if self.look(contact)? == *row {
            return Ok(());
        }
        self.write(key(contact), row)
    }
}
