//! Table reaction: the reactions of a portal's owner, and of its contact, to each message. XMPP says the whole set anew with
//! each change, so it has to be known.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError,
    key::{Key, Table},
};
use crate::domain::{LoginId, effect::ContactKey};

/// To how many messages of a portal the reactions of each side are remembered; then the oldest are forgotten, and can only
/// be added to.
pub const MESSAGES: u64 = 512;

#[derive(Serialize, Deserialize)]
struct Named(String);

#[derive(Serialize, Deserialize)]
struct Ring(u64);

fn base(portal: &ContactKey, owners: bool, kind: u8) -> Key {
    let side = if owners { b'o' } else { b'c' };
    Key::of(Table::Reaction).login(&portal.login).byte(kind).byte(side).text(portal.contact.as_str())
}

impl Store {
    /// The reactions to the message with this id, of the portal's owner or of its contact.
    pub fn reactions(&self, portal: &ContactKey, owners: bool, message: &str) -> Result<BTreeSet<String>, StoreError> {
        Ok(self.row(&base(portal, owners, b's').text(message).done())?.unwrap_or_default())
    }

    /// Writes them.
    pub fn put_reactions(
        &mut self,
        portal: &ContactKey,
        owners: bool,
        message: &str,
        set: &BTreeSet<String>,
    ) -> Result<(), StoreError> {
        let key = base(portal, owners, b's').text(message).done();
        if self.row::<BTreeSet<String>>(&key)?.is_none() {
            let ring_key = base(portal, owners, b'r').done();
            let Ring(next) = self.row(&ring_key)?.unwrap_or(Ring(0));
            let place_key = base(portal, owners, b'p').number(next % MESSAGES).done();
            if let Some(Named(oldest)) = self.row(&place_key)? {
                self.erase(base(portal, owners, b's').text(&oldest).done());
            }
            self.write(place_key, &Named(message.to_owned()))?;
            self.write(ring_key, &Ring(next + 1))?;
        }
        self.write(key, set)
    }

    pub(super) fn erase_reactions_of(&mut self, portal: &ContactKey) -> Result<(), StoreError> {
        for (owners, kind) in [(true, b's'), (true, b'p'), (true, b'r'), (false, b's'), (false, b'p'), (false, b'r')] {
            self.erase_all(&base(portal, owners, kind).done())?;
        }
        Ok(())
    }

    pub(super) fn erase_reactions(&mut self, login: &LoginId) -> Result<(), StoreError> {
        self.erase_all(&Key::of(Table::Reaction).login(login).done())
    }
}

/// Can this record be read? The byte behind the login tells which of the three it is.
pub(super) fn readable(key: &[u8], value: &[u8]) -> Result<(), String> {
    let read = match key.get(1 + crate::domain::id::LOGIN_ID_LENGTH) {
        Some(b's') => super::decode::<BTreeSet<String>>(key, value).map(drop),
        Some(b'p') => super::decode::<Named>(key, value).map(drop),
        _ => super::decode::<Ring>(key, value).map(drop),
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
    fn sets_are_kept_apart_by_side_and_the_oldest_are_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyFile::load_or_create(&folder.path().join("key"), [7; 32]).unwrap();
        let mut store = Store::open(Box::new(MemoryBackend::new()), Seal::new(&key), 7).unwrap();
        let portal = ContactKey {
            login: LoginId::derive("@a:h", "xmpp", "a@x"),
            contact: BareJid::parse("juliet@capulet.lit").unwrap(),
        };
        let hearts = BTreeSet::from(["❤".to_owned()]);
        store.put_reactions(&portal, true, "m0", &hearts).unwrap();
        assert_eq!(store.reactions(&portal, true, "m0").unwrap(), hearts);
        assert!(store.reactions(&portal, false, "m0").unwrap().is_empty());
        for number in 1..=MESSAGES {
            store.put_reactions(&portal, true, &format!("m{number}"), &hearts).unwrap();
        }
        assert!(store.reactions(&portal, true, "m0").unwrap().is_empty());
        assert_eq!(store.reactions(&portal, true, "m1").unwrap(), hearts);
        store.erase_reactions(&portal.login).unwrap();
        assert!(store.reactions(&portal, true, "m1").unwrap().is_empty());
    }
}
