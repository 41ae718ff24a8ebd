//! Table followed: how far a person's account data was read by their own sync.

use ruma::UserId;

use super::{
    Store, StoreError,
    key::{Key, Table},
};

fn key(owner: &UserId) -> Vec<u8> {
    Key::of(Table::Followed).text(owner.as_str()).done()
}

impl Store {
    /// Where a person's sync goes on (`next_batch`). If it is lost, all their account data is read again.
    pub fn followed(&self, owner: &UserId) -> Result<Option<String>, StoreError> {
        self.row(&key(owner))
    }

    /// Notes it.
    pub fn put_followed(&mut self, owner: &UserId, since: &str) -> Result<(), StoreError> {
        self.write(key(owner), &since.to_owned())
    }

    /// Forgets it.
    pub fn erase_followed(&mut self, owner: &UserId) {
        self.erase(key(owner));
    }
}
