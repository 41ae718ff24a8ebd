//! Table space: the space of a login, which holds its rooms.

use ruma::OwnedRoomId;
use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError,
    key::{Key, Table},
    portal::Membership,
};
use crate::domain::{DebtId, LoginId};

/// The space of a login.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// The space, once it is made.
    pub room: Option<OwnedRoomId>,
    /// The debt that makes it, until it is paid.
    pub creating: Option<DebtId>,
    /// The owner's membership.
    pub owner: Membership,
}

fn key(login: &LoginId) -> Vec<u8> {
    Key::of(Table::Space).login(login).done()
}

impl Store {
    /// A login's space.
    pub fn space(&self, login: &LoginId) -> Result<Option<Space>, StoreError> {
        self.row(&key(login))
    }

    /// Writes it.
    pub fn put_space(&mut self, login: &LoginId, row: &Space) -> Result<(), StoreError> {
        self.write(key(login), row)
    }
}
