//! The state of the bridge, on disk: one file per table, all in one ordered key space.
//!
//! A key is the table's prefix, then the login, then what tells rows of one login apart, so that a login is a range in
//! each table. Text parts end with a zero byte, which no JID, MXID or room id holds. A value is its version and the
//! row in postcard, sealed where it holds what people said or what they sign in with. The engine's writes gather in an [`Overlay`] and reach the disk as one atomic, durable batch.

pub mod archive_file;
pub mod backend;
pub mod binding;
pub mod blocked;
pub mod broadcast;
mod cache;
pub mod chat;
#[cfg(test)]
mod conformance;
pub mod contact;
pub mod debt;
pub mod followed;
pub mod held;
pub mod idle;
mod integrity;
pub mod key;
pub mod login;
pub mod look;
pub mod management;
pub mod memory;
pub mod meta;
pub mod migrate;
pub mod newcomer;
pub mod overlay;
pub mod portal;
pub mod presence;
pub mod profile;
pub mod public_file;
pub mod published;
pub mod reaction;
mod record;
pub mod recovered;
pub mod room_features;
pub mod seal;
pub mod session;
pub mod sled;
#[cfg(test)]
mod sled_damage;
pub mod space;
pub mod successor;
pub mod transaction;
pub mod trouble;
pub mod vanishing;
pub mod verify;
pub mod work;

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedRoomId, OwnedUserId};
use serde::{Serialize, de::DeserializeOwned};

pub use self::backend::{Backend, Batch, StoreError};
pub(crate) use self::integrity::sync_directory;
use self::{login::Standing, overlay::Overlay, seal::Seal};
use crate::domain::LoginId;

/// The version of the tables; a store of a newer one is refused.
pub const SCHEMA: u32 = 1;
/// What a value begins with: its row in the clear, or sealed. Rows that hold what people said are sealed.
const PLAIN: u8 = 1;
const SEALED: u8 = 2;

/// The store as the engine uses it: tables over an overlay over a backend.
pub struct Store {
    overlay: Overlay<Box<dyn Backend>>,
    seal: Seal,
    /// How the logins stand, for whoever counts them often ([`Store::standings`]).
    standings: BTreeMap<LoginId, Standing>,
    /// Each person's logins.
    owners: BTreeMap<OwnedUserId, BTreeSet<LoginId>>,
    /// The rooms that are said to be replaced.
    replaced: BTreeSet<OwnedRoomId>,
    lately: debt::Lately,
}

impl Store {
    /// Opens the tables over a backend, brought to this program's schema. What that writes is pending until the first commit. `seal` keeps credentials; `entropy` becomes the store's instance id if it is new.
    pub fn open(backend: Box<dyn Backend>, seal: Seal, entropy: u64) -> Result<Self, StoreError> {
        let mut overlay = Overlay::new(backend);
        migrate::bring_up(&mut overlay, &migrate::steps(), SCHEMA)?;
        seal.check(&mut overlay)?;
        let (standings, owners, replaced) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let mut store = Self { overlay, seal, standings, owners, replaced, lately: debt::Lately::default() };
        store.begin(entropy)?;
        store.read_replaced()?;
        Ok(store)
    }

    /// Makes all that was written durable, as one batch. After an error the writes are still pending.
    pub fn commit(&mut self) -> Result<(), StoreError> {
        self.overlay.commit()
    }

    /// A key for a purpose outside of the store, which another store, or another key file, does not have.
    ///
    /// # Errors
    /// As reading does.
    pub fn derive_key(&self, purpose: &str) -> Result<zeroize::Zeroizing<[u8; 32]>, StoreError> {
        Ok(self.seal.derive(&format!("{purpose} {}", self.instance()?)))
    }

    /// What only this store can say of these texts together ([`Seal::mark`]).
    pub fn mark(&self, texts: &[&str]) -> String {
        self.seal.mark(texts)
    }

    /// Nothing was ever written but what every new store holds.
    pub fn is_blank(&self) -> Result<bool, StoreError> {
        let own = |key: &[u8]| key.starts_with(b"\0") || key == meta::counters_key() || key == meta::began_key();
        // One more than every store has: schema version, key check, counters, beginning.
        Ok(self.overlay.scan(b"", None, 5)?.iter().all(|(key, _)| own(key)))
    }

    /// Is anything waiting for [`Store::commit`]?
    pub fn is_dirty(&self) -> bool {
        self.overlay.is_dirty()
    }

    fn row<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        match self.overlay.get(key)? {
            Some(value) => self.read(key, &value).map(Some),
            None => Ok(None),
        }
    }

    fn write<T: Serialize>(&mut self, key: Vec<u8>, row: &T) -> Result<(), StoreError> {
        let value = encode(&key, row)?;
        self.overlay.put(key, value);
        Ok(())
    }

    /// Writes a row that holds what people said: it must not be read from the disk, nor from what the database has not
    /// overwritten there yet.
    fn write_sealed<T: Serialize>(&mut self, key: Vec<u8>, row: &T) -> Result<(), StoreError> {
        let plain = zeroize::Zeroizing::new(encode(&key, row)?);
        let mut value = vec![SEALED];
        value.extend_from_slice(&self.seal.seal(&key, &plain));
        self.overlay.put(key, value);
        Ok(())
    }

    fn read<T: DeserializeOwned>(&self, key: &[u8], value: &[u8]) -> Result<T, StoreError> {
        match value.split_first() {
            Some((&SEALED, sealed)) => decode(key, &self.seal.open(key, sealed)?),
            _ => decode(key, value),
        }
    }

    fn erase(&mut self, key: Vec<u8>) {
        self.overlay.remove(key);
    }

    /// All rows under a prefix, in order. Read page by page, so that no table is in memory twice.
    fn rows<T: DeserializeOwned>(&self, prefix: &[u8]) -> Result<Vec<(Vec<u8>, T)>, StoreError> {
        const PAGE: usize = 256;
        let mut rows = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.overlay.scan(prefix, after.as_deref(), PAGE)?;
            let full = page.len() == PAGE;
            for (key, value) in page {
                let row = self.read(&key, &value)?;
                rows.push((key, row));
            }
            match rows.last() {
                Some((key, _)) if full => after = Some(key.clone()),
                _ => return Ok(rows),
            }
        }
    }

    /// The first rows under a prefix, at most `limit`.
    fn first_rows<T: DeserializeOwned>(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, T)>, StoreError> {
        self.overlay
            .scan(prefix, after, limit)?
            .into_iter()
            .map(|(key, value)| self.read(&key, &value).map(|row| (key, row)))
            .collect()
    }

    fn erase_all(&mut self, prefix: &[u8]) -> Result<(), StoreError> {
        loop {
            let page = self.overlay.scan(prefix, None, 256)?;
            if page.is_empty() {
                return Ok(());
            }
            for (key, _) in page {
                self.overlay.remove(key);
            }
        }
    }
}

fn encode<T: Serialize>(key: &[u8], row: &T) -> Result<Vec<u8>, StoreError> {
    postcard::to_extend(row, vec![PLAIN]).map_err(|error| unreadable(key, &error.to_string()))
}

fn decode<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, StoreError> {
    match value.split_first() {
        Some((&PLAIN, row)) => postcard::from_bytes(row).map_err(|error| unreadable(key, &error.to_string())),
        Some((version, _)) => Err(unreadable(key, &format!("unknown version {version}"))),
        None => Err(unreadable(key, "empty")),
    }
}

fn unreadable(key: &[u8], why: &str) -> StoreError {
    StoreError::corrupt_record(key, &format!("table {}: {why}", key::table_name(key)))
}

/// How each table's records are read, for `store verify`.
pub fn tables() -> Vec<verify::Table<'static>> {
    macro_rules! table {
        ($table:ident, $name:literal, $row:ty) => {
            verify::Table {
                name: $name,
                prefix: &[key::Table::$table as u8],
                decode: &|key, value| match value.first() {
                    // Only the key opens it; that it is whole the record's own checksum tells.
                    Some(&SEALED) => Ok(()),
                    _ => decode::<$row>(key, value).map(drop).map_err(|error| error.to_string()),
                },
            }
        };
    }
    vec![
        verify::Table { name: "binding", prefix: &[key::Table::Binding as u8], decode: &binding::readable },
        table!(Contact, "contact", contact::Contact),
        table!(Debt, "debt", crate::domain::effect::Debt),
        table!(Event, "event", String),
        table!(Management, "management", management::Management),
        table!(Held, "held", held::Held),
        // Sealed: what it says can be read only with the key, and that it is whole the record's own checksum tells.
        verify::Table { name: "credentials", prefix: &[key::Table::Credentials as u8], decode: &|_, _| Ok(()) },
        table!(Login, "login", login::Login),
        verify::Table { name: "meta", prefix: &[key::Table::Meta as u8], decode: &meta::readable },
        table!(Newcomer, "newcomer", held::Held),
        table!(Portal, "portal", portal::Portal),
        table!(Presence, "presence", presence::Resources),
        verify::Table { name: "reaction", prefix: &[key::Table::Reaction as u8], decode: &reaction::readable },
        table!(Request, "request", newcomer::Request),
        table!(Recovered, "recovered", recovered::Recovered),
        table!(Room, "room", portal::Room),
        table!(Session, "session", session::Session),
        verify::Table { name: "transaction", prefix: &[key::Table::Transaction as u8], decode: &transaction::readable },
        verify::Table { name: "trouble", prefix: &[key::Table::Trouble as u8], decode: &trouble::readable },
        table!(Unconfirmed, "unconfirmed", session::Unconfirmed),
        table!(Caps, "caps", bool),
        table!(Look, "look", look::Look),
        table!(Space, "space", space::Space),
        table!(Successor, "successor", successor::Successor),
        table!(Features, "features", crate::domain::feature::Features),
        table!(PublicFile, "public_file", crate::domain::file::PublicFile),
        table!(Followed, "followed", String),
        table!(Blocked, "blocked", blocked::Blocked),
        table!(Lists, "lists", blocked::Lists),
        table!(Ignored, "ignored", blocked::Blocked),
        table!(Chat, "chat", chat::Chat),
        table!(Published, "published", published::Published),
        table!(Profile, "profile", profile::Profile),
        verify::Table { name: "idle", prefix: &[key::Table::Idle as u8], decode: &idle::readable },
        verify::Table { name: "vanishing", prefix: &[key::Table::Vanishing as u8], decode: &vanishing::readable },
        verify::Table {
            name: "room_features",
            prefix: &[key::Table::RoomFeatures as u8],
            decode: &room_features::readable,
        },
        table!(Broadcast, "broadcast", broadcast::Broadcast),
        table!(Work, "work", work::Work),
        table!(PutOff, "put_off", crate::domain::Timestamp),
        table!(Shown, "shown", String),
    ]
}

#[cfg(test)]
mod tests {
    use super::{
        key::{Key, Table},
        *,
    };
    use crate::domain::{
        BareJid, DebtId, LoginId, Timestamp,
        effect::{ContactKey, Debt, Effect, Lane, Outgoing},
    };

    fn store(backend: &memory::MemoryBackend) -> Store {
        let folder = tempfile::tempdir().unwrap();
        let key = seal::KeyFile::load_or_create(&folder.path().join("key"), [7; 32]).unwrap();
        Store::open(Box::new(backend.reopen()), Seal::new(&key), 42).unwrap()
    }

    #[test]
    fn what_people_said_is_sealed_and_read_back_and_an_older_row_still_is() {
        let backend = memory::MemoryBackend::new();
        let contact =
            ContactKey { login: LoginId::derive("@a:h", "xmpp", "a@b"), contact: BareJid::parse("c@d").unwrap() };
        let outgoing = Outgoing {
            body: "wherefore art thou".to_owned(),
            event: ruma::owned_event_id!("$e"),
            written: Timestamp(0),
        };
        let debt = |id| Debt {
            id: DebtId(id),
            lane: Lane::ToXmpp(contact.clone()),
            effect: Effect::SendMessage(outgoing.clone()),
            after: None,
            made: Timestamp(0),
            tried: false,
        };
        let held = held::Held {
            stanza: "<message>wherefore art thou</message>".to_owned(),
            source: portal::Source::Live,
            at: Timestamp(0),
            archive_id: None,
            bound: None,
        };
        let mut first = store(&backend);
        first.put_debt(&debt(1)).unwrap();
        first.hold(&contact.login, &held).unwrap();
        first.keep_newcomer(&contact, &held).unwrap();
        // As a store has it that was written before rows were sealed.
        first
            .write(Key::of(Table::Debt).byte(b'x').login(&contact.login).text("c@d").number(2).done(), &debt(2))
            .unwrap();
        first.commit().unwrap();
        for table in [Table::Held, Table::Newcomer] {
            for (_, value) in first.overlay.scan(&[table as u8], None, 10).unwrap() {
                assert!(!String::from_utf8_lossy(&value).contains("wherefore"), "{table:?}");
            }
        }
        let debts = first.overlay.scan(&[Table::Debt as u8], None, 10).unwrap();
        let open: Vec<bool> =
            debts.iter().map(|(_, value)| String::from_utf8_lossy(value).contains("wherefore")).collect();
        assert_eq!(open, [false, true]);
        for (table, (key, value)) in [Table::Debt; 2].into_iter().zip(&debts) {
            let table = tables().into_iter().find(|known| known.prefix == [table as u8]).unwrap();
            assert!((table.decode)(key, value).is_ok());
        }
        let again = store(&backend);
        assert_eq!(again.debts().unwrap(), [debt(1), debt(2)]);
        assert_eq!(again.held(&contact.login).unwrap()[0].1, held);
        assert_eq!(again.newcomer_messages(&contact).unwrap(), [held]);
    }

    #[test]
    fn a_persons_logins_are_found_without_reading_those_of_others() {
        let mut store = store(&memory::MemoryBackend::new());
        let login = |owner: &str, account: &str| login::Login {
            id: LoginId::derive(owner, "xmpp", account),
            owner: ruma::UserId::parse(owner).unwrap(),
            network: "xmpp".to_owned(),
            account: BareJid::parse(account).unwrap(),
            resource: "bridge".to_owned(),
            made: Timestamp(0),
            suspended: None,
            archive_after: None,
            roster_version: None,
            own_name: None,
        };
        let (a, b, other) = (login("@a:h", "a@x"), login("@a:h", "b@x"), login("@b:h", "c@x"));
        for login in [&a, &b, &other] {
            store.put_login(login).unwrap();
        }
        let ids = |store: &Store, owner: &str| {
            let owner = ruma::UserId::parse(owner).unwrap();
            store.logins_of(&owner).unwrap().into_iter().map(|login| login.account).collect::<BTreeSet<_>>()
        };
        assert_eq!(ids(&store, "@a:h"), [a.account.clone(), b.account.clone()].into());
        assert_eq!(ids(&store, "@b:h"), [other.account].into());
        store.erase_login(&a.id).unwrap();
        assert_eq!(ids(&store, "@a:h"), [b.account].into());
        store.erase_login(&b.id).unwrap();
        assert!(ids(&store, "@a:h").is_empty() && store.owners.len() == 1);
    }

    #[test]
    fn a_debt_is_read_as_it_was_written_last_however_many_there_are() {
        let mut store = store(&memory::MemoryBackend::new());
        let lane = Lane::Login(LoginId::derive("@a:h", "xmpp", "a@b"));
        let debt = |id: u64, tried| Debt {
            id: DebtId(id),
            lane: lane.clone(),
            effect: Effect::CreateSpace,
            after: None,
            made: Timestamp(0),
            tried,
        };
        for id in 0..3000 {
            store.put_debt(&debt(id, false)).unwrap();
        }
        store.put_debt(&debt(7, true)).unwrap();
        store.erase_debt(&lane, DebtId(8));
        store.commit().unwrap();
        for (id, known) in [(7, Some(debt(7, true))), (8, None), (2999, Some(debt(2999, false)))] {
            assert_eq!(store.debt(&lane, DebtId(id)).unwrap(), known);
        }
        // It is no other lane's.
        assert_eq!(store.debt(&Lane::Space(LoginId::derive("@a:h", "xmpp", "a@b")), DebtId(7)).unwrap(), None);
    }
}
