//! Table room features: what each portal's room was told last of what can be said in it, and where accounts' servers took files last.

use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError,
    key::{Key, Table},
};
use crate::domain::{LoginId, Timestamp, effect::ContactKey, id::LOGIN_ID_LENGTH};

/// What a room was told last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToldFeatures {
    /// The id of the content, which is a hash of it.
    pub id: String,
    /// When.
    pub at: Timestamp,
}

/// Where an account's server took files, when it was asked last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KnownUpload {
    /// Nowhere.
    Missing,
    /// Somewhere, and at most so many bytes.
    Found(Option<u64>),
}

fn told_key(portal: &ContactKey) -> Vec<u8> {
    Key::of(Table::RoomFeatures).login(&portal.login).byte(b'r').text(portal.contact.as_str()).done()
}

fn upload_key(login: &LoginId) -> Vec<u8> {
    Key::of(Table::RoomFeatures).login(login).byte(b'u').done()
}

impl Store {
    /// What a portal's room was told last.
    pub fn told_features(&self, portal: &ContactKey) -> Result<Option<ToldFeatures>, StoreError> {
        self.row(&told_key(portal))
    }

    /// Notes it.
    pub fn put_told_features(&mut self, portal: &ContactKey, row: &ToldFeatures) -> Result<(), StoreError> {
        self.write(told_key(portal), row)
    }

    /// Where the account's server took files last.
    pub fn known_upload(&self, login: &LoginId) -> Result<Option<KnownUpload>, StoreError> {
        self.row(&upload_key(login))
    }

    /// Notes it.
    pub fn put_known_upload(&mut self, login: &LoginId, known: KnownUpload) -> Result<(), StoreError> {
        self.write(upload_key(login), &known)
    }
}

/// Can this record be read? The byte behind the login tells which of the two it is.
pub(super) fn readable(key: &[u8], value: &[u8]) -> Result<(), String> {
    let read = match key.get(1 + LOGIN_ID_LENGTH) {
        Some(b'r') => super::decode::<ToldFeatures>(key, value).map(drop),
        _ => super::decode::<KnownUpload>(key, value).map(drop),
    };
    read.map_err(|error| error.to_string())
}
