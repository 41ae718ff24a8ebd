//! Table idle: since when contacts' clients, and people on the homeserver, have not been used. Kept so that a resumed stream, on
//! which nobody says it again, still knows.

use ruma::UserId;
use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError,
    key::{Key, Table},
    presence::RESOURCES,
};
use crate::domain::{LoginId, StreamId, Timestamp, effect::ContactKey};

/// The idle clients of a contact, as told on one session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdleClients {
    /// The session on which they were told.
    pub bound: StreamId,
    /// Resource, and since when. At most as many as clients are kept.
    pub since: Vec<(String, Timestamp)>,
}

impl IdleClients {
    /// Since when a client has not been used; `None` while it is.
    pub fn of(&self, resource: &str) -> Option<Timestamp> {
        self.since.iter().find(|(name, _)| name == resource).map(|(_, since)| *since)
    }
}

fn key(contact: &ContactKey) -> Vec<u8> {
    Key::of(Table::Idle).byte(b'c').login(&contact.login).text(contact.contact.as_str()).done()
}

fn person_key(person: &UserId) -> Vec<u8> {
    Key::of(Table::Idle).byte(b'p').text(person.as_str()).done()
}

impl Store {
    /// The idle clients of a contact that were told on this session.
    pub fn idle_clients(&self, contact: &ContactKey, bound: StreamId) -> Result<IdleClients, StoreError> {
        let known = self.row::<IdleClients>(&key(contact))?.filter(|row| row.bound == bound);
        Ok(known.unwrap_or(IdleClients { bound, since: Vec::new() }))
    }

    /// Notes since when a client is idle; `None`: it is not, or it has gone.
    pub fn put_idle_client(
        &mut self,
        contact: &ContactKey,
        bound: StreamId,
        resource: &str,
        since: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let known = self.row::<IdleClients>(&key(contact))?;
        if known.is_none() && since.is_none() {
            return Ok(());
        }
        let mut row = known.filter(|row| row.bound == bound).unwrap_or(IdleClients { bound, since: Vec::new() });
        row.since.retain(|(name, _)| name != resource);
        row.since.extend(since.map(|since| (resource.to_owned(), since)));
        if row.since.len() > RESOURCES {
            row.since.remove(0);
        }
        if row.since.is_empty() {
            self.erase(key(contact));
            return Ok(());
        }
        self.write(key(contact), &row)
    }

    /// Since when a person has not been active on the homeserver, as it told last.
    pub fn idle_person(&self, person: &UserId) -> Result<Option<Timestamp>, StoreError> {
        self.row(&person_key(person))
    }

    /// Notes it.
    pub fn put_idle_person(&mut self, person: &UserId, since: Option<Timestamp>) -> Result<(), StoreError> {
        if self.idle_person(person)? == since {
            return Ok(());
        }
        if let Some(since) = since {
            return self.write(person_key(person), &since);
        }
        self.erase(person_key(person));
        Ok(())
    }

    pub(super) fn erase_idle(&mut self, login: &LoginId) -> Result<(), StoreError> {
        self.erase_all(&Key::of(Table::Idle).byte(b'c').login(login).done())
    }
}

/// Can this record be read? The byte behind the table tells which of the two it is.
pub(super) fn readable(key: &[u8], value: &[u8]) -> Result<(), String> {
    let read = match key.get(1) {
        Some(b'c') => super::decode::<IdleClients>(key, value).map(drop),
        _ => super::decode::<Timestamp>(key, value).map(drop),
    };
    read.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::BareJid,
        store::{
            memory::MemoryBackend,
            seal::{KeyFile, Seal},
        },
    };

    #[test]
    fn idle_clients_are_those_of_one_session_and_no_more_than_there_are_clients() {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyFile::load_or_create(&folder.path().join("key"), [7; 32]).unwrap();
        let mut store = Store::open(Box::new(MemoryBackend::new()), Seal::new(&key), 7).unwrap();
        let contact =
            ContactKey { login: LoginId::derive("@a:h", "xmpp", "a@x"), contact: BareJid::parse("c@d").unwrap() };
        let (old, new) = (StreamId(1), StreamId(2));
        for number in 0..=RESOURCES {
            store.put_idle_client(&contact, old, &number.to_string(), Some(Timestamp(5))).unwrap();
        }
        let row = store.idle_clients(&contact, old).unwrap();
        assert_eq!((row.since.len(), row.of("0"), row.of("1")), (RESOURCES, None, Some(Timestamp(5))));
        store.put_idle_client(&contact, new, "b", Some(Timestamp(6))).unwrap();
        assert_eq!(store.idle_clients(&contact, new).unwrap().since, [("b".to_owned(), Timestamp(6))]);
        store.put_idle_client(&contact, new, "b", None).unwrap();
        assert!(store.idle_clients(&contact, new).unwrap().since.is_empty());
        store.put_idle_client(&contact, new, "b", Some(Timestamp(6))).unwrap();
        store.erase_idle(&contact.login).unwrap();
        assert!(store.idle_clients(&contact, new).unwrap().since.is_empty());
    }
}
