//! Table published: what of a person's Matrix profile goes to their account, and what of it is there.

use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError,
    key::{Key, Table},
};
use crate::domain::LoginId;

/// A login's own profile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The person asked for it.
    pub on: bool,
    /// The person's name as Matrix has it.
    pub name: Option<String>,
    /// The person's picture as Matrix has it: an `mxc://` URI.
    pub picture: Option<String>,
    /// The nickname that is published (XEP-0172).
    pub nick: Option<String>,
    /// The picture that is published (XEP-0084).
    pub avatar: Option<Avatar>,
    /// The nickname that the vCard (XEP-0054) was given.
    pub vcard: Option<String>,
}

/// A picture that is published.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Avatar {
    /// Of this `mxc://` URI.
    pub url: String,
    /// With this SHA-1 (lower-case hex); `None` where it could not be published, and is not tried again.
    pub hash: Option<String>,
}

fn key(login: &LoginId) -> Vec<u8> {
    Key::of(Table::Published).login(login).done()
}

impl Store {
    /// A login's own profile.
    pub fn published(&self, login: &LoginId) -> Result<Published, StoreError> {
        Ok(self.row(&key(login))?.unwrap_or_default())
    }

    /// Writes it.
    pub fn put_published(&mut self, login: &LoginId, row: &Published) -> Result<(), StoreError> {
        if self.published(login)? == *row {
            return Ok(());
        }
        self.write(key(login), row)
    }
}
