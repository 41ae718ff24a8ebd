//! Table trouble: what people were shown of messages that could not be delivered yet, so that it is mended when they are,
//! and since when a login is suspended.

use ruma::OwnedEventId;
use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError,
    key::{Key, Table},
};
use crate::domain::{DebtId, LoginId, Timestamp, effect::ContactKey, id::LOGIN_ID_LENGTH};

/// How many waiting messages of one portal have a status of their own at a time; the notice counts the rest.
pub const STATUSES: usize = 50;

/// Why messages wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Why {
    /// The login is suspended: its owner has to sign in again.
    SignedOut,
    /// There is no stream.
    NotConnected,
    /// There is one, and what was missed is fetched first.
    CatchingUp,
    /// It was sent, and the server has not said that it has it.
    Unconfirmed,
}

/// A portal whose messages to the contact wait too long. The row stays until that is over and nothing of it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldUp {
    /// Messages that are shown as pending, oldest first, at most [`STATUSES`].
    pub pending: Vec<Pending>,
    /// The debt that sends the notice, or its last edit, until it is paid.
    pub sending: Option<DebtId>,
    /// The notice.
    pub notice: Option<OwnedEventId>,
    /// What the notice says last: how many messages wait, and why.
    pub told: Option<(u32, Why)>,
    /// When it was said.
    pub told_at: Timestamp,
    /// When messages were given up last.
    pub gave_up: Option<Timestamp>,
}

/// A message that is shown as pending.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The event.
    pub event: OwnedEventId,
    /// How many stanzas of it are not delivered yet.
    pub left: u32,
}

/// A login that must not connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspended {
    /// Since when.
    pub since: Timestamp,
    /// Because the server refused the sign-in.
    pub rejected: bool,
}

#[derive(Serialize, Deserialize)]
struct Doubt(DebtId);

fn key(kind: u8, portal: &ContactKey) -> Vec<u8> {
    Key::of(Table::Trouble).login(&portal.login).byte(kind).text(portal.contact.as_str()).done()
}

fn suspended_key(login: &LoginId) -> Vec<u8> {
    Key::of(Table::Trouble).login(login).byte(b's').done()
}

impl Store {
    /// What is shown of a portal that is held up.
    pub fn held_up(&self, portal: &ContactKey) -> Result<Option<HeldUp>, StoreError> {
        self.row(&key(b'h', portal))
    }

    /// Writes it.
    pub fn put_held_up(&mut self, portal: &ContactKey, row: &HeldUp) -> Result<(), StoreError> {
        self.write(key(b'h', portal), row)
    }

    /// It is over, and nothing of it is shown any more.
    pub fn erase_held_up(&mut self, portal: &ContactKey) {
        self.erase(key(b'h', portal));
    }

    /// The last debt of a portal of which its owner was told that it may be delivered twice.
    pub fn doubted(&self, portal: &ContactKey) -> Result<Option<DebtId>, StoreError> {
        Ok(self.row::<Doubt>(&key(b'd', portal))?.map(|Doubt(debt)| debt))
    }

    /// Writes it.
    pub fn put_doubted(&mut self, portal: &ContactKey, debt: DebtId) -> Result<(), StoreError> {
        self.write(key(b'd', portal), &Doubt(debt))
    }

    /// Since when a login that is suspended is so; `None` if it was suspended by a version that did not note it.
    pub fn suspended(&self, login: &LoginId) -> Result<Option<Suspended>, StoreError> {
        self.row(&suspended_key(login))
    }

    /// Writes it.
    pub fn put_suspended(&mut self, login: &LoginId, row: &Suspended) -> Result<(), StoreError> {
        self.write(suspended_key(login), row)
    }
}

/// Can this record be read? The byte behind the login tells which of the three it is.
pub(super) fn readable(key: &[u8], value: &[u8]) -> Result<(), String> {
    let read = match key.get(1 + LOGIN_ID_LENGTH) {
        Some(b'h') => super::decode::<HeldUp>(key, value).map(drop),
        Some(b'd') => super::decode::<Doubt>(key, value).map(drop),
        _ => super::decode::<Suspended>(key, value).map(drop),
    };
    read.map_err(|error| error.to_string())
}
