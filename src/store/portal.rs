//! Table portal: the room of a contact, and which room belongs to whom.

use ruma::{OwnedRoomId, OwnedUserId, RoomId};
use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError,
    key::{Key, Table, text_at},
};
use crate::domain::{BareJid, DebtId, LoginId, Timestamp, effect::ContactKey, id::LOGIN_ID_LENGTH};

/// The portal of a contact.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Portal {
    /// The room, once it is made.
    pub room: Option<OwnedRoomId>,
    /// The debt that makes the room, until it is paid.
    pub creating: Option<DebtId>,
    /// Whether what the archive holds is in the room.
    pub history: History,
    /// The owner's membership.
    pub owner: Membership,
    /// Ghosts that are in the room, or owed to be.
    pub ghosts: Vec<BareJid>,
    /// The room's name as the bridge set it.
    pub name: Option<String>,
    /// What was said lately, on networks whose messages have no ids; newest last, at most [`RECENT`].
    pub recent: Vec<Said>,
}

/// How many messages a network without ids remembers per portal. Its archive gives the last ten.
pub const RECENT: usize = 64;

/// A message on a network whose messages have no ids.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// The account said it, not the contact.
    pub own: bool,
    /// Hash of the text.
    pub text: u64,
    /// When.
    pub at: Timestamp,
    /// How the bridge learned of it.
    pub from: Source,
}

/// How a message came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Source {
    /// As it was said.
    Live,
    /// From the server's store of what came while the account was away (XEP-0203).
    Offline,
    /// From an archive.
    Archive,
    /// Said through Matrix.
    Matrix,
}

/// The life of a portal's history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum History {
    /// Not asked for yet; what is said meanwhile is held.
    #[default]
    Wanted,
    /// In the room, or there is none.
    Done,
}

/// A membership as far as a portal needs it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Membership {
    /// Invited.
    #[default]
    Invited,
    /// In the room.
    Joined,
    /// Left, or was made to.
    Left,
}

/// What a room is to the bridge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Room {
    /// A contact's.
    Portal(ContactKey),
    /// A management room.
    Management(OwnedUserId),
    /// A login's space.
    Space(LoginId),
}

fn key(portal: &ContactKey) -> Vec<u8> {
    Key::of(Table::Portal).login(&portal.login).text(portal.contact.as_str()).done()
}

fn room_key(room: &RoomId) -> Vec<u8> {
    Key::of(Table::Room).text(room.as_str()).done()
}

impl Store {
    /// A portal.
    pub fn portal(&self, portal: &ContactKey) -> Result<Option<Portal>, StoreError> {
        self.row(&key(portal))
    }

    /// Writes a portal.
    pub fn put_portal(&mut self, portal: &ContactKey, row: &Portal) -> Result<(), StoreError> {
        self.write(key(portal), row)
    }

    /// All portals of a login.
    pub fn portals(&self, login: &LoginId) -> Result<Vec<(BareJid, Portal)>, StoreError> {
        let rows = self.rows(&Key::of(Table::Portal).login(login).done())?;
        Ok(rows
            .into_iter()
            .filter_map(|(key, row)| Some((BareJid::parse(&text_at(&key, 1 + LOGIN_ID_LENGTH)).ok()?, row)))
            .collect())
    }

    /// Removes a portal, and all that is known of what stands in its room.
    pub fn erase_portal(&mut self, portal: &ContactKey) -> Result<(), StoreError> {
        if let Some(room) = self.portal(portal)?.and_then(|row| row.room) {
            self.erase_room(&room);
        }
        self.erase(key(portal));
        self.erase_bindings_of(portal)?;
        self.erase_vanishing_of(portal)?;
        self.erase_reactions_of(portal)
    }

    /// What a room is.
    pub fn room(&self, room: &RoomId) -> Result<Option<Room>, StoreError> {
        self.row(&room_key(room))
    }

    /// Says what a room is.
    pub fn put_room(&mut self, room: &RoomId, what: &Room) -> Result<(), StoreError> {
        self.write(room_key(room), what)
    }

    /// A room is nothing to the bridge any more.
    pub fn erase_room(&mut self, room: &RoomId) {
        self.erase(room_key(room));
    }
}
