//! Table public file: media of the homeserver that the bridge gives to whoever has the link, until the link ends.

use ruma::EventId;

use super::{
    Store, StoreError,
    key::{Key, Table},
};
use crate::domain::{
    LoginId, Timestamp,
    file::{LinkId, PublicFile},
};

/// Links of one login at most; beyond it the oldest ends.
pub const PUBLIC_FILES: usize = 1_000;

fn key(id: &LinkId) -> Vec<u8> {
    Key::of(Table::PublicFile).login(&id.login).number(id.debt.0).done()
}

fn prefix(login: &LoginId) -> Vec<u8> {
    Key::of(Table::PublicFile).login(login).done()
}

impl Store {
    /// The file that a link leads to. It may have ended.
    pub fn public_file(&self, id: &LinkId) -> Result<Option<PublicFile>, StoreError> {
        self.row(&key(id))
    }

    /// Writes a file that a link leads to, and erases those of the login whose links have ended by `now`.
    pub fn put_public_file(&mut self, id: &LinkId, file: &PublicFile, now: Timestamp) -> Result<(), StoreError> {
        let (ended, kept): (Vec<_>, Vec<_>) =
            self.rows::<PublicFile>(&prefix(&id.login))?.into_iter().partition(|(_, file)| file.expires <= now);
        let too_many = (kept.len() + 1).saturating_sub(PUBLIC_FILES);
        for (key, _) in ended.into_iter().chain(kept.into_iter().take(too_many)) {
            self.erase(key);
        }
        self.write_sealed(key(id), file)
    }

    /// Ends the links to the file of an event. `true`: there was one.
    pub fn erase_public_files_of(&mut self, login: &LoginId, event: &EventId) -> Result<bool, StoreError> {
        let mut rows = self.rows::<PublicFile>(&prefix(login))?;
        rows.retain(|(_, file)| file.event == event);
        let found = !rows.is_empty();
        for (key, _) in rows {
            self.erase(key);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::DebtId,
        store::{
            memory::MemoryBackend,
            seal::{KeyFile, Seal},
        },
    };

    fn file(event: &str, expires: i64) -> PublicFile {
        PublicFile {
            media: "mxc://h/m".to_owned(),
            name: "cat.png".to_owned(),
            mime: None,
            event: EventId::parse(event).unwrap(),
            expires: Timestamp(expires),
        }
    }

    #[test]
    fn links_end_with_their_time_their_event_their_login_and_their_number() {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyFile::load_or_create(&folder.path().join("key"), [7; 32]).unwrap();
        let mut store = Store::open(Box::new(MemoryBackend::new()), Seal::new(&key), 7).unwrap();
        let login = LoginId::derive("@a:h", "xmpp", "a@b");
        let other = LoginId::derive("@b:h", "xmpp", "a@b");
        let id = |number| LinkId { login: login.clone(), debt: DebtId(number) };
        let others = LinkId { login: other.clone(), debt: DebtId(1) };
        store.put_public_file(&others, &file("$a", 5), Timestamp(0)).unwrap();
        store.put_public_file(&id(1), &file("$a", 5), Timestamp(0)).unwrap();
        store.put_public_file(&id(2), &file("$b", 50), Timestamp(5)).unwrap();
        assert_eq!(store.public_file(&id(1)).unwrap(), None, "it has ended");
        assert_eq!(store.public_file(&id(2)).unwrap(), Some(file("$b", 50)));
        assert!(!store.erase_public_files_of(&login, ruma::event_id!("$a")).unwrap());
        assert!(store.erase_public_files_of(&login, ruma::event_id!("$b")).unwrap());
        assert_eq!(store.public_file(&id(2)).unwrap(), None);
        for number in 10..=10 + PUBLIC_FILES as u64 {
            store.put_public_file(&id(number), &file("$c", 50), Timestamp(5)).unwrap();
        }
        assert_eq!(store.public_file(&id(10)).unwrap(), None, "the oldest gives way");
        assert!(store.public_file(&id(11)).unwrap().is_some());
        store.erase_login(&login).unwrap();
        assert_eq!(store.public_file(&id(11)).unwrap(), None);
        assert!(store.public_file(&others).unwrap().is_some(), "another login's stay");
    }
}
