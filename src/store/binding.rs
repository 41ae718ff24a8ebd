//! Tables binding and event: which stanza an event stands for. A stanza has several names (the archive's id, the
//! sender's id); each is bound. Also what makes a message that comes a second time be known.

use ruma::{EventId, OwnedEventId};
use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError,
    key::{Key, Table},
};
use crate::domain::{LoginId, effect::ContactKey};

/// How many names a portal remembers; then the oldest is forgotten. What is older cannot be edited, answered or
/// recognised when it comes again.
pub const NAMES_PER_PORTAL: u64 = 8192;

#[derive(Serialize, Deserialize)]
struct Bound {
    event: Option<OwnedEventId>,
}

#[derive(Serialize, Deserialize)]
struct Ring {
    next: u64,
}

#[derive(Serialize, Deserialize)]
struct Name(String);

fn key(portal: &ContactKey, name: &str) -> Vec<u8> {
    Key::of(Table::Binding).login(&portal.login).byte(b'n').text(portal.contact.as_str()).text(name).done()
}

fn ring_key(portal: &ContactKey) -> Vec<u8> {
    Key::of(Table::Binding).login(&portal.login).byte(b'r').text(portal.contact.as_str()).done()
}

fn place_key(portal: &ContactKey, place: u64) -> Vec<u8> {
    Key::of(Table::Binding)
        .login(&portal.login)
        .byte(b'p')
        .text(portal.contact.as_str())
        .number(place % NAMES_PER_PORTAL)
        .done()
}

fn event_key(portal: &ContactKey, event: &EventId) -> Vec<u8> {
    Key::of(Table::Event).login(&portal.login).text(portal.contact.as_str()).text(event.as_str()).done()
}

/// Beside an event's own row: the id that the account's archive gave what it stands for.
fn archive_key(portal: &ContactKey, event: &EventId) -> Vec<u8> {
    let key = Key::of(Table::Event).login(&portal.login).text(portal.contact.as_str()).text(event.as_str());
    key.byte(b'a').done()
}

impl Store {
    /// The id that the account's archive gave what an event stands for (XEP-0359).
    pub fn archive_id_of(&self, portal: &ContactKey, event: &EventId) -> Result<Option<String>, StoreError> {
        Ok(self.row::<Name>(&archive_key(portal, event))?.map(|Name(id)| id))
    }

    /// Was a stanza of this name seen in the portal?
    pub fn is_seen(&self, portal: &ContactKey, name: &str) -> Result<bool, StoreError> {
        Ok(self.row::<Bound>(&key(portal, name))?.is_some())
    }

    /// The event that a stanza of this name stands for.
    pub fn event_of(&self, portal: &ContactKey, name: &str) -> Result<Option<OwnedEventId>, StoreError> {
        Ok(self.row::<Bound>(&key(portal, name))?.and_then(|bound| bound.event))
    }

    /// The name that was bound last to an event, one that a stanza can refer to if there is any.
    pub fn stanza_of(&self, portal: &ContactKey, event: &EventId) -> Result<Option<String>, StoreError> {
        Ok(self.row::<Name>(&event_key(portal, event))?.map(|Name(name)| name))
    }

    /// Notes that a stanza of this name was seen, and which event it is once that is known.
    pub fn bind(&mut self, portal: &ContactKey, name: &str, event: Option<&EventId>) -> Result<(), StoreError> {
        let known = self.row::<Bound>(&key(portal, name))?;
        if known.is_none() {
            let Ring { next } = self.row(&ring_key(portal))?.unwrap_or(Ring { next: 0 });
            // Before the ring has come round, its places are empty.
            let oldest = if next < NAMES_PER_PORTAL { None } else { self.row(&place_key(portal, next))? };
            if let Some(Name(oldest)) = oldest {
                if let Some(Bound { event: Some(event) }) = self.row(&key(portal, &oldest))? {
                    self.erase(event_key(portal, &event));
                    self.erase(archive_key(portal, &event));
                }
                self.erase(key(portal, &oldest));
            }
            self.write(place_key(portal, next), &Name(name.to_owned()))?;
            self.write(ring_key(portal), &Ring { next: next + 1 })?;
        }
        if known.is_none() || event.is_some() {
            self.write(key(portal, name), &Bound { event: event.map(EventId::to_owned) })?;
        }
        if let (Some(event), Some(id)) = (event, name.strip_prefix("a:")) {
            self.write(archive_key(portal, event), &Name(id.to_owned()))?;
        }
        if let Some(event) = event {
            // The archive's id is nothing that a stanza could refer to, where there is one that can.
            let archives = name.starts_with("a:") && self.row::<Name>(&event_key(portal, event))?.is_some();
            if !archives {
                self.write(event_key(portal, event), &Name(name.to_owned()))?;
            }
        }
        Ok(())
    }

    pub(super) fn erase_bindings_of(&mut self, portal: &ContactKey) -> Result<(), StoreError> {
        for kind in [b'n', b'r', b'p'] {
            let rows = Key::of(Table::Binding).login(&portal.login).byte(kind).text(portal.contact.as_str());
            self.erase_all(&rows.done())?;
        }
        self.erase_all(&Key::of(Table::Event).login(&portal.login).text(portal.contact.as_str()).done())
    }

    pub(super) fn erase_bindings(&mut self, login: &LoginId) -> Result<(), StoreError> {
        self.erase_all(&Key::of(Table::Binding).login(login).done())?;
        self.erase_all(&Key::of(Table::Event).login(login).done())
    }
}

/// Can this record be read? The byte behind the login tells which of the three it is.
pub(super) fn readable(key: &[u8], value: &[u8]) -> Result<(), String> {
    let read = match key.get(1 + crate::domain::id::LOGIN_ID_LENGTH) {
        Some(b'n') => super::decode::<Bound>(key, value).map(drop),
        Some(b'r') => super::decode::<Ring>(key, value).map(drop),
        _ => super::decode::<Name>(key, value).map(drop),
    };
    read.map_err(|error| error.to_string())
}
