//! The state of the bridge, on disk: one file per table, all in one ordered key space.
//!
//! A key is the table's prefix, then the login, then what tells rows of one login apart, so that a login is a range in
//! each table. Text parts end with a zero byte, which no JID, MXID or room id holds. A value is its version and the
//! row in postcard. The engine's writes gather in an [`Overlay`] and reach the disk as one atomic, durable batch.

pub mod archive_file;
pub mod backend;
pub mod binding;
#[cfg(test)]
mod conformance;
pub mod contact;
pub mod debt;
pub mod held;
mod integrity;
pub mod key;
pub mod login;
pub mod look;
pub mod management;
pub mod memory;
pub mod meta;
pub mod overlay;
pub mod portal;
pub mod presence;
pub mod reaction;
mod record;
pub mod seal;
pub mod session;
pub mod sled;
#[cfg(test)]
mod sled_damage;
pub mod space;
pub mod successor;
pub mod transaction;
pub mod verify;

use serde::{Serialize, de::DeserializeOwned};

pub use self::backend::{Backend, Batch, StoreError};
use self::{overlay::Overlay, seal::Seal};

/// The version of the tables; a store of a newer one is refused.
pub const SCHEMA: u32 = 1;
/// The version that every value begins with.
const VALUE_VERSION: u8 = 1;

/// The store as the engine uses it: tables over an overlay over a backend.
pub struct Store {
    overlay: Overlay<Box<dyn Backend>>,
    seal: Seal,
}

impl Store {
    /// Opens the tables over a backend. `seal` keeps credentials; `entropy` becomes the store's instance id if it is new.
    pub fn open(backend: Box<dyn Backend>, seal: Seal, entropy: u64) -> Result<Self, StoreError> {
        let mut overlay = Overlay::new(backend);
        if backend::known_schema_version(overlay.backend(), SCHEMA)?.is_none() {
            let mut first = Batch::new();
            backend::put_schema_version(&mut first, SCHEMA);
            for (key, fate) in &first {
                if let Some(value) = fate {
                    overlay.put(key.clone(), value.clone());
                }
            }
        }
        seal.check(&mut overlay)?;
        let mut store = Self { overlay, seal };
        store.begin(entropy)?;
        Ok(store)
    }

    /// Makes all that was written durable, as one batch. After an error the writes are still pending.
    pub fn commit(&mut self) -> Result<(), StoreError> {
        self.overlay.commit()
    }

    /// Is anything waiting for [`Store::commit`]?
    pub fn is_dirty(&self) -> bool {
        self.overlay.is_dirty()
    }

    fn row<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        match self.overlay.get(key)? {
            Some(value) => decode(key, &value).map(Some),
            None => Ok(None),
        }
    }

    fn write<T: Serialize>(&mut self, key: Vec<u8>, row: &T) -> Result<(), StoreError> {
        let value = encode(&key, row)?;
        self.overlay.put(key, value);
        Ok(())
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
                let row = decode(&key, &value)?;
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
            .map(|(key, value)| decode(&key, &value).map(|row| (key, row)))
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
    postcard::to_extend(row, vec![VALUE_VERSION]).map_err(|error| unreadable(key, &error.to_string()))
}

fn decode<T: DeserializeOwned>(key: &[u8], value: &[u8]) -> Result<T, StoreError> {
    match value.split_first() {
        Some((&VALUE_VERSION, row)) => postcard::from_bytes(row).map_err(|error| unreadable(key, &error.to_string())),
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
                decode: &|key, value| decode::<$row>(key, value).map(drop).map_err(|error| error.to_string()),
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
        table!(Portal, "portal", portal::Portal),
        table!(Presence, "presence", presence::Resources),
        verify::Table { name: "reaction", prefix: &[key::Table::Reaction as u8], decode: &reaction::readable },
        table!(Room, "room", portal::Room),
        table!(Session, "session", session::Session),
        verify::Table { name: "transaction", prefix: &[key::Table::Transaction as u8], decode: &transaction::readable },
        table!(Unconfirmed, "unconfirmed", session::Unconfirmed),
        table!(Caps, "caps", bool),
        table!(Look, "look", look::Look),
        table!(Space, "space", space::Space),
        table!(Successor, "successor", successor::Successor),
        table!(Features, "features", crate::domain::feature::Features),
    ]
}
