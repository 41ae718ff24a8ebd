//! Tables login and credentials: who is signed in where.

use std::collections::BTreeMap;

use ruma::{OwnedUserId, UserId};
use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError,
    key::{Key, Table},
};
use crate::domain::{BareJid, LoginId, Timestamp, credentials::Credentials};

/// One account of one person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// Its id.
    pub id: LoginId,
    /// Whose it is.
    pub owner: OwnedUserId,
    /// The network's name in the configuration.
    pub network: String,
    /// The account.
    pub account: BareJid,
    /// The resource that is asked for at bind: the same each time.
    pub resource: String,
    /// When it was made.
    pub made: Timestamp,
    /// Why it must not connect, as a sentence; `None` while it may.
    pub suspended: Option<String>,
    /// The last archive id (XEP-0313) whose message is committed.
    pub archive_after: Option<String>,
    /// The roster version that is stored (RFC 6121 section 2.6).
    pub roster_version: Option<String>,
    /// The name that the person gave themselves, for "Name (you)".
    pub own_name: Option<String>,
}

/// What of a login is asked for often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The network's name in the configuration.
    pub network: String,
    /// It must not connect.
    pub suspended: bool,
    /// Whose it is.
    pub owner: OwnedUserId,
}

fn key(login: &LoginId) -> Vec<u8> {
    Key::of(Table::Login).login(login).done()
}

fn credentials_key(login: &LoginId) -> Vec<u8> {
    Key::of(Table::Credentials).login(login).done()
}

impl Store {
    /// A login.
    pub fn login(&self, id: &LoginId) -> Result<Option<Login>, StoreError> {
        self.row(&key(id))
    }

    /// All logins.
    pub fn logins(&self) -> Result<Vec<Login>, StoreError> {
        Ok(self.rows(&Key::of(Table::Login).done())?.into_iter().map(|(_, login)| login).collect())
    }

    /// The logins of a person: none other is read. Known since [`Store::read_standings`].
    pub fn logins_of(&self, owner: &UserId) -> Result<Vec<Login>, StoreError> {
        let theirs = self.owners.get(owner).into_iter().flatten();
        theirs.filter_map(|id| self.login(id).transpose()).collect()
    }

    /// Writes a login.
    pub fn put_login(&mut self, login: &Login) -> Result<(), StoreError> {
        self.note_standing(login);
        self.write(key(&login.id), login)
    }

    /// How every login stands, without reading any: as they were written last, since [`Store::read_standings`].
    pub fn standings(&self) -> &BTreeMap<LoginId, Standing> {
        &self.standings
    }

    /// Reads how the logins stand, once; from then on it is kept.
    pub fn read_standings(&mut self) -> Result<(), StoreError> {
        for login in self.logins()? {
            self.note_standing(&login);
        }
        Ok(())
    }

    fn note_standing(&mut self, login: &Login) {
        let suspended = login.suspended.is_some();
        match self.standings.get_mut(&login.id) {
            // Rows are written with each message; this changes now and then.
            Some(known) if known.network == login.network => known.suspended = suspended,
            _ => {
                let (network, owner) = (login.network.clone(), login.owner.clone());
                self.owners.entry(owner.clone()).or_default().insert(login.id.clone());
                self.standings.insert(login.id.clone(), Standing { network, suspended, owner });
            }
        }
    }

    fn forget_standing(&mut self, id: &LoginId) {
        let Some(known) = self.standings.remove(id) else { return };
        if let Some(theirs) = self.owners.get_mut(&known.owner) {
            theirs.remove(id);
            if theirs.is_empty() {
                self.owners.remove(&known.owner);
            }
        }
    }

    /// What a login signs in with.
    pub fn credentials(&self, id: &LoginId) -> Result<Option<Credentials>, StoreError> {
        let key = credentials_key(id);
        let Some(sealed) = self.overlay.get(&key)? else { return Ok(None) };
        let opened = self.seal.open(&key, &sealed)?;
        super::decode(&key, &opened).map(Some)
    }

    /// Seals and writes what a login signs in with.
    pub fn put_credentials(&mut self, id: &LoginId, credentials: &Credentials) -> Result<(), StoreError> {
        let key = credentials_key(id);
        let plain = zeroize::Zeroizing::new(super::encode(&key, credentials)?);
        let sealed = self.seal.seal(&key, &plain);
        self.overlay.put(key, sealed);
        Ok(())
    }

    /// Forgets what a login signs in with.
    pub fn erase_credentials(&mut self, id: &LoginId) {
        self.erase(credentials_key(id));
    }

    /// Removes a login and all rows that belong to it, except debts, which have their own end.
    pub fn erase_login(&mut self, id: &LoginId) -> Result<(), StoreError> {
        self.forget_standing(id);
        self.erase(key(id));
        self.erase(credentials_key(id));
        for (_, portal) in self.portals(id)? {
            if let Some(room) = &portal.room {
                self.erase(Key::of(Table::Room).text(room.as_str()).done());
            }
        }
        if let Some(room) = self.space(id)?.and_then(|space| space.room) {
            self.erase_room(&room);
        }
        for table in [
            Table::Contact,
            Table::Portal,
            Table::Presence,
            Table::Session,
            Table::Unconfirmed,
            Table::Held,
            Table::Trouble,
            Table::Newcomer,
            Table::Request,
            Table::Look,
            Table::Space,
            Table::PublicFile,
            Table::Blocked,
            Table::Lists,
            Table::Ignored,
            Table::Chat,
            Table::Published,
            Table::Profile,
            Table::Vanishing,
            Table::RoomFeatures,
            Table::Work,
            Table::PutOff,
            Table::Shown,
        ] {
            self.erase_all(&Key::of(table).login(id).done())?;
        }
        self.erase_reactions(id)?;
        self.erase_features(id)?;
        self.erase_idle(id)?;
        self.erase_all_recovered(id)?;
        self.erase_bindings(id)
    }
}
